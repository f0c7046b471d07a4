//! An origin dies: its clients know at once, its streams find another, and it is used again when it is back.

use srs_proxy_tests::peers::nginx::{CHUNK_SIZE, Nginx};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::session::{Session, drive};
use srs_proxy_tests::peers::{PATIENCE, ffmpeg};
use srs_proxy_tests::rtmp::ClientScript;
use std::time::{Duration, Instant};

/// Within this an origin's clients know that it is gone.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Within this its streams can be published again.
const AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// Origins are chosen at random: an alive one that gets none of so many streams is not chosen at all.
const MANY_STREAMS: usize = 40;

fn key(stream: &str) -> String {
    format!("__defaultVhost__/live/{stream}")
}

fn publish(proxy: &Proxy, stream: &str) -> Session {
    Session::start(proxy.rtmp(), ClientScript::publish("live", stream))
}

#[test]
fn the_streams_of_a_killed_origin_move_and_it_is_used_again_when_it_is_back() {
    let mut origins = [Nginx::start(), Nginx::start()];
    let names = ["a", "b"];
    let proxy = Proxy::start();
    for (name, origin) in names.iter().zip(&origins) {
        proxy.register(name, "1", origin.rtmp());
    }

    // ffmpeg and scripted clients on one stream.
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let mut player = ffmpeg::decode(&proxy.url("live/x"));
    let mut scripted: Vec<_> =
        (0..4).map(|_| Session::start(proxy.rtmp(), ClientScript::play("live", "x"))).collect();
    drive(&mut scripted, "all play", PATIENCE, Session::is_started);
    let holder = proxy.holders(&key("x")).pop().expect("the stream has an origin");
    let dead = names.iter().position(|name| *name == holder).expect("a known origin");
    let other = 1 - dead;

    // It dies: its clients are closed at once.
    let killed = Instant::now();
    origins[dead].kill();
    drive(&mut scripted, "players are closed", PATIENCE, |player| player.ended().is_some());
    let last = scripted.iter().filter_map(Session::ended).max().expect("they have ended");
    assert!(last - killed < KNOWN_WITHIN, "closed after {:?}", last - killed);

    // The stream can be published again, on the other origin.
    let mut republished = publish(&proxy, "x");
    republished.wait_started(AGAIN_WITHIN.saturating_sub(killed.elapsed()));
    assert_eq!(proxy.holders(&key("x")), [names[other]]);
    assert!(origins[other].has_publisher("x"));
    player.wait_end(PATIENCE);
    assert!(!publisher.wait_end(PATIENCE).status.success(), "ffmpeg was cut off");

    // New streams avoid the dead one.
    let mut new: Vec<_> = (0..MANY_STREAMS).map(|n| publish(&proxy, &format!("new{n}"))).collect();
    drive(&mut new, "all new streams are published", PATIENCE, Session::is_started);
    for n in 0..MANY_STREAMS {
        assert_eq!(proxy.holders(&key(&format!("new{n}"))), [names[other]]);
    }

    // It comes back as a new life of the same server, and is used again.
    let port = origins[dead].rtmp().port();
    origins[dead] = Nginx::at(port, CHUNK_SIZE);
    proxy.register(names[dead], "2", origins[dead].rtmp());
    assert_eq!(proxy.health(names[dead]).as_deref(), Some("alive"));
    let mut late: Vec<_> = (0..MANY_STREAMS).map(|n| publish(&proxy, &format!("late{n}"))).collect();
    drive(&mut late, "all late streams are published", PATIENCE, Session::is_started);
    assert!(!origins[dead].streams().is_empty(), "the new life is used");

    // What moved away stays where it is.
    assert_eq!(proxy.holders(&key("x")), [names[other]]);
    republished.turn();
    assert!(republished.ended().is_none());
}
