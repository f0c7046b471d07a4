//! One event loop: accepts, dispatches events, fires timers, hands out late answers.

use crate::address::canonical;
use crate::alarm::Alarm;
use crate::batch::Batch;
use crate::budget::{self, Held};
use crate::clock::Clock;
use crate::outbox::Pipes;
use crate::pool::Pool;
use crate::runtime::{Accepted, BoxMachine, Class, Common, NewMachine, SessionId, Share, Shared, mode};
use crate::task::{BUFFER, Io, Seat, Task};
use crate::timers::{TaskId, Timers};
use chacha20::ChaCha12Rng;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll};
use rand_core::Rng;
use slab::Slab;
use srs_proxy_core::machine::Actions;
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::Mailbox;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

/// Connections accepted before the running sessions have their turn again.
const ACCEPT_BUDGET: usize = 64;

/// Accepting rests this long when the process has no descriptor left, or a listener's class no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Control connections one worker holds: enough for every origin's heartbeat, few enough to leave room for sessions.
const MAX_CONTROL: usize = 256;

/// Connections that are being closed or kept are looked over this often.
const SWEEP: Duration = Duration::from_secs(1);

/// Connections being closed for which the room is kept when there are none.
const SPARE_CLOSING: usize = 64;

// A token says what it is in its upper two bits, and which one in the others:
//   0 leg:  16 bits stamp, 20 bits slot, 24 bits task    1 closing    2 listener, the last two the alarm and the waker    3 kept
const KIND: u32 = 62;
const SLOT_BITS: u32 = 20;
const INDEX_BITS: u32 = 24;

/// Tasks of one worker, as many as a token can name.
const MAX_TASKS: usize = 1 << INDEX_BITS;

/// The waker's token.
pub(crate) const WAKER: mio::Token = mio::Token((3 << KIND) - 1);

/// The alarm's.
const ALARM: mio::Token = mio::Token((3 << KIND) - 2);

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    Leg { index: usize, slot: u32, stamp: u16 },
    Closing(usize),
    Listener(usize),
    Waker,
    Alarm,
    Kept(usize),
}

impl Token {
    pub(crate) fn of(token: mio::Token) -> Self {
        let value = token.0;
        let rest = value & !(3 << KIND);
        match value >> KIND {
            0 => Self::Leg {
                index: rest & (MAX_TASKS - 1),
                slot: (rest >> INDEX_BITS) as u32 & ((1 << SLOT_BITS) - 1),
                stamp: (rest >> (INDEX_BITS + SLOT_BITS)) as u16,
            },
            1 => Self::Closing(rest),
            2 if token == WAKER => Self::Waker,
            2 if token == ALARM => Self::Alarm,
            2 => Self::Listener(rest),
            _ => Self::Kept(rest),
        }
    }
}

pub(crate) fn leg_token(task: TaskId, slot: u32, stamp: u16) -> mio::Token {
    debug_assert!(slot < 1 << SLOT_BITS, "a hub keeps its slots dense");
    let (slot, stamp) = (slot as usize, stamp as usize);
    mio::Token(task.index as usize | slot << INDEX_BITS | stamp << (INDEX_BITS + SLOT_BITS))
}

pub(crate) const fn closing_token(index: usize) -> mio::Token {
    mio::Token(1 << KIND | index)
}

pub(crate) const fn kept_token(index: usize) -> mio::Token {
    mio::Token(3 << KIND | index)
}

struct Accepting {
    name: &'static str,
    class: Class,
    socket: TcpListener,
    new: NewMachine,
    /// There may be a connection to accept.
    ready: bool,
    /// There was no room for one: to be looked at again then.
    again: Option<Time>,
}

impl Accepting {
    /// When to accept next; `None` if there is nothing to accept, as far as known.
    fn next(&self) -> Option<Time> {
        self.ready.then_some(self.again.unwrap_or(Time::ZERO))
    }
}

pub(crate) struct Worker {
    poll: Poll,
    io: Io,
    tasks: Slab<Box<Task>>,
    /// Tasks made so far: their serial numbers, and the lower part of their session ids.
    made: u32,
    session_base: u64,
    listeners: Vec<Accepting>,
    /// The tasks that are hubs.
    hubs: Vec<usize>,
    /// The process could take nothing more: accept again then.
    accept_again: Option<Time>,
    next_sweep: Option<Time>,
    /// Tasks are told so, each once.
    draining: bool,
    /// There is nothing left that a drain waits for.
    drained: bool,
    /// Tasks that are sessions, and those that are control connections; the others are hubs.
    sessions: usize,
    controls: usize,
    shared: Arc<Shared>,
    clock: Clock,
    alarm: Alarm,
}

impl Worker {
    pub(crate) fn new(
        common: &Common<'_>,
        poll: Poll,
        index: usize,
        rng: ChaCha12Rng,
        mailbox: Arc<Mailbox>,
        mut shares: Vec<Share>,
    ) -> io::Result<Self> {
        // Who steers the process is accepted before those who may take its last descriptors.
        shares.sort_by_key(|share| !matches!(share, Share::Tcp { class: Class::Control, .. }));
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        let io = Io {
            registry: poll.registry().try_clone()?,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            batch: Batch::new()?,
            actions: Actions::new(),
            pipes: Pipes::default(),
            timers: Timers::default(),
            budget: common.shared.budget.clone(),
            ready: VecDeque::new(),
            closing: Slab::new(),
            pool: Pool::default(),
            lb: Arc::clone(common.lb),
            mailbox,
            observer: Arc::clone(common.observer),
            rng,
            config: common.config.clone(),
            now: common.clock.now(),
            stamp: 0,
            pending: VecDeque::new(),
        };
        let mut worker = Self {
            poll,
            io,
            tasks: Slab::new(),
            made: 0,
            session_base: (index as u64) << 32,
            listeners: Vec::new(),
            hubs: Vec::new(),
            accept_again: None,
            next_sweep: None,
            draining: false,
            drained: false,
            sessions: 0,
            controls: 0,
            shared: Arc::clone(common.shared),
            clock: common.clock,
            alarm,
        };
        for share in shares {
            worker.listen(share)?;
        }
        Ok(worker)
    }

    fn listen(&mut self, share: Share) -> io::Result<()> {
        match share {
            Share::Tcp { name, class, socket, new } => {
                let mut socket = TcpListener::from_std(socket);
                let token = mio::Token(2 << KIND | self.listeners.len());
                self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
                self.listeners.push(Accepting { name, class, socket, new, ready: true, again: None });
            }
            Share::Udp { name, socket, new } => {
                let peer = socket.local_addr()?;
                self.hubs.push(self.tasks.vacant_key());
                self.spawn(name, None, peer, &new, |io, id, session, machine| {
                    Task::hub(io, id, session, peer, machine, UdpSocket::from_std(socket))
                })?;
            }
        }
        Ok(())
    }

    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let timeout = self.wait();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("polling failed: {error}");
                return;
            }
            self.io.now = self.clock.now();
            let mut woken = false;
            for event in &events {
                match Token::of(event.token()) {
                    Token::Leg { index, slot, stamp } => {
                        self.with(index, |task, io| task.event(io, slot, stamp, event));
                    }
                    Token::Closing(index) => self.advance(index, event.is_readable() || event.is_error()),
                    Token::Listener(index) => {
                        if let Some(listener) = self.listeners.get_mut(index) {
                            listener.ready = true;
                        }
                    }
                    Token::Waker => woken = true,
                    Token::Alarm => self.alarm.rang(),
                    Token::Kept(index) => self.io.pool.check(index),
                }
            }
            if woken {
                self.hand_out_answers();
            }
            self.go_on();
            self.fire();
            self.accept();
            match self.shared.mode() {
                mode::RUN => {}
                mode::DRAIN => self.drain(),
                _ => break,
            }
            self.sweep();
        }
        self.stop();
    }

    /// Serves nobody new; tells everybody so, and when there is nobody left.
    fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            let tasks: Vec<usize> = self.tasks.iter().map(|(index, _)| index).collect();
            for index in tasks {
                self.with(index, Task::drain);
            }
        }
        self.listeners.retain(|listener| listener.ready);
        self.io.pool.clear();
        let is_busy = self.sessions > 0 || !self.io.closing.is_empty() || self.hub_sessions() > 0;
        if !is_busy && !std::mem::replace(&mut self.drained, true) {
            self.listeners.clear();
            self.shared.is_drained();
        }
    }

    /// The end: whoever is left has had its last word, and everything is closed when this worker is dropped.
    fn stop(&mut self) {
        self.shared.cut.fetch_add(self.sessions + self.hub_sessions(), Ordering::Relaxed);
        self.shared.sessions.fetch_sub(self.sessions, Ordering::Relaxed);
        for (_, task) in &mut self.tasks {
            task.stop(&mut self.io);
        }
    }

    fn hub_sessions(&self) -> usize {
        self.hubs.iter().filter_map(|index| self.tasks.get(*index)).map(|hub| hub.sessions()).sum()
    }

    /// Sets the alarm for what is next; no time to wait, if that is due.
    fn wait(&mut self) -> Option<std::time::Duration> {
        if !self.io.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let accepting = self.listeners.iter().filter_map(Accepting::next).min();
        let accepting = accepting.map(|at| at.max(self.accept_again.unwrap_or(Time::ZERO)));
        let next = [self.io.timers.next(), accepting, self.next_sweep].into_iter().flatten().min();
        if next? <= self.io.now {
            return Some(Duration::ZERO);
        }
        // A wait with an end costs the kernel a timer each time it is waited. The alarm is set seldom: what is
        // next is rarely earlier than what was.
        self.alarm.set(next?, self.clock);
        None
    }

    /// Runs something with a task, and buries it if it is over then.
    fn with(&mut self, index: usize, run: impl FnOnce(&mut Task, &mut Io)) {
        let Some(task) = self.tasks.get_mut(index) else { return };
        run(task, &mut self.io);
        if task.is_over() {
            task.report(&self.io);
            let class = task.class;
            self.tasks.remove(index);
            match class {
                Some(Class::Session) => {
                    self.sessions -= 1;
                    self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
                }
                Some(Class::Control) => self.controls -= 1,
                None => {}
            }
        }
    }

    fn find(&self, id: TaskId) -> Option<usize> {
        self.tasks.get(id.index as usize).filter(|task| task.id == id).map(|_| id.index as usize)
    }

    fn hand_out_answers(&mut self) {
        for (reply_to, answer) in self.io.mailbox.take() {
            // The two halves of what the task was asked under.
            let id = TaskId { index: reply_to.session as u32, serial: (reply_to.session >> 32) as u32 };
            if let Some(index) = self.find(id) {
                self.with(index, |task, io| task.answer(io, reply_to.ticket, answer));
            }
        }
    }

    /// Legs that have more to read have one more turn each.
    fn go_on(&mut self) {
        for _ in 0..self.io.ready.len() {
            let Some((id, slot)) = self.io.ready.pop_front() else { return };
            if let Some(index) = self.find(id) {
                self.with(index, |task, io| task.go_on(io, slot));
            }
        }
    }

    fn fire(&mut self) {
        while let Some((at, id)) = self.io.timers.pop(self.io.now) {
            if let Some(index) = self.find(id) {
                self.with(index, |task, io| task.due(io, at));
            }
        }
    }

    fn advance(&mut self, index: usize, readable: bool) {
        let Io { closing, pipes, buffer, now, .. } = &mut self.io;
        if closing.get_mut(index).is_some_and(|closing| closing.advance(readable, pipes, buffer, *now)) {
            closing.remove(index);
        }
    }

    fn sweep(&mut self) {
        if self.io.closing.is_empty() && self.io.pool.is_empty() {
            self.next_sweep = None;
            if self.io.closing.capacity() > SPARE_CLOSING {
                // The memory that a crowd has left.
                self.io.closing = Slab::new();
            }
        } else if self.next_sweep.is_none_or(|at| at <= self.io.now) {
            let Io { closing, pool, pipes, now, .. } = &mut self.io;
            closing.retain(|_, closing| !closing.is_over(pipes, *now));
            pool.sweep(*now);
            self.next_sweep = Some(*now + SWEEP);
        }
    }

    /// Room for one more; for a session, with what it may hold.
    fn room(&self, class: Class) -> Option<Option<Held>> {
        if self.tasks.len() >= MAX_TASKS {
            return None;
        }
        match class {
            Class::Session => self.io.budget.take(budget::SESSION).map(Some),
            Class::Control => (self.controls < MAX_CONTROL).then_some(None),
        }
    }

    fn accept(&mut self) {
        if self.accept_again.is_some_and(|at| at > self.io.now) {
            return;
        }
        self.accept_again = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPT_BUDGET {
                if self.accept_one(index).is_none() {
                    break;
                }
            }
        }
    }

    /// Accepts a connection; `None` if there is none now, or none can be taken.
    fn accept_one(&mut self, index: usize) -> Option<()> {
        let now = self.io.now;
        let listener = self.listeners.get(index)?;
        listener.next().filter(|at| *at <= now && self.accept_again.is_none())?;
        let room = self.room(listener.class);
        let listener = self.listeners.get_mut(index)?;
        listener.again = if room.is_none() { Some(now + ACCEPT_PAUSE) } else { None };
        let held = room?;
        let accepted = match listener.socket.accept() {
            Ok((stream, peer)) => {
                let peer = canonical(peer);
                self.accepted(index, stream, peer, held)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    listener.ready = false;
                    return None;
                }
                // The client left before its turn came.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            },
        };
        if let Err(error) = accepted {
            log::warn!("cannot accept connections for a moment: {error}");
            self.accept_again = Some(now + ACCEPT_PAUSE);
            self.io.pool.clear();
        }
        Some(())
    }

    fn accepted(
        &mut self,
        listener: usize,
        stream: TcpStream,
        peer: SocketAddr,
        held: Option<Held>,
    ) -> io::Result<()> {
        let Some(Accepting { name, class, new, .. }) = self.listeners.get(listener) else { return Ok(()) };
        let (name, class, new) = (*name, Some(*class), Arc::clone(new));
        let seat = match held.map(|held| (held, self.shared.quota.take(peer.ip()))) {
            Some((held, Some(taken))) => Some(Seat::new(held, taken)),
            Some((_, None)) => {
                self.io.observer.turned_away(name, peer);
                return Ok(());
            }
            None => None,
        };
        self.spawn(name, class, peer, &new, |io, id, session, machine| {
            Task::accept(io, id, session, peer, machine, stream, seat)
        })
    }

    fn spawn(
        &mut self,
        name: &'static str,
        class: Option<Class>,
        peer: SocketAddr,
        new: &NewMachine,
        make: impl FnOnce(&mut Io, TaskId, SessionId, BoxMachine) -> io::Result<Task>,
    ) -> io::Result<()> {
        self.made = self.made.wrapping_add(1);
        let session = SessionId::new(self.session_base | u64::from(self.made));
        let entry = self.tasks.vacant_entry();
        // `has_room` keeps the index within a token's bits.
        let id = TaskId { index: entry.key() as u32, serial: self.made };
        let mut key = [0; 16];
        self.io.rng.fill_bytes(&mut key);
        let machine = new(Accepted { now: self.io.now, peer, key });
        let mut task = make(&mut self.io, id, session, machine)?;
        task.class = class;
        self.io.observer.accepted(session, name, peer);
        let index = entry.key();
        entry.insert(Box::new(task));
        match class {
            Some(Class::Session) => {
                self.sessions += 1;
                self.shared.sessions.fetch_add(1, Ordering::Relaxed);
            }
            Some(Class::Control) => self.controls += 1,
            None => {}
        }
        if self.draining {
            self.with(index, Task::drain);
        }
        Ok(())
    }
}
