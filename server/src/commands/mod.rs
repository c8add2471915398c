//! The server's own commands: connections, administration, what concerns all cores. They run on the core that has the
//! connection.

mod acl;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
pub mod debug;
mod function;
pub mod hello;
pub(crate) mod info;
mod latency;
mod lolwut;
mod memory;
mod monitor;
mod pubsub;
mod replication;
pub mod save;
mod scripting;
mod shutdown;
mod slowlog;
mod time;
mod transactions;

pub(crate) use client::line as client_line;

use crate::client::Client;
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::Ticket;
use crate::registry::Entry;
use ringwood_protocol::command::Command;
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::reply::Reply;
use ringwood_shard::ctx::Args;
use std::sync::{Arc, Mutex, MutexGuard};

/// Every command of the server itself.
pub const FAMILIES: &[&[Command<ConnHandler>]] = &[
    acl::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    hello::COMMANDS,
    debug::COMMANDS,
    function::COMMANDS,
    info::COMMANDS,
    latency::COMMANDS,
    lolwut::COMMANDS,
    monitor::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    scripting::COMMANDS,
    save::COMMANDS,
    shutdown::COMMANDS,
    slowlog::COMMANDS,
    time::COMMANDS,
    transactions::COMMANDS,
];

/// Subcommands of the server's that belong to containers of the shard's.
pub const SUBCOMMANDS: &[(&str, &[Command<ConnHandler>])] = &[("MEMORY", memory::SUBCOMMANDS)];

/// What a command sees while it runs.
pub struct Call<'a> {
    pub core: &'a mut Core,
    pub conn: ConnId,
    pub entry: &'static Entry,
    /// In the client's order already: just write.
    pub reply: Reply<'a>,
}

/// Whether the reply is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Now,
    /// It comes to the ticket that [`Call::later`] gave.
    Later,
}

pub type ConnHandler = fn(&mut Call<'_>, Args<'_>) -> Result<Answer, CommandError>;

impl Call<'_> {
    /// A script calls: there is no client.
    pub fn is_script(&self) -> bool {
        self.conn == Ticket::SCRIPT.conn
    }
    /// The address at which the client reached us.
    pub fn local(&self) -> &str {
        self.core.clients.get(self.conn).map_or("", |c| &c.local)
    }
    pub fn client(&self) -> &Client {
        self.core
            .clients
            .get(self.conn)
            .expect("a command's client lives while it runs")
    }
    pub fn client_mut(&mut self) -> &mut Client {
        self.core
            .clients
            .get_mut(self.conn)
            .expect("a command's client lives while it runs")
    }
    /// The reply comes later: nothing may be written to `reply`, and the handler returns [`Answer::Later`].
    pub fn later(&mut self) -> Ticket {
        self.core.ticket(self.conn)
    }
}

impl Call<'_> {
    /// Has every core answer `ask`, then writes the reply with the answers, in the cores' order.
    pub fn gather<T: Send + 'static>(
        &mut self,
        ask: impl Fn(&mut Core) -> T + Send + Sync + 'static,
        conclude: impl FnOnce(&mut Core, &mut Reply<'_>, Vec<T>) + 'static,
    ) -> Answer {
        if self.is_script() && !self.core.may_ask_for_script() {
            return Answer::Later;
        }
        if self.core.shared.scripts.busy.any() && !self.is_script() {
            // A core that a slow script holds does not answer.
            let error = self.core.shared.scripts.busy.error(None);
            self.reply.command_error(&error);
            return Answer::Now;
        }
        let version = self.reply.version();
        let ticket = match self.is_script() {
            true => Ticket::SCRIPT,
            false => self.later(),
        };
        // A question is answered in bytes; within one process a typed value beside them needs no encoding.
        let answers: Arc<Mutex<Vec<(usize, T)>>> = Arc::new(Mutex::new(Vec::new()));
        let taken = answers.clone();
        let ask = move |core: &mut Core| {
            let answer = ask(core);
            lock(&answers).push((core.id, answer));
            Vec::new()
        };
        let conclude = move |core: &mut Core, ticket: Ticket, _: Vec<Vec<u8>>| {
            let mut answers = std::mem::take(&mut *lock(&taken));
            answers.sort_by_key(|(core, _)| *core);
            let mut out = Vec::new();
            conclude(
                core,
                &mut Reply::new(&mut out, version),
                answers.into_iter().map(|(_, answer)| answer).collect(),
            );
            core.answer(ticket, out);
        };
        self.core.ask_all(ticket, Arc::new(ask), Box::new(conclude));
        Answer::Later
    }
}

/// A poisoned lock means that a core panicked, which ends the process anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The reply of a HELP subcommand: `lines` between Redis's head and foot.
/// `args`: the request, which knows the name that clients call the container by.
pub fn help_reply(reply: &mut Reply<'_>, args: Args<'_>, lines: &[&str]) {
    let name = lossless::text(args[0]).to_uppercase();
    reply.array(lines.len() + 3);
    reply.simple(&format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for line in lines {
        reply.simple(line);
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}

/// Redis's answer where the number of words fits a subcommand's arity but none of its forms.
pub fn wrong_words(args: Args<'_>) -> CommandError {
    CommandError::err(format_args!(
        "unknown subcommand or wrong number of arguments for '{:.128}'. Try {} HELP.",
        lossless::text(args[1]),
        lossless::text(args[0]).to_uppercase()
    ))
}

/// A container whose bare name is no command: admission refuses it before this runs.
pub fn container(call: &mut Call<'_>, _: Args<'_>) -> Result<Answer, CommandError> {
    Err(CommandError::WrongArity(call.entry.name.clone()))
}

/// The keys of a command whose key specs are not of the simple forms.
pub fn each_key(entry: &Entry, args: &[&[u8]], found: &mut Vec<usize>) -> bool {
    entry
        .spec
        .keys
        .iter()
        .all(|spec| spec.each_key(args, |i| found.push(i)) || spec.is_empty(args))
}
