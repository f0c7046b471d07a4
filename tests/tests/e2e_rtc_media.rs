//! WebRTC through the proxy: browsers, aiortc and Pion publish and play, and nothing of them is left behind.

use srs_proxy_tests::peers::pion::{Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::rtc::{Client, Program, Report, Role};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::time::Duration;

/// Frames that are enough to say that media flows: some seconds of it.
const FRAMES: u64 = 50;

/// How long the proxy waits for a word of a session that nobody ends, and in words. Viewers of Pion say one every four
/// seconds.
const TIMEOUT: (Duration, &str) = (Duration::from_secs(6), "6s");

/// What looking, and a busy machine, may add to that.
const SLACK: Duration = Duration::from_secs(4);

/// How long after `DELETE` a session has its socket: far less than the 30 s after which silence ends it.
const GOODBYE: Duration = Duration::from_secs(2);

/// Signalling on one worker, media perhaps on the other.
const SETTINGS: [(&str, &str); 1] = [("PROXY_WORKERS", "2")];

/// The same where no session is ended but by silence, as in SRS's JSON, which has no resources.
const IMPATIENT: [(&str, &str); 2] = [("PROXY_WORKERS", "2"), ("PROXY_WEBRTC_TIMEOUT", TIMEOUT.1)];

/// One publishes, another plays, both leave; gives what both saw.
#[track_caller]
fn through(
    proxy: &Proxy,
    origin: &Pion,
    publisher: (Program, Role),
    player: (Program, Role),
    freed: Duration,
) -> [Report; 2] {
    let before = proxy.usage().descriptors;
    let mut publishing = Client::start(publisher.0, publisher.1, "live/cam", proxy.http_api(), FRAMES);
    publishing.wait_flow();
    wait_until("both tracks have arrived", PATIENCE, || origin.tracks("live/cam") == 2);
    let mut playing = Client::start(player.0, player.1, "live/cam", proxy.http_api(), FRAMES);
    playing.wait_flow();
    // A browser that checks from several addresses may have one on each worker.
    let sockets = proxy.rtc_sessions();
    assert!((2..=4).contains(&sockets.len()), "{sockets:?}");
    assert!(sockets.iter().all(|to| *to == origin.media()), "{sockets:?}");
    let played = playing.leave();
    let published = publishing.leave();
    wait_until("the sessions are freed", freed, || proxy.rtc_sessions().is_empty());
    for seen in [&published, &played] {
        assert!(seen.frames >= FRAMES && seen.packets > FRAMES && seen.size.0 > 0, "{seen:?}");
        assert!(seen.is_nearly_whole() && seen.remote == Some(proxy.rtc()), "{seen:?}");
        assert_eq!(seen.console, Vec::<String>::new());
    }
    proxy.wait_quiet();
    wait_until("all descriptors are freed", PATIENCE, || proxy.usage().descriptors <= before);
    [published, played]
}

/// WHIP and WHEP between these two, to the end at the origin.
#[track_caller]
fn standard(location: Location, publisher: Program, player: Program) {
    let origin = Pion::start(location);
    let proxy = Proxy::before_rtc(&origin, &SETTINGS);
    for seen in through(&proxy, &origin, (publisher, Role::Whip), (player, Role::Whep), GOODBYE) {
        assert_eq!((&seen.signalled[..], &seen.deleted[..]), (&[201][..], &[200][..]), "{seen:?}");
    }
    assert!(origin.sessions(true).is_empty() && origin.sessions(false).is_empty(), "DELETE has reached it");
}

#[test]
fn chromium_plays_what_chromium_publishes() {
    standard(Location::Query, Program::Chromium, Program::Chromium);
}

#[test]
fn the_proxys_own_pages_publish_and_play_at_resources_that_name_no_stream() {
    let origin = Pion::start(Location::Bare);
    let proxy = Proxy::before_rtc(&origin, &SETTINGS);
    let browser = Program::ChromiumAt(proxy.http());
    for seen in through(&proxy, &origin, (browser, Role::Whip), (browser, Role::Whep), GOODBYE) {
        assert_eq!((&seen.signalled[..], &seen.deleted[..]), (&[201][..], &[200][..]), "{seen:?}");
    }
    assert!(origin.sessions(true).is_empty() && origin.sessions(false).is_empty(), "DELETE has reached it");
}

#[test]
fn aiortc_plays_what_chromium_publishes() {
    standard(Location::Bare, Program::Chromium, Program::Aiortc);
}

#[test]
fn chromium_plays_what_aiortc_publishes() {
    standard(Location::Query, Program::Aiortc, Program::Chromium);
}

#[test]
fn srs_json_signalling_does_the_same() {
    let origin = Pion::start(Location::Query);
    let proxy = Proxy::before_rtc(&origin, &IMPATIENT);
    let aiortc = |role| (Program::Aiortc, role);
    for seen in through(&proxy, &origin, aiortc(Role::Publish), aiortc(Role::Play), TIMEOUT.0 + SLACK) {
        assert_eq!(seen.signalled, [200], "{seen:?}");
    }
}

/// Pion publishes and plays, with these last parts of the paths; every packet arrives.
#[track_caller]
fn pion(publish: &str, play: &str, settings: &[(&str, &str)]) {
    let origin = Pion::start(Location::Query);
    let proxy = Proxy::before_rtc(&origin, settings);
    let publisher = Publisher::start(&proxy.rtc_url(publish, "live", "x"), 100);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    let viewers = Viewers::start(&proxy.rtc_url(play, "live", "x"), 3, Duration::from_secs(2), true);
    assert_eq!(proxy.rtc_sessions(), [origin.media(); 4]);
    let seen = viewers.finish();
    assert_eq!((seen.connected, seen.lost, seen.late), (3, 0, 0), "{seen:?}");
    assert!(seen.packets > 3 * 150, "{seen:?}");
    assert_eq!(seen.remotes.into_iter().collect::<Vec<_>>(), [proxy.rtc()]);
    let arrived = || origin.packets("live/x");
    let before = arrived();
    wait_until("the publisher goes on", PATIENCE, || arrived() > before);
    drop(publisher);
    if settings == IMPATIENT {
        wait_until("the sessions are freed", TIMEOUT.0 + SLACK, || proxy.rtc_sessions().is_empty());
    } else {
        assert_eq!(
            proxy.rtc_sessions(),
            [origin.media()],
            "the viewers have said goodbye, the publisher has not"
        );
    }
}

#[test]
fn pion_publishes_by_whip_and_plays_by_whep() {
    pion("whip", "whep", &SETTINGS);
}

#[test]
fn pion_publishes_and_plays_by_srs_json() {
    pion("publish", "play", &IMPATIENT);
}

#[test]
fn a_player_of_nothing_hears_what_the_origin_says() {
    let origin = Pion::start(Location::Query);
    let proxy = Proxy::before_rtc(&origin, &SETTINGS);
    for program in [Program::Chromium, Program::Aiortc] {
        let seen = Client::start(program, Role::Whep, "live/nobody", proxy.http_api(), 1).finish();
        assert_eq!((&seen.signalled[..], seen.frames), (&[404][..], 0), "{seen:?}");
    }
    assert!(proxy.rtc_sessions().is_empty());
}

#[test]
fn sixteen_streams_come_and_go_over_two_origins_and_two_workers() {
    let origins = [Pion::start(Location::Query), Pion::start(Location::Bare)];
    let proxy = Proxy::with(&IMPATIENT);
    for (name, origin) in ["a", "b"].iter().zip(&origins) {
        proxy.register_rtc(name, origin.api(), origin.media());
    }
    let publishers: Vec<_> = (0..16)
        .map(|n| {
            let url = proxy.rtc_url("whip", "live", &format!("s{n}"));
            Publisher::start(&url, 25)
        })
        .collect();
    for n in 0..16 {
        let stream = format!("s{n}");
        let path = format!("live/{stream}");
        wait_until("it is somewhere", PATIENCE, || origins.iter().any(|origin| origin.tracks(&path) == 1));
        let seen =
            Viewers::start(&proxy.rtc_url("whep", "live", &stream), 1, Duration::from_secs(1), true).finish();
        assert_eq!((seen.connected, seen.lost, seen.deleted), (1, 0, 1), "{stream}: {seen:?}");
    }
    assert!(origins.iter().all(|origin| !origin.sessions(true).is_empty()), "both are used");
    drop(publishers);
    wait_until("the sessions are freed", TIMEOUT.0 + SLACK, || proxy.rtc_sessions().is_empty());
}
