//! Redis's Lua environment, on LuaJIT, independent of the server.
//!
//! One [`Vm`] per core, which stays on its thread. The server gives it a [`Host`] for the time of a run: scripts' commands
//! come back through [`Host::call`] as slices of Lua's own strings, and their replies go back as RESP bytes. A [`Cache`]
//! knows the scripts' texts by their SHA1; a Vm compiles each once.
//!
//! ```
//! use ringwood_protocol::reply::{Reply, Version};
//! use ringwood_scripting::{Cache, Host, LogLevel, Origin, Replication, Versions, Vm};
//!
//! struct Server;
//! impl Host for Server {
//!     fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
//!         Reply::new(reply, version).bulk(args[1]);
//!     }
//!     fn log(&mut self, _: LogLevel, _: &[u8]) {}
//!     fn set_repl(&mut self, _: Replication) {}
//!     fn acl_check(&mut self, _: &[&[u8]]) -> Option<bool> {
//!         Some(true)
//!     }
//! }
//!
//! let versions = Versions { major: 8, minor: 2, patch: 3 };
//! let mut vm = Vm::new(&versions, 1).unwrap();
//! let mut cache = Cache::new();
//!
//! // EVAL. Errors of parse and compile are texts of replies.
//! let body = b"return {redis.call('ECHO', KEYS[1]), #ARGV}";
//! let script = cache.find_or_parse(body, Origin::Eval).unwrap();
//! vm.compile(&script).unwrap();
//! cache.insert(script.clone(), Origin::Eval);
//! let (mut out, keys, args): (Vec<u8>, [&[u8]; 1], [&[u8]; 0]) = (Vec::new(), [b"k"], []);
//! vm.run(&script, &keys, &args, Version::Resp2, &mut Server, &mut out).unwrap();
//! assert_eq!(out, b"*2\r\n$1\r\nk\r\n:0\r\n");
//! ```
//!
//! `FUNCTION` and `FCALL`: every core has [`Functions`] beside its Vm and carries out the same [`Functions::load`],
//! [`Functions::delete`], [`Functions::restore`] in the same order; [`Functions::get`] and [`Vm::call_function`] run one. A dump's
//! payload holds the libraries' texts ([`Functions::libraries`]).
//!
//! Scripts that run long: start one [`Watchdog`] for the process, and give its handle to every Vm ([`Vm::watch`]) on the Vm's
//! thread. [`Host::interrupt`] is then called in the script's midst; there the server compares the time with
//! `busy-reply-threshold`, answers BUSY to others and hears of `SCRIPT KILL`. It uses the signal SIGRTMIN+5.
//!
//! `SCRIPT DEBUG`: [`Vm::debug`] runs a script under the [`debugger`].
//!
//! Memory: [`Vm::used_memory`] is exact; a [`Budget`] that all Vms share makes a script fail that would exceed it. What is not
//! collected yet counts, so it should be some times what scripts may keep at once.
//!
//! What the host must do itself: refuse what scripts may not call (as replies with Redis's texts), permissions, the flags of
//! [`Script`] and [`FunctionInfo`], and the rule that a script which has written cannot be killed.
//!
//! # Why not the `mlua` crate
//!
//! LuaJIT's C interface is used directly (`ffi.rs`, wrapped once in `state.rs`). mlua would cost a protected call per
//! value, offers no memory accounting with LuaJIT, and does not build LuaJIT so that compiled loops can be interrupted. We
//! take the sources and their build from the same author's `luajit-src` (see `build.rs` for what is changed in them).
//!
//! # What differs from Redis
//!
//! - The language is LuaJIT's: Lua 5.1 with additions (`goto`, bit operators, `string.rep` with a separator, yields across
//!   `pcall`, `%s` of `string.format` takes any value). Some messages of the compiler differ. The order of `pairs`, and with
//!   it that of a JSON object's members, and the length of an array with holes, are as unspecified here as in Lua 5.1, and
//!   not the same.
//! - A tail call keeps the caller's frame unless the function is an upvalue; so only local functions that call themselves
//!   (or each other) can go on like that for ever.
//! - Nothing that a script changes outlasts it: not cjson's settings, not the seed of `math.random`.
//! - Errors whose text has line ends are sent on one line. (Redis sends them as they are, which breaks the protocol.)
//! - `cjson` nests 2,000 deep at most, whatever `encode_max_depth` says.

mod budget;
mod cache;
mod cjson;
mod cmsgpack;
mod convert;
pub mod debugger;
mod error;
mod ffi;
mod function;
mod native;
mod random;
mod redis;
mod register;
mod shared;
mod shebang;
mod state;
mod structure;
mod vm;
mod watchdog;

pub use budget::Budget;
pub use cache::{Cache, EVAL_SCRIPTS_MAX, Origin, Script, Sha};
pub use error::{ScriptError, until_nul};
pub use function::{Function, FunctionInfo, Functions, Library, RestorePolicy};
pub use shebang::{FLAG_NAMES, Flags};
pub use vm::Vm;
pub use watchdog::{Watchdog, WatchdogHandle};

use ringwood_protocol::reply::Version;
use std::time::Duration;

/// The server, as a script sees it.
pub trait Host {
    /// Runs a command and appends its reply (one RESP value in `version`) to `reply`. Errors are replies too.
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>);

    /// `redis.log`.
    fn log(&mut self, level: LogLevel, message: &[u8]);

    /// `redis.set_repl`: where writes go from now on, until the script ends.
    fn set_repl(&mut self, replication: Replication);

    /// `redis.acl_check_cmd`: whether the script's user may run that command; none if there is no such command.
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool>;

    /// A script has run for `elapsed` (at least), see [`Watchdog`]: called between two of its instructions, now and then.
    /// The host may serve others meanwhile, and may end the script.
    fn interrupt(&mut self, _elapsed: Duration) -> Interrupt {
        Interrupt::Continue
    }

    /// Whether the script shall end now, after a call that answered with an error. Nothing of it is wanted any more, and it
    /// cannot catch that.
    fn abandons(&self) -> bool {
        false
    }

    /// Whether the last call was refused before it ran. Asked by the debugger only.
    fn refused(&self) -> bool {
        false
    }
}

/// What becomes of an interrupted script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Continue,
    /// It fails with "Script killed by user with SCRIPT KILL..." and cannot catch that.
    Kill,
}

/// The levels of `redis.log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// Where a script's writes go besides memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    pub log: bool,
    pub replicas: bool,
}

/// The Redis version that scripts are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub major: u8,
    pub minor: u8,
    pub patch: u8,
}

impl Versions {
    fn number(&self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor) << 8 | u32::from(self.patch)
    }

    fn text(&self) -> String {
        format!("{}.{}.{}", self.major, self.minor, self.patch)
    }
}
