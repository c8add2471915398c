//! The atomics of the code that `tests/loom.rs` checks. That test compiles `sequencer.rs` and `sleeper.rs` themselves, with
//! `loom`'s atomics under this name.

pub use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
