//! Pub/Sub over all cores, with the order that one thread gives.
//!
//! Every core has the listeners of its own clients ([`Listeners`]); which cores have listeners of a name, and how many over
//! all, is in the [`directory::Directory`] that the cores share. So a message bothers only cores with subscribers of it, and its
//! publisher knows at once how many get it.
//!
//! With several cores, a message takes a number from the global counter ([`crate::sequencer`]) and goes to the cores that have
//! listeners as a part of a transaction that uses no slots; so does every change of subscriptions, to its own core alone. Every core
//! runs its parts in the order of their numbers. That makes one order of all messages and changes:
//! - Two messages come in the same order to all who get both, and a publisher's in the order in which it sent them.
//! - A message with a higher number than a subscription reaches it: the subscriber's core was in the directory before
//!   that number was given out, because it entered, and took its own number, under the directory's lock. For the same reason the
//!   count is that of the listeners at just that place in the order.
//! - A subscription is confirmed, and PUBLISH answered, when the parts have run. So whatever is sent after that comes after it.
//!   (Where a publisher cannot wait, in scripts and transactions, the order is the same; only its answer may come a moment earlier.)
//!
//! One core needs no numbers: what runs first is first.
//!
//! A message to a client waits behind the replies that are outstanding on its connection: what the client asked before
//! should not look newer than the message (a cache would keep a stale value). It does not wait for a blocking command, nor for a
//! change of subscriptions on its way. It never comes between the replies of a transaction.

pub mod directory;
pub(crate) mod events;
pub mod listeners;
pub mod message;
pub mod names;

use crate::acl::User;
use crate::client::{Client, Life, Wait};
use crate::core::{Clients, Core};
use crate::io::ConnId;
use crate::mailbox::{Mail, Reads, Ticket};
use crate::registry::Entry;
use crate::spares::Spares;
use crate::transaction::{Part, PartWork, hold};
use directory::Audience;
use listeners::{Listener, Listeners};
use message::{Forms, Message, OwnedMessage};
use names::{Name, NameMap};
use ringwood_protocol::command::PUBSUB;
use ringwood_protocol::glob::glob_match;
use ringwood_shard::keyspace::KeyHasher;
use ringwood_shard::locks::Slots;
use std::collections::HashMap;
use std::sync::Arc;

/// What a subscription is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    /// A channel of SSUBSCRIBE: a name space of its own, and no patterns.
    Shard,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];
}

/// A client's subscriptions, as it asked for them.
#[derive(Default)]
pub struct Subscriptions([NameMap<()>; 3], NamesLen);

/// Bytes of the names. They may be shared with other clients, but each keeps them alive.
type NamesLen = usize;

impl Subscriptions {
    pub fn of(&self, kind: Kind) -> &NameMap<()> {
        &self.0[kind as usize]
    }
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(NameMap::is_empty)
    }
    /// Whether one of the user's selectors allows all of them.
    pub fn are_allowed(&self, user: &User) -> bool {
        let all = [Kind::Channel, Kind::Pattern, Kind::Shard];
        user.all_selectors().any(|selector| {
            all.iter().all(|&kind| {
                let mut names = self.of(kind).iter();
                names.all(|(_, name, ())| selector.allows_channel(name, kind == Kind::Pattern))
            })
        })
    }
    /// The number that confirmations tell.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Shard => self.of(Kind::Shard).len(),
            _ => self.of(Kind::Channel).len() + self.of(Kind::Pattern).len(),
        }
    }
    /// Begins one; its name if it is new.
    pub fn begin(&mut self, kind: Kind, hash: u64, name: &[u8]) -> Option<Name> {
        let map = &mut self.0[kind as usize];
        if map.get(hash, name).is_some() {
            return None;
        }
        let name = Name::from(name);
        map.get_or_insert(hash, &name);
        self.1 += name.len();
        Some(name)
    }
    /// Ends one; its name if it was there.
    pub fn end(&mut self, kind: Kind, hash: u64, name: &[u8]) -> Option<Name> {
        let (name, ()) = self.0[kind as usize].remove(hash, name)?;
        self.1 -= name.len();
        Some(name)
    }
    /// Ends all.
    pub fn take_all(&mut self) -> Vec<(Kind, u64, Name)> {
        let mut all = Vec::new();
        self.1 = 0;
        for kind in Kind::ALL {
            let map = &mut self.0[kind as usize];
            while !map.is_empty() {
                all.extend(map.take_some().map(|(hash, name)| (kind, hash, name)));
            }
        }
        all
    }
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.1 + self.0.iter().map(NameMap::memory).sum::<usize>()
    }
}

/// One subscription that begins or ends.
#[derive(Debug)]
pub struct Step {
    pub kind: Kind,
    pub begins: bool,
    pub hash: u64,
    pub name: Name,
}

/// A client's change of subscriptions on its way to its turn.
#[derive(Debug)]
pub struct Change {
    ticket: Ticket,
    steps: Vec<Step>,
    /// What the client is told then.
    reply: Vec<u8>,
}

/// A message whose publisher waits until all cores have it.
struct Published {
    ticket: Ticket,
    count: usize,
    /// Cores that have not said so yet.
    left: u32,
}

/// One core's share of Pub/Sub.
#[derive(Default)]
pub struct PubSub {
    /// By [`Kind`].
    listeners: [NameMap<Listeners>; 3],
    published: HashMap<u32, Published>,
    next_published: u32,
    /// The client whose command runs: what it is sent meanwhile comes behind the reply.
    executing: Option<ConnId>,
    /// That command is one of a transaction: behind EXEC's reply.
    pub in_exec: bool,
    behind_reply: Vec<u8>,
    /// Clients that went with more subscriptions than are ended at once.
    leaving: Vec<(Listener, Box<Subscriptions>)>,
    forms: Forms,
    /// This core's clients that have subscriptions.
    pub clients: usize,
}

impl PubSub {
    /// True while a command of this client writes its reply.
    pub fn is_executing(&self, conn: ConnId) -> bool {
        self.executing == Some(conn)
    }
    /// For that client, behind the reply.
    pub fn push_behind(&mut self, bytes: &[u8]) {
        self.behind_reply.extend_from_slice(bytes);
    }
}

/// Subscriptions of a client that went that are ended at once; the others follow in the background.
const LEAVE_AT_ONCE: usize = 4096;

/// SUBSCRIBE, UNSUBSCRIBE and their variants.
pub fn changes_subscriptions(entry: &Entry) -> bool {
    entry.has(PUBSUB) && entry.spec.name.ends_with("SUBSCRIBE")
}

/// Whether a client that waits may go on with this command: changes of subscriptions may follow each other.
#[cold]
pub fn may_follow(client: &Client, entry: Option<&Entry>) -> bool {
    matches!(client.wait, Wait::Subscribing) && entry.is_some_and(changes_subscriptions)
}

/// Whether a command must wait for outstanding replies of its client.
pub fn must_wait(client: &Client, entry: &Entry) -> bool {
    if !entry.has(PUBSUB) {
        false
    } else if changes_subscriptions(entry) {
        !matches!(client.wait, Wait::Subscribing)
    } else {
        // What another core still has to do comes before the message. Numbered work does anyway.
        client.outstanding != 0
    }
}

/// Whether RESP2's rule forbids a subscriber this command: its replies could not be told from messages.
#[cold]
pub fn is_forbidden(entry: &Entry) -> bool {
    !changes_subscriptions(entry) && !matches!(entry.spec.name, "PING" | "QUIT" | "RESET")
}

/// Where messages go.
struct Sink<'a> {
    clients: &'a mut Clients,
    dirty: &'a mut Vec<ConnId>,
    buffers: &'a mut Spares<Vec<u8>>,
    executing: Option<ConnId>,
    behind_reply: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn send(
        &mut self,
        to: Listener,
        forms: &mut Forms,
        message: &Message<'_>,
        pattern: Option<&[u8]>,
    ) {
        let Some(client) = self.clients.get_mut(to.conn) else {
            return;
        };
        if client.id != to.client || client.life != Life::Open {
            return;
        }
        let bytes = forms.get(client.version, message, pattern);
        if self.executing == Some(to.conn) {
            self.behind_reply.extend_from_slice(bytes);
            return;
        }
        client.take_spare(self.buffers);
        client.push(bytes);
        if !client.dirty {
            client.dirty = true;
            self.dirty.push(to.conn);
        }
    }
}

/// A message that a script has published, and the number of subscribers that it was told.
#[derive(Debug)]
pub struct Counted {
    pub kind: Kind,
    pub channel: Box<[u8]>,
    pub text: Box<[u8]>,
    pub told: usize,
}

impl Core {
    /// Gives a message to this core's listeners; returns how many.
    fn deliver(&mut self, message: &Message<'_>) -> usize {
        let Core {
            pubsub,
            clients,
            dirty,
            buffers,
            ..
        } = self;
        let PubSub {
            listeners,
            forms,
            executing,
            behind_reply,
            ..
        } = pubsub;
        let mut sink = Sink {
            clients,
            dirty,
            buffers,
            executing: *executing,
            behind_reply,
        };
        let mut count = 0;
        let of_channel = listeners[message.kind as usize].get(message.hash, message.channel);
        if let Some(listeners) = of_channel {
            forms.clear();
            for &listener in listeners.active() {
                sink.send(listener, forms, message, None);
            }
            count += listeners.active().len();
        }
        if message.kind == Kind::Channel {
            for (_, pattern, listeners) in listeners[Kind::Pattern as usize].iter() {
                if glob_match(pattern, message.channel) {
                    forms.clear();
                    for &listener in listeners.active() {
                        sink.send(listener, forms, message, Some(pattern));
                    }
                    count += listeners.active().len();
                }
            }
        }
        count
    }

    /// Sends a message to all its subscribers and returns their number. Its place in the order of everything is now.
    pub fn publish(&mut self, kind: Kind, channel: &[u8], text: &[u8]) -> usize {
        self.send_out(kind, channel, text, None)
    }

    /// How many subscribers a message would have now. Not for one core alone.
    pub fn count_audience(&self, kind: Kind, channel: &[u8]) -> usize {
        let hash = self.shard.keyspace.hasher().hash(channel);
        let names = self.shared.directory.read();
        names.audience(kind, hash, channel).clients
    }

    /// Sends messages of a script that was told how many subscribers each has. Where one of these numbers is not right any
    /// more nothing is sent, and it returns false.
    pub fn publish_counted(&mut self, messages: &[Counted]) -> bool {
        let hasher = self.shard.keyspace.hasher();
        let forms: Vec<Message<'_>> = messages
            .iter()
            .map(|m| Message {
                kind: m.kind,
                hash: hasher.hash(&m.channel),
                channel: &m.channel,
                text: &m.text,
            })
            .collect();
        let shared = self.shared.clone();
        let names = shared.directory.read();
        let audiences: Vec<Audience> = forms
            .iter()
            .map(|m| names.audience(m.kind, m.hash, m.channel))
            .collect();
        let mut counts = messages.iter().zip(&audiences);
        if counts.any(|(m, audience)| m.told != audience.clients) {
            return false;
        }
        for (message, audience) in forms.iter().zip(audiences) {
            if audience.clients > 0 {
                self.issue_message(message, audience, None);
            }
        }
        true
    }

    /// Gives a message to the cores that have subscribers. Who calls holds the directory.
    fn issue_message(&mut self, message: &Message<'_>, audience: Audience, tell: Option<u32>) {
        let Core {
            id,
            shared,
            mailbox,
            locks,
            own_parts,
            ..
        } = self;
        let message = Arc::new(OwnedMessage::new(message));
        shared.sequencer.issue(*id, |number| {
            let mut cores = audience.cores;
            while cores != 0 {
                let core = cores.trailing_zeros() as usize;
                cores &= cores - 1;
                let part = Part {
                    number,
                    coordinator: *id as u16,
                    transaction: tell.unwrap_or(0),
                    slots: Slots::none(),
                    work: PartWork::Publish {
                        message: message.clone(),
                        tell: tell.is_some(),
                    },
                };
                if core == *id {
                    *own_parts = true;
                    hold(locks, part);
                } else {
                    mailbox.send_part(core, part);
                }
            }
        });
    }

    /// As [`Core::publish`], for a client that waits until every subscriber has the message in its output: `wait` is then
    /// called for the ticket that the answer goes to. `None`: the answer comes to that.
    pub fn publish_and_wait(
        &mut self,
        kind: Kind,
        channel: &[u8],
        text: &[u8],
        wait: impl FnOnce(&mut Core) -> Ticket,
    ) -> Option<usize> {
        let id = self.pubsub.next_published;
        let mut left = 0;
        let count = self.send_out(kind, channel, text, Some((id, &mut left)));
        if left == 0 {
            return Some(count);
        }
        self.pubsub.next_published = id.wrapping_add(1);
        let ticket = wait(self);
        self.pubsub.published.insert(
            id,
            Published {
                ticket,
                count,
                left,
            },
        );
        None
    }

    /// `tell`: every core that gets a part says when it has run, under this number; how many do goes beside it.
    fn send_out(
        &mut self,
        kind: Kind,
        channel: &[u8],
        text: &[u8],
        tell: Option<(u32, &mut u32)>,
    ) -> usize {
        let hash = self.shard.keyspace.hasher().hash(channel);
        let message = Message {
            kind,
            hash,
            channel,
            text,
        };
        if self.cores() == 1 {
            return self.deliver(&message);
        }
        // The guard may not borrow from the core.
        let shared = self.shared.clone();
        let names = shared.directory.read();
        let audience = names.audience(kind, hash, channel);
        if audience.clients == 0 {
            return 0;
        }
        let told = tell.as_ref().map(|(id, _)| *id);
        self.issue_message(&message, audience, told);
        if let Some((_, left)) = tell {
            *left = audience.cores.count_ones();
        }
        audience.clients
    }

    /// A message's turn has come on this core.
    pub(crate) fn run_publish(
        &mut self,
        from: usize,
        number: u32,
        message: &OwnedMessage,
        tell: bool,
    ) {
        self.deliver(&message.as_ref());
        if !tell {
        } else if from == self.id {
            self.published(number);
        } else {
            self.mailbox.send(from, Mail::Published(number));
        }
    }

    /// A core has given a message of ours to its subscribers.
    pub(crate) fn published(&mut self, number: u32) {
        let waiting = self
            .pubsub
            .published
            .get_mut(&number)
            .expect("a core tells of a message once");
        waiting.left -= 1;
        if waiting.left == 0 {
            let reply = format!(":{}\r\n", waiting.count);
            let ticket = waiting.ticket;
            self.pubsub.published.remove(&number);
            self.answer(ticket, reply.into_bytes());
        }
    }

    /// Changes a client's own record of its subscriptions.
    pub(crate) fn edit_subscriptions(
        &mut self,
        conn: ConnId,
        edit: impl FnOnce(&mut Subscriptions, &KeyHasher),
    ) {
        let client = self
            .clients
            .get_mut(conn)
            .expect("a client that just sent a command");
        let before = client.subscriptions.take();
        self.pubsub.clients -= before.is_some() as usize;
        let mut subscriptions = before.unwrap_or_default();
        edit(&mut subscriptions, self.shard.keyspace.hasher());
        client.subscriptions = (!subscriptions.is_empty()).then_some(subscriptions);
        self.pubsub.clients += client.subscriptions.is_some() as usize;
    }

    /// Takes a client's change of subscriptions, which its [`Subscriptions`] have already, to the listeners. With several cores
    /// its turn comes later: then `reply` goes to a ticket, and this returns true.
    pub(crate) fn change_subscriptions(
        &mut self,
        conn: ConnId,
        steps: Vec<Step>,
        reply: &[u8],
    ) -> bool {
        let client = self
            .clients
            .get_mut(conn)
            .expect("a client that just sent a command");
        let listener = Listener {
            conn,
            client: client.id,
        };
        if self.mailbox.cores() == 1 {
            self.enter(&steps);
            for step in &steps {
                self.take_step(listener, step, true);
            }
            return false;
        }
        if matches!(client.wait, Wait::No) && !self.pubsub.in_exec {
            client.wait = Wait::Subscribing;
        }
        let ticket = Ticket {
            core: self.id as u16,
            conn,
            seq: client.await_push(),
            client: client.id,
            reads: Reads::PLAIN,
        };
        let directory = self.shared.clone();
        let mut names = directory.directory.write();
        self.note(&mut names, &steps);
        let change = Change {
            ticket,
            steps,
            reply: reply.to_vec(),
        };
        let Core { id, locks, .. } = self;
        directory.sequencer.issue(*id, |number| {
            let part = Part {
                number,
                coordinator: *id as u16,
                transaction: 0,
                slots: Slots::none(),
                work: PartWork::Subscribe(Box::new(change)),
            };
            hold(locks, part);
        });
        self.own_parts = true;
        true
    }

    /// Enters changes in the directory.
    fn enter(&mut self, steps: &[Step]) {
        let shared = self.shared.clone();
        self.note(&mut shared.directory.write(), steps);
    }
    fn note(&mut self, names: &mut directory::Names, steps: &[Step]) {
        for step in steps {
            let map = &mut self.pubsub.listeners[step.kind as usize];
            let listeners = map.get_or_insert(step.hash, &step.name);
            if step.begins {
                listeners.asked += 1;
                names.add(step.kind, step.hash, &step.name, self.id);
            } else {
                listeners.asked -= 1;
                let last = listeners.asked == 0;
                names.remove(step.kind, step.hash, &step.name, self.id, last);
            }
        }
    }

    /// From now on the client gets messages, or none any more.
    fn take_step(&mut self, listener: Listener, step: &Step, alive: bool) {
        let map = &mut self.pubsub.listeners[step.kind as usize];
        // A client that has gone has taken its listeners along.
        let Some(listeners) = map.get_mut(step.hash, &step.name) else {
            return;
        };
        if !step.begins {
            listeners.remove(listener.client);
        } else if alive {
            listeners.add(listener);
        }
        if listeners.is_over() {
            map.remove(step.hash, &step.name);
        }
    }

    /// The turn of a change has come.
    pub(crate) fn run_change(&mut self, change: &Change) {
        let ticket = change.ticket;
        let listener = Listener {
            conn: ticket.conn,
            client: ticket.client,
        };
        let client = self.clients.get(ticket.conn);
        let alive = client.is_some_and(|c| c.id == ticket.client && c.life == Life::Open);
        for step in &change.steps {
            self.take_step(listener, step, alive);
        }
        self.answer_with(ticket, &change.reply);
    }

    /// The client ends: it listens no more.
    pub(crate) fn drop_subscriptions(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else {
            return;
        };
        let Some(subscriptions) = client.subscriptions.take() else {
            return;
        };
        let listener = Listener {
            conn,
            client: client.id,
        };
        self.pubsub.clients -= 1;
        self.pubsub.leaving.push((listener, subscriptions));
        self.leave(LEAVE_AT_ONCE);
    }

    /// Ends subscriptions of clients that have gone, about `count`.
    pub(crate) fn leave(&mut self, count: usize) {
        let mut ended = 0;
        while ended < count && self.is_leaving() {
            ended += self.leave_some();
        }
    }
    fn leave_some(&mut self) -> usize {
        let Some((listener, subscriptions)) = self.pubsub.leaving.last_mut() else {
            return 0;
        };
        let listener = *listener;
        let mut steps = Vec::new();
        for kind in Kind::ALL {
            if steps.is_empty() {
                let some = subscriptions.0[kind as usize].take_some();
                steps.extend(some.map(|(hash, name)| Step {
                    kind,
                    begins: false,
                    hash,
                    name,
                }));
            }
        }
        if subscriptions.is_empty() {
            self.pubsub.leaving.pop();
        }
        self.enter(&steps);
        for step in &steps {
            self.take_step(listener, step, false);
        }
        steps.len()
    }
    pub(crate) fn is_leaving(&self) -> bool {
        !self.pubsub.leaving.is_empty()
    }

    /// Commands of this client's transaction begin.
    pub(crate) fn begin_exec(&mut self, conn: ConnId) {
        self.hold_pushes(conn);
        self.pubsub.in_exec = true;
    }
    /// They have written their replies.
    pub(crate) fn end_exec(&mut self, conn: ConnId) {
        self.pubsub.in_exec = false;
        self.release_pushes(conn);
    }

    /// A command of this client begins: what it is sent meanwhile comes behind its reply.
    #[inline]
    pub(crate) fn hold_pushes(&mut self, conn: ConnId) {
        self.pubsub.executing = Some(conn);
    }
    /// The command has written its reply.
    #[inline]
    pub(crate) fn release_pushes(&mut self, conn: ConnId) {
        if self.pubsub.in_exec {
            return;
        }
        self.pubsub.executing = None;
        if !self.pubsub.behind_reply.is_empty() {
            let bytes = std::mem::take(&mut self.pubsub.behind_reply);
            if let Some(client) = self.clients.get_mut(conn).filter(|c| c.life == Life::Open) {
                client.push(&bytes);
            }
            self.mark_dirty(conn);
        }
    }
}
