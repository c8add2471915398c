//! One connection's state on the core that has it.
//!
//! Replies leave in request order. While nothing is outstanding, commands write straight into `out`. When a command's reply will
//! come later (another core works on it), it takes a place in `pending`; whatever follows takes places behind it, and its
//! replies wait in `held` until everything before them is there.
//!
//! Invariants: `held` is empty when `pending` is; the front of `pending` is never a reply that is there already; bytes in
//! `out` are replies to the oldest requests not yet answered.

use crate::acl::User;
use crate::blocking::Waiter;
use crate::io::ConnId;
use crate::mailbox::Reads;
use crate::multi::{Multi, Watcher};
use crate::pubsub::Subscriptions;
use crate::spares::Spares;
use ringwood_protocol::reply::Version;
use ringwood_protocol::resp::Progress;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// A reply's place in order.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// `discard`: the client wants no reply to this (CLIENT REPLY OFF).
    Waiting { discard: bool },
    /// There, at these bytes of `held`.
    Held { from: usize, to: usize },
}

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Open,
    /// No more requests are read; it closes when every reply has been sent.
    Ending,
    /// [`crate::io::Io::close`] was called.
    Closed,
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The command after this one is not answered.
    SkipNext,
    /// This command is not answered.
    Skip,
}

/// Whether a blocking command or EXEC holds the client: while it does, no request behind that command runs.
#[derive(Debug, Default)]
pub enum Wait {
    #[default]
    No,
    /// The command is on its way over its keys' cores.
    Unknown,
    /// It waits for keys, or for replicas or the log.
    Keys(Arc<Waiter>),
    /// Changes of its subscriptions are on their way; only more of them may follow.
    Subscribing,
}

/// Whether a peer's address, as CLIENT LIST shows it, is this host's loopback interface or a unix socket.
pub fn is_local(peer: &str) -> bool {
    match peer.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        // A unix socket's path, with port 0. A peer that went before its address was read shows as "?:0": it is gone.
        Err(_) => peer.ends_with(":0") && !peer.starts_with('?'),
    }
}

/// Memory that `held` may keep while it holds nothing.
const HELD_KEPT: usize = 16 << 10;

pub struct Client {
    pub id: u64,
    pub conn: ConnId,
    pub peer: String,
    pub local: String,
    /// The socket's number, for CLIENT LIST only.
    pub fd: i32,
    /// It came through the core's own port: keys of other cores are refused with MOVED.
    pub cluster: bool,
    pub db: usize,
    pub version: Version,
    pub authenticated: bool,
    pub user: Arc<User>,
    /// There is something that the user may not do.
    pub restricted: bool,
    /// It brings the log's commands: nothing is refused to it.
    pub loads: bool,
    pub name: Vec<u8>,
    pub lib_name: Vec<u8>,
    pub lib_version: Vec<u8>,
    pub reply_mode: ReplyMode,
    /// CLIENT TRACKING.
    pub tracker: Option<Box<crate::tracking::Tracker>>,
    pub no_evict: bool,
    pub no_touch: bool,
    /// Never empty.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// Monotonic nanoseconds.
    pub created: u64,
    pub last_active: u64,
    /// The turn of the loop in which it was last heard.
    pub heard_turn: u64,
    /// The last command, for CLIENT LIST.
    pub last_command: Option<&'static crate::registry::Entry>,
    pub commands: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub life: Life,

    /// Received bytes that are no whole command yet, or that wait because the client is held.
    pub query: Vec<u8>,
    pub progress: Option<Box<Progress>>,
    /// A large value is being received straight into the query buffer.
    pub receiving: bool,
    /// The bytes that its buffer has room for.
    pub receiving_max: usize,
    /// Requests wait until outstanding replies are there (a barrier), then go on from `query`.
    pub stalled: bool,
    /// What it is stalled before waits for the end of CLIENT PAUSE.
    pub paused: bool,
    /// Too much has piled up behind what it waits for: it is not read for now.
    pub unread: bool,
    /// The peer sends no more. What it has sent is still handled.
    pub half_closed: bool,
    /// Requests of it are being handled: what arrives meanwhile, while a script looks around, comes behind them.
    pub serving: bool,
    /// It is stalled before a script, which runs when nothing else of the turn waits.
    pub script_next: bool,
    pub wait: Wait,
    pub debug: crate::scripts::debug::Debug,
    /// The last command may learn of more keys as it runs: nothing may pass it until its reply is there.
    pub alone: bool,
    /// The transaction that it is queueing.
    pub multi: Option<Box<Multi>>,
    pub watchers: Vec<Arc<Watcher>>,
    /// Bytes that the watchers take, if there are any.
    pub watch_memory: usize,
    /// In the core's list of clients with something to send.
    pub dirty: bool,
    /// A send is under way.
    pub sending: bool,
    /// Bytes of that send.
    pub in_flight: usize,
    /// What it counts for `maxmemory-clients`.
    pub counted: crate::client_limit::Counted,
    /// Since when the output is over its soft limit (monotonic nanoseconds), or 0.
    pub over_soft_limit_since: u64,
    pub out: Vec<u8>,

    pending: VecDeque<Place>,
    /// The place number of `pending`'s front.
    first_seq: u32,
    held: Vec<u8>,
    /// What was pushed while [`Client::wait`] is unknown.
    late: Vec<u8>,
    /// Bytes of `held` that have moved on to `out`.
    held_done: usize,
    /// Slots, modulo 64, of outstanding commands that went to other cores.
    pub outstanding: u64,
}

impl Client {
    pub fn new(
        id: u64,
        conn: ConnId,
        peer: String,
        local: String,
        user: Arc<User>,
        now: u64,
    ) -> Self {
        Self {
            id,
            conn,
            peer,
            local,
            fd: -1,
            cluster: false,
            db: 0,
            version: Version::Resp2,
            authenticated: user.is_open(),
            restricted: user.is_restricted(),
            loads: false,
            user,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_version: Vec::new(),
            reply_mode: ReplyMode::On,
            tracker: None,
            no_evict: false,
            no_touch: false,
            subscriptions: None,
            created: now,
            last_active: now,
            heard_turn: 0,
            last_command: None,
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            life: Life::Open,
            query: Vec::new(),
            progress: None,
            receiving: false,
            receiving_max: 0,
            stalled: false,
            paused: false,
            unread: false,
            half_closed: false,
            serving: false,
            script_next: false,
            wait: Wait::No,
            debug: Default::default(),
            alone: false,
            multi: None,
            watchers: Vec::new(),
            watch_memory: 0,
            dirty: false,
            sending: false,
            in_flight: 0,
            counted: Default::default(),
            over_soft_limit_since: 0,
            out: Vec::new(),
            pending: VecDeque::new(),
            first_seq: 0,
            held: Vec::new(),
            late: Vec::new(),
            held_done: 0,
            outstanding: 0,
        }
    }

    /// Takes a buffer that others have used for the replies to come, if it has none.
    #[inline]
    pub fn take_spare(&mut self, spare: &mut Spares<Vec<u8>>) {
        if self.out.capacity() == 0
            && let Some(buffer) = spare.pop()
        {
            self.out = buffer;
        }
    }
    /// It acts as this user from now on.
    pub fn act_as(&mut self, user: Arc<User>) {
        self.restricted = user.is_restricted() && !self.loads;
        self.user = user;
    }
    /// It came through the unix socket, whose clients have port 0 in their address.
    pub fn is_unix(&self) -> bool {
        self.local.ends_with(":0")
    }

    /// Its next command runs at once and is answered at once, whatever it is.
    pub fn is_plain(&self) -> bool {
        self.life == Life::Open
            && matches!(self.wait, Wait::No)
            && self.pending.is_empty()
            && self.reply_mode == ReplyMode::On
            && self.authenticated
            && !self.restricted
            && self.multi.is_none()
            && self.subscriptions.is_none()
            && self.tracker.is_none()
            && !self.no_touch
    }
    /// What its commands leave behind at the keys that they look at now.
    #[inline]
    pub fn reads(&self) -> Reads {
        Reads {
            tracked: self.tracker.as_ref().is_some_and(|t| t.remembers()),
            untouched: self.no_touch,
        }
    }
    /// True while some reply is outstanding.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }
    /// What the client waits for, if a blocking command found nothing.
    pub fn waiter(&self) -> Option<&Arc<Waiter>> {
        match &self.wait {
            Wait::Keys(waiter) => Some(waiter),
            _ => None,
        }
    }
    pub fn waiting_count(&self) -> usize {
        self.pending.len()
    }

    /// Where the next reply is written, and where it begins: the output, or the place behind outstanding replies.
    #[inline]
    pub fn reply_buffer(&mut self) -> &mut Vec<u8> {
        if self.pending.is_empty() {
            &mut self.out
        } else {
            &mut self.held
        }
    }
    /// Where replies behind outstanding ones wait.
    pub fn held_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }
    /// The reply written to [`Client::reply_buffer`] from `from` on is whole.
    #[inline]
    pub fn replied(&mut self, from: usize) {
        if self.reply_mode != ReplyMode::On {
            self.reply_buffer().truncate(from);
        }
        self.written(from);
    }
    /// As [`Client::replied`], for what the client gets whatever CLIENT REPLY says.
    #[inline]
    pub fn written(&mut self, from: usize) {
        if !self.pending.is_empty() {
            self.pending.push_back(Place::Held {
                from,
                to: self.held.len(),
            });
        }
    }
    /// Sends what is no reply: see [`crate::pubsub`] for its place between the replies.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.wait {
            // In the midst of EXEC's reply, or on the way to wait for keys.
            Wait::Unknown => self.late.extend_from_slice(bytes),
            Wait::No if !self.pending.is_empty() => {
                let from = self.held.len();
                self.held.extend_from_slice(bytes);
                self.written(from);
            }
            _ => self.out.extend_from_slice(bytes),
        }
    }
    /// What was pushed while it could not be sent is sent, if it can be now.
    #[inline]
    pub fn push_late(&mut self) {
        if !self.late.is_empty() && !matches!(self.wait, Wait::Unknown) {
            let late = std::mem::take(&mut self.late);
            self.push(&late);
        }
    }
    /// Takes a place for a reply that comes later.
    pub fn await_reply(&mut self) -> u32 {
        self.await_answer(self.reply_mode != ReplyMode::On)
    }
    /// As [`Client::await_reply`], for what the client gets whatever CLIENT REPLY says.
    pub fn await_push(&mut self) -> u32 {
        self.await_answer(false)
    }
    fn await_answer(&mut self, discard: bool) -> u32 {
        let seq = self.first_seq.wrapping_add(self.pending.len() as u32);
        self.pending.push_back(Place::Waiting { discard });
        seq
    }
    /// An outstanding reply has come: it is written to where it goes.
    pub fn answer(&mut self, seq: u32, write: impl FnOnce(&mut Vec<u8>)) {
        let index = seq.wrapping_sub(self.first_seq) as usize;
        let place = self
            .pending
            .get_mut(index)
            .expect("an answer to an outstanding request");
        let Place::Waiting { discard } = *place else {
            panic!("a second answer to a request")
        };
        let to = if index > 0 {
            &mut self.held
        } else {
            &mut self.out
        };
        let from = to.len();
        write(to);
        if discard {
            to.truncate(from);
        }
        if index > 0 {
            *place = Place::Held {
                from,
                to: self.held.len(),
            };
            return;
        }
        self.pending
            .pop_front()
            .expect("an answer to an outstanding request");
        self.first_seq = self.first_seq.wrapping_add(1);
        while let Some(&Place::Held { from, to }) = self.pending.front() {
            self.out.extend_from_slice(&self.held[from..to]);
            self.held_done += to - from;
            self.pending.pop_front();
            self.first_seq = self.first_seq.wrapping_add(1);
        }
        if self.pending.is_empty() {
            self.held.clear();
            self.held.shrink_to(HELD_KEPT);
            self.held_done = 0;
            self.outstanding = 0;
        } else if self.held_done >= HELD_KEPT && self.held_done > self.held.len() / 2 {
            self.compact_held();
        }
    }

    /// Drops what has moved on: a client that never stops sending may never have nothing outstanding.
    #[cold]
    fn compact_held(&mut self) {
        let mut left = Vec::with_capacity(self.held.len() - self.held_done);
        for place in &mut self.pending {
            if let Place::Held { from, to } = place {
                let begin = left.len();
                left.extend_from_slice(&self.held[*from..*to]);
                (*from, *to) = (begin, left.len());
            }
        }
        self.held = left;
        self.held_done = 0;
    }

    /// Bytes held for this client, beside the structure itself.
    pub fn memory(&self) -> usize {
        let subscriptions = self.subscriptions.as_ref().map_or(0, |s| s.memory());
        let buffers = [&self.query, &self.out, &self.held, &self.late];
        let buffers: usize = buffers.iter().map(|b| b.capacity()).sum();
        let multi = self.multi.as_ref().map_or(0, |m| m.memory());
        let watched = match self.watchers.is_empty() {
            true => 0,
            false => self.watch_memory,
        };
        let tracker = self.tracker.as_ref().map_or(0, |t| t.memory());
        let lent = self.receiving_max + self.in_flight;
        size_of::<Self>() + buffers + lent + subscriptions + multi + watched + tracker
    }
    pub fn output_len(&self) -> usize {
        self.out.len() + self.held.len() + self.late.len() + self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(c: &mut Client, text: &[u8]) {
        let buffer = c.reply_buffer();
        let from = buffer.len();
        buffer.extend_from_slice(text);
        c.replied(from);
    }

    #[test]
    fn loopback_and_unix_peers_are_local() {
        for local in [
            "127.0.0.1:5",
            "127.9.9.9:5",
            "[::1]:5",
            "[::ffff:127.0.0.1]:5",
            "/run/s.sock:0",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in ["10.0.0.1:5", "[2001:db8::1]:5", "0.0.0.0:1", "?:0", ""] {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn replies_leave_in_request_order() {
        let mut c = Client::new(
            1,
            ConnId(0),
            String::new(),
            String::new(),
            User::default_user().into(),
            0,
        );
        say(&mut c, b"a");
        let b = c.await_reply();
        say(&mut c, b"c");
        let d = c.await_reply();
        say(&mut c, b"e");
        let f = c.await_reply();
        assert_eq!(c.out, b"a");
        c.answer(f, |out| out.extend_from_slice(b"f"));
        c.answer(d, |out| out.extend_from_slice(b"d"));
        assert_eq!(c.out, b"a");
        c.answer(b, |out| out.extend_from_slice(b"b"));
        assert_eq!(c.out, b"abcdef");
        assert!(!c.is_waiting());
        say(&mut c, b"g");
        assert_eq!(c.out, b"abcdefg");
    }

    #[test]
    fn replies_that_have_left_take_no_memory_while_others_are_outstanding() {
        let mut c = Client::new(
            1,
            ConnId(0),
            String::new(),
            String::new(),
            User::default_user().into(),
            0,
        );
        let mut expected = Vec::new();
        let mut left = Vec::new();
        let mut outstanding = c.await_reply();
        for n in 0..10_000 {
            // There is always one outstanding, and something behind it.
            let behind = format!("({n} and something behind it)");
            say(&mut c, behind.as_bytes());
            let next = c.await_reply();
            c.answer(outstanding, |out| out.extend_from_slice(b"later"));
            outstanding = next;
            expected.extend_from_slice(format!("later{behind}").as_bytes());
            left.append(&mut c.out);
            assert!(c.is_waiting() && c.held.capacity() <= 8 * HELD_KEPT);
        }
        assert_eq!(left, expected);
    }
}
