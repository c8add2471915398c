//! What cores rely on between them, checked over all interleavings and all values that the memory model lets a load
//! return: the sequencer's frontier and the sleepers' wake-ups.
//!
//! The files under test are compiled here once more, with `loom`'s atomics as their `crate::sync`. Inboxes are stood in for by
//! relaxed cells, which are weaker than the real queues: that a part is seen may come from the frontier alone.
//!
//! LOOM_MAX_PREEMPTIONS (3 by default) bounds how often a thread is interrupted where it could go on.

#[path = "../src/sequencer.rs"]
mod sequencer;
#[path = "../src/sleeper.rs"]
mod sleeper;
mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Notify};
use loom::thread;
use ringwood_shard::locks::{Locks, Slots};
use sequencer::Sequencer;
use sleeper::{Sleeper, published};

fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(3));
    model.check(f);
}

/// A core's inbox: by number, what came under it. 0 is nothing.
struct Inbox(Vec<AtomicUsize>);

impl Inbox {
    fn new(numbers: usize) -> Self {
        Self((0..=numbers).map(|_| AtomicUsize::new(0)).collect())
    }
    fn put(&self, number: u64, part: usize) {
        self.0[number as usize].store(part, Relaxed);
    }
    fn look(&self, number: u64) -> usize {
        self.0[number as usize].load(Relaxed)
    }
}

#[test]
fn the_frontier_stays_below_what_is_being_published() {
    check(|| {
        let s = Sequencer::new(2);
        assert_eq!(s.frontier(), 1);
        s.issue(0, |n| {
            assert_eq!(n, 1);
            assert_eq!(s.frontier(), 1);
            s.issue(1, |n| assert_eq!(n, 2));
            assert_eq!(s.frontier(), 1, "number 1 is still being published");
        });
        assert_eq!(s.frontier(), 3);
    });
}

/// Two issuers, one owner: what lies below a frontier is there.
#[test]
fn everything_below_the_frontier_is_in_the_inbox() {
    check(|| {
        let s = Arc::new((Sequencer::new(3), Inbox::new(3)));
        let issue = |core: usize, times: usize| {
            let s = s.clone();
            thread::spawn(move || {
                for _ in 0..times {
                    s.0.issue(core, |number| s.1.put(number, 1));
                }
            })
        };
        let threads = [issue(0, 2), issue(1, 1)];
        let mut last = 0;
        for _ in 0..2 {
            let frontier = s.0.frontier();
            assert!(frontier >= last, "it moves forwards");
            last = frontier;
            for number in 1..frontier {
                assert_eq!(s.1.look(number), 1, "{number} below {frontier}");
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(s.0.frontier(), 4, "nothing stays announced");
    });
}

/// Two cores, each issues a transaction over both, and takes parts in as a core's turn does: the real lock queue runs them in the
/// same order on both cores.
#[test]
fn transactions_run_in_the_same_order_on_all_their_owners() {
    struct World {
        sequencer: Sequencer,
        inboxes: [Inbox; 2],
    }
    struct Owner {
        core: usize,
        locks: Locks<usize>,
        taken: Vec<u64>,
        ran: Vec<usize>,
    }
    impl Owner {
        fn issue(&mut self, world: &World) {
            let (core, other) = (self.core, 1 - self.core);
            world.sequencer.issue(core, |number| {
                // The own part goes into the lock queue at once, as in `transaction.rs`.
                self.locks.insert(number, Slots::Some([7].into()), core + 1);
                self.taken.push(number);
                world.inboxes[other].put(number, core + 1);
            });
        }
        fn turn(&mut self, world: &World) {
            let frontier = world.sequencer.frontier();
            for number in 1..=2 {
                let part = world.inboxes[self.core].look(number);
                if part != 0 && !self.taken.contains(&number) {
                    self.taken.push(number);
                    self.locks.insert(number, Slots::Some([7].into()), part);
                }
            }
            self.locks.advance(frontier);
            while let Some((order, part)) = self.locks.start_next() {
                self.ran.push(part);
                self.locks.release(order);
            }
        }
    }
    check(|| {
        let world = Arc::new(World {
            sequencer: Sequencer::new(2),
            inboxes: [Inbox::new(2), Inbox::new(2)],
        });
        let owner = |core| Owner {
            core,
            locks: Locks::default(),
            taken: Vec::new(),
            ran: Vec::new(),
        };
        let second = {
            let (world, mut owner) = (world.clone(), owner(1));
            thread::spawn(move || {
                owner.turn(&world);
                owner.issue(&world);
                owner.turn(&world);
                owner
            })
        };
        let mut first = owner(0);
        first.issue(&world);
        first.turn(&world);
        let mut second = second.join().unwrap();
        first.turn(&world);
        second.turn(&world);
        assert_eq!(first.ran.len(), 2, "both run in the end");
        assert_eq!(first.ran, second.ran);
    });
}

/// Two senders, one receiver that sleeps whenever it finds nothing. A lost wake-up is a deadlock, which loom reports.
#[test]
fn a_sleeper_is_woken_for_every_message() {
    struct World {
        sleeper: Sleeper,
        messages: [AtomicUsize; 2],
        /// The eventfd or ring message that ends the kernel's sleep.
        alarm: Notify,
    }
    check(|| {
        let world = Arc::new(World {
            sleeper: Sleeper::new(),
            messages: [AtomicUsize::new(0), AtomicUsize::new(0)],
            alarm: Notify::new(),
        });
        let senders: Vec<_> = (0..2)
            .map(|n| {
                let world = world.clone();
                thread::spawn(move || {
                    world.messages[n].store(1, Relaxed);
                    if world.sleeper.must_wake(&published()) {
                        world.alarm.notify();
                    }
                })
            })
            .collect();
        let mut got = [false; 2];
        while got != [true; 2] {
            let new = |n: usize| !got[n] && world.messages[n].load(Relaxed) != 0;
            if world.sleeper.fall_asleep(|| new(0) || new(1)) {
                world.alarm.wait();
                world.sleeper.wake_up();
            }
            for (n, got) in got.iter_mut().enumerate() {
                *got |= world.messages[n].load(Relaxed) != 0;
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
    });
}
