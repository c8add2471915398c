//! Long commands, done beside the cores.
//!
//! What a command over a million members takes would make every other client of its core wait. So a command that finds its work long
//! ([`ringwood_shard::ctx::Ctx::is_long`]) changes nothing and asks to be run *aside*: its slots are locked already, or it waits for
//! them as a command of one core does; then all its keys' entries are taken out, its own core's like those that others have lent, and
//! go with it to a thread that is no core's. There the command's ordinary function runs on a shard that has nothing but these entries.
//! What comes back is put where it belongs, and for everyone else the command happens at that moment: then it is logged, then its
//! keys' watchers and waiters hear of it. Meanwhile whoever names one of the slots waits, and everybody else is served.
//!
//! ```text
//! Waiting::Single ─┐
//! run_borrowed ────┴ Wants::Aside ─ begin_aside ─ thread: put in, run, take out ─ Control::Aside ─ end_aside: log, reply, give back
//! ```
//!
//! Data is moved and never shared: an entry is at one place at every moment. Where commands may not wait (in transactions and scripts,
//! for blocked clients) the same function does all its work at once. In the simulation, which has no threads, the work is done at
//! once too, but its result comes as a message like any other.
//!
//! Threads are started for one command each by a thread that is bound to no CPU, and no more at a time than there are cores: they
//! compete with the cores for the CPUs. MIGRATE's, which wait for another server, are counted apart, and may be more.

use crate::core::{Control, Core};
use crate::mailbox::{Ticket, Words};
use crate::migrate::Links;
use crate::registry::Entry;
use crate::request::{DataCall, run};
use crate::scripts::debug::Post;
use crate::stats::Stats;
use crate::transaction::{Borrowed, Kind, Loan, bring_in, take_out};
use crossbeam_channel::{Receiver, Sender};
use ringwood_protocol::reply::Version;
use ringwood_shard::commands::keys::migrate::Transfer;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::locks::Order;
use ringwood_shard::log::Record;
use ringwood_shard::memory::Spent;
use ringwood_shard::shard::{KeyEvent, Settings, Shard};
use ringwood_shard::slot_set::SlotSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A command and all that it needs.
pub struct Job {
    post: Post,
    home: usize,
    transaction: u32,
    entry: &'static Entry,
    words: Words,
    db: usize,
    version: Version,
    caller: Ticket,
    borrowed: Borrowed,
    /// The keys of the core itself.
    own: Loan,
    surroundings: Surroundings,
}

/// What the command's shard has in common with the core's.
struct Surroundings {
    settings: Arc<Settings>,
    hasher: KeyHasher,
    now_ms: i64,
    seed: u64,
    listening: bool,
    logging: bool,
    loading: bool,
    owners: Arc<[u16]>,
    tracking: bool,
    transfer: Option<Arc<dyn Transfer>>,
    commands: usize,
}

/// What became of it.
pub struct Done {
    transaction: u32,
    borrowed: Borrowed,
    own: Loan,
    words: Words,
    reply: Vec<u8>,
    events: Vec<KeyEvent>,
    records: Vec<Record>,
    stats: ringwood_shard::shard::Stats,
    ns: u64,
    /// What the thread has allocated more than freed. None: it was the core's own.
    memory: Option<Spent>,
}

/// A command that is away.
pub(crate) struct Away {
    entry: &'static Entry,
    number: u64,
}

/// The way to the thread that starts threads.
#[derive(Default)]
pub struct Helpers {
    jobs: OnceLock<Sender<Box<Job>>>,
    /// The same for commands that wait for other servers.
    transfers: OnceLock<Sender<Box<Job>>>,
    /// The connections to other servers.
    pub links: OnceLock<Arc<Links>>,
}

/// So many commands wait for other servers at a time.
const TRANSFERS: usize = 64;

impl Helpers {
    /// Called by a thread that is bound to no CPU; those that are started are not bound either.
    pub fn start(&self, most: usize) -> std::io::Result<()> {
        let begin = |name: &str, most| {
            let (sender, jobs) = crossbeam_channel::unbounded();
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(move || start_each(&jobs, most))?;
            Ok::<_, std::io::Error>(sender)
        };
        // Started once.
        let _ = self.jobs.set(begin("long-commands", most)?);
        let _ = self.transfers.set(begin("transfers", TRANSFERS)?);
        let _ = self.links.set(Arc::default());
        Ok(())
    }
    /// The way to other servers. None in the simulation.
    pub fn transfer(&self) -> Option<Arc<dyn Transfer>> {
        self.links.get().map(|links| links.clone() as _)
    }
}

fn start_each(jobs: &Receiver<Box<Job>>, most: usize) {
    let (give_back, places) = crossbeam_channel::bounded(most);
    for _ in 0..most {
        let _ = give_back.send(());
    }
    for job in jobs {
        // A thread for each: what it has allocated can then be had by the cores once they have freed it.
        let (Ok(()), give_back) = (places.recv(), give_back.clone()) else {
            return;
        };
        let slot = Arc::new(std::sync::Mutex::new(Some(job)));
        let taken = slot.clone();
        let take = move |slot: &std::sync::Mutex<Option<Box<Job>>>| {
            if let Some(job) = crate::commands::lock(slot).take() {
                serve(*job);
            }
            let _ = give_back.send(());
        };
        let here = take.clone();
        let thread = std::thread::Builder::new().name("long-command".into());
        if let Err(error) = thread.spawn(move || take(&taken)) {
            tracing::warn!("Cannot start a thread for a long command: {error}");
            here(&slot);
        }
    }
}

fn serve(job: Job) {
    let begun = ringwood_shard::memory::thread_used();
    ringwood_shard::memory::begin_aside();
    let (post, home) = (job.post.clone(), job.home);
    let mut done = Box::new(work(job));
    done.memory = Some(ringwood_shard::memory::end_aside(begun));
    post.control(home, Control::Aside(done));
}

/// Does the work.
fn work(job: Job) -> Done {
    let Job {
        transaction,
        entry,
        words,
        db,
        version,
        caller,
        mut borrowed,
        mut own,
        surroundings: from,
        ..
    } = job;
    let began = Instant::now();
    crate::crash::note_command(entry, caller.client);
    let mut shard = Shard::new(from.settings, from.hasher, from.now_ms, from.seed);
    // All keys are others', who hear at the end what was done to them.
    shard.owned = SlotSet::from_slots([]);
    (shard.listening, shard.loading) = (from.listening, from.loading);
    (shard.logging, shard.log.owners) = (from.logging, from.owners);
    shard.attention.tracking.on = from.tracking;
    shard.transfer = from.transfer;
    for loan in borrowed.loans_mut().chain([&mut own]) {
        // Commands that may ask for more ask what they reach.
        bring_in(&mut shard, loan, entry.widens());
    }
    let mut stats = Stats::new(from.commands);
    if shard.logging {
        shard.log.begin();
    }
    let call = DataCall {
        entry,
        db,
        version,
        keys: &[],
        serving: false,
        aside: false,
        caller,
    };
    let mut reply = Vec::new();
    let args = words.slices();
    let wants = run(&mut shard, &mut stats, &call, &args, &mut reply);
    assert!(wants.is_none(), "{} wants more, done aside", entry.name);
    drop(args);
    for loan in borrowed.loans_mut().chain([&mut own]) {
        take_out(&mut shard, loan, caller.client);
    }
    Done {
        transaction,
        borrowed,
        own,
        words,
        reply,
        events: std::mem::take(&mut shard.events),
        records: shard.log.end(),
        stats: shard.stats,
        ns: u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
        memory: None,
    }
}

/// A command for which all locks are held.
pub(crate) struct Long {
    pub ticket: Ticket,
    pub entry: &'static Entry,
    pub words: Words,
    pub db: usize,
    pub version: Version,
    /// The transaction's number; 0 for a command of this core alone.
    pub number: u64,
    pub borrowed: Borrowed,
}

impl Core {
    /// Has a command done by a thread. What it has borrowed is not in the keyspace.
    pub(crate) fn begin_aside(&mut self, long: Long) {
        let Long {
            ticket,
            entry,
            words,
            db,
            version,
            number,
            borrowed,
        } = long;
        let mut names = self.key_names(entry, &words.slices(), db);
        names.retain(|(_, key)| {
            self.owner(ringwood_protocol::slot::key_slot(key)) as usize == self.id
        });
        names.sort_unstable();
        names.dedup();
        let own = self.lend_keys(names);
        let transaction = self.name_transaction();
        let kind = Kind::Aside(Away { entry, number });
        self.keep_transaction(transaction, ticket, kind);
        let shard = &mut self.shard;
        let surroundings = Surroundings {
            settings: shard.settings.clone(),
            hasher: shard.keyspace.hasher().clone(),
            now_ms: shard.now_ms,
            seed: shard.random(),
            listening: shard.listening,
            logging: shard.logging,
            loading: shard.loading,
            owners: shard.log.owners.clone(),
            tracking: shard.attention.tracking.on,
            transfer: shard.transfer.clone(),
            commands: self.registry.entries.len(),
        };
        let job = Box::new(Job {
            post: Post {
                inboxes: self.mailbox.inboxes(),
                shared: self.shared.clone(),
            },
            home: self.id,
            transaction,
            entry,
            words,
            db,
            version,
            caller: ticket,
            borrowed,
            own,
            surroundings,
        });
        let helpers = &self.shared.helpers;
        let way = match entry.spec.name {
            "MIGRATE" => &helpers.transfers,
            _ => &helpers.jobs,
        };
        let job = match way.get() {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return,
                Err(refused) => refused.0,
            },
            None => job,
        };
        // No threads: the simulation.
        let done = Box::new(work(*job));
        self.mailbox.send_control(self.id, Control::Aside(done));
    }

    /// It is done: everybody hears of it now.
    pub(crate) fn end_aside(&mut self, done: Done) {
        let Done {
            transaction,
            mut borrowed,
            own,
            words,
            reply,
            events,
            records,
            stats,
            ns,
            memory,
        } = done;
        if let Some(spent) = memory {
            ringwood_shard::memory::adopt(spent);
        }
        let ended = self.transactions.remove(&transaction);
        let Some((ticket, Kind::Aside(Away { entry, number }))) = ended.map(|t| (t.ticket, t.kind))
        else {
            unreachable!("a command that is away is kept until it comes back")
        };
        self.caller = ticket;
        self.shard.stats.add(&stats);
        self.shard.events.extend(events);
        if !self.shard.events.is_empty() {
            self.publish_events();
        }
        if self.begin_log_group() {
            self.shard.log.resume(records);
            self.end_log_group(number);
        }
        self.stats.called(entry);
        if let Some(error) = reply.strip_prefix(b"-") {
            let code = error.split(|b| matches!(b, b' ' | b'\r')).next();
            let code = String::from_utf8_lossy(code.unwrap_or_default()).into_owned();
            self.stats.error_reply(entry, &code);
        }
        let bucket = self.config.latency_tracking;
        let bucket = bucket.then(|| crate::stats::Histogram::bucket(ns));
        self.stats.spent(entry, 1, ns, bucket);
        self.note_done(ticket, entry, &words.slices(), ns, reply.len());
        self.answer(ticket, reply);
        let order: Option<Order> = borrowed.take_own();
        self.given_back(order, own, None);
        self.send_home(borrowed, None);
    }
}
