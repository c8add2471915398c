//! One core: its event loop, its shard, its clients, its ends of the mail.
//!
//! A turn, in this order (the sequencer's proof needs steps 1 to 4 in it):
//! 1. completions: what sockets received is set aside;
//! 2. mail: answers are delivered, other cores' commands are set aside;
//! 3. transaction parts are taken in, and those whose turn has come run;
//! 4. the commands set aside run: other cores' first, then those of this core's clients;
//! 5. parcels go out, one per destination, and sleeping receivers are woken;
//! 6. replies go out, one send per connection;
//! 7. background work gets a slice.

use crate::acl::{User, Users};
use crate::blocking::Blocking;
use crate::client::{Client, Life};
use crate::config::Config;
use crate::gather::Gathering;
use crate::io::{CloseReason, ConnId, Event, Io, ListenerId, Now, Wait, World};
use crate::mailbox::{Mail, Mailbox, Parcel, Ticket};
use crate::maxmemory::Room;
use crate::multi::Watcher;
use crate::multi::exclusive::{Under, UnderDone};
use crate::observe::Thresholds;
use crate::persist::snapshot::Snapshots;
use crate::pubsub::PubSub;
use crate::registry::Registry;
use crate::request::{BatchStore, Chunk, Data, OpenParcel, Paused, ServeState, UNREAD_MIN};
use crate::scripts::Scripts;
use crate::scripts::debug::take_input;
use crate::spares::Spares;
use crate::stats::{Meter, Sample, Stats};
use crate::transaction::{Coordinated, Waiting};
use ringwood_protocol::error::CommandError;
use ringwood_shard::locks::Locks;
use ringwood_shard::shard::{Settings, Shard};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use crate::shared::Shared;

pub type Stream = <World as Io>::Stream;

/// A question that every core answers for itself, on its own thread.
pub type Question = Arc<dyn Fn(&mut Core) -> Vec<u8> + Send + Sync>;
/// Makes a reply of the answers, in the cores' order.
pub type Conclude = Box<dyn FnOnce(&mut Core, Ticket, Vec<Vec<u8>>)>;

/// Control messages between cores.
pub enum Control {
    /// Serve this connection.
    Adopt {
        stream: Stream,
        peer: String,
        local: String,
    },
    Ask {
        from: usize,
        question: u32,
        ask: Question,
    },
    Answer {
        from: usize,
        question: u32,
        answer: Vec<u8>,
    },
    /// A script that holds this core, or has borrowed keys of it, has become slow.
    Slow,
    /// Take a turn: another core needs memory that this one has.
    MakeRoom,
    /// The core's log is on disk as far as it went when this sync began.
    Synced(crate::aof::commit::Synced),
    /// A long command is done.
    Aside(Box<crate::aside::Done>),
    /// From a debugging session.
    Debug(Box<crate::scripts::debug::Message>),
    /// End the loop.
    Stop,
}

/// A question under way.
struct Asked {
    ticket: Ticket,
    answers: Vec<Option<Vec<u8>>>,
    left: usize,
    conclude: Conclude,
}

/// The clients of a core by connection.
#[derive(Default)]
pub struct Clients {
    by_conn: Vec<Option<Box<Client>>>,
    len: usize,
}

impl Clients {
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&Client> {
        self.by_conn.get(conn.0 as usize)?.as_deref()
    }
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Client> {
        self.by_conn.get_mut(conn.0 as usize)?.as_deref_mut()
    }
    fn insert(&mut self, client: Client) {
        let at = client.conn.0 as usize;
        if self.by_conn.len() <= at {
            self.by_conn.resize_with(at + 1, || None);
        }
        assert!(
            self.by_conn[at].is_none(),
            "a connection number in use twice"
        );
        self.by_conn[at] = Some(Box::new(client));
        self.len += 1;
    }
    fn remove(&mut self, conn: ConnId) -> Option<Box<Client>> {
        let client = self.by_conn.get_mut(conn.0 as usize)?.take()?;
        self.len -= 1;
        Some(client)
    }
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        self.by_conn.iter().flatten().map(|c| &**c)
    }
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.by_conn.iter_mut().flatten().map(|c| &mut **c)
    }
}

/// How large a buffer is kept for reuse.
const SPARE_CAPACITY: usize = 64 << 10;
/// How often clients and statistics are looked after.
const CRON: Duration = Duration::from_millis(100);
/// How long entries are moved in one turn ([`Core::thin_slice`]), and words of tables between looks at the clock.
const THIN_SLICE_NS: u64 = 200_000;
const THIN_STEP: usize = 500;
/// With `maxmemory`, long commands that take memory beside the cores are looked at so often.
const WATCH_ASIDE: Duration = Duration::from_millis(1);

pub struct Core {
    pub id: usize,
    pub io: World,
    pub now: Now,
    pub shard: Shard,
    pub clients: Clients,
    pub registry: &'static Registry,
    pub shared: Arc<Shared>,
    pub config: Arc<Config>,
    pub(crate) users: Arc<Users>,
    /// Whose transaction or script runs, if there is something that they may not do.
    pub(crate) acting: Option<Arc<User>>,
    pub stats: Stats,
    pub meter: Meter,
    /// Monotonic nanoseconds up to which commands' time is accounted for.
    pub(crate) accounted_ns: u64,
    pub(crate) thresholds: Thresholds,
    /// The command that just ran ends its lap: see [`crate::observe`].
    pub(crate) lap: bool,
    /// The command that just came was queued by MULTI: it does not count.
    pub(crate) queued: bool,
    pub(crate) trackers: crate::tracking::Trackers,
    pub(crate) monitors: crate::observe::monitor::Monitors,
    /// Whose command runs, where that is not a client's of this core directly.
    pub(crate) caller: Ticket,
    pub mailbox: Mailbox,
    pub(crate) locks: Locks<Waiting>,
    pub(crate) transactions: HashMap<u32, Coordinated>,
    pub(crate) next_transaction: u32,
    pub(crate) gathering: Gathering,
    /// Parts for this core itself wait to be run in this turn.
    pub(crate) own_parts: bool,
    pub(crate) blocking: Blocking,
    pub(crate) pubsub: PubSub,
    pub(crate) scripts: Scripts,
    pub(crate) room: Room,
    pub(crate) snapshots: Snapshots,
    /// The last snapshot was written: from then on nothing runs here that could change anything, until the server ends or the snapshot has failed.
    pub(crate) ending: bool,
    /// Writes are refused, for the disk or for want of replicas: as of this turn's beginning.
    pub(crate) refuses_writes: bool,
    pub(crate) log: crate::aof::log::CoreLog,
    /// WAITAOF's clients.
    pub(crate) log_waiters: Vec<crate::aof::wait::Waiting>,
    /// A snapshot or the log is being read: see [`crate::persist::loading`], [`crate::aof::replay`].
    pub(crate) loading: bool,
    pub(crate) share: Option<Box<crate::persist::loading::Share>>,
    /// This core was asked for DEBUG LOADAOF.
    pub(crate) reload: Option<crate::aof::reload::Asker>,
    pub(crate) counts_before_reload: Option<Box<crate::aof::reload::Counts>>,
    /// Mail that came while a script waited for other mail, in order.
    pub(crate) early: Vec<(usize, Mail)>,
    /// Control messages that came while a slow script looked around, in order.
    pub(crate) early_control: Vec<Control>,
    /// Signals that came then.
    early_events: Vec<Event<Stream>>,
    pub(crate) within: crate::scripts::busy::Within,
    /// Slots were freed outside the lock queue's own loop.
    pub(crate) unlocked: bool,
    /// `pipeline-order strict`.
    pub(crate) strict: bool,
    pub(crate) outbox: Vec<Option<Box<Parcel>>>,
    /// Boxed, as they travel.
    pub(crate) spare_parcels: Spares<Box<Parcel>>,
    /// Clients with something to send.
    pub(crate) dirty: Vec<ConnId>,
    /// Clients whose output is over its soft limit.
    pub(crate) over_soft_limit: Vec<ConnId>,
    pub(crate) client_limit: crate::client_limit::ClientLimit,
    /// Clients whose requests go on after a barrier.
    pub(crate) going_on: Vec<ConnId>,
    /// CLIENT PAUSE: what waits, and until when (monotonic nanoseconds).
    pub(crate) paused: Paused,
    pub(crate) paused_until_ns: u64,
    /// Clients that a pause holds.
    pub(crate) held: Vec<ConnId>,
    /// Clients that send no more, but have requests waiting.
    half_closed: Vec<ConnId>,
    pub(crate) batch: BatchStore,
    pub(crate) taken: Vec<ServeState>,
    pub(crate) chunks: Vec<Chunk>,
    /// Those that were there when the turn began, at most.
    chunks_left: usize,
    /// Which turn of the loop this is.
    turn: u64,
    pub(crate) events: Vec<Event<Stream>>,
    /// Of this turn, not served yet.
    pub(crate) parcels: VecDeque<(usize, Box<Parcel>)>,
    /// WATCHes of other cores' clients that have come this turn.
    pub(crate) watches: Vec<(Arc<Watcher>, Ticket)>,
    /// The one that is being served, while a script or transaction in it runs.
    pub(crate) open_parcel: Option<OpenParcel>,
    /// Connections whose requests are being handled together.
    pub(crate) crowd: usize,
    /// Stalled connections whose next command is a script: they go on one by one.
    pub(crate) script_conns: VecDeque<ConnId>,
    pub(crate) buffers: Spares<Vec<u8>>,
    questions: HashMap<u32, Asked>,
    next_question: u32,
    next_cron_ns: u64,
    /// When entries may be moved again: [`Core::thin_slice`].
    next_thin_ns: u64,
    pub(crate) stopping: bool,
}

impl Core {
    pub fn new(id: usize, io: World, shard: Shard, mailbox: Mailbox, shared: Arc<Shared>) -> Self {
        let registry = Registry::get();
        let config = shared
            .config
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone();
        let cores = mailbox.cores();
        let spares = crate::spares::limit(config.maxmemory, cores);
        let now = io.now();
        let users = shared.acl.users();
        let mut core = Self {
            id,
            io,
            now,
            shard,
            clients: Clients::default(),
            registry,
            shared,
            config,
            users,
            acting: None,
            stats: Stats::new(registry.entries.len()),
            meter: Meter::default(),
            accounted_ns: 0,
            thresholds: Thresholds::default(),
            lap: false,
            queued: false,
            trackers: Default::default(),
            monitors: Default::default(),
            caller: Ticket::NOBODY,
            mailbox,
            locks: Locks::default(),
            transactions: HashMap::new(),
            next_transaction: 0,
            gathering: Gathering::new(cores),
            own_parts: false,
            blocking: Blocking::default(),
            pubsub: PubSub::default(),
            scripts: Scripts::default(),
            room: Room::default(),
            snapshots: Snapshots::default(),
            ending: false,
            refuses_writes: false,
            log: Default::default(),
            log_waiters: Vec::new(),
            loading: false,
            share: None,
            reload: None,
            counts_before_reload: None,
            early: Vec::new(),
            early_control: Vec::new(),
            early_events: Vec::new(),
            within: Default::default(),
            unlocked: false,
            strict: false,
            outbox: (0..cores).map(|_| None).collect(),
            spare_parcels: Spares::new(spares),
            dirty: Vec::new(),
            over_soft_limit: Vec::new(),
            client_limit: Default::default(),
            going_on: Vec::new(),
            paused: Paused::No,
            paused_until_ns: 0,
            held: Vec::new(),
            half_closed: Vec::new(),
            batch: BatchStore::default(),
            taken: Vec::new(),
            chunks: Vec::new(),
            chunks_left: 0,
            turn: 0,
            events: Vec::new(),
            parcels: VecDeque::new(),
            watches: Vec::new(),
            open_parcel: None,
            crowd: 0,
            script_conns: VecDeque::new(),
            buffers: Spares::new(spares),
            questions: HashMap::new(),
            next_question: 0,
            next_cron_ns: 0,
            next_thin_ns: 0,
            stopping: false,
        };
        core.apply_config();
        core
    }

    pub fn cores(&self) -> usize {
        self.mailbox.cores()
    }
    #[inline]
    pub fn owner(&self, slot: u16) -> u16 {
        self.shared.owners[slot as usize]
    }

    /// CONFIG RESETSTAT, this core's part.
    pub fn reset_stats(&mut self) {
        self.stats = Stats::new(self.registry.entries.len());
        self.shard.keyspace.lazily_freed = 0;
        let dirty = self.shard.stats.dirty;
        self.shard.stats = ringwood_shard::shard::Stats {
            dirty,
            ..Default::default()
        };
        if self.id == 0 {
            self.shared.acl.log().reset_totals();
            self.shared.total_connections.store(0, Ordering::Relaxed);
            self.shared.rejected_connections.store(0, Ordering::Relaxed);
        }
    }

    /// Takes over the newest configuration.
    pub fn apply_config(&mut self) {
        self.config = self
            .shared
            .config
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone();
        self.set_strict();
        self.thresholds = Thresholds::new(&self.config);
        self.shared.scripts.limit_memory(self.config.maxmemory);
        if self.config.maxmemory == 0 {
            self.room = Room::default();
        }
        let spares = crate::spares::limit(self.config.maxmemory, self.cores());
        self.spare_parcels.set_max(spares);
        self.buffers.set_max(spares);
        self.publish_memory();
        self.set_client_limit();
        self.follow_auto_gc();
        let settings = settings(&self.config, &self.shard.settings);
        if *self.shard.settings != settings {
            self.shard.settings = Arc::new(settings);
        }
        self.shard.listening = crate::pubsub::events::wanted(&self.config);
        self.refuses_writes = self.is_write_refused();
        self.limit_tracking();
        // `requirepass` changes the default user.
        self.take_users();
        self.follow_listening();
    }

    /// Takes over the newest users: clients get their user as it is now, or are closed if there is no such user any more or it may no longer
    /// hear what they listen to.
    pub fn take_users(&mut self) {
        let users = self.shared.acl.users();
        if Arc::ptr_eq(&users, &self.users) {
            return;
        }
        self.users = users.clone();
        let open = users.default_user().is_open();
        let mut ended = Vec::new();
        for client in self.clients.iter_mut() {
            match users.get(&client.user.name) {
                Some(user) => {
                    client.authenticated |= open && user.name == crate::acl::DEFAULT;
                    client.act_as(user.clone());
                    let subscriptions = client.subscriptions.as_deref();
                    if subscriptions.is_some_and(|s| !s.are_allowed(user)) {
                        ended.push(client.conn);
                    }
                }
                None => ended.push(client.conn),
            }
        }
        for conn in ended {
            // Replies that are on their way still go out, among them that of who did this.
            self.end(conn);
        }
    }

    /// Runs until stopped.
    pub fn run(mut self) -> std::io::Result<()> {
        while !self.stopping {
            let turn = self.turn();
            if turn.is_err() {
                self.shared.ended.fetch_add(1, Ordering::AcqRel);
                return turn;
            }
        }
        self.take_last_mail();
        self.end_log();
        Ok(())
    }

    /// What others have answered may have a part for this core's file, still on its way.
    fn take_last_mail(&mut self) {
        self.mailbox.release();
        let mut told = false;
        loop {
            if !self.mailbox.retry() && !std::mem::replace(&mut told, true) {
                self.shared.ended.fetch_add(1, Ordering::AcqRel);
            }
            // Looked at first: then all of it is there.
            let all = self.shared.ended.load(Ordering::Acquire) >= self.cores();
            let log = &mut self.shard.log;
            self.mailbox.receive(|_, mail| {
                if let Mail::Log(part) = mail {
                    log.append_group(&part);
                }
            });
            if all {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// One turn of the loop.
    pub fn turn(&mut self) -> std::io::Result<()> {
        let wait = self.wait();
        let mut events = std::mem::take(&mut self.events);
        let result = self.io.turn(wait, &mut events);
        if wait != Wait::Poll {
            self.mailbox.wake_up();
        }
        result?;
        self.now = self.io.now();
        self.shard.now_ms = self.now.unix_ms;
        self.accounted_ns = self.now.mono_ns;
        let began = self.now.mono_ns;
        self.take_turn(events);
        let spent = self.io.mono_ns().saturating_sub(began);
        self.stats.turn_done(spent);
        Ok(())
    }

    /// What is done in a turn, from what has come to what goes out.
    fn take_turn(&mut self, mut events: Vec<Event<Stream>>) {
        self.within.clear();
        if self.loading {
            self.loading = self.shared.aof.loading.load(Ordering::Acquire);
            if !self.loading {
                self.reloaded();
            }
        }
        self.turn += 1;
        self.sync_simulated();
        self.chunks_left = self.chunks.len();
        self.hold_mail();
        events.append(&mut self.early_events);
        self.take_events(&mut events);
        self.events = events;
        self.take_mail();
        for message in std::mem::take(&mut self.early_control) {
            self.control(message);
        }
        while let Some(message) = self.mailbox.next_control() {
            self.control(message);
        }
        self.look_at_memory();
        self.refuses_writes = self.is_write_refused();
        self.run_parts();
        if !self.ending {
            self.serve_all();
        }
        self.send_gathered();
        self.publish_memory();
        if self.commits_aside() {
            self.end_turn_aside();
            self.limit_clients();
            return self.background();
        }
        self.commit_log();
        self.send_parcels();
        if std::mem::take(&mut self.own_parts) {
            // The other cores begin with theirs meanwhile.
            self.wake_receivers();
            self.hold_mail();
            self.run_parts();
            self.commit_log();
            self.send_parcels();
        }
        if !self.shard.attention.tracking.stale.is_empty() {
            // Behind the replies of what was read: those of other cores' clients are on their way.
            self.send_stale();
        }
        self.send_replies();
        self.limit_clients();
        self.background();
    }

    /// Runs what other cores and clients have sent.
    fn serve_all(&mut self) {
        if !self.watches.is_empty() {
            self.serve_watches();
        }
        while let Some((from, parcel)) = self.parcels.pop_front() {
            self.serve_parcel(from, parcel);
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        self.serve(&mut chunks);
        self.chunks = chunks;
        self.continue_stalled();
        self.end_half_closed();
        self.end_overdue_waits();
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        while std::mem::take(&mut self.unlocked) {
            self.run_unlocked();
        }
        if self.owes_copies() {
            self.copy_for_sessions();
        }
        if !self.shard.events.is_empty() {
            // Of keys found expired on their way to another core.
            self.publish_events();
        }
    }

    pub(crate) fn turn_number(&self) -> u64 {
        self.turn
    }
    /// True when nothing is under way: no transaction, no lock, no mail to send.
    pub fn is_at_rest(&self) -> bool {
        self.locks.is_empty()
            && self.transactions.is_empty()
            && self.outbox.iter().all(Option::is_none)
    }

    /// How long the next turn may wait for something to happen.
    fn wait(&mut self) -> Wait {
        // Replies of what is not on disk wait for that.
        let held = self.log.flights.are_under_way();
        let backlog = self.mailbox.retry();
        self.wake_receivers();
        let busy = !self.going_on.is_empty()
            || !self.shard.attention.touched.is_empty() && !self.locks.held_whole()
            || !self.shard.attention.tracking.stale.is_empty()
            || !self.early.is_empty()
            || !self.early_control.is_empty()
            || !self.parcels.is_empty()
            || !self.early_events.is_empty()
            || !self.dirty.is_empty() && !held
            || self.log.flights.have_to_poll()
            || self.unlocked
            || self.room.busy
            || self.is_leaving()
            || self.has_to_load()
            || self.locks.awaits_frontier()
            || backlog;
        if busy || self.io.ready() || !self.mailbox.fall_asleep() {
            return Wait::Poll;
        }
        let mut until_cron =
            Duration::from_nanos(self.next_cron_ns.saturating_sub(self.now.mono_ns));
        if self.paused != Paused::No {
            let left = self.paused_until_ns.saturating_sub(self.now.mono_ns);
            until_cron = until_cron.min(Duration::from_nanos(left));
        }
        if let Some(at) = self.blocking.next_timer() {
            let left = at.saturating_sub(self.now.mono_ns);
            until_cron = until_cron.min(Duration::from_nanos(left));
        }
        let until_expiry = self.shard.next_expiry().map_or(Duration::MAX, |at| {
            Duration::from_millis(u64::try_from(at - self.now.unix_ms).unwrap_or(0))
        });
        let freeing = if self.shard.keyspace.free_pending() > 0 {
            Duration::ZERO
        } else {
            Duration::MAX
        };
        if self.config.maxmemory > 0 && ringwood_shard::memory::aside() != 0 {
            until_cron = until_cron.min(WATCH_ASIDE);
        }
        let until_snapshot = self.until_snapshot();
        let next = self.log.flights.next(self.now.mono_ns);
        let until_written = next.map_or(Duration::MAX, Duration::from_nanos);
        Wait::AtMost(
            until_cron
                .min(until_written)
                .min(until_expiry)
                .min(freeing)
                .min(until_snapshot)
                .min(self.until_thinning()),
        )
    }

    pub(crate) fn take_events(&mut self, events: &mut Vec<Event<Stream>>) {
        for event in events.drain(..) {
            if self.waits_for_script(&event) {
                self.early_events.push(event);
                continue;
            }
            match event {
                Event::Received { conn, buf } => self.received(conn, buf),
                Event::Filled { conn, buf } => {
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.receiving = false;
                        client.receiving_max = 0;
                        client.query = buf;
                        self.queue_query(conn);
                    }
                }
                Event::Sent { conn, buf } => {
                    self.spare_buffer(buf);
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.sending = false;
                        client.in_flight = 0;
                        if self.client_limit.is_on() {
                            self.client_limit.note(conn);
                        }
                        if client.life == Life::Open && client.out.is_empty() {
                            continue;
                        }
                        self.mark_dirty(conn);
                    }
                }
                Event::Eof { conn } => {
                    if let Some(client) = self.clients.get_mut(conn) {
                        client.half_closed = true;
                        self.half_closed.push(conn);
                    }
                }
                Event::Closed { conn, reason } => self.closed(conn, reason),
                Event::Accepted {
                    listener,
                    stream,
                    peer,
                    local,
                } => self.accepted(listener, stream, peer, local),
                Event::AcceptFailed { errno, .. } => {
                    let reason = std::io::Error::from_raw_os_error(errno);
                    tracing::warn!("Accepting client connection: {reason}");
                }
                Event::Signal { number } => crate::signals::received(self, number),
            }
        }
    }

    fn received(&mut self, conn: ConnId, buf: crate::io::RecvBuf) {
        self.stats.bytes_in += buf.len() as u64;
        self.stats.reads += 1;
        if self.client_limit.is_on() {
            self.client_limit.note(conn);
        }
        let held = match self.clients.get_mut(conn) {
            None => {
                self.io.release(buf);
                return;
            }
            Some(client) => {
                client.bytes_in += buf.len() as u64;
                if client.life != Life::Open {
                    self.io.release(buf);
                    return;
                }
                if take_input(&client.debug, &buf) {
                    self.io.release(buf);
                    return;
                }
                // Only who has had something in this turn can have a chunk, unless some have been left over. Else the chunks of all connections
                // would be looked through for each.
                let had = std::mem::replace(&mut client.heard_turn, self.turn) == self.turn;
                let count = self.chunks.len();
                let count = if had {
                    count
                } else {
                    count.min(self.chunks_left)
                };
                self.chunks[..count].iter().any(|c| c.conn == conn)
                    || client.stalled
                    || client.receiving
                    || client.serving
                    || !client.query.is_empty()
            }
        };
        if held {
            // A second piece of the same turn comes behind the first.
            self.query_behind(conn, buf);
            return;
        }
        self.chunks.push(Chunk {
            conn,
            data: Data::Received(buf),
        });
    }

    /// Appends to the query buffer, and puts the connection up for handling.
    fn query_behind(&mut self, conn: ConnId, buf: crate::io::RecvBuf) {
        let chunk = self.chunks.iter_mut().find(|c| c.conn == conn);
        if let Some(chunk) = chunk {
            // One chunk a connection and turn: the pieces become one.
            let mut bytes = match std::mem::replace(&mut chunk.data, Data::Query(Vec::new())) {
                Data::Query(bytes) => bytes,
                Data::Received(first) => {
                    let bytes = first.to_vec();
                    self.io.release(first);
                    bytes
                }
            };
            bytes.extend_from_slice(&buf);
            chunk.data = Data::Query(bytes);
        } else if let Some(client) = self.clients.get_mut(conn) {
            client.query.extend_from_slice(&buf);
            if client.query.len() as u64 > self.config.client_query_buffer_limit {
                self.query_too_long(conn);
            } else {
                if client.stalled && !client.unread && client.query.len() >= UNREAD_MIN {
                    client.unread = true;
                    self.io.pause(conn);
                }
                self.queue_query(conn);
            }
        }
        self.io.release(buf);
    }

    /// Puts the connection's query buffer up for handling in this turn, unless it waits for something.
    pub(crate) fn queue_query(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.stalled || client.receiving || client.serving || client.query.is_empty() {
            return;
        }
        client.heard_turn = self.turn;
        let data = Data::Query(std::mem::take(&mut client.query));
        self.chunks.push(Chunk { conn, data });
    }

    /// A stalled client's outstanding replies are there: its requests go on.
    pub(crate) fn go_on(&mut self, conn: ConnId) {
        self.going_on.push(conn);
    }

    fn continue_stalled(&mut self) {
        if self.going_on.is_empty() {
            return;
        }
        // One round; who stalls again goes on in the next turn.
        for conn in std::mem::take(&mut self.going_on) {
            if let Some(client) = self.clients.get_mut(conn)
                && client.stalled
                && !client.is_waiting()
            {
                if client.script_next {
                    self.script_conns.push_back(conn);
                    continue;
                }
                client.stalled = false;
                self.queue_query(conn);
            }
        }
        let mut chunks = std::mem::take(&mut self.chunks);
        self.serve(&mut chunks);
        while let Some(conn) = self.script_conns.pop_front() {
            self.begin_script_of(conn);
            chunks.append(&mut self.chunks);
            self.serve(&mut chunks);
        }
        self.chunks = chunks;
    }

    /// Puts up the requests of a connection whose next command is a script.
    pub(crate) fn begin_script_of(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && std::mem::take(&mut client.script_next)
            && client.stalled
        {
            client.stalled = false;
            self.queue_query(conn);
        }
    }

    /// Clients that send no more end as soon as the requests that they sent have been handled.
    fn end_half_closed(&mut self) {
        if self.half_closed.is_empty() {
            return;
        }
        let mut conns = std::mem::take(&mut self.half_closed);
        conns.retain(|&conn| {
            // The number may be another client's by now.
            let client = self.clients.get(conn).filter(|c| c.half_closed);
            if client.is_some_and(|c| c.waiter().is_some()) {
                // As Redis: who is gone waits for nothing, and what it sent behind is dropped.
                self.close(conn);
                return false;
            }
            let stalled = client.is_some_and(|c| c.stalled && c.life == Life::Open);
            if client.is_some() && !stalled {
                self.end(conn);
            }
            stalled
        });
        self.half_closed = conns;
    }

    /// Has another core do something for a transaction that holds it, and waits for the answer. It has nothing else to
    /// do than to answer: nothing that it does waits for us.
    /// `None`: the server ends, and that core may have ended.
    pub(crate) fn under_now(
        &mut self,
        core: usize,
        transaction: u32,
        under: Under,
    ) -> Option<UnderDone> {
        self.commit_log();
        self.send_under(core, transaction, under);
        loop {
            self.mailbox.retry();
            self.wake_receivers_now();
            let (mut answer, early) = (None, &mut self.early);
            self.mailbox.receive(|from, mail| match mail {
                Mail::UnderDone {
                    transaction: of,
                    done,
                } if of == transaction => answer = Some(done),
                other => early.push((from, other)),
            });
            if answer.is_some() || self.shared.stopping.load(Ordering::Acquire) {
                self.hold_mail();
                return answer;
            }
            self.io.yield_now();
        }
    }

    fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.early);
        self.mailbox.receive(|from, m| mail.push((from, m)));
        // They run later. First: other mail may run a script, which looks at what waits.
        mail.retain_mut(|(from, m)| match m {
            Mail::Commands(parcel) => {
                self.parcels.push_back((*from, std::mem::take(parcel)));
                false
            }
            _ => true,
        });
        for (from, m) in mail {
            match m {
                Mail::Commands(_) => panic!("taken out above"),
                Mail::Replies(parcel) => {
                    self.log.answered.by_other = self.commits_aside();
                    self.take_replies(parcel);
                    self.log.answered.by_other = false;
                }
                Mail::Late(ticket, reply) => {
                    self.log.answered.by_other = self.commits_aside();
                    self.answer_with(ticket, &reply);
                    self.log.answered.by_other = false;
                }
                Mail::SharesDone {
                    transaction,
                    number,
                    parcel,
                } => self.shares_done(from, transaction, number, parcel),
                Mail::PartDone {
                    transaction,
                    number,
                    reply,
                } => self.part_done(from, transaction, number, reply),
                Mail::Lent {
                    transaction,
                    number,
                    loan,
                    order,
                } => self.lent(from, transaction, number, loan, order),
                Mail::GiveBack {
                    order,
                    loan,
                    waiter,
                } => self.given_back(order, loan, waiter),
                Mail::Forget(waiter) => self.dequeue(&waiter),
                Mail::Published(number) => self.published(number),
                Mail::InVain(waiter) => self.serve_behind(&waiter),
                Mail::Wide(script) => self.widen_script(*script),
                Mail::Watch(watcher, ticket) => self.watches.push((watcher, ticket)),
                Mail::Tracking(message) => self.take_tracking(message),
                Mail::Monitor(line) => self.take_monitor_line(&line),
                Mail::Record(caller, record) => self.take_record(caller, *record),
                Mail::Unwatch(watcher) => self.unwatch_here(&watcher),
                Mail::Log(part) => self.shard.log.append_group(&part),
                Mail::Under {
                    transaction,
                    now_ms,
                    under,
                } => self.under(from, transaction, now_ms, under),
                Mail::UnderDone { transaction, done } => self.under_done(from, transaction, done),
            }
        }
    }

    pub(crate) fn control(&mut self, message: Control) {
        match message {
            Control::Adopt {
                stream,
                peer,
                local,
            } => self.adopt(stream, peer, local, false),
            Control::Ask {
                from,
                question,
                ask,
            } => {
                let answer = ask(self);
                let id = self.id;
                self.mailbox.send_control(
                    from,
                    Control::Answer {
                        from: id,
                        question,
                        answer,
                    },
                );
            }
            Control::Answer {
                from,
                question,
                answer,
            } => self.answered(from, question, answer),
            Control::Slow => self.refuse_waiting(),
            // Done in every turn.
            Control::MakeRoom => {}
            Control::Synced(synced) => self.synced(synced),
            Control::Aside(done) => self.end_aside(*done),
            Control::Debug(message) => self.debug_message(*message),
            Control::Stop => self.stopping = true,
        }
    }

    /// Has every core answer a question, this one included, and concludes when all have.
    pub fn ask_all(&mut self, ticket: Ticket, ask: Question, conclude: Conclude) {
        let question = self.next_question;
        self.next_question = self.next_question.wrapping_add(1);
        let cores = self.cores();
        let asked = Asked {
            ticket,
            answers: (0..cores).map(|_| None).collect(),
            left: cores,
            conclude,
        };
        self.questions.insert(question, asked);
        for core in (0..cores).filter(|&c| c != self.id) {
            let ask = ask.clone();
            self.mailbox.send_control(
                core,
                Control::Ask {
                    from: self.id,
                    question,
                    ask,
                },
            );
        }
        // By mail also here: the conclusion may not come while the asking command is still in the client's hands.
        let answer = ask(self);
        let id = self.id;
        self.mailbox.send_control(
            id,
            Control::Answer {
                from: id,
                question,
                answer,
            },
        );
    }
    fn answered(&mut self, from: usize, question: u32, answer: Vec<u8>) {
        let asked = self
            .questions
            .get_mut(&question)
            .expect("an answer to a question under way");
        asked.answers[from] = Some(answer);
        asked.left -= 1;
        if asked.left == 0 {
            let asked = self.questions.remove(&question).expect("looked at above");
            let answers = asked.answers.into_iter().flatten().collect();
            (asked.conclude)(self, asked.ticket, answers);
        }
    }

    // ---- connections ----

    fn accepted(&mut self, listener: ListenerId, stream: Stream, peer: String, local: String) {
        let shared = self.shared.clone();
        shared.total_connections.fetch_add(1, Ordering::Relaxed);
        let total: usize = shared
            .clients
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .sum();
        let own_port = listener == SHARD_LISTENER;
        // Evenly, whatever few there are: to the core with the fewest.
        let core = if own_port {
            self.id
        } else {
            let load = |c: usize| shared.clients[c].load(Ordering::Relaxed);
            (0..self.cores())
                .min_by_key(|&c| load(c))
                .expect("there is a core")
        };
        let refusal = if total >= self.config.maxclients as usize {
            Some("-ERR max number of clients reached\r\n")
        } else if self.config.protected_mode
            && self.users.default_user().nopass
            && !crate::client::is_local(&peer)
        {
            Some(DENIED)
        } else {
            None
        };
        if let Some(text) = refusal {
            shared.rejected_connections.fetch_add(1, Ordering::Relaxed);
            let conn = self.io.adopt(stream);
            self.io.send(conn, text.as_bytes().to_vec());
            self.io.close(conn, true);
            return;
        }
        shared.clients[core].fetch_add(1, Ordering::Relaxed);
        if core == self.id {
            self.adopt(stream, peer, local, own_port);
        } else {
            self.mailbox.send_control(
                core,
                Control::Adopt {
                    stream,
                    peer,
                    local,
                },
            );
        }
    }

    fn adopt(&mut self, stream: Stream, peer: String, local: String, cluster: bool) {
        let fd = stream.as_fd().as_raw_fd();
        let conn = self.io.adopt(stream);
        if self.config.tcp_keepalive > 0 {
            self.io.keepalive(conn, self.config.tcp_keepalive);
        }
        let id = self.shared.next_client.fetch_add(1, Ordering::Relaxed);
        let user = self.users.default_user().clone();
        let mut client = Client::new(id, conn, peer, local, user, self.now.mono_ns);
        client.fd = fd;
        client.cluster = cluster;
        tracing::debug!("Accepted {}", client.peer);
        self.clients.insert(client);
        if self.client_limit.is_on() {
            self.client_limit.note(conn);
        }
    }

    /// The connection that brings this core's part of the log.
    pub fn adopt_loader(&mut self, stream: Stream) {
        self.loading = true;
        let known: Vec<ConnId> = self.clients.iter().map(|c| c.conn).collect();
        self.adopt(stream, String::new(), String::new(), false);
        for client in self.clients.iter_mut().filter(|c| !known.contains(&c.conn)) {
            (client.loads, client.restricted, client.authenticated) = (true, false, true);
        }
        self.shared.clients[self.id].fetch_add(1, Ordering::Relaxed);
    }
    /// This core has read its part of the log. With the last, all begin to write.
    fn loader_ended(&mut self) {
        if self.shared.aof.readers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        if self.shared.aof.reloading.load(Ordering::Acquire) {
            return self.end_reload();
        }
        let ask = |core: &mut Core| {
            core.reset_stats();
            core.start_logging();
            Vec::new()
        };
        let conclude = |core: &mut Core, _: Ticket, _: Vec<Vec<u8>>| {
            let failed = crate::aof::replay::FAILED.load(Ordering::Relaxed);
            if failed > 0 {
                tracing::warn!("{failed} commands of the append only file answered with an error");
            }
            core.shared.aof.loading.store(false, Ordering::Release);
        };
        self.ask_all(Ticket::NOBODY, Arc::new(ask), Box::new(conclude));
    }

    /// No more requests from this client; it closes when its replies have been sent.
    pub(crate) fn end(&mut self, conn: ConnId) {
        self.abandon_wait(conn);
        self.drop_subscriptions(conn);
        self.end_monitor(conn);
        self.end_tracking(conn);
        if let Some(client) = self.clients.get_mut(conn)
            && client.life == Life::Open
        {
            // A session hears of it by this, and ends.
            client.debug.input = None;
            client.life = Life::Ending;
            self.mark_dirty(conn);
        }
    }
    /// Closes a connection at once.
    pub fn close(&mut self, conn: ConnId) {
        self.abandon_wait(conn);
        self.drop_subscriptions(conn);
        self.end_monitor(conn);
        self.end_tracking(conn);
        if let Some(client) = self.clients.get_mut(conn)
            && client.life != Life::Closed
        {
            client.debug.input = None;
            client.life = Life::Closed;
            self.io.close(conn, false);
        }
    }

    fn closed(&mut self, conn: ConnId, reason: CloseReason) {
        self.abandon_wait(conn);
        self.unwatch(conn);
        self.drop_subscriptions(conn);
        self.end_monitor(conn);
        self.end_tracking(conn);
        if let Some(mut client) = self.clients.remove(conn) {
            self.client_limit.forget(&mut client);
            if client.loads {
                self.loader_ended();
            }
            self.within.ended(conn, client.serving);
            self.shared.clients[self.id].fetch_sub(1, Ordering::Relaxed);
            self.chunks.retain_mut(|chunk| {
                if chunk.conn != conn {
                    return true;
                }
                if let Data::Received(buf) =
                    std::mem::replace(&mut chunk.data, Data::Query(Vec::new()))
                {
                    self.io.release(buf);
                }
                false
            });
            tracing::debug!("Client closed connection {} ({reason:?})", client.peer);
        }
    }

    #[inline]
    pub(crate) fn mark_dirty(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.get_mut(conn)
            && !client.dirty
        {
            client.dirty = true;
            self.dirty.push(conn);
        }
    }

    pub(crate) fn spare_buffer(&mut self, buf: Vec<u8>) {
        if buf.capacity() <= SPARE_CAPACITY {
            self.buffers.push(buf);
        }
    }

    pub(crate) fn send_parcels(&mut self) {
        for core in 0..self.outbox.len() {
            if let Some(parcel) = self.outbox[core].take() {
                self.stats.forwarded += parcel.items.len() as u64;
                self.mailbox.send(core, Mail::Commands(parcel));
            }
        }
        self.wake_receivers();
    }

    /// Wakes the sleeping cores that got something.
    pub(crate) fn wake_receivers(&mut self) {
        let Core { mailbox, io, .. } = self;
        mailbox.to_wake(|core| io.wake(core));
    }
    /// The same for one that waits for them within this turn. Wakes of earlier in the turn may still be queued, too.
    pub(crate) fn wake_receivers_now(&mut self) {
        self.wake_receivers();
        self.io.push_wakes();
    }

    pub(crate) fn send_replies(&mut self) {
        let waiting = self.log.flights.take_landed();
        let waiting = waiting.into_iter().map(|waits| waits.conn);
        for conn in waiting.chain(std::mem::take(&mut self.log.answered.conns)) {
            self.mark_dirty(conn);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        if self.client_limit.is_on() {
            self.client_limit.note_all(&dirty);
        }
        for conn in dirty.drain(..) {
            self.send_reply(conn, usize::MAX);
        }
        self.dirty = dirty;
    }

    /// Sends a client the first `max` bytes of what there is for it.
    pub(crate) fn send_reply(&mut self, conn: ConnId, max: usize) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if max == usize::MAX {
            client.dirty = false;
            client.push_late();
        }
        if crate::output_limit::of(client, &self.config).is_some() && self.check_output(conn) {
            return;
        }
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        if client.sending || client.life == Life::Closed {
            return;
        }
        if !client.out.is_empty() {
            // Its next requests get a spare buffer for their replies.
            let mut buf = std::mem::take(&mut client.out);
            if max < buf.len() {
                client.out = buf.split_off(max);
            }
            client.sending = true;
            client.in_flight = buf.len();
            client.bytes_out += buf.len() as u64;
            self.stats.bytes_out += buf.len() as u64;
            self.stats.writes += 1;
            self.io.send(conn, buf);
        } else if client.life == Life::Ending && !client.is_waiting() {
            client.life = Life::Closed;
            self.io.close(conn, true);
        } else if client.out.capacity() > 0 {
            // An idle client keeps no buffer.
            let buf = std::mem::take(&mut client.out);
            self.spare_buffer(buf);
        }
    }

    fn background(&mut self) {
        if self.ending || self.locks.held_whole() {
            // What expires now is in the last snapshot, or may have been seen by a transaction that is not over.
        } else if self.paused == Paused::No {
            let timed = self.thresholds.watches_latency();
            let began = timed.then(|| self.io.mono_ns());
            self.shard.expire_some(200);
            if let Some(began) = began {
                self.note_latency("expire-cycle", began);
            }
            if !self.shard.events.is_empty() {
                self.publish_events();
            }
        } else if self.now.mono_ns >= self.paused_until_ns {
            self.unpause();
        }
        self.look_for_flush();
        if !self.snapshot_waits() {
            self.shard.keyspace.free_some(500);
        }
        self.snapshot_slice();
        self.thin_slice();
        while let Some(untouched) = self.shard.keyspace.take_untouched() {
            self.shared.touching.ask(untouched);
        }
        self.leave(1000);
        if self.share.is_some() {
            self.load_slice();
        }
        if self.now.mono_ns >= self.next_cron_ns {
            self.next_cron_ns = self.now.mono_ns + CRON.as_nanos() as u64;
            self.cron();
        }
        self.publish_memory();
    }

    /// Moves entries out of pages that hold little, with a quarter of this core's time at most.
    fn thin_slice(&mut self) {
        if !self.shard.keyspace.is_thinning() || self.until_thinning() > Duration::ZERO {
            return;
        }
        let begun = self.io.mono_ns();
        loop {
            let more = self.shard.keyspace.thin_some(THIN_STEP);
            let spent = self.io.mono_ns().saturating_sub(begun);
            if !more || spent >= THIN_SLICE_NS || self.io.ready() {
                self.next_thin_ns = begun + 4 * spent;
                return;
            }
        }
    }
    fn until_thinning(&self) -> Duration {
        match self.shard.keyspace.is_thinning() {
            true => Duration::from_nanos(self.next_thin_ns.saturating_sub(self.io.mono_ns())),
            false => Duration::MAX,
        }
    }

    /// Bytes of memory that this core holds.
    pub fn memory_used(&self) -> i64 {
        ringwood_shard::memory::thread_used() as i64 + self.shard.heap_used() as i64
    }

    fn cron(&mut self) {
        if self.shared.cron_pauses.load(Ordering::Acquire) {
            return;
        }
        let sample = Sample {
            commands: self.stats.total_calls(),
            bytes_in: self.stats.bytes_in,
            bytes_out: self.stats.bytes_out,
            turns: self.stats.turns,
            turn_ns: self.stats.turn_ns,
        };
        self.meter.take(self.now.mono_ns, sample);
        self.shared
            .memory
            .tell(self.id, self.memory_used(), self.now.unix_ms);
        self.buffers.decay();
        self.spare_parcels.decay();
        self.memory_cron();
        self.shard.keyspace.look_for_waste();
        if let Some(links) = self.shared.helpers.links.get().filter(|_| self.id == 0) {
            links.close_idle();
        }
        self.save_cron();
        self.log_cron();
        self.look_at_log_waiters();
        self.check_soft_limits();
        self.client_limit_cron();
        self.limit_tracking();
        let timeout_ns = self.config.timeout as u64 * 1_000_000_000;
        if timeout_ns > 0 {
            let now = self.now.mono_ns;
            let idle: Vec<ConnId> = self
                .clients
                .iter()
                .filter(|c| now.saturating_sub(c.last_active) > timeout_ns && !c.is_waiting())
                .filter(|c| !c.loads)
                // Who listens need not speak.
                .filter(|c| c.subscriptions.is_none() && !self.monitors.has(c.id))
                .map(|c| c.conn)
                .collect();
            for conn in idle {
                tracing::debug!("Closing idle client");
                self.close(conn);
            }
        }
    }

    /// Every core is told to stop, this one included.
    pub fn stop_all(&mut self) {
        if !self.shared.stopping.swap(true, Ordering::AcqRel) {
            crate::process::supervisor::tell("STOPPING=1\n");
        }
        self.cancel_snapshot();
        for core in (0..self.cores()).filter(|&c| c != self.id) {
            self.mailbox.send_control(core, Control::Stop);
        }
        self.wake_receivers();
        self.stopping = true;
    }

    pub(crate) fn moved(&self, conn: ConnId, slot: u16, owner: u16) -> CommandError {
        let local = self.clients.get(conn).map_or("", |c| &c.local);
        let address = crate::cluster::address(&self.config, local, owner as usize);
        CommandError::Text(format!("MOVED {slot} {address}").into())
    }
}

/// What `protected-mode` tells a client from elsewhere.
const DENIED: &str = "-DENIED Protected mode is on and the default user has no password, so only connections from the \
    loopback interface are accepted. To connect from other hosts, do one of these: 1) set a password (requirepass); \
    2) 'CONFIG SET protected-mode no' from this host, with CONFIG REWRITE to keep it; 3) 'protected-mode no' in the \
    configuration file or '--protected-mode no' on the command line. Without a password, see to it that nobody else can \
    reach the port.\r\n";

/// The listener of a core's own port; all others have lower numbers.
pub const SHARD_LISTENER: ListenerId = ListenerId(u32::MAX);

/// What of the configuration concerns the shard's data.
pub fn settings(config: &Config, old: &Settings) -> Settings {
    use crate::config::enums::MaxmemoryPolicy;
    Settings {
        databases: config.databases as usize,
        string_len_max: config.proto_max_bulk_len as usize,
        lfu: matches!(
            config.maxmemory_policy,
            MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu
        ),
        lfu_log_factor: config.lfu_log_factor,
        eviction: crate::maxmemory::rule(config),
        lfu_decay_minutes: config.lfu_decay_time,
        active_expire: old.active_expire,
        skip_checksum: old.skip_checksum,
        hash_listpack_entries_max: config.hash_max_listpack_entries as usize,
        hash_listpack_value_max: config.hash_max_listpack_value as usize,
        set_intset_entries_max: config.set_max_intset_entries as usize,
        set_listpack_entries_max: config.set_max_listpack_entries as usize,
        set_listpack_value_max: config.set_max_listpack_value as usize,
        zset_listpack_entries_max: config.zset_max_listpack_entries as usize,
        zset_listpack_value_max: config.zset_max_listpack_value as usize,
        list_listpack_size_max: config.list_max_listpack_size as i64,
        list_compress_depth: config.list_compress_depth as usize,
        stream_node_bytes_max: config.stream_node_max_bytes as usize,
        stream_node_entries_max: config.stream_node_max_entries as usize,
        hll_sparse_bytes_max: config.hll_sparse_max_bytes as usize,
        rdb_compression: config.rdbcompression,
        aside_elements_min: config.aside_elements_min as usize,
    }
}
