//! Many sessions, and players that do not read: nobody waits for them, and nothing is left behind.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::session::{Session, drive};
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, raise_descriptor_limit, wait_until};
use srs_proxy_tests::rtmp::{ClientScript, Message, OriginScript, kind};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Far more than a proxy and the kernel may keep for one player, bytes.
const FLOOD: usize = 64 * 1024 * 1024;

/// One message of the flood, bytes.
const FLOOD_MESSAGE: usize = 64 * 1024;

/// What a player that does not read may cost the proxy, KiB.
const STALL_COST_KIB: u64 = 8 * 1024;

/// Players that go on while one does not.
const PLAYERS: usize = 50;

/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(8);

/// Longest time without media that a player may see on a busy machine.
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// Sessions that come and go.
const SESSIONS: usize = 1000;

/// How often they do, at most.
const TIMES: usize = 12;

/// What may be left of them when as many have been there already, KiB: less than a hundred bytes of each.
const LEFT_KIB: u64 = 64;

fn flood() -> Vec<Message> {
    let message = |n: u32| Message {
        csid: 6,
        timestamp: n,
        type_id: kind::VIDEO,
        stream_id: 1,
        payload: vec![n as u8; FLOOD_MESSAGE].into(),
    };
    (0..(FLOOD / FLOOD_MESSAGE) as u32).map(message).collect()
}

#[test]
fn a_player_that_stops_reading_costs_bounded_memory_and_loses_nothing_when_it_goes_on() {
    let origin = Recorder::start(Behaviour::Play(OriginScript::default(), flood()));
    let proxy = Proxy::with(&[("PROXY_WORKERS", "1")]);
    proxy.register("origin", "1", origin.rtmp());
    let mut stalled = Session::start_narrow(proxy.rtmp(), ClientScript::play("live", "x"));
    stalled.wait_started(PATIENCE);
    let start = proxy.usage();

    // Another player of the same worker takes all of the flood meanwhile.
    let mut reading = Session::start(proxy.rtmp(), ClientScript::play("live", "x"));
    reading
        .wait("the whole flood", PATIENCE * 2, |player| player.messages().count() == FLOOD / FLOOD_MESSAGE);
    drop(reading);

    let cost = proxy.usage().rss_kib.saturating_sub(start.rss_kib);
    assert!(cost < STALL_COST_KIB, "{cost} KiB more for a player that does not read");
    let sent = origin.records()[0].sent;
    assert!(sent < FLOOD as u64 / 2, "the origin has sent {sent} bytes: nobody held it back");

    // Paused, it gets the rest now; cut, it is closed. Both are right, a damaged stream is not.
    stalled.widen();
    wait_until("the rest, or the end", PATIENCE * 2, || {
        while stalled.turn() {}
        stalled.messages().count() == FLOOD / FLOOD_MESSAGE || stalled.ended().is_some()
    });
    let whole = flood();
    for (received, sent) in stalled.messages().zip(&whole) {
        assert!((received.timestamp, &received.payload) == (sent.timestamp, &sent.payload));
    }
}

#[test]
fn a_player_that_stops_reading_holds_up_nobody() {
    let origin = Nginx::start();
    let proxy = Proxy::with(&[("PROXY_WORKERS", "1")]);
    proxy.register("origin", "1", origin.rtmp());
    let mut publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let mut stalled = Session::start_narrow(proxy.rtmp(), ClientScript::play("live", "x"));
    stalled.wait_started(PATIENCE);
    let script = || ClientScript::play("live", "x");
    let mut players: Vec<_> = (0..PLAYERS).map(|_| Session::start(proxy.rtmp(), script())).collect();
    drive(&mut players, "all play", PATIENCE, |player| player.messages().count() > 3);
    let before = proxy.usage();
    let frames = publisher.frames();

    let start = Instant::now();
    let mut latest = vec![start; PLAYERS];
    let mut longest = Duration::ZERO;
    wait_until("the time is over", WATCHED * 2, || {
        for (player, latest) in players.iter_mut().zip(&mut latest) {
            while player.turn() {}
            if player.messages().next().is_some() {
                player.forget();
                *latest = Instant::now();
            }
            longest = longest.max(latest.elapsed());
            assert!(player.ended().is_none(), "a player was cut");
        }
        start.elapsed() > WATCHED
    });
    assert!(longest < LONGEST_GAP, "a player saw nothing for {longest:?}");
    assert!(publisher.is_running() && publisher.frames() > frames + 100, "{} frames", publisher.frames());
    let cost = proxy.usage().rss_kib.saturating_sub(before.rss_kib);
    assert!(cost < STALL_COST_KIB, "{cost} KiB more");
}

#[test]
fn a_thousand_idle_publishers_leave_nothing_behind() {
    raise_descriptor_limit(4 * SESSIONS as u64);
    let origin = Recorder::start(Behaviour::Answer(OriginScript::default()));
    let proxy = Proxy::start();
    proxy.register("origin", "1", origin.rtmp());
    publish(&proxy, 0..1);
    proxy.wait_quiet();
    let start = proxy.usage();

    let come_and_go = || {
        let sessions = publish(&proxy, 0..SESSIONS);
        let full = proxy.usage();
        assert!(full.descriptors >= start.descriptors + 2 * SESSIONS, "{full:?}");
        assert_eq!(full.threads, start.threads, "no thread per session");
        let each = (full.rss_kib.saturating_sub(start.rss_kib)) as f64 / SESSIONS as f64;
        println!("{each:.2} KiB of the proxy's memory for each idle session");
        drop(sessions);
        wait_until("the origin is left", PATIENCE, || origin.count(|record| !record.ended) == 0);
        proxy.wait_quiet();
        let end = proxy.usage();
        assert_eq!((end.descriptors, end.threads), (start.descriptors, start.threads));
        end.rss_kib
    };
    // At first the process grows: by their streams, and by room that the allocator keeps, whose pages lie differently each
    // time. What leaks does so each time.
    let mut left = vec![come_and_go()];
    while left.len() < TIMES {
        left.push(come_and_go());
        if left[left.len() - 1].saturating_sub(left[left.len() - 2]) < LEFT_KIB {
            return;
        }
    }
    panic!("{left:?} KiB in use after each time");
}

fn publish(proxy: &Proxy, numbers: std::ops::Range<usize>) -> Vec<Session> {
    let script = |n: usize| ClientScript::publish("live", &format!("s{n}"));
    let mut sessions: Vec<_> = numbers.map(|n| Session::start(proxy.rtmp(), script(n))).collect();
    drive(&mut sessions, "all publish", PATIENCE * 2, Session::is_started);
    sessions
}

#[test]
fn without_a_descriptor_left_accepting_pauses_and_goes_on() {
    let origin = Recorder::start(Behaviour::Answer(OriginScript::default()));
    let proxy = Proxy::with(&[("PROXY_WORKERS", "1")]);
    proxy.register("origin", "1", origin.rtmp());
    let descriptors = proxy.usage().descriptors;
    let limit = Some(descriptors as u64 + 10);
    let pid = Pid::from_raw(proxy.pid() as i32);
    prlimit(pid, Resource::Nofile, Rlimit { current: limit, maximum: limit }).expect("a lower limit");
    let waiting: Vec<_> = (0..12).map(|_| TcpStream::connect(proxy.rtmp()).expect("a connection")).collect();
    wait_until("accepting pauses", PATIENCE, || proxy.log().contains("cannot accept"));
    drop(waiting);
    wait_until("the others are gone", PATIENCE, || proxy.usage().descriptors <= descriptors);
    Session::start(proxy.rtmp(), ClientScript::publish("live", "x")).wait_started(PATIENCE);
}
