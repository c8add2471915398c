//! The configuration: redis.conf's language, Redis's command line, and CONFIG GET, SET and REWRITE.
//!
//! Idea: a directive is one row of the table in `directives.rs`; everything else is derived from the rows.
//!
//! ```text
//! command line ── cli::parse ──> Start ── file::load ──> Loaded { config, users, renames, ... }
//!                                                          │
//!                   cores read Arc<Config> snapshots <─────┤
//!                   CONFIG GET     Config::get             │
//!                   CONFIG SET     change::Change ─────────┤ a new snapshot, all or nothing
//!                   CONFIG REWRITE rewrite::rewrite <──────┘
//! ```
//!
//! A server starts with
//! ```no_run
//! use ringwood::config::{cli, file, log};
//! let start = match cli::parse_env() {
//!     cli::Invocation::Serve(start) => start,
//!     cli::Invocation::Print(text) => return println!("{text}"),
//!     cli::Invocation::Refuse(text) => { eprintln!("{text}"); std::process::exit(1) }
//! };
//! let loaded = file::load(&start, &mut std::io::stdin()).unwrap_or_else(|error| {
//!     eprintln!("{error}");
//!     std::process::exit(1)
//! });
//! if let Err(reason) = log::install(&loaded.config) {
//!     eprintln!("{reason}");
//!     std::process::exit(1)
//! }
//! ```
//!
//! Invariants: a `Config` is always valid, as every way in goes through the rows' checks; a failed change leaves no
//! trace; reading never panics, whatever the bytes.

pub mod change;
pub mod checks;
pub mod cli;
pub mod compound;
pub mod directives;
pub mod enums;
pub mod events;
pub mod file;
pub mod log;
pub mod rewrite;
pub mod table;
pub mod value;

pub use change::{Change, ConfigError, Situation};
pub use directives::{Config, DIRECTIVES};
pub use file::{Loaded, StartError};
pub use rewrite::{Extent, RewriteError, rewrite};
pub use table::{Directive, lookup};

use std::sync::{Arc, LazyLock};

/// What cores hold: a snapshot that never changes.
pub type SharedConfig = Arc<Config>;

impl Default for Config {
    /// The built-in values, and the folder that the process is in now.
    fn default() -> Config {
        static BUILT_IN: LazyLock<Config> = LazyLock::new(Config::built_in);
        Config {
            dir: compound::Directory::default(),
            ..BUILT_IN.clone()
        }
    }
}

impl Config {
    /// Brings values that Redis corrects rather than refuses into their bounds.
    fn correct(&mut self) {
        self.hz = self.hz.clamp(1, 500);
        self.repl_backlog_size = self.repl_backlog_size.max(16 << 10);
    }
}

/// What the system says about an error, without Rust's "(os error N)".
pub(crate) fn system_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}
