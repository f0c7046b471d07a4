//! An RTMP origin that writes down all it receives, refuses what it is told to, or never answers. One
//! thread serves any number of connections.

use super::wait_for;
use crate::rtmp::{Event, Message, Origin, OriginScript, Wire, kind};
use bytes::{Buf, Bytes};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// How an origin treats its clients.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// As the script says.
    Answer(OriginScript),
    /// As the script says; each player is sent these messages when it has begun.
    Play(OriginScript, Vec<Message>),
    /// Takes connections and never says anything.
    Mute,
}

/// What one connection brought.
#[derive(Clone, Default, Debug)]
pub struct Record {
    /// Every message as it arrived, payloads untouched.
    pub messages: Vec<Message>,
    /// What the origin made of them.
    pub events: Vec<Event>,
    /// Bytes of answers that the kernel has taken.
    pub sent: u64,
    /// The connection has ended.
    pub ended: bool,
    /// How the client broke the protocol, if it did.
    pub fault: Option<&'static str>,
}

impl Record {
    /// The payload of the first command with this name.
    pub fn command(&self, name: &str) -> Option<&[u8]> {
        let payload =
            |message: &Message| message.type_id == kind::COMMAND && starts_with(&message.payload, name);
        self.messages.iter().find(|message| payload(message)).map(|message| &message.payload[..])
    }

    /// Audio, video and data messages, in order.
    pub fn media(&self) -> impl Iterator<Item = &Message> {
        self.messages
            .iter()
            .filter(|message| matches!(message.type_id, kind::AUDIO | kind::VIDEO | kind::DATA))
    }

    /// The stream that is published or played, query and all.
    pub fn stream(&self) -> Option<&str> {
        self.events.iter().find_map(|event| match event {
            Event::PublishStarted { stream } | Event::PlayStarted { stream } => Some(&**stream),
            _ => None,
        })
    }
}

/// A command's payload begins with its name as an AMF0 string.
fn starts_with(payload: &[u8], name: &str) -> bool {
    let length = u16::try_from(name.len()).expect("a short name").to_be_bytes();
    payload.strip_prefix(&[2, length[0], length[1]]).is_some_and(|rest| rest.starts_with(name.as_bytes()))
}

/// A running origin.
#[derive(Debug)]
pub struct Recorder {
    rtmp: SocketAddr,
    records: Records,
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Records = Arc<Mutex<Vec<Record>>>;

impl Recorder {
    /// Starts one.
    #[track_caller]
    pub fn start(behaviour: Behaviour) -> Self {
        let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let rtmp = listener.local_addr().expect("its address");
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), WAKER).expect("a waker");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("a registered listener");
        let records = Records::default();
        let stop = Arc::new(AtomicBool::new(false));
        let server =
            Server { poll, listener, connections: Slab::new(), behaviour, records: Arc::clone(&records) };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || server.run(&stopped));
        Self { rtmp, records, waker, stop, thread: Some(thread) }
    }

    /// Its RTMP address.
    pub fn rtmp(&self) -> SocketAddr {
        self.rtmp
    }

    /// All connections so far, in the order in which they came.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.records).clone()
    }

    /// How many connections fulfil a condition.
    pub fn count(&self, condition: impl Fn(&Record) -> bool) -> usize {
        lock(&self.records).iter().filter(|record| condition(record)).count()
    }

    /// Waits for a connection that fulfils a condition.
    #[track_caller]
    pub fn wait_record(&self, what: &str, deadline: Duration, condition: impl Fn(&Record) -> bool) -> Record {
        wait_for(what, deadline, || lock(&self.records).iter().find(|record| condition(record)).cloned())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    behaviour: Behaviour,
    records: Records,
}

struct Connection {
    stream: TcpStream,
    record: usize,
    /// None: mute.
    origin: Option<Origin>,
    /// Hears the same bytes as the origin, for its messages as they were.
    ear: Wire,
    unsent: Bytes,
}

impl Server {
    fn run(mut self, stop: &AtomicBool) {
        let mut events = Events::with_capacity(1024);
        while !stop.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, None) {
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("a poll that works"),
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(slot) => self.serve(slot),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(entry.key()), interest).expect("a registration");
            let script = match &self.behaviour {
                Behaviour::Answer(script) | Behaviour::Play(script, _) => Some(script.clone()),
                Behaviour::Mute => None,
            };
            let mut records = lock(&self.records);
            let seed = script.as_ref().map_or(0, |script| script.seed);
            let (origin, ear) = (script.map(Origin::new), Wire::server(seed));
            entry.insert(Connection { stream, record: records.len(), origin, ear, unsent: Bytes::new() });
            records.push(Record::default());
        }
    }

    fn serve(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let films = match &self.behaviour {
            Behaviour::Play(_, films) => &films[..],
            _ => &[],
        };
        let mut buffer = vec![0; BUFFER];
        let mut arrived = Record::default();
        while !arrived.ended {
            match connection.stream.read(&mut buffer) {
                Ok(0) => arrived.ended = true,
                Ok(count) => connection.take(&buffer[..count], films, &mut arrived),
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(_) => arrived.ended = true,
            }
        }
        // Written down before it is answered: whoever has the answer finds the record.
        let mut over = arrived.ended || arrived.fault.is_some();
        let record = connection.record;
        lock(&self.records)[record].add(arrived);
        let mut sent = 0;
        over |= connection.flush(&mut sent).is_err();
        if over {
            self.connections.remove(slot);
        }
        lock(&self.records)[record].add(Record { sent, ended: over, ..Record::default() });
    }
}

impl Connection {
    fn take(&mut self, bytes: &[u8], films: &[Message], record: &mut Record) {
        let Some(origin) = &mut self.origin else { return };
        // Both hear the same and judge alike.
        if let Err(fault) = self.ear.feed(bytes).and_then(|()| origin.feed(bytes)) {
            record.fault = Some(fault.0);
        }
        record.messages.extend(std::iter::from_fn(|| self.ear.next_message()));
        self.ear.output().clear();
        while let Some(event) = origin.event() {
            if matches!(event, Event::PlayStarted { .. }) {
                films.iter().for_each(|message| origin.send(message));
            }
            record.events.push(event);
        }
    }

    fn flush(&mut self, sent: &mut u64) -> io::Result<()> {
        let Some(origin) = &mut self.origin else { return Ok(()) };
        loop {
            if self.unsent.is_empty() {
                self.unsent = origin.take_output().into();
            }
            if self.unsent.is_empty() {
                return Ok(());
            }
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.advance(count);
                    *sent += count as u64;
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(why) => return Err(why),
            }
        }
    }
}

impl Record {
    fn add(&mut self, more: Self) {
        self.messages.extend(more.messages);
        self.events.extend(more.events);
        self.sent += more.sent;
        self.ended |= more.ended;
        self.fault = self.fault.or(more.fault);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
