//! The desk at a store in memory, one exchange at a time: proxies that agree, a store that is away, slow, full, empty.

mod faults;
mod published;

use super::*;
use crate::conformance;
use crate::{CLAIM_LIFE, Limits, Policy, QUARANTINE, SESSION_LIFE, STREAM_IDLE, Weights};
use srs_proxy_core::query::{Answer, Health, Need, Query, Refusal, Report};
use std::collections::BTreeSet;

const TTL: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn it_behaves_as_every_load_balancer_must() {
    conformance::run(&|setup| {
        let keys = Keys::new("test");
        let store = FakeRedis::new(keys.clone());
        let client = store.client();
        Box::new(RedisSubject::new(&setup, keys, client, move |by| store.advance(by)))
    });
}

/// A proxy's load balancer, without a thread, its way to the store, and its time.
struct Proxy {
    rig: Rig,
    client: Box<dyn RedisClient>,
    now: Time,
    /// Answers that came.
    came: Vec<Answer>,
}

impl Proxy {
    fn with(store: &FakeRedis, seed: u64, policy: Policy, mappings: Mappings) -> Self {
        let setup = Setup { ttl: TTL, limits: Limits::default(), seed, policy, weights: Weights::default() };
        let (now, mut client) = (Time::ZERO, store.client());
        let rig = Rig::start(now, &setup, mappings, Keys::new(""), &mut *client).expect("a store");
        let mut proxy = Self { rig, client, now, came: Vec::new() };
        proxy.exchange();
        proxy
    }

    fn new(store: &FakeRedis, seed: u64) -> Self {
        Self::with(store, seed, Policy::Random, Mappings::End)
    }

    /// One round trip, if there is anything to be sent.
    fn exchange(&mut self) {
        self.send();
        self.hear();
    }

    /// What is to be sent is on its way to the store.
    fn send(&mut self) {
        self.rig.send(self.now);
    }

    /// What is on its way has come to the store, and what that said has come back.
    fn hear(&mut self) {
        self.rig.run(&mut *self.client);
        self.rig.hear(self.now);
        self.collect();
    }

    fn tick(&mut self) {
        self.rig.tick(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        self.came.extend(self.rig.answers().into_iter().map(|(_, answer)| answer));
        self.rig.audit(self.now);
    }

    /// Asks; the answer, if it is known at once.
    fn query(&mut self, query: Query) -> Option<Answer> {
        self.rig.ask(self.now, query).1
    }

    fn report(&self, report: Report) {
        self.rig.tell(self.now, &report);
    }

    /// Answers that came since they were last looked at.
    fn came(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.came)
    }

    /// Asks for a pick; an answer at once is as good as one that comes.
    fn ask(&mut self, stream: &str) {
        self.ask_for(stream, Need::to_play(Protocol::Rtmp));
    }

    fn ask_for(&mut self, stream: &str, need: Need) {
        let answer = self.query(Query::Pick { key: key(stream), need });
        self.came.extend(answer);
    }

    /// The answers to picks that came, good ones first.
    fn answers(&mut self) -> Vec<Result<String, Refusal>> {
        let read = |answer| match answer {
            Answer::Picked(Picked { origin, .. }) => Some(Ok(origin.to_string())),
            Answer::Refused(why) => Some(Err(why)),
            _ => None,
        };
        let mut answers: Vec<_> = self.came().into_iter().filter_map(read).collect();
        answers.sort_by_key(Result::is_err);
        answers
    }

    fn pick(&mut self, stream: &str) -> Result<String, Refusal> {
        self.ask(stream);
        self.answer()
    }

    /// Picks as a client that publishes.
    fn pick_to_publish(&mut self, stream: &str) -> Result<String, Refusal> {
        self.ask_for(stream, Need::to_publish(Protocol::Rtmp));
        self.answer()
    }

    fn answer(&mut self) -> Result<String, Refusal> {
        for _ in 0..10 {
            if let Some(answer) = self.answers().pop() {
                return answer;
            }
            self.exchange();
        }
        panic!("no answer");
    }

    fn register(&mut self, origins: &[Origin]) {
        for origin in origins {
            self.query(Query::Register(origin.clone()));
        }
        self.exchange();
        self.came();
    }

    fn publish(&mut self, stream: &str) -> String {
        let origin = self.pick(stream).expect("an origin");
        self.report(Report::Publishing(key(stream), OriginId::from_text(origin.as_str())));
        self.pass(SECOND);
        origin
    }

    fn origins(&self) -> Vec<OriginStatus> {
        self.rig.look(self.now, |view| view.origins(self.now))
    }

    fn health(&self, origin: &Origin) -> Option<Health> {
        let mut origins = self.origins().into_iter();
        origins.find(|status| status.origin.id() == origin.id()).map(|status| status.health)
    }

    /// Time passes here, in steps as in life.
    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + SECOND).min(end);
            self.exchange();
            self.tick();
        }
    }
}

/// Time passes for all of them and their store.
fn pass(store: &FakeRedis, proxies: &mut [&mut Proxy], by: Duration) {
    let steps = by.as_secs().max(1);
    for _ in 0..steps {
        store.advance(by / u32::try_from(steps).unwrap());
        for proxy in &mut *proxies {
            proxy.pass(by / u32::try_from(steps).unwrap());
        }
    }
}

fn store() -> FakeRedis {
    FakeRedis::new(Keys::new(""))
}

fn key(stream: &str) -> StreamKey {
    StreamKey::new("", "live", stream).unwrap()
}

fn origin(server: &str) -> Origin {
    Origin {
        device_id: "".into(),
        server: server.into(),
        service: "s".into(),
        pid: "1".into(),
        endpoints: vec![(Protocol::Rtmp, ([127, 0, 0, 1], 1935).into())],
    }
}

fn url(stream: &str) -> String {
    format!("srs-proxy-url:__defaultVhost__/live/{stream}")
}

#[test]
fn proxies_that_ask_for_a_new_stream_at_once_get_one_origin() {
    let store = store();
    let mut proxies: Vec<_> = (1..=8).map(|seed| Proxy::new(&store, seed)).collect();
    proxies[0].register(&["a", "b", "c", "d"].map(origin));
    for proxy in &mut proxies {
        proxy.pass(SECOND);
    }
    for n in 0..200 {
        let stream = n.to_string();
        proxies.iter_mut().for_each(|proxy| proxy.ask(&stream));
        proxies.iter_mut().for_each(Proxy::exchange);
        let answers = proxies.iter_mut().flat_map(Proxy::answers);
        let origins: BTreeSet<_> = answers.map(|answer| answer.expect("an origin")).collect();
        assert_eq!(origins.len(), 1, "{origins:?}");
    }
}

#[test]
fn a_new_stream_costs_one_command_however_many_ask_and_none_within_a_second() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("a")]);
    let before = store.seen();
    (0..100).for_each(|_| proxy.ask("x"));
    proxy.exchange();
    assert_eq!(proxy.answers(), vec![Ok("a-s-1".to_owned()); 100]);
    (0..100).for_each(|_| proxy.ask("x"));
    assert_eq!(proxy.answers().len(), 100);
    assert_eq!((store.seen().batches - before.batches, store.seen().commands - before.commands), (1, 1));
}

/// Commands that a whole session costs until it has run for ten seconds, without the censuses.
fn cost(store: &FakeRedis, proxy: &mut Proxy, session: impl FnOnce(&mut Proxy)) -> usize {
    pass(store, &mut [proxy], SECOND * 2);
    let before = store.seen().commands;
    session(proxy);
    // Within these, each second has its census.
    let spent = store.seen().commands - before;
    pass(store, &mut [proxy], SECOND * 10);
    spent + store.seen().commands - before - spent - 10
}

#[test]
fn a_session_costs_two_commands_whatever_its_protocol_and_nothing_more_where_it_is_known() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&[origin("o")]);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let at = origin("o").id();
    let hls = HlsSession { spbhid: "1".into(), key: key("hls"), full_url: "http://h/live/x.m3u8".into() };
    let rtc = RtcSession { username: "s:c".into(), key: key("rtc"), resource: "".into() };
    let publish = |proxy: &mut Proxy| {
        proxy.pick_to_publish("x").unwrap();
        proxy.report(Report::Publishing(key("x"), at.clone()));
    };
    let play = |proxy: &mut Proxy| {
        proxy.pick("x").unwrap();
        proxy.report(Report::Playing(key("x")));
    };
    let whep = |proxy: &mut Proxy| {
        proxy.pick("rtc").unwrap();
        assert_eq!(proxy.query(Query::StoreRtc(rtc.clone())), None);
        proxy.exchange();
        proxy.report(Report::Flowing(rtc.clone()));
    };
    let media_elsewhere = |proxy: &mut Proxy| {
        assert_eq!(proxy.query(Query::LoadRtc("s:c".into())), None);
        proxy.exchange();
        proxy.pick("rtc").unwrap();
        proxy.report(Report::Flowing(rtc.clone()));
    };
    let list = |proxy: &mut Proxy| {
        proxy.pick("hls").unwrap();
        assert_eq!(proxy.query(Query::StoreHls(hls.clone())), None);
        proxy.exchange();
        assert_eq!(proxy.query(Query::LoadHls("1".into())), Some(Answer::Hls(Some(hls.clone()))));
    };
    let segment_elsewhere = |proxy: &mut Proxy| {
        assert_eq!(load_hls(proxy, "1").as_deref(), Some("1"));
        proxy.pick("hls").unwrap();
        assert_eq!(load_hls(proxy, "1").as_deref(), Some("1"));
    };
    assert_eq!(cost(&store, &mut a, publish), 2, "the stream, and that it is published");
    assert_eq!(cost(&store, &mut a, play), 1);
    assert_eq!(cost(&store, &mut b, play), 1);
    assert_eq!(cost(&store, &mut a, whep), 2);
    assert_eq!(cost(&store, &mut b, media_elsewhere), 2);
    assert_eq!(cost(&store, &mut a, list), 2);
    assert_eq!(cost(&store, &mut b, segment_elsewhere), 2);
    for entry in ["hls:__defaultVhost__/live/hls", "spbhid:1", "ufrag:s:c", "rtc:__defaultVhost__/live/rtc"] {
        assert!(store.ttl(&format!("srs-proxy-{entry}")).flatten() > Some(SESSION_LIFE / 2), "{entry}");
    }
}

#[test]
fn renewals_of_what_runs_are_few_and_keep_it_alive_elsewhere() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&[origin("o")]);
    let home = a.publish("x");
    let rtc = RtcSession { username: "s:c".into(), key: key("x"), resource: "".into() };
    a.query(Query::StoreRtc(rtc.clone()));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let before = store.seen();
    for _ in 0..600 {
        // As a session reports, and far more often than one does.
        a.report(Report::Publishing(key("x"), OriginId::from_text(home.as_str())));
        a.report(Report::Playing(key("x")));
        a.report(Report::Flowing(rtc.clone()));
        pass(&store, &mut [&mut a, &mut b], SECOND);
        a.register(&[origin("o")]);
    }
    let commands = store.seen().commands - before.commands;
    // Two censuses and one heartbeat a second; publisher, player and session each fifteen.
    assert!(commands <= 600 * 3 + (600 / 15 + 1) * 3, "{commands}");
    assert_eq!(b.pick("x"), Ok(home));
    assert_eq!(b.query(Query::LoadRtc("s:c".into())), None);
    b.exchange();
    assert_eq!(b.came().pop(), Some(Answer::Rtc(Some(rtc))));
}

#[test]
fn players_whose_proxy_knew_an_origin_that_has_gone_keep_the_stream_where_others_found_it() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&[origin("o")]);
    assert_eq!(a.pick("x").unwrap(), "o-s-1");
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let restarted = Origin { pid: "2".into(), ..origin("o") };
    b.register(std::slice::from_ref(&restarted));
    assert_eq!(b.pick("x").unwrap(), "o-s-2");
    // Its players go on with what they have, as long as that lasts.
    for _ in 0..4 * CLAIM_LIFE.as_secs() {
        pass(&store, &mut [&mut a, &mut b], SECOND);
        a.report(Report::Playing(key("x")));
        a.register(std::slice::from_ref(&restarted));
    }
    assert!(store.ttl(&url("x")).flatten() > Some(CLAIM_LIFE / 2));
}

#[test]
fn names_that_nobody_knows_are_asked_for_once_a_second() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    let before = store.seen();
    assert_eq!(proxy.query(Query::LoadRtc("who:knows".into())), None);
    proxy.exchange();
    for _ in 0..1000 {
        assert_eq!(proxy.query(Query::LoadRtc("who:knows".into())), Some(Answer::Rtc(None)));
    }
    assert_eq!(store.seen().commands - before.commands, 1);
    proxy.now = proxy.now + FRESH;
    assert_eq!(proxy.query(Query::LoadRtc("who:knows".into())), None);
}

#[test]
fn while_the_store_is_away_what_is_known_goes_on_and_what_is_new_is_refused_at_once() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&["a", "b"].map(origin));
    let home = proxy.publish("known");
    pass(&store, &mut [&mut proxy], SECOND * 5);
    store.set_away(true);
    // The first question finds out; it waits no longer than the exchange.
    proxy.ask("known");
    proxy.ask("new");
    proxy.exchange();
    assert_eq!(proxy.answers(), [Ok(home.clone()), Err(Refusal::Unavailable)]);
    for _ in 0..60 {
        pass(&store, &mut [&mut proxy], SECOND);
        proxy.ask("known");
        proxy.ask("new");
        assert_eq!(proxy.answers(), [Ok(home.clone()), Err(Refusal::Unavailable)]);
    }
    assert_eq!(proxy.query(Query::Register(origin("c"))), Some(Answer::Registered));
    let hls = HlsSession { spbhid: "1".into(), key: key("known"), full_url: "".into() };
    assert_eq!(proxy.query(Query::StoreHls(hls.clone())), Some(Answer::Hls(Some(hls.clone()))));
    assert_eq!(proxy.query(Query::LoadHls("1".into())), Some(Answer::Hls(Some(hls))));
    assert_eq!(proxy.query(Query::LoadHls("2".into())), Some(Answer::Refused(Refusal::Unavailable)));
}

#[test]
fn by_rendezvous_proxies_agree_on_new_streams_while_the_store_is_away() {
    let store = store();
    let mut proxies = [1, 2].map(|seed| Proxy::with(&store, seed, Policy::Rendezvous, Mappings::End));
    proxies[0].register(&["a", "b", "c"].map(origin));
    proxies[1].pass(SECOND);
    store.set_away(true);
    for n in 0..100 {
        let stream = n.to_string();
        let [here, there] = proxies.each_mut().map(|proxy| proxy.pick(&stream));
        assert!(here.is_ok() && here == there, "{here:?} {there:?}");
    }
}

#[test]
fn a_store_that_comes_back_empty_is_given_what_runs() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&["a", "b", "c"].map(origin));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let homes: Vec<_> = (0..20).map(|n| a.publish(&n.to_string())).collect();
    store.set_away(true);
    pass(&store, &mut [&mut a, &mut b], SECOND * 10);
    store.flush();
    store.set_away(false);
    // Longer than the longest pause, and a turn for what is given back.
    pass(&store, &mut [&mut a, &mut b], SECOND * 7);
    let again: Vec<_> = (0..20).map(|n| b.pick(&n.to_string()).unwrap()).collect();
    assert_eq!(homes, again);
    assert_eq!(Proxy::new(&store, 3).origins().len(), 3);
    // No heartbeat since: their time goes on as it was.
    let left = store.ttl("srs-proxy-server:a-s-1").unwrap().unwrap();
    assert!(left < TTL - SECOND * 15, "{left:?}");
}

#[test]
fn proxies_come_back_neither_often_nor_in_step() {
    let store = store();
    let mut proxies: Vec<_> = (1..=20).map(|seed| Proxy::new(&store, seed)).collect();
    store.set_away(true);
    let before = store.seen().runs;
    let mut most = 0;
    for _ in 0..6000 {
        let turn = store.seen().runs;
        for proxy in &mut proxies {
            proxy.now = proxy.now + SECOND / 100;
            proxy.exchange();
        }
        most = most.max(if proxies[0].now > Time::ZERO + SECOND * 20 { store.seen().runs - turn } else { 0 });
    }
    let tries = store.seen().runs - before;
    // In a minute 5 while the pauses grow, then one every 2.5 to 5 s.
    assert!((20 * 14..20 * 32).contains(&tries), "{tries}");
    assert!(most <= 4, "{most} of 20 in the same hundredth of a second");
}

#[test]
fn a_claim_whose_reply_is_lost_holds() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&["a", "b", "c", "d"].map(origin));
    store.lose_next_reply();
    assert_eq!(proxy.pick("x"), Err(Refusal::Unavailable));
    let held = store.get(&url("x")).unwrap();
    pass(&store, &mut [&mut proxy], SECOND);
    assert_eq!(proxy.pick("x").map(|origin| format!("srs-proxy-server:{origin}")), Ok(held));
}

#[test]
fn a_store_that_takes_too_long_is_not_waited_for() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&["a", "b"].map(origin));
    let home = proxy.publish("known");
    pass(&store, &mut [&mut proxy], SECOND * 2);
    proxy.ask("known");
    proxy.ask("new");
    proxy.send();
    proxy.now = proxy.now + PATIENCE;
    proxy.tick();
    let answers = proxy.answers();
    assert!(
        answers.len() == 2 && answers.contains(&Ok(home)) && answers.contains(&Err(Refusal::Unavailable))
    );
    // What it says in the end is learned, and told nobody.
    proxy.hear();
    assert_eq!(proxy.came(), []);
    proxy.ask("new");
    assert!(matches!(proxy.answers()[..], [Ok(_)]));
}

#[test]
fn a_full_store_refuses_what_is_new_only() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("a")]);
    proxy.publish("known");
    pass(&store, &mut [&mut proxy], SECOND * 2);
    store.set_full(true);
    assert_eq!(proxy.pick("new"), Err(Refusal::Full));
    assert_eq!(proxy.pick("known"), Ok("a-s-1".to_owned()));
}

#[test]
fn mappings_end_unless_a_proxy_that_renews_none_is_in_the_fleet() {
    for (mappings, claimed, published) in
        [(Mappings::End, Some(CLAIM_LIFE), Some(STREAM_IDLE)), (Mappings::Stay, None, None)]
    {
        let store = store();
        let mut proxy = Proxy::with(&store, 1, Policy::Random, mappings);
        proxy.register(&[origin("a")]);
        proxy.pick("asked").unwrap();
        proxy.publish("published");
        assert_eq!(store.ttl(&url("asked")), Some(claimed));
        assert_eq!(store.ttl(&url("published")), Some(published));
        // One that stays is never made to end.
        store.set(&url("stays"), "srs-proxy-server:a-s-1", None);
        proxy.publish("stays");
        assert_eq!(store.ttl(&url("stays")), Some(None));
    }
}

#[test]
fn draining_and_leaving_are_known_everywhere() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let [first, second] = ["a", "b"].map(origin);
    a.register(&[first.clone(), second.clone()]);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(a.query(Query::Drain { origin: first.id(), on: true }), None);
    a.exchange();
    assert_eq!(a.health(&first), Some(Health::Draining));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(b.health(&first), Some(Health::Draining));
    assert!((0..20).all(|n| b.pick(&n.to_string()) == Ok("b-s-1".to_owned())));
    assert_eq!(b.query(Query::Drain { origin: first.id(), on: false }), None);
    pass(&store, &mut [&mut b, &mut a], SECOND);
    assert_eq!(a.health(&first), Some(Health::Alive));
    assert_eq!(b.query(Query::Deregister(second.id())), None);
    pass(&store, &mut [&mut b, &mut a], SECOND);
    assert_eq!([a.health(&second), b.health(&second)], [None, None]);
    assert_eq!(a.pick("0"), Ok("a-s-1".to_owned()), "its streams leave");
    assert_eq!(b.query(Query::Deregister(second.id())), Some(Answer::Known(false)));
    // It may come again.
    a.register(std::slice::from_ref(&second));
    pass(&store, &mut [&mut b, &mut a], SECOND);
    assert_eq!(b.health(&second), Some(Health::Alive));
}

#[test]
fn what_a_go_proxy_wrote_is_found() {
    let store = store();
    let registration = r#"{"ip":"192.0.2.2","device_id":"origin1","server_id":"vid-8f503b0","service_id":"ib2f72c6","pid":"15486","rtmp":["19351"],"http":["8081"],"api":["19851"],"srt":["udp://0.0.0.0:10081"],"rtc":["udp://0.0.0.0:8001"],"update_at":"2026-11-22T10:34:52.070553836Z"}"#;
    let hls = r#"{"spbhid":"3f2bbba","stream_url":"__defaultVhost__/live/vec","full_url":"http://127.0.0.1/live/vec.m3u8"}"#;
    let id = "vid-8f503b0-ib2f72c6-15486";
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("ours")]);
    // After our census, so that the mapping is the first that is heard of it.
    store.set("srs-proxy-all-servers", &format!(r#"["srs-proxy-server:{id}"]"#), None);
    store.set(&format!("srs-proxy-server:{id}"), registration, Some(TTL));
    store.set(&url("vec"), &format!("srs-proxy-server:{id}"), None);
    store.set("srs-proxy-hls:__defaultVhost__/live/vec", hls, Some(SESSION_LIFE));
    store.set("srs-proxy-spbhid:3f2bbba", hls, Some(SESSION_LIFE));
    assert_eq!(proxy.pick("vec"), Ok(id.to_owned()));
    assert_eq!(proxy.query(Query::LoadHls("3f2bbba".into())), None);
    proxy.exchange();
    let Some(Answer::Hls(Some(session))) = proxy.came().pop() else { panic!("a session") };
    assert_eq!((session.key, &*session.full_url), (key("vec"), "http://127.0.0.1/live/vec.m3u8"));
    // Its server key is gone when its time is up, whatever the list says.
    pass(&store, &mut [&mut proxy], SECOND);
    store.advance(TTL);
    proxy.now = proxy.now + TTL;
    proxy.register(&[origin("ours")]);
    assert_eq!(proxy.pick("vec"), Ok("ours-s-1".to_owned()));
}

#[test]
fn nonsense_in_the_store_is_replaced_or_left_out() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("a")]);
    store.set(&url("x"), "nonsense", None);
    assert_eq!(proxy.pick("x"), Ok("a-s-1".to_owned()));
    store.set("srs-proxy-spbhid:1", "{", None);
    store.set("srs-proxy-ufrag:s:c", "[]", None);
    proxy.query(Query::LoadHls("1".into()));
    proxy.query(Query::LoadRtc("s:c".into()));
    proxy.exchange();
    assert_eq!(proxy.came(), [Answer::Hls(None), Answer::Rtc(None)]);
}

#[test]
fn an_origin_that_restarted_a_moment_ago_is_met_where_its_old_life_is_known() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    a.register(&["a", "b"].map(origin));
    pass(&store, &mut [&mut a, &mut b], SECOND * 2);
    let restarted = ["a", "b"].map(|server| Origin { pid: "2".into(), ..origin(server) });
    a.register(&restarted);
    let home = a.pick("x").unwrap();
    assert_eq!(b.pick("x"), Ok(home));
}

#[test]
fn an_origin_that_was_met_lives_as_long_as_its_registration() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("ours")]);
    // It is on no list, so that no census tells of it.
    let registration = records::registration(&origin("met"), std::time::SystemTime::UNIX_EPOCH);
    store.set("srs-proxy-server:met-s-1", &registration, Some(TTL));
    store.set(&url("x"), "srs-proxy-server:met-s-1", None);
    for _ in 0..TTL.as_secs() / 10 - 1 {
        assert_eq!(proxy.pick("x"), Ok("met-s-1".to_owned()));
        pass(&store, &mut [&mut proxy], SECOND * 10);
        proxy.register(&[origin("ours")]);
        assert_eq!(proxy.health(&origin("met")), Some(Health::Alive));
    }
    pass(&store, &mut [&mut proxy], SECOND * 10);
    assert_eq!(proxy.pick("x"), Ok("ours-s-1".to_owned()));
}

#[test]
fn a_stream_at_an_origin_whose_registration_only_others_can_read_is_not_moved() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("ours")]);
    let registration =
        r#"{"ip":"host.example.com","server_id":"new","service_id":"s","pid":"1","rtmp":["1935"]}"#;
    store.set("srs-proxy-server:new-s-1", registration, Some(TTL));
    store.set(&url("x"), "srs-proxy-server:new-s-1", None);
    assert_eq!(proxy.pick("x"), Err(Refusal::NoOrigin));
    assert_eq!(store.get(&url("x")).as_deref(), Some("srs-proxy-server:new-s-1"));
    store.advance(TTL);
    assert_eq!(proxy.pick("x"), Ok("ours-s-1".to_owned()));
}

#[test]
fn an_old_life_whose_registration_stays_gets_nobody() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    let old = records::registration(&origin("a"), std::time::SystemTime::UNIX_EPOCH);
    proxy.register(&[Origin { pid: "2".into(), ..origin("a") }]);
    store.set("srs-proxy-server:a-s-1", &old, Some(TTL));
    store.set(&url("x"), "srs-proxy-server:a-s-1", None);
    assert_eq!(proxy.pick("x"), Ok("a-s-2".to_owned()));
}

/// Which session a proxy gives to a question about HLS, now or in the end.
fn hls(proxy: &mut Proxy, query: Query) -> Option<String> {
    let answer = proxy.query(query).or_else(|| {
        proxy.exchange();
        proxy.came().pop()
    });
    match answer {
        Some(Answer::Hls(session)) => session.map(|session| session.spbhid.to_string()),
        other => panic!("{other:?}"),
    }
}

fn new_hls(proxy: &mut Proxy, spbhid: &str) -> String {
    let new = HlsSession { spbhid: spbhid.into(), key: key("x"), full_url: "".into() };
    hls(proxy, Query::StoreHls(new)).expect("a session")
}

fn load_hls(proxy: &mut Proxy, spbhid: &str) -> Option<String> {
    hls(proxy, Query::LoadHls(spbhid.into()))
}

#[test]
fn sessions_are_renewed_by_whichever_proxy_uses_them() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    assert_eq!(new_hls(&mut a, "1"), "1");
    let rtc = RtcSession { username: "s:c".into(), key: key("x"), resource: "".into() };
    a.query(Query::StoreRtc(rtc.clone()));
    pass(&store, &mut [&mut a, &mut b], SESSION_LIFE - SECOND * 5);
    // It has heard of neither before.
    assert_eq!(load_hls(&mut b, "1"), Some("1".to_owned()));
    assert_eq!(b.query(Query::LoadRtc("s:c".into())), None);
    pass(&store, &mut [&mut a, &mut b], SECOND * 10);
    for key in ["spbhid:1", "hls:__defaultVhost__/live/x", "ufrag:s:c"] {
        assert!(store.get(&format!("srs-proxy-{key}")).is_some(), "{key}");
    }
}

#[test]
fn a_session_that_is_left_is_gone_from_the_store_and_no_other() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let rtc =
        |name: &str| RtcSession { username: name.into(), key: key("x"), resource: format!("/{name}").into() };
    for name in ["s:c", "s:d"] {
        a.query(Query::StoreRtc(rtc(name)));
        pass(&store, &mut [&mut a, &mut b], SECOND);
    }
    let of_stream = "srs-proxy-rtc:__defaultVhost__/live/x";
    let held = store.get(of_stream);
    assert!(!held.as_deref().unwrap_or("/s:d").contains("/s:d"), "a resource is nobody else's: {held:?}");
    a.report(Report::Left(key("x"), "/s:c".into()));
    assert_eq!(a.query(Query::LoadRtc("s:c".into())), Some(Answer::Rtc(None)), "at once");
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(store.get("srs-proxy-ufrag:s:c"), None);
    assert!(store.get("srs-proxy-ufrag:s:d").is_some());
    assert_eq!(store.get(of_stream), held, "that is the other's by now");
    a.report(Report::Left(key("x"), "/s:d".into()));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(store.get(of_stream), None);
}

#[test]
fn of_two_sessions_of_one_stream_both_go_on_and_new_clients_get_the_same_everywhere() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    store.set_away(true);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!((new_hls(&mut a, "1"), new_hls(&mut b, "2")), ("1".to_owned(), "2".to_owned()));
    store.set_away(false);
    // They are used where they began, and so the store has them.
    pass(&store, &mut [&mut a, &mut b], SECOND * 6);
    assert_eq!((load_hls(&mut a, "1"), load_hls(&mut b, "2")), (Some("1".to_owned()), Some("2".to_owned())));
    for _ in 0..30 {
        pass(&store, &mut [&mut a, &mut b], SECOND * 10);
        assert_eq!((new_hls(&mut a, "3"), new_hls(&mut b, "4")), ("1".to_owned(), "1".to_owned()));
        assert_eq!(
            (load_hls(&mut a, "1"), load_hls(&mut a, "2")),
            (Some("1".to_owned()), Some("2".to_owned()))
        );
    }
    // Both are where they were never asked for, and so were renewed.
    let mut third = Proxy::new(&store, 3);
    assert_eq!((load_hls(&mut third, "1"), load_hls(&mut third, "2")), (Some("1".into()), Some("2".into())));
}

#[test]
fn what_waits_is_bounded_however_slow_the_store_and_comes_to_rest() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("a")]);
    for _ in 0..10 {
        (0..20_000).for_each(|n| proxy.ask(&n.to_string()));
        proxy.now = proxy.now + PATIENCE;
        proxy.tick();
    }
    assert_eq!(proxy.answers().len(), 10 * 20_000, "all are answered");
    (0..100).for_each(|_| proxy.exchange());
    assert_eq!(proxy.rig.audit(proxy.now), Load::default());
    assert_eq!(proxy.pick("new"), Ok("a-s-1".to_owned()));
}
