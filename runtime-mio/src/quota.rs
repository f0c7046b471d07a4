//! How many sessions of connections each client network has at all workers, so that one leaves room for others.

use srs_proxy_core::flow::Network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The networks that have any; copies are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    sessions: Arc<Mutex<HashMap<Network, usize>>>,
    limit: usize,
}

impl Crowd {
    /// Nobody; of each network so many may come.
    pub(crate) fn new(limit: usize) -> Self {
        Self { sessions: Arc::default(), limit }
    }

    /// One more of this client's network, if it may.
    pub(crate) fn join(&self, client: IpAddr) -> Option<Member> {
        let network = Network::from(client);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sessions.entry(network).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        Some(Member { crowd: self.clone(), network })
    }
}

/// One of a crowd, until it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Crowd,
    network: Network,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut sessions = self.crowd.sessions.lock().unwrap_or_else(PoisonError::into_inner);
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
        let crowd = Crowd::new(2);
        let join = |ip: &str| crowd.join(ip.parse().unwrap());
        let (first, second) = (join("10.0.0.1"), join("::ffff:10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(join("10.0.0.1").is_none());
        let others = [join("10.0.0.2"), join("2001:db8::1"), join("2001:db8::2")];
        assert!(others.iter().all(Option::is_some));
        assert!(join("2001:db8::3").is_none(), "it is of the same network");
        drop(first);
        assert!(join("10.0.0.1").is_some(), "and left at once");
        drop((second, others));
        assert!(crowd.sessions.lock().unwrap().is_empty());
    }
}
