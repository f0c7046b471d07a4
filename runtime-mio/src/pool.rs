//! Connections that outlived their session, until another one of the same worker wants them. Knows no task.

use crate::worker::kept_token;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use slab::Slab;
use srs_proxy_core::time::{Duration, Time};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

/// Connections one worker keeps: what a burst of requests leaves behind, in descriptors.
pub const MAX_KEPT: usize = 256;

/// Connections to one peer, so that the others have room, too.
const MAX_PER_PEER: usize = 128;

/// How long one is kept: less than the 5 s after which Node.js, the most impatient server in wide use, ends an idle
/// connection, so that hardly a request meets the end on its way.
const IDLE: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Kept {
    stream: TcpStream,
    peer: SocketAddr,
    until: Time,
}

/// The kept connections of one worker.
#[derive(Default, Debug)]
pub(crate) struct Pool {
    kept: Slab<Kept>,
    /// By peer: which of them, the one used last at the end. None is empty.
    peers: HashMap<SocketAddr, Vec<usize>>,
}

impl Pool {
    /// Keeps a connection to `peer` that is registered and silent; closes it if there is no room.
    pub(crate) fn put(&mut self, registry: &Registry, mut stream: TcpStream, peer: SocketAddr, now: Time) {
        if self.kept.len() >= MAX_KEPT || self.peers.get(&peer).is_some_and(|all| all.len() >= MAX_PER_PEER) {
            return;
        }
        let entry = self.kept.vacant_entry();
        // If there is something to read by now, an event tells.
        let token = kept_token(entry.key());
        if registry.reregister(&mut stream, token, Interest::READABLE).is_ok() {
            self.peers.entry(peer).or_default().push(entry.key());
            entry.insert(Kept { stream, peer, until: now + IDLE });
        }
    }

    /// The connection to `peer` that was used last, if it is still good. It is to be registered anew.
    pub(crate) fn take(&mut self, peer: SocketAddr, now: Time) -> Option<TcpStream> {
        while let Some(index) = self.peers.get(&peer).and_then(|all| all.last().copied()) {
            let Kept { stream, until, .. } = self.remove(index)?;
            if until > now && is_silent(&stream) {
                return Some(stream);
            }
        }
        None
    }

    /// There was an event: closes the connection unless it was meant for an earlier one of this index.
    pub(crate) fn check(&mut self, index: usize) {
        if self.kept.get(index).is_some_and(|kept| !is_silent(&kept.stream)) {
            self.remove(index);
        }
    }

    /// Closes what has been kept for too long.
    pub(crate) fn sweep(&mut self, now: Time) {
        let old: Vec<usize> =
            self.kept.iter().filter(|(_, kept)| kept.until <= now).map(|(index, _)| index).collect();
        for index in old {
            self.remove(index);
        }
    }

    /// Closes all.
    pub(crate) fn clear(&mut self) {
        self.kept = Slab::new();
        self.peers = HashMap::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// At most `MAX_PER_PEER` steps, one if it is the last used.
    fn remove(&mut self, index: usize) -> Option<Kept> {
        let kept = self.kept.try_remove(index)?;
        let all = self.peers.get_mut(&kept.peer)?;
        if let Some(at) = all.iter().rposition(|other| *other == index) {
            all.remove(at);
        }
        if all.is_empty() {
            self.peers.remove(&kept.peer);
        }
        Some(kept)
    }
}

/// Whether there is nothing to read, not even an end.
pub(crate) fn is_silent(stream: &TcpStream) -> bool {
    stream.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::Poll;
    use std::net::{Ipv4Addr, TcpListener};

    fn put(pool: &mut Pool, poll: &Poll, peer: SocketAddr, at: Time) -> SocketAddr {
        let stream = std::net::TcpStream::connect(peer).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream);
        let near = stream.local_addr().unwrap();
        poll.registry().register(&mut stream, kept_token(0), Interest::READABLE).unwrap();
        pool.put(poll.registry(), stream, peer, at);
        near
    }

    #[test]
    fn no_peer_has_more_than_its_part_and_all_no_more_than_the_limit() {
        let listeners: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
        let (poll, mut pool) = (Poll::new().unwrap(), Pool::default());
        let mut accepted = Vec::new();
        for listener in &listeners {
            for _ in 0..MAX_PER_PEER + 2 {
                put(&mut pool, &poll, listener.local_addr().unwrap(), Time::ZERO);
                accepted.push(listener.accept().unwrap());
            }
        }
        let count =
            |index: usize| pool.peers.get(&listeners[index].local_addr().unwrap()).map_or(0, Vec::len);
        assert_eq!([count(0), count(1), count(2)], [MAX_PER_PEER, MAX_PER_PEER, MAX_KEPT - 2 * MAX_PER_PEER]);
        assert_eq!(pool.kept.len(), MAX_KEPT);
    }

    #[test]
    fn the_one_used_last_is_taken_first_and_old_ones_never() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let peer = listener.local_addr().unwrap();
        let (poll, mut pool) = (Poll::new().unwrap(), Pool::default());
        let at = |millis| Time::ZERO + Duration::from_millis(millis);
        let old = put(&mut pool, &poll, peer, at(0));
        let new = put(&mut pool, &poll, peer, at(100));
        let newest = put(&mut pool, &poll, peer, at(200));
        let mut take = |now| pool.take(peer, now).map(|stream| stream.local_addr().unwrap());
        assert_eq!(take(at(300)), Some(newest));
        assert_eq!(take(at(4050)), Some(new), "{old} is too old");
        assert_eq!(take(at(4050)), None);
        assert!(pool.is_empty() && pool.peers.is_empty());
    }
}
