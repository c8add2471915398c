//! Real sockets against a server process of its own: what a client sees on the wire, and how the process ends.

mod admin;
mod server;
