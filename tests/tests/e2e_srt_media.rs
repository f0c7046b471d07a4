//! SRT through the proxy: what is published is what is played, with every setting that callers and origins agree on.

use rustix::process::Signal;
use srs_proxy_tests::peers::lossy::{Faults, Lossy};
use srs_proxy_tests::peers::packaged;
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::process::{Process, command};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::srt::{Player, SECURED, SrtOrigin, playing, position, publishing, url};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers, connected, refusal};
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a stream that are looked at: some seconds of the film.
const ENOUGH: u64 = 400_000;

/// Long enough for the reference library, which wants ten characters.
const SECRET: &str = "0123456789ab";

/// The reference library's own reason for congestion controls that do not fit.
const BAD_CONGESTION: u64 = 13;

/// Its reason of a listener that is about to end.
const CLOSING: u64 = 7;

/// A `PROXY_SRT_TIMEOUT`, and the least silence of the default one.
const SHORT: &str = "3s";
const DEFAULT: Duration = Duration::from_secs(9);

/// Waits until the proxy has no more than so many descriptors; sooner than without the setting, of somebody who went then.
#[track_caller]
fn wait_freed(proxy: &Proxy, descriptors: usize, gone: Instant) {
    let left = DEFAULT.saturating_sub(gone.elapsed());
    wait_until("what it left behind is freed", left, || proxy.usage().descriptors <= descriptors);
}

/// A publisher `p` and a player `v` of `live/x`, with further options on both.
fn pair(at: SocketAddr, more: impl Fn(Caller) -> Caller) -> [Caller; 2] {
    [Caller::publisher("p", at, publishing("live/x")), Caller::player("v", at, playing("live/x"))].map(more)
}

/// Waits until the player of such a pair has its stream for some time, ends both, and checks that nothing was missing.
#[track_caller]
fn assert_whole(mut callers: Callers) {
    callers.wait_flow(&["v"], 5);
    let ends = callers.leave();
    assert!(ends.len() == 2 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
}

/// Publishes the film by ffmpeg and plays it by srt-live-transmit, both with these options.
#[track_caller]
fn film_comes_through(at: SocketAddr, options: &str) {
    let dir = TempDir::new("film");
    let film = dir.path().join("film.ts");
    packaged::transport_stream(&film);
    let publisher = ffmpeg::Publisher::start(&url(at, &publishing("live/x"), options));
    let played = Player::start(&url(at, &playing("live/x"), options)).play(ENOUGH);
    let film = std::fs::read(film).expect("the film");
    assert!(position(&film, &played).is_some_and(|at| at % 188 == 0), "every byte in its place");
    drop(publisher);
}

#[test]
fn srt_live_transmit_plays_every_byte_that_ffmpeg_publishes() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    film_comes_through(proxy.srt(), "");
}

#[test]
fn gstreamer_publishes() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    let dir = TempDir::new("film");
    let film = dir.path().join("film.ts");
    packaged::transport_stream(&film);
    let mut publish = command("gst-launch-1.0");
    publish.args(["-q", "filesrc", &format!("location={}", film.display()), "!", "tsparse"]);
    publish.args([
        "set-timestamps=true",
        "alignment=7",
        "!",
        "srtsink",
        "wait-for-connection=true",
        "sync=true",
    ]);
    publish.arg(format!("uri=srt://{}?mode=caller", proxy.srt()));
    publish.arg(format!("streamid={}", publishing("live/x")));
    let publisher = Process::start("gst-launch", &mut publish);
    let played = Player::start(&url(proxy.srt(), &playing("live/x"), "")).play(ENOUGH);
    let film = std::fs::read(film).expect("the film");
    assert!(position(&film, &played).is_some(), "every byte in its place");
    drop(publisher);
}

#[test]
fn ffmpeg_ffprobe_and_gstreamer_play() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    let publisher = ffmpeg::Publisher::start(&url(proxy.srt(), &publishing("live/x"), ""));
    let play = url(proxy.srt(), &playing("live/x"), "");
    assert_eq!(ffmpeg::codecs(&play), ["aac", "h264"]);
    ffmpeg::decode_for(&play, 3, PATIENCE).success();
    let mut gstreamer = command("gst-launch-1.0");
    gstreamer.args(["-q", "srtsrc", &format!("uri=srt://{}?mode=caller", proxy.srt()), "num-buffers=100"]);
    gstreamer.args([&format!("streamid={}", playing("live/x")), "!", "fakesink"]);
    Process::start("gst-launch", &mut gstreamer).wait_end(PATIENCE).success();
    drop(publisher);
    wait_until("goodbyes reach the origin", PATIENCE, || origin.open() == 0);
}

#[test]
fn encrypted_streams_come_through_with_keys_of_every_length() {
    for key_bytes in ["16", "24", "32"] {
        let origin = SrtOrigin::with(&["--passphrase", SECRET, "--key-bytes", key_bytes]);
        let proxy = Proxy::before_srt(origin.addr(), &[]);
        film_comes_through(proxy.srt(), &format!("&passphrase={SECRET}&pbkeylen={key_bytes}"));
        for accepted in origin.events("accepted") {
            let keys = (&accepted["receives_key"], &accepted["sends_key"]);
            assert_eq!(keys, (&SECURED.into(), &SECURED.into()), "{accepted}");
            assert_eq!(accepted["key_bytes"].to_string(), key_bytes, "{accepted}");
        }
    }
}

#[test]
fn keys_that_change_while_a_stream_runs_come_through() {
    let origin = SrtOrigin::with(&["--passphrase", SECRET]);
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    // Another key each half second.
    let mut callers = Callers::start(&pair(proxy.srt(), |caller| {
        caller.with("passphrase", SECRET).with("key_bytes", 16).with("rekey", 50)
    }));
    callers.wait_flow(&["v"], 15);
    assert_whole(callers);
}

#[test]
fn a_wrong_or_missing_passphrase_is_refused_as_without_the_proxy() {
    let origin = SrtOrigin::with(&["--passphrase", SECRET]);
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    for passphrase in [Some("another secret"), None] {
        let refused = [origin.addr(), proxy.srt()].map(|at| {
            let caller = Caller::player("v", at, playing("live/x"));
            refusal(passphrase.into_iter().fold(caller, |caller, secret| caller.with("passphrase", secret)))
                .code
        });
        assert_eq!(refused[0], refused[1], "{passphrase:?}");
    }
    assert_eq!(origin.open(), 0);
}

#[test]
fn latencies_are_negotiated_end_to_end() {
    let cases = [("120", 120), ("120", 400), ("700", 250)];
    for (wanted, latency) in cases {
        let origin = SrtOrigin::with(&["--latency", wanted]);
        let proxy = Proxy::before_srt(origin.addr(), &[]);
        let seen = [origin.addr(), proxy.srt()].map(|at| {
            let caller = Caller::player("v", at, playing("live/x")).with("latency", latency);
            let (callers, seen) = connected(caller);
            wait_until("the origin accepts", PATIENCE, || origin.open() > 0);
            let accepted = origin.events("accepted").pop().expect("it is accepted");
            callers.leave();
            wait_until("it is gone", PATIENCE, || origin.open() == 0);
            [&seen, &accepted].map(|side| (side["latency"].as_u64(), side["peer_latency"].as_u64()))
        });
        assert_eq!(seen[0], seen[1], "origin {wanted}, caller {latency}");
    }
}

#[test]
fn congestion_control_and_packet_filters_are_negotiated_end_to_end() {
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("live", &[("congestion", "live")]),
        ("file", &[("congestion", "file")]),
        ("live", &[("congestion", "file")]),
        ("live", &[("filter", "fec,cols:10,rows:5,arq:onreq")]),
    ];
    for (wanted, options) in cases {
        let origin = SrtOrigin::with(&["--congestion", wanted]);
        let proxy = Proxy::before_srt(origin.addr(), &[]);
        let with = |caller: Caller| {
            options.iter().fold(caller, |caller, (option, value)| caller.with(option, *value))
        };
        if options == [("congestion", "file")] && wanted == "live" {
            let codes = [origin.addr(), proxy.srt()]
                .map(|at| refusal(with(Caller::player("v", at, playing("live/x")))).code);
            assert_eq!(codes, [BAD_CONGESTION; 2]);
            continue;
        }
        let agreed = [origin.addr(), proxy.srt()].map(|at| {
            let mut callers = Callers::start(&pair(at, with));
            let seen = callers.wait_connected();
            assert_whole(callers);
            wait_until("they are gone", PATIENCE, || origin.open() == 0);
            let accepted = origin.events("accepted").pop().expect("it is accepted");
            [&seen[0], &accepted].map(|side| (side["congestion"].clone(), side["filter"].clone()))
        });
        assert_eq!(agreed[0], agreed[1], "origin {wanted}, callers {options:?}");
        let [(congestion, filter), _] = &agreed[1];
        assert!(*congestion == wanted && (*filter == "") == (options[0].0 == "congestion"), "{agreed:?}");
    }
}

#[test]
fn a_path_that_loses_is_recovered_from_as_it_is_directly() {
    let faults = Faults { lost: 50, late: 50, twice: 10, by: Duration::from_millis(10), seed: 7 };
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    // The path between the caller and whom it calls is the same, and so is the latency.
    let ends = [origin.addr(), proxy.srt()].map(|at| {
        let path = Lossy::start(at, faults);
        let pair = pair(path.addr(), |caller| caller.with("latency", 800).with("timeout", 10_000));
        let mut callers = Callers::start(&pair);
        callers.wait_connected();
        wait_until("much has passed", PATIENCE, || path.seen().0 > 3000);
        callers.wait_flow(&["v"], 1);
        let seen = callers.leave();
        assert!(seen.len() == 2 && seen.iter().all(|end| end["gaps"] == 0), "{seen:?}");
        wait_until("they are gone", PATIENCE, || origin.open() == 0);
        seen.into_iter().find(|end| end["name"] == "p").expect("the publisher's end")
    });
    for end in &ends {
        // A tenth is lost or so late that it is asked for, on a busy machine again and again.
        let (sent, again) = (end["messages"].as_u64().unwrap_or(0), end["again"].as_u64().unwrap_or(0));
        assert!(end["dropped"] == 0 && (sent / 50..=sent / 2).contains(&again), "{ends:?}");
    }
}

#[test]
fn loss_and_reordering_on_both_sides_of_the_proxy_are_recovered() {
    for seed in 1..=2 {
        let faults = Faults { lost: 50, late: 50, twice: 20, by: Duration::from_millis(15), seed };
        let origin = SrtOrigin::start();
        let far = Lossy::start(origin.addr(), faults);
        let proxy = Proxy::before_srt(far.addr(), &[]);
        let near = Lossy::start(proxy.srt(), Faults { seed: seed + 100, ..faults });
        // What is lost on a bad path may be lost again; a handshake has the time it takes.
        let pair = pair(near.addr(), |caller| caller.with("latency", 800).with("timeout", 10_000));
        let mut callers = Callers::start(&pair);
        callers.wait_connected();
        wait_until("much has passed", PATIENCE, || near.seen().0 > 2000 && far.seen().0 > 2000);
        for path in [&near, &far] {
            let (_, lost, late) = path.seen();
            assert!(lost > 50 && late > 50, "{:?}", path.seen());
        }
        assert_whole(callers);
        assert_eq!(origin.events("accepted").len(), 2, "a handshake that is repeated is one connection");
    }
}

#[test]
fn callers_and_origins_may_speak_ipv6() {
    for (here, there) in [("127.0.0.1", "::1"), ("::1", "127.0.0.1"), ("::1", "::1")] {
        let origin = SrtOrigin::with(&["--host", there]);
        let at = SocketAddr::new(here.parse().expect("an address"), free_port());
        let _proxy = Proxy::before_srt(origin.addr(), &[("PROXY_SRT_SERVER", &at.to_string())]);
        let mut callers = Callers::start(&pair(at, |caller| caller));
        callers.wait_connected();
        assert_whole(callers);
    }
}

#[test]
fn callers_at_one_port_are_told_apart() {
    let origins = [SrtOrigin::start(), SrtOrigin::start()];
    let proxy = Proxy::start();
    proxy.register_srt("a", origins[0].addr());
    proxy.register_srt("b", origins[1].addr());
    let port = free_port();
    let names = ["0", "1", "2", "3"];
    let streams = names.map(|name| format!("live/{name}"));
    let at = proxy.srt();
    let publishers = names.iter().zip(&streams);
    let publishers =
        publishers.map(|(name, stream)| Caller::publisher(&format!("p{name}"), at, publishing(stream)));
    let players = names.iter().zip(&streams);
    let players = players.map(|(name, stream)| Caller::player(name, at, playing(stream)));
    let callers: Vec<_> = publishers.chain(players).map(|caller| caller.with("bind", port)).collect();
    let mut callers = Callers::start(&callers);
    let connected = callers.wait_connected();
    let local = format!("127.0.0.1:{port}");
    assert!(connected.iter().all(|caller| caller["local"] == local.as_str()), "{connected:?}");
    callers.wait_flow(&names, 3);
    let ends = callers.leave();
    assert!(ends.len() == 8 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
}

#[test]
fn a_publisher_that_vanishes_is_freed_in_time_and_can_come_back_at_once() {
    let origin = SrtOrigin::with(&["--idle", "60000"]);
    let proxy = Proxy::before_srt(origin.addr(), &[("PROXY_SRT_TIMEOUT", SHORT)]);
    proxy.wait_quiet();
    let before = proxy.usage().descriptors;
    let publisher = url(proxy.srt(), &publishing("live/x"), "");
    let first = ffmpeg::Publisher::start(&publisher);
    first.kill();
    let gone = Instant::now();
    let again = ffmpeg::Publisher::start(&publisher);
    Player::start(&url(proxy.srt(), &playing("live/x"), "")).play(ENOUGH / 4);
    wait_freed(&proxy, before + 1, gone);
    again.kill();
    let gone = Instant::now();
    wait_freed(&proxy, before, gone);
}

#[test]
fn goodbyes_of_either_side_end_both() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    proxy.wait_quiet();
    let before = proxy.usage().descriptors;
    let mut callers = Callers::start(&pair(proxy.srt(), |caller| caller));
    callers.wait_flow(&["v"], 1);
    callers.leave();
    wait_until("the origin is told", PATIENCE, || origin.open() == 0);
    wait_until("the proxy is free of them", PATIENCE, || proxy.usage().descriptors <= before);
}

#[test]
fn callers_of_an_origin_that_dies_are_freed_in_time() {
    let mut origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[("PROXY_SRT_TIMEOUT", SHORT)]);
    proxy.wait_quiet();
    let before = proxy.usage().descriptors;
    let mut callers = Callers::start(&pair(proxy.srt(), |caller| caller));
    callers.wait_flow(&["v"], 1);
    origin.kill();
    let gone = Instant::now();
    callers.wait("closed", 2);
    wait_freed(&proxy, before, gone);
}

/// A proxy that has long to drain, and callers whose streams flow through it: so many pairs.
fn lasting(workers: &str, pairs: usize) -> (SrtOrigin, Proxy, Callers, Vec<String>) {
    let origin = SrtOrigin::start();
    let more = [("PROXY_GRACE_QUIT_TIMEOUT", "60s"), ("PROXY_FORCE_QUIT_TIMEOUT", "90s")];
    let proxy = Proxy::with(&[("PROXY_WORKERS", workers), more[0], more[1]]);
    proxy.register_srt("origin", origin.addr());
    let names: Vec<_> = (0..pairs).map(|pair| pair.to_string()).collect();
    let callers: Vec<_> = names
        .iter()
        .flat_map(|name| {
            let stream = format!("live/{name}");
            let publisher = Caller::publisher(&format!("p{name}"), proxy.srt(), publishing(&stream));
            [publisher.with("rate", 50), Caller::player(name, proxy.srt(), playing(&stream))]
        })
        .collect();
    let mut callers = Callers::start(&callers);
    callers.wait_flow(&Vec::from_iter(names.iter().map(String::as_str)), 1);
    (origin, proxy, callers, names)
}

#[test]
fn a_drain_waits_for_the_last_caller_and_takes_no_other() {
    for (workers, pairs) in [("1", 1), ("4", 8)] {
        let (_origin, mut proxy, mut callers, names) = lasting(workers, pairs);
        proxy.signal(Signal::TERM);
        wait_until("the proxy drains", PATIENCE, || TcpStream::connect(proxy.rtmp()).is_err());
        assert_eq!(refusal(Caller::player("late", proxy.srt(), playing("live/0"))).code, CLOSING);
        callers.wait_flow(&Vec::from_iter(names.iter().map(String::as_str)), 3);
        assert!(proxy.is_running());
        let ends = callers.leave();
        assert!(ends.len() == 2 * pairs && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
        assert_eq!(proxy.wait_end(PATIENCE).status.code(), Some(0));
    }
}

#[test]
fn callers_and_origins_hear_at_once_that_the_process_ends() {
    let (origin, mut proxy, mut callers, _) = lasting("2", 4);
    proxy.signal(Signal::TERM);
    wait_until("the proxy drains", PATIENCE, || TcpStream::connect(proxy.rtmp()).is_err());
    assert_eq!((origin.open(), callers.events("closed").len()), (8, 0));
    proxy.signal(Signal::TERM);
    let ended = Instant::now();
    // By themselves they would find out after five seconds.
    callers.wait("closed", 8);
    wait_until("the origin has heard it", PATIENCE, || origin.open() == 0);
    assert!(ended.elapsed() < Duration::from_secs(4), "{:?}", ended.elapsed());
    proxy.wait_end(PATIENCE);
}

#[test]
fn each_session_has_a_line_at_its_begin_and_one_at_its_end_and_they_name_it() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[("PROXY_WORKERS", "1")]);
    let mut callers = Callers::start(&pair(proxy.srt(), |caller| caller));
    callers.wait_flow(&["v"], 1);
    callers.leave();
    let names = ["publish at", "play at"].map(|verb| {
        wait_until("both lines", PATIENCE, || {
            let log = proxy.log();
            let begun = log.lines().find(|line| line.contains(verb));
            begun.and_then(name).is_some_and(|name| {
                log.lines().any(|line| {
                    line.contains(&format!("{name} ")) && line.contains("ended; client 127.0.0.1:")
                })
            })
        });
        proxy.log().lines().find(|line| line.contains(verb)).and_then(name).map(str::to_owned)
    });
    assert_ne!(names[0], names[1], "two sessions of one socket");
}

/// What a log line calls a hub's session.
fn name(line: &str) -> Option<&str> {
    line.split(' ').find(|word| word.starts_with("conn=") && word.contains('.'))
}
