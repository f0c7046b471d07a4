//! What names nobody knows may cost: a budget of lookups, and a short memory of names that were not found. So a flood
//! of made-up names asks the load balancer no more than this, and leaves nothing behind after a second.

use super::keyed::Keyed;
use super::session::Network;
use crate::time::{Duration, Time};
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

/// How long a name that was not found is not asked for again: a client repeats its checks several times in it, and
/// is not kept waiting for longer if its session is stored only now.
pub const UNKNOWN_LIFE: Duration = Duration::from_secs(1);

/// Names that were not found, at most; more than there are lookups while one lives.
const MAX_UNKNOWN: usize = 8192;

/// Networks share these many counters, by hash: few enough to be reset each second, enough that two that ask
/// much seldom share one.
const COUNTERS: usize = 1024;

/// One second in [`Time`]'s unit.
const SECOND: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Strangers {
    keyed: Keyed,
    /// The second that is counted, and what was asked in it: in all, and by networks.
    second: u64,
    asked: u32,
    by_network: Vec<u32>,
    /// Hashes of names that were not found, and until when.
    unknown: BTreeSet<u64>,
    order: VecDeque<(Time, u64)>,
}

impl Strangers {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self {
            keyed,
            second: 0,
            asked: 0,
            by_network: vec![0; COUNTERS],
            unknown: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether one more name may be looked up, for this network. Which one floods is its own matter: there stays
    /// something for the others.
    pub(super) fn admit(&mut self, now: Time, network: Network, in_all: u32, of_one: u32) -> bool {
        let second = now.as_micros() / SECOND;
        if second != self.second {
            self.second = second;
            self.asked = 0;
            self.by_network.fill(0);
        }
        // The remainder is less than the number of counters.
        let counter = (self.keyed.hash(&network) % COUNTERS as u64) as usize;
        let Some(of_network) = self.by_network.get_mut(counter) else { return false };
        let admitted = self.asked < in_all && *of_network < of_one;
        if admitted {
            self.asked += 1;
            *of_network += 1;
        }
        admitted
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
    use core::net::IpAddr;

    fn strangers() -> Strangers {
        Strangers::new(Keyed::default())
    }

    fn network(n: u32) -> Network {
        IpAddr::V4(n.into()).into()
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn who_floods_uses_up_its_own_lookups_only() {
        let mut strangers = strangers();
        let admitted = (0..10_000).filter(|_| strangers.admit(at(0), network(1), 1000, 250)).count();
        assert_eq!(admitted, 250);
        assert!(strangers.admit(at(999), network(2), 1000, 250));
        assert!(!strangers.admit(at(999), network(1), 1000, 250));
        assert!(strangers.admit(at(1000), network(1), 1000, 250));
    }

    #[test]
    fn a_flood_from_everywhere_is_limited_in_all() {
        let mut strangers = strangers();
        let admitted = (0..10_000).filter(|n| strangers.admit(at(0), network(*n), 1000, 250)).count();
        assert_eq!(admitted, 1000);
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
