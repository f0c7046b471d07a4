//! What all loads are made of: readiness, sockets on loopback, a pace, a note of what went wrong. No protocol.

use hdrhistogram::Histogram;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Enough for every connection of a burst to wait in.
const BACKLOG: i32 = 4096;
/// Faults kept for the report; one is enough to make a row invalid.
const FAULTS_KEPT: usize = 5;
/// How long a turn waits when nothing else bounds it.
const TURN_MILLIS: i64 = 10;
/// The longest time that is told apart: one minute, in nanoseconds.
const TIME_MAX: u64 = 60_000_000_000;

/// Clients and the origin they reach, in one thread, so that one clock times every message.
pub trait Drive {
    /// Waits for something to do and does it.
    ///
    /// # Errors
    /// The system's.
    fn turn(&mut self) -> io::Result<()>;

    /// Where the origin listens.
    ///
    /// # Errors
    /// The system's.
    fn origin(&self) -> io::Result<SocketAddr>;

    /// Open connections, clients' and origin's.
    fn open_connections(&self) -> usize;

    /// What went wrong, if anything did.
    fn faults(&self) -> &[String];

    /// Turns until `done`.
    ///
    /// # Errors
    /// The system's, or that it took longer than `limit`.
    fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> io::Result<()> {
        let began = Instant::now();
        while !done(self) {
            if began.elapsed() > limit {
                let faults = self.faults().join("; ");
                return Err(io::Error::other(format!("not done after {limit:?} {faults}")));
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Turns for a while.
    ///
    /// # Errors
    /// The system's.
    fn run_for(&mut self, duration: Duration) -> io::Result<()> {
        let began = Instant::now();
        while began.elapsed() < duration {
            self.turn()?;
        }
        Ok(())
    }
}

/// Which senders send.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Flow {
    /// None.
    Silent,
    /// All, whenever their socket takes more.
    FlatOut,
    /// Each time this has passed, whoever's turn it is.
    Paced(Duration),
}

/// The clock of a load, and when it is time to send.
pub struct Pace {
    clock: Instant,
    flow: Flow,
    timer: OwnedFd,
    began: u64,
    /// Times that have been used since the flow began.
    used: u64,
}

impl Pace {
    /// A silent one, whose timer wakes `poll` by the name of `token`.
    ///
    /// # Errors
    /// The system's.
    pub fn new(poll: &Poll, token: u64) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        poll.add(&timer, token, EventFlags::IN)?;
        Ok(Self { clock: Instant::now(), flow: Flow::Silent, timer, began: 0, used: 0 })
    }

    /// Nanoseconds since there is this clock.
    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Begins another flow.
    ///
    /// # Errors
    /// The system's.
    pub fn set(&mut self, flow: Flow) -> io::Result<()> {
        (self.flow, self.began, self.used) = (flow, self.now(), 0);
        let interval = if let Flow::Paced(interval) = flow { interval } else { Duration::ZERO };
        let spec = Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: interval.subsec_nanos().into() };
        let spec = Itimerspec { it_interval: spec, it_value: spec };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }

    /// The timer has woken `poll`. Only once it is read it runs on.
    pub fn woken(&self) {
        // It may have been read before its time came again.
        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
    }

    /// For how many milliseconds a turn may wait.
    pub fn patience(&self) -> i64 {
        // Flat out it never sleeps: waking it, which costs the peer more than moving the bytes, would come and
        // go with chance.
        if self.flow == Flow::FlatOut || self.behind() > 0 { 0 } else { TURN_MILLIS }
    }

    fn behind(&self) -> u64 {
        let Flow::Paced(interval) = self.flow else { return 0 };
        ((self.now() - self.began) / interval.as_nanos() as u64).saturating_sub(self.used)
    }

    /// Which time to send this is, counted from 0, if it is time. To be asked once a turn, so that being late
    /// with many adds nothing to the time that each of them takes.
    pub fn due(&mut self) -> Option<u64> {
        let due = (self.behind() > 0).then_some(self.used);
        self.used += u64::from(due.is_some());
        due
    }
}

/// The first few things that went wrong.
#[derive(Debug, Default)]
pub struct Faults(Vec<String>);

impl Faults {
    /// Notes that something went wrong.
    pub fn note(&mut self, what: impl Into<String>) {
        if self.0.len() < FAULTS_KEPT {
            self.0.push(what.into());
        }
    }

    /// What did.
    pub fn all(&self) -> &[String] {
        &self.0
    }
}

/// For times in nanoseconds.
///
/// # Errors
/// None; the bounds are constants.
pub fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(100, TIME_MAX, 3).map_err(io::Error::other)
}

/// Listens at a free port.
///
/// # Errors
/// The system's.
pub fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Begins to connect.
///
/// # Errors
/// The system's.
pub fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(socket.into()),
    }
}

/// Readiness, level-triggered: whoever has work is told so until the work is done.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(1024) })
    }

    /// Watches `source` from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&self, source: &impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Watches `source` for something else.
    ///
    /// # Errors
    /// The system's.
    pub fn modify(&self, source: &impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Waits, at most `millis`, and fills `ready` with tokens and what they are ready for.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&mut self, millis: Option<i64>, ready: &mut Vec<(u64, EventFlags)>) -> io::Result<()> {
        let timeout = millis.map(|millis| rustix::event::Timespec {
            tv_sec: millis / 1000,
            tv_nsec: millis % 1000 * 1_000_000,
        });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| (event.data.u64(), event.flags)));
        Ok(())
    }
}
