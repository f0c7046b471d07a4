//! The scripted RTMP client on a real socket. Never blocks: many of them are driven by one thread.

use super::wait_until;
use crate::rtmp::{Client, ClientScript, Event, Message};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// Events shown when a test fails.
const EVENTS_SHOWN: usize = 30;

/// One client connection and what it saw.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    client: Client,
    events: Vec<Event>,
    received: u64,
    flushed: bool,
    ended: Option<Instant>,
}

impl Session {
    /// Connects and begins the script; [`turn`](Self::turn) or a wait carries it on.
    #[track_caller]
    pub fn start(to: SocketAddr, script: ClientScript) -> Self {
        Self::on(TcpStream::connect(to).expect("a connection"), script)
    }

    /// The same with a receive buffer as small as the kernel allows: what is not read soon stays with the
    /// sender.
    #[track_caller]
    pub fn start_narrow(to: SocketAddr, script: ClientScript) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(1).expect("a small receive buffer");
        socket.connect(&to.into()).expect("a connection");
        Self::on(socket.into(), script)
    }

    /// Ends being narrow. With the smallest buffer the kernel's timers for closed windows, not the other side, would
    /// decide when anything comes again.
    pub fn widen(&self) {
        SockRef::from(&self.stream).set_recv_buffer_size(4 << 20).expect("a large receive buffer");
    }

    #[track_caller]
    fn on(stream: TcpStream, script: ClientScript) -> Self {
        stream.set_nonblocking(true).expect("a nonblocking socket");
        stream.set_nodelay(true).expect("a socket without delay");
        Self {
            stream,
            client: Client::new(script),
            events: Vec::new(),
            received: 0,
            flushed: false,
            ended: None,
        }
    }

    /// Sends and receives what can be without waiting; whether something was received.
    #[track_caller]
    pub fn turn(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        match self.flush().and_then(|()| self.receive()) {
            Ok(received) => received,
            Err(why) if why.kind() == ErrorKind::InvalidData => panic!("{why}"),
            Err(_) => {
                self.ended = Some(Instant::now());
                false
            }
        }
    }

    /// Waits until `done` holds.
    #[track_caller]
    pub fn wait(&mut self, what: &str, deadline: Duration, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}\n{}", self.story());
            assert!(self.ended.is_none(), "closed before: {what}\n{}", self.story());
            if !self.turn() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Waits until publishing or playing has begun.
    #[track_caller]
    pub fn wait_started(&mut self, deadline: Duration) {
        self.wait("the session has begun", deadline, Self::is_started);
    }

    /// Waits until the other side has closed the connection.
    #[track_caller]
    pub fn wait_ended(&mut self, deadline: Duration) {
        wait_until("the connection is closed", deadline, || {
            self.turn();
            self.ended.is_some()
        });
    }

    /// When the other side closed the connection.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// Whether publishing or playing has begun.
    pub fn is_started(&self) -> bool {
        let started =
            |event: &Event| matches!(event, Event::PublishStarted { .. } | Event::PlayStarted { .. });
        self.events.iter().any(started)
    }

    /// All that it saw.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Media and data messages it received.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.events.iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
    }

    /// The first status of level `error`: its code and description.
    pub fn refusal(&self) -> Option<(&str, &str)> {
        self.events.iter().find_map(|event| match event {
            Event::Status { level, code, description } if level == "error" => Some((&**code, &**description)),
            _ => None,
        })
    }

    /// The last of what it saw, for people: media by type and size only.
    pub fn story(&self) -> String {
        let shown = self.events.iter().rev().take(EVENTS_SHOWN).rev();
        let lines = shown.map(|event| match event {
            Event::Message(message) => {
                format!("  message of type {}, {} bytes\n", message.type_id, message.payload.len())
            }
            event => format!("  {event:?}\n"),
        });
        lines.collect()
    }

    /// Forgets what it saw, so that a long session stays small.
    pub fn forget(&mut self) {
        self.events.clear();
    }

    /// Bytes received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The script's client, for sending.
    pub fn client(&mut self) -> &mut Client {
        self.flushed = false;
        &mut self.client
    }

    /// Whether all that was to be sent has gone to the kernel.
    pub fn is_flushed(&self) -> bool {
        self.flushed
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flushed = false;
        while !self.client.output().is_empty() {
            match self.stream.write(self.client.output()) {
                Ok(sent) => drop(self.client.output().drain(..sent)),
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
                // What arrived before a reset is still to be read.
                Err(_) => self.client.output().clear(),
            }
        }
        self.flushed = true;
        Ok(())
    }

    /// Reads once, so that one of many sessions does not hold up the others.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; BUFFER];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.received += count as u64;
                let fed = self.client.feed(&buffer[..count]);
                fed.map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
                self.events.extend(std::iter::from_fn(|| self.client.event()));
                Ok(true)
            }
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(why) => Err(why),
        }
    }
}

/// Carries on many sessions until `done` holds for each.
#[track_caller]
pub fn drive(sessions: &mut [Session], what: &str, deadline: Duration, done: impl Fn(&Session) -> bool) {
    wait_until(what, deadline, || {
        // Each has to have its turn: no short cut at the first that is not done.
        let waiting = sessions.iter_mut().filter_map(|session| {
            while session.turn() {}
            (!done(session)).then_some(())
        });
        waiting.count() == 0
    });
}
