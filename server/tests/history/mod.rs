//! What clients did and saw, and whether one order of all operations explains it. For the simulation and the wire tests.
//!
//! The check is Wing and Gong's search with Lowe's memory of visited states: take, one after the other, any operation that no
//! other must precede, apply it to a model of all keys ([`Model`]), compare what it should have
//! returned with what was seen, go back where nothing fits. The model holds all keys at once, so what changes several keys and is not
//! atomic has no place in any order. It also knows what each client watches and whether that has changed, so an EXEC that should
//! have come to nothing has none either, nor one that came to nothing without a reason.
//!
//! An operation precedes another if it was answered before the other was sent. Commands of one pipeline may be taken in
//! any order unless they share a key. A blocking command takes effect at one moment like any other, when it is served. An operation without an
//! answer (its client died) may be taken or left out.

pub mod accounts;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// All keys as one thread would keep them.
pub trait Model: Clone + Hash {
    type Action: Clone + Debug;
    type Seen: Clone + Debug + PartialEq;

    /// The keys that an action looks at, a bit each; for an EXEC those that its client watches too. What the client watches may have
    /// a bit of its own.
    fn keys(action: &Self::Action) -> u128;
    /// Whether this reply tells that the command changed nothing, whenever it took effect.
    fn changed_nothing(action: &Self::Action, seen: &Self::Seen) -> bool;
    /// What the command does on one thread.
    fn apply(&mut self, client: usize, action: &Self::Action) -> Self::Seen;
}

#[derive(Clone, Debug)]
pub struct Op<A, S> {
    pub client: usize,
    pub action: A,
    pub called: u64,
    pub answered: Option<(u64, S)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// Too many orders to try them all.
    Undecided,
}

/// What each client watches: keys, and whether one of them has changed since. Part of the models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Watches(Vec<(u128, bool)>);

impl Watches {
    pub fn watch(&mut self, client: usize, keys: u128) {
        if self.0.len() <= client {
            self.0.resize(client + 1, (0, false));
        }
        self.0[client].0 |= keys;
    }
    /// Ends what the client watches; true if none of it has changed.
    pub fn unwatch(&mut self, client: usize) -> bool {
        let watched = self.0.get_mut(client).map(std::mem::take);
        // So that models with the same meaning are equal.
        while self.0.last() == Some(&(0, false)) {
            self.0.pop();
        }
        !watched.is_some_and(|(_, changed)| changed)
    }
    pub fn changed(&mut self, keys: u128) {
        for (watched, changed) in &mut self.0 {
            *changed |= *watched & keys != 0;
        }
    }
}

type OpOf<M> = Op<<M as Model>::Action, <M as Model>::Seen>;

/// Searches for an order that explains everything that was seen, from this state on. The operations are in the order of sending.
pub fn check<M: Model>(initial: &M, ops: &[OpOf<M>], budget: usize) -> Verdict {
    let mut verdict = Verdict::Right;
    for part in independent::<M>(ops) {
        match Search::<M>::new(&part, budget).run(initial) {
            Verdict::Right => {}
            Verdict::Undecided => verdict = Verdict::Undecided,
            Verdict::Wrong => return Verdict::Wrong,
        }
    }
    verdict
}

/// The operations by sets of keys that no operation connects. Linearizability is local: a history is linearizable if what
/// happened on each of them is, and the search of several small parts is much shorter than that of the whole.
fn independent<M: Model>(ops: &[OpOf<M>]) -> Vec<Vec<&OpOf<M>>> {
    let mut sets: Vec<u128> = Vec::new();
    for keys in ops.iter().map(|op| M::keys(&op.action)) {
        let (joined, apart): (Vec<u128>, Vec<u128>) = sets.iter().partition(|s| **s & keys != 0);
        sets = apart;
        sets.push(joined.iter().fold(keys, |all, s| all | s));
    }
    let part = |set: u128| ops.iter().filter(move |op| M::keys(&op.action) & set != 0);
    sets.into_iter().map(|s| part(s).collect()).collect()
}

/// Which operations are taken: all before `from`, and the bits behind it. In a long history they are never far apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Taken {
    from: usize,
    bits: Vec<u64>,
}

impl Taken {
    fn has(&self, op: usize) -> bool {
        let Some(at) = op.checked_sub(self.from) else {
            return true;
        };
        self.bits
            .get(at / 64)
            .is_some_and(|w| w >> (at % 64) & 1 != 0)
    }
    fn take(&mut self, op: usize) {
        let at = op - self.from;
        if self.bits.len() <= at / 64 {
            self.bits.resize(at / 64 + 1, 0);
        }
        self.bits[at / 64] |= 1 << (at % 64);
        // Whole words only; then equal sets are equal values.
        let full = self.bits.iter().take_while(|w| **w == u64::MAX).count();
        self.bits.drain(..full);
        self.from += full * 64;
    }
    /// Those that are not taken, in order, without an end.
    fn open(&self) -> impl Iterator<Item = usize> {
        (self.from..).filter(|op| !self.has(*op))
    }
}

/// A place in the search: what is taken, what that makes of the keys, and what to take next.
struct Place<M> {
    taken: Taken,
    state: M,
    next: Vec<usize>,
}

struct Search<'a, M: Model> {
    ops: &'a [&'a OpOf<M>],
    keys: Vec<u128>,
    /// Hashes of places that lead nowhere, or are being looked at.
    visited: HashSet<(u64, u64)>,
    budget: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(ops: &'a [&'a OpOf<M>], budget: usize) -> Self {
        Self {
            ops,
            keys: ops.iter().map(|op| M::keys(&op.action)).collect(),
            visited: HashSet::new(),
            budget,
        }
    }

    fn run(mut self, initial: &M) -> Verdict {
        // Its own stack: a history of thousands of operations is as deep.
        let mut stack = Vec::new();
        match self.look(Taken::default(), initial.clone()) {
            Ok(place) => stack.extend(place),
            Err(Complete) => return Verdict::Right,
        }
        while let Some(place) = stack.last_mut() {
            let Some(op) = place.next.pop() else {
                stack.pop();
                continue;
            };
            if self.budget == 0 {
                return Verdict::Undecided;
            }
            let (mut taken, mut state) = (place.taken.clone(), place.state.clone());
            let taking = self.ops[op];
            state.apply(taking.client, &taking.action);
            taken.take(op);
            match self.look(taken, state) {
                Ok(place) => stack.extend(place),
                Err(Complete) => return Verdict::Right,
            }
        }
        Verdict::Wrong
    }

    fn answered(&self, op: usize) -> Option<u64> {
        self.ops[op].answered.as_ref().map(|a| a.0)
    }

    /// What may be taken here; `None` if this was looked at before.
    fn look(&mut self, mut taken: Taken, state: M) -> Result<Option<Place<M>>, Complete> {
        // What fits now and, as its reply tells, changes nothing is taken at once, without trying anything else in its place: in any order that
        // explains the rest, it can be moved to the front.
        let mut next = Vec::new();
        loop {
            // Those behind the first that was sent after an answer are too early too.
            let mut first_answer = u64::MAX;
            let mut early = Vec::new();
            for op in taken.open().take_while(|op| *op < self.ops.len()) {
                if self.ops[op].called > first_answer {
                    break;
                }
                first_answer = first_answer.min(self.answered(op).unwrap_or(u64::MAX));
                early.push(op);
            }
            if first_answer == u64::MAX {
                return Err(Complete);
            }
            next.clear();
            let mut without_change = Vec::new();
            for (n, &i) in early.iter().enumerate() {
                let op = self.ops[i];
                if op.called > first_answer {
                    break;
                }
                let behind = early[..n]
                    .iter()
                    .any(|&j| self.ops[j].client == op.client && self.keys[j] & self.keys[i] != 0);
                if behind {
                    continue;
                }
                let seen = state.clone().apply(op.client, &op.action);
                match &op.answered {
                    Some((_, s)) if *s != seen => {}
                    Some((_, s)) if M::changed_nothing(&op.action, s) => without_change.push(i),
                    _ => next.push(i),
                }
            }
            if without_change.is_empty() {
                break;
            }
            without_change.into_iter().for_each(|op| taken.take(op));
        }
        if !self.visited.insert(fingerprint(&(&taken, &state))) {
            return Ok(None);
        }
        self.budget = self.budget.saturating_sub(1);
        // Who was answered first most likely took effect first: the last is looked at first.
        next.sort_by_key(|op| std::cmp::Reverse(self.answered(*op).unwrap_or(u64::MAX)));
        Ok(Some(Place { taken, state, next }))
    }
}

/// Everything that was answered is explained.
struct Complete;

/// Enough bits that no two places share them by accident.
fn fingerprint(value: &impl Hash) -> (u64, u64) {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        hasher.finish()
    };
    (half(1), half(2))
}
