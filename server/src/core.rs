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

mod background;
mod clients;
mod connections;
mod mail;
mod receiving;
mod sending;
mod settings;

use crate::acl::{User, Users};
use crate::blocking::Blocking;
use crate::config::Config;
use crate::gather::Gathering;
use crate::io::{ConnId, Event, Io, Now, Wait, World};
use crate::mailbox::{Mail, Mailbox, Parcel, Ticket};
use crate::maxmemory::Room;
use crate::multi::Watcher;
use crate::observe::Thresholds;
use crate::persist::snapshot::Snapshots;
use crate::pubsub::PubSub;
use crate::registry::Registry;
use crate::request::{BatchStore, Chunk, OpenParcel, Paused, ServeState};
use crate::scripts::Scripts;
use crate::spares::Spares;
use crate::stats::{Meter, Stats};
use crate::transaction::{Coordinated, Waiting};
use ringwood_shard::locks::Locks;
use ringwood_shard::shard::Shard;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use crate::shared::Shared;
pub use clients::Clients;
pub use connections::SHARD_LISTENER;
use mail::Asked;
pub use mail::{Conclude, Control, Question};
pub use settings::settings;

pub type Stream = <World as Io>::Stream;

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
    /// The command that just came was refused, or queued by MULTI: its time does not count.
    pub(crate) uncounted: bool,
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
    /// When it may be said again that a browser was here.
    pub(crate) next_browser_warning_ns: u64,
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
            uncounted: false,
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
            next_browser_warning_ns: 0,
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
            self.shared.memory.reset_time_over_limit();
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
        self.end_forbidden_waits();
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
            self.mailbox.receive(|_, mail| match mail {
                Mail::Log(part) => log.append_group(&part),
                Mail::LogMark(whole) => log.mark_group(whole),
                _ => {}
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
        let held = self.log.flights.are_under_way() || self.log.is_turning();
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
        let keyspace = &self.shard.keyspace;
        let freeing = if keyspace.free_pending() > 0 || keyspace.has_surplus() {
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

    // ---- connections ----

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
}
