//! A session's thread: the script, its Lua machine, and the connection to its user.

use super::private::PrivateHost;
use super::protocol::{Parsed, parse};
use super::{Called, Input, Message, Post};
use crate::acl::User;
use crate::io::ConnId;
use crate::mailbox::Words;
use crate::registry::Registry;
use crate::scripts::{VERSIONS, functions, host, one_line, parameters};
use crossbeam_channel::TryRecvError;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_scripting::debugger::{Command, Console, Rules, end_without_script};
use ringwood_scripting::{Host, LogLevel, Replication, Script, ScriptError, Vm};
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::shard::Settings;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// What a session starts with.
pub(super) struct Setup {
    /// The client's core.
    pub home: usize,
    pub conn: ConnId,
    pub client: u64,
    pub words: Words,
    pub read_only: bool,
    pub sync: bool,
    pub db: usize,
    pub version: Version,
    pub user: Option<Arc<User>>,
    pub no_memory: bool,
    pub patience_ms: u64,
    pub settings: Arc<Settings>,
    pub hasher: KeyHasher,
    pub databases: usize,
    pub seed: u64,
    pub registry: &'static Registry,
    pub post: Post,
    pub input: Input,
}

/// The thread's whole life.
pub(super) fn run(setup: &Setup) {
    ringwood_shard::memory::begin_aside();
    let mut reply = Vec::new();
    let ran = catch_unwind(AssertUnwindSafe(|| debug(setup, &mut reply)));
    let failed = match ran {
        Ok(Ok(())) => None,
        Ok(Err(error)) => (!error.counted).then_some(error.code),
        // The panic was reported when it happened.
        Err(_) => {
            reply.clear();
            Reply::new(&mut reply, setup.version).error("ERR internal error");
            Some("ERR".to_string())
        }
    };
    // All that this thread has counted.
    let memory = Some(ringwood_shard::memory::end_aside(0));
    let end = Message::End {
        client: setup.client,
        reply,
        failed,
        memory,
    };
    setup.post.send(setup.home, end);
}

fn debug(setup: &Setup, reply: &mut Vec<u8>) -> Result<(), ScriptError> {
    let mut console = Box::new(Remote {
        post: setup.post.clone(),
        home: setup.home,
        conn: setup.conn,
        client: setup.client,
        input: setup.input.clone(),
        bytes: Vec::new(),
    });
    let words = setup.words.slices();
    let prepared = prepare(setup, &words);
    let (script, parameters, read_only) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            end_without_script(&mut *console);
            Reply::new(reply, setup.version).command_error(&error);
            let text = error.text();
            let code = text.split(' ').next().unwrap_or_default().to_string();
            let counted = false;
            return Err(ScriptError { code, counted });
        }
    };
    let failed = |text: String| {
        tracing::warn!("A script cannot be debugged: {text}");
        ScriptError {
            code: "ERR".to_string(),
            counted: false,
        }
    };
    let mut vm = Vm::new(&VERSIONS, setup.seed).map_err(failed)?;
    vm.share_budget(&setup.post.shared.scripts.memory);
    let rules = Rules {
        patience: Duration::from_millis(setup.patience_ms),
        ends_with_user: !setup.sync,
    };
    let (mut remote, mut private);
    let host: &mut dyn Host = if setup.sync {
        remote = SyncHost {
            setup,
            read_only,
            refused: false,
        };
        &mut remote
    } else {
        private = PrivateHost::new(setup, read_only);
        &mut private
    };
    let (keys, args) = (parameters.keys, parameters.args);
    vm.debug(
        &script,
        keys,
        args,
        setup.version,
        host,
        console,
        rules,
        reply,
    )
}

/// What comes before a script runs. Read-only: its flags say so, or the command.
fn prepare<'a>(
    setup: &Setup,
    words: &'a [&'a [u8]],
) -> Result<(Script, crate::scripts::Parameters<'a>, bool), CommandError> {
    let parameters = parameters(words)?;
    let script =
        Script::parse(words[1]).map_err(|text| CommandError::Text(one_line(&text).into()))?;
    functions::check_flags(script.flags, setup.read_only)?;
    let flags = script.flags;
    if setup.no_memory && flags.is_some_and(|f| !f.no_writes && !f.allow_oom) {
        return Err(CommandError::OutOfMemory);
    }
    let read_only = setup.read_only || flags.is_some_and(|f| f.no_writes);
    Ok((script, parameters, read_only))
}

/// The client, by way of its core.
struct Remote {
    post: Post,
    home: usize,
    conn: ConnId,
    client: u64,
    input: Input,
    /// What has arrived and is no command yet.
    bytes: Vec<u8>,
}

impl Console for Remote {
    fn send(&mut self, bytes: Vec<u8>) {
        let (conn, client) = (self.conn, self.client);
        let output = Message::Output {
            conn,
            client,
            bytes,
        };
        self.post.send(self.home, output);
    }
    fn command(&mut self) -> Command {
        loop {
            match parse(&self.bytes) {
                Parsed::Words(words, used) => {
                    self.bytes.drain(..used);
                    return Command::Words(words);
                }
                Parsed::Malformed => return Command::Malformed,
                Parsed::More => {}
            }
            match self.input.recv() {
                Ok(bytes) => self.bytes.extend_from_slice(&bytes),
                Err(_) => return Command::Gone,
            }
        }
    }
    fn is_gone(&mut self) -> bool {
        loop {
            match self.input.try_recv() {
                Ok(bytes) => self.bytes.extend_from_slice(&bytes),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }
}

/// Asks a core, and waits for the answer. None: the server ends.
pub(super) fn ask<T>(
    post: &Post,
    core: usize,
    question: impl FnOnce(crossbeam_channel::Sender<T>) -> Message,
) -> Option<T> {
    let (to, answer) = crossbeam_channel::bounded(1);
    post.send(core, question(to));
    answer.recv().ok()
}

pub(super) fn acl_check(setup: &Setup, args: &[&[u8]]) -> Option<bool> {
    let entry = setup.registry.resolve(args)?;
    let user = setup.user.as_deref();
    Some(user.is_none_or(|user| user.check(entry, args).is_ok()))
}

/// SYNC: commands run at the client's core.
struct SyncHost<'a> {
    setup: &'a Setup,
    read_only: bool,
    refused: bool,
}

impl Host for SyncHost<'_> {
    fn call(&mut self, args: &[&[u8]], version: Version, reply: &mut Vec<u8>) {
        let (client, read_only) = (self.setup.client, self.read_only);
        let words = Words::new(args.iter().copied());
        let called = ask(&self.setup.post, self.setup.home, |to| Message::Call {
            client,
            words,
            version,
            read_only,
            to,
        });
        match called {
            Some(Called {
                reply: answer,
                refused,
            }) => {
                self.refused = refused;
                reply.extend_from_slice(&answer);
            }
            None => Reply::new(reply, version).error(host::ENDING),
        }
    }
    fn log(&mut self, level: LogLevel, message: &[u8]) {
        host::log(level, message);
    }
    fn set_repl(&mut self, _: Replication) {}
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        acl_check(self.setup, args)
    }
    fn refused(&self) -> bool {
        self.refused
    }
}
