//! Starts the workers, drains them and stops them.

use crate::budget::Budget;
use crate::clock::Clock;
use crate::file::Files;
use crate::quota::Quota;
use crate::worker::Worker;
use chacha20::ChaCha12Rng;
use mio::{Poll, Waker};
use rand_core::SeedableRng;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Fault, Leg, Machine, Note};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::{Mailbox, Notify, OriginLoadBalancer};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// Bounds of a worker, and what lies within them.
#[derive(Clone, Debug)]
pub struct Config {
    /// A session between two peers that moves nothing for so long is closed.
    pub idle: Duration,
    /// A peer that takes nothing of what waits for it for so long is cut off.
    pub stall: Duration,
    /// Sessions all workers hold together; above, connections wait to be accepted. Each is of two descriptors. A hub's
    /// socket to an origin, or a connection that is being closed, is one: half a session.
    pub max_sessions: usize,
    /// Of those of connections, so many of one client network (an IPv4 address or an IPv6 /64); more are closed at once.
    pub max_sessions_per_network: usize,
    /// What machines may open of the file system; `None`: nothing.
    pub files: Option<Files>,
}

/// Names a session in logs, uniquely in this process: `2a`, or of a hub's sessions `2.1f`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId {
    task: u64,
    /// Of a hub: which of its sessions. Each has had a leg of another generation, and only the hub itself has 0.
    within: u32,
}

impl SessionId {
    pub(crate) const fn new(task: u64) -> Self {
        Self { task, within: 0 }
    }

    /// The session that a note names by its leg.
    pub(crate) const fn within(self, leg: Leg) -> Self {
        Self { within: leg.generation, ..self }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.task)?;
        if self.within > 0 { write!(f, ".{:x}", self.within) } else { Ok(()) }
    }
}

/// A connection that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Now.
    pub now: Time,
    /// The client.
    pub peer: SocketAddr,
    /// What nobody can foresee: a key for hashing what strangers choose.
    pub key: [u8; 16],
}

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The client; of a hub, its own address.
    pub peer: SocketAddr,
    /// The stream it was routed by.
    pub key: Option<&'a StreamKey>,
    /// Why, unless it simply was over.
    pub fault: Option<Fault>,
    /// Bytes the client sent.
    pub received: u64,
    /// Bytes the client's session received from origins.
    pub from_origin: u64,
    /// Datagrams that did not get on.
    pub lost: Lost,
    /// How long it lasted.
    pub lasted: Duration,
}

/// Datagrams that a session sent and that did not get on, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lost {
    /// Dropped here, since the socket took no more for too long.
    pub blocked: u64,
    /// Refused by this host: too long, no way there, forbidden.
    pub failed: u64,
    /// What a peer's host or a router said by ICMP: nobody there. The session goes on.
    pub unreachable: u64,
}

impl std::ops::Sub for Lost {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            blocked: self.blocked - earlier.blocked,
            failed: self.failed - earlier.failed,
            unreachable: self.unreachable - earlier.unreachable,
        }
    }
}

/// Sees what happens: for logs and counters. Called by workers; must be quick.
pub trait Observer: Send + Sync {
    /// A client was accepted at the listener of this name.
    fn accepted(&self, session: SessionId, listener: &'static str, peer: SocketAddr);
    /// A client was not served, since its network has as many sessions as it may.
    fn turned_away(&self, _listener: &'static str, _peer: SocketAddr) {}
    /// A machine has something to say: of its session, or of one of a hub's.
    fn note(&self, session: SessionId, note: &Note);
    /// Datagrams of a session did not get on, since it was last said; at most once a second. The sum is in [`Ended`].
    fn lost(&self, _session: SessionId, _lost: &Lost) {}
    /// A session is over.
    fn ended(&self, session: SessionId, ended: &Ended<'_>);
}

/// A machine that a worker thread can own.
pub type BoxMachine = Box<dyn Machine + Send>;

/// Makes the machine for an accepted connection, or the hub of a datagram socket.
pub type NewMachine = Arc<dyn Fn(Accepted) -> BoxMachine + Send + Sync>;

/// What a server's connections are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// What the process is there for: counted, limited, and waited for when it drains.
    Session,
    /// To watch and steer the process: served beyond the limit of sessions, and not waited for.
    Control,
}

/// Sockets of one server, one for each worker.
pub enum Listener {
    /// Each connection gets a machine.
    Tcp(&'static str, Class, Vec<TcpListener>, NewMachine),
    /// Each socket gets a machine, from the start to the end.
    Udp(&'static str, Vec<UdpSocket>, NewMachine),
}

/// One worker's part of a listener.
pub(crate) enum Share {
    Tcp { name: &'static str, class: Class, socket: TcpListener, new: NewMachine },
    Udp { name: &'static str, socket: UdpSocket, new: NewMachine },
}

/// What the workers shall do.
pub(crate) mod mode {
    pub(crate) const RUN: u8 = 0;
    /// Accept no more; end when the last session of all workers does.
    pub(crate) const DRAIN: u8 = 1;
    /// End now.
    pub(crate) const STOP: u8 = 2;
}

/// What all workers and their owner see.
pub(crate) struct Shared {
    mode: AtomicU8,
    pub(crate) sessions: AtomicUsize,
    /// Workers that a drain waits for.
    busy: AtomicUsize,
    /// Sessions that were not over at the end.
    pub(crate) cut: AtomicUsize,
    pub(crate) budget: Budget,
    pub(crate) quota: Quota,
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Shared {
    fn new(mailboxes: Vec<Arc<Mailbox>>, config: &Config) -> Self {
        Self {
            mode: AtomicU8::new(mode::RUN),
            sessions: AtomicUsize::new(0),
            busy: AtomicUsize::new(mailboxes.len()),
            cut: AtomicUsize::new(0),
            budget: Budget::new(config.max_sessions),
            quota: Quota::new(config.max_sessions_per_network),
            mailboxes,
        }
    }

    /// What the workers shall do.
    pub(crate) fn mode(&self) -> u8 {
        self.mode.load(Ordering::Relaxed)
    }

    fn set(&self, mode: u8) {
        self.mode.fetch_max(mode, Ordering::Relaxed);
        for mailbox in &self.mailboxes {
            mailbox.wake();
        }
    }

    /// A worker that drains has nothing left to wait for. They all stay until the last one has, since the kernel spreads
    /// datagrams over the sockets that there are: with one socket less, sessions would come to other workers.
    pub(crate) fn is_drained(&self) {
        if self.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.set(mode::STOP);
        }
    }
}

/// What all workers are made of.
pub(crate) struct Common<'a> {
    pub(crate) config: Config,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) lb: &'a Arc<dyn OriginLoadBalancer>,
    pub(crate) observer: &'a Arc<dyn Observer>,
    pub(crate) clock: Clock,
}

struct Wake(Waker);

impl Notify for Wake {
    fn notify(&self) {
        // It fails only if the worker is gone, and then nobody waits.
        let _gone = self.0.wake();
    }
}

/// Running workers.
pub struct Runtime {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Runtime {
    /// Starts `workers` threads. Each listener must have as many sockets. Whoever does not know `seed` can't guess what
    /// machines draw by lot.
    ///
    /// # Errors
    /// The system has no descriptors or threads left.
    pub fn start(
        workers: usize,
        config: Config,
        listeners: Vec<Listener>,
        lb: &Arc<dyn OriginLoadBalancer>,
        observer: &Arc<dyn Observer>,
        clock: Clock,
        seed: [u8; 32],
    ) -> io::Result<Self> {
        let mut shares: Vec<Vec<Share>> = (0..workers).map(|_| Vec::new()).collect();
        for listener in listeners {
            match listener {
                Listener::Tcp(name, class, sockets, new) => {
                    for (share, socket) in shares.iter_mut().zip(sockets) {
                        share.push(Share::Tcp { name, class, socket, new: Arc::clone(&new) });
                    }
                }
                Listener::Udp(name, sockets, new) => {
                    for (share, socket) in shares.iter_mut().zip(sockets) {
                        share.push(Share::Udp { name, socket, new: Arc::clone(&new) });
                    }
                }
            }
        }
        let (mut polls, mut mailboxes) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), crate::worker::WAKER)?;
            polls.push(poll);
            mailboxes.push(Arc::new(Mailbox::new(Box::new(Wake(waker)))));
        }
        let shared = Arc::new(Shared::new(mailboxes.clone(), &config));
        let common = Common { config, shared: &shared, lb, observer, clock };
        let mut seeds = ChaCha12Rng::from_seed(seed);
        let mut threads = Vec::new();
        for (index, ((share, poll), mailbox)) in shares.into_iter().zip(polls).zip(mailboxes).enumerate() {
            let worker = Worker::new(&common, poll, index, seeds.fork(), mailbox, share)?;
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            threads.push(thread.spawn(move || worker.run())?);
        }
        Ok(Self { shared, threads })
    }

    /// Sessions that run now, without hubs and control connections.
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Relaxed)
    }

    /// Sessions that were not over when everything was closed, those of hubs, too; known when all workers have ended.
    pub fn cut(&self) -> usize {
        self.shared.cut.load(Ordering::Relaxed)
    }

    /// Accepts no more. The workers end when the last session of all does.
    pub fn drain(&self) {
        self.shared.set(mode::DRAIN);
    }

    /// Closes everything.
    pub fn stop(&self) {
        self.shared.set(mode::STOP);
    }

    /// Whether all workers have ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_a_hub_is_named_by_both() {
        let hub = SessionId::new(0x2a);
        assert_eq!(hub.to_string(), "2a");
        assert_eq!(hub.within(Leg::CLIENT), hub);
        assert_eq!(hub.within(Leg::new(3, 0x1f)).to_string(), "2a.1f");
    }
}
