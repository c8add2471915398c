//! What Redis clients and servers say to each other: bytes and their meaning, without I/O and without state.

pub mod command;
pub mod error;
pub mod reply;
pub mod resp;
pub mod slot;
