//! A short memory of names that were not found: who asks for one again makes no question, and after a second nothing is
//! left of it.

use crate::flow::Keyed;
use crate::time::{Duration, Time};
use alloc::collections::{BTreeSet, VecDeque};

/// How long a name that was not found is not asked for again: a client repeats its checks several times in it, and
/// is not kept waiting for longer if its session is stored only now.
pub const UNKNOWN_LIFE: Duration = Duration::from_secs(1);

/// Names that were not found, at most; more than there are lookups while one lives.
const MAX_UNKNOWN: usize = 8192;

#[derive(Debug)]
pub(super) struct Strangers {
    keyed: Keyed,
    /// Hashes of names that were not found, and until when.
    unknown: BTreeSet<u64>,
    order: VecDeque<(Time, u64)>,
}

impl Strangers {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { keyed, unknown: BTreeSet::new(), order: VecDeque::new() }
    }

    /// A name was not found.
    pub(super) fn remember(&mut self, now: Time, name: &str) {
        self.forget(now);
        let hash = self.keyed.hash(name);
        if self.unknown.insert(hash) {
            self.order.push_back((now + UNKNOWN_LIFE, hash));
        }
        if self.order.len() > MAX_UNKNOWN
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.unknown.remove(&oldest);
        }
    }

    /// Whether this name was not found a moment ago.
    pub(super) fn is_unknown(&mut self, now: Time, name: &str) -> bool {
        self.forget(now);
        !self.unknown.is_empty() && self.unknown.contains(&self.keyed.hash(name))
    }

    /// Forgets what has lived long enough.
    pub(super) fn forget(&mut self, now: Time) {
        while let Some((until, hash)) = self.order.front()
            && *until <= now
        {
            self.unknown.remove(hash);
            self.order.pop_front();
        }
    }

    /// When there is something to forget.
    pub(super) fn next(&self) -> Option<Time> {
        self.order.front().map(|(until, _)| *until)
    }

    /// Names that are remembered; `None` if the books do not agree.
    pub(super) fn remembered(&self) -> Option<usize> {
        (self.unknown.len() == self.order.len() && self.order.len() <= MAX_UNKNOWN)
            .then_some(self.order.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn strangers() -> Strangers {
        Strangers::new(Keyed::new([0; 16]))
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn a_name_is_unknown_for_a_moment() {
        let mut strangers = strangers();
        strangers.remember(at(0), "a:b");
        strangers.remember(at(500), "a:b");
        assert!(strangers.is_unknown(at(999), "a:b"));
        assert!(!strangers.is_unknown(at(999), "a:c"));
        assert_eq!(strangers.next(), Some(at(1000)));
        assert!(!strangers.is_unknown(at(1000), "a:b"));
        assert_eq!((strangers.next(), strangers.remembered()), (None, Some(0)));
    }

    #[test]
    fn unknown_names_are_bounded() {
        let mut strangers = strangers();
        for n in 0..2 * MAX_UNKNOWN {
            strangers.remember(at(0), &format!("{n}:x"));
        }
        assert_eq!(strangers.remembered(), Some(MAX_UNKNOWN));
        assert!(strangers.is_unknown(at(1), &format!("{}:x", 2 * MAX_UNKNOWN - 1)));
        assert!(!strangers.is_unknown(at(1), "0:x"));
    }
}
