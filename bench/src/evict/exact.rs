//! Caches that do exactly what a policy says, in keys instead of bytes.
//!
//! All of them let go the key with the lowest rank. LFU counts while a key is in the cache, as the servers do; of equally frequent
//! keys the least recently used goes.

use std::collections::{BTreeSet, HashMap};

use super::trace::ttl_seconds;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Recency,
    Frequency,
    Chance,
    Expiry,
}

type Rank = (u64, u64);

pub struct Exact {
    by: By,
    capacity: usize,
    seed: u64,
    rng: fastrand::Rng,
    now: u64,
    held: HashMap<u64, Rank>,
    order: BTreeSet<(Rank, u64)>,
}

impl Exact {
    pub fn new(by: By, capacity: usize, seed: u64) -> Exact {
        Exact {
            by,
            capacity,
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now: 0,
            held: HashMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Asks for a key, which is there afterwards. True if it was there before.
    pub fn access(&mut self, key: u64) -> bool {
        self.now += 1;
        let before = self.held.get(&key).copied();
        let rank = match (self.by, before) {
            (By::Recency, _) => (self.now, 0),
            (By::Frequency, before) => (before.map_or(1, |(count, _)| count + 1), self.now),
            (By::Chance | By::Expiry, Some(before)) => before,
            (By::Chance, None) => (self.rng.u64(..), 0),
            // The trace's time stands still beside the keys' times.
            (By::Expiry, None) => (ttl_seconds(key, self.seed), 0),
        };
        match before {
            Some(before) => {
                self.order.remove(&(before, key));
            }
            None if self.held.len() >= self.capacity => {
                if let Some((_, last)) = self.order.pop_first() {
                    self.held.remove(&last);
                }
            }
            None => {}
        }
        self.held.insert(key, rank);
        self.order.insert((rank, key));
        before.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(by: By, keys: &[u64]) -> Vec<bool> {
        let mut exact = Exact::new(by, 2, 1);
        keys.iter().map(|k| exact.access(*k)).collect()
    }

    #[test]
    fn each_lets_go_what_it_should() {
        let keys = [1, 1, 2, 3, 1, 2];
        assert_eq!(
            hits(By::Recency, &keys),
            [false, true, false, false, false, false]
        );
        assert_eq!(
            hits(By::Frequency, &keys),
            [false, true, false, false, true, false]
        );
        let many: Vec<u64> = (0..10_000).map(|n| n * 7 % 10).collect();
        let hit = hits(By::Chance, &many).iter().filter(|h| **h).count();
        assert!((500..2000).contains(&hit), "{hit}");
        // The key that ends last stays for good.
        let last = (0..10).max_by_key(|k| ttl_seconds(*k, 1)).unwrap();
        let mut exact = Exact::new(By::Expiry, 2, 1);
        let hit = many
            .iter()
            .filter(|k| exact.access(**k) && **k == last)
            .count();
        assert_eq!(hit, 999);
    }
}
