//! What Redis clients and servers say to each other: bytes and their meaning, without I/O and without state.
