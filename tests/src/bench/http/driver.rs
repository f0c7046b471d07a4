//! The load: HTTP viewers and the origin they reach, in one thread, so that one clock times every message.
//! Knows nothing of what is in between, nor of cases.

use super::flv;
use super::origin::{self, Asked, Framing, Request};
use super::viewer::{Progress, Viewer};
use crate::bench::load::{Drive, Faults, Flow, Pace, Poll, connect, histogram, listen};
use crate::bench::media::{Head, Payloads};
use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;
use slab::Slab;
use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::time::Duration;

/// Read at once from one connection.
const READ_BUFFER: usize = 256 * 1024;
/// A flat-out sender keeps this much ready for each write.
const WRITE_AHEAD: usize = 64 * 1024;

const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// Which viewers a time to send is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// Each has its own stream.
    OneAfterTheOther,
    /// All watch one stream.
    All,
}

/// What a connection is one end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// This viewer's.
    Viewer(usize),
    /// The origin's, which has not been asked for anything.
    Silent,
    /// The origin's, for one answer after the other.
    Origin,
    /// The origin's, which sends live media to this viewer.
    Live(usize),
}

struct Connection {
    socket: TcpStream,
    end: End,
    /// The beginning of a request.
    held: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// After that, so much of this message's body.
    body: (u64, Range<usize>),
    interest: EventFlags,
}

struct Seat {
    viewer: Viewer,
    target: SocketAddr,
    client: Option<usize>,
    /// The origin's connection for it, if it is live.
    origin: Option<usize>,
    stream: u64,
    sent: u64,
    /// It waits to be told to fetch.
    idle: bool,
    closed: bool,
}

/// Viewers, origin and what they saw.
pub struct World {
    poll: Poll,
    ready: Vec<(u64, EventFlags)>,
    listener: TcpListener,
    payloads: Payloads,
    framing: Framing,
    connections: Slab<Connection>,
    seats: Vec<Seat>,
    pace: Pace,
    flat_out: bool,
    whose: Whose,
    fetching: bool,
    buffer: Vec<u8>,
    faults: Faults,
    /// Media messages or segments received and verified.
    pub received: u64,
    /// Nanoseconds from the sender's call to the receiver's, or from the request to the segment's last byte.
    pub latency: Histogram<u64>,
    /// Connections on which the origin was asked for something.
    pub asked_on: u64,
}

impl World {
    /// An origin that listens, and no viewer.
    ///
    /// # Errors
    /// The system's.
    pub fn new(payloads: Payloads, framing: Framing) -> io::Result<Self> {
        let listener = listen()?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, EventFlags::IN)?;
        let pace = Pace::new(&poll, TIMER)?;
        Ok(Self {
            poll,
            ready: Vec::new(),
            listener,
            payloads,
            framing,
            connections: Slab::new(),
            seats: Vec::new(),
            pace,
            flat_out: false,
            whose: Whose::OneAfterTheOther,
            fetching: false,
            buffer: vec![0; READ_BUFFER],
            faults: Faults::default(),
            received: 0,
            latency: histogram()?,
            asked_on: 0,
        })
    }

    /// A viewer of `stream` as HTTP-FLV, by way of `target`.
    ///
    /// # Errors
    /// The system's.
    pub fn open_live(&mut self, stream: u64, target: SocketAddr) -> io::Result<()> {
        self.open(Viewer::live(stream), stream, target)
    }

    /// A viewer of `stream` as HLS, which reads the playlist and then waits for [`set_fetching`](Self::set_fetching).
    ///
    /// # Errors
    /// The system's.
    pub fn open_player(&mut self, stream: u64, target: SocketAddr) -> io::Result<()> {
        self.open(Viewer::player(stream), stream, target)
    }

    fn open(&mut self, viewer: Viewer, stream: u64, target: SocketAddr) -> io::Result<()> {
        let number = self.seats.len();
        self.seats.push(Seat {
            viewer,
            target,
            client: None,
            origin: None,
            stream,
            sent: 0,
            idle: false,
            closed: false,
        });
        self.connect(number)
    }

    fn connect(&mut self, number: usize) -> io::Result<()> {
        let key = self.insert(connect(self.seats[number].target)?, End::Viewer(number))?;
        self.seats[number].client = Some(key);
        self.ask(number);
        Ok(())
    }

    fn insert(&mut self, socket: TcpStream, end: End) -> io::Result<usize> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let interest = EventFlags::IN;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        self.poll.add(&socket, key as u64, interest)?;
        let (held, out, body) = (Vec::new(), Vec::new(), (0, 0..0));
        entry.insert(Connection { socket, end, held, out, sent: 0, body, interest });
        Ok(key)
    }

    /// Sends a viewer's next request.
    fn ask(&mut self, number: usize) {
        let seat = &mut self.seats[number];
        let Some(key) = seat.client else { return };
        seat.idle = false;
        let request = seat.viewer.request(number, self.pace.now(), "media.example");
        self.connections[key].out.extend_from_slice(request.as_bytes());
        self.flush(key);
    }

    /// Closes all viewers; the origin's side ends when it hears of it. Numbers begin at 0 again. Media goes on
    /// meanwhile, a message each time `pace` has passed: some peers see only then that a viewer is gone.
    ///
    /// # Errors
    /// As [`run_until`](Drive::run_until) has them.
    pub fn close_all(&mut self, pace: Duration, limit: Duration) -> io::Result<()> {
        for seat in &mut self.seats {
            seat.closed = true;
            if let Some(key) = seat.client.take() {
                self.connections.try_remove(key);
            }
        }
        self.set_flow(Flow::Paced(pace), Whose::All)?;
        self.run_until(limit, |world| world.seats.iter().all(|seat| seat.origin.is_none()))?;
        self.seats.clear();
        self.set_flow(Flow::Silent, Whose::All)
    }

    /// Whether media comes to every viewer, or may.
    pub fn all_started(&self) -> bool {
        self.seats.iter().all(|seat| seat.viewer.started())
    }

    /// Whether all that was sent or asked for has been received.
    pub fn all_received(&self) -> bool {
        let received = |seat: &Seat| match seat.viewer.is_player() {
            true => seat.idle,
            false => seat.viewer.count() == seat.sent,
        };
        self.seats.iter().all(received)
    }

    /// Makes live media flow, or stop; a time to send is `whose`.
    ///
    /// # Errors
    /// The system's.
    pub fn set_flow(&mut self, flow: Flow, whose: Whose) -> io::Result<()> {
        self.pace.set(flow)?;
        (self.flat_out, self.whose) = (flow == Flow::FlatOut, whose);
        for key in self.seats.iter().filter_map(|seat| seat.origin).collect::<Vec<_>>() {
            self.flush(key);
        }
        Ok(())
    }

    /// Makes all players fetch segments, each the next one when it has one; or stop.
    ///
    /// # Errors
    /// The system's.
    pub fn set_fetching(&mut self, fetching: bool) -> io::Result<()> {
        self.fetching = fetching;
        // Nobody sleeps while there is always something to do; see `Pace::patience`.
        self.pace.set(if fetching { Flow::FlatOut } else { Flow::Silent })?;
        if fetching {
            (0..self.seats.len()).for_each(|number| self.ask(number));
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    self.insert(socket, End::Silent)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what is due.
    fn pace(&mut self) {
        let Some(time) = self.pace.due() else { return };
        match self.whose {
            Whose::All => (0..self.seats.len()).for_each(|number| self.send(number)),
            Whose::OneAfterTheOther => self.send((time % self.seats.len() as u64) as usize),
        }
    }

    /// Sends one live message to a viewer.
    fn send(&mut self, number: usize) {
        let seat = &mut self.seats[number];
        let Some(key) = seat.origin else { return };
        let head = Head { stream: seat.stream, sequence: seat.sent, sent: self.pace.now() };
        seat.sent += 1;
        let chunked = self.framing == Framing::Chunked;
        flv::write(&self.payloads, head, chunked, &mut self.connections[key].out);
        self.flush(key);
    }

    fn readable(&mut self, key: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let why = match connection.socket.read(&mut self.buffer) {
            Ok(0) => "closed by the peer".to_owned(),
            Ok(read) => {
                if let End::Viewer(number) = connection.end {
                    return self.arrive(key, number, read);
                }
                connection.held.extend_from_slice(&self.buffer[..read]);
                self.serve(key);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => error.to_string(),
        };
        self.gone(key, &why);
        Ok(())
    }

    /// Gives a viewer what was read.
    fn arrive(&mut self, key: usize, number: usize, read: usize) -> io::Result<()> {
        let now = self.pace.now();
        let mut done = None;
        let fed =
            self.seats[number].viewer.feed(&self.payloads, &self.buffer[..read], |progress| match progress {
                Progress::Received(sent) => {
                    self.latency.saturating_record(now.saturating_sub(sent));
                    self.received += 1;
                }
                Progress::Done(persists) => done = Some(persists),
            });
        if let Err(what) = fed {
            self.gone(key, &what);
            return Ok(());
        }
        let Some(persists) = done else { return Ok(()) };
        self.seats[number].idle = true;
        if !persists {
            self.connections.try_remove(key);
            self.seats[number].client = None;
        }
        match (self.fetching, persists) {
            (true, true) => self.ask(number),
            (true, false) => self.connect(number)?,
            (false, _) => {}
        }
        Ok(())
    }

    /// Answers what the origin has been asked for.
    fn serve(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let Request { asked, last } = match origin::take_request(&mut connection.held) {
            Ok(Some(request)) if connection.body.1.is_empty() && connection.held.is_empty() => request,
            Ok(Some(_)) => return self.faults.note("a request before the answer to the one before it"),
            Ok(None) => return,
            Err(what) => return self.faults.note(what),
        };
        self.asked_on += u64::from(connection.end == End::Silent);
        connection.end = End::Origin;
        match asked {
            Asked::Live(number) => {
                let Some(seat) = self.seats.get_mut(number) else {
                    return self.faults.note(format!("a request of viewer {number}"));
                };
                connection.out.extend_from_slice(&origin::live_head(self.framing, last));
                connection.end = End::Live(number);
                seat.origin = Some(key);
            }
            Asked::Playlist(stream) => connection.out.extend_from_slice(&origin::playlist(stream, last)),
            Asked::Segment(stream, sequence) => {
                let head = Head { stream, sequence, sent: self.pace.now() };
                let (head, body) = origin::segment(&self.payloads, head, last);
                connection.out.extend_from_slice(&head);
                connection.body = (sequence, body);
            }
        }
        self.flush(key);
    }

    /// Writes what is ready, once, and waits for room if some is left.
    fn flush(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.sent == connection.out.len() {
            connection.out.clear();
            connection.sent = 0;
        }
        let mut flat_out = false;
        if let End::Live(number) = connection.end
            && self.flat_out
        {
            flat_out = true;
            let seat = &mut self.seats[number];
            while connection.out.len() < WRITE_AHEAD {
                let head = Head { stream: seat.stream, sequence: seat.sent, sent: self.pace.now() };
                flv::write(&self.payloads, head, self.framing == Framing::Chunked, &mut connection.out);
                seat.sent += 1;
            }
        }
        let (sequence, left) = connection.body.clone();
        let parts = [&connection.out[connection.sent..], &self.payloads.body(sequence)[left]];
        if parts.iter().any(|part| !part.is_empty()) {
            match connection.socket.write_vectored(&parts.map(IoSlice::new)) {
                Ok(written) => {
                    let of_out = written.min(parts[0].len());
                    connection.sent += of_out;
                    connection.body.1.start += written - of_out;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Reading tells why.
                Err(_) => return,
            }
        }
        let waits = connection.sent < connection.out.len() || !connection.body.1.is_empty();
        let mut wanted = EventFlags::IN;
        wanted.set(EventFlags::OUT, flat_out || waits);
        if wanted != connection.interest {
            connection.interest = wanted;
            if let Err(error) = self.poll.modify(&connection.socket, key as u64, wanted) {
                self.faults.note(error.to_string());
            }
        }
    }

    /// A connection has ended. That is in order after its viewer was closed, and between two answers.
    fn gone(&mut self, key: usize, why: &str) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        let (End::Viewer(number) | End::Live(number)) = connection.end else { return };
        let Some(seat) = self.seats.get_mut(number) else { return };
        let at_viewer = matches!(connection.end, End::Viewer(_));
        let side = if at_viewer { &mut seat.client } else { &mut seat.origin };
        *side = None;
        if !seat.closed && !seat.idle {
            let end = if at_viewer { "viewer" } else { "origin" };
            self.faults.note(format!("viewer {number} at the {end}: {why}"));
        }
    }
}

impl Drive for World {
    fn turn(&mut self) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(Some(self.pace.patience()), &mut ready)?;
        for &(token, flags) in &ready {
            match token {
                LISTENER => self.accept()?,
                TIMER => self.pace.woken(),
                _ => {
                    let key = token as usize;
                    if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                        self.readable(key)?;
                    }
                    if flags.intersects(EventFlags::OUT) {
                        self.flush(key);
                    }
                }
            }
        }
        self.ready = ready;
        self.pace();
        Ok(())
    }

    fn origin(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn open_connections(&self) -> usize {
        self.connections.len()
    }

    fn faults(&self) -> &[String] {
        self.faults.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::relay::{self, Method};

    const LIMIT: Duration = Duration::from_secs(20);
    const FRAME_TIME: Duration = Duration::from_millis(1);

    /// Streams to viewers and segments to players, through `target` or without a relay; all that was sent must
    /// arrive, and nothing be left open.
    fn load(framing: Framing, relayed: bool) {
        let mut world = World::new(Payloads::new(7500), framing).unwrap();
        let mut target = world.origin().unwrap();
        if relayed {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let origin = target;
            target = listener.local_addr().unwrap();
            // It runs for ever: it ends with the test's process.
            std::thread::spawn(move || relay::run(Method::Copy, &listener, origin));
        }
        (0..3).for_each(|stream| world.open_live(stream, target).unwrap());
        world.run_until(LIMIT, World::all_started).unwrap();
        world.set_flow(Flow::FlatOut, Whose::OneAfterTheOther).unwrap();
        world.run_until(LIMIT, |world| world.received > 2000).unwrap();
        world.set_flow(Flow::Paced(FRAME_TIME), Whose::All).unwrap();
        world.run_until(LIMIT, |world| world.received > 2100).unwrap();
        world.set_flow(Flow::Silent, Whose::All).unwrap();
        world.run_until(LIMIT, World::all_received).unwrap();
        world.close_all(FRAME_TIME, LIMIT).unwrap();
        world.run_until(LIMIT, |world| world.open_connections() == 0).unwrap();

        let (before, streams) = (world.received, world.asked_on);
        (0..3).for_each(|stream| world.open_player(stream, target).unwrap());
        world.run_until(LIMIT, World::all_started).unwrap();
        world.set_fetching(true).unwrap();
        world.run_until(LIMIT, |world| world.received > before + 500).unwrap();
        world.set_fetching(false).unwrap();
        world.run_until(LIMIT, World::all_received).unwrap();
        assert_eq!(world.asked_on - streams, 3, "connections are kept");
        world.close_all(FRAME_TIME, LIMIT).unwrap();
        world.run_until(LIMIT, |world| world.open_connections() == 0).unwrap();
        assert_eq!(world.faults(), <[String; 0]>::default());
    }

    #[test]
    fn the_load_arrives_without_a_relay() {
        load(Framing::Chunked, false);
        load(Framing::Close, false);
    }

    #[test]
    fn the_copy_relay_passes_everything() {
        load(Framing::Chunked, true);
        load(Framing::Close, true);
    }
}
