//! One core's data: the keyspace, the value encodings and the commands on them. No I/O, no clock, no threads: all are passed in.

pub mod keyspace;
pub mod memory;
pub mod object;
