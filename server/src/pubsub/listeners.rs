//! The clients of one core that listen to one name.

use crate::io::ConnId;
use std::collections::HashMap;

/// A subscriber. Connections' numbers are used again, so the client's own is there too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub conn: ConnId,
    pub client: u64,
}

/// Listeners from which on their places are remembered; below, a search is faster.
const INDEXED: usize = 32;

/// Invariant: `places`, where it is there, has the index in `active` of every listener, by the client's number.
#[derive(Default)]
pub struct Listeners {
    /// Clients that asked for this and have not given it up. What they get from it may lag behind: a change of subscriptions
    /// waits for its turn in the global order.
    pub asked: usize,
    /// Clients that get messages.
    active: Vec<Listener>,
    /// Boxed: few names need it, and a map is six words.
    #[allow(clippy::box_collection)]
    places: Option<Box<HashMap<u64, usize>>>,
}

impl Listeners {
    pub fn active(&self) -> &[Listener] {
        &self.active
    }
    /// Nobody has anything to do with it any more.
    pub fn is_over(&self) -> bool {
        self.asked == 0 && self.active.is_empty()
    }
    pub fn add(&mut self, listener: Listener) {
        if let Some(places) = &mut self.places {
            places.insert(listener.client, self.active.len());
        }
        self.active.push(listener);
        if self.places.is_none() && self.active.len() > INDEXED {
            let places = self.active.iter().enumerate();
            self.places = Some(Box::new(places.map(|(at, l)| (l.client, at)).collect()));
        }
    }
    /// A client that is not there is fine: it may have gone while its change waited.
    pub fn remove(&mut self, client: u64) {
        let at = match &mut self.places {
            Some(places) => places.remove(&client),
            None => self.active.iter().position(|l| l.client == client),
        };
        let Some(at) = at else { return };
        self.active.swap_remove(at);
        if self.active.len() <= INDEXED / 2 {
            self.places = None;
        } else if let (Some(places), Some(moved)) = (&mut self.places, self.active.get(at)) {
            places.insert(moved.client, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_come_and_go_in_any_order() {
        let mut listeners = Listeners::default();
        let mut model: Vec<u64> = Vec::new();
        let mut random = 5u64;
        for step in 0..4000u64 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(7);
            let grow = step % 1000 < 500;
            if model.is_empty() || (random >> 61 > 1) == grow {
                listeners.add(Listener {
                    conn: ConnId(step as u32),
                    client: step,
                });
                model.push(step);
            } else {
                let client = model.swap_remove((random >> 33) as usize % model.len());
                listeners.remove(client);
                listeners.remove(client);
            }
            let mut active: Vec<u64> = listeners.active().iter().map(|l| l.client).collect();
            active.sort_unstable();
            let mut expected = model.clone();
            expected.sort_unstable();
            assert_eq!(active, expected);
            if let Some(places) = &listeners.places {
                assert_eq!(places.len(), model.len());
                for (at, l) in listeners.active().iter().enumerate() {
                    assert_eq!(places[&l.client], at);
                }
            }
        }
    }
}
