//! One heap of deadlines per worker, lazily corrected: a task that moved its deadline back is found out when
//! the old one is due, so the data path never touches the heap.

use srs_proxy_core::time::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Which task: its place in the worker's table and a serial number that tells it from earlier ones there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct TaskId {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

#[derive(Default, Debug)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Time, TaskId)>>);

impl Timers {
    /// Adds a deadline. O(log n).
    pub(crate) fn push(&mut self, at: Time, task: TaskId) {
        self.0.push(Reverse((at, task)));
    }

    /// The next deadline, perhaps of a task that is gone.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a deadline that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<(Time, TaskId)> {
        if self.next()? > now {
            return None;
        }
        let due = self.0.pop().map(|Reverse(due)| due);
        // A burst of sessions shall not hold its room for ever.
        if self.0.capacity() > 1024 && self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
        due
    }
}
