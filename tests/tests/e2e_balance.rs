//! Many streams over several origins: each on exactly one of them, whoever asks, and all of them used.

use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::session::{Session, drive};
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use srs_proxy_tests::rtmp::{ClientScript, OriginScript, Role};

/// Streams published at first.
const STREAMS: usize = 12;

/// Origins are chosen at random: more streams than this on one of three origins only, or on two, is not chance.
const MOST_STREAMS: usize = 60;

/// Packets each player takes.
const PACKETS: usize = 40;

/// Which of the origins the stream is published at.
fn origins_of(origins: &[Nginx], stream: &str) -> Vec<usize> {
    (0..origins.len()).filter(|index| origins[*index].has_publisher(stream)).collect()
}

#[test]
fn twelve_streams_share_three_origins_and_each_plays() {
    let origins = [Nginx::start(), Nginx::start(), Nginx::start()];
    let proxy = Proxy::start();
    for (index, origin) in origins.iter().enumerate() {
        proxy.register(&format!("origin{index}"), "1", origin.rtmp());
    }
    let publishers: Vec<_> = (0..STREAMS)
        .map(|n| ffmpeg::Publisher::try_start(&proxy.url(&format!("live/s{n}?token=t"))))
        .collect();
    for n in 0..STREAMS {
        let stream = format!("s{n}");
        wait_until("the stream is at an origin", PATIENCE, || !origins_of(&origins, &stream).is_empty());
        let at = origins_of(&origins, &stream);
        assert_eq!(at.len(), 1, "{stream} is on exactly one origin");
        let holder = format!("origin{}", at[0]);
        assert_eq!(proxy.holders(&format!("__defaultVhost__/live/{stream}")), [holder], "as the proxy says");
    }

    // Each plays.
    let urls: Vec<_> = (0..STREAMS).map(|n| proxy.url(&format!("live/s{n}"))).collect();
    let players: Vec<_> = urls.iter().map(|url| ffmpeg::PacketPlayer::start(url, PACKETS)).collect();
    for player in players {
        player.finish();
    }

    // Twelve streams nearly always reach all three; further ones settle it.
    let mut more: Vec<Session> = Vec::new();
    while origins.iter().any(|origin| origin.streams().is_empty()) {
        assert!(more.len() < MOST_STREAMS, "an origin is never chosen");
        let name = format!("more{}", more.len());
        let mut session = Session::start(proxy.rtmp(), ClientScript::publish("live", &name));
        session.wait_started(PATIENCE);
        more.push(session);
    }
    drop(publishers);
}

/// Publishes so many streams at once, and waits until all are served.
fn publish(proxy: &Proxy, name: &str, count: usize) -> Vec<Session> {
    let start = |n| Session::start(proxy.rtmp(), ClientScript::publish("live", &format!("{name}{n}")));
    let mut sessions: Vec<_> = (0..count).map(start).collect();
    drive(&mut sessions, "all publishers are served", PATIENCE, Session::is_started);
    sessions
}

/// How many streams each origin holds.
fn held(proxy: &Proxy) -> Vec<usize> {
    proxy.origins().iter().map(|origin| origin["streams"].as_array().map_or(0, Vec::len)).collect()
}

#[test]
fn streams_are_shared_by_weight_and_none_is_sent_to_an_origin_that_drains() {
    let origins: Vec<_> =
        (0..2).map(|_| Recorder::start(Behaviour::Answer(OriginScript::default()))).collect();
    let proxy =
        Proxy::with(&[("PROXY_LB_POLICY", "least-streams"), ("PROXY_LB_WEIGHTS", "device-origin0=3")]);
    for (index, origin) in origins.iter().enumerate() {
        proxy.register(&format!("origin{index}"), "1", origin.rtmp());
    }
    let mut sessions = publish(&proxy, "before", 8);
    assert_eq!(held(&proxy), [6, 2]);

    proxy.manage("POST", "origin0", "1", "/drain");
    assert_eq!(proxy.health("origin0").as_deref(), Some("draining"));
    sessions.extend(publish(&proxy, "during", 5));
    assert_eq!(held(&proxy), [6, 7]);

    proxy.manage("DELETE", "origin0", "1", "/drain");
    sessions.extend(publish(&proxy, "after", 4));
    assert_eq!(held(&proxy), [10, 7], "those that it lacks for its weight");

    // One that has left holds nothing, and what runs there goes on.
    proxy.manage("DELETE", "origin0", "1", "");
    assert_eq!(held(&proxy), [7]);
    sessions.extend(publish(&proxy, "last", 2));
    assert_eq!(held(&proxy), [9]);
    for session in &mut sessions {
        session.turn();
        assert_eq!(session.ended(), None, "{}", session.story());
    }
}

#[test]
fn a_key_asked_for_by_two_workers_at_once_goes_to_one_origin() {
    let origins: Vec<_> =
        (0..3).map(|_| Recorder::start(Behaviour::Answer(OriginScript::default()))).collect();
    let proxy = Proxy::with(&[("PROXY_WORKERS", "2")]);
    for (index, origin) in origins.iter().enumerate() {
        proxy.register(&format!("origin{index}"), "1", origin.rtmp());
    }
    for round in 0..20 {
        let name = format!("s{round}");
        let asked = |query: usize| ClientScript {
            role: if query == 0 { Role::Publish } else { Role::Play },
            pipelined: true,
            ..ClientScript::publish("live", &format!("{name}?n={query}"))
        };
        let mut clients: Vec<_> = (0..32).map(|query| Session::start(proxy.rtmp(), asked(query))).collect();
        drive(&mut clients, "all clients are served", PATIENCE, Session::is_started);
        let mine = |stream: &str| stream.split('?').next() == Some(&*name);
        let counts: Vec<_> =
            origins.iter().map(|origin| origin.count(|record| record.stream().is_some_and(mine))).collect();
        let (all, used) = (counts.iter().sum::<usize>(), counts.iter().filter(|count| **count > 0).count());
        assert_eq!((all, used), (32, 1), "{name}: {counts:?}");
    }
}
