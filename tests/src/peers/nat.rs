//! A UDP network address translator between WebRTC clients and what they talk to. It can change the ports it sends from,
//! be unreachable for a while, and shows what clients send. Moves datagrams untouched.

use super::{PATIENCE, wait_for};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the thread waits before it looks whether it is to end or to change.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Longer than any datagram here, bytes.
const LONGEST: usize = 4096;

/// A running translator.
#[derive(Debug)]
pub struct Nat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inside: SocketAddr,
    outside: SocketAddr,
    /// Datagrams to clients that have passed.
    passed: AtomicU64,
    ended: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What clients send to; closed for a while, it is unreachable as the kernel says it.
    listener: Option<Arc<UdpSocket>>,
    clients: BTreeMap<SocketAddr, Arc<UdpSocket>>,
    /// When the first check has left from the present ports.
    checked: Option<Instant>,
    /// How long after that the first datagram came to them that is not STUN.
    recovered: Option<Duration>,
    /// The last check of a client.
    check: Option<Vec<u8>>,
}

impl Nat {
    /// Clients that send to `inside` reach `outside`.
    #[track_caller]
    pub fn start(inside: SocketAddr, outside: SocketAddr) -> Self {
        let listener = bound(inside);
        let inside = listener.local_addr().expect("its address");
        let state = State {
            listener: Some(listener),
            clients: BTreeMap::new(),
            checked: None,
            recovered: None,
            check: None,
        };
        let (passed, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { inside, outside, passed, ended, state: Mutex::new(state) });
        let running = Arc::clone(&shared);
        let thread = Some(thread::spawn(move || {
            while !running.ended.load(Ordering::Relaxed) {
                running.turn();
            }
        }));
        Self { shared, thread }
    }

    /// Where clients send to.
    pub fn inside(&self) -> SocketAddr {
        self.shared.inside
    }

    /// From now on all datagrams leave from other ports than before, and nothing comes in at those.
    #[track_caller]
    pub fn rebind(&self) {
        let mut state = self.shared.state();
        for socket in state.clients.values_mut() {
            *socket = self.shared.outer();
        }
        (state.checked, state.recovered) = (None, None);
    }

    /// How long after the first check from the present ports the first media came there.
    pub fn recovered(&self) -> Option<Duration> {
        self.shared.state().recovered
    }

    /// From now on nobody is at the inside's address, as the kernel tells whoever sends there.
    pub fn close(&self) {
        self.shared.state().listener = None;
    }

    /// Ends that.
    #[track_caller]
    pub fn open(&self) {
        // The thread may hold the old one for a moment.
        let socket = wait_for("the address is free", PATIENCE, || UdpSocket::bind(self.shared.inside).ok());
        socket.set_nonblocking(true).expect("a socket that does not block");
        self.shared.state().listener = Some(Arc::new(socket));
    }

    /// How many datagrams have passed to clients.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// The last STUN request that a client has sent.
    #[track_caller]
    pub fn check(&self) -> Vec<u8> {
        wait_for("a client has sent a check", PATIENCE, || self.shared.state().check.clone())
    }

    /// Sends a datagram as if the clients had.
    #[track_caller]
    pub fn inject(&self, bytes: &[u8]) {
        for socket in self.shared.state().clients.values() {
            socket.send(bytes).expect("a datagram is sent");
        }
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outer(&self) -> Arc<UdpSocket> {
        let socket = bound((Ipv4Addr::LOCALHOST, 0).into());
        socket.connect(self.outside).expect("a way out");
        socket
    }

    /// Moves what there is, after a while at most.
    fn turn(&self) {
        let (listener, clients) = {
            let state = self.state();
            (state.listener.clone(), state.clients.clone())
        };
        let sockets: Vec<_> = listener.iter().chain(clients.values()).collect();
        let mut waiting: Vec<_> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
        if poll(&mut waiting, Some(&LOOK_EVERY)).is_err() {
            return;
        }
        let mut buffer = [0; LONGEST];
        if let Some(socket) = &listener {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                self.leave(from, &buffer[..length]);
            }
        }
        for (client, socket) in &clients {
            // Who is unreachable now may be reached later.
            while let Ok(length) = socket.recv(&mut buffer) {
                let Some(listener) = &listener else { break };
                if listener.send_to(&buffer[..length], *client).is_ok() {
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    self.came(*client, socket, &buffer[..length]);
                }
            }
        }
    }

    /// Notes the first media at the present ports.
    fn came(&self, client: SocketAddr, at: &Arc<UdpSocket>, bytes: &[u8]) {
        let mut state = self.state();
        let is_present = state.clients.get(&client).is_some_and(|present| Arc::ptr_eq(present, at));
        if is_present && state.recovered.is_none() && bytes.first().is_some_and(|first| *first > 3) {
            state.recovered = state.checked.map(|checked| checked.elapsed());
        }
    }

    fn leave(&self, from: SocketAddr, bytes: &[u8]) {
        let mut state = self.state();
        let is_check = bytes.starts_with(&[0, 1]);
        if is_check {
            state.check = Some(bytes.to_vec());
        }
        state.checked = state.checked.or_else(|| is_check.then(Instant::now));
        let _ = state.clients.entry(from).or_insert_with(|| self.outer()).send(bytes);
    }
}

#[track_caller]
fn bound(at: SocketAddr) -> Arc<UdpSocket> {
    let socket = UdpSocket::bind(at).unwrap_or_else(|why| panic!("{at}: {why}"));
    socket.set_nonblocking(true).expect("a socket that does not block");
    Arc::new(socket)
}
