//! A command that is known: whether its client may have it, the server's own commands, and how replies reach their clients.

use super::Flow;
use super::pause::Paused;
use crate::blocking::may_block;
use crate::client::{Client, Life, ReplyMode, Wait};
use crate::commands::{Answer, Call};
use crate::core::Core;
use crate::io::ConnId;
use crate::mailbox::{Reads, Ticket};
use crate::pubsub;
use crate::registry::{Entry, Run};
use ringwood_protocol::command::{
    BARRIER, BLOCKING, DENYOOM, LOADING, LUA, NO_AUTH, NOT_IN_CLUSTER, WRITE,
};
use ringwood_protocol::error::CommandError;
use ringwood_protocol::lossless;
use ringwood_protocol::reply::{Reply, Version};
use ringwood_shard::ctx::Args;
use ringwood_shard::keyspace::Key;
use std::borrow::Cow;

/// What clients are told meanwhile.
pub(crate) const IS_LOADING: CommandError =
    CommandError::fixed("LOADING Redis is loading the dataset in memory");

impl Core {
    pub(super) fn execute(
        &mut self,
        conn: ConnId,
        entry: Option<&'static Entry>,
        args: Args<'_>,
        key: Option<Key<'_>>,
    ) -> Flow {
        let Some(client) = self.clients.get_mut(conn) else {
            return Flow::Stop;
        };
        if client.life != Life::Open {
            return Flow::Stop;
        }
        let held = !matches!(client.wait, Wait::No) && !pubsub::may_follow(client, entry);
        if held || (client.alone && client.is_waiting()) {
            return Flow::Stall;
        }
        client.alone = false;
        let mode = client.reply_mode;
        if mode == ReplyMode::SkipNext {
            client.reply_mode = ReplyMode::Skip;
        }
        client.commands += 1;
        client.last_command = entry;
        let tracks = client.tracker.is_some();
        let queues = client.multi.is_some();
        let flow = 'run: {
            if let Some(error) = admit(client, entry, args) {
                if entry.is_none() && is_browsers(args[0]) {
                    break 'run self.abort_browser(conn);
                }
                // It takes no time that would count, and an unknown subcommand is nobody's.
                self.uncounted = true;
                let known = |e: &&Entry| args.len() == 1 || e.subcommands.is_empty();
                break 'run self.reject(conn, entry.filter(known), error);
            }
            let entry = entry.expect("admitted");
            if client.cluster && entry.has(NOT_IN_CLUSTER) {
                let error = format_args!("{} is not allowed in cluster mode", entry.spec.name);
                break 'run self.refuse(conn, Some(entry), CommandError::err(error));
            }
            if client.restricted
                && let Some(error) = self.forbidden(conn, entry, args)
            {
                self.uncounted = true;
                break 'run self.reject(conn, Some(entry), error);
            }
            if self.loading
                && let Some(flow) = self.refuse_while_loading(conn, entry)
            {
                break 'run flow;
            }
            if self.room.is_out()
                && let Some(flow) = self.refuse_for_memory(conn, entry)
            {
                break 'run flow;
            }
            if self.refuses_writes
                && let Some(flow) = self.refuse_write(conn, entry)
            {
                break 'run flow;
            }
            // What MULTI queues does nothing yet, and EXEC sees to it itself.
            if !self.gathering.is_empty() && !queues && !crate::gather::may_follow(entry) {
                self.send_gathered();
            }
            if self.shared.scripts.busy.any()
                && let Some(error) = self.busy_error(entry, args)
            {
                if entry.spec.name == "EXEC" && entry.parent.is_none() {
                    break 'run self.abort_busy(conn, error);
                }
                let client = self.clients.get(conn);
                if client.is_some_and(|c| c.is_waiting()) {
                    // It may be the script that it waits for.
                    break 'run Flow::Stall;
                }
                break 'run self.refuse(conn, Some(entry), error);
            }
            if self.paused != Paused::No && self.is_paused(entry, args) {
                self.hold_for_pause(conn);
                break 'run Flow::Stall;
            }
            let client = self.clients.get_mut(conn).expect("looked up above");
            if self.crowd > 1 && is_script(client, entry) && !self.within.is_now() {
                // Alone, behind the others of this turn: it may take long.
                client.script_next = true;
                break 'run Flow::Stall;
            }
            if client.multi.is_some()
                && let Some(flow) = self.in_multi(conn, entry, args, key)
            {
                break 'run flow;
            }
            let client = self.clients.get_mut(conn).expect("looked up above");
            crate::crash::note_command(entry, client.id);
            let flow = match entry.spec.run {
                Run::Server(_) if entry.has(LUA) => self.eval(conn, entry, args),
                Run::Server(handler) => {
                    if client.is_waiting()
                        && (entry.has(BARRIER) || self.strict || pubsub::must_wait(client, entry))
                    {
                        break 'run Flow::Stall;
                    }
                    self.call(conn, entry, args, handler)
                }
                Run::Shard(_) if entry.has(BLOCKING) && may_block(entry, args) => {
                    self.route_blocking(conn, entry, args)
                }
                Run::Shard(_) if entry.widens() => {
                    // Which keys it will want nobody knows yet, so it keeps the order with everything of its connection.
                    if client.is_waiting() {
                        break 'run Flow::Stall;
                    }
                    client.alone = true;
                    self.shard.guests_only = !self.locks.is_empty();
                    let flow = self.route(conn, entry, args, key);
                    self.shard.guests_only = false;
                    flow
                }
                Run::Shard(_) => self.route(conn, entry, args, key),
            };
            if self.monitors.any() && flow != Flow::Stall && !entry.has(LUA) {
                self.monitor_command(conn, entry, args);
            }
            flow
        };
        if flow == Flow::Stall || mode != ReplyMode::On {
            self.after_quiet(conn, mode, flow);
        }
        if tracks && flow != Flow::Stall {
            self.end_caching(conn, entry);
        }
        flow
    }

    /// Refuses a command that needs memory, and EXEC if one of those queued does.
    #[cold]
    fn refuse_for_memory(&mut self, conn: ConnId, entry: &'static Entry) -> Option<Flow> {
        let multi = self.clients.get(conn)?.multi.as_ref();
        match (entry.spec.name, multi) {
            ("EXEC", Some(_)) if entry.parent.is_none() => {
                self.refuse_exec_with(conn, entry, DENYOOM, &CommandError::OutOfMemory)
            }
            _ => entry
                .has(DENYOOM)
                .then(|| self.refuse(conn, Some(entry), CommandError::OutOfMemory)),
        }
    }

    /// Refuses an EXEC of commands one of which has this flag.
    fn refuse_exec_with(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        flag: u64,
        error: &CommandError,
    ) -> Option<Flow> {
        let multi = self.clients.get(conn)?.multi.as_ref()?;
        let mut flags = multi.commands.iter().map(|c| c.entry.spec.flags);
        flags.find(|flags| flags & flag != 0)?;
        self.end_multi(conn);
        let text = error.text();
        let text = format!("EXECABORT Transaction discarded because of: {text}");
        Some(self.refuse(conn, Some(entry), CommandError::Text(text.into())))
    }

    /// Refuses a command that writes, since snapshots fail, or the log cannot be written, or replicas are missing. As in Redis,
    /// where it is for the disk, PING too, so that whoever checks the server's health hears of it.
    #[cold]
    fn refuse_write(&mut self, conn: ConnId, entry: &'static Entry) -> Option<Flow> {
        let error = self.write_error();
        match entry.spec.name {
            "EXEC" if entry.parent.is_none() => self.refuse_exec_with(conn, entry, WRITE, &error),
            name => {
                let health = name == "PING" && self.is_disk_bad();
                (entry.has(WRITE) || health).then(|| self.refuse(conn, Some(entry), error))
            }
        }
    }

    /// It brings the log's commands.
    fn is_loader(&self, conn: ConnId) -> bool {
        self.clients.get(conn).is_some_and(|client| client.loads)
    }

    /// A snapshot or the log is being read: nobody sees what is not all there yet.
    #[cold]
    fn refuse_while_loading(&mut self, conn: ConnId, entry: &'static Entry) -> Option<Flow> {
        let client = self.clients.get(conn)?;
        if client.loads || entry.has(LOADING) {
            return None;
        }
        Some(self.refuse(conn, Some(entry), IS_LOADING))
    }

    /// Ends CLIENT REPLY SKIP behind its one command. A command that could not start leaves no trace.
    #[cold]
    fn after_quiet(&mut self, conn: ConnId, mode: ReplyMode, flow: Flow) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if flow == Flow::Stall {
            client.commands -= 1;
            client.reply_mode = mode;
        } else if client.reply_mode == ReplyMode::Skip {
            client.reply_mode = ReplyMode::On;
        }
    }

    /// Runs one of the server's own commands.
    pub(crate) fn call(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        handler: crate::commands::ConnHandler,
    ) -> Flow {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        let was_waiting = client.is_waiting();
        let version = client.version;
        let mut out = std::mem::take(client.reply_buffer());
        let from = out.len();
        let reply = Reply::new(&mut out, version);
        let mut call = Call {
            core: self,
            conn,
            entry,
            reply,
        };
        call.core.hold_pushes(conn);
        let answer = handler(&mut call, args);
        if let Err(error) = &answer {
            out.truncate(from);
            // The version as it was: a failed HELLO 3 answers in the old one.
            Reply::new(&mut out, version).command_error(error);
            self.stats.error(entry, error);
            if self.shard.loading && self.is_loader(conn) {
                crate::aof::replay::failed(Some(entry), error);
            }
        }
        self.stats.called(entry);
        let len = out.len() - from;
        // The client may have ended itself (CLIENT KILL).
        let Some(client) = self.clients.get_mut(conn) else {
            self.release_pushes(conn);
            return Flow::Stop;
        };
        *(if was_waiting {
            client.held_buffer()
        } else {
            &mut client.out
        }) = out;
        if matches!(answer, Ok(Answer::Later)) {
        } else if pubsub::changes_subscriptions(entry) {
            client.written(from);
        } else {
            client.replied(from);
        }
        let flow = if client.life == Life::Open {
            Flow::Next
        } else {
            Flow::Stop
        };
        if len >= self.thresholds.lap_reply {
            let caller = Ticket::of(self.id, conn, client.id, Reads::PLAIN);
            self.note_reply(caller, entry, args, len);
        }
        self.release_pushes(conn);
        self.mark_dirty(conn);
        flow
    }

    /// Answers a command that does not run. If it was to be queued, its transaction will not run either.
    pub(crate) fn refuse(
        &mut self,
        conn: ConnId,
        entry: Option<&'static Entry>,
        error: CommandError,
    ) -> Flow {
        self.stats.rejected(entry, &error);
        if self.shard.loading && self.is_loader(conn) {
            crate::aof::replay::failed(entry, &error);
        }
        if let Some(multi) = self.clients.get_mut(conn).and_then(|c| c.multi.as_mut()) {
            multi.aborted = true;
        }
        self.reply_now(conn, |reply| reply.command_error(&error));
        Flow::Next
    }

    /// Ends a connection without a word: what it sends would else be run line by line, the request's body too.
    #[cold]
    fn abort_browser(&mut self, conn: ConnId) -> Flow {
        const QUIET_NS: u64 = 60_000_000_000;
        let now = self.now.mono_ns;
        if now >= self.next_browser_warning_ns
            && let Some(client) = self.clients.get(conn)
        {
            tracing::warn!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is \
                 likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. \
                 Connection from {} aborted.",
                client.peer
            );
            self.next_browser_warning_ns = now + QUIET_NS;
        }
        self.close(conn);
        Flow::Stop
    }

    /// Answers a command that is refused for what it is. If that is EXEC, its transaction ends with it.
    #[cold]
    fn reject(&mut self, conn: ConnId, entry: Option<&'static Entry>, error: CommandError) -> Flow {
        if !entry.is_some_and(|e| e.spec.name == "EXEC" && e.parent.is_none()) {
            return self.refuse(conn, entry, error);
        }
        if self.clients.get(conn).is_some_and(|c| c.multi.is_some()) {
            self.end_multi(conn);
        }
        let text = error.text();
        let text = text.strip_prefix("ERR ").unwrap_or(&text);
        let text = format!("EXECABORT Transaction discarded because of: {text}");
        self.refuse(conn, entry, CommandError::Text(text.into()))
    }

    /// Writes a reply in its place of the client's order.
    pub(crate) fn reply_now(&mut self, conn: ConnId, write: impl FnOnce(&mut Reply<'_>)) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let version = client.version;
        let buffer = client.reply_buffer();
        let from = buffer.len();
        write(&mut Reply::new(buffer, version));
        client.replied(from);
        self.mark_dirty(conn);
    }

    /// A reply has come for a ticket, of this core or of another.
    pub(crate) fn answer(&mut self, ticket: Ticket, reply: Vec<u8>) {
        if ticket == Ticket::SCRIPT {
            self.answer_script(reply);
        } else if ticket.core as usize == self.id {
            self.answer_with(ticket, &reply);
        } else {
            self.mailbox.send(
                ticket.core as usize,
                crate::mailbox::Mail::Late(ticket, reply),
            );
        }
    }

    pub(crate) fn answer_with(&mut self, ticket: Ticket, reply: &[u8]) {
        self.answer_by(ticket, |out| out.extend_from_slice(reply));
    }

    /// The same with a reply that is written to where it goes.
    #[inline]
    pub(crate) fn answer_by(&mut self, ticket: Ticket, write: impl FnOnce(&mut Vec<u8>)) {
        // A client that is gone gets no answer; its number may be another's by now.
        let Some(client) = self
            .clients
            .get_mut(ticket.conn)
            .filter(|c| c.id == ticket.client)
        else {
            return;
        };
        client.take_spare(&mut self.buffers);
        // It is on disk, and nothing that this core has done goes with it.
        let alone = self.log.answered.by_other
            && !client.dirty
            && client.out.is_empty()
            && client.waiting_count() == 1;
        client.answer(ticket.seq, write);
        let go_on = client.stalled && !client.is_waiting();
        match client.wait {
            Wait::No => {}
            Wait::Subscribing if client.is_waiting() => {}
            Wait::Subscribing => client.wait = Wait::No,
            _ => self.unblocked(ticket.conn),
        }
        match alone {
            true => self.log.answered.conns.push(ticket.conn),
            false => self.mark_dirty(ticket.conn),
        }
        if go_on {
            self.go_on(ticket.conn);
        }
    }
}

/// The checks before a command runs, in Redis's order.
#[inline]
fn admit(client: &Client, entry: Option<&'static Entry>, args: Args<'_>) -> Option<CommandError> {
    let Some(entry) = entry else {
        return Some(unknown_command(args));
    };
    if !entry.spec.arity_fits(args.len()) {
        return Some(CommandError::WrongArity(entry.name.clone()));
    }
    if !entry.subcommands.is_empty() && args.len() > 1 {
        return Some(unknown_subcommand(args));
    }
    if !client.authenticated && !entry.has(NO_AUTH) {
        return Some(CommandError::fixed("NOAUTH Authentication required."));
    }
    if client.subscriptions.is_some()
        && client.version == Version::Resp2
        && pubsub::is_forbidden(entry)
    {
        return Some(CommandError::err(format_args!(
            "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            entry.name
        )));
    }
    None
}

/// Whether a command is a script, or a transaction with one.
#[inline]
fn is_script(client: &Client, entry: &Entry) -> bool {
    match &client.multi {
        None => entry.has(LUA),
        Some(multi) => entry.spec.name == "EXEC" && multi.commands.iter().any(|c| c.entry.has(LUA)),
    }
}

/// A client's word as Redis shows it in errors: up to a zero byte, and no longer than `most`.
fn shown(word: &[u8], most: usize) -> Cow<'_, str> {
    let word = word.split(|&b| b == 0).next().unwrap_or_default();
    lossless::text(&word[..word.len().min(most)])
}

/// Whether a word begins a line of a web browser's request: a page can have it sent here ("cross protocol scripting"). Every request
/// has one of them, and before its body.
#[cold]
fn is_browsers(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"host:") || word.eq_ignore_ascii_case(b"post")
}

#[cold]
fn unknown_command(args: Args<'_>) -> CommandError {
    let mut words = String::new();
    for arg in &args[1..] {
        // All of them together, as Redis counts.
        let Some(room) = 128usize.checked_sub(words.len()).filter(|room| *room > 0) else {
            break;
        };
        words.push_str(&format!("'{}' ", shown(arg, room)));
    }
    let name = shown(args[0], 128);
    CommandError::err(format!(
        "unknown command '{name}', with args beginning with: {words}"
    ))
}

#[cold]
fn unknown_subcommand(args: Args<'_>) -> CommandError {
    CommandError::err(format!(
        "unknown subcommand '{}'. Try {} HELP.",
        shown(args[1], 128),
        lossless::text(args[0]).to_uppercase()
    ))
}
