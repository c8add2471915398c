//! The process as the system sees it: its title, how dear it is when memory ends, and the supervisor that started it.

pub mod oom;
pub mod priority;
pub mod supervisor;
pub mod title;
