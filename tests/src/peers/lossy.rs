//! A bad path: a UDP relay that drops and delays datagrams. What it does to the n-th of a direction is decided by a seed.

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FRONT: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// No datagram is larger.
const LARGEST: usize = 65_536;

/// What a path does to each direction.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Datagrams lost, of a thousand.
    pub lost: u32,
    /// Datagrams that are late, of a thousand: those sent after them overtake them.
    pub late: u32,
    /// Datagrams that arrive twice, of a thousand.
    pub twice: u32,
    /// How late.
    pub by: Duration,
    /// Which ones.
    pub seed: u64,
}

/// What it has done so far.
#[derive(Default, Debug)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
    late: AtomicU64,
}

/// A running path.
#[derive(Debug)]
pub struct Lossy {
    addr: SocketAddr,
    counts: Arc<Counts>,
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lossy {
    /// A path to `target`: what arrives at its address goes there, answers go back.
    #[track_caller]
    pub fn start(target: SocketAddr, faults: Faults) -> Self {
        let mut front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let addr = front.local_addr().expect("its address");
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        poll.registry().register(&mut front, FRONT, Interest::READABLE).expect("a registration");
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let directions = [0, 1].map(|stream| Pcg32::seed_from_u64(faults.seed * 2 + stream));
        let relay = Relay {
            poll,
            front,
            target,
            faults,
            directions,
            backs: Vec::new(),
            known: BTreeMap::new(),
            late: BinaryHeap::new(),
            counts: Arc::clone(&counts),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || relay.run(&stopped));
        Self { addr, counts, waker, stop, thread: Some(thread) }
    }

    /// Its near end.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Datagrams it was given so far, of which some are lost and some late.
    pub fn seen(&self) -> (u64, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let lost = read(&self.counts.lost);
        (read(&self.counts.passed) + lost, lost, read(&self.counts.late))
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Relay {
    poll: Poll,
    front: UdpSocket,
    target: SocketAddr,
    faults: Faults,
    /// What decides, for each direction: to the target, from it.
    directions: [Pcg32; 2],
    backs: Vec<Back>,
    known: BTreeMap<SocketAddr, usize>,
    late: BinaryHeap<Reverse<Late>>,
    counts: Arc<Counts>,
}

/// When it is passed on, whose it is, whether it goes to the target, and itself.
type Late = (Instant, usize, bool, Vec<u8>);

/// The target's side of one client.
struct Back {
    socket: UdpSocket,
    client: SocketAddr,
}

impl Relay {
    fn run(mut self, stop: &AtomicBool) {
        let mut events = Events::with_capacity(256);
        let mut buffer = vec![0; LARGEST];
        while !stop.load(Ordering::Relaxed) {
            let until =
                self.late.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, until) {
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("a poll that works"),
            }
            for event in &events {
                match event.token() {
                    FRONT => {
                        while let Ok((count, client)) = self.front.recv_from(&mut buffer) {
                            let back = self.back(client);
                            self.judge(back, true, &buffer[..count]);
                        }
                    }
                    WAKER => {}
                    Token(back) => {
                        while let Ok(count) = self.backs[back].socket.recv(&mut buffer) {
                            self.judge(back, false, &buffer[..count]);
                        }
                    }
                }
            }
            let now = Instant::now();
            while self.late.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                if let Some(Reverse((_, back, to_target, datagram))) = self.late.pop() {
                    self.pass(back, to_target, &datagram);
                }
            }
        }
    }

    fn back(&mut self, client: SocketAddr) -> usize {
        if let Some(back) = self.known.get(&client) {
            return *back;
        }
        let mut socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        socket.connect(self.target).expect("a target on loopback");
        let back = self.backs.len();
        self.poll.registry().register(&mut socket, Token(back), Interest::READABLE).expect("a registration");
        self.backs.push(Back { socket, client });
        self.known.insert(client, back);
        back
    }

    fn judge(&mut self, back: usize, to_target: bool, datagram: &[u8]) {
        let decides = &mut self.directions[usize::from(!to_target)];
        let [lost, late, twice] = [self.faults.lost, self.faults.late, self.faults.twice]
            .map(|of_thousand| decides.next_u32() % 1000 < of_thousand);
        if lost {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if late || twice {
            let at = Instant::now() + self.faults.by;
            self.late.push(Reverse((at, back, to_target, datagram.to_vec())));
        }
        if late {
            self.counts.late.fetch_add(1, Ordering::Relaxed);
        }
        if !late {
            self.pass(back, to_target, datagram);
        }
    }

    fn pass(&self, back: usize, to_target: bool, datagram: &[u8]) {
        let Back { socket, client } = &self.backs[back];
        // A full socket buffer is loss as on any path, and an ICMP error of a dead target is no news.
        let _ = if to_target { socket.send(datagram) } else { self.front.send_to(datagram, *client) };
        self.counts.passed.fetch_add(1, Ordering::Relaxed);
    }
}
