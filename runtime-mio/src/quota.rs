//! How many sessions of connections one client network may have at all workers together, so that it leaves room for others.

use srs_proxy_core::flow::Network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The networks that have any; copies are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    sessions: Arc<Mutex<HashMap<Network, usize>>>,
    limit: usize,
}

impl Quota {
    /// So many for each network, of which nobody has come.
    pub(crate) fn new(limit: usize) -> Self {
        Self { sessions: Arc::default(), limit }
    }

    /// One more of this client's network, if it may.
    pub(crate) fn take(&self, client: IpAddr) -> Option<Taken> {
        let network = Network::from(client);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sessions.entry(network).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Taken { quota: self.clone(), network })
    }
}

/// One session of a network, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    quota: Quota,
    network: Network,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut sessions = self.quota.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sessions.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_so_many_and_who_leaves_is_forgotten() {
        let quota = Quota::new(2);
        let take = |ip: &str| quota.take(ip.parse().unwrap());
        let (first, second) = (take("10.0.0.1"), take("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(take("10.0.0.1").is_none());
        let others = [take("10.0.0.2"), take("2001:db8::1"), take("2001:db8::2")];
        assert!(others.iter().all(Option::is_some));
        assert!(take("2001:db8::3").is_none(), "it is of the same network");
        drop(first);
        assert!(take("10.0.0.1").is_some(), "and left at once");
        drop((second, others));
        assert!(quota.sessions.lock().unwrap().is_empty());
    }
}
