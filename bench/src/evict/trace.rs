//! Which key is asked for next: Zipf, and Zipf with scans between.
//!
//! A trace is a function of its seed. Keys below [`Trace::keys`] come again, scattered; those from there on are a scan's, each asked
//! for once and never again: what a cache should forget at once.

use anyhow::Result;

use crate::keys::{Distribution, KeyPicker};

/// The named traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Zipf,
    Scan,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Zipf => "Zipf",
            Kind::Scan => "Zipf with scans",
        }
    }
}

/// Of `EVERY` accesses, the last `SCANNED` are of a scan.
const EVERY: u64 = 50_000;
const SCANNED: u64 = 15_000;

pub struct Trace {
    kind: Kind,
    keys: u64,
    picker: KeyPicker,
    rng: fastrand::Rng,
    at: u64,
    scanned: u64,
}

impl Trace {
    pub fn new(kind: Kind, exponent: f64, keys: u64, seed: u64) -> Result<Trace> {
        Ok(Trace {
            kind,
            keys,
            picker: KeyPicker::new(Distribution::Zipf(exponent), keys)?,
            rng: fastrand::Rng::with_seed(seed),
            at: 0,
            scanned: 0,
        })
    }

    /// The next access's key.
    pub fn next(&mut self) -> u64 {
        let scans = self.kind == Kind::Scan && self.at % EVERY >= EVERY - SCANNED;
        self.at += 1;
        if scans {
            self.scanned += 1;
            return self.keys + self.scanned;
        }
        self.picker.pick(&mut self.rng)
    }
}

/// When a key's value ends, in seconds from when it was set: the same at every time, and not before the run is over.
pub fn ttl_seconds(key: u64, seed: u64) -> u64 {
    fastrand::Rng::with_seed(key ^ seed.rotate_left(32)).u64(10_000..100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_all() {
        let take = |kind, seed| {
            let mut trace = Trace::new(kind, 0.99, 1000, seed).unwrap();
            (0..60_000).map(|_| trace.next()).collect::<Vec<_>>()
        };
        assert_eq!(take(Kind::Zipf, 1), take(Kind::Zipf, 1));
        assert_ne!(take(Kind::Zipf, 1), take(Kind::Zipf, 2));
        let scan = take(Kind::Scan, 1);
        let mut scanned: Vec<u64> = scan.iter().copied().filter(|k| *k >= 1000).collect();
        assert_eq!(scanned.len() as u64, SCANNED);
        scanned.dedup();
        assert_eq!(scanned.len() as u64, SCANNED);
    }
}
