//! What every load balancer must do, as tests that each implementation runs on itself: memory and a shared
//! store behave the same, seen from outside. Knows no implementation.
//!
//! Time is the subject's own, so that nothing here sleeps for a TTL. Answers that come later are waited for.

use crate::{
    Asker, CLAIM_LIFE, Limits, MAX_QUARANTINE, Mailbox, Notify, OriginLoadBalancer, PROBE, PUBLISHER_FRESH,
    QUARANTINE, ReplyTo, SESSION_LIFE, STREAM_IDLE, Setup, ask, tell,
};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{
    Answer, Health, HlsSession, Need, OriginStatus, Picked, Query, Refusal, Report, RtcSession,
};
use srs_proxy_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;

/// How long a late answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The TTL of the tests' origins.
const TTL: Duration = Duration::from_secs(300);

/// A load balancer to be tested, empty at first.
pub trait Subject {
    /// The load balancer.
    fn balancer(&self) -> Arc<dyn OriginLoadBalancer>;

    /// Its time.
    fn now(&self) -> Time;

    /// Lets time pass.
    fn advance(&mut self, by: Duration);
}

/// Builds the load balancer to be tested.
pub type Make<'a> = &'a dyn Fn(Setup) -> Box<dyn Subject>;

/// Runs all tests on load balancers that `make` builds.
///
/// # Panics
/// If one fails.
pub fn run(make: Make<'_>) {
    type Case = (&'static str, fn(&mut World));
    let cases: [Case; 26] = [
        ("without origins a pick is refused", without_origins_a_pick_is_refused),
        ("a stream stays with its origin", a_stream_stays_with_its_origin),
        ("new streams spread over all origins", new_streams_spread_over_all_origins),
        ("all endpoints of an origin are used", all_endpoints_of_an_origin_are_used),
        ("only origins that serve the protocol are chosen", only_origins_that_serve_the_protocol_are_chosen),
        (
            "a stream whose origin lacks a protocol is not moved",
            a_stream_whose_origin_lacks_a_protocol_is_not_moved,
        ),
        ("many askers of a new stream get one origin", many_askers_of_a_new_stream_get_one_origin),
        ("a silent origin loses its streams", a_silent_origin_loses_its_streams),
        ("with all origins silent each stream stays", with_all_origins_silent_each_stream_stays),
        (
            "an unreachable origin is left at once and tried again",
            an_unreachable_origin_is_left_and_tried_again,
        ),
        ("failing probes double the quarantine", failing_probes_double_the_quarantine),
        (
            "a heartbeat ends no quarantine but a new life does",
            a_heartbeat_ends_no_quarantine_but_a_new_life_does,
        ),
        ("an only origin is offered even in quarantine", an_only_origin_is_offered_even_in_quarantine),
        ("a new life replaces the old one", a_new_life_replaces_the_old_one),
        ("an idle stream is forgotten and a renewed one is not", an_idle_stream_is_forgotten_unless_renewed),
        (
            "a stream that nobody publishes lives by its players",
            a_stream_that_nobody_publishes_lives_by_its_players,
        ),
        ("a stream goes back to its publisher", a_stream_goes_back_to_its_publisher),
        ("a published stream is moved by publishers only", a_published_stream_is_moved_by_publishers_only),
        (
            "a published stream stays with an origin that is silent",
            a_published_stream_stays_with_an_origin_that_is_silent,
        ),
        ("a dead port says nothing of the others", a_dead_port_says_nothing_of_the_others),
        ("sessions live on by use", sessions_live_on_by_use),
        ("a WebRTC session ends when it is left", a_webrtc_session_ends_when_it_is_left),
        ("origins are listed", origins_are_listed),
        (
            "an origin that drains keeps its streams and gets no new ones",
            an_origin_that_drains_gets_no_new_streams,
        ),
        ("a restart ends a drain", a_restart_ends_a_drain),
        ("an origin that deregisters loses its streams", an_origin_that_deregisters_loses_its_streams),
    ];
    for (name, case) in cases {
        // Shown by the test harness if the case fails.
        eprintln!("load balancer: {name}");
        case(&mut World::new(make, Limits::default()));
    }
}

/// Runs the test of a load balancer that itself holds all there is.
///
/// # Panics
/// If it fails.
pub fn run_full(make: Make<'_>) {
    full_tables_refuse(&mut World::new(make, Limits { origins: 2, streams: 3, sessions: 2 }));
}

/// A load balancer and those who ask it.
struct World {
    subject: Box<dyn Subject>,
    client: Client,
}

/// One who asks.
struct Client {
    balancer: Arc<dyn OriginLoadBalancer>,
    mailbox: Arc<Mailbox>,
    bell: Receiver<()>,
    tickets: u32,
}

struct Bell(Sender<()>);

impl Notify for Bell {
    fn notify(&self) {
        // Nobody listens any more when a test has failed already.
        let _ = self.0.send(());
    }
}

impl Client {
    fn new(balancer: Arc<dyn OriginLoadBalancer>) -> Self {
        let (ring, bell) = channel();
        Self { balancer, mailbox: Arc::new(Mailbox::new(Box::new(Bell(ring)))), bell, tickets: 0 }
    }

    fn asker(&mut self, now: Time) -> Asker {
        self.tickets += 1;
        Asker {
            now,
            mailbox: Arc::clone(&self.mailbox),
            reply_to: ReplyTo { session: 0, ticket: Ticket(self.tickets) },
        }
    }

    fn ask(&mut self, now: Time, query: Query) -> Answer {
        let asker = self.asker(now);
        if let Some(answer) = ask(&*self.balancer, &asker, query) {
            return answer;
        }
        loop {
            self.bell.recv_timeout(PATIENCE).expect("a late answer");
            if let Some((_, answer)) =
                self.mailbox.take().into_iter().find(|(reply_to, _)| *reply_to == asker.reply_to)
            {
                return answer;
            }
        }
    }
}

impl World {
    fn new(make: Make<'_>, limits: Limits) -> Self {
        let subject = make(Setup { ttl: TTL, limits, seed: 7, ..Setup::default() });
        let client = Client::new(subject.balancer());
        Self { subject, client }
    }

    fn ask(&mut self, query: Query) -> Answer {
        self.client.ask(self.subject.now(), query)
    }

    fn register(&mut self, origin: &Origin) -> Answer {
        self.ask(Query::Register(origin.clone()))
    }

    fn registered<'a>(&mut self, origins: impl IntoIterator<Item = &'a Origin>) {
        for origin in origins {
            assert_eq!(self.register(origin), Answer::Registered);
        }
    }

    fn pick_for(&mut self, key: &StreamKey, need: Protocol) -> Result<Picked, Refusal> {
        self.pick_as(key, Need::to_play(need))
    }

    fn pick_as(&mut self, key: &StreamKey, need: Need) -> Result<Picked, Refusal> {
        match self.ask(Query::Pick { key: key.clone(), need }) {
            Answer::Picked(picked) => Ok(picked),
            Answer::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    fn pick(&mut self, key: &StreamKey) -> OriginId {
        self.pick_for(key, Protocol::Rtmp).expect("an origin").origin
    }

    fn tell(&mut self, report: &Report) {
        tell(&*self.client.balancer, self.subject.now(), report);
    }

    fn origins(&mut self) -> Vec<OriginStatus> {
        match self.ask(Query::Origins) {
            Answer::Origins(origins) => origins,
            other => panic!("{other:?}"),
        }
    }

    fn drain(&mut self, id: &OriginId, on: bool) -> Answer {
        self.ask(Query::Drain { origin: id.clone(), on })
    }

    fn health(&mut self, id: &OriginId) -> Health {
        let origins = self.origins();
        origins.iter().find(|status| status.origin.id() == *id).expect("a registered origin").health
    }

    /// Picks as a publisher does that then gets the stream.
    fn used(&mut self, key: &StreamKey) -> OriginId {
        let origin = self.pick(key);
        self.tell(&Report::Publishing(key.clone(), origin.clone()));
        origin
    }

    /// Picks until a stream is on `id`, which nobody publishes.
    fn claim_on(&mut self, id: &OriginId) -> StreamKey {
        let key = (0..1000).map(|n| key(&format!("claimed-{n}"))).find(|key| self.pick(key) == *id);
        key.expect("each origin gets a stream of a thousand")
    }

    /// Picks as a publisher does whose client could not be served.
    fn pick_to_publish(&mut self, key: &StreamKey) -> OriginId {
        self.pick_as(key, Need::to_publish(Protocol::Rtmp)).expect("an origin").origin
    }

    /// Picks until a stream is on `id`, and publishes it.
    fn stream_on(&mut self, id: &OriginId) -> StreamKey {
        let key = (0..1000).map(|n| key(&format!("on-{n}"))).find(|key| self.used(key) == *id);
        key.expect("each origin gets a stream of a thousand")
    }

    /// Lets time pass with heartbeats of these.
    fn beat(&mut self, origins: &[Origin], until: Duration) {
        let end = self.subject.now() + until;
        while self.subject.now() < end {
            self.subject.advance((TTL / 2).min(end - self.subject.now()));
            self.registered(origins);
        }
    }
}

fn key(stream: &str) -> StreamKey {
    StreamKey::new("", "live", stream).expect("a good key")
}

/// An origin with these endpoints.
fn serving(server: &str, pid: &str, endpoints: &[(Protocol, u16)]) -> Origin {
    Origin {
        device_id: "test".into(),
        server: server.into(),
        service: "s".into(),
        pid: pid.into(),
        endpoints: endpoints
            .iter()
            .map(|(protocol, port)| (*protocol, ([127, 0, 0, 1], *port).into()))
            .collect(),
    }
}

fn origin(server: &str) -> Origin {
    serving(server, "1", &[(Protocol::Rtmp, 1935)])
}

/// Two origins.
fn pair() -> [Origin; 2] {
    [origin("a"), origin("b")]
}

fn without_origins_a_pick_is_refused(world: &mut World) {
    assert_eq!(world.pick_for(&key("x"), Protocol::Rtmp), Err(Refusal::NoOrigin));
    assert_eq!(world.origins(), []);
}

fn a_stream_stays_with_its_origin(world: &mut World) {
    let origins = [origin("a"), origin("b"), origin("c")];
    world.registered(&origins);
    let keys: Vec<_> = (0..50).map(|n| key(&n.to_string())).collect();
    let first: Vec<_> = keys.iter().map(|key| world.used(key)).collect();
    world.beat(&origins, STREAM_IDLE / 2);
    world.registered(&[origin("d")]);
    let again: Vec<_> = keys.iter().map(|key| world.pick(key)).collect();
    assert_eq!(first, again);
}

fn new_streams_spread_over_all_origins(world: &mut World) {
    world.registered(&[origin("a"), origin("b"), origin("c")]);
    let mut counts = BTreeMap::<_, usize>::new();
    for n in 0..600 {
        *counts.entry(world.pick(&key(&n.to_string()))).or_default() += 1;
    }
    // 200 each with a standard deviation of 12: this far off is no chance.
    assert!(counts.len() == 3 && counts.values().all(|count| (120..280).contains(count)), "{counts:?}");
}

fn all_endpoints_of_an_origin_are_used(world: &mut World) {
    world.registered(&[serving("a", "1", &[(Protocol::Rtmp, 1), (Protocol::Srt, 9), (Protocol::Rtmp, 2)])]);
    let picks = (0..100).map(|_| world.pick_for(&key("x"), Protocol::Rtmp).expect("an origin").to.port());
    assert_eq!(picks.collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
}

fn only_origins_that_serve_the_protocol_are_chosen(world: &mut World) {
    let both = serving("b", "1", &[(Protocol::Rtmp, 1935), (Protocol::Srt, 10080)]);
    world.registered(&[origin("a"), both.clone()]);
    for n in 0..50 {
        let picked = world.pick_for(&key(&n.to_string()), Protocol::Srt).expect("an origin");
        assert_eq!((picked.origin, picked.to.port()), (both.id(), 10080));
    }
    assert_eq!(world.pick_for(&key("x"), Protocol::Rtc), Err(Refusal::NoOrigin));
}

fn a_stream_whose_origin_lacks_a_protocol_is_not_moved(world: &mut World) {
    let both = serving("b", "1", &[(Protocol::Rtmp, 1935), (Protocol::Srt, 10080)]);
    world.registered(&[origin("a"), both]);
    let key = world.stream_on(&origin("a").id());
    assert_eq!(world.pick_for(&key, Protocol::Srt), Err(Refusal::NoOrigin));
    assert_eq!(world.pick(&key), origin("a").id());
}

fn many_askers_of_a_new_stream_get_one_origin(world: &mut World) {
    const ASKERS: usize = 8;
    const STREAMS: usize = 500;
    let origins: Vec<_> = (0..16).map(|n| origin(&format!("o{n}"))).collect();
    world.registered(&origins);
    let (balancer, now) = (world.subject.balancer(), world.subject.now());
    let start = Arc::new(Barrier::new(ASKERS));
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| {
            let (mut client, start) = (Client::new(Arc::clone(&balancer)), Arc::clone(&start));
            thread::spawn(move || {
                let keys = (0..STREAMS).map(|n| key(&n.to_string()));
                keys.map(|key| {
                    // All at each stream at the same time, as far as threads can be.
                    start.wait();
                    client.ask(now, Query::Pick { key, need: Need::to_play(Protocol::Rtmp) })
                })
                .collect::<Vec<_>>()
            })
        })
        .collect();
    let picks: Vec<_> =
        askers.into_iter().map(|asker| asker.join().expect("an asker that ends well")).collect();
    assert!(picks[0].iter().all(|answer| matches!(answer, Answer::Picked(_))));
    assert!(picks.iter().all(|theirs| *theirs == picks[0]));
}

fn a_silent_origin_loses_its_streams(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let key = world.stream_on(&a.id());
    world.subject.advance(TTL - Duration::from_secs(1));
    world.registered([&b]);
    assert_eq!(world.pick(&key), a.id());
    world.subject.advance(Duration::from_secs(1));
    assert_eq!((world.health(&a.id()), world.health(&b.id())), (Health::Dead, Health::Alive));
    assert_eq!(world.pick(&key), b.id());
    world.registered([&a]);
    assert_eq!(world.health(&a.id()), Health::Alive);
    assert_eq!(world.pick(&key), b.id(), "it does not go back");
}

fn with_all_origins_silent_each_stream_stays(world: &mut World) {
    world.registered(&pair());
    let keys: Vec<_> = (0..20).map(|n| key(&n.to_string())).collect();
    let first: Vec<_> = keys.iter().map(|key| world.used(key)).collect();
    world.subject.advance(TTL * 2);
    let again: Vec<_> = keys.iter().map(|key| world.pick(key)).collect();
    assert_eq!(first, again);
    world.pick(&key("new"));
}

fn an_unreachable_origin_is_left_and_tried_again(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let key = world.claim_on(&a.id());
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    assert_eq!(world.health(&a.id()), Health::Quarantined);
    assert_eq!(world.pick(&key), b.id());
    world.subject.advance(QUARANTINE - Duration::from_secs(1));
    for n in 0..20 {
        assert_eq!(world.pick(&self::key(&format!("during-{n}"))), b.id());
    }

    world.subject.advance(Duration::from_secs(1));
    let probes = (0..50).filter(|n| world.pick(&self::key(&format!("after-{n}"))) == a.id()).count();
    assert_eq!(probes, 1, "one pick tries it");
    assert_eq!(world.health(&a.id()), Health::Quarantined);
    world.subject.advance(PROBE);
    assert_eq!(world.health(&a.id()), Health::Alive);
    world.stream_on(&a.id());
}

fn failing_probes_double_the_quarantine(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let mut pause = QUARANTINE;
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    for round in 0..6 {
        world.subject.advance(pause - Duration::from_secs(1));
        world.registered([&a, &b]);
        assert!((0..20).all(|n| world.pick(&key(&format!("{round}-{n}"))) == b.id()), "round {round}");
        world.subject.advance(Duration::from_secs(1));
        assert!((20..70).any(|n| world.pick(&key(&format!("{round}-{n}"))) == a.id()), "round {round}");
        world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
        pause = (pause * 2).min(MAX_QUARANTINE);
    }
    // A probe that succeeds ends it, and the next failure begins anew.
    world.subject.advance(MAX_QUARANTINE);
    world.registered([&a, &b]);
    assert!((0..50).any(|n| world.pick(&key(&format!("good-{n}"))) == a.id()));
    world.subject.advance(PROBE);
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    world.subject.advance(QUARANTINE);
    assert!((50..99).any(|n| world.pick(&key(&format!("good-{n}"))) == a.id()));
}

fn a_heartbeat_ends_no_quarantine_but_a_new_life_does(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    world.registered([&a]);
    assert_eq!(world.health(&a.id()), Health::Quarantined);
    let reborn = serving("a", "2", &[(Protocol::Rtmp, 1935)]);
    world.registered([&reborn]);
    assert_eq!(world.health(&reborn.id()), Health::Alive);
    world.stream_on(&reborn.id());
}

fn an_only_origin_is_offered_even_in_quarantine(world: &mut World) {
    let a = origin("a");
    world.registered([&a]);
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    assert_eq!(world.pick(&key("x")), a.id());
    // One that is silent, but that nobody failed to reach, is better.
    let b = origin("b");
    world.registered([&b]);
    world.subject.advance(TTL);
    world.registered([&a]);
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    assert_eq!((world.health(&a.id()), world.health(&b.id())), (Health::Quarantined, Health::Dead));
    assert!((0..20).all(|n| world.pick(&key(&n.to_string())) == b.id()));
}

fn a_new_life_replaces_the_old_one(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let key = world.stream_on(&a.id());
    let reborn = serving("a", "2", &[(Protocol::Rtmp, 1936)]);
    world.registered([&reborn]);
    let ids: Vec<_> = world.origins().iter().map(|status| status.origin.id()).collect();
    assert_eq!(ids, [reborn.id(), b.id()]);
    let after = world.pick(&key);
    assert!(after == reborn.id() || after == b.id());
    assert_eq!(world.pick(&key), after);
    // What is told of the old life is no news of the new one.
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    assert_eq!(world.health(&reborn.id()), Health::Alive);
}

fn an_idle_stream_is_forgotten_unless_renewed(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let (idle, used) = (key("idle"), key("used"));
    world.used(&idle);
    let home = world.used(&used);
    for _ in 0..3 {
        world.beat(&[a.clone(), b.clone()], STREAM_IDLE / 2);
        world.tell(&Report::Playing(used.clone()));
        world.client.balancer.tick(world.subject.now());
    }
    let origins = world.origins();
    let held: Vec<_> = origins.iter().flat_map(|status| &status.streams).collect();
    assert_eq!(held, [&used]);
    assert_eq!(world.pick(&used), home);
}

fn a_stream_that_nobody_publishes_lives_by_its_players(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let (asked, played, published) = (key("asked"), key("played"), key("published"));
    world.pick(&asked);
    let homes = [world.pick(&played), world.used(&published)];
    world.tell(&Report::Playing(key("never asked")));
    for _ in 0..3 {
        world.subject.advance(CLAIM_LIFE / 2);
        world.tell(&Report::Playing(played.clone()));
        world.client.balancer.tick(world.subject.now());
    }
    let mut held: Vec<_> = world.origins().into_iter().flat_map(|status| status.streams).collect();
    held.sort_unstable();
    assert_eq!(held, [played.clone(), published.clone()]);
    assert_eq!([world.pick(&played), world.pick(&published)], homes);
}

fn a_stream_goes_back_to_its_publisher(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let key = world.stream_on(&a.id());
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    assert_eq!(world.pick_to_publish(&key), b.id(), "a is left alone for a moment");
    world.tell(&Report::Publishing(key.clone(), a.id()));
    assert_eq!(world.pick(&key), b.id(), "and nothing is sent there meanwhile");
    world.subject.advance(QUARANTINE);
    world.tell(&Report::Publishing(key.clone(), a.id()));
    assert_eq!(world.pick(&key), a.id(), "but its publisher is still there");
    world.subject.advance(PROBE);
    world.tell(&Report::Publishing(key.clone(), b.id()));
    assert_eq!(world.pick(&key), a.id(), "a second publisher does not take it away");
    world.subject.advance(PUBLISHER_FRESH);
    world.tell(&Report::Publishing(key.clone(), b.id()));
    assert_eq!(world.pick(&key), b.id(), "unless the first has gone silent");
    world.tell(&Report::Publishing(key.clone(), OriginId::new("unknown", "s", "1")));
    assert_eq!(world.pick(&key), b.id());
}

fn a_published_stream_is_moved_by_publishers_only(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let key = world.stream_on(&a.id());
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    for _ in 0..3 {
        assert_eq!(world.pick_for(&key, Protocol::Rtmp), Err(Refusal::NoOrigin), "it is nowhere else");
        world.subject.advance(Duration::from_secs(1));
    }
    world.subject.advance(QUARANTINE);
    assert_eq!(world.pick(&key), a.id(), "it is tried again");
    world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
    assert_eq!(world.pick_to_publish(&key), b.id());
    assert_eq!(world.pick(&key), b.id(), "and players follow");

    // The word of a publisher that has gone counts no more, nor one that is old.
    for is_ended in [true, false] {
        world.subject.advance(MAX_QUARANTINE * 3);
        world.registered([&a, &b]);
        let key = world.stream_on(&a.id());
        world.subject.advance(Duration::from_secs(1));
        world.tell(&Report::Ended(key.clone(), b.id()));
        world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
        world.subject.advance(Duration::from_secs(1));
        assert_eq!(world.pick_for(&key, Protocol::Rtmp), Err(Refusal::NoOrigin), "it ended elsewhere");
        if is_ended {
            world.tell(&Report::Ended(key.clone(), a.id()));
            world.subject.advance(Duration::from_secs(1));
        } else {
            world.subject.advance(PUBLISHER_FRESH);
            world.tell(&Report::Unreachable(a.id(), Protocol::Rtmp));
        }
        assert_eq!(world.pick(&key), b.id());
        world.tell(&Report::Ended(key, b.id()));
    }
}

fn a_published_stream_stays_with_an_origin_that_is_silent(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let key = world.stream_on(&a.id());
    for _ in 0..TTL.as_secs() / 20 {
        world.subject.advance(Duration::from_secs(20));
        world.tell(&Report::Publishing(key.clone(), a.id()));
        world.registered([&b]);
    }
    assert_eq!(world.health(&a.id()), Health::Dead);
    assert_eq!(world.pick(&key), a.id());
}

fn a_dead_port_says_nothing_of_the_others(world: &mut World) {
    let [a, b] = ["a", "b"].map(|server| serving(server, "1", &[(Protocol::Rtmp, 1), (Protocol::Srt, 2)]));
    world.registered([&a, &b]);
    let key = world.stream_on(&a.id());
    world.tell(&Report::Unreachable(a.id(), Protocol::Srt));
    assert_eq!(world.health(&a.id()), Health::Quarantined);
    assert_eq!(world.pick(&key), a.id());
    assert_eq!(world.pick_for(&key, Protocol::Srt), Err(Refusal::NoOrigin));
    for n in 0..20 {
        let to = world.pick_for(&self::key(&format!("srt-{n}")), Protocol::Srt).expect("an origin");
        assert_eq!(to.origin, b.id());
    }
    world.claim_on(&a.id());
}

fn sessions_live_on_by_use(world: &mut World) {
    let session = |id: &str, stream: &str| HlsSession {
        spbhid: id.into(),
        key: key(stream),
        full_url: format!("http://h/live/{stream}.m3u8").into(),
    };
    let load_hls = |id: &str| Query::LoadHls(id.into());
    let load_rtc = || Query::LoadRtc("server:client".into());
    let most = SESSION_LIFE - Duration::from_secs(1);

    let first = session("1", "x");
    let is_first = Answer::Hls(Some(first.clone()));
    assert_eq!(world.ask(Query::StoreHls(first)), is_first);
    assert_eq!(world.ask(Query::StoreHls(session("2", "x"))), is_first, "the id of a stream is stable");
    assert_eq!(world.ask(load_hls("2")), Answer::Hls(None));
    let rtc = RtcSession { username: "server:client".into(), key: key("x"), resource: "".into() };
    let is_rtc = Answer::Rtc(Some(rtc.clone()));
    assert_eq!(world.ask(Query::StoreRtc(rtc)), is_rtc);
    for _ in 0..3 {
        world.subject.advance(most);
        assert_eq!(world.ask(load_hls("1")), is_first);
        assert_eq!(world.ask(load_rtc()), is_rtc);
    }
    // Use by id is use of the stream's session, and the other way round.
    world.subject.advance(most);
    assert_eq!(world.ask(Query::StoreHls(session("3", "x"))), is_first);
    world.subject.advance(most);
    assert_eq!(world.ask(load_hls("1")), is_first);
    assert_eq!(world.ask(load_rtc()), Answer::Rtc(None), "not used for too long");

    world.subject.advance(SESSION_LIFE);
    assert_eq!(world.ask(load_hls("1")), Answer::Hls(None));
    let fourth = session("4", "x");
    assert_eq!(world.ask(Query::StoreHls(fourth.clone())), Answer::Hls(Some(fourth)));
}

fn a_webrtc_session_ends_when_it_is_left(world: &mut World) {
    let session = |name: &str, resource: &str| RtcSession {
        username: name.into(),
        key: key("x"),
        resource: resource.into(),
    };
    let (mine, other) = (session("s:c", "/session/1"), session("s:d", "/session/2"));
    for session in [&mine, &other] {
        assert_eq!(world.ask(Query::StoreRtc(session.clone())), Answer::Rtc(Some(session.clone())));
    }
    // The worker that has it waits for its end, which comes not before somebody names its stream and resource.
    let mut worker = Client::new(world.subject.balancer());
    let asker = worker.asker(world.subject.now());
    assert_eq!(ask(&*worker.balancer, &asker, Query::EndOfRtc("s:c".into())), None);
    world.tell(&Report::Flowing(mine.clone()));
    for (stream, resource) in [("y", "/session/1"), ("x", "/session/3"), ("x", "")] {
        world.tell(&Report::Left(key(stream), resource.into()));
    }
    world.subject.advance(Duration::from_secs(1));
    assert_eq!(worker.mailbox.take(), []);
    assert_eq!(world.ask(Query::LoadRtc("s:c".into())), Answer::Rtc(Some(mine)));

    world.tell(&Report::Left(key("x"), "/session/1".into()));
    worker.bell.recv_timeout(PATIENCE).expect("a late answer");
    assert_eq!(worker.mailbox.take(), [(asker.reply_to, Answer::Rtc(None))]);
    world.subject.advance(Duration::from_secs(2));
    assert_eq!(world.ask(Query::LoadRtc("s:c".into())), Answer::Rtc(None));
    assert_eq!(world.ask(Query::LoadRtc("s:d".into())), Answer::Rtc(Some(other)));
    // Who asks too late hears it at once.
    world.tell(&Report::Left(key("x"), "/session/2".into()));
    assert_eq!(worker.ask(world.subject.now(), Query::EndOfRtc("s:d".into())), Answer::Rtc(None));
}

fn origins_are_listed(world: &mut World) {
    let [a, b] = pair();
    world.registered([&b, &a]);
    let mut streams: Vec<_> = (0..20).map(|n| key(&format!("{n:02}"))).collect();
    let homes: Vec<_> = streams.iter().map(|key| world.pick(key)).collect();
    world.subject.advance(Duration::from_secs(9));
    world.registered([&a]);
    let origins = world.origins();
    let summary: Vec<_> =
        origins.iter().map(|status| (status.origin.clone(), status.heartbeat_age)).collect();
    assert_eq!(summary, [(a.clone(), 0), (b, 9_000_000)]);
    let mut home = homes.iter();
    streams.retain(|_| home.next() == Some(&a.id()));
    assert_eq!(origins[0].streams, streams);
    assert_eq!(origins[1].streams.len(), 20 - streams.len());
}

fn an_origin_that_drains_gets_no_new_streams(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let kept = world.stream_on(&a.id());
    assert_eq!(world.drain(&a.id(), true), Answer::Known(true));
    assert_eq!(world.drain(&OriginId::new("unknown", "s", "1"), true), Answer::Known(false));
    assert_eq!((world.health(&a.id()), world.health(&b.id())), (Health::Draining, Health::Alive));
    for n in 0..50 {
        assert_eq!(world.pick(&key(&format!("during-{n}"))), b.id());
    }
    assert_eq!(world.pick(&kept), a.id(), "what is there stays");
    world.registered([&a]);
    assert_eq!(world.health(&a.id()), Health::Draining, "a heartbeat ends no drain");

    // With nobody else a stream is refused rather than sent there.
    world.ask(Query::Deregister(b.id()));
    assert_eq!(world.pick_for(&key("nowhere"), Protocol::Rtmp), Err(Refusal::NoOrigin));
    assert_eq!(world.pick(&kept), a.id());
    world.registered([&b]);

    assert_eq!(world.drain(&a.id(), false), Answer::Known(true));
    assert_eq!(world.health(&a.id()), Health::Alive);
    world.stream_on(&a.id());
}

fn a_restart_ends_a_drain(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    world.drain(&a.id(), true);
    let reborn = serving("a", "2", &[(Protocol::Rtmp, 1936)]);
    world.registered([&reborn]);
    assert_eq!(world.health(&reborn.id()), Health::Alive);
    assert_eq!(world.drain(&a.id(), true), Answer::Known(false), "that life is over");
    world.stream_on(&reborn.id());
}

fn an_origin_that_deregisters_loses_its_streams(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    let (lost, kept) = (world.stream_on(&a.id()), world.stream_on(&b.id()));
    assert_eq!(world.ask(Query::Deregister(a.id())), Answer::Known(true));
    assert_eq!(world.ask(Query::Deregister(a.id())), Answer::Known(false));
    let ids: Vec<_> = world.origins().iter().map(|status| status.origin.id()).collect();
    assert_eq!(ids, [b.id()]);
    assert_eq!((world.pick(&lost), world.pick(&kept)), (b.id(), b.id()));
    // It may come back, but what it lost does not.
    world.registered([&a]);
    assert_eq!((world.pick(&lost), world.pick(&kept)), (b.id(), b.id()));
    world.stream_on(&a.id());
}

fn full_tables_refuse(world: &mut World) {
    let [a, b] = pair();
    world.registered([&a, &b]);
    assert_eq!(world.register(&origin("c")), Answer::Refused(Refusal::Full));
    world.registered(&[a, serving("b", "2", &[(Protocol::Rtmp, 1935)])]);
    let keys = ["1", "2", "3"].map(key);
    let homes = keys.each_ref().map(|key| world.pick(key));
    assert_eq!(world.pick_for(&key("4"), Protocol::Rtmp), Err(Refusal::Full));
    assert_eq!(keys.each_ref().map(|key| world.pick(key)), homes, "those that are there stay");

    let store = |ufrag: &str| {
        Query::StoreRtc(RtcSession { username: ufrag.into(), key: key("1"), resource: "".into() })
    };
    assert!(matches!(world.ask(store("1")), Answer::Rtc(Some(_))));
    assert!(matches!(world.ask(store("2")), Answer::Rtc(Some(_))));
    assert_eq!(world.ask(store("3")), Answer::Refused(Refusal::Full));

    world.subject.advance(STREAM_IDLE);
    world.registered(&[origin("c")]);
    world.pick(&key("4"));
    assert!(matches!(world.ask(store("3")), Answer::Rtc(Some(_))));
}
