//! A toy relay in the simulated world: the proof that the contract carries a TCP session from a question to two splices.

use bytes::Bytes;
use srs_proxy_core::machine::{
    Action, Actions, Close, Cx, Fault, Input, Leg, Machine, OpenError, Ticket, Transport,
};
use srs_proxy_core::origin::{Origin, Protocol};
use srs_proxy_core::query::{Answer, Health, OriginStatus, Query, Refusal};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::sim::{Dice, End, Fate, Fates, Host, Io, Manner, Peer, Scripted, Weather, World, seeds};
use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// How long each step of the setup may take.
const SETUP_STEP: Duration = Duration::from_secs(5);

/// The longest first line.
const MAX_LINE: usize = 64;

/// The first line goes to the origin too; everything after it is spliced.
#[derive(Debug)]
enum Relay {
    Line { deadline: Time },
    Asking { deadline: Time },
    Opening { deadline: Time },
    Moving,
}

const ORIGIN: Leg = Leg::new(1, 0);
const QUESTION: Ticket = Ticket(7);

impl Relay {
    fn new() -> Self {
        Self::Line { deadline: Time::ZERO + SETUP_STEP }
    }

    fn refuse(actions: &mut Actions, fault: Fault) -> Result<usize, Fault> {
        actions.write(Leg::CLIENT, Bytes::from_static(b"no\n"));
        Err(fault)
    }
}

impl Machine for Relay {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        let deadline = cx.now + SETUP_STEP;
        match (&*self, input) {
            (Self::Line { .. }, Input::Stream { bytes, .. }) => {
                if bytes.iter().take(MAX_LINE).any(|&byte| byte == b'\n') {
                    cx.actions.push(Action::Pause { leg: Leg::CLIENT });
                    cx.actions.push(Action::Ask { ticket: QUESTION, query: Query::Origins });
                    *self = Self::Asking { deadline };
                } else if bytes.len() >= MAX_LINE {
                    return Self::refuse(cx.actions, Fault::Client("the first line is too long"));
                }
                Ok(0)
            }
            (Self::Asking { .. }, Input::Answer { answer, .. }) => {
                let Answer::Origins(origins) = answer else {
                    return Self::refuse(cx.actions, Fault::Balancer("said no"));
                };
                let Some(&(_, to)) = origins.first().and_then(|status| status.origin.endpoints.first())
                else {
                    return Self::refuse(cx.actions, Fault::Balancer("has no origin"));
                };
                cx.actions.push(Action::Open { leg: ORIGIN, to, transport: Transport::Tcp });
                *self = Self::Opening { deadline };
                Ok(0)
            }
            (Self::Opening { .. }, Input::Opened { leg: ORIGIN, .. }) => {
                cx.actions.push(Action::Resume { leg: Leg::CLIENT });
                cx.actions.push(Action::Splice { from: Leg::CLIENT, to: ORIGIN, limit: None });
                cx.actions.push(Action::Splice { from: ORIGIN, to: Leg::CLIENT, limit: None });
                *self = Self::Moving;
                Ok(0)
            }
            (Self::Opening { .. }, Input::OpenFailed { why, .. }) => {
                let fault = match why {
                    OpenError::Unreachable => Fault::Origin("is not there"),
                    OpenError::Exhausted => Fault::Proxy("is out of descriptors"),
                };
                Self::refuse(cx.actions, fault)
            }
            (Self::Moving, Input::Eof { .. }) => {
                cx.actions.close(ORIGIN, Close::Flush);
                cx.actions.close(Leg::CLIENT, Close::Flush);
                Ok(0)
            }
            (_, Input::Eof { .. }) => Err(Fault::Client("left")),
            (
                Self::Line { deadline } | Self::Asking { deadline } | Self::Opening { deadline },
                Input::Tick,
            ) if *deadline <= cx.now => Self::refuse(cx.actions, Fault::Proxy("setup took too long")),
            _ => Ok(0),
        }
    }

    fn deadline(&self) -> Option<Time> {
        match *self {
            Self::Line { deadline } | Self::Asking { deadline } | Self::Opening { deadline } => {
                Some(deadline)
            }
            Self::Moving => None,
        }
    }
}

/// What one end wrote and got.
#[derive(Default, Debug)]
struct Seen {
    written: Vec<u8>,
    got: Vec<u8>,
    end: Option<End>,
}

/// Writes all it has in a few pieces, and leaves at the end if it is the one who leaves.
struct Talker {
    seen: Rc<RefCell<Seen>>,
    rest: Vec<Vec<u8>>,
    leaves: bool,
    slow: bool,
}

impl Talker {
    fn new(dice: &mut Dice, first: &[u8], leaves: bool) -> (Self, Rc<RefCell<Seen>>) {
        let seen = Rc::new(RefCell::new(Seen::default()));
        let sizes: Vec<_> = (0..dice.size(0..=4)).map(|_| dice.any_size(30_000)).collect();
        let mut rest: Vec<_> = sizes.into_iter().map(|size| dice.bytes(size)).collect();
        rest.push(first.to_vec());
        (Self { seen: Rc::clone(&seen), rest, leaves, slow: dice.chance(300) }, seen)
    }
}

impl Peer for Talker {
    fn start(&mut self, io: &mut Io<'_>) {
        self.timer(io, 0);
    }

    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        self.seen.borrow_mut().got.extend_from_slice(bytes);
        if self.slow {
            io.stop_reading();
            io.wake(Duration::from_millis(20), 1);
        }
    }

    fn end(&mut self, io: &mut Io<'_>, end: End) {
        self.seen.borrow_mut().end = Some(end);
        io.close();
    }

    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        if tag == 1 {
            return io.go_on_reading();
        }
        match self.rest.pop() {
            Some(bytes) => {
                self.seen.borrow_mut().written.extend_from_slice(&bytes);
                io.write(bytes);
                let pause = io.dice.range(0..=200_000);
                io.wake(Duration::from_micros(pause), 0);
            }
            None if self.leaves => io.close(),
            None => {}
        }
    }
}

fn address() -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, 1), 1935).into()
}

fn balancer(manner: Manner) -> Scripted {
    Scripted::new(manner, |_, _| {
        let origin = Origin {
            device_id: "".into(),
            server: "s".into(),
            service: "v".into(),
            pid: "1".into(),
            endpoints: vec![(Protocol::Rtmp, address())],
        };
        let status = OriginStatus { origin, health: Health::Alive, heartbeat_age: 0, streams: Vec::new() };
        Answer::Origins(vec![status])
    })
}

struct Relayed {
    world: World<Relay>,
    client: Rc<RefCell<Seen>>,
    origin: Rc<RefCell<Seen>>,
}

fn relay(seed: u64, manner: Manner, client_fates: Fates, origin_fates: Fates) -> Relayed {
    let mut dice = Dice::new(seed ^ 0xabcd);
    let weather = Weather::random(&mut dice);
    let client_leaves = dice.chance(500);
    let (client, client_seen) = Talker::new(&mut dice, b"a line\nand what follows it", client_leaves);
    let (origin, origin_seen) = Talker::new(&mut dice, b"welcome", !client_leaves);
    let mut world = World::tcp(seed, weather, Relay::new(), Box::new(client), client_fates);
    let mut origin = Some(origin);
    let serve = move |_| -> Box<dyn Peer> { Box::new(origin.take().expect("one connection")) };
    world.host(address(), Host::Serves(Box::new(serve), origin_fates));
    world.balancer(balancer(manner));
    Relayed { world, client: client_seen, origin: origin_seen }
}

#[test]
fn all_that_one_who_leaves_wrote_reaches_the_other() {
    seeds::run("relay", 100, |seed| {
        let late = Manner::Late(Duration::from_secs(2));
        let mut relayed = relay(seed, late, Fates::default(), Fates::default());
        let run = relayed.world.run(Duration::from_secs(600));
        relayed.world.assert_ended();
        assert_eq!(run.fault, None);
        let (client, origin) = (relayed.client.borrow(), relayed.origin.borrow());
        assert!(client.written.starts_with(&origin.got));
        assert!(origin.written.starts_with(&client.got));
        // Whoever leaves first has been heard out; it may be both.
        assert!(client.written == origin.got || origin.written == client.got);
        assert!(!origin.got.is_empty());
    });
}

#[test]
fn a_broken_connection_ends_the_session_and_loses_only_its_own_end() {
    seeds::run("relay_breaks", 100, |seed| {
        let mut dice = Dice::new(seed);
        let mut fates = || {
            let after = dice.any_size(20_000) as u64;
            let fate = dice.chance(400).then(|| (after, *dice.pick(&[Fate::Reset, Fate::End])));
            Fates { from_peer: fate, to_peer: None }
        };
        let mut relayed = relay(seed, Manner::Moody, fates(), fates());
        relayed.world.run(Duration::from_secs(600));
        relayed.world.assert_ended();
        let (client, origin) = (relayed.client.borrow(), relayed.origin.borrow());
        assert!(client.written.starts_with(&origin.got));
        // A refusal may be cut short, too.
        assert!(origin.written.starts_with(&client.got) || b"no\n".starts_with(&client.got[..]));
    });
}

#[test]
fn a_client_without_an_origin_is_told_so() {
    let answers = [
        (Manner::Silent, Host::Refuses, Fault::Proxy("setup took too long")),
        (Manner::Refuses(Refusal::NoOrigin), Host::Refuses, Fault::Balancer("said no")),
        (Manner::Prompt, Host::Refuses, Fault::Origin("is not there")),
        (Manner::Prompt, Host::Silent, Fault::Proxy("setup took too long")),
        (Manner::Prompt, Host::Exhausted, Fault::Proxy("is out of descriptors")),
    ];
    for (manner, host, fault) in answers {
        let mut relayed = relay(1, manner, Fates::default(), Fates::default());
        relayed.world.host(address(), host);
        let run = relayed.world.run(Duration::from_secs(60));
        relayed.world.assert_ended();
        assert_eq!(run.fault, Some(fault));
        let client = relayed.client.borrow();
        assert_eq!((&client.got[..], client.end), (&b"no\n"[..], Some(End::Fin)));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| {
        let mut relayed = relay(seed, Manner::Moody, Fates::default(), Fates::default());
        relayed.world.run(Duration::from_secs(600)).hash
    };
    for seed in 0..20 {
        assert_eq!(hash(seed), hash(seed));
    }
    assert_ne!(hash(1), hash(2));
}

type Deed = fn(&mut Cx<'_>);

/// Does one thing, at every input.
struct Wrong(Deed);
impl Machine for Wrong {
    fn handle(&mut self, cx: &mut Cx<'_>, _input: Input<'_>) -> Result<usize, Fault> {
        self.0(cx);
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

#[test]
fn a_machine_that_breaks_the_contract_is_caught() {
    fn open(cx: &mut Cx<'_>, leg: Leg) {
        cx.actions.push(Action::Open { leg, to: address(), transport: Transport::Tcp });
    }
    let wrongs: [(&str, Deed); 7] = [
        ("which is Gone", |cx| cx.actions.write(ORIGIN, Bytes::from_static(b"x"))),
        ("offered again", |cx| cx.actions.forward(Leg::CLIENT, 0..1)),
        ("closed twice", |cx| {
            cx.actions.close(Leg::CLIENT, Close::Flush);
            cx.actions.close(Leg::CLIENT, Close::Abort);
        }),
        ("the slot is in use", |cx| open(cx, Leg::new(0, 1))),
        ("slots are dense", |cx| open(cx, Leg::new(5, 0))),
        ("still unanswered", |cx| {
            cx.actions.push(Action::Ask { ticket: QUESTION, query: Query::Origins });
            cx.actions.push(Action::Ask { ticket: QUESTION, query: Query::Origins });
        }),
        ("is no open stream", |cx| {
            cx.actions.push(Action::Splice { from: Leg::CLIENT, to: ORIGIN, limit: None })
        }),
    ];
    for (words, deed) in wrongs {
        let (client, _) = Talker::new(&mut Dice::new(1), b"hello", false);
        let mut world = World::tcp(1, Weather::fair(), Wrong(deed), Box::new(client), Fates::default());
        world.balancer(balancer(Manner::Late(Duration::from_secs(1))));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.run(Duration::from_secs(60));
        }));
        let panic = caught.expect_err(words);
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(text.contains(words), "{text:?} does not say {words:?}");
    }
}
