//! CLIENT TRACKING, the owner's half: who has read which of this core's keys, and which reads have become stale.
//!
//! Keys are remembered by name, whatever their database, as in Redis: a client's cache has no databases either. What becomes stale
//! is only written down here; the server tells the readers at the end of its turn, behind the replies of what was read.
//!
//! A key of another core that is read while it is borrowed is remembered at its owner: it goes home with the key.

use std::collections::HashMap;

/// A client that reads, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    pub core: u16,
    pub conn: u32,
    pub client: u64,
}

/// What clients must hear.
#[derive(Debug, PartialEq, Eq)]
pub enum Stale {
    /// A key that these have read. `writer`: the client that changed it, or 0.
    Read {
        key: Box<[u8]>,
        readers: Vec<Reader>,
        writer: u64,
    },
    /// For those who want to hear of all keys (BCAST).
    Changed { key: Box<[u8]>, writer: u64 },
    /// Everything: the keyspace was flushed.
    All,
}

#[derive(Debug, Default)]
pub struct Tracking {
    /// Some client, of any core, tracks.
    pub on: bool,
    /// Some client wants to hear of all keys.
    pub broadcast: bool,
    /// The client whose command runs.
    pub writer: u64,
    /// Borrowed keys that were read.
    pub away: Vec<(Box<[u8]>, Reader)>,
    pub stale: Vec<Stale>,
    read: HashMap<Box<[u8]>, Vec<Reader>>,
    items: usize,
}

impl Tracking {
    pub fn set(&mut self, on: bool, broadcast: bool) {
        (self.on, self.broadcast) = (on, broadcast);
        if !on {
            self.forget_all();
        }
    }
    pub fn remember(&mut self, key: &[u8], reader: Reader) {
        let readers = match self.read.get_mut(key) {
            Some(readers) => readers,
            None => self.read.entry(key.into()).or_default(),
        };
        if !readers.contains(&reader) {
            readers.push(reader);
            self.items += 1;
        }
    }
    /// A key of this core has changed, or is gone.
    pub fn changed(&mut self, key: &[u8]) {
        let writer = self.writer;
        if let Some((key, readers)) = self.read.remove_entry(key) {
            self.items -= readers.len();
            self.stale.push(Stale::Read {
                key,
                readers,
                writer,
            });
        }
        if self.broadcast {
            let key = key.into();
            self.stale.push(Stale::Changed { key, writer });
        }
    }
    /// All keys are gone.
    pub fn flushed(&mut self) {
        if self.on {
            self.forget_all();
            self.stale.push(Stale::All);
        }
    }
    fn forget_all(&mut self) {
        self.read = HashMap::new();
        self.items = 0;
    }
    /// Forgets so many keys; their readers hear of it.
    pub fn forget(&mut self, count: usize) {
        // Which ones is as good as chance: the table's seed is secret.
        let keys: Vec<Box<[u8]>> = self.read.keys().take(count).cloned().collect();
        self.writer = 0;
        for key in keys {
            if let Some((key, readers)) = self.read.remove_entry(&key) {
                self.items -= readers.len();
                self.stale.push(Stale::Read {
                    key,
                    readers,
                    writer: 0,
                });
            }
        }
    }
    /// How many keys are remembered, and how many readers of them.
    pub fn counts(&self) -> (usize, usize) {
        (self.read.len(), self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(client: u64) -> Reader {
        Reader {
            core: 0,
            conn: client as u32,
            client,
        }
    }

    #[test]
    fn a_change_is_told_once_to_each_reader() {
        let mut t = Tracking {
            on: true,
            ..Tracking::default()
        };
        for client in [1, 2, 1] {
            t.remember(b"k", reader(client));
        }
        t.remember(b"other", reader(1));
        assert_eq!(t.counts(), (2, 3));
        t.writer = 2;
        t.changed(b"k");
        t.changed(b"k");
        t.changed(b"nobody's");
        let told = Stale::Read {
            key: b"k"[..].into(),
            readers: vec![reader(1), reader(2)],
            writer: 2,
        };
        assert_eq!(t.stale, [told]);
        assert_eq!(t.counts(), (1, 1));
        t.flushed();
        assert_eq!(t.counts(), (0, 0));
        assert_eq!(t.stale.pop(), Some(Stale::All));
    }

    #[test]
    fn who_read_what_is_forgotten_is_told() {
        let mut t = Tracking {
            on: true,
            ..Tracking::default()
        };
        for n in 0..100u32 {
            t.remember(&n.to_ne_bytes(), reader(1));
        }
        t.forget(30);
        assert_eq!((t.counts(), t.stale.len()), ((70, 70), 30));
        t.forget(1000);
        assert_eq!((t.counts(), t.stale.len()), ((0, 0), 100));
    }
}
