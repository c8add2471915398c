//! A request, top to bottom: `serve` takes in what was received, `parse`, `resolve`, `admit`, `route`, `execute` on the owner, and the
//! reply in request order.
//!
//! What one turn received is handled in groups of [`GROUP`] commands, across connections: all are parsed and hashed, then
//! their table buckets and entries are asked for ahead, then they run. Cache misses are most of what a small command costs;
//! in a group they overlap.

use std::borrow::Cow;

use crate::blocking::may_block;
use crate::client::{Client, Life, ReplyMode, Wait};
use crate::cluster::CROSS_SLOT;
use crate::commands::{Answer, Call};
use crate::config::enums::PipelineOrder;
use crate::core::Core;
use crate::io::{ConnId, Io, RecvBuf};
use crate::mailbox::{Item, Parcel, Reads, Ticket, Words};
use crate::pubsub;
use crate::registry::{Entry, Keys, Run};
use crate::scripts::debug::take_input;
use crate::stats::{Histogram, Stats};
use crate::transaction::Waiting;
use ringwood_protocol::command::{
    BARRIER, BLOCKING, DENYOOM, LOADING, LUA, MAY_REPLICATE, Merge, NO_AUTH, Route, WRITE,
};
use ringwood_protocol::error::{CommandError, ProtocolError};
use ringwood_protocol::reply::{Reply, Version};
use ringwood_protocol::resp::{Limits, Parsed, parse};
use ringwood_shard::commands::keys::LOCAL_CURSOR;
use ringwood_shard::ctx::{Args, Ctx, Log, Wants};
use ringwood_shard::keyspace::Key;
use ringwood_shard::locks::Slots;
use ringwood_shard::shard::Shard;

/// Commands looked up together.
const GROUP: usize = 16;
/// Outstanding replies of one connection, beyond which it is not read further for now.
const OUTSTANDING_MAX: usize = 16 << 10;
/// A cut-off command of this many bytes is parsed on from where it stopped, not from its beginning.
const RESUME_MIN: usize = 16 << 10;
/// What is missing of a request is received straight into the query buffer from this size on.
const DIRECT_MIN: usize = 64 << 10;

/// A stalled client is not read while this many bytes wait: each time that it goes on and stalls again they are moved.
pub(crate) const UNREAD_MIN: usize = 128 << 10;

/// Received bytes of one connection, in the backend's buffer or in the connection's own.
pub(crate) struct Chunk {
    pub conn: ConnId,
    pub data: Data,
}

pub(crate) enum Data {
    Received(RecvBuf),
    Query(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Received(buf) => buf,
            Data::Query(bytes) => bytes,
        }
    }
}

/// How far a chunk has been handled.
#[derive(Clone, Copy, Default)]
struct Taken {
    bytes: usize,
    /// No more of it now: the client waits, or ends.
    stopped: bool,
    /// Bytes that the cut-off command at the end needs in all.
    need: usize,
}

/// One parsed command.
struct Request<'a> {
    chunk: usize,
    conn: ConnId,
    /// Where it begins in its chunk.
    start: usize,
    /// Its bytes.
    len: usize,
    args: (usize, usize),
    entry: Option<&'static Entry>,
    key: Option<Key<'a>>,
    /// The client's database when it was parsed: what is asked for ahead.
    db: usize,
}

/// Commands that run together.
#[derive(Default)]
struct Batch<'a> {
    args: Vec<&'a [u8]>,
    requests: Vec<Request<'a>>,
}

/// The allocations of a batch between turns.
#[derive(Default)]
pub(crate) struct BatchStore {
    args: Vec<&'static [u8]>,
    requests: Vec<Request<'static>>,
}

/// Room for more words than this is not kept: one command of a million words would have it taken for ever.
const BATCH_KEPT: usize = 16 << 10;

/// An empty vector of another lifetime with the same allocation.
fn recycle<A, B>(mut v: Vec<A>) -> Vec<B> {
    v.clear();
    v.shrink_to(BATCH_KEPT);
    v.into_iter()
        .map(|_| unreachable!("the vector is empty"))
        .collect()
}

impl<'a> Batch<'a> {
    fn from_store(store: BatchStore) -> Self {
        Self {
            args: recycle(store.args),
            requests: recycle(store.requests),
        }
    }
    fn into_store(self) -> BatchStore {
        BatchStore {
            args: recycle(self.args),
            requests: recycle(self.requests),
        }
    }
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    /// It could not start yet; it and what follows wait.
    Stall,
    /// The connection is at its end; what follows is ignored.
    Stop,
}

impl Core {
    /// Handles received bytes, in order.
    pub(crate) fn serve(&mut self, chunks: &mut Vec<Chunk>) {
        if chunks.is_empty() {
            return;
        }
        let mut taken = std::mem::take(&mut self.taken);
        let crowd = std::mem::replace(&mut self.crowd, chunks.len());
        taken.clear();
        taken.resize(chunks.len(), ServeState::default());
        let mut batch = Batch::from_store(std::mem::take(&mut self.batch));
        for index in 0..chunks.len() {
            self.parse_chunk(chunks, index, &mut batch, &mut taken);
        }
        self.run_batch(&mut batch, &mut taken);
        self.batch = batch.into_store();
        for (chunk, taken) in chunks.drain(..).zip(&taken) {
            self.keep_rest(chunk, taken.0);
        }
        self.crowd = crowd;
        self.taken = taken;
    }

    fn parse_chunk<'a>(
        &mut self,
        chunks: &'a [Chunk],
        index: usize,
        batch: &mut Batch<'a>,
        taken: &mut [ServeState],
    ) {
        let conn = chunks[index].conn;
        let bytes = chunks[index].bytes();
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        client.last_active = self.now.mono_ns;
        client.serving = true;
        client.take_spare(&mut self.buffers);
        let mut authenticated = client.authenticated;
        let db = client.db;
        let mut progress = client.progress.take();
        let names = match client.loads {
            true => self.registry.logged(),
            false => &self.registry.names,
        };
        let bulk_len_max = self.shard.settings.string_len_max as i64;
        let mut at = 0;
        while at < bytes.len() && !taken[index].0.stopped {
            let limits = Limits {
                bulk_len_max,
                authenticated,
            };
            let error;
            let first = batch.args.len();
            let parsed = match &mut progress {
                Some(progress) => {
                    let parsed = progress.resume(&bytes[at..], &limits);
                    if let Parsed::Command { .. } = parsed {
                        batch.args.extend(progress.words(&bytes[at..]));
                    }
                    parsed
                }
                None => parse(&bytes[at..], &limits, &mut batch.args),
            };
            match parsed {
                Parsed::Command { consumed } => {
                    progress = None;
                    let args = &batch.args[first..];
                    if !args.is_empty() {
                        let entry = names.resolve(args);
                        let key = self.first_key(entry, args);
                        if let Some(key) = key {
                            self.shard.keyspace.prefetch_table(db, key.slot);
                        }
                        let args = (first, batch.args.len());
                        batch.requests.push(Request {
                            chunk: index,
                            conn,
                            start: at,
                            len: consumed,
                            args,
                            entry,
                            key,
                            db,
                        });
                    }
                    at += consumed;
                    taken[index].0.bytes = at;
                    // What a stranger may send changes with AUTH, so its commands run one by one.
                    if batch.requests.len() >= GROUP || !authenticated {
                        self.run_batch(batch, taken);
                        authenticated = self.clients.get_mut(conn).is_none_or(|c| c.authenticated);
                    }
                    continue;
                }
                Parsed::Inline { line, consumed } => {
                    self.run_batch(batch, taken);
                    if taken[index].0.stopped {
                        break;
                    }
                    match ringwood_protocol::quote::split_words(&bytes[at..at + line]) {
                        Some(words) => {
                            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                            match if words.is_empty() {
                                Flow::Next
                            } else {
                                self.inline(conn, &words)
                            } {
                                Flow::Next => {
                                    at += consumed;
                                    taken[index].0.bytes = at;
                                    authenticated =
                                        self.clients.get_mut(conn).is_none_or(|c| c.authenticated);
                                }
                                Flow::Stall => taken[index].0.stopped = true,
                                Flow::Stop => {
                                    taken[index].0 = Taken {
                                        bytes: bytes.len(),
                                        stopped: true,
                                        need: 0,
                                    }
                                }
                            }
                            continue;
                        }
                        None => error = ProtocolError::UnbalancedQuotes,
                    }
                }
                Parsed::Incomplete { need } => {
                    taken[index].0.need = need;
                    break;
                }
                Parsed::Error(e) => error = e,
            }
            self.run_batch(batch, taken);
            if !taken[index].0.stopped {
                taken[index].0 = Taken {
                    bytes: bytes.len(),
                    stopped: true,
                    need: 0,
                };
                self.protocol_error(conn, &error);
            }
        }
        if let Some(client) = self.clients.get_mut(conn)
            && !self.within.is_gone(conn)
        {
            client.progress = progress;
        }
    }

    /// The first key with its hash, for the commands that have one.
    #[inline]
    fn first_key<'a>(&self, entry: Option<&'static Entry>, args: &[&'a [u8]]) -> Option<Key<'a>> {
        let at = match entry?.keys {
            Keys::One(at) => at,
            Keys::Rest { first, .. } => first,
            _ => return None,
        };
        args.get(at).map(|key| self.shard.key(key))
    }

    /// What was not handled goes to the connection's query buffer.
    fn keep_rest(&mut self, chunk: Chunk, taken: Taken) {
        let conn = chunk.conn;
        let gone = self.within.is_gone(conn);
        let client = self.clients.get_mut(conn).filter(|_| !gone);
        if let Some(client) = client.filter(|c| c.life == Life::Open) {
            client.serving = false;
            if client.debug.input.is_some() {
                let bytes = match &chunk.data {
                    Data::Query(bytes) => bytes.as_slice(),
                    Data::Received(buf) => buf,
                };
                take_input(&client.debug, bytes.get(taken.bytes..).unwrap_or_default());
                take_input(&client.debug, &std::mem::take(&mut client.query));
                (client.stalled, client.progress) = (false, None);
                return match chunk.data {
                    Data::Received(buf) => self.io.release(buf),
                    Data::Query(bytes) => self.spare_buffer(bytes),
                };
            }
            // What has arrived since: a script of this turn looked around.
            let since = match client.query.is_empty() {
                true => Vec::new(),
                false => std::mem::take(&mut client.query),
            };
            let rest = chunk.bytes().len().saturating_sub(taken.bytes);
            match &chunk.data {
                Data::Query(_) if rest == 0 => {}
                Data::Query(bytes) => {
                    client
                        .query
                        .reserve(taken.need.clamp(rest, rest + (1 << 20)));
                    client.query.extend_from_slice(&bytes[taken.bytes..]);
                }
                Data::Received(buf) if rest == 0 => {}
                Data::Received(buf) => client.query.extend_from_slice(&buf[taken.bytes..]),
            }
            let (mut taken, mut rest) = (taken, rest);
            if !since.is_empty() {
                client.query.extend_from_slice(&since);
                (rest, taken.stopped) = (client.query.len(), true);
            }
            if client.unread && (!taken.stopped || rest < UNREAD_MIN / 2) {
                client.unread = false;
                self.io.resume(conn);
            }
            if taken.stopped && rest > 0 {
                client.stalled = true;
                if client.is_waiting() || !matches!(client.wait, Wait::No) {
                    // The last of its answers has it go on.
                } else if client.paused && self.paused != Paused::No {
                    self.held.push(conn);
                } else {
                    self.go_on(conn);
                }
            } else if rest > 0 && taken.need > rest {
                // Inline commands are short, and no array whose words could be counted.
                let array = client.query.first() == Some(&b'*');
                if rest >= RESUME_MIN && array && client.progress.is_none() {
                    client.progress = Some(Box::default());
                }
                if taken.need as u64 > self.config.client_query_buffer_limit {
                    self.query_too_long(conn);
                } else if taken.need - rest >= DIRECT_MIN {
                    let mut query = std::mem::take(&mut client.query);
                    query.reserve_exact(taken.need - query.len());
                    client.receiving = true;
                    client.receiving_max = taken.need;
                    self.io.recv_into(conn, query, taken.need);
                }
            }
        }
        match chunk.data {
            Data::Received(buf) => self.io.release(buf),
            Data::Query(bytes) => self.spare_buffer(bytes),
        }
    }

    fn run_batch(&mut self, batch: &mut Batch<'_>, taken: &mut [ServeState]) {
        if batch.requests.len() > 1 {
            self.prefetch(&batch.requests);
        }
        self.make_room();
        let (requests, args) = (&mut batch.requests, &batch.args);
        // Where the lap begins; see `observe`.
        let mut lap = 0;
        // The client that was found to be plain, until something else than a plain command has run.
        let mut plain = None;
        for at in 0..requests.len() {
            let r = &mut requests[at];
            if self.within.is_gone(r.conn) {
                (taken[r.chunk].0.bytes, taken[r.chunk].0.stopped) = (usize::MAX, true);
                r.entry = None;
                continue;
            }
            let state = &mut taken[r.chunk].0;
            if state.stopped {
                // What has not run is not counted.
                r.entry = None;
                continue;
            }
            let (conn, entry, words) = (r.conn, r.entry, r.args);
            let alone = r.len >= self.thresholds.alone || entry.is_some_and(|e| e.heavy);
            if alone && at > lap {
                self.account(&requests[lap..at], args);
                lap = at;
            }
            let words = &args[words.0..words.1];
            if plain != Some(conn) {
                plain = self.is_plain(conn).then_some(conn);
            }
            let flow = match (entry, &requests[at].key) {
                (Some(entry), Some(key))
                    if plain.is_some() && self.is_for_here(entry, words, key) =>
                {
                    self.execute_plain(conn, entry, words, key)
                }
                _ => {
                    plain = None;
                    self.execute(conn, entry, words, requests[at].key)
                }
            };
            match flow {
                Flow::Next => {}
                Flow::Stall => {
                    (state.bytes, state.stopped) = (requests[at].start, true);
                    requests[at].entry = None;
                }
                Flow::Stop => (state.bytes, state.stopped) = (usize::MAX, true),
            }
            if self.queued {
                self.queued = false;
                requests[at].entry = None;
            } else if alone || self.lap {
                self.lap = false;
                self.account(&requests[lap..=at], args);
                lap = at + 1;
            }
        }
        self.account(&requests[lap..], args);
        batch.requests.clear();
        batch.args.clear();
    }

    /// Nothing out of the ordinary concerns this client now: none of what [`Core::execute`] looks at before a command runs. While only plain
    /// commands run this stays so, and a pipeline's checks are made once.
    fn is_plain(&self, conn: ConnId) -> bool {
        self.clients.get(conn).is_some_and(Client::is_plain)
            && !self.loading
            && !self.room.is_out()
            && !self.refuses_writes
            && !self.shared.scripts.busy.any()
            && self.paused == Paused::No
            && !self.monitors.any()
    }
    /// A plain command that fits, with a key of this core, and no work that it would have to wait for. (Such work may begin when a command's change
    /// serves blocked clients.)
    #[inline]
    fn is_for_here(&self, entry: &Entry, args: Args<'_>, key: &Key<'_>) -> bool {
        entry.plain
            && entry.spec.arity_fits(args.len())
            && self.locks.is_empty()
            && self.gathering.is_empty()
            && (self.cores() == 1 || self.owner(key.slot) as usize == self.id)
    }
    /// As [`Core::execute`], for a plain client's plain command.
    #[inline]
    fn execute_plain(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: &Key<'_>,
    ) -> Flow {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        client.commands += 1;
        client.last_command = Some(entry);
        crate::crash::note_command(entry, client.id);
        self.execute_as::<true>(conn, entry, args, Some(key))
    }

    /// Nanoseconds that each of `count` commands took of the time since the last call.
    #[inline]
    pub(crate) fn share(&mut self, count: usize) -> u64 {
        let now = self.io.mono_ns();
        let passed = now.saturating_sub(std::mem::replace(&mut self.accounted_ns, now));
        passed / count.max(1) as u64
    }

    /// Shares the time of a lap out; see [`crate::stats`].
    #[inline]
    fn account(&mut self, requests: &[Request<'_>], args: &[&[u8]]) {
        let Some(last) = requests.last() else {
            return;
        };
        let ns = self.share(requests.len());
        let whole = ns * requests.len() as u64;
        if whole >= self.thresholds.slow_ns || last.len >= self.thresholds.request {
            self.note_lap(last, args, whole);
        }
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        for r in requests {
            // What went to another core is counted there.
            let ran = self.cores() == 1
                || r.key
                    .is_none_or(|key| self.owner(key.slot) as usize == self.id);
            if let Some(entry) = r.entry {
                self.stats.spent(entry, ns, bucket.filter(|_| ran));
            }
        }
    }

    /// A lap took long, or its last command was large.
    #[cold]
    fn note_lap(&mut self, last: &Request<'_>, args: &[&[u8]], ns: u64) {
        let (Some(entry), Some(client)) = (last.entry, self.clients.get(last.conn)) else {
            return;
        };
        let caller = Ticket::of(self.id, last.conn, client.id, Reads::PLAIN);
        let args = &args[last.args.0..last.args.1];
        // One that waits is noted when it has been served; one of another core there.
        let waits = entry.has(BLOCKING) && !matches!(client.wait, Wait::No);
        let elsewhere = last
            .key
            .is_some_and(|key| self.owner(key.slot) as usize != self.id);
        if ns >= self.thresholds.slow_ns && !waits && !elsewhere {
            self.note_slow(caller, entry, args, ns);
        }
        if last.len >= self.thresholds.request {
            self.note_request(caller, entry, args);
        }
    }

    /// Starts the loads of everything that a group will look at; see the module's head.
    #[inline]
    fn prefetch(&self, requests: &[Request<'_>]) {
        let keyspace = &self.shard.keyspace;
        let keys = || requests.iter().filter_map(|r| Some((r.db, r.key?)));
        for (db, key) in keys() {
            keyspace.prefetch_bucket(db, key.slot, key.hash);
        }
        for (db, key) in keys() {
            keyspace.prefetch_entry(db, key.slot, key.hash);
        }
    }

    #[cold]
    fn inline(&mut self, conn: ConnId, words: &[&[u8]]) -> Flow {
        let entry = self.registry.resolve(words);
        let key = self.first_key(entry, words);
        let flow = self.execute(conn, entry, words, key);
        self.lap = false;
        let queued = std::mem::take(&mut self.queued);
        let request = Request {
            chunk: 0,
            conn,
            start: 0,
            len: words.iter().map(|w| w.len() + 1).sum(),
            args: (0, words.len()),
            entry: entry.filter(|_| flow != Flow::Stall && !queued),
            key,
            db: 0,
        };
        self.account(&[request], words);
        flow
    }

    #[cold]
    fn protocol_error(&mut self, conn: ConnId, error: &ProtocolError) {
        self.reply_now(conn, |reply| {
            reply.error(&format!("ERR Protocol error: {}", error.text()))
        });
        self.end(conn);
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

    fn execute(
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
        let flow = 'run: {
            if let Some(error) = admit(client, entry, args) {
                break 'run self.refuse(conn, entry, error);
            }
            let entry = entry.expect("admitted");
            if client.restricted
                && let Some(error) = self.forbidden(conn, entry, args)
            {
                break 'run self.refuse(conn, Some(entry), error);
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
            if !self.gathering.is_empty() && !crate::gather::may_follow(entry) {
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
                && let Some(flow) = self.in_multi(conn, entry, args)
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
                    self.route(conn, entry, args, key)
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

    /// Refuses a command that needs memory. In MULTI that is every command, since the queue does.
    #[cold]
    fn refuse_for_memory(&mut self, conn: ConnId, entry: &'static Entry) -> Option<Flow> {
        let multi = self.clients.get(conn)?.multi.as_ref();
        match (entry.spec.name, multi) {
            ("EXEC", Some(_)) if entry.parent.is_none() => {
                self.refuse_exec_with(conn, entry, DENYOOM, &CommandError::OutOfMemory)
            }
            ("DISCARD" | "QUIT" | "RESET", Some(_)) if entry.parent.is_none() => None,
            (_, multi) => (multi.is_some() || entry.has(DENYOOM))
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
    /// The log is being read: nobody sees what is not all there yet.
    #[cold]
    fn refuse_while_loading(&mut self, conn: ConnId, entry: &'static Entry) -> Option<Flow> {
        let client = self.clients.get(conn)?;
        if client.loads || entry.has(LOADING) {
            return None;
        }
        let text = "LOADING Redis is loading the dataset in memory";
        Some(self.refuse(conn, Some(entry), CommandError::fixed(text)))
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
        self.release_pushes(conn);
        self.mark_dirty(conn);
        flow
    }

    #[inline]
    fn route(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: Option<Key<'_>>,
    ) -> Flow {
        // RANDOMKEY's parts are no replies yet, so one core picks as well; what comes after it must not overtake it.
        if self.cores() == 1
            && self.locks.is_empty()
            && entry.spec.route != Route::AllShards(Merge::WeightedPick)
            // A cluster's client gets CROSSSLOT.
            && (!self.config.shard_ports || matches!(entry.keys, Keys::None | Keys::One(_)))
        {
            return self.execute_here(conn, entry, args, key.as_ref());
        }
        if let (Keys::One(_), Route::Owner, Some(key)) = (entry.keys, entry.spec.route, key) {
            let owner = self.owner(key.slot);
            if owner as usize != self.id {
                return self.forward(conn, owner, entry, args, key);
            }
            if self.strict && self.clients.get(conn).is_some_and(|c| c.is_waiting()) {
                return Flow::Stall;
            }
            if self.gathering.uses(key.slot) {
                self.send_gathered();
            }
            if self.locks.is_empty() || !self.locks.in_use(key.slot) {
                return self.execute_here(conn, entry, args, Some(&key));
            }
            return self.defer(conn, entry, args, vec![key.slot]);
        }
        self.route_many(conn, entry, args)
    }

    /// Routes a command that has not exactly one key.
    fn route_many(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) -> Flow {
        let client = self.clients.get(conn).expect("looked up by the caller");
        let (db, version, waiting, outstanding) = (
            client.db,
            client.version,
            client.is_waiting(),
            client.outstanding,
        );
        let cluster = client.cluster;
        if waiting && self.strict {
            return Flow::Stall;
        }
        let request = |ticket| crate::transaction::Request {
            ticket,
            entry,
            args,
            db,
            version,
        };
        match entry.spec.route {
            Route::AllShards(merge) => {
                if waiting {
                    return Flow::Stall;
                }
                let ticket = self.ticket(conn);
                self.gather_all(&request(ticket), merge);
                return Flow::Next;
            }
            Route::Cursor => {
                let cursor = cursor(args);
                if cluster {
                    return self.scan_own(conn, entry, args, cursor);
                }
                // The cursor stands for a key: the owner of its slot is asked, or this core for the error's text.
                let slot = cursor.map_or(0, |c| (c & 0x3fff) as u16);
                let owner = self.owner(slot);
                if owner as usize == self.id {
                    return if self.locks.in_use(slot) {
                        self.defer(conn, entry, args, vec![slot])
                    } else {
                        self.execute_here(conn, entry, args, None)
                    };
                }
                return self.forward(
                    conn,
                    owner,
                    entry,
                    args,
                    Key {
                        bytes: b"",
                        hash: 0,
                        slot,
                    },
                );
            }
            _ => {}
        }
        let mut keys = Vec::new();
        // Words that do not fit the key specs go to the command here, which says what is wrong with them.
        let fit = entry.key_indexes(args, &mut keys) && !keys.is_empty();
        let pairs = !matches!(entry.keys, Keys::Rest { first, step } if !(args.len() - first).is_multiple_of(step));
        if !fit || !pairs {
            return self.execute_here(conn, entry, args, None);
        }
        let slots: Vec<u16> = keys
            .iter()
            .map(|&k| ringwood_protocol::slot::key_slot(args[k]))
            .collect();
        if cluster && slots.iter().any(|s| *s != slots[0]) {
            return self.refuse(conn, Some(entry), CROSS_SLOT);
        }
        let owner = self.owner(slots[0]);
        if slots.iter().all(|&s| self.owner(s) == owner) {
            if owner as usize != self.id {
                let key = self.shard.key(args[keys[0]]);
                return self.forward_slots(conn, owner, entry, args, key, &slots);
            }
            if slots.iter().any(|&s| self.gathering.uses(s)) {
                self.send_gathered();
            }
            if slots.iter().any(|&s| self.locks.in_use(s)) {
                return self.defer(conn, entry, args, slots);
            }
            return self.execute_here(conn, entry, args, None);
        }
        // Parts overtake parcels on their way, so a command waits for those of its connection that share a slot with it.
        if slots.iter().any(|s| outstanding >> (s % 64) & 1 != 0) {
            return Flow::Stall;
        }
        let request = request(self.ticket(conn));
        match entry.spec.route {
            // Where notifications are sent, one core runs it all, so that they come in the keys' order; where changes are logged, so
            // that they are logged as one.
            Route::Scatter(merge)
                if !(self.shard.listening || self.shard.logging && entry.has(WRITE)) =>
            {
                self.gather(&request, merge, &keys, &slots);
            }
            _ => self.borrow(&request, &keys, Vec::new(), None),
        }
        Flow::Next
    }

    /// SCAN on a core's own port: the node's own keys only, since a cluster's client scans every node.
    #[cold]
    fn scan_own(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        cursor: Option<u64>,
    ) -> Flow {
        let Some(cursor) = cursor else {
            return self.execute_here(conn, entry, args, None);
        };
        let slot = (cursor & 0x3fff) as u16;
        let cursor = (cursor | LOCAL_CURSOR).to_string();
        let mut words = args.to_vec();
        words[1] = cursor.as_bytes();
        if self.locks.in_use(slot) {
            return self.defer(conn, entry, &words, vec![slot]);
        }
        self.execute_here(conn, entry, &words, None)
    }

    /// Runs a data command on this core, its reply straight into the client's output.
    #[inline]
    fn execute_here(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: Option<&Key<'_>>,
    ) -> Flow {
        self.execute_as::<false>(conn, entry, args, key)
    }
    /// The same, made once more for plain clients, whose reads are nothing to look at.
    #[inline]
    fn execute_as<const PLAIN: bool>(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        key: Option<&Key<'_>>,
    ) -> Flow {
        let Core {
            id,
            shard,
            stats,
            clients,
            dirty,
            ..
        } = self;
        let client = clients.get_mut(conn).expect("looked up by the caller");
        let (db, version) = (client.db, client.version);
        let reads = match PLAIN {
            true => Reads::PLAIN,
            false => client.reads(),
        };
        let caller = match shard.attention.tracking.on || reads.untouched {
            true => Ticket::of(*id, conn, client.id, reads),
            false => Ticket::NOBODY,
        };
        let out = client.reply_buffer();
        let from = out.len();
        let call = DataCall {
            entry,
            db,
            version,
            first_key: key,
            serving: false,
            aside: true,
            caller,
        };
        let wants = run(shard, stats, &call, args, out);
        stats.called(entry);
        if let Some(wants) = wants {
            return self.wanted(conn, entry, args, *wants);
        }
        let len = out.len() - from;
        client.replied(from);
        let large = (len >= self.thresholds.lap_reply).then_some(client.id);
        if !client.dirty {
            client.dirty = true;
            dirty.push(conn);
        }
        if let Some(client) = large {
            let caller = Ticket::of(self.id, conn, client, Reads::PLAIN);
            self.note_reply(caller, entry, args, len);
        }
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        Flow::Next
    }

    /// A command that ran here wants something before it can do its work.
    #[cold]
    fn wanted(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        wants: Wants,
    ) -> Flow {
        let ticket = self.ticket(conn);
        let client = self
            .clients
            .get(conn)
            .expect("a client that just sent a command");
        let (db, version) = (client.db, client.version);
        match wants {
            Wants::Change(block) => {
                let words = Words::new(args.iter().copied());
                self.begin_wait(ticket, entry, words, db, version, block);
            }
            Wants::Keys(_) | Wants::Aside => {
                let request = crate::transaction::Request {
                    ticket,
                    entry,
                    args,
                    db,
                    version,
                };
                self.widen(&request, wants);
            }
        }
        Flow::Next
    }

    /// Routes a command that may have to wait. With all keys here it runs in place; else it runs over all of them as a
    /// transaction, at whose end the keys' owners learn who waits.
    #[cold]
    fn route_blocking(&mut self, conn: ConnId, entry: &'static Entry, args: Args<'_>) -> Flow {
        let client = self.clients.get(conn).expect("looked up by the caller");
        if client.is_waiting() {
            // The replies before it go out first.
            return Flow::Stall;
        }
        let (db, version, cluster) = (client.db, client.version, client.cluster);
        let mut keys = Vec::new();
        if !entry.key_indexes(args, &mut keys) || keys.is_empty() {
            // The command says what is wrong with its words.
            return self.execute_here(conn, entry, args, None);
        }
        let slots = keys
            .iter()
            .map(|&k| ringwood_protocol::slot::key_slot(args[k]));
        let slots: Vec<u16> = slots.collect();
        if cluster && slots.iter().any(|s| *s != slots[0]) {
            return self.refuse(conn, Some(entry), CROSS_SLOT);
        }
        let owner = self.owner(slots[0]);
        if cluster && owner as usize != self.id {
            let error = self.moved(conn, slots[0], owner);
            return self.refuse(conn, Some(entry), error);
        }
        let mut here = slots
            .iter()
            .map(|&s| self.owner(s) as usize == self.id && !self.locks.in_use(s));
        if here.all(|here| here) {
            return self.execute_here(conn, entry, args, None);
        }
        let ticket = self.ticket(conn);
        let request = crate::transaction::Request {
            ticket,
            entry,
            args,
            db,
            version,
        };
        self.borrow(&request, &keys, Vec::new(), None);
        // What follows waits until it is known whether the client blocks.
        if let Some(client) = self.clients.get_mut(conn) {
            client.wait = Wait::Unknown;
        }
        Flow::Next
    }

    /// Runs a data command of [`Core::caller`]'s that was kept or sent, or a part of one; who calls counts the call.
    pub(crate) fn run_owned(
        &mut self,
        entry: &'static Entry,
        words: &Words,
        db: usize,
        version: Version,
        mode: Mode,
        out: &mut Vec<u8>,
    ) -> Option<Box<Wants>> {
        crate::crash::note_command(entry, 0);
        let call = DataCall {
            entry,
            db,
            version,
            first_key: None,
            serving: mode.serving,
            aside: mode.aside,
            caller: self.caller,
        };
        let args = words.slices();
        let from = out.len();
        let wants = run(&mut self.shard, &mut self.stats, &call, &args, out);
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        let ns = self.share(1);
        if wants.is_some() {
            self.stats.spent(entry, ns, None);
            return wants;
        }
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        self.stats.spent(entry, ns, bucket);
        self.note_done(self.caller, entry, &args, ns, out.len() - from);
        None
    }

    /// Puts a command of this core behind the work that uses its slots.
    fn defer(
        &mut self,
        conn: ConnId,
        entry: &'static Entry,
        args: Args<'_>,
        slots: Vec<u16>,
    ) -> Flow {
        if let Some(error) = self.locked_error() {
            return self.refuse(conn, Some(entry), error);
        }
        let ticket = self.ticket(conn);
        let client = self.clients.get(conn).expect("looked up by the caller");
        let words = Words::new(args.iter().copied());
        let work = Waiting::Single {
            ticket,
            entry,
            words,
            db: client.db,
            version: client.version,
        };
        self.locks.defer(Slots::of(slots), work);
        Flow::Next
    }

    /// Takes a place in the client's order for a reply that comes later.
    pub(crate) fn ticket(&mut self, conn: ConnId) -> Ticket {
        let client = self
            .clients
            .get_mut(conn)
            .expect("a client that just sent a command");
        Ticket {
            core: self.id as u16,
            conn,
            seq: client.await_reply(),
            client: client.id,
            reads: client.reads(),
        }
    }

    fn forward(
        &mut self,
        conn: ConnId,
        owner: u16,
        entry: &'static Entry,
        args: Args<'_>,
        key: Key<'_>,
    ) -> Flow {
        self.forward_slots(conn, owner, entry, args, key, &[key.slot])
    }

    /// Puts a command into the parcel for its owner.
    pub(crate) fn forward_slots(
        &mut self,
        conn: ConnId,
        owner: u16,
        entry: &'static Entry,
        args: Args<'_>,
        key: Key<'_>,
        slots: &[u16],
    ) -> Flow {
        let client = self.clients.get_mut(conn).expect("looked up by the caller");
        if client.cluster {
            let error = self.moved(conn, key.slot, owner);
            return self.refuse(conn, Some(entry), error);
        }
        let waiting = client.waiting_count();
        if waiting >= OUTSTANDING_MAX || (waiting > 0 && self.strict) {
            return Flow::Stall;
        }
        for slot in slots {
            client.outstanding |= 1 << (slot % 64);
        }
        let (db, version) = (client.db as u16, client.version);
        let ticket = self.ticket(conn);
        let parcel = &mut self.outbox[owner as usize];
        if parcel.is_none() {
            *parcel = Some(self.spare_parcels.pop().unwrap_or_default());
        }
        let parcel = parcel.as_mut().expect("put there just now");
        let argc = args.len() as u32;
        let Key { hash, slot, .. } = key;
        let item = Item {
            ticket,
            entry,
            hash,
            slot,
            db,
            version,
            argc,
            reply_end: 0,
            deferred: false,
        };
        parcel.add(item, args);
        Flow::Next
    }

    /// Runs the commands of a parcel from another core, and sends it back with the replies.
    pub(crate) fn serve_parcel(&mut self, from: usize, parcel: Box<Parcel>) {
        let mut open = OpenParcel {
            from,
            parcel,
            next: 0,
            words_at: 0,
        };
        while let Some(words) = self.serve_items(&mut open) {
            let at = open.next - 1;
            let mut item = Item {
                ..open.parcel.items[at]
            };
            let (ticket, entry, version) = (item.ticket, item.entry, item.version);
            // A slow script finds it there, and sends it back.
            self.open_parcel = Some(open);
            let mut reply = Vec::new();
            let done = self.serve_unit(ticket, entry, &words, item.db.into(), version, &mut reply);
            item.deferred = !done;
            if reply.len() >= self.thresholds.lap_reply {
                self.note_reply(ticket, entry, &words.slices(), reply.len());
            }
            self.lap = false;
            self.account_items(std::slice::from_ref(&item), &words.slices());
            let Some(back) = self.open_parcel.take() else {
                if done {
                    self.answer(ticket, reply);
                }
                return;
            };
            open = back;
            let Parcel { items, replies, .. } = &mut *open.parcel;
            replies.extend_from_slice(&reply);
            item.reply_end = replies.len() as u32;
            items[at] = item;
        }
        self.publish_memory();
        self.mailbox
            .send(from, crate::mailbox::Mail::Replies(open.parcel));
    }

    /// Runs a parcel's commands up to the first script or transaction, whose words come back.
    fn serve_items(&mut self, open: &mut OpenParcel) -> Option<Words> {
        let OpenParcel {
            parcel,
            next,
            words_at,
            ..
        } = open;
        let Parcel {
            items,
            words,
            replies,
        } = &mut **parcel;
        let mut args: Vec<&[u8]> = Vec::new();
        let mut unit = None;
        while *next < items.len() && unit.is_none() {
            let end = items.len().min(*next + GROUP);
            let group = &mut items[*next..end];
            self.make_room();
            if group.len() > 1 {
                for i in group.iter() {
                    self.shard
                        .keyspace
                        .prefetch_bucket(i.db as usize, i.slot, i.hash);
                }
                for i in group.iter() {
                    self.shard
                        .keyspace
                        .prefetch_entry(i.db as usize, i.slot, i.hash);
                }
            }
            let mut lap = 0;
            let mut count = group.len();
            for i in 0..group.len() {
                let item = &mut group[i];
                args.clear();
                let (begin, from) = (*words_at, replies.len());
                *words_at = Parcel::read(words, *words_at, item.argc, &mut args);
                let is_unit = matches!(item.entry.spec.run, Run::Server(_));
                let alone = item.entry.heavy || *words_at - begin >= self.thresholds.alone;
                if (alone || is_unit) && i > lap {
                    // Small ones: put down to the last of them if they took long, without its words.
                    self.account_items(&group[lap..i], &[group[i - 1].entry.name.as_bytes()]);
                    lap = i;
                }
                if is_unit {
                    unit = Some(Words::new(args.iter().copied()));
                    count = i + 1;
                    lap = count;
                    break;
                }
                let item = &mut group[i];
                self.serve_item(item, &args, replies);
                item.reply_end = replies.len() as u32;
                let len = replies.len() - from;
                if len >= self.thresholds.lap_reply {
                    self.note_reply(item.ticket, item.entry, &args, len);
                }
                if alone || self.lap {
                    self.lap = false;
                    self.account_items(&group[lap..=i], &args);
                    lap = i + 1;
                }
            }
            self.account_items(&group[lap..count], &args);
            *next += count;
        }
        unit
    }

    /// As [`Core::account`], for commands of another core; `args` are the words of the last.
    pub(crate) fn account_items(&mut self, items: &[Item], args: Args<'_>) {
        let Some(last) = items.last() else {
            return;
        };
        let ns = self.share(items.len());
        let whole = ns * items.len() as u64;
        if whole >= self.thresholds.slow_ns && !last.deferred {
            self.note_slow(last.ticket, last.entry, args, whole);
        }
        let bucket = self.config.latency_tracking.then(|| Histogram::bucket(ns));
        for item in items {
            self.stats.spent(item.entry, ns, bucket);
        }
    }

    fn serve_item(&mut self, item: &mut Item, args: Args<'_>, replies: &mut Vec<u8>) {
        let &mut Item {
            ticket,
            entry,
            hash,
            slot,
            db,
            version,
            ..
        } = item;
        let db = db as usize;
        if !self.locks.is_empty() {
            let mut keys = Vec::new();
            let slots = if entry.spec.route == Route::Cursor || !entry.key_indexes(args, &mut keys)
            {
                vec![slot]
            } else {
                keys.iter()
                    .map(|&k| ringwood_protocol::slot::key_slot(args[k]))
                    .collect()
            };
            if slots.iter().any(|&s| self.locks.in_use(s)) {
                if let Some(error) = self.locked_error() {
                    Reply::new(replies, version).command_error(&error);
                    self.stats.rejected(Some(entry), &error);
                    return;
                }
                let words = Words::new(args.iter().copied());
                let work = Waiting::Single {
                    ticket,
                    entry,
                    words,
                    db,
                    version,
                };
                self.locks.defer(Slots::of(slots), work);
                item.deferred = true;
                return;
            }
        }
        crate::crash::note_command(entry, ticket.client);
        let key = match entry.keys {
            Keys::One(at) | Keys::Rest { first: at, .. } => {
                args.get(at).map(|bytes| Key { bytes, hash, slot })
            }
            _ => None,
        };
        let call = DataCall {
            entry,
            db,
            version,
            first_key: key.as_ref(),
            serving: false,
            aside: true,
            caller: ticket,
        };
        let wants = run(&mut self.shard, &mut self.stats, &call, args, replies);
        self.stats.called(entry);
        if let Some(wants) = wants {
            let request = crate::transaction::Request {
                ticket,
                entry,
                args,
                db,
                version,
            };
            self.widen(&request, *wants);
            item.deferred = true;
        }
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
    }

    /// A transaction or script all of whose keys are this core's, from another core. False when its answer comes later.
    #[cold]
    fn serve_unit(
        &mut self,
        ticket: Ticket,
        entry: &'static Entry,
        words: &Words,
        db: usize,
        version: Version,
        reply: &mut Vec<u8>,
    ) -> bool {
        let args = words.slices();
        let slots = self.unit_slots(entry, &args);
        if slots.iter().any(|&s| self.locks.in_use(s)) {
            if let Some(error) = self.locked_error() {
                Reply::new(reply, version).command_error(&error);
                self.stats.rejected(Some(entry), &error);
                return true;
            }
            let words = words.clone();
            let work = Waiting::Unit {
                ticket,
                entry,
                words,
                db,
                version,
            };
            self.locks.defer(Slots::of(slots), work);
            return false;
        }
        self.within.runs_for(ticket);
        let done = self.run_unit(ticket, entry, &args, db, version, reply);
        self.within.runs_for(Ticket::NOBODY);
        if !done {
            self.send_wide(ticket, entry, words.clone(), db, version);
        }
        done
    }

    /// A parcel has come back: its replies go to their clients.
    pub(crate) fn take_replies(&mut self, parcel: Box<Parcel>) {
        let mut from = 0;
        for item in &parcel.items {
            let to = item.reply_end as usize;
            if !item.deferred {
                self.answer_with(item.ticket, &parcel.replies[from..to]);
            }
            from = to;
        }
        self.spare_parcel(parcel);
    }
    /// Keeps a parcel's buffers for the next.
    pub(crate) fn spare_parcel(&mut self, parcel: Box<Parcel>) {
        self.spare_parcels.push(parcel);
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
        // A client that is gone gets no answer; its number may be another's by now.
        let Some(client) = self
            .clients
            .get_mut(ticket.conn)
            .filter(|c| c.id == ticket.client)
        else {
            return;
        };
        client.take_spare(&mut self.buffers);
        client.answer(ticket.seq, reply);
        let go_on = client.stalled && !client.is_waiting();
        match client.wait {
            Wait::No => {}
            Wait::Subscribing if client.is_waiting() => {}
            Wait::Subscribing => client.wait = Wait::No,
            _ => self.unblocked(ticket.conn),
        }
        self.mark_dirty(ticket.conn);
        if go_on {
            self.go_on(ticket.conn);
        }
    }
}

/// A parcel some of whose commands have run.
pub(crate) struct OpenParcel {
    pub from: usize,
    pub parcel: Box<Parcel>,
    /// The first command that has not.
    pub next: usize,
    /// Where its words begin.
    pub words_at: usize,
}

/// [`Taken`] under the name that [`Core`] keeps its vector by.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServeState(Taken);

/// The cursor of a SCAN, if it is one.
pub(crate) fn cursor(args: Args<'_>) -> Option<u64> {
    std::str::from_utf8(args.get(1)?).ok()?.parse().ok()
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
    String::from_utf8_lossy(&word[..word.len().min(most)])
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
        String::from_utf8_lossy(args[0]).to_uppercase()
    ))
}

/// A data command that is to run on a shard, beside its words.
pub(crate) struct DataCall<'a> {
    pub entry: &'static Entry,
    pub db: usize,
    pub version: Version,
    pub first_key: Option<&'a Key<'a>>,
    /// See [`Ctx::serving`].
    pub serving: bool,
    /// See [`Ctx::aside`].
    pub aside: bool,
    /// Whose it is.
    pub caller: Ticket,
}

/// How a command runs that was kept or sent.
#[derive(Clone, Copy)]
pub(crate) struct Mode {
    serving: bool,
    aside: bool,
}

impl Mode {
    /// All its work is done at once.
    pub const AT_ONCE: Self = Self {
        serving: false,
        aside: false,
    };
    /// It may ask to be done aside.
    pub const ASIDE: Self = Self {
        serving: false,
        aside: true,
    };
    /// See [`Ctx::serving`].
    pub const SERVING: Self = Self {
        serving: true,
        aside: false,
    };
}

/// A renamed command's words as the log has them: with its own name.
#[cold]
fn by_own_name<'a>(entry: &'static Entry, args: Args<'a>) -> Vec<&'a [u8]> {
    let mut words = args.to_vec();
    words[0] = entry.parent.unwrap_or(entry.spec.name).as_bytes();
    words
}

/// Runs a data command on a shard; the reply goes to the end of `out`. What it wants before it can do its work comes back;
/// then there is no reply.
#[inline(always)]
pub(crate) fn run(
    shard: &mut Shard,
    stats: &mut Stats,
    call: &DataCall<'_>,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Option<Box<Wants>> {
    let entry = call.entry;
    let Run::Shard(handler) = entry.spec.run else {
        panic!("{} is no data command", entry.name)
    };
    let reply = Reply::new(out, call.version);
    let mark = reply.mark();
    if shard.attention.tracking.on {
        shard.attention.tracking.writer = call.caller.client;
    }
    if call.caller.reads.untouched {
        // TOUCH is there to touch.
        shard.keep_access = entry.spec.name != "TOUCH";
    }
    let dirty = shard.stats.dirty;
    // Which keys it reads is known to nobody but itself: it is logged by what it made.
    let by_result = shard.logging && entry.widens();
    let group_begins = by_result && shard.log.begin();
    let own_words;
    let args = match shard.logging && entry.renamed {
        true => {
            own_words = by_own_name(entry, args);
            &own_words
        }
        false => args,
    };
    let mut ctx = Ctx::new(shard, call.db, reply, call.first_key);
    (ctx.serving, ctx.aside) = (call.serving, call.aside);
    let result = handler(&mut ctx, args);
    if let Err(error) = &result {
        ctx.reply.rewind(mark);
        ctx.reply.command_error(error);
        stats.error(entry, error);
        if let Some(text) = ctx.shard.refused_payload.take() {
            tracing::warn!("{text}");
        }
        if ctx.shard.loading {
            crate::aof::replay::failed(Some(entry), error);
        }
    }
    let (wants, log) = (ctx.wants, ctx.log);
    // One that blocks may have changed something all the same, and says so itself: XREADGROUP makes its consumer.
    if shard.logging && (wants.is_none() || matches!(log, Log::As(_))) {
        let changed = shard.stats.dirty != dirty;
        match by_result {
            true => crate::aof::log::note_results(shard),
            false => crate::aof::log::note(shard, call, args, log, changed, result.is_ok()),
        }
    }
    if call.caller.reads.untouched {
        shard.keep_access = false;
    }
    if group_begins {
        crate::aof::log::end_local_group(shard);
    }
    if shard.attention.tracking.on {
        crate::tracking::remember(shard, call, args, wants.is_some());
    }
    wants
}

/// CLIENT PAUSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    No,
    Writes,
    All,
}

impl Core {
    /// True for a command that CLIENT PAUSE holds back: one that may write, where writes wait.
    pub(crate) fn is_paused(&mut self, entry: &Entry, args: Args<'_>) -> bool {
        match self.paused {
            Paused::No => false,
            Paused::All => true,
            Paused::Writes if !entry.has(WRITE | MAY_REPLICATE) => false,
            Paused::Writes => !entry.has(LUA) || !self.script_only_reads(entry, args),
        }
    }
    pub(crate) fn hold_for_pause(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.paused = true;
        }
    }
    /// Holds commands back. Of two pauses the longer time and the stricter mode hold.
    pub fn pause(&mut self, mode: Paused, timeout_ms: u64) {
        let until = self
            .now
            .mono_ns
            .saturating_add(timeout_ms.saturating_mul(1_000_000));
        self.paused = self.paused.max(mode);
        self.shard.keep_expired = true;
        self.paused_until_ns = self.paused_until_ns.max(until);
    }
    pub fn unpause(&mut self) {
        self.paused = Paused::No;
        self.paused_until_ns = 0;
        self.shard.keep_expired = false;
        for conn in std::mem::take(&mut self.held) {
            if let Some(client) = self.clients.get_mut(conn) {
                client.paused = false;
            }
            self.go_on(conn);
        }
    }
    /// Clients that the pause holds: each waits as a blocked one does.
    pub fn paused_clients(&self) -> usize {
        let mut held = self.held.clone();
        held.sort_unstable();
        // One that sent more meanwhile is in it again; one that is gone is in it still.
        held.dedup();
        held.retain(|conn| self.clients.get(*conn).is_some_and(|c| c.paused));
        held.len()
    }

    #[cold]
    pub(crate) fn query_too_long(&mut self, conn: ConnId) {
        self.stats.query_limit_closes += 1;
        if let Some(client) = self.clients.get(conn) {
            tracing::warn!(
                "Closing client that reached max query buffer length: {}",
                client.peer
            );
        }
        self.close(conn);
    }

    pub(crate) fn set_strict(&mut self) {
        self.strict = self.config.pipeline_order == PipelineOrder::Strict;
    }
}
