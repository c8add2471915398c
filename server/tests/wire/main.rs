//! The built server over real sockets: what only the wire shows. Split and merged requests, pipelines and the order of their
//! replies, malformed bytes, large values, slow and dying clients, thousands of connections, atomicity under contention.
//!
//! Each test runs against both io engines, and with one and four shards where that makes a difference ([`setups`]).
//! Replies are checked against a model or an invariant, never against the server itself.
//!
//! RINGWOOD_WIRE_SEED repeats a failed run's random choices. A failed test prints the seed and the server's log.

mod accounts;
mod acl;
mod admin;
mod aside;
mod atomic;
mod blocking;
mod busy;
mod client_limit;
mod clients;
mod cluster;
mod conn;
mod debugger;
mod functions;
mod garbage;
mod harness;
#[path = "../history/mod.rs"]
mod history;
mod hll;
mod kills;
mod large;
mod lifecycle;
mod listening;
mod loading;
mod log;
mod log_begins;
mod logins;
mod memory;
mod migrate;
mod no_touch;
mod observe;
mod persistence;
mod pipeline;
#[path = "../ports/mod.rs"]
mod ports;
mod process;
mod progress;
mod pubsub;
mod reload;
mod resp;
mod scripts;
mod server;
mod snapshots;
mod sort;
mod split;
mod streams;
mod tracking;
mod transactions;
