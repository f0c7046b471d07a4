//! Live streams over HTTP through the proxy, with real origins and players, and with viewers that leave or do not read.

use srs_proxy_tests::peers::http::{Connection, Framing, Left, Request};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Step};
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::packets::compare;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::ts_origin::TsOrigin;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, packaged, wait_until};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets a player takes: some seconds of the film.
const PACKETS: usize = 300;

/// How many of them must be shared by two players that start at nearly the same time.
const SHARED: usize = 150;

/// How soon an origin is left by a viewer that leaves, on a busy machine: long before anything is given up for silence.
const SOON: Duration = Duration::from_secs(3);

/// Bytes of a stream that are looked at.
const START: usize = 500_000;

/// Far more than a proxy and the kernel may keep for one viewer, bytes.
const FLOOD: usize = 64 * 1024 * 1024;

/// What one viewer that does not read may make the origin send: what the kernel's buffers hold, bytes.
const HELD: u64 = 24 * 1024 * 1024;

/// What a viewer that does not read may cost the proxy, KiB.
const STALL_COST_KIB: u64 = 8 * 1024;

/// Long requests that wait behind the first.
const WAITING: usize = 10;

/// Viewers that go on while one does not.
const VIEWERS: usize = 50;

/// What each of them takes, bytes.
const TAKEN: usize = 2 * 1024 * 1024;

#[track_caller]
fn watch(proxy: &Proxy, target: &str) -> (Connection, Left) {
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    connection.send_request(&Request::get(target)).expect("it is sent");
    let (response, framing) = connection.head("GET").expect("a head");
    assert_eq!(response.status, 200);
    (connection, framing.into())
}

/// A stream that comes as fast as it is taken.
fn flood() -> Answer {
    Answer::new(200, "OK").field("Connection", "close").bodiless().then(Step::Flood(vec![7; 65536]))
}

/// A stream in which every place can be told from every other.
fn numbers() -> Vec<u8> {
    (0..FLOOD as u64 / 8).flat_map(u64::to_be_bytes).collect()
}

#[test]
fn flv_of_node_media_server_is_the_same_through_the_proxy_as_directly() {
    let origin = NodeMediaServer::start();
    let proxy = Proxy::start();
    proxy.register_serving("nms", "1", origin.rtmp(), &[("http", origin.http())]);
    let _publisher = ffmpeg::Publisher::start(&proxy.url("live/x?token=t"));
    let direct = ffmpeg::PacketPlayer::start(&format!("http://{}/live/x.flv", origin.http()), PACKETS);
    let proxied = ffmpeg::packets(&proxy.http_url("live/x.flv?token=t"), PACKETS);
    assert!(compare(&direct.finish(), &proxied).expect("the same packets").packets >= SHARED);
    let expected = ffmpeg::codecs(&format!("http://{}/live/x.flv", origin.http()));
    assert_eq!(ffmpeg::codecs(&proxy.http_url("live/x.flv")), expected);
}

#[test]
fn flv_can_be_pushed_by_post_and_watched() {
    let origin = NodeMediaServer::start();
    let proxy = Proxy::start();
    proxy.register_serving("nms", "1", origin.rtmp(), &[("http", origin.http())]);
    let _publisher = ffmpeg::Publisher::start_post(&proxy.http_url("live/pushed.flv"));
    assert_eq!(ffmpeg::codecs(&proxy.http_url("live/pushed.flv")), ["aac", "h264"]);
    assert_eq!(ffmpeg::codecs(&proxy.url("live/pushed")), ["aac", "h264"]);
}

#[test]
fn http_ts_of_ffmpeg_arrives_byte_for_byte() {
    let dir = TempDir::new("film");
    let film = dir.path().join("film.ts");
    packaged::transport_stream(&film);
    let mut origin = TsOrigin::start();
    let proxy = Proxy::before(origin.http(), &[]);
    let (mut viewer, mut left) = watch(&proxy, "/live/x.ts");
    let start = viewer.body_start(&mut left, START).expect("a stream");
    assert!(fs::read(film).expect("the film").starts_with(&start));
    drop(viewer);
    wait_until("it ends with its viewer", PATIENCE, || !origin.is_running());
}

#[test]
fn http_ts_of_ffmpeg_plays() {
    let origin = TsOrigin::start();
    let proxy = Proxy::before(origin.http(), &[]);
    assert_eq!(ffmpeg::codecs(&proxy.http_url("live/x.ts")), ["aac", "h264"]);
}

#[test]
fn a_live_stream_in_chunks_arrives_whole_and_ends_with_its_origin() {
    let pieces: Vec<Vec<u8>> = (0..200_u32).map(|n| vec![n as u8; 1 + n as usize * 37]).collect();
    let chunks: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
    let origin = HttpOrigin::answering(Answer::new(200, "OK").chunks(&chunks, &[]));
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in ["/live/x.flv", "/live/x.ts"] {
        let mut connection = Connection::open(proxy.http()).expect("a connection");
        let answer = connection.ask(&Request::get(target)).expect("an answer");
        assert!(answer.body.0 == pieces.concat(), "{target}: {:?}", answer.body);
    }
}

#[test]
fn a_viewer_that_leaves_frees_the_origin_at_once_whatever_it_waited_for() {
    let ok = || Answer::new(200, "OK").field("Content-Type", "video/x-flv");
    let start = Step::Send(b"start".to_vec());
    let silent = [
        ("no answer yet", "/live/x.flv", Answer::silence()),
        ("no answer to a segment yet", "/live/x.m4s", Answer::silence()),
        ("no playlist yet", "/live/x.m3u8", Answer::silence()),
        ("half a head", "/live/x.flv", Answer::raw(b"HTTP/1.1 200 OK\r\nConte").then(Step::Hold)),
        ("a head alone", "/live/x.flv", ok().endless(b"")),
        ("a silent stream", "/live/x.flv", ok().endless(b"start")),
        ("a silent stream of TS", "/live/x.ts", ok().endless(b"start")),
        (
            "silent chunks",
            "/live/x.flv",
            ok().chunked().then(Step::Send(b"5\r\nstart\r\n".to_vec())).then(Step::Hold),
        ),
        (
            "silent chunks of a file",
            "/live/x.mp4",
            ok().chunked().then(Step::Send(b"5\r\nst".to_vec())).then(Step::Hold),
        ),
        ("a silent length", "/live/x.mp4", ok().length(1000).then(start.clone()).then(Step::Hold)),
        ("half a playlist", "/live/x.m3u8", ok().length(1000).then(start).then(Step::Hold)),
        ("a flood", "/live/x.flv", flood()),
    ];
    for (what, target, answer) in silent {
        let origin = HttpOrigin::answering(answer);
        let proxy = Proxy::before(origin.addr(), &[]);
        let mut connection = Connection::open(proxy.http()).expect("a connection");
        connection.send_request(&Request::get(target)).expect("it is sent");
        origin.wait_request("the request", |_| true);
        if target.ends_with(".flv") && what.contains("stream") {
            let (_, framing) = connection.head("GET").expect("a head");
            assert_eq!(framing, Framing::UntilClose);
            connection.body_start(&mut framing.into(), 5).expect("the start");
        }
        assert_eq!(origin.open(), 1, "{what}");
        let left = Instant::now();
        drop(connection);
        wait_until(&format!("the origin is left: {what}"), PATIENCE, || origin.open() == 0);
        assert!(left.elapsed() < SOON, "{what}: {:?}", left.elapsed());
        proxy.wait_quiet();
    }
}

#[test]
fn a_viewer_that_leaves_while_requests_of_its_wait_is_noticed_as_soon() {
    let ok = || Answer::new(200, "OK").field("Content-Type", "video/mp4");
    let cases = [
        ("no answer yet", Answer::silence()),
        ("a silent length", ok().length(1000).then(Step::Send(b"start".to_vec())).then(Step::Hold)),
        ("silent chunks", ok().chunked().then(Step::Send(b"5\r\nstart\r\n".to_vec())).then(Step::Hold)),
        ("a long body", ok().length(1 << 40).then(Step::Flood(vec![7; 65536]))),
    ];
    for (what, answer) in cases {
        let origin = HttpOrigin::answering(answer);
        let proxy = Proxy::before(origin.addr(), &[]);
        let mut connection = Connection::open_narrow(proxy.http()).expect("a connection");
        connection.send_request(&Request::get("/live/x.mp4")).expect("it is sent");
        origin.wait_request("the request", |_| true);
        // More than the proxy takes before it has answered the first.
        let waiting = Request::get("/live/y.mp4").field("X-Long", &"x".repeat(8000)).bytes().repeat(WAITING);
        connection.send(&waiting).expect("it is sent");
        let left = Instant::now();
        drop(connection);
        wait_until(&format!("the origin is left: {what}"), PATIENCE, || origin.open() == 0);
        assert!(left.elapsed() < SOON, "{what}: {:?}", left.elapsed());
        proxy.wait_quiet();
    }
}

#[test]
fn a_viewer_that_stops_reading_stops_its_own_origin_connection_only() {
    let all = Arc::new(numbers());
    let sent = Arc::clone(&all);
    let origin = HttpOrigin::start(move |seen| match &seen.target[..] {
        "/live/slow.flv" => Answer::new(200, "OK").until_close(&sent),
        _ => flood(),
    });
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    let mut slow = Connection::open_narrow(proxy.http()).expect("a connection");
    slow.send_request(&Request::get("/live/slow.flv")).expect("it is sent");
    let (mut response, framing) = slow.head("GET").expect("a head");
    let start = proxy.usage();

    let others: Vec<_> = (0..VIEWERS)
        .map(|_| {
            let (mut connection, mut left) = watch(&proxy, "/live/x.flv");
            std::thread::spawn(move || connection.body_start(&mut left, TAKEN).map(|taken| taken.len()))
        })
        .collect();
    for other in others {
        let taken = other.join().expect("no panic").expect("the stream goes on");
        assert!(taken >= TAKEN);
    }
    let grown = proxy.usage().rss_kib.saturating_sub(start.rss_kib);
    assert!(grown < STALL_COST_KIB, "{grown} KiB more");
    let sent = origin.records()[0].sent;
    assert!(sent < HELD, "the origin could send {sent} bytes");

    // When it goes on, nothing is missing.
    slow.widen();
    slow.body(&mut response, framing).expect("the rest, to its end");
    assert!(response.body.0 == *all, "{:?}", response.body);
}

#[test]
fn viewers_come_and_go_and_nothing_is_left_of_them() {
    let origin = HttpOrigin::answering(Answer::new(200, "OK").endless(b"start"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let round = || {
        let viewers: Vec<_> = (0..VIEWERS).map(|_| watch(&proxy, "/live/x.flv")).collect();
        wait_until("all are served", PATIENCE, || origin.open() == VIEWERS);
        drop(viewers);
        wait_until("all are gone", PATIENCE, || origin.open() == 0);
        proxy.wait_quiet();
    };
    round();
    let before = proxy.usage();
    (0..5).for_each(|_| round());
    let after = proxy.usage();
    assert_eq!((after.descriptors, after.threads), (before.descriptors, before.threads));
    assert!(after.rss_kib < before.rss_kib + STALL_COST_KIB, "{before:?} {after:?}");
}
