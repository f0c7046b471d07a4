//! The WebRTC peers, with no proxy between: what they show through the proxy must hold without it.

use srs_proxy_tests::peers::pion::{Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::rtc::{Client, Program, Report, Role, run};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::time::Duration;

/// Frames that are enough to say that media flows: some seconds of it.
const FRAMES: u64 = 50;

/// One publishes, another plays, both leave; gives what both saw.
#[track_caller]
fn through(origin: &Pion, publisher: (Program, Role), player: (Program, Role)) -> (Report, Report) {
    let mut publishing = Client::start(publisher.0, publisher.1, "live/cam", origin.api(), FRAMES);
    publishing.wait_flow();
    wait_until("both tracks have arrived", PATIENCE, || origin.tracks("live/cam") == 2);
    let played = run(player.0, player.1, "live/cam", origin.api(), FRAMES);
    assert!(played.frames >= FRAMES && played.packets > FRAMES && played.size.0 > 0, "{played:?}");
    assert!(played.is_nearly_whole() && played.remote == Some(origin.media()), "{played:?}");
    let published = publishing.leave();
    assert!(published.frames >= FRAMES, "{published:?}");
    assert_eq!(published.remote, Some(origin.media()), "{published:?}");
    (published, played)
}

#[test]
fn chromium_plays_what_chromium_publishes() {
    let origin = Pion::start(Location::Query);
    let chromium = |role| (Program::Chromium, role);
    let (published, played) = through(&origin, chromium(Role::Whip), chromium(Role::Whep));
    for seen in [published, played] {
        assert_eq!((&seen.signalled[..], &seen.deleted[..]), (&[201][..], &[200][..]), "{seen:?}");
        assert_eq!((seen.failure, seen.console), (None, vec![]));
    }
    assert!(origin.sessions(true).is_empty() && origin.sessions(false).is_empty(), "DELETE ends a session");
}

#[test]
fn chromium_and_aiortc_play_what_the_other_publishes() {
    for (one, other) in [(Program::Chromium, Program::Aiortc), (Program::Aiortc, Program::Chromium)] {
        let origin = Pion::start(Location::Bare);
        let (published, played) = through(&origin, (one, Role::Whip), (other, Role::Whep));
        assert_eq!((&published.deleted[..], &played.deleted[..]), (&[200][..], &[200][..]));
    }
}

#[test]
fn the_json_forms_of_signalling_do_the_same() {
    let origin = Pion::start(Location::Query);
    let aiortc = |role| (Program::Aiortc, role);
    let (published, played) = through(&origin, aiortc(Role::Publish), aiortc(Role::Play));
    assert_eq!((&published.signalled[..], &played.signalled[..]), (&[200][..], &[200][..]));
}

#[test]
fn a_player_of_nothing_gives_up_and_says_why() {
    let origin = Pion::start(Location::Query);
    for program in [Program::Chromium, Program::Aiortc] {
        let seen = Client::start(program, Role::Whep, "live/nobody", origin.api(), 1).finish();
        assert_eq!((&seen.signalled[..], seen.frames), (&[404][..], 0), "{seen:?}");
        assert!(seen.failure.is_some_and(|words| words.contains("404")));
    }
}

#[test]
fn many_viewers_count_every_packet() {
    let origin = Pion::start(Location::Query);
    let url = |role: &str| format!("http://{}/rtc/v1/{role}/?app=live&stream=load", origin.api());
    let publisher = Publisher::start(&url("whip"), 50);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/load") == 1);
    let seen = Viewers::start(&url("whep"), 20, Duration::from_secs(2), true).finish();
    assert_eq!((seen.connected, seen.lost, seen.deleted), (20, 0, 20), "{seen:?}");
    assert!(seen.packets > 20 * 50, "{seen:?}");
    assert_eq!(seen.remotes.into_iter().collect::<Vec<_>>(), [origin.media()]);
    assert!(seen.latency.0 > Duration::ZERO && seen.latency.0 < seen.latency.1);
    assert!(publisher.leave() > 2 * 50);
}

#[test]
fn viewers_that_vanish_leave_their_sessions() {
    let origin = Pion::start(Location::Query);
    let url = |role: &str| format!("http://{}/rtc/v1/{role}/?app=live&stream=load", origin.api());
    let publisher = Publisher::start(&url("whip"), 50);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/load") == 1);
    let seen = Viewers::start(&url("whep"), 3, Duration::from_secs(1), false).finish();
    assert_eq!((seen.connected, seen.deleted), (3, 0), "{seen:?}");
    assert_eq!(origin.sessions(false).len(), 3);
    publisher.leave();
}
