//! How WebRTC sessions end: with their origin, with the proxy, and not by what ICMP says.

use rustix::process::Signal;
use srs_proxy_tests::peers::nat::Nat;
use srs_proxy_tests::peers::pion::{LONGEST, Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// How long the proxy waits for a word of a session, and in words. Viewers of Pion say one every four seconds.
const TIMEOUT: (Duration, &str) = (Duration::from_secs(6), "6s");

/// What looking, and a busy machine, may add to that.
const SLACK: Duration = Duration::from_secs(4);

/// A viewer never waits so long for the next packet, on a busy machine. What did not reach it is counted, too.
const LONGEST_GAP: Duration = Duration::from_secs(3);

/// Origins are chosen at random: that one of two gets none of so many streams is no chance.
const MANY_STREAMS: usize = 40;

fn publish(proxy: &Proxy, stream: &str) -> Publisher {
    Publisher::start(&proxy.rtc_url("whip", "live", stream), 50)
}

#[test]
fn the_sessions_of_a_killed_origin_end_and_anothers_go_on() {
    let mut origins = [Pion::start(Location::Query), Pion::start(Location::Query)];
    let proxy = Proxy::with(&[("PROXY_WEBRTC_TIMEOUT", TIMEOUT.1)]);
    for (name, origin) in ["a", "b"].iter().zip(&origins) {
        proxy.register_rtc(name, origin.api(), origin.media());
    }
    // Until each has one.
    let mut publishers: [Vec<Publisher>; 2] = Default::default();
    let mut streams: [String; 2] = Default::default();
    for n in 0..MANY_STREAMS {
        let stream = format!("s{n}");
        let publisher = publish(&proxy, &stream);
        let at = origins.iter().position(|origin| {
            !origin.sessions(true).is_empty()
                && origin.requests().iter().any(|request| {
                    request["uri"].as_str().is_some_and(|uri| uri.ends_with(&format!("={stream}")))
                })
        });
        let at = at.expect("it is at an origin");
        publishers[at].push(publisher);
        streams[at] = stream;
        if publishers.iter().all(|publishers| !publishers.is_empty()) {
            break;
        }
    }
    let [dying, living] = &streams;
    let viewers = |stream: &str| {
        wait_until("the track has arrived", PATIENCE, || {
            origins.iter().any(|origin| origin.tracks(&format!("live/{stream}")) == 1)
        });
        Viewers::start(&proxy.rtc_url("whep", "live", stream), 3, LONGEST, true)
    };
    let (lost, going) = (viewers(dying), viewers(living));
    let dead = origins[0].media();
    let leading_there = || proxy.rtc_sessions().iter().filter(|to| **to == dead).count();
    let before = leading_there();
    assert_eq!(before, publishers[0].len() + 3);
    let survivors = proxy.rtc_sessions().len() - before;

    origins[0].kill();
    // Its clients keep asking for a while, and may have a session that finds nobody again.
    drop((lost, std::mem::take(&mut publishers[0])));
    wait_until("its sessions are freed", TIMEOUT.0 + SLACK, || leading_there() == 0);
    assert_eq!(proxy.rtc_sessions().len(), survivors);
    let seen = going.leave();
    assert_eq!((seen.connected, seen.lost, seen.deleted), (3, 0, 3), "{seen:?}");
    assert!(seen.gap < LONGEST_GAP, "{:?} without media", seen.gap);
}

#[test]
fn a_session_whose_origin_is_gone_ends_while_its_client_stays() {
    let mut origin = Pion::start(Location::Query);
    let proxy = Proxy::before_rtc(&origin, &[("PROXY_WEBRTC_TIMEOUT", TIMEOUT.1)]);
    let _publisher = publish(&proxy, "x");
    let sockets = proxy.rtc_sockets();
    assert_eq!(sockets.len(), 1);
    origin.kill();
    let killed = Instant::now();
    // Its client's next check begins another.
    wait_until("its session is freed", TIMEOUT.0 + SLACK, || proxy.rtc_sockets().is_disjoint(&sockets));
    assert!(killed.elapsed() > TIMEOUT.0 / 2, "after {:?}: not for its silence", killed.elapsed());
}

#[test]
fn an_origin_that_is_unreachable_for_a_moment_keeps_its_sessions() {
    let origin = Pion::start(Location::Query);
    // What stands before it can be closed, and then the kernel says that nobody is there.
    let front = Nat::start((Ipv4Addr::LOCALHOST, free_port()).into(), origin.media());
    let proxy = Proxy::with(&[("PROXY_WEBRTC_TIMEOUT", TIMEOUT.1)]);
    proxy.register_rtc("origin", origin.api(), front.inside());
    let publisher = publish(&proxy, "x");
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    let viewers = Viewers::start(&proxy.rtc_url("whep", "live", "x"), 3, LONGEST, true);
    let routed = || proxy.log().matches(" webrtc at ").count();
    wait_until("all have their origin", PATIENCE, || routed() == 4);
    assert_eq!(proxy.rtc_sessions(), vec![front.inside(); 4]);
    for _ in 0..3 {
        let before = origin.packets("live/x");
        wait_until("media flow", PATIENCE, || origin.packets("live/x") > before + 10);
        front.close();
        let closed = Instant::now();
        wait_until("some media were lost", PATIENCE, || closed.elapsed() > Duration::from_millis(300));
        front.open();
    }
    let before = origin.packets("live/x");
    wait_until("media flow", PATIENCE, || origin.packets("live/x") > before + 10);
    assert_eq!((proxy.rtc_sessions(), routed()), (vec![front.inside(); 4], 4), "these very sessions");
    let seen = viewers.leave();
    assert_eq!((seen.connected, seen.deleted), (3, 3), "{seen:?}");
    assert!(seen.lost > 0 && seen.gap < TIMEOUT.0, "{seen:?}");
    drop(publisher);
}

#[test]
fn a_drain_waits_for_the_last_session() {
    let origin = Pion::start(Location::Query);
    let mut proxy = Proxy::before_rtc(
        &origin,
        &[
            ("PROXY_WEBRTC_TIMEOUT", TIMEOUT.1),
            ("PROXY_GRACE_QUIT_TIMEOUT", "60s"),
            ("PROXY_FORCE_QUIT_TIMEOUT", "90s"),
        ],
    );
    let publisher = publish(&proxy, "x");
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    let viewers = Viewers::start(&proxy.rtc_url("whep", "live", "x"), 2, LONGEST, false);
    proxy.signal(Signal::TERM);
    wait_until("no offer is taken", PATIENCE, || TcpStream::connect(proxy.http_api()).is_err());
    // For some seconds.
    let arrived = origin.packets("live/x");
    wait_until("media go on", PATIENCE, || origin.packets("live/x") > arrived + 200);
    let seen = viewers.leave();
    assert_eq!((seen.connected, seen.lost), (2, 0), "{seen:?}");
    assert!(seen.packets > 2 * 100, "{seen:?}");
    assert!(seen.gap < LONGEST_GAP, "{:?} without media", seen.gap);
    let arrived = origin.packets("live/x");
    wait_until("the publisher goes on", PATIENCE, || origin.packets("live/x") > arrived + 10);
    assert!(proxy.is_running());
    drop(publisher);
    assert_eq!(proxy.wait_end(TIMEOUT.0 + SLACK).status.code(), Some(0));
}

#[test]
fn the_grace_time_ends_the_sessions_that_stay() {
    let origin = Pion::start(Location::Query);
    let settings = [("PROXY_GRACE_QUIT_TIMEOUT", "2s"), ("PROXY_FORCE_QUIT_TIMEOUT", "60s")];
    let mut proxy = Proxy::before_rtc(&origin, &settings);
    let publisher = publish(&proxy, "x");
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(Duration::from_secs(2) + SLACK).status.code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(2), "drained for {:?} only", start.elapsed());
    drop(publisher);
}

#[test]
fn an_idle_hub_holds_up_no_quitting() {
    let origin = Pion::start(Location::Query);
    let mut proxy = Proxy::before_rtc(&origin, &[("PROXY_GRACE_QUIT_TIMEOUT", "60s")]);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(SLACK).status.code(), Some(0));
}
