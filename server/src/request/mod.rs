//! A request, top to bottom: `serve` takes in what was received, `parse`, `resolve`, `admit`, `route`, `execute` on the owner, and the
//! reply in request order.
//!
//! What one turn received is handled in groups of [`GROUP`] commands, across connections: all are parsed and hashed, then
//! their table buckets and entries are asked for ahead, then they run. Cache misses are most of what a small command costs;
//! in a group they overlap.

mod ahead;
mod batch;
mod execute;
mod parcel;
mod pause;
mod plain;
mod route;
mod run;

pub(crate) use batch::BatchStore;
pub(crate) use execute::IS_LOADING;
pub(crate) use parcel::OpenParcel;
pub use pause::Paused;
pub(crate) use route::cursor;
pub(crate) use run::{DataCall, Mode, run};

use crate::client::{Life, Wait};
use crate::config::enums::PipelineOrder;
use crate::core::Core;
use crate::io::{ConnId, Io, RecvBuf};
use crate::registry::Entry;
use crate::scripts::debug::take_input;
pub(crate) use batch::GROUP;
use batch::{Batch, Request};
use ringwood_protocol::error::ProtocolError;
use ringwood_protocol::resp::{Limits, Opening, Parsed, parse};

/// Outstanding replies of one connection, beyond which it is not read further for now.
pub(crate) const OUTSTANDING_MAX: usize = 16 << 10;
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
        // What the last command was, and how it began if the one before was the same.
        let mut last: Option<&'static Entry> = None;
        let mut may_be_plain = false;
        let mut opening: Option<Opening> = None;
        while at < bytes.len() && !taken[index].0.stopped {
            let limits = Limits {
                bulk_len_max,
                authenticated,
            };
            let error;
            let first = batch.args.len();
            let again = opening
                .as_ref()
                .filter(|_| authenticated)
                .and_then(|opening| opening.parse(&bytes[at..], &limits, &mut batch.args));
            let is_again = again.is_some();
            let parsed = match (again, &mut progress) {
                (Some(parsed), _) => parsed,
                (None, Some(progress)) => {
                    let parsed = progress.resume(&bytes[at..], &limits);
                    if let Parsed::Command { .. } = parsed {
                        batch.args.extend(progress.words(&bytes[at..]));
                    }
                    parsed
                }
                (None, None) => parse(&bytes[at..], &limits, &mut batch.args),
            };
            match parsed {
                Parsed::Command { consumed } => {
                    progress = None;
                    let args = &batch.args[first..];
                    if !args.is_empty() {
                        let entry = match is_again {
                            true => last,
                            false => {
                                let entry = names.resolve(args);
                                let same = last.zip(entry).is_some_and(|(a, b)| std::ptr::eq(a, b));
                                // A subcommand's name is another word.
                                let simple = entry.is_some_and(|e| {
                                    e.parent.is_none() && e.subcommands.is_empty()
                                });
                                opening = match same && simple && authenticated {
                                    true => Opening::of(&bytes[at..], args),
                                    false => None,
                                };
                                last = entry;
                                may_be_plain =
                                    entry.is_some_and(|e| e.plain && e.spec.arity_fits(args.len()));
                                entry
                            }
                        };
                        let key = self.first_key(entry, args);
                        if let Some(key) = key {
                            self.shard.keyspace.prefetch_table(db, key.slot);
                        }
                        let plain = may_be_plain && key.is_some_and(|key| self.is_own(&key));
                        let alone =
                            consumed >= self.thresholds.alone || entry.is_some_and(|e| e.heavy);
                        let element = match entry {
                            Some(e) if (e.spec.element as usize) < args.len() => {
                                e.spec.element as usize
                            }
                            _ => 0,
                        };
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
                            plain,
                            alone,
                            element,
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

    #[cold]
    fn inline(&mut self, conn: ConnId, words: &[&[u8]]) -> Flow {
        let entry = self.registry.resolve(words);
        let key = self.first_key(entry, words);
        let flow = self.execute(conn, entry, words, key);
        self.lap = false;
        let uncounted = std::mem::take(&mut self.uncounted);
        let request = Request {
            chunk: 0,
            conn,
            start: 0,
            len: words.iter().map(|w| w.len() + 1).sum(),
            args: (0, words.len()),
            entry: entry.filter(|_| flow != Flow::Stall && !uncounted),
            key,
            db: 0,
            plain: false,
            alone: true,
            element: 0,
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
}

/// [`Taken`] under the name that [`Core`] keeps its vector by.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServeState(Taken);

impl Core {
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
