//! The load: clients, each with a socket of its own, and the origin they reach, in one thread, so that one clock
//! times every datagram. Knows nothing of what is in between, nor of cases.

use super::super::load::Poll;
use super::wire::{self, Media};
use super::{Receiver, send, send_segments, socket};
use crate::srt::wire::{self as srt_wire, Handshake};
use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// Binding requests that are not answered are sent again after this time.
const RETRANSMIT: Duration = Duration::from_millis(100);
/// Binding requests sent at once.
const SETUP_BURST: usize = 50;
/// The timer does not wake more often than this.
const MIN_TICK: Duration = Duration::from_micros(50);
/// A generator that is late by more than this leaves the rest out: it must not send all at once.
const MAX_LATE: Duration = Duration::from_millis(5);
/// Nothing is on its way any more when nothing came for so long.
const SILENCE: Duration = Duration::from_millis(500);
/// The longest time that is told apart: one minute, in nanoseconds.
const TIME_MAX: u64 = 60_000_000_000;
/// Messages received from one socket before the others have their turn.
const TURN: usize = 4;

/// Before the payload of SRT's data packets, in bytes.
const SRT_HEADER: usize = 16;
/// The origin's cookie, which proves nothing to it.
const COOKIE: u32 = 0x5EED_C00C;

const ORIGIN: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Load {
    /// Sessions.
    pub flows: usize,
    /// Datagrams per second of each and in each direction.
    pub rate: u32,
    /// Bytes of a datagram.
    pub size: usize,
    /// Datagrams that follow each other without a pause.
    pub burst: usize,
    /// Bursts are sent with GSO and received with GRO.
    pub gso: bool,
    /// The first flow only sends to the origin, which sends each datagram to all others.
    pub fan_out: bool,
    /// Flows are set up and shaped as SRT's, not as WebRTC's.
    pub srt: bool,
}

/// One flow's datagrams in one direction.
#[derive(Clone, Copy, Default)]
struct Track {
    sent: u64,
    next: u64,
}

/// What became of the datagrams.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Sent.
    pub sent: u64,
    /// Received, whole.
    pub received: u64,
    /// Received after a later one.
    pub reordered: u64,
    /// Received, but not as sent, or not from where its flow's come from.
    pub damaged: u64,
}

/// Clients, origin and what they saw.
pub struct Swarm {
    load: Load,
    media: Media,
    poll: Poll,
    ready: Vec<(u64, EventFlags)>,
    timer: OwnedFd,
    origin: UdpSocket,
    clients: Vec<UdpSocket>,
    /// Where the origin sees each flow come from.
    paths: Vec<Option<SocketAddr>>,
    answered: Vec<bool>,
    /// The cookie each caller of SRT was given.
    cookies: Vec<Option<u32>>,
    up: Vec<Track>,
    down: Vec<Track>,
    receiver: Receiver,
    buffer: Vec<u8>,
    clock: Instant,
    /// Turns taken since this time.
    began: Duration,
    turns: u64,
    /// What became of the datagrams.
    pub tally: Tally,
    /// Nanoseconds from the sender's call to the receiver's.
    pub latency: Histogram<u64>,
}

impl Swarm {
    /// An origin and clients, which have not sent anything.
    ///
    /// # Errors
    /// The system's.
    pub fn new(load: Load) -> io::Result<Self> {
        let poll = Poll::new()?;
        let origin = socket(load.gso)?;
        poll.add(&origin, ORIGIN, EventFlags::IN)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.add(&timer, TIMER, EventFlags::IN)?;
        let flows = load.flows;
        Ok(Self {
            load,
            media: Media::new(load.size - if load.srt { SRT_HEADER } else { 0 }),
            poll,
            ready: Vec::new(),
            timer,
            origin,
            clients: Vec::new(),
            paths: vec![None; flows],
            answered: vec![false; flows],
            cookies: vec![None; flows],
            up: vec![Track::default(); flows],
            down: vec![Track::default(); flows],
            receiver: Receiver::new()?,
            buffer: Vec::new(),
            clock: Instant::now(),
            began: Duration::ZERO,
            turns: 0,
            tally: Tally::default(),
            latency: Histogram::new_with_bounds(100, TIME_MAX, 3).map_err(io::Error::other)?,
        })
    }

    /// Where the origin is.
    ///
    /// # Errors
    /// The system's.
    pub fn origin(&self) -> io::Result<SocketAddr> {
        self.origin.local_addr()
    }

    /// Sends a binding request or a handshake of each flow to `target`, again and again until the origin's answer is
    /// there.
    ///
    /// # Errors
    /// Not all were answered within `limit`.
    pub fn connect(&mut self, target: SocketAddr, limit: Duration) -> io::Result<()> {
        for flow in 0..self.load.flows {
            let client = socket(self.load.gso)?;
            client.connect(target)?;
            self.poll.add(&client, flow as u64, EventFlags::IN)?;
            self.clients.push(client);
        }
        let began = Instant::now();
        let mut again = began;
        while let Some(first) = self.answered.iter().position(|answered| !answered) {
            if began.elapsed() > limit {
                let left = self.answered.iter().filter(|answered| !**answered).count();
                return Err(io::Error::other(format!("{left} flows got no answer")));
            }
            if again <= Instant::now() {
                again += RETRANSMIT;
                let waiting = (first..self.load.flows).filter(|flow| !self.answered[*flow]);
                for flow in waiting.take(SETUP_BURST) {
                    // Nobody may be there yet.
                    let _ = self.clients[flow].send(&self.hello(flow));
                }
            }
            let before = self.answered.iter().filter(|answered| **answered).count();
            self.turn(10)?;
            // Whoever keeps up is not made to wait.
            if before > 0 && self.answered[first] {
                again = Instant::now();
            }
        }
        Ok(())
    }

    /// What a flow has to say before its media.
    fn hello(&self, flow: usize) -> Vec<u8> {
        let caller = caller_id(flow as u32);
        match self.cookies[flow] {
            _ if !self.load.srt => wire::binding_request(flow as u32),
            None => Handshake::induction(caller).bytes(),
            Some(cookie) => {
                let id = format!("#!::r=live/f{flow},m=publish");
                Handshake::conclusion(caller, cookie, id.as_bytes()).bytes()
            }
        }
    }

    /// Whether flows are SRT's.
    pub fn is_srt(&self) -> bool {
        self.load.srt
    }

    /// How many flows there are.
    pub fn flows(&self) -> usize {
        self.load.flows
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// From one turn to the next. In each, one flow sends a burst in each direction, or the fan-out sends one to all.
    fn interval(&self) -> Duration {
        let flows = if self.load.fan_out { 1.0 } else { self.load.flows as f64 };
        Duration::from_secs_f64(self.load.burst as f64 / f64::from(self.load.rate) / flows)
    }

    /// Sends media for this long.
    ///
    /// # Errors
    /// The system's.
    pub fn run_for(&mut self, time: Duration) -> io::Result<()> {
        let interval = self.interval();
        let tick = interval.max(MIN_TICK);
        let tick = Timespec { tv_sec: tick.as_secs() as i64, tv_nsec: i64::from(tick.subsec_nanos()) };
        let timer = Itimerspec { it_interval: tick, it_value: tick };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        (self.began, self.turns) = (self.now(), 0);
        let end = self.began + time;
        while self.now() < end {
            self.send_due(interval)?;
            self.turn(10)?;
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let never = Itimerspec { it_interval: zero, it_value: zero };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &never)?;
        Ok(())
    }

    /// Receives what is on its way.
    ///
    /// # Errors
    /// The system's.
    pub fn settle(&mut self) -> io::Result<()> {
        let mut last = Instant::now();
        while self.tally.received + self.tally.damaged < self.tally.sent && last.elapsed() < SILENCE {
            let before = self.tally.received;
            self.turn(10)?;
            if self.tally.received > before {
                last = Instant::now();
            }
        }
        Ok(())
    }

    fn send_due(&mut self, interval: Duration) -> io::Result<()> {
        // What becomes due meanwhile waits: who sends must receive, too.
        let now = self.now();
        let late = (now - self.began).saturating_sub(interval * self.turns as u32);
        if late > MAX_LATE {
            self.began += late;
        }
        while self.began + interval * self.turns as u32 <= now {
            let flows = self.load.flows;
            if self.load.fan_out {
                self.send(0, true)?;
                (1..flows).try_for_each(|flow| self.send(flow, false))?;
            } else {
                let flow = (self.turns % flows as u64) as usize;
                self.send(flow, true)?;
                self.send((flow + flows / 2) % flows, false)?;
            }
            self.turns += 1;
        }
        Ok(())
    }

    /// Sends one flow's burst.
    fn send(&mut self, flow: usize, up: bool) -> io::Result<()> {
        let now = self.now().as_nanos() as u64;
        let Load { burst, size, gso, .. } = self.load;
        let (track, socket, to) = if up {
            (&mut self.up[flow], &self.clients[flow], None)
        } else {
            (&mut self.down[flow], &self.origin, self.paths[flow])
        };
        self.buffer.clear();
        for sequence in track.sent..track.sent + burst as u64 {
            if self.load.srt {
                let to = if up { listener_id(flow as u32) } else { caller_id(flow as u32) };
                self.buffer.extend(srt_wire::media(to, sequence as u32, &[]));
            }
            self.media.write(flow as u32, sequence, now, &mut self.buffer);
        }
        if gso && burst > 1 {
            send_segments(socket, to, &self.buffer, size)?;
        } else {
            for datagram in self.buffer.chunks(size) {
                send(socket, to, datagram)?;
            }
        }
        track.sent += burst as u64;
        self.tally.sent += burst as u64;
        Ok(())
    }

    /// Waits, at most so long, and receives.
    fn turn(&mut self, millis: i64) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(Some(millis), &mut ready)?;
        for &(token, _) in &ready {
            if token == TIMER {
                // Read, or it does not go on. That it is due again already makes no difference.
                let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                continue;
            }
            for _ in 0..TURN {
                let socket = if token == ORIGIN { &self.origin } else { &self.clients[token as usize] };
                // A refused connection: the peer does not listen yet.
                let got = self.receiver.receive(socket).unwrap_or(0);
                for index in 0..got {
                    self.received(token, index)?;
                }
                if got < super::SLOTS {
                    break;
                }
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// The origin answers callers, which take what they are told.
    fn shake_hands(&mut self, token: u64, from: SocketAddr, handshake: &Handshake) -> io::Result<()> {
        if token != ORIGIN {
            let flow = token as usize;
            match handshake.kind {
                srt_wire::INDUCTION => {
                    self.cookies[flow] = Some(handshake.cookie);
                    self.clients[flow].send(&self.hello(flow))?;
                }
                srt_wire::CONCLUSION => self.answered[flow] = true,
                refusal => return Err(io::Error::other(format!("a caller is refused with {refusal}"))),
            }
            return Ok(());
        }
        let flow = handshake.from.wrapping_sub(caller_id(0));
        if let Some(path) =
            self.paths.get_mut(flow as usize).filter(|_| handshake.kind == srt_wire::CONCLUSION)
        {
            *path = Some(from);
        }
        let answer = match handshake.kind {
            srt_wire::INDUCTION => handshake.welcome(COOKIE),
            _ => handshake.accepted(listener_id(flow)),
        };
        self.origin.send_to(&answer.bytes(), from)?;
        Ok(())
    }

    fn received(&mut self, token: u64, index: usize) -> io::Result<()> {
        let (from, range, size) = self.receiver.message(index);
        let now = self.now().as_nanos() as u64;
        for datagram in self.receiver.buffer[range].chunks(size) {
            if let Some(handshake) = Handshake::read(datagram).filter(|_| self.load.srt) {
                // Nothing is sent behind one before it is answered.
                return self.shake_hands(token, from, &handshake);
            }
            let datagram =
                if self.load.srt { datagram.get(SRT_HEADER..).unwrap_or_default() } else { datagram };
            let flow = if token == ORIGIN {
                if let Some(flow) = wire::requested(datagram) {
                    self.paths[flow as usize] = Some(from);
                    self.origin.send_to(&wire::binding_success(flow, from), from)?;
                    continue;
                }
                wire::flow_of(datagram).unwrap_or(u32::MAX)
            } else {
                if wire::is_answer(datagram, token as u32) {
                    self.answered[token as usize] = true;
                    continue;
                }
                token as u32
            };
            let tracks = if token == ORIGIN { &mut self.up } else { &mut self.down };
            let straight = token != ORIGIN || self.paths.get(flow as usize) == Some(&Some(from));
            match (tracks.get_mut(flow as usize), self.media.read(flow, datagram)) {
                (Some(track), Some((sequence, sent))) if straight => {
                    self.tally.received += 1;
                    self.tally.reordered += u64::from(sequence < track.next);
                    track.next = track.next.max(sequence + 1);
                    self.latency.saturating_record(now.saturating_sub(sent));
                }
                _ => self.tally.damaged += 1,
            }
        }
        Ok(())
    }
}

/// The socket id of a flow's caller.
const fn caller_id(flow: u32) -> u32 {
    flow + 1
}

/// The socket id that the origin gives it.
const fn listener_id(flow: u32) -> u32 {
    0x1000_0000 + flow
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::udp::relay::{Method, run};

    fn load(gso: bool, fan_out: bool) -> Load {
        Load {
            flows: 10,
            rate: 400,
            size: 1200,
            burst: if fan_out { 1 } else { 8 },
            gso,
            fan_out,
            srt: false,
        }
    }

    fn arrives(load: Load, method: Option<Method>) {
        let mut swarm = Swarm::new(load).unwrap();
        let origin = swarm.origin().unwrap();
        let target = match method {
            None => origin,
            Some(method) => {
                let listener = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
                let target = listener.local_addr().unwrap();
                // It runs for ever: it ends with the test's process.
                std::thread::spawn(move || run(method, listener, origin));
                target
            }
        };
        swarm.connect(target, Duration::from_secs(20)).unwrap();
        // A busy machine leaves out what is due.
        while swarm.tally.sent < 500 {
            swarm.run_for(Duration::from_millis(100)).unwrap();
        }
        swarm.settle().unwrap();
        let Tally { sent, received, reordered, damaged } = swarm.tally;
        assert_eq!((received, reordered, damaged), (sent, 0, 0));
    }

    #[test]
    fn callers_shake_hands_and_their_load_arrives() {
        let load = Load { srt: true, ..load(false, false) };
        arrives(load, None);
        arrives(load, Some(Method::Simple));
    }

    #[test]
    fn the_load_arrives_with_and_without_each_relay() {
        for method in [None, Some(Method::Simple), Some(Method::Mmsg), Some(Method::Gso)] {
            arrives(load(false, false), method);
            arrives(load(true, false), method);
            arrives(load(false, true), method);
        }
    }
}
