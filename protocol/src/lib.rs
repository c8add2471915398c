//! What Redis clients and servers say to each other: bytes and their meaning, without I/O and without state.

pub mod command;
mod dtoa;
pub mod error;
pub mod glob;
mod long_double;
pub mod lossless;
pub mod number;
pub mod quote;
pub mod reply;
pub mod resp;
pub mod slot;
