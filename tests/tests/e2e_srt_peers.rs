//! The SRT peers, with no proxy between: what they show through the proxy must hold without it.

use srs_proxy_tests::peers::lossy::{Faults, Lossy};
use srs_proxy_tests::peers::packaged;
use srs_proxy_tests::peers::process::{Process, command};
use srs_proxy_tests::peers::srt::{Player, SECURED, SrtOrigin, hex, playing, position, publishing, url};
use srs_proxy_tests::peers::srt_by_hand::{ask_cookie, receive, socket};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers, connected, refusal};
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use srs_proxy_tests::srt::wire::Handshake;
use std::time::Duration;

/// Bytes of a stream that are looked at: some seconds of the film.
const ENOUGH: u64 = 400_000;

/// The reference library's own reason for a passphrase that does not fit.
const BAD_SECRET: u64 = 10;

#[test]
fn srt_live_transmit_plays_what_ffmpeg_publishes() {
    let dir = TempDir::new("film");
    let film = dir.path().join("film.ts");
    packaged::transport_stream(&film);
    let origin = SrtOrigin::start();
    let publisher = ffmpeg::Publisher::start(&url(origin.addr(), &publishing("live/x"), ""));
    let played = Player::start(&url(origin.addr(), &playing("live/x"), "")).play(ENOUGH);
    assert!(position(&std::fs::read(film).expect("the film"), &played).is_some(), "every byte in its place");
    assert_eq!(ffmpeg::codecs(&url(origin.addr(), &playing("live/x"), "")), ["aac", "h264"]);
    drop(publisher);
}

#[test]
fn gstreamer_plays_too() {
    let origin = SrtOrigin::start();
    let _publisher = ffmpeg::Publisher::start(&url(origin.addr(), &publishing("live/x"), ""));
    let mut play = command("gst-launch-1.0");
    play.args(["-q", "srtsrc", &format!("uri=srt://{}?mode=caller", origin.addr()), "num-buffers=100"]);
    play.args([&format!("streamid={}", playing("live/x")), "!", "fakesink"]);
    Process::start("gst-launch", &mut play).wait_end(PATIENCE).success();
}

#[test]
fn callers_are_connected_as_negotiated_and_see_every_message() {
    let origin = SrtOrigin::with(&["--latency", "200", "--passphrase", "0123456789ab", "--key-bytes", "32"]);
    let secret = |caller: Caller| caller.with("passphrase", "0123456789ab").with("key_bytes", 32);
    let publisher = Caller::publisher("p", origin.addr(), publishing("live/x")).with("latency", 300);
    let player = Caller::player("v", origin.addr(), playing("live/x"));
    let mut callers = Callers::start(&[secret(publisher), secret(player)]);
    for seen in callers.wait_connected() {
        // The larger of what the two sides want.
        let latency = if seen["name"] == "p" { 300 } else { 200 };
        assert_eq!((&seen["peer_latency"], &seen["sends_key"]), (&latency.into(), &SECURED.into()), "{seen}");
    }
    callers.wait("flows", 1);
    let ends = callers.leave();
    assert!(ends.len() == 2 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
    wait_until("the origin has noticed", PATIENCE, || origin.open() == 0);
    let wrong = Caller::player("w", origin.addr(), playing("live/x")).with("passphrase", "wrong passphrase");
    assert_eq!(refusal(wrong).code, BAD_SECRET);
}

#[test]
fn the_origin_refuses_by_a_code_and_reports_every_stream_id() {
    let origin = SrtOrigin::start();
    let long = "a/".repeat(256);
    for stream_id in ["live/deny", "100%25/ü", &long] {
        let caller = Caller::player("c", origin.addr(), stream_id);
        if stream_id.contains("deny") {
            assert_eq!(refusal(caller).code, 1403);
            Player::start(&url(origin.addr(), stream_id, "")).wait_rejection();
        } else {
            connected(caller);
        }
        wait_until("the origin tells the stream id", PATIENCE, || {
            origin.stream_ids().last() == Some(&hex(stream_id.as_bytes()))
        });
    }
}

#[test]
fn callers_can_share_a_port_and_speak_ipv6() {
    let origin = SrtOrigin::with(&["--host", "::1"]);
    let port = srs_proxy_tests::peers::ports::free_port();
    let callers = [publishing("live/x"), playing("live/x"), playing("live/x")];
    let callers = callers.map(|id| Caller::player("c", origin.addr(), id).with("bind", port));
    let callers = [callers[0].clone().with("publishes", true), callers[1].clone(), callers[2].clone()];
    let mut callers = Callers::start(&callers);
    callers.wait_connected();
    callers.wait("flows", 2);
    let hooks = origin.events("hook");
    assert!(hooks.iter().all(|hook| hook["peer"] == format!("[::1]:{port}")), "{hooks:?}");
}

#[test]
fn a_bad_path_loses_and_delays_and_the_library_recovers() {
    let origin = SrtOrigin::start();
    let faults = Faults { lost: 50, late: 50, twice: 10, by: Duration::from_millis(15), seed: 1 };
    let path = Lossy::start(origin.addr(), faults);
    let publisher = Caller::publisher("p", path.addr(), publishing("live/x")).with("latency", 500);
    let player = Caller::player("v", path.addr(), playing("live/x")).with("latency", 500);
    let mut callers = Callers::start(&[publisher, player]);
    callers.wait("flows", 1);
    wait_until("much has passed", PATIENCE, || path.seen().0 > 1000);
    let (_, lost, late) = path.seen();
    assert!(lost > 20 && late > 20, "{:?}", path.seen());
    let ends = callers.leave();
    assert!(ends.len() == 2 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
}

#[test]
fn packets_written_by_hand_are_understood() {
    let origin = SrtOrigin::start();
    let caller = socket(origin.addr());
    let answer = ask_cookie(&caller, 77);
    assert_eq!((answer.to, answer.version, answer.kind), (77, 5, 1));
    caller.send(&Handshake::conclusion(77, answer.cookie, b"live/by hand").bytes()).expect("it is sent");
    let accepted = receive(&caller);
    assert_eq!((accepted.to, accepted.kind), (77, 0xFFFF_FFFF), "{accepted:?}");
    origin.wait("accepted", "live/by hand", false);
}
