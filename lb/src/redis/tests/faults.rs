//! Proxies at a store that loses what it was told, takes nothing or is flooded; and orders of events that are rare.

use super::*;

#[test]
fn a_stream_held_by_an_earlier_life_of_a_server_moves_on() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    let (old, new) = (origin("o"), Origin { pid: "2".into(), ..origin("o") });
    proxy.register(std::slice::from_ref(&new));
    // As a Go proxy leaves it, which ends no life before its time.
    let registration = records::registration(&old, std::time::SystemTime::now());
    store.set("srs-proxy-server:o-s-1", &registration, Some(TTL / 2));
    store.set(&url("x"), "srs-proxy-server:o-s-1", None);
    assert_eq!(proxy.pick("x"), Ok("o-s-2".to_owned()));
}

#[test]
fn who_is_registered_again_is_there_whoever_did_it() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    let [first, second] = ["a", "b"].map(origin);
    proxy.register(&[first.clone(), second]);
    proxy.query(Query::Deregister(first.id()));
    pass(&store, &mut [&mut proxy], SECOND);
    assert_eq!(proxy.health(&first), None);
    // A Go proxy takes no word back.
    store.set("srs-proxy-all-servers", r#"["srs-proxy-server:b-s-1","srs-proxy-server:a-s-1"]"#, None);
    let registration = records::registration(&first, std::time::SystemTime::now());
    store.set("srs-proxy-server:a-s-1", &registration, Some(TTL));
    for _ in 0..5 {
        pass(&store, &mut [&mut proxy], SECOND);
        assert_eq!(proxy.health(&first), Some(Health::Alive));
    }
}

#[test]
fn each_of_several_sessions_of_a_stream_lives_on_by_use() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    // As Go proxies write them: each viewer has its own.
    for id in ["1", "2"] {
        let record = format!(r#"{{"spbhid":"{id}","stream_url":"v/live/x","full_url":""}}"#);
        store.set(&format!("srs-proxy-spbhid:{id}"), &record, Some(SESSION_LIFE));
        store.set("srs-proxy-hls:v/live/x", &record, Some(SESSION_LIFE));
        assert_eq!(proxy.query(Query::LoadHls(id.into())), None);
        proxy.exchange();
    }
    for _ in 0..2 * SESSION_LIFE.as_secs() / 5 {
        for id in ["1", "2"] {
            assert!(
                matches!(proxy.query(Query::LoadHls(id.into())), Some(Answer::Hls(Some(found))) if &*found.spbhid == id)
            );
        }
        pass(&store, &mut [&mut proxy], SECOND * 5);
    }
    for entry in ["spbhid:1", "spbhid:2", "hls:v/live/x"] {
        assert!(store.get(&format!("srs-proxy-{entry}")).is_some(), "{entry}");
    }
}

#[test]
fn a_name_that_is_no_webrtc_session_may_be_an_hls_session() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    assert_eq!(proxy.query(Query::LoadRtc("1".into())), None);
    proxy.exchange();
    assert_eq!(proxy.query(Query::LoadRtc("1".into())), Some(Answer::Rtc(None)));
    assert_eq!(proxy.query(Query::LoadHls("1".into())), None);
}

#[test]
fn questions_that_nobody_waits_for_any_more_are_not_asked() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("a")]);
    let before = store.seen();
    for n in 0..100 {
        proxy.ask(&n.to_string());
        assert_eq!(proxy.query(Query::LoadHls(n.to_string().into())), None);
    }
    // The store is busy with something else for so long.
    proxy.now = proxy.now + PATIENCE;
    proxy.tick();
    proxy.exchange();
    assert!(store.seen().commands - before.commands <= 1, "{:?}", store.seen());
}

#[test]
fn what_waits_is_limited_also_when_the_store_takes_nothing() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    let mut refused = 0;
    for n in 0..100_000 {
        let session = RtcSession { username: n.to_string().into(), key: key("x"), resource: "".into() };
        refused += usize::from(proxy.query(Query::StoreRtc(session)).is_some());
        if n % 10_000 == 0 {
            proxy.now = proxy.now + PATIENCE;
            proxy.tick();
        }
    }
    assert!(refused > 80_000, "{refused}");
}

#[test]
fn renewals_go_on_in_a_flood_of_questions() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&[origin("a")]);
    proxy.publish("x");
    proxy.now = proxy.now + SECOND * 20;
    store.advance(SECOND * 20);
    for n in 0..5000 {
        proxy.ask(&n.to_string());
    }
    proxy.report(Report::Publishing(key("x"), origin("a").id()));
    proxy.exchange();
    assert_eq!(store.ttl(&url("x")), Some(Some(STREAM_IDLE)));
}

#[test]
fn streams_for_which_there_is_nobody_do_not_make_the_store_count_all_the_time() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.now = proxy.now + SECOND;
    let before = store.seen();
    for n in 0..100 {
        proxy.ask(&n.to_string());
    }
    proxy.exchange();
    assert_eq!(proxy.answers(), vec![Err(Refusal::NoOrigin); 100]);
    // Each asks for its mapping; who is there they ask together.
    assert!(store.seen().commands - before.commands <= 102, "{:?}", store.seen());
}

#[test]
fn silence_means_nothing_while_the_store_is_away_and_a_moment_longer() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let origins = ["a", "b", "c"].map(origin);
    a.register(&origins);
    let home = a.publish("x");
    let at = OriginId::from_text(home.as_str());
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(b.pick("x"), Ok(home.clone()));
    store.set_away(true);
    // Heartbeats come to one proxy, and the other hears of none.
    for _ in 0..2 * TTL.as_secs() / 10 {
        a.register(&origins);
        a.report(Report::Publishing(key("x"), at.clone()));
        pass(&store, &mut [&mut b, &mut a], SECOND * 10);
        assert_eq!(b.pick("x"), Ok(home.clone()));
    }
    // Registrations have expired meanwhile, and are given back; one proxy may be first.
    store.set_away(false);
    for second in 0..20 {
        store.advance(SECOND);
        b.pass(SECOND);
        assert_eq!(b.pick("x"), Ok(home.clone()), "{second}");
        if second > 5 {
            a.pass(SECOND);
        }
    }
    let dead = origins.iter().find(|origin| origin.id() == at).unwrap();
    assert_eq!(b.health(dead), Some(Health::Alive));
    // Then it counts again.
    pass(&store, &mut [&mut a, &mut b], TTL);
    assert_eq!(b.health(dead), Some(Health::Dead));
}

#[test]
fn sessions_begun_while_the_store_was_away_are_found_when_it_is_back() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let session =
        |n: &str| RtcSession { username: format!("s:{n}").into(), key: key("x"), resource: "".into() };
    let hls = HlsSession { spbhid: "1".into(), key: key("x"), full_url: "".into() };
    // One is on its way when the store is lost, the others begin after that.
    assert_eq!(a.query(Query::StoreRtc(session("1"))), None);
    store.set_away(true);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    assert_eq!(a.query(Query::StoreRtc(session("2"))), Some(Answer::Rtc(Some(session("2")))));
    assert_eq!(a.query(Query::StoreHls(hls.clone())), Some(Answer::Hls(Some(hls.clone()))));
    store.set_away(false);
    pass(&store, &mut [&mut a, &mut b], SECOND * 7);
    b.came();
    assert_eq!(b.query(Query::LoadRtc("s:1".into())), None);
    assert_eq!(b.query(Query::LoadRtc("s:2".into())), None);
    assert_eq!(b.query(Query::LoadHls("1".into())), None);
    b.exchange();
    let found = [Answer::Rtc(Some(session("1"))), Answer::Rtc(Some(session("2"))), Answer::Hls(Some(hls))];
    assert_eq!(b.came(), found);
}

#[test]
fn a_store_that_was_emptied_is_given_what_is_played_and_who_drains() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let origins = ["a", "b", "c", "d"].map(origin);
    a.register(&origins);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    let homes: Vec<_> = (0..10).map(|n| a.pick(&n.to_string())).collect();
    a.query(Query::Drain { origin: origins[0].id(), on: true });
    pass(&store, &mut [&mut a, &mut b], SECOND);
    for n in 0..10 {
        let rtc =
            RtcSession { username: n.to_string().into(), key: key(&n.to_string()), resource: "".into() };
        a.report(Report::Flowing(rtc.clone()));
        a.report(Report::Playing(rtc.key));
    }
    pass(&store, &mut [&mut a, &mut b], SECOND * 3);
    // Nobody lost the connection.
    store.flush();
    pass(&store, &mut [&mut a, &mut b], SECOND * 3);
    assert_eq!((0..10).map(|n| b.pick(&n.to_string())).collect::<Vec<_>>(), homes);
    pass(&store, &mut [&mut a, &mut b], SECOND * 3);
    assert_eq!([&a, &b].map(|proxy| proxy.health(&origins[0])), [Some(Health::Draining); 2]);
    assert_eq!(Proxy::new(&store, 3).health(&origins[0]), Some(Health::Draining));
}

fn start(client: &mut dyn RedisClient) -> Result<(), Lost> {
    Rig::start(Time::ZERO, &Setup::default(), Mappings::End, Keys::new(""), client).map(drop)
}

#[test]
fn a_store_that_lets_us_in_but_does_nothing_is_no_store_to_start_with() {
    struct Forbidden;
    impl RedisClient for Forbidden {
        fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
            let why = "NOPERM User default has no permissions to run the 'eval' command";
            Ok(vec![Reply::Failed(why.to_owned()); commands.len()])
        }
    }
    let why = start(&mut Forbidden).unwrap_err();
    assert!(why.to_string().contains("NOPERM"), "{why}");
}

#[test]
fn a_store_that_we_may_not_write_to_is_no_store_to_start_with_and_a_full_one_is() {
    struct ReadOnly(Box<dyn RedisClient>, &'static str);
    impl RedisClient for ReadOnly {
        fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
            let mut replies = self.0.run(commands)?;
            for (command, reply) in commands.iter().zip(&mut replies) {
                if matches!(command, Command::Claim { .. }) {
                    *reply = Reply::Failed(self.1.to_owned());
                }
            }
            Ok(replies)
        }
    }
    let store = store();
    let refusing = |why| start(&mut ReadOnly(store.client(), why));
    let why = refusing("NOPERM User p has no permissions to run the 'set' command").unwrap_err();
    assert!(why.to_string().contains("'set'"), "{why}");
    assert_eq!(refusing("OOM command not allowed when used memory > 'maxmemory'."), Ok(()));
    // Nothing is left of it.
    start(&mut *store.client()).unwrap();
    assert_eq!(store.lives(), []);
}

#[test]
fn a_renewal_sends_nobody_to_an_origin_that_has_just_failed() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&["a", "b"].map(origin));
    let home = proxy.publish("x");
    let at = OriginId::from_text(home.as_str());
    pass(&store, &mut [&mut proxy], SECOND * 20);
    proxy.report(Report::Publishing(key("x"), at.clone()));
    proxy.report(Report::Unreachable(at.clone(), Protocol::Rtmp));
    proxy.send();
    proxy.ask_for("x", Need::to_publish(Protocol::Rtmp));
    proxy.hear();
    assert_eq!(proxy.came(), [], "it waits for its own claim");
    proxy.exchange();
    assert!(matches!(&proxy.answers()[..], [Ok(next)] if *next != home));
}

#[test]
fn a_renewal_that_nobody_waits_for_takes_no_stream_from_an_origin_that_has_just_failed() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    proxy.register(&["a", "b"].map(origin));
    let home = proxy.publish("x");
    let at = OriginId::from_text(home.as_str());
    let held = store.get(&url("x"));
    pass(&store, &mut [&mut proxy], SECOND * 20);
    proxy.report(Report::Publishing(key("x"), at.clone()));
    proxy.report(Report::Unreachable(at.clone(), Protocol::Rtmp));
    pass(&store, &mut [&mut proxy], SECOND);
    assert_eq!(store.get(&url("x")), held);
}

#[test]
fn a_pick_is_not_answered_with_an_origin_that_failed_while_a_publisher_was_renewed() {
    for is_renewal_sent in [true, false] {
        let store = store();
        let mut proxy = Proxy::new(&store, 1);
        proxy.register(&["a", "b"].map(origin));
        let home = OriginId::from_text(&proxy.pick("x").unwrap());
        proxy.report(Report::Publishing(key("x"), home.clone()));
        proxy.now = proxy.now + SECOND;
        if is_renewal_sent {
            proxy.send();
        }
        proxy.report(Report::Unreachable(home.clone(), Protocol::Rtmp));
        proxy.ask_for("x", Need::to_publish(Protocol::Rtmp));
        proxy.hear();
        assert_eq!(proxy.answers(), []);
        (0..3).for_each(|_| proxy.exchange());
        let next = proxy.answers().pop().expect("an answer").expect("an origin");
        assert_ne!(next, home.as_str());
        assert_eq!(proxy.pick("x"), Ok(next), "and there it stays");
    }
}

#[test]
fn each_proxy_of_a_store_that_was_emptied_gives_back_its_own() {
    let store = store();
    let mut proxies = [1, 2, 3].map(|seed| Proxy::new(&store, seed));
    proxies[0].register(&["a", "b", "c"].map(origin));
    let [a, b, c] = &mut proxies;
    pass(&store, &mut [&mut *a, &mut *b, &mut *c], SECOND);
    let homes: Vec<_> = (0..20).map(|n| b.publish(&n.to_string())).collect();
    pass(&store, &mut [&mut *a, &mut *b, &mut *c], SECOND * 3);
    // Nobody loses the connection, and one notices first and gives back the list.
    store.flush();
    pass(&store, &mut [&mut *a], SECOND);
    pass(&store, &mut [&mut *a, &mut *b], SECOND * 2);
    assert_eq!((0..20).map(|n| c.pick(&n.to_string()).unwrap()).collect::<Vec<_>>(), homes);
}

#[test]
fn silence_means_nothing_while_the_store_takes_no_heartbeats() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let origins = ["a", "b"].map(origin);
    a.register(&origins);
    pass(&store, &mut [&mut a, &mut b], SECOND);
    store.set_full(true);
    for _ in 0..2 * TTL.as_secs() / 10 {
        a.register(&origins);
        pass(&store, &mut [&mut a, &mut b], SECOND * 10);
    }
    let alive = [Some(Health::Alive); 2];
    assert_eq!(origins.each_ref().map(|origin| b.health(origin)), alive);
    store.set_full(false);
    a.register(&origins);
    pass(&store, &mut [&mut a, &mut b], SECOND * 20);
    assert_eq!(origins.each_ref().map(|origin| b.health(origin)), alive);
    for _ in 0..TTL.as_secs() / 10 {
        a.register(&origins[..1]);
        pass(&store, &mut [&mut a, &mut b], SECOND * 10);
    }
    assert_eq!(origins.map(|origin| b.health(&origin)), [Some(Health::Alive), Some(Health::Dead)]);
}

#[test]
fn an_origin_that_restarted_while_a_proxy_was_cut_off_is_given_to_the_store() {
    let store = store();
    let (mut a, mut b) = (Proxy::new(&store, 1), Proxy::new(&store, 2));
    let [old, new] = ["1", "2"].map(|pid| Origin { pid: pid.into(), ..origin("o") });
    a.register(std::slice::from_ref(&old));
    pass(&store, &mut [&mut a, &mut b], SECOND);
    store.set_away(true);
    pass(&store, &mut [&mut a, &mut b], SECOND * 5);
    a.register(std::slice::from_ref(&new));
    store.set_away(false);
    pass(&store, &mut [&mut a, &mut b], SECOND * 7);
    for proxy in [&a, &b] {
        assert_eq!((proxy.health(&old), proxy.health(&new)), (None, Some(Health::Alive)));
    }
    assert_eq!(store.get("srs-proxy-all-servers").as_deref(), Some(r#"["srs-proxy-server:o-s-2"]"#));
    // And a heartbeat that came meanwhile counts.
    store.set_away(true);
    pass(&store, &mut [&mut a, &mut b], SECOND * 100);
    a.register(std::slice::from_ref(&new));
    store.set_away(false);
    pass(&store, &mut [&mut a, &mut b], SECOND * 7);
    let left = store.ttl("srs-proxy-server:o-s-2").unwrap().unwrap();
    assert!(left > TTL - SECOND * 10, "{left:?}");
}

#[test]
fn many_origins_are_given_back_in_few_commands() {
    let store = store();
    let mut proxy = Proxy::new(&store, 1);
    let origins: Vec<_> = (0..300).map(|n| origin(&n.to_string())).collect();
    origins.iter().for_each(|origin| proxy.register(std::slice::from_ref(origin)));
    pass(&store, &mut [&mut proxy], SECOND);
    store.flush();
    let before = store.seen().commands;
    pass(&store, &mut [&mut proxy], SECOND * 2);
    assert_eq!(store.seen().commands - before, 2 + 3, "censuses, and 128 origins each");
    assert_eq!(Proxy::new(&store, 2).origins().len(), 300);
}
