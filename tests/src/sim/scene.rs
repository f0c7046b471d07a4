//! One RTMP client, its origins and their load balancer in a simulated world, and what must be true of them afterwards.

use super::rtmp::{Client, ClientPlan, Log, Origin, OriginPlan, SharedLog, Style};
use super::{Dice, End, Fates, Host, Manner, Peer, Run, Scripted, Weather, World};
use crate::rtmp::amf0::Value;
use crate::rtmp::{Message, kind};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, Report};
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// What is found at an origin's address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It serves.
    Serves,
    /// Connections are refused.
    Refuses,
    /// Connections are never answered.
    Silent,
    /// This host has no descriptor for it.
    Exhausted,
}

/// One origin: kind, plan, style, and whether it closes after a refusal.
pub type OriginScene = (Kind, OriginPlan, Style, bool);

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The network and the driver.
    pub weather: Weather,
    /// The client.
    pub client: (ClientPlan, Style),
    /// What befalls its connection.
    pub fates: Fates,
    /// The origins; the load balancer picks the first that is not known to be unreachable.
    pub origins: Vec<OriginScene>,
    /// What befalls each connection to an origin.
    pub origin_fates: Fates,
    /// How the load balancer answers.
    pub manner: Manner,
}

/// What has happened.
pub struct Played {
    /// The world afterwards.
    pub world: World<RtmpSession>,
    /// What the run came to.
    pub run: Run,
    /// What the client did and saw.
    pub client: SharedLog,
    /// Of each connection to an origin.
    pub origins: Rc<RefCell<Vec<SharedLog>>>,
    /// What the load balancer was told.
    pub unreachable: Rc<RefCell<BTreeSet<OriginId>>>,
}

/// Where an origin is.
pub fn origin_address(index: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, index as u8 + 1), 1935).into()
}

fn origin_id(index: usize) -> OriginId {
    OriginId::new("origin", &index.to_string(), "1")
}

impl Scene {
    /// A client and an origin of any kind, in any weather.
    pub fn new(dice: &mut Dice, publishes: bool) -> Self {
        let mut scene = Self {
            weather: Weather::random(dice),
            client: (ClientPlan::random(dice, publishes), Style::random(dice)),
            fates: Fates::default(),
            origins: Vec::new(),
            origin_fates: Fates::default(),
            manner: Manner::Prompt,
        };
        if !publishes {
            scene.client.1.ops.retain(|op| !op.is_media());
        }
        scene.add_origin(dice);
        scene
    }

    /// The plainest client and origin in fair weather.
    pub fn plain(publishes: bool) -> Self {
        Self {
            weather: Weather::fair(),
            client: (ClientPlan { publishes, ..ClientPlan::publisher() }, Style::plain()),
            fates: Fates::default(),
            origins: vec![(Kind::Serves, OriginPlan::plain(), Style::plain(), false)],
            origin_fates: Fates::default(),
            manner: Manner::Prompt,
        }
    }

    /// No round trip takes so long that somebody should lose patience.
    pub fn be_in_time(&mut self) {
        self.weather.stall = self.weather.stall.min(Duration::from_millis(200));
    }

    /// One more origin of any kind that serves.
    pub fn add_origin(&mut self, dice: &mut Dice) {
        let mut style = Style::random(dice);
        if self.client.0.publishes {
            style.ops.retain(|op| !op.is_media());
        }
        self.origins.push((Kind::Serves, OriginPlan::random(dice), style, false));
    }

    /// Lets it happen.
    #[track_caller]
    pub fn play(self, seed: u64, limit: Duration) -> Played {
        let (client, client_log) = Client::new(self.client.0, self.client.1);
        let machine = RtmpSession::new(Time::ZERO);
        let mut world = World::tcp(seed, self.weather, machine, Box::new(client), self.fates);
        let logs = Rc::new(RefCell::new(Vec::new()));
        let count = self.origins.len();
        for (index, (kind, plan, style, closes)) in self.origins.into_iter().enumerate() {
            let logs = Rc::clone(&logs);
            let serve = move |_| -> Box<dyn Peer> {
                let (origin, log) = Origin::new(plan.clone(), style.clone());
                logs.borrow_mut().push(log);
                Box::new(origin.closing_after_refusal(closes))
            };
            let host = match kind {
                Kind::Serves => Host::Serves(Box::new(serve), self.origin_fates),
                Kind::Refuses => Host::Refuses,
                Kind::Silent => Host::Silent,
                Kind::Exhausted => Host::Exhausted,
            };
            world.host(origin_address(index), host);
        }
        let unreachable = Rc::new(RefCell::new(BTreeSet::new()));
        let (told, known) = (Rc::clone(&unreachable), Rc::clone(&unreachable));
        let pick = move |_, _: &mut Dice| {
            let alive = (0..count).find(|index| !known.borrow().contains(&origin_id(*index)));
            let index = alive.unwrap_or(0);
            Answer::Picked(Picked { origin: origin_id(index), to: origin_address(index) })
        };
        let tell = move |report: &Report| {
            if let Report::Unreachable(origin, _) = report {
                told.borrow_mut().insert(origin.clone());
            }
        };
        world.balancer(Scripted::new(self.manner, pick).on_report(tell));
        let run = world.run(limit);
        Played { world, run, client: client_log, origins: logs, unreachable }
    }
}

/// What must be the same at both ends of a message stream.
fn content(messages: &[Message]) -> Vec<(u8, u32, bool, &[u8])> {
    messages.iter().map(|m| (m.type_id, m.timestamp, m.stream_id == 0, &m.payload[..])).collect()
}

#[track_caller]
fn assert_prefix(got: &[Message], sent: &[Message], whole: bool) {
    let (got, sent) = (content(got), content(sent));
    for (index, pair) in got.iter().zip(&sent).enumerate() {
        let (g, s) = pair;
        let words = |m: &(u8, u32, bool, &[u8])| {
            let of = if m.2 { "no stream" } else { "the stream" };
            format!("type {} of {of} at {} with {} bytes", m.0, m.1, m.3.len())
        };
        assert!(g == s, "message {index} is {} where {} was sent", words(g), words(s));
    }
    assert!(got.len() <= sent.len(), "{} messages arrived, {} were sent", got.len(), sent.len());
    assert!(!whole || got.len() == sent.len(), "{} messages arrived of {}", got.len(), sent.len());
}

impl Played {
    /// What was seen of a connection to an origin.
    pub fn origin(&self, index: usize) -> SharedLog {
        Rc::clone(&self.origins.borrow()[index])
    }

    /// The last connection to an origin that the session had.
    fn last_origin(&self) -> SharedLog {
        Rc::clone(self.origins.borrow().last().expect("an origin was reached"))
    }

    /// Neither side has seen anything but the other side's messages, in order.
    #[track_caller]
    pub fn assert_nothing_damaged(&self) {
        let client = self.client.borrow();
        assert_eq!(client.error, None, "at the client\n{}", self.world.tail());
        for origin in self.origins.borrow().iter() {
            let origin = origin.borrow();
            assert_eq!(origin.error, None, "at the origin\n{}", self.world.tail());
            assert_prefix(&origin.got, &client.sent, false);
            assert_stream(&origin);
        }
        if let Some(origin) = self.origins.borrow().last() {
            let origin = origin.borrow();
            assert_prefix(&client.got, &origin.sent, false);
            assert_stream(&client);
        } else {
            assert!(client.got.is_empty());
        }
    }

    /// The session was set up, went both ways, and ended when one side left; all the leaving side sent arrived.
    #[track_caller]
    pub fn assert_relayed(&self, client_left: bool) {
        self.world.assert_ended();
        assert_eq!(self.run.fault, None);
        self.assert_nothing_damaged();
        let (client, origin) = (self.client.borrow(), self.last_origin());
        let origin = origin.borrow();
        assert!(client.connect.is_some() && client.connect == origin.connect, "the connect object changed");
        assert!(client.name.is_some() && client.name == origin.name, "the stream's name changed");
        if client_left {
            assert_prefix(&origin.got, &client.sent, true);
        } else {
            assert_prefix(&client.got, &origin.sent, true);
            assert_statuses(&client, &origin);
            assert_eq!(client.end, Some(End::Fin));
        }
    }

    /// The client got an error in time, and then the end.
    #[track_caller]
    pub fn assert_told(&self, patience: Duration) {
        self.world.assert_ended();
        let client = self.client.borrow();
        let tail = || self.world.tail();
        assert_eq!(client.error, None, "{}", tail());
        let (level, code, _, at) = client.statuses.last().unwrap_or_else(|| panic!("not told\n{}", tail()));
        assert_eq!(level, "error");
        assert!(code.starts_with("NetStream."), "{code}");
        assert_eq!(client.end, Some(End::Fin), "{}", tail());
        // The network's part: what was asked has to travel, and the answer, and some round trips to origins.
        let network = Duration::from_secs(1) * 3;
        let waited = at.since(client.asked.expect("it asked for a stream"));
        assert!(waited <= patience + network, "told after {waited:?}\n{}", tail());
        assert!(client.got.iter().all(|message| message.type_id != kind::VIDEO));
    }
}

/// All that a side got names its own message stream, or none.
#[track_caller]
fn assert_stream(log: &Log) {
    for message in &log.got {
        let id = message.stream_id;
        assert!(id == log.stream_id || id == 0, "message stream {id} is not {}", log.stream_id);
    }
    for user in &log.user {
        // Stream Begin, EOF, Dry, Set Buffer Length, Is Recorded.
        if let [0, 0..=4, a, b, c, d, ..] = user[..] {
            let id = u32::from_be_bytes([a, b, c, d]);
            assert_eq!(id, log.stream_id, "event {} of another message stream", user[1]);
        }
    }
    for command in log.commands.iter().filter(|command| command.name == "deleteStream") {
        assert_eq!(command.arguments, [Value::Number(log.stream_id.into())], "another stream is deleted");
    }
}

/// The client heard what the origin said.
#[track_caller]
fn assert_statuses(client: &Log, origin: &Log) {
    let words =
        |log: &Log| log.statuses.iter().map(|s| (s.0.clone(), s.1.clone(), s.2.clone())).collect::<Vec<_>>();
    assert_eq!(words(client), words(origin));
}
