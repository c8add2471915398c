//! Listeners in use by a backend, and when to try again after accepting failed.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use super::ListenerId;
use super::net::Listener;

/// The pause after a failed accept (mostly: no descriptors left), so that the loop does not spin on it.
const RETRY: Duration = Duration::from_millis(100);

pub(super) struct Acceptor {
    listener: Listener,
    pub(super) id: ListenerId,
    /// The kernel has a request to accept on it (io_uring), or reports on it (epoll).
    pub(super) armed: bool,
    /// `unlisten` was called.
    pub(super) closing: bool,
    /// When to try again.
    retry_ns: Option<u64>,
}

impl Acceptor {
    pub(super) fn new(listener: Listener, id: ListenerId) -> Self {
        Acceptor {
            listener,
            id,
            armed: false,
            closing: false,
            retry_ns: None,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

#[derive(Default)]
pub(super) struct Acceptors {
    entries: Vec<Option<Acceptor>>,
    waiting: usize,
}

impl Acceptors {
    pub(super) fn insert(&mut self, acceptor: Acceptor) -> usize {
        if let Some(index) = self.entries.iter().position(Option::is_none) {
            self.entries[index] = Some(acceptor);
            return index;
        }
        self.entries.push(Some(acceptor));
        self.entries.len() - 1
    }

    pub(super) fn get(&mut self, index: usize) -> Option<&mut Acceptor> {
        self.entries.get_mut(index)?.as_mut()
    }

    /// Closes the listener.
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index)
            && let Some(acceptor) = entry.take()
            && acceptor.retry_ns.is_some()
        {
            self.waiting -= 1;
        }
    }

    /// The places of all listeners with this id (one id may stand for several addresses).
    pub(super) fn find(&self, id: ListenerId) -> Vec<usize> {
        let named =
            |entry: &Option<Acceptor>| entry.as_ref().is_some_and(|acceptor| acceptor.id == id);
        (0..self.entries.len())
            .filter(|&index| named(&self.entries[index]))
            .collect()
    }

    pub(super) fn retry_later(&mut self, index: usize, now_ns: u64) {
        if let Some(acceptor) = self.get(index)
            && acceptor
                .retry_ns
                .replace(now_ns + RETRY.as_nanos() as u64)
                .is_none()
        {
            self.waiting += 1;
        }
    }

    #[inline]
    pub(super) fn any_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// A listener whose pause is over.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<usize> {
        let is_due = |entry: &Option<Acceptor>| {
            entry
                .as_ref()
                .is_some_and(|acceptor| acceptor.retry_ns.is_some_and(|at| at <= now_ns))
        };
        let index = self.entries.iter().position(is_due)?;
        self.get(index)?.retry_ns = None;
        self.waiting -= 1;
        Some(index)
    }

    /// `time`, cut so that no pause is overslept.
    #[inline]
    pub(super) fn limit_wait(&self, time: Duration) -> Duration {
        if self.waiting > 0 {
            time.min(RETRY)
        } else {
            time
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_listener_is_due_after_the_pause() {
        let mut acceptors = Acceptors::default();
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let index = acceptors.insert(Acceptor::new(listener, ListenerId(7)));
        let day = Duration::from_secs(86_400);
        assert_eq!(acceptors.limit_wait(day), day);
        acceptors.retry_later(index, 1_000);
        acceptors.retry_later(index, 1_000);
        assert_eq!(acceptors.limit_wait(day), RETRY);
        assert_eq!(acceptors.due(1_000), None);
        assert_eq!(acceptors.due(1_000 + RETRY.as_nanos() as u64), Some(index));
        assert!(!acceptors.any_waiting());
        acceptors.retry_later(index, 1_000);
        assert_eq!(acceptors.find(ListenerId(7)), vec![index]);
        acceptors.remove(index);
        assert!(!acceptors.any_waiting());
        assert!(acceptors.find(ListenerId(7)).is_empty());
    }
}
