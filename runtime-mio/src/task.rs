//! One machine and its legs: feeds it, does what it says, watches over stalls. What moves bytes is in `moving`
//! and `datagrams`.

mod datagrams;
mod legs;
mod moving;

pub(crate) use moving::BUFFER;

use crate::batch::{Batch, Piece};
use crate::budget::{self, Budget, Held};
use crate::closing::Closing;
use crate::listen;
use crate::outbox::Pipes;
use crate::pool::Pool;
use crate::quota::Taken;
use crate::runtime::{BoxMachine, Class, Config, Ended, Lost, Observer, SessionId};
use crate::source::Source;
use crate::tcp::{Splice, TcpLeg};
use crate::timers::{TaskId, Timers};
use crate::udp::UdpLeg;
use crate::worker::{closing_token, leg_token};
use bytes::Bytes;
use chacha20::ChaCha12Rng;
use legs::{Legs, Link, Slot};
use mio::event::Event;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry};
use rustix::io::Errno;
use slab::Slab;
use smallvec::SmallVec;
use socket2::SockRef;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{
    Action, Actions, Close, Cx, Fault, Input, Leg, Note, OpenError, Opened, Ticket, Transport,
};
use srs_proxy_core::query::Answer;
use srs_proxy_core::time::Time;
use srs_proxy_lb::{Asker, Mailbox, OriginLoadBalancer, ReplyTo};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

/// What the tasks of one worker share.
pub(crate) struct Io {
    pub(crate) registry: Registry,
    pub(crate) buffer: Box<[u8]>,
    pub(crate) batch: Batch,
    pub(crate) actions: Actions,
    pub(crate) pipes: Pipes,
    pub(crate) timers: Timers,
    pub(crate) budget: Budget,
    /// Legs to be read although no event says so: out of budget, resumed, or broken.
    pub(crate) ready: VecDeque<(TaskId, u32)>,
    pub(crate) closing: Slab<Closing>,
    pub(crate) pool: Pool,
    pub(crate) lb: Arc<dyn OriginLoadBalancer>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) observer: Arc<dyn Observer>,
    /// Nobody can guess what comes next from what came before: it names sessions.
    pub(crate) rng: ChaCha12Rng,
    pub(crate) config: Config,
    pub(crate) now: Time,
    /// Tells a socket's events from those of earlier ones under the same token.
    pub(crate) stamp: u16,
    /// Inputs that follow from actions of the task that runs now.
    pub(crate) pending: VecDeque<Pending>,
}

impl Io {
    /// What comes in makes events, and what can be sent only with this interest: it is asked for when that is needed.
    fn register(
        &mut self,
        source: &mut impl mio::event::Source,
        task: TaskId,
        slot: u32,
        interest: Interest,
    ) -> io::Result<u16> {
        let (stamp, token) = self.stamp(task, slot);
        self.registry.register(source, token, interest)?;
        Ok(stamp)
    }

    /// For a connection that was kept. Whatever can be read by now makes an event.
    fn reregister(&mut self, stream: &mut TcpStream, task: TaskId, slot: u32) -> io::Result<u16> {
        let (stamp, token) = self.stamp(task, slot);
        self.registry.reregister(stream, token, Interest::READABLE)?;
        Ok(stamp)
    }

    fn stamp(&mut self, task: TaskId, slot: u32) -> (u16, mio::Token) {
        self.stamp = self.stamp.wrapping_add(1);
        (self.stamp, leg_token(task, slot, self.stamp))
    }

    /// Lets a connection deliver what waits, then closes it.
    fn close(&mut self, leg: TcpLeg) {
        let mut closing = Closing::new(leg, self.now, self.budget.take_anyway(budget::SOCKET));
        // Whatever can be read now makes an event when it is registered again.
        if closing.advance(false, &mut self.pipes, &mut [], self.now) {
            return;
        }
        let entry = self.closing.vacant_entry();
        let token = closing_token(entry.key());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.reregister(closing.source(), token, interest).is_ok() {
            entry.insert(closing);
        }
    }
}

/// An input that waits for the running one to be done.
pub(crate) enum Pending {
    Opened(Leg, Opened),
    OpenFailed(Leg, OpenError),
    Eof(Leg, bool),
    Spliced(Leg),
    HungUp(Leg),
    Answer(Ticket, Answer),
}

/// Where the bytes of the input are that an action list follows from.
#[derive(Clone)]
enum Place<'a> {
    Here(&'a [u8]),
    /// In the batch's buffer.
    Batch(Range<usize>),
}

/// Datagrams that did not get on; what the observer was told of them, and when.
#[derive(Default)]
struct Losses {
    sum: Lost,
    told: Lost,
    at: Time,
}

/// What a session of a connection takes of what there is, until it is over.
pub(crate) struct Seat {
    _held: Held,
    _taken: Taken,
}

impl Seat {
    pub(crate) const fn new(held: Held, taken: Taken) -> Self {
        Self { _held: held, _taken: taken }
    }
}

pub(crate) struct Task {
    pub(crate) id: TaskId,
    /// What its worker counts it as; a hub is counted as nothing.
    pub(crate) class: Option<Class>,
    session: SessionId,
    peer: SocketAddr,
    machine: BoxMachine,
    legs: Legs,
    /// The deadline in the worker's heap, if any.
    armed: Option<Time>,
    /// When bytes last came in.
    active: Time,
    began: Time,
    fault: Option<Fault>,
    /// The stream it was routed by.
    key: Option<StreamKey>,
    received: u64,
    from_origin: u64,
    /// Of a task with datagrams.
    losses: Option<Box<Losses>>,
    /// Its place among all sessions, if it takes one.
    _seat: Option<Seat>,
}

impl Task {
    fn new(io: &Io, id: TaskId, session: SessionId, peer: SocketAddr, machine: BoxMachine) -> Self {
        Self {
            id,
            class: None,
            session,
            peer,
            machine,
            legs: Legs::default(),
            armed: None,
            active: io.now,
            began: io.now,
            fault: None,
            key: None,
            received: 0,
            from_origin: 0,
            losses: None,
            _seat: None,
        }
    }

    /// A task for an accepted connection.
    pub(crate) fn accept(
        io: &mut Io,
        id: TaskId,
        session: SessionId,
        peer: SocketAddr,
        machine: BoxMachine,
        mut stream: TcpStream,
        seat: Option<Seat>,
    ) -> io::Result<Self> {
        let mut task = Self { _seat: seat, ..Self::new(io, id, session, peer, machine) };
        let stamp = io.register(&mut stream, id, 0, Interest::READABLE)?;
        task.legs.put(Leg::CLIENT, stamp, Link::Tcp(TcpLeg::accepted(stream)));
        task.arm(io);
        Ok(task)
    }

    /// A task for a datagram socket.
    pub(crate) fn hub(
        io: &mut Io,
        id: TaskId,
        session: SessionId,
        peer: SocketAddr,
        machine: BoxMachine,
        mut socket: UdpSocket,
    ) -> io::Result<Self> {
        let mut task = Self::new(io, id, session, peer, machine);
        let stamp = io.register(&mut socket, id, 0, Interest::READABLE)?;
        task.legs.put(Leg::CLIENT, stamp, Link::Udp(UdpLeg::hub(socket, io.batch.segments)));
        task.arm(io);
        Ok(task)
    }

    /// Sessions of a hub.
    pub(crate) fn sessions(&self) -> usize {
        self.machine.sessions()
    }

    /// Whether no leg is left.
    pub(crate) const fn is_over(&self) -> bool {
        self.legs.is_empty()
    }

    /// Tells the observer of the end.
    pub(crate) fn report(&self, io: &Io) {
        io.observer.ended(
            self.session,
            &Ended {
                peer: self.peer,
                key: self.key.as_ref(),
                fault: self.fault,
                received: self.received,
                from_origin: self.from_origin,
                lost: self.losses.as_ref().map_or(Lost::default(), |losses| losses.sum),
                lasted: io.now.since(self.began),
            },
        );
    }

    /// A socket of this task has an event.
    pub(crate) fn event(&mut self, io: &mut Io, slot: u32, stamp: u16, event: &Event) {
        let Some(entry) = self.legs.slot(slot).filter(|entry| entry.stamp == stamp) else { return };
        let leg = Leg::new(slot, entry.generation);
        let mut writable = false;
        match &mut entry.link {
            Link::File(_) => return,
            Link::Udp(udp) => {
                udp.readable |= event.is_readable() || event.is_error();
                if event.is_writable() {
                    self.flush_datagrams(io, slot);
                }
            }
            Link::Tcp(tcp) => {
                tcp.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                tcp.hung_up |= event.is_read_closed() || event.is_error();
                if tcp.connecting {
                    match connected(&tcp.stream, event) {
                        None => return,
                        Some(Ok(())) => {
                            tcp.connecting = false;
                            io.pending.push_back(Pending::Opened(leg, Opened::Fresh));
                        }
                        Some(Err(error)) => {
                            self.take(leg);
                            io.pending.push_back(Pending::OpenFailed(leg, open_error(&error)));
                        }
                    }
                } else if event.is_writable() && !tcp.outbox.is_empty() {
                    writable = true;
                    tcp.flush(&mut io.pipes, io.now);
                }
            }
        }
        self.settle(io);
        self.pump(io, slot);
        if writable {
            self.pump_others(io, slot);
        }
        self.arm(io);
    }

    /// An answer that came late.
    pub(crate) fn answer(&mut self, io: &mut Io, ticket: Ticket, answer: Answer) {
        io.pending.push_back(Pending::Answer(ticket, answer));
        self.settle(io);
        self.pump_all(io);
        self.arm(io);
    }

    /// The process is about to end.
    pub(crate) fn drain(&mut self, io: &mut Io) {
        self.step(io, Input::Drain, &[], Bytes::copy_from_slice);
        self.settle(io);
        self.pump_all(io);
        self.arm(io);
    }

    /// It ends now: the machine has its last word.
    pub(crate) fn stop(&mut self, io: &mut Io) {
        self.step(io, Input::Stop, &[], Bytes::copy_from_slice);
    }

    /// A leg that ran out of budget has its turn again.
    pub(crate) fn go_on(&mut self, io: &mut Io, slot: u32) {
        self.pump(io, slot);
        self.arm(io);
    }

    /// A deadline in the heap is due.
    pub(crate) fn due(&mut self, io: &mut Io, at: Time) {
        if self.armed != Some(at) {
            return;
        }
        self.armed = None;
        self.retry_stalled(io);
        if let Some(fault) = self.overdue(io) {
            self.stop(io);
            self.fail(io, fault);
        } else {
            if self.machine.deadline().is_some_and(|deadline| deadline <= io.now) {
                self.step(io, Input::Tick, &[], Bytes::copy_from_slice);
                self.settle(io);
            }
            self.pump_all(io);
        }
        self.arm(io);
    }

    /// The kernel tells of room in a socket only when a third of it is free, and a slow peer may take minutes to free
    /// that much. But it takes bytes as soon as there is any room: those show that the peer took some.
    fn retry_stalled(&mut self, io: &mut Io) {
        for tcp in self.legs.streams_mut() {
            if tcp.is_stalled(io.config.stall, io.now) {
                tcp.flush(&mut io.pipes, io.now);
            }
        }
    }

    /// Whether the driver's own patience has ended: with a peer that takes nothing, or with silence.
    fn overdue(&self, io: &Io) -> Option<Fault> {
        for (slot, tcp) in self.legs.streams() {
            if tcp.is_stalled(io.config.stall, io.now) {
                let what = "takes nothing of what is sent";
                return Some(if slot == 0 { Fault::Client(what) } else { Fault::Origin(what) });
            }
        }
        let idle = self.legs.is_relay() && io.now.since(self.active) >= io.config.idle;
        idle.then_some(Fault::Client("idle for too long"))
    }

    /// Puts the next deadline into the heap, if an earlier one is not there already.
    fn arm(&mut self, io: &mut Io) {
        self.tell_lost(io);
        if self.is_over() {
            return;
        }
        let mut next = self.machine.deadline();
        let mut sooner = |at: Time| next = Some(next.map_or(at, |next| next.min(at)));
        for (_, tcp) in self.legs.streams() {
            if let Some(since) = tcp.stalled {
                sooner(since + io.config.stall);
            }
        }
        if self.legs.is_relay() {
            sooner(self.active + io.config.idle);
        }
        if let Some(at) = next
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            io.timers.push(at, self.id);
        }
    }

    /// Takes a leg out, and counts what it brought.
    fn take(&mut self, leg: Leg) -> Option<Link> {
        let link = self.legs.take(leg)?;
        if let Link::Tcp(tcp) = &link {
            *(if leg.slot == 0 { &mut self.received } else { &mut self.from_origin }) += tcp.received;
        }
        Some(link)
    }

    // Running the machine.

    /// Feeds the machine what follows from its own actions, until nothing does.
    fn settle(&mut self, io: &mut Io) {
        while let Some(pending) = io.pending.pop_front() {
            let input = match pending {
                Pending::Opened(leg, what) => Input::Opened { leg, what },
                Pending::OpenFailed(leg, why) => Input::OpenFailed { leg, why },
                Pending::HungUp(leg) => Input::HungUp { leg },
                Pending::Answer(ticket, answer) => Input::Answer { ticket, answer },
                Pending::Eof(leg, broken) => {
                    // Gone already, if the machine closed it in the meantime.
                    match self.legs.get(leg).map(|slot| &mut slot.link) {
                        None => continue,
                        Some(Link::Tcp(tcp)) => tcp.ended = true,
                        Some(Link::Udp(_) | Link::File(_)) => {}
                    }
                    Input::Eof { leg, broken }
                }
                Pending::Spliced(leg) if self.legs.get(leg).is_none() => continue,
                Pending::Spliced(leg) => Input::Spliced { leg },
            };
            self.step(io, input, &[], Bytes::copy_from_slice);
        }
    }

    /// Feeds the machine. Of `bytes`, the input's, what it does not consume is kept by `keep`.
    fn step(&mut self, io: &mut Io, input: Input<'_>, bytes: &[u8], keep: impl FnOnce(&[u8]) -> Bytes) {
        let source = if let Input::Stream { leg, .. } = input { Some(leg) } else { None };
        let mut actions = std::mem::take(&mut io.actions);
        let mut cx = Cx { now: io.now, rng: &mut io.rng, actions: &mut actions };
        let outcome = self.machine.handle(&mut cx, input);
        if let (Some(leg), Ok(used)) = (source, outcome)
            && let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty())
            && let Some(tcp) = self.legs.tcp(leg)
        {
            tcp.kept = keep(rest);
        }
        self.execute(io, &mut actions, &Place::Here(bytes));
        io.actions = actions;
        if let Err(fault) = outcome {
            self.fail(io, fault);
        }
    }

    fn execute(&mut self, io: &mut Io, actions: &mut Actions, place: &Place<'_>) {
        let bytes = if let Place::Here(bytes) = place { bytes } else { &[][..] };
        let mut batch: SmallVec<[Piece; 8]> = SmallVec::new();
        let mut batch_to = None;
        for action in actions.drain() {
            let to = match &action {
                Action::Forward { to, .. } | Action::Write { to, .. } => *to,
                _ => {
                    self.send(io, batch_to.take(), &mut batch, bytes);
                    self.control(io, action);
                    continue;
                }
            };
            if let Some(Slot { link: Link::Udp(_), .. }) = self.legs.get(to) {
                match action {
                    Action::Forward { peer, range, .. } => {
                        self.add_datagram(io, to, peer, place.datagram(range))
                    }
                    Action::Write { peer, bytes, .. } => self.add_datagram(io, to, peer, Piece::Bytes(bytes)),
                    _ => {}
                }
                continue;
            }
            if batch_to != Some(to) {
                self.send(io, batch_to.replace(to), &mut batch, bytes);
            }
            match action {
                Action::Forward { range, .. } => batch.push(place.stream(io, range)),
                Action::Write { bytes, .. } => batch.push(Piece::Bytes(bytes)),
                _ => {}
            }
        }
        self.send(io, batch_to, &mut batch, bytes);
        if !io.batch.open && !io.batch.runs.is_empty() {
            self.end_runs(io);
        }
    }

    fn send(&mut self, io: &mut Io, to: Option<Leg>, batch: &mut SmallVec<[Piece; 8]>, bytes: &[u8]) {
        let Some(leg) = to else { return };
        if let Some(tcp) = self.legs.tcp(leg) {
            let pieces: SmallVec<[&[u8]; 8]> = batch.iter().map(|piece| piece.get(bytes)).collect();
            tcp.send(&pieces, io.now);
            self.sent(io, leg.slot);
        }
        batch.clear();
    }

    /// After something was sent to a leg: it may be broken, or wait for room.
    fn sent(&mut self, io: &mut Io, slot: u32) {
        let Some(Slot { stamp, link: Link::Tcp(tcp), .. }) = self.legs.slot(slot) else { return };
        if tcp.broken {
            io.ready.push_back((self.id, slot));
        } else if tcp.lacks_watch() {
            let token = leg_token(self.id, slot, *stamp);
            let interest = Interest::READABLE | Interest::WRITABLE;
            // It fails if the system has no memory; what waits then is tried again with what comes, or by the timer.
            tcp.watches_room = io.registry.reregister(&mut tcp.stream, token, interest).is_ok();
        }
    }

    fn control(&mut self, io: &mut Io, action: Action) {
        match action {
            Action::Forward { .. } | Action::Write { .. } => {}
            Action::Open { leg, to, transport } => {
                if let Err(error) = self.open(io, leg, to, transport) {
                    let why = open_error(&error);
                    if why == OpenError::Exhausted && error.raw_os_error() != Some(NO_ROOM.raw_os_error()) {
                        // The next one shall find a descriptor.
                        io.pool.clear();
                    }
                    io.pending.push_back(Pending::OpenFailed(leg, why));
                }
            }
            Action::Ask { ticket, query } => {
                let session = u64::from(self.id.serial) << 32 | u64::from(self.id.index);
                let reply_to = ReplyTo { session, ticket };
                let asker = Asker { now: io.now, mailbox: Arc::clone(&io.mailbox), reply_to };
                if let Some(answer) = srs_proxy_lb::ask(&*io.lb, &asker, query) {
                    io.pending.push_back(Pending::Answer(ticket, answer));
                }
            }
            Action::Tell(report) => srs_proxy_lb::tell(&*io.lb, io.now, &report),
            Action::Pause { leg } => {
                if let Some(tcp) = self.legs.tcp(leg) {
                    tcp.paused = true;
                }
            }
            Action::Resume { leg } => {
                if let Some(tcp) = self.legs.tcp(leg) {
                    tcp.paused = false;
                    tcp.offer = !tcp.kept.is_empty();
                    // Another leg's input may have led here: this one has its turn after it.
                    io.ready.push_back((self.id, leg.slot));
                }
            }
            Action::Splice { from, to, limit } => self.splice(io, from, to, limit),
            Action::OpenFile { leg, path } => {
                if let Err(error) = self.open_file(io, leg, &path) {
                    io.pending.push_back(Pending::OpenFailed(leg, open_error(&error)));
                }
            }
            Action::SendFile { from, to, range } => {
                let Some(Slot { link: Link::File(file), .. }) = self.legs.get(from) else { return };
                if range.is_empty() {
                    io.pending.push_back(Pending::Spliced(from));
                } else {
                    file.send(to, range);
                    io.ready.push_back((self.id, from.slot));
                }
            }
            Action::Close { leg, how } => {
                // What it was sent just now goes before it.
                self.end_runs(io);
                // Dropped, it is closed at once.
                let Some(Link::Tcp(tcp)) = self.take(leg) else { return };
                match (how, tcp.peer) {
                    (Close::Flush, _) => io.close(tcp),
                    (Close::Keep, Some(peer)) if tcp.is_clean() => {
                        io.pool.put(&io.registry, tcp.stream, peer, io.now);
                    }
                    // Not in good order: what is missing shall not look like the end of what was sent.
                    (Close::Abort, _) => {
                        drop(SockRef::from(&tcp.stream).set_linger(Some(std::time::Duration::ZERO)))
                    }
                    (Close::Keep, _) => {}
                }
            }
            Action::Note { leg, note } => {
                if let (Leg::CLIENT, Note::Routed { key, .. }) = (leg, &note) {
                    self.key = Some(key.clone());
                }
                io.observer.note(self.session.within(leg), &note);
            }
        }
    }

    fn open(&mut self, io: &mut Io, leg: Leg, to: SocketAddr, transport: Transport) -> io::Result<()> {
        // Silence is counted from here: the client may have been alone for long.
        self.active = io.now;
        let kept = if transport == Transport::Kept { io.pool.take(to, io.now) } else { None };
        if let Some(mut stream) = kept {
            let stamp = io.reregister(&mut stream, self.id, leg.slot)?;
            self.legs.put(leg, stamp, Link::Tcp(TcpLeg::reused(stream, to)));
            io.pending.push_back(Pending::Opened(leg, Opened::Reused));
            return Ok(());
        }
        let (stamp, link) = match transport {
            Transport::Tcp | Transport::Kept => {
                let mut stream = TcpStream::connect(to)?;
                listen::tune(&SockRef::from(&stream))?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                let stamp = io.register(&mut stream, self.id, leg.slot, interest)?;
                (stamp, Link::Tcp(TcpLeg::connecting(stream, to)))
            }
            Transport::Udp => {
                let held = io.budget.take(budget::SOCKET).ok_or(NO_ROOM)?;
                let mut udp = UdpLeg::connect(to, io.batch.segments, held)?;
                let stamp = io.register(&mut udp.socket, self.id, leg.slot, Interest::READABLE)?;
                io.pending.push_back(Pending::Opened(leg, Opened::Fresh));
                (stamp, Link::Udp(udp))
            }
        };
        self.legs.put(leg, stamp, link);
        Ok(())
    }

    fn open_file(&mut self, io: &mut Io, leg: Leg, path: &str) -> io::Result<()> {
        let files = io.config.files.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let (file, info) = files.open(path)?;
        self.legs.put(leg, 0, Link::File(file));
        io.pending.push_back(Pending::Opened(leg, Opened::File(info)));
        Ok(())
    }

    fn splice(&mut self, io: &mut Io, from: Leg, to: Leg, limit: Option<NonZeroU64>) {
        let Some(tcp) = self.legs.tcp(from) else { return };
        let left = limit.map_or(u64::MAX, NonZeroU64::get);
        let mut first = std::mem::take(&mut tcp.kept);
        tcp.kept = first.split_off(usize::try_from(left).map_or(first.len(), |left| left.min(first.len())));
        tcp.offer = false;
        tcp.splice = Some(Splice { to, left });
        if tcp.moved_on(first.len()) {
            io.pending.push_back(Pending::Spliced(from));
        }
        // What is in the socket already makes no event.
        io.ready.push_back((self.id, from.slot));
        if !first.is_empty() {
            self.send(io, Some(to), &mut SmallVec::from_iter([Piece::Bytes(first)]), &[]);
        }
    }

    /// Ends the session: what was written is delivered, then all is closed.
    fn fail(&mut self, io: &mut Io, fault: Fault) {
        self.end_runs(io);
        self.fault = Some(fault);
        for number in self.legs.numbers() {
            let Some(leg) = self.legs.at(number) else { continue };
            match self.take(leg) {
                // Whoever took nothing for so long will not now.
                Some(Link::Tcp(tcp)) if !tcp.is_stalled(io.config.stall, io.now) => io.close(tcp),
                _ => {}
            }
        }
        io.pending.clear();
    }
}

/// Whether a connection attempt has ended, and how.
fn connected(stream: &TcpStream, event: &Event) -> Option<io::Result<()>> {
    if event.is_writable() && !event.is_error() && !event.is_write_closed() {
        return Some(Ok(()));
    }
    match stream.take_error() {
        Ok(Some(error)) | Err(error) => return Some(Err(error)),
        Ok(None) => {}
    }
    match stream.peer_addr() {
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
        Err(error) => Some(Err(error)),
    }
}

/// The budget has nothing left; the system may have.
const NO_ROOM: Errno = Errno::DQUOT;

/// Sorts our own limits from what the peer is to blame for.
fn open_error(error: &io::Error) -> OpenError {
    let ours = [
        NO_ROOM,
        Errno::MFILE,
        Errno::NFILE,
        Errno::ADDRNOTAVAIL,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::AGAIN,
        // Of epoll: as many watches as its user may have (`fs.epoll.max_user_watches`).
        Errno::NOSPC,
    ];
    match error.raw_os_error() {
        Some(code) if ours.iter().any(|errno| errno.raw_os_error() == code) => OpenError::Exhausted,
        _ => OpenError::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Token, WAKER, kept_token};

    #[test]
    fn our_own_limits_are_not_the_origins_fault() {
        for errno in [Errno::MFILE, Errno::NOSPC, NO_ROOM] {
            assert_eq!(open_error(&errno.into()), OpenError::Exhausted);
        }
        assert_eq!(open_error(&Errno::CONNREFUSED.into()), OpenError::Unreachable);
    }

    #[test]
    fn tokens_are_what_they_were_made_of() {
        let id = TaskId { index: 77, serial: 1 };
        let token = leg_token(id, 3, 0xbeef);
        assert_eq!(Token::of(token), Token::Leg { index: 77, slot: 3, stamp: 0xbeef });
        assert_eq!(Token::of(closing_token(5)), Token::Closing(5));
        assert_eq!(Token::of(kept_token(6)), Token::Kept(6));
        assert_eq!(Token::of(WAKER), Token::Waker);
    }
}
