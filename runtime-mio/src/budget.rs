//! The descriptors that sessions of all workers may hold together. What is over the limit is room that others have: who
//! watches and steers the process, kept connections, pipes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a connection's session holds: the client's, and its origin's or a file's.
pub(crate) const SESSION: usize = 2;

/// A hub's socket to an origin, or a connection that is being closed.
pub(crate) const SOCKET: usize = 1;

/// The budget; copies are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    held: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    /// Room for so many sessions of connections.
    pub(crate) fn new(sessions: usize) -> Self {
        Self { held: Arc::default(), limit: sessions.saturating_mul(SESSION) }
    }

    /// So many, if there is room.
    pub(crate) fn take(&self, count: usize) -> Option<Held> {
        let held = self.take_anyway(count);
        // Dropped, it is given back. Two that come at once may both be refused the last room.
        (self.held.load(Ordering::Relaxed) <= self.limit).then_some(held)
    }

    /// So many, which are there already.
    pub(crate) fn take_anyway(&self, count: usize) -> Held {
        self.held.fetch_add(count, Ordering::Relaxed);
        Held { budget: Arc::clone(&self.held), count }
    }
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<AtomicUsize>,
    count: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_limited_and_given_back() {
        let budget = Budget::new(2);
        let first = budget.take(SESSION).unwrap();
        let socket = budget.clone().take(SOCKET).unwrap();
        assert!(budget.take(SESSION).is_none());
        assert!(budget.take(SOCKET).is_some(), "and given back at once");
        drop(socket);
        let second = budget.take(SESSION).unwrap();
        assert!(budget.take(SOCKET).is_none());
        let closing = budget.take_anyway(SOCKET);
        drop((first, second));
        assert!(budget.take(SESSION).is_some());
        assert!(budget.take(2 * SESSION).is_none());
        drop(closing);
        assert!(budget.take(2 * SESSION).is_some());
    }
}
