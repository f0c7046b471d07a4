//! An HTTP origin that writes down each request byte for byte and answers as its script says: in order, in pieces,
//! late, never, cut short, or with nonsense. One thread for each connection.

use super::http::{Body, Fields, Framing, Left, Wire, chunked, framing};
use super::{PATIENCE, wait_for};
use socket2::SockRef;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection brought it, counted from 0.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The target, byte for byte.
    pub target: String,
    /// The version, as `HTTP/1.1`.
    pub version: String,
    /// Its fields.
    pub fields: Fields,
    /// The bytes of its head.
    pub head: Body,
    /// What arrived of its body, without the coding of the transfer.
    pub body: Body,
    /// The fields after a chunked body.
    pub trailers: Fields,
    /// Its body has arrived in full.
    pub whole: bool,
}

/// What one connection brought.
#[derive(Clone, Default, Debug)]
pub struct Record {
    /// All its bytes.
    pub received: Body,
    /// Bytes of answers that the kernel has taken.
    pub sent: u64,
    /// Answers that were given to their ends.
    pub answers: usize,
    /// When it was over.
    pub ended: Option<Instant>,
    /// How the client broke the protocol, if it did.
    pub fault: Option<String>,
}

/// Something that an answer waits for until the test lets it go on.
#[derive(Clone, Default, Debug)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets whoever waits go on.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let closed = |open: &mut bool| !*open;
        drop(self.0.1.wait_timeout_while(lock(&self.0.0), PATIENCE, closed));
    }
}

/// A part of an answer after its head.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes; none of them to `HEAD`.
    Send(Vec<u8>),
    /// These bytes over and over, until the client is gone.
    Flood(Vec<u8>),
    /// Nothing until the gate is opened.
    Wait(Gate),
    /// Nothing for so long.
    After(Duration),
    /// Nothing more, until the client is gone.
    Hold,
    /// The end of the connection in good order.
    Close,
    /// The end of the connection as after a crash.
    Reset,
}

/// An answer of the script. Without anything more it is a head that says that there is no body.
#[derive(Clone, Debug)]
pub struct Answer {
    head: Vec<u8>,
    /// What ends the head.
    end: &'static str,
    steps: Vec<Step>,
    early: bool,
}

impl Answer {
    /// An answer with this status.
    pub fn new(status: u16, reason: &str) -> Self {
        let end = "Content-Length: 0\r\n\r\n";
        Self { end, ..Self::raw(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes()) }
    }

    /// `200 OK` with this type and body, of known length.
    pub fn ok(content_type: &str, body: &[u8]) -> Self {
        Self::new(200, "OK").field("Content-Type", content_type).body(body)
    }

    /// These very bytes, whatever they are.
    pub fn raw(bytes: &[u8]) -> Self {
        Self { head: bytes.to_vec(), end: "", steps: Vec::new(), early: false }
    }

    /// Not a word.
    pub fn silence() -> Self {
        Self::raw(b"").then(Step::Hold)
    }

    /// The same after an interim answer.
    #[must_use]
    pub fn after_interim(mut self, status: u16, reason: &str, fields: &[(&str, &str)]) -> Self {
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let interim = format!("HTTP/1.1 {status} {reason}\r\n{lines}\r\n");
        self.head.splice(0..0, interim.into_bytes());
        self
    }

    /// The same with one field more.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }

    /// The same with a body of known length.
    #[must_use]
    pub fn body(self, body: &[u8]) -> Self {
        self.length(body.len()).then(Step::Send(body.to_vec()))
    }

    /// The same, saying that its body has this length.
    #[must_use]
    pub fn length(self, length: usize) -> Self {
        self.framed_by("Content-Length", &length.to_string())
    }

    /// The same with a chunked body and fields behind it.
    #[must_use]
    pub fn chunks(self, chunks: &[&[u8]], trailers: &[(&str, &str)]) -> Self {
        self.chunked().then(Step::Send(chunked(chunks, trailers)))
    }

    /// The same, saying that its body is chunked.
    #[must_use]
    pub fn chunked(self) -> Self {
        self.framed_by("Transfer-Encoding", "chunked")
    }

    /// The same with a body that ends with the connection, and saying so.
    #[must_use]
    pub fn until_close(self, body: &[u8]) -> Self {
        self.framed_by("Connection", "close").then(Step::Send(body.to_vec())).then(Step::Close)
    }

    /// The same with a body that begins so and never ends.
    #[must_use]
    pub fn endless(self, start: &[u8]) -> Self {
        self.framed_by("Connection", "close").then(Step::Send(start.to_vec())).then(Step::Hold)
    }

    fn framed_by(mut self, name: &str, value: &str) -> Self {
        self.end = "\r\n";
        self.field(name, value)
    }

    /// The same without a word about a body, as 204 and 304 want it.
    #[must_use]
    pub fn bodiless(mut self) -> Self {
        self.end = "\r\n";
        self
    }

    /// The same, going on so.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The same before the request's body is read, which then is of no interest.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }
}

type Script = Box<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// A running origin.
pub struct HttpOrigin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    script: Script,
    log: Mutex<Log>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    requests: Vec<Seen>,
    /// Of the connections that are not over, to end them.
    streams: BTreeMap<usize, TcpStream>,
}

impl HttpOrigin {
    /// Starts one. The script sees a request's head, before its body is read.
    #[track_caller]
    pub fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &accepting));
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// Starts one that always answers so.
    #[track_caller]
    pub fn answering(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All requests so far, in the order in which their heads came.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.log).requests.clone()
    }

    /// All connections so far, in the order in which they came.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.shared.log).records.clone()
    }

    /// How many connections are not over.
    pub fn open(&self) -> usize {
        lock(&self.shared.log).records.iter().filter(|record| record.ended.is_none()).count()
    }

    /// Waits for a request that fulfils a condition.
    #[track_caller]
    pub fn wait_request(&self, what: &str, condition: impl Fn(&Seen) -> bool) -> Seen {
        wait_for(what, PATIENCE, || {
            lock(&self.shared.log).requests.iter().find(|seen| condition(seen)).cloned()
        })
    }

    /// The only request so far.
    #[track_caller]
    pub fn only_request(&self) -> Seen {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.into_iter().next().expect("there is one")
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        lock(&self.shared.log).requests.clear();
    }

    /// Stops listening and ends all connections, as a crash would.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopped.store(true, Ordering::Relaxed);
        // The acceptor looks at the flag when somebody comes.
        if TcpStream::connect(self.addr).is_ok() {
            let _ = acceptor.join();
        }
        for stream in lock(&self.shared.log).streams.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for HttpOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOrigin").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Drop for HttpOrigin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        // Parts of an answer go out when they are due.
        let _ = stream.set_nodelay(true);
        let mut log = lock(&shared.log);
        let number = log.records.len();
        log.records.push(Record::default());
        log.streams.extend(stream.try_clone().map(|stream| (number, stream)));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve(stream, number, &shared));
    }
}

/// Reads from a connection and writes down what came.
struct Tee<'a> {
    stream: TcpStream,
    shared: &'a Shared,
    number: usize,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.shared.record(self.number, |record| record.received.0.extend_from_slice(&buffer[..count]));
        Ok(count)
    }
}

impl Shared {
    fn record(&self, number: usize, change: impl FnOnce(&mut Record)) {
        change(&mut lock(&self.log).records[number]);
    }
}

fn serve(stream: TcpStream, number: usize, shared: &Shared) {
    let mut service = Service { wire: Wire::new(Tee { stream, shared, number }), number, shared };
    // The kernel's own word that nobody is there any more is the ordinary end.
    let fault = loop {
        match service.next() {
            Ok(true) => {}
            Ok(false) => break None,
            Err(why) if why.kind() == io::ErrorKind::InvalidData => break Some(why.to_string()),
            Err(_) => break None,
        }
    };
    drop(service);
    lock(&shared.log).streams.remove(&number);
    shared.record(number, |record| {
        record.fault = fault;
        record.ended = Some(Instant::now());
    });
}

struct Service<'a> {
    wire: Wire<Tee<'a>>,
    number: usize,
    shared: &'a Shared,
}

impl Service<'_> {
    /// Takes and answers one request; whether the connection goes on.
    fn next(&mut self) -> io::Result<bool> {
        let head = self.wire.head()?;
        let mut words = head.start.splitn(3, ' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let mut seen = Seen {
            connection: self.number,
            method: word(),
            target: word(),
            version: word(),
            fields: head.fields,
            head: Body(head.raw),
            body: Body::default(),
            trailers: Fields::default(),
            whole: false,
        };
        let framing = framing(&seen.fields)?.unwrap_or(Framing::None);
        seen.whole = framing == Framing::None;
        let answer = (self.shared.script)(&seen);
        let index = {
            // Written down before it is answered: whoever has the answer finds the request.
            let mut log = lock(&self.shared.log);
            log.requests.push(seen.clone());
            log.requests.len() - 1
        };
        if !answer.early && framing != Framing::None {
            if seen.fields.lists("expect", "100-continue") {
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let mut left = Left::from(framing);
            while let Some(piece) = self.wire.piece(&mut left, &mut seen.trailers)? {
                self.seen(index, |seen| seen.body.0.extend_from_slice(&piece));
            }
            self.seen(index, |known| {
                known.trailers = seen.trailers.clone();
                known.whole = true;
            });
        }
        self.answer(&seen.method, &answer)
    }

    fn seen(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = lock(&self.shared.log).requests.get_mut(index) {
            change(seen);
        }
    }

    fn answer(&mut self, method: &str, answer: &Answer) -> io::Result<bool> {
        self.send(&answer.head)?;
        self.send(answer.end.as_bytes())?;
        for step in &answer.steps {
            match step {
                Step::Send(_) if method == "HEAD" => {}
                Step::Send(bytes) => self.send(bytes)?,
                Step::Flood(bytes) => loop {
                    self.send(bytes)?;
                },
                Step::Wait(gate) => gate.wait(),
                Step::After(time) => std::thread::sleep(*time),
                Step::Hold => {
                    while !self.wire.any()?.is_empty() {}
                    return Ok(false);
                }
                Step::Close => {
                    self.stream().shutdown(Shutdown::Write)?;
                    while !self.wire.any()?.is_empty() {}
                    return Ok(false);
                }
                Step::Reset => {
                    SockRef::from(self.stream()).set_linger(Some(Duration::ZERO))?;
                    return Ok(false);
                }
            }
        }
        self.shared.record(self.number, |record| record.answers += 1);
        Ok(!answer.early)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let count = (&self.wire.get_ref().stream).write(left)?;
            left = &left[count..];
            self.shared.record(self.number, |record| record.sent += count as u64);
        }
        Ok(())
    }

    fn stream(&self) -> &TcpStream {
        &self.wire.get_ref().stream
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
