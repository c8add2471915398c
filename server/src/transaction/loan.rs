//! Keys that one core has from another, and their way home.

use super::Kind;
use crate::blocking::{Meanwhile, Waiter};
use crate::core::Core;
use crate::mailbox::Mail;
use ringwood_shard::keyspace::entry::Parts;
use ringwood_shard::locks::Order;
use ringwood_shard::shard::Shard;
use ringwood_shard::tracking::Reader;
use ringwood_shard::watch::Name;
use std::sync::Arc;

/// Entries on their way: database, key, and what is stored there.
#[derive(Debug, Default)]
pub struct Loan {
    pub entries: Vec<(usize, Box<[u8]>, Option<Parts>)>,
    /// On the way home: which of them changed.
    pub changed: Vec<Name>,
    /// And who has read which for a cache, and who has changed them.
    pub readers: Vec<(Box<[u8]>, Reader)>,
    pub writer: u64,
    /// Somebody who has waited longer than the client for which it is comes first.
    pub yields: bool,
}

/// What a transaction has borrowed so far.
#[derive(Default)]
pub(crate) struct Borrowed {
    pub(super) loans: Vec<(u16, Loan, Order)>,
    /// The coordinator's own locks.
    pub(super) own: Option<Order>,
    /// The command does not run: see [`Loan::yields`].
    pub(super) yields: bool,
}

impl Borrowed {
    /// What a command of one core holds.
    pub(super) fn nothing(own: Order) -> Self {
        Self {
            own: Some(own),
            ..Self::default()
        }
    }
    pub fn loans_mut(&mut self) -> impl Iterator<Item = &mut Loan> {
        self.loans.iter_mut().map(|(_, loan, _)| loan)
    }
    pub fn take_own(&mut self) -> Option<Order> {
        self.own.take()
    }
}

/// Puts borrowed keys into a keyspace; `guests`: and notes that they are here, for commands that ask.
pub(crate) fn bring_in(shard: &mut Shard, loan: &mut Loan, guests: bool) {
    shard.attention.guests_changed.get_or_insert_default();
    for (db, key, parts) in &mut loan.entries {
        if let Some(parts) = parts.take() {
            shard.restore(*db, key, parts);
        }
        if guests {
            shard.guests.insert((*db, key.clone()));
        }
    }
}

/// Takes borrowed keys out again. What `writer` changed of them goes home with them.
pub(crate) fn take_out(shard: &mut Shard, loan: &mut Loan, writer: u64) {
    for (db, key, parts) in &mut loan.entries {
        *parts = shard.lend(*db, key);
    }
    let changed = shard.attention.guests_changed.iter().flatten();
    let ours = |name: &&Name| {
        loan.entries
            .iter()
            .any(|(db, key, _)| *db == name.0 && *key == name.1)
    };
    loan.changed = changed.filter(ours).cloned().collect();
    let away = &mut shard.attention.tracking.away;
    if !away.is_empty() {
        let read =
            |(key, _): &mut (Box<[u8]>, Reader)| loan.entries.iter().any(|(_, k, _)| k == key);
        loan.readers = away.extract_if(.., read).collect();
    }
    loan.writer = writer;
}

impl Core {
    pub(crate) fn lent(
        &mut self,
        from: usize,
        transaction: u32,
        number: u64,
        loan: Loan,
        order: Order,
    ) {
        let t = self
            .transactions
            .get_mut(&transaction)
            .expect("a loan is for a transaction under way");
        assert_eq!(t.number, number, "a loan is for its own transaction");
        match &mut t.kind {
            Kind::Borrow { borrowed, .. } | Kind::Exec(_, borrowed) if from == self.id => {
                borrowed.yields |= loan.yields;
                borrowed.own = Some(order);
            }
            Kind::Borrow { borrowed, .. } | Kind::Exec(_, borrowed) => {
                borrowed.yields |= loan.yields;
                borrowed.loans.push((from as u16, loan, order));
            }
            Kind::Exclusive(all) => all.held(from as u16, order, from == self.id),
            Kind::Gather(_) | Kind::Visit { .. } | Kind::Aside(_) => {
                panic!("a loan for a transaction of parts")
            }
        }
        t.left -= 1;
        if t.left > 0 {
            return;
        }
        match t.kind {
            Kind::Exclusive(_) => self.begin_exclusive(transaction),
            _ => self.run_borrowed(transaction),
        }
    }

    /// Takes keys out for another core.
    pub(crate) fn lend_keys(&mut self, keys: Vec<Name>) -> Loan {
        let lend = |(db, key): Name| {
            let parts = self.shard.lend(db, &key);
            self.shard.note_away(&key);
            (db, key, parts)
        };
        let entries: Vec<_> = keys.into_iter().map(lend).collect();
        self.blocking.note_lent(&self.shard, &entries);
        Loan {
            entries,
            ..Loan::default()
        }
    }
    pub(crate) fn bring_in(&mut self, loan: &mut Loan, guests: bool) {
        bring_in(&mut self.shard, loan, guests);
    }
    pub(crate) fn take_out(&mut self, loan: &mut Loan) {
        take_out(&mut self.shard, loan, self.caller.client);
    }

    /// Takes borrowed keys out and sends them home, and unlocks everything; `waiter` waits for some of them from now on.
    pub(super) fn give_back(&mut self, mut borrowed: Borrowed, waiter: Option<Arc<Waiter>>) {
        for (_, loan, _) in &mut borrowed.loans {
            self.take_out(loan);
        }
        self.shard.attention.guests_changed = None;
        self.send_home(borrowed, waiter);
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
    }

    pub(crate) fn send_home(&mut self, borrowed: Borrowed, waiter: Option<Arc<Waiter>>) {
        for (core, loan, order) in borrowed.loans {
            let back = Mail::GiveBack {
                order: Some(order),
                loan,
                waiter: waiter.clone(),
            };
            self.mailbox.send(core as usize, back);
        }
        if let Some(order) = borrowed.own {
            self.locks.release(order);
        }
        // Called from within `run_unlocked` or from the mail; what waited for our own slots goes on in the next round.
        self.unlocked = true;
    }

    /// Keys come home. Without an order the transaction goes on, and their slots stay locked.
    pub(crate) fn given_back(
        &mut self,
        order: Option<Order>,
        loan: Loan,
        waiter: Option<Arc<Waiter>>,
    ) {
        let mut in_vain = Vec::new();
        for (db, key, parts) in loan.entries {
            if let Some(parts) = parts {
                self.shard.restore(db, &key, parts);
            }
            self.shard.note_home(&key);
            match self.blocking.note_returned(db, &key) {
                Some(Meanwhile::Touched) => self.shard.attention.look_again(db, &key),
                Some(Meanwhile::InVain(waiter)) => in_vain.push(waiter),
                Some(Meanwhile::Nothing) | None => {}
            }
        }
        // First the readers: who read it may have done so before it changed.
        for (key, reader) in loan.readers {
            self.shard.attention.tracking.remember(&key, reader);
        }
        self.shard.attention.tracking.writer = loan.writer;
        for (db, key) in loan.changed {
            if self.shard.attention.tracking.on {
                self.shard.attention.tracking.changed(&key);
            }
            self.shard.attention.changed(db, &key, 0, |_| false);
        }
        self.shard.attention.tracking.writer = 0;
        if let Some(waiter) = waiter {
            self.enqueue(&waiter);
        }
        let Some(order) = order else {
            for waiter in in_vain {
                self.touch_keys(&waiter);
            }
            return;
        };
        self.locks.release(order);
        for waiter in in_vain {
            self.serve_behind(&waiter);
        }
        if !self.shard.attention.touched.is_empty() {
            self.serve_blocked();
        }
        self.unlocked = true;
    }
}
