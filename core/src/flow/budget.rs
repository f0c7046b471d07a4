//! How many questions strangers may cause in a second: in all, and one network. Asks nothing itself.

use super::{Keyed, Network};
use crate::time::Time;
use alloc::vec;
use alloc::vec::Vec;

/// Networks share these many counters, by hash: few enough to be reset each second, enough that two that ask
/// much seldom share one.
const COUNTERS: usize = 1024;

/// One second in [`Time`]'s unit.
const SECOND: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Budget {
    keyed: Keyed,
    /// The second that is counted, and what was asked in it: in all, and by networks.
    second: u64,
    asked: u32,
    by_network: Vec<u32>,
}

impl Budget {
    pub(crate) fn new(keyed: Keyed) -> Self {
        Self { keyed, second: 0, asked: 0, by_network: vec![0; COUNTERS] }
    }

    /// Whether one more question may be asked, for this network. Which one floods is its own matter: there stays
    /// something for the others.
    pub(crate) fn admit(&mut self, now: Time, network: Network, in_all: u32, of_one: u32) -> bool {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    fn budget() -> Budget {
        Budget::new(Keyed::new([0; 16]))
    }

    fn network(n: u32) -> Network {
        IpAddr::V4(n.into()).into()
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    #[test]
    fn who_floods_uses_up_its_own_lookups_only() {
        let mut budget = budget();
        let admitted = (0..10_000).filter(|_| budget.admit(at(0), network(1), 1000, 250)).count();
        assert_eq!(admitted, 250);
        assert!(budget.admit(at(999), network(2), 1000, 250));
        assert!(!budget.admit(at(999), network(1), 1000, 250));
        assert!(budget.admit(at(1000), network(1), 1000, 250));
    }

    #[test]
    fn a_flood_from_everywhere_is_limited_in_all() {
        let mut budget = budget();
        let admitted = (0..10_000).filter(|n| budget.admit(at(0), network(*n), 1000, 250)).count();
        assert_eq!(admitted, 1000);
    }
}
