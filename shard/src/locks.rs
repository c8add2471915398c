//! A core's half of the transaction machinery: who holds which slots, and who waits.
//!
//! Work that touches several cores has a number from one global counter ([`Order::Numbered`]); on every core such work runs
//! in the order of its numbers wherever it shares a slot, which makes it one order for all cores. Work of this core alone
//! runs at once, without coming here, unless one of its slots is in use; then it waits behind ([`Locks::defer`]).
//!
//! A numbered entry may start when its number is below the frontier (everything older is known here) and nothing before it
//! in the queue shares a slot with it. It then holds its slots until [`Locks::release`]: at once for work of one step, later
//! for entries lent to another core.
//!
//! Since everybody waits only for what is before it in one global order, nothing waits in a circle, and since new work never
//! overtakes waiting work on a slot, nothing waits for ever.
//!
//! Invariants: the queue is sorted; an entry that holds shares no slot with an earlier one.

use crate::slot_set::SlotSet;
use std::collections::VecDeque;

/// Slots beyond which a bitmap is smaller to compare than a list.
const FEW: usize = 32;

/// Which slots a piece of work uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slots {
    All,
    /// No slot; but what uses all slots comes after it or before it.
    Presence,
    Some(Box<[u16]>),
    Many(SlotSet),
}

impl Slots {
    pub fn none() -> Self {
        Self::Some(Box::default())
    }
    /// These slots, some perhaps more than once.
    pub fn of(mut slots: Vec<u16>) -> Self {
        if slots.len() <= FEW {
            slots.sort_unstable();
            slots.dedup();
            return Self::Some(slots.into());
        }
        Self::Many(SlotSet::from_slots(slots))
    }
    fn bloom(&self) -> u64 {
        match self {
            Self::All => u64::MAX,
            // Any bit: filters only say that a closer look is needed.
            Self::Presence => 1,
            Self::Some(slots) => slots.iter().fold(0, |b, s| b | bit(*s)),
            Self::Many(set) => set.bloom(),
        }
    }
    fn contains(&self, slot: u16) -> bool {
        match self {
            Self::All => true,
            Self::Presence => false,
            Self::Some(slots) => slots.contains(&slot),
            Self::Many(set) => set.contains(slot),
        }
    }
    fn shares(&self, other: &Slots) -> bool {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => true,
            (Self::Presence, _) | (_, Self::Presence) => false,
            (Self::Many(a), Self::Many(b)) => a.shares(b),
            (Self::Some(few), other) | (other, Self::Some(few)) => {
                few.iter().any(|s| other.contains(*s))
            }
        }
    }
}

/// A slot's bit in a filter.
pub fn bit(slot: u16) -> u64 {
    1 << (slot % 64)
}

/// A place in the queue: the transaction's number, and a count for what waits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    pub number: u64,
    behind: u64,
}

struct Entry<T> {
    order: Order,
    slots: Slots,
    bloom: u64,
    /// `None` once it has started: it holds its slots.
    work: Option<T>,
}

/// The queue of one core.
pub struct Locks<T> {
    queue: VecDeque<Entry<T>>,
    /// Over all entries; bits are only cleared when the queue is empty.
    bloom: u64,
    deferred: u64,
    /// Every number below is known here, if it concerns this core.
    frontier: u64,
    /// Entries that have not started.
    waiting: usize,
    /// Entries were added out of order since the last [`Locks::advance`], which sorts them in: one merge of sorted runs
    /// instead of a move of the queue's tail for each.
    unsorted: bool,
}

impl<T> Default for Locks<T> {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            bloom: 0,
            deferred: 0,
            frontier: 0,
            waiting: 0,
            unsorted: false,
        }
    }
}

impl<T> Locks<T> {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    pub fn len(&self) -> usize {
        self.queue.len()
    }
    /// Entries that wait, started ones not counted.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
    /// True when an entry waits for the frontier to move on.
    pub fn awaits_frontier(&self) -> bool {
        self.waiting > 0
            && self
                .queue
                .iter()
                .any(|e| e.work.is_some() && e.order.number >= self.frontier)
    }

    /// True when new work of this core alone must wait before it may use the slot.
    #[inline]
    pub fn in_use(&self, slot: u16) -> bool {
        if self.bloom & bit(slot) == 0 {
            return false;
        }
        self.queue
            .iter()
            .any(|e| e.bloom & bit(slot) != 0 && e.slots.contains(slot))
    }

    /// True when something holds all slots, or waits for that.
    pub fn holds_all(&self) -> bool {
        self.queue.iter().any(|e| e.slots == Slots::All)
    }

    /// True when something that has started holds all slots.
    pub fn held_whole(&self) -> bool {
        let mut started = self.queue.iter().filter(|e| e.work.is_none());
        started.any(|e| e.slots == Slots::All)
    }

    /// Adds work with a number.
    pub fn insert(&mut self, number: u64, slots: Slots, work: T) {
        self.add(Order { number, behind: 0 }, slots, work);
    }
    /// Adds work of this core alone, behind everything that is here now.
    pub fn defer(&mut self, slots: Slots, work: T) {
        self.deferred += 1;
        let number = self.queue.back().map_or(0, |e| e.order.number);
        self.add(
            Order {
                number,
                behind: self.deferred,
            },
            slots,
            work,
        );
    }
    fn add(&mut self, order: Order, slots: Slots, work: T) {
        let bloom = slots.bloom();
        self.bloom |= bloom;
        self.waiting += 1;
        self.unsorted |= self.queue.back().is_some_and(|last| last.order > order);
        self.queue.push_back(Entry {
            order,
            slots,
            bloom,
            work: Some(work),
        });
    }

    /// Everything numbered below `frontier` has been inserted. To be called after insertions, before anything else.
    pub fn advance(&mut self, frontier: u64) {
        if std::mem::take(&mut self.unsorted) {
            self.queue.make_contiguous().sort_by_key(|e| e.order);
        }
        self.frontier = self.frontier.max(frontier);
    }

    /// The first work that may start now. It holds its slots until released.
    pub fn start_next(&mut self) -> Option<(Order, T)> {
        debug_assert!(!self.unsorted, "start_next without advance");
        if self.waiting == 0 {
            return None;
        }
        let mut before = 0u64;
        for i in 0..self.queue.len() {
            let e = &self.queue[i];
            // What waits behind a numbered entry comes after it, so only numbered ones look at the frontier.
            let known = e.order.behind > 0 || e.order.number < self.frontier;
            if e.work.is_some() && known {
                let free = e.bloom & before == 0
                    || !self
                        .queue
                        .iter()
                        .take(i)
                        .any(|o| o.bloom & e.bloom != 0 && o.slots.shares(&e.slots));
                if free {
                    self.waiting -= 1;
                    let e = &mut self.queue[i];
                    let work = e.work.take().expect("looked at above");
                    return Some((e.order, work));
                }
            }
            before |= self.queue[i].bloom;
        }
        None
    }

    /// Takes out what has not started and `wanted` names.
    pub fn take_waiting(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        self.queue.retain_mut(|e| {
            let wanted = e.work.as_ref().is_some_and(&mut wanted);
            taken.extend(e.work.take_if(|_| wanted));
            !wanted
        });
        self.waiting -= taken.len();
        if self.queue.is_empty() {
            self.bloom = 0;
        }
        taken
    }

    /// The work of `order` is done: its slots are free for the next.
    pub fn release(&mut self, order: Order) {
        let at = self
            .queue
            .binary_search_by(|e| e.order.cmp(&order))
            .expect("released work is in the queue");
        let entry = self.queue.remove(at).expect("found above");
        assert!(entry.work.is_none(), "released before it started");
        if self.queue.is_empty() {
            self.bloom = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(list: &[u16]) -> Slots {
        Slots::of(list.to_vec())
    }

    #[test]
    fn few_slots_and_many() {
        let few = slots(&[70, 6, 70]);
        let many = Slots::of((100..200).collect());
        assert_eq!(few, Slots::Some(Box::new([6, 70])));
        assert!(matches!(many, Slots::Many(_)));
        assert!(many.contains(100) && !many.contains(36));
        assert!(!few.shares(&many) && !many.shares(&few));
        assert!(slots(&[1, 199]).shares(&many) && many.shares(&slots(&[100])));
        assert!(many.shares(&Slots::of((199..299).collect())));
        assert!(!many.shares(&Slots::of((200..300).collect())));
        assert!(Slots::All.shares(&many) && many.shares(&Slots::All));
        assert_eq!(many.bloom(), u64::MAX);
    }

    #[test]
    fn presence_is_in_the_way_of_all_and_of_nothing_else() {
        let mut locks = Locks::default();
        locks.insert(1, Slots::Presence, 'a');
        locks.insert(2, slots(&[0, 64]), 'b');
        locks.insert(3, Slots::Presence, 'c');
        locks.insert(4, Slots::All, 'd');
        locks.insert(5, Slots::Presence, 'e');
        locks.advance(6);
        let started: Vec<(Order, char)> = std::iter::from_fn(|| locks.start_next()).collect();
        let names: String = started.iter().map(|(_, name)| name).collect();
        assert_eq!(names, "abc");
        for (order, _) in started {
            assert!(locks.start_next().is_none());
            locks.release(order);
        }
        let (d, name) = locks.start_next().unwrap();
        assert_eq!(name, 'd');
        assert!(locks.start_next().is_none());
        locks.release(d);
        assert_eq!(locks.start_next().unwrap().1, 'e');
    }

    #[test]
    fn numbered_work_waits_for_the_frontier_and_runs_in_order() {
        let mut locks = Locks::default();
        locks.insert(7, slots(&[1, 2]), 'b');
        locks.insert(5, slots(&[2, 3]), 'a');
        assert!(locks.in_use(3) && !locks.in_use(4) && !locks.in_use(65));
        locks.advance(5);
        assert!(locks.start_next().is_none());
        locks.advance(6);
        let (a, work) = locks.start_next().unwrap();
        assert_eq!(work, 'a');
        locks.advance(8);
        assert!(locks.start_next().is_none(), "slot 2 is held");
        locks.release(a);
        assert_eq!(locks.start_next().unwrap().1, 'b');
    }

    #[test]
    fn deferred_work_does_not_overtake_on_its_slot_and_others_pass() {
        let mut locks = Locks::default();
        locks.insert(1, slots(&[1]), 'a');
        locks.advance(2);
        let (a, _) = locks.start_next().unwrap();
        locks.defer(slots(&[1]), 'b');
        locks.defer(slots(&[1, 9]), 'c');
        locks.insert(3, slots(&[4]), 'd');
        locks.advance(4);
        let (d, work) = locks.start_next().unwrap();
        assert_eq!(work, 'd');
        locks.release(d);
        locks.release(a);
        let (b, work) = locks.start_next().unwrap();
        assert_eq!(work, 'b');
        assert!(locks.start_next().is_none());
        locks.release(b);
        assert_eq!(locks.start_next().unwrap().1, 'c');
    }

    #[test]
    fn waiting_work_can_be_taken_out() {
        let mut locks = Locks::default();
        locks.insert(1, slots(&[1]), 'a');
        locks.advance(2);
        let (a, _) = locks.start_next().unwrap();
        locks.defer(slots(&[1]), 'b');
        locks.defer(slots(&[1]), 'c');
        assert_eq!(locks.take_waiting(|work| *work == 'b'), ['b']);
        assert_eq!((locks.len(), locks.waiting()), (2, 1));
        locks.release(a);
        let (c, work) = locks.start_next().unwrap();
        assert_eq!(work, 'c');
        assert!(locks.take_waiting(|_| true).is_empty(), "it has started");
        locks.release(c);
        assert!(!locks.in_use(1));
    }

    #[test]
    fn all_slots_means_alone() {
        let mut locks = Locks::default();
        locks.insert(1, slots(&[1]), 'a');
        locks.insert(2, Slots::All, 'b');
        locks.insert(3, slots(&[9]), 'c');
        locks.advance(9);
        let (a, _) = locks.start_next().unwrap();
        assert!(locks.start_next().is_none());
        assert!(locks.in_use(5));
        locks.release(a);
        let (b, work) = locks.start_next().unwrap();
        assert_eq!(work, 'b');
        assert!(locks.start_next().is_none());
        locks.release(b);
        assert_eq!(locks.start_next().unwrap().1, 'c');
    }
}
