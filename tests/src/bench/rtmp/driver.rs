//! The load: RTMP clients and the origin they reach, in one thread, so that one clock times every message.
//! Knows nothing of what is in between, nor of cases.

use super::chunks::Media;
use crate::bench::load::{Drive, Faults, Flow, Pace, Poll, connect, histogram, listen};
use crate::rtmp::{Client, ClientScript, Error, Event, Origin, OriginScript, Role};
use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;
use slab::Slab;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Read at once from one connection.
const READ_BUFFER: usize = 256 * 1024;
/// A flat-out sender keeps this much ready for each write.
const WRITE_AHEAD: usize = 64 * 1024;

const LISTENER: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

enum End {
    Client(Client),
    Origin(Origin),
}

impl End {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Client(client) => client.feed(bytes),
            Self::Origin(origin) => origin.feed(bytes),
        }
    }

    fn event(&mut self) -> Option<Event> {
        match self {
            Self::Client(client) => client.event(),
            Self::Origin(origin) => origin.event(),
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Client(client) => client.output(),
            Self::Origin(origin) => origin.output(),
        }
    }
}

struct Connection {
    socket: TcpStream,
    end: End,
    session: Option<usize>,
    out: Vec<u8>,
    sent: usize,
    /// It sends media, as much as goes.
    flat_out: bool,
    interest: EventFlags,
}

/// One client's session.
#[derive(Clone, Debug)]
struct Session {
    role: Role,
    client: Option<usize>,
    origin: Option<usize>,
    opened: Instant,
    /// From the connect to the origin's Start at the client.
    setup: Option<Duration>,
    sent: u64,
    received: u64,
    closed: bool,
}

/// Clients, origin and what they saw.
pub struct World {
    poll: Poll,
    ready: Vec<(u64, EventFlags)>,
    listener: TcpListener,
    script: OriginScript,
    media: Media,
    connections: Slab<Connection>,
    sessions: Vec<Session>,
    started: Vec<usize>,
    pace: Pace,
    buffer: Vec<u8>,
    faults: Faults,
    /// Media messages received and verified.
    pub received: u64,
    /// Nanoseconds from the sender's call to the receiver's, for each of them.
    pub latency: Histogram<u64>,
}

impl World {
    /// An origin that listens, and no client.
    ///
    /// # Errors
    /// The system's.
    pub fn new(script: OriginScript, media: Media) -> io::Result<Self> {
        let listener = listen()?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, EventFlags::IN)?;
        let pace = Pace::new(&poll, TIMER)?;
        Ok(Self {
            poll,
            ready: Vec::new(),
            listener,
            script,
            media,
            connections: Slab::new(),
            sessions: Vec::new(),
            started: Vec::new(),
            pace,
            buffer: vec![0; READ_BUFFER],
            faults: Faults::default(),
            received: 0,
            latency: histogram()?,
        })
    }

    /// Connects a client to `target`, for the stream `stream` with the session's number as its query.
    ///
    /// # Errors
    /// The system's.
    pub fn open(
        &mut self,
        role: Role,
        stream: &str,
        chunk_size: u32,
        target: SocketAddr,
    ) -> io::Result<usize> {
        let number = self.sessions.len();
        let name = format!("{stream}?session={number}");
        let script = match role {
            Role::Publish => ClientScript::publish("live", &name),
            Role::Play => ClientScript::play("live", &name),
        };
        let chunk_size = Some((chunk_size, crate::rtmp::ChunkSizeAt::Connect));
        let opened = Instant::now();
        let socket = connect(target)?;
        let client = End::Client(Client::new(ClientScript { chunk_size, ..script }));
        let key = self.insert(socket, client, Some(number))?;
        let (client, setup) = (Some(key), None);
        self.sessions.push(Session {
            role,
            client,
            origin: None,
            opened,
            setup,
            sent: 0,
            received: 0,
            closed: false,
        });
        self.flush(key);
        Ok(number)
    }

    fn insert(&mut self, socket: TcpStream, end: End, session: Option<usize>) -> io::Result<usize> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let interest = EventFlags::IN;
        let connection =
            Connection { socket, end, session, out: Vec::new(), sent: 0, flat_out: false, interest };
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        self.poll.add(&connection.socket, key as u64, interest)?;
        entry.insert(connection);
        Ok(key)
    }

    /// Closes a session's client. The origin's side ends when it hears of it.
    pub fn close(&mut self, session: usize) {
        let session = &mut self.sessions[session];
        session.closed = true;
        if let Some(key) = session.client.take() {
            self.connections.try_remove(key);
        }
    }

    /// Closes all clients.
    pub fn close_all(&mut self) {
        (0..self.sessions.len()).for_each(|session| self.close(session));
    }

    /// Drops what is known of sessions, all of which have ended; numbers begin at 0 again.
    pub fn forget_sessions(&mut self) {
        self.sessions.clear();
    }

    /// Sessions that have started since this was last asked, and how long each took.
    pub fn take_started(&mut self) -> Vec<(usize, Duration)> {
        let sessions = &self.sessions;
        self.started.drain(..).filter_map(|session| Some((session, sessions[session].setup?))).collect()
    }

    /// Whether every session has started, at its client and at the origin.
    pub fn all_started(&self) -> bool {
        self.sessions.iter().all(|session| session.setup.is_some() && session.origin.is_some())
    }

    /// Whether all that was sent has been received.
    pub fn all_received(&self) -> bool {
        self.sessions.iter().all(|session| session.received == session.sent)
    }

    /// Makes the senders of all sessions send, or stop.
    ///
    /// # Errors
    /// The system's.
    pub fn set_flow(&mut self, flow: Flow) -> io::Result<()> {
        self.pace.set(flow)?;
        for session in 0..self.sessions.len() {
            if let Some(key) = self.sender(session) {
                self.connections[key].flat_out = flow == Flow::FlatOut;
                self.flush(key);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let origin = End::Origin(Origin::new(self.script.clone()));
                    self.insert(socket, origin, None)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The connection that sends a session's media.
    fn sender(&self, session: usize) -> Option<usize> {
        let session = &self.sessions[session];
        match session.role {
            Role::Publish => session.client,
            Role::Play => session.origin,
        }
    }

    /// Sends one message, if one is due.
    fn pace(&mut self) {
        let Some(time) = self.pace.due() else { return };
        let number = (time % self.sessions.len() as u64) as usize;
        let Some(key) = self.sender(number) else { return };
        let now = self.pace.now();
        let session = &mut self.sessions[number];
        self.media.write(number as u64, session.sent, now, &mut self.connections[key].out);
        session.sent += 1;
        self.flush(key);
    }

    fn readable(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let read = match connection.socket.read(&mut self.buffer) {
            Ok(0) => return self.gone(key, "closed by the peer"),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return self.gone(key, &error.to_string()),
        };
        if let Err(error) = connection.end.feed(&self.buffer[..read]) {
            return self.gone(key, error.0);
        }
        let now = self.pace.now();
        while let Some(event) = self.connections[key].end.event() {
            self.take(key, event, now);
        }
        self.flush(key);
    }

    fn take(&mut self, key: usize, event: Event, now: u64) {
        let connection = &mut self.connections[key];
        let at_origin = matches!(connection.end, End::Origin(_));
        match event {
            Event::PublishStarted { stream } | Event::PlayStarted { stream } => {
                let number = stream.rsplit_once('=').and_then(|(_, number)| number.parse().ok());
                let session = number.and_then(|number: usize| self.sessions.get_mut(number));
                match (session, number) {
                    (Some(session), Some(_)) if at_origin => {
                        connection.session = number;
                        session.origin = Some(key);
                    }
                    (Some(session), Some(number)) => {
                        session.setup = Some(session.opened.elapsed());
                        self.started.push(number);
                    }
                    _ => self.faults.note(format!("a stream named {stream:?}")),
                }
            }
            Event::Message(message) => {
                let Some(number) = connection.session else {
                    return self.faults.note("media before its stream started");
                };
                let session = &mut self.sessions[number];
                match self.media.verify(&message, number as u64, session.received) {
                    Ok(sent) => {
                        self.latency.saturating_record(now.saturating_sub(sent));
                        self.received += 1;
                    }
                    Err(what) => self.faults.note(format!("session {number}: {what}")),
                }
                self.sessions[number].received += 1;
            }
            Event::Status { level, code, description } if level == "error" => {
                self.faults.note(format!("{code}: {description}"));
            }
            _ => {}
        }
    }

    /// Writes what is ready, once, and waits for room if some is left.
    fn flush(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.sent == connection.out.len() {
            connection.out.clear();
            connection.sent = 0;
        }
        connection.out.append(connection.end.output());
        if let Some(number) = connection.session.filter(|_| connection.flat_out) {
            let now = self.pace.now();
            while connection.out.len() < WRITE_AHEAD {
                let session = &mut self.sessions[number];
                self.media.write(number as u64, session.sent, now, &mut connection.out);
                session.sent += 1;
            }
        }
        if connection.sent < connection.out.len() {
            match connection.socket.write(&connection.out[connection.sent..]) {
                Ok(written) => connection.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Reading tells why.
                Err(_) => return,
            }
        }
        let mut wanted = EventFlags::IN;
        wanted.set(EventFlags::OUT, connection.flat_out || connection.sent < connection.out.len());
        if wanted != connection.interest {
            connection.interest = wanted;
            if let Err(error) = self.poll.modify(&connection.socket, key as u64, wanted) {
                self.gone(key, &error.to_string());
            }
        }
    }

    /// A connection has ended. That is in order only after its session was closed, or before it had one.
    fn gone(&mut self, key: usize, why: &str) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        let Some(number) = connection.session else { return };
        let at_client = matches!(connection.end, End::Client(_));
        let session = &mut self.sessions[number];
        if at_client {
            session.client = None;
        } else {
            session.origin = None;
        }
        if !session.closed {
            let end = if at_client { "client" } else { "origin" };
            self.faults.note(format!("session {number} at the {end}: {why}"));
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
                        self.readable(key);
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
