//! A toy server in the simulated world: the proof that the contract carries bounded splices, kept connections and files.

use bytes::Bytes;
use srs_proxy_core::machine::{
    Action, Close, Cx, Fault, FileInfo, Input, Leg, Machine, OpenError, Opened, Transport,
};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::sim::{
    Dice, End, Fate, Fates, File, Host, Io, Peer, Run, Straight, Weather, World, seeds,
};
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::rc::Rc;

/// How long a client may rest, and an origin may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// `get n\n` brings n bytes of the origin, `file path\n` a file; one request after the other.
#[derive(Debug)]
struct Server {
    state: State,
    deadline: Time,
    generation: u32,
    drains: bool,
    /// It asks by half a line, and gives the connection back when nobody answers.
    careless: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    Line,
    Opening { leg: Leg, length: u64, again: bool },
    Head { leg: Leg, length: u64, again: bool },
    Body { leg: Leg },
    File { leg: Leg },
}

impl Server {
    fn new(now: Time) -> Self {
        Self { state: State::Line, deadline: now + PATIENCE, generation: 0, drains: false, careless: false }
    }

    fn leg(&mut self) -> Leg {
        self.generation += 1;
        Leg::new(1, self.generation)
    }

    fn request(&mut self, cx: &mut Cx<'_>, line: &str) -> Result<(), Fault> {
        let leg = self.leg();
        cx.actions.push(Action::Pause { leg: Leg::CLIENT });
        if let Some(path) = line.strip_prefix("file ") {
            cx.actions.push(Action::OpenFile { leg, path: path.into() });
            self.state = State::File { leg };
        } else {
            let length = line.strip_prefix("get ").and_then(|length| length.parse().ok());
            let length = length.ok_or(Fault::Client("asks for nothing"))?;
            cx.actions.push(Action::Open { leg, to: origin(), transport: Transport::Kept });
            self.state = State::Opening { leg, length, again: false };
        }
        Ok(())
    }

    fn retry(&mut self, cx: &mut Cx<'_>, length: u64) {
        let leg = self.leg();
        cx.actions.push(Action::Open { leg, to: origin(), transport: Transport::Tcp });
        self.state = State::Opening { leg, length, again: false };
    }

    fn done(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        cx.actions.close(leg, Close::Keep);
        self.state = State::Line;
        if self.drains {
            cx.actions.close(Leg::CLIENT, Close::Flush);
        } else {
            cx.actions.push(Action::Resume { leg: Leg::CLIENT });
        }
    }
}

impl Machine for Server {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        if !matches!(input, Input::Tick) {
            self.deadline = cx.now + PATIENCE;
        }
        match (self.state, input) {
            (State::Line, Input::Stream { leg: Leg::CLIENT, bytes }) => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
                let line = std::str::from_utf8(&bytes[..end]).map_err(|_| Fault::Client("no text"))?;
                self.request(cx, line)?;
                return Ok(end + 1);
            }
            (State::Opening { leg, length, .. }, Input::Opened { leg: opened, what }) if opened == leg => {
                let end = if self.careless { "" } else { "\n" };
                cx.actions.write(leg, Bytes::from(format!("{length}{end}").into_bytes()));
                self.state = State::Head { leg, length, again: what == Opened::Reused };
            }
            (State::Head { leg, length, .. }, Input::Stream { leg: from, bytes }) if from == leg => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
                cx.actions.forward(Leg::CLIENT, 0..end + 1);
                self.state = State::Body { leg };
                match NonZeroU64::new(length) {
                    limit @ Some(_) => {
                        cx.actions.push(Action::Splice { from: leg, to: Leg::CLIENT, limit });
                    }
                    None => self.done(cx, leg),
                }
                return Ok(end + 1);
            }
            (State::Head { leg, length, again: true }, Input::Eof { leg: ended, .. }) if ended == leg => {
                cx.actions.close(leg, Close::Flush);
                self.retry(cx, length);
            }
            (State::Body { leg } | State::File { leg }, Input::Spliced { leg: from }) if from == leg => {
                self.done(cx, leg);
            }
            (State::File { leg }, Input::Opened { what: Opened::File(info), .. }) => {
                let text = format!("{}\n", info.length);
                cx.actions.write(Leg::CLIENT, Bytes::from(text.into_bytes()));
                let (half, to) = (info.length / 2, Leg::CLIENT);
                cx.actions.push(Action::SendFile { from: leg, to, range: half..info.length });
            }
            (_, Input::OpenFailed { why: OpenError::Unreachable, .. }) => {
                cx.actions.write(Leg::CLIENT, Bytes::from_static(b"no\n"));
                return Err(Fault::Origin("is not there"));
            }
            (State::Line, Input::Drain) => cx.actions.close(Leg::CLIENT, Close::Flush),
            (_, Input::Drain) => self.drains = true,
            (_, Input::Eof { leg: Leg::CLIENT, .. }) => return Err(Fault::Client("left")),
            (_, Input::Eof { .. }) => return Err(Fault::Origin("left too early")),
            (State::Head { leg, .. }, Input::Tick) if self.careless => {
                self.deadline = cx.now + PATIENCE;
                self.done(cx, leg);
            }
            (_, Input::Tick) if cx.now >= self.deadline => return Err(Fault::Client("rests too long")),
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.deadline)
    }
}

fn origin() -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, 1), 8080).into()
}

/// The bytes an origin answers with.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + length) as u8).collect()
}

fn answer(length: usize) -> Vec<u8> {
    [format!("{length}\n").into_bytes(), content(length)].concat()
}

/// How an origin treats its connections.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Manner {
    /// They stay.
    Keeps,
    /// Some time after an answer it may end the connection.
    ClosesIdle,
    /// It ends the connection when the second request comes.
    ClosesAtRequest,
    /// It breaks the connection when the second request comes.
    ResetsAtRequest,
    /// It ends the connection in the middle of the first answer.
    Truncates,
}

struct Origin {
    manner: Manner,
    line: Vec<u8>,
    answers: u32,
}

impl Peer for Origin {
    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let length = std::str::from_utf8(&self.line).expect("text").parse().expect("a number");
            self.line.clear();
            match self.manner {
                Manner::ClosesAtRequest if self.answers > 0 => return io.close(),
                Manner::ResetsAtRequest if self.answers > 0 => return io.reset(),
                Manner::Truncates => {
                    io.write(&answer(length)[..length / 2]);
                    return io.close();
                }
                _ => io.write(answer(length)),
            }
            self.answers += 1;
            if self.manner == Manner::ClosesIdle && io.dice.chance(700) {
                let after = io.dice.range(0..=100_000);
                io.wake(Duration::from_micros(after), 0);
            }
        }
    }

    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        io.close();
    }

    fn between_messages(&self) -> bool {
        self.line.is_empty()
    }
}

/// Asks one by one or all at once, and leaves when it has all.
struct Client {
    requests: Vec<String>,
    asked: usize,
    pipelines: bool,
    /// How many bytes there are after each answer.
    ends: Vec<usize>,
    seen: Rc<RefCell<Seen>>,
}

#[derive(Default)]
struct Seen {
    got: Vec<u8>,
    end: Option<End>,
}

impl Client {
    fn new(requests: Vec<String>, pipelines: bool) -> (Self, Vec<u8>, Rc<RefCell<Seen>>) {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let (mut expects, mut ends) = (Vec::new(), Vec::new());
        for request in &requests {
            expects.extend(expected(request));
            ends.push(expects.len());
        }
        (Self { requests, asked: 0, pipelines, ends, seen: Rc::clone(&seen) }, expects, seen)
    }

    fn ask(&mut self, io: &mut Io<'_>) {
        let rest = &self.requests[self.asked..];
        let now = if self.pipelines { rest.len() } else { rest.len().min(1) };
        io.write(rest[..now].concat());
        self.asked += now;
    }
}

impl Peer for Client {
    fn start(&mut self, io: &mut Io<'_>) {
        self.ask(io);
    }

    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        let mut seen = self.seen.borrow_mut();
        seen.got.extend_from_slice(bytes);
        if seen.got.len() == *self.ends.last().expect("a request") {
            io.close();
        } else if seen.got.len() == self.ends[self.asked - 1] {
            let pause = io.dice.range(0..=200_000);
            io.wake(Duration::from_micros(pause), 0);
        }
    }

    fn end(&mut self, io: &mut Io<'_>, end: End) {
        self.seen.borrow_mut().end = Some(end);
        io.close();
    }

    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        self.ask(io);
    }
}

const FILE: &str = "a/file.bin";

fn expected(request: &str) -> Vec<u8> {
    match request.strip_prefix("get ") {
        Some(length) => answer(length.trim().parse().expect("a number")),
        None => {
            let file = file();
            [format!("{}\n", file.len()).as_bytes(), &file[file.len() / 2..]].concat()
        }
    }
}

fn file() -> Vec<u8> {
    content(200_001)
}

fn client(dice: &mut Dice) -> (Box<dyn Peer>, Vec<u8>, Rc<RefCell<Seen>>) {
    let requests = (0..dice.size(1..=5))
        .map(|_| match dice.size(0..=9) {
            0 => format!("file {FILE}\n"),
            1 => "get 0\n".to_owned(),
            _ => format!("get {}\n", dice.any_size(60_000)),
        })
        .collect();
    let (client, expects, seen) = Client::new(requests, dice.chance(400));
    (Box::new(client), expects, seen)
}

struct Played {
    world: World<Server>,
    runs: Vec<(Run, Vec<u8>, Rc<RefCell<Seen>>)>,
    connections: usize,
}

/// Some clients, one after the other, with one origin.
fn play(seed: u64, manner: Manner, clients: usize, origin_fates: Fates) -> Played {
    let mut dice = Dice::new(seed ^ 0x9001);
    let mut weather = Weather::random(&mut dice);
    weather.stall = weather.stall.min(Duration::from_millis(100));
    if manner == Manner::Keeps {
        weather.keep = Duration::from_secs(60);
    }
    let connections = Rc::new(Cell::new(0));
    let count = Rc::clone(&connections);
    let serve = move |_| -> Box<dyn Peer> {
        count.set(count.get() + 1);
        Box::new(Origin { manner, line: Vec::new(), answers: 0 })
    };
    let (first, expects, seen) = client(&mut dice);
    let mut world = World::tcp(seed, weather, Server::new(Time::ZERO), first, Fates::default());
    world.host(origin(), Host::Serves(Box::new(serve), origin_fates));
    world.file(FILE, File::new(file()));
    let mut runs = vec![(world.run(Duration::from_secs(600)), expects, seen)];
    for _ in 1..clients {
        let (next, expects, seen) = client(&mut dice);
        world.again(Server::new(world.now()), next, Fates::default());
        runs.push((world.run(Duration::from_secs(600)), expects, seen));
    }
    world.assert_ended();
    Played { world, runs, connections: connections.get() }
}

#[test]
fn sessions_share_the_connections_they_gave_back() {
    seeds::run("pool", 60, |seed| {
        let played = play(seed, Manner::Keeps, 3, Fates::default());
        for (run, expects, seen) in &played.runs {
            assert_eq!(run.fault, Some(Fault::Client("left")));
            assert!(seen.borrow().got == *expects, "{} of {}", seen.borrow().got.len(), expects.len());
        }
        assert!(played.connections <= 1 && played.world.kept() == played.connections);
    });
}

#[test]
fn an_origin_that_ends_a_kept_connection_when_it_is_used_costs_no_answer() {
    seeds::run("pool_stale", 90, |seed| {
        let manner =
            [Manner::ClosesIdle, Manner::ClosesAtRequest, Manner::ResetsAtRequest][seed as usize % 3];
        let played = play(seed, manner, 3, Fates::default());
        for (run, expects, seen) in &played.runs {
            assert_eq!(run.fault, Some(Fault::Client("left")));
            assert!(seen.borrow().got == *expects);
        }
    });
}

#[test]
fn an_answer_that_ends_too_early_is_the_end_of_its_session() {
    seeds::run("pool_short", 60, |seed| {
        let fates = match seed % 2 {
            0 => Fates::default(),
            _ => {
                Fates { from_peer: Some((Dice::new(seed).any_size(5000) as u64, Fate::Reset)), to_peer: None }
            }
        };
        let manner = if seed % 2 == 0 { Manner::Truncates } else { Manner::Keeps };
        let played = play(seed, manner, 2, fates);
        for (_, expects, seen) in &played.runs {
            assert!(expects.starts_with(&seen.borrow().got));
        }
    });
}

/// A session that asks for one file.
fn one_file(weather: Weather, file: File) -> (Run, Vec<u8>) {
    let (client, _, seen) = Client::new(vec![format!("file {FILE}\n")], false);
    let mut world = World::tcp(1, weather, Server::new(Time::ZERO), Box::new(client), Fates::default());
    world.file(FILE, file);
    let run = world.run(Duration::from_secs(60));
    world.assert_ended();
    let got = seen.borrow().got.clone();
    (run, got)
}

#[test]
fn a_file_is_sent_as_fast_as_its_reader_reads() {
    // The bound on the queue is asserted all the while.
    let weather = Weather { window: 2000, read: 5000, high_water: 8000, ..Weather::fair() };
    let (run, got) = one_file(weather, File::new(file()));
    assert_eq!(run.fault, Some(Fault::Client("left")));
    assert!(got == expected("file"));
}

#[test]
fn a_file_that_has_become_shorter_ends_early() {
    let (run, got) = one_file(Weather::fair(), File::new(file()).shrinking_to(150_000));
    assert_eq!(run.fault, Some(Fault::Origin("left too early")));
    let head = format!("{}\n", file().len()).len();
    assert_eq!(got, &expected("file")[..head + 150_000 - file().len() / 2]);
}

#[test]
fn a_drain_lets_what_runs_finish() {
    seeds::run("pool_drain", 60, |seed| {
        let mut dice = Dice::new(seed);
        let (client, expects, seen) = client(&mut dice);
        let serve =
            |_| -> Box<dyn Peer> { Box::new(Origin { manner: Manner::Keeps, line: Vec::new(), answers: 0 }) };
        let weather = Weather::random(&mut dice);
        let mut world = World::tcp(seed, weather, Server::new(Time::ZERO), client, Fates::default());
        world.host(origin(), Host::Serves(Box::new(serve), Fates::default()));
        world.file(FILE, File::new(file()));
        world.drain(Duration::from_millis(dice.range(0..=300)));
        let run = world.run(Duration::from_secs(600));
        world.assert_ended();
        assert!(matches!(run.fault, None | Some(Fault::Client("left"))), "{:?}", run.fault);
        assert!(expects.starts_with(&seen.borrow().got));
    });
}

#[test]
fn a_connection_given_back_in_the_middle_of_a_message_is_caught() {
    let requests = [3, 4, 5].map(|length| format!("get {length}\n")).to_vec();
    let (client, ..) = Client::new(requests, true);
    let machine = Server { careless: true, ..Server::new(Time::ZERO) };
    let mut world = World::tcp(1, Weather::fair(), machine, Box::new(client), Fates::default());
    let serve =
        |_| -> Box<dyn Peer> { Box::new(Origin { manner: Manner::Keeps, line: Vec::new(), answers: 0 }) };
    world.host(origin(), Host::Serves(Box::new(serve), Fates::default()));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.run(Duration::from_secs(60));
    }));
    let panic = caught.expect_err("half a line was sent");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains("in the middle of a message"), "{text}");
}

#[test]
fn bytes_behind_a_bounded_splice_are_offered_however_they_come() {
    let run = |piece: usize| {
        let mut driver = Straight::new(1, Server::new(Time::ZERO));
        driver.bytes(Leg::CLIENT, b"get 9\nget 3\nfile x\nget 0\n");
        for (length, what) in [(9, Opened::Fresh), (3, Opened::Reused)] {
            let leg = driver.opened_as(what).expect("a connection is asked for");
            answer(length).chunks(piece).for_each(|bytes| driver.bytes(leg, bytes));
        }
        driver.opened_as(Opened::File(FileInfo { is_directory: false, length: 4, modified: 0 }));
        let leg = driver.opened().expect("a connection is asked for");
        driver.bytes(leg, b"0\nsurplus");
        assert!(driver.opening.is_empty() && driver.fault.is_none());
        driver.sent(Leg::CLIENT).to_vec()
    };
    let whole = run(1000);
    assert_eq!(whole, [answer(9), answer(3), b"4\n\0\0".to_vec(), answer(0)].concat());
    for piece in 1..12 {
        assert_eq!(run(piece), whole, "{piece}");
    }
}
