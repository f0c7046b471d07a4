//! What a client gets when something is wrong at the origin: at once, in a few words, and never half an answer as a
//! whole one.

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen, Step};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, wait_until};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What is decided without waiting for anybody takes no longer, on a busy machine: the shortest of the proxy's deadlines,
/// for an origin that takes no connection.
const AT_ONCE: Duration = Duration::from_millis(1500);

/// The proxy may try other origins, but not for longer than this in all.
const TRYING: Duration = Duration::from_secs(6);

/// How long an origin may take to begin its answer.
const ORIGIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Targets of every kind: live, playlist, segment, manifest.
const TARGETS: [&str; 6] =
    ["/live/x.flv", "/live/x.ts", "/live/x.m3u8", "/live/x-0.m4s", "/live/x.mpd", "/live/x.mp4?token=t"];

/// Nobody listens there.
fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

#[track_caller]
fn connect(proxy: &Proxy) -> Connection {
    Connection::open(proxy.http()).expect("a connection")
}

/// An error of the proxy's own: this status, a short text that names no address, open to pages of any site.
#[track_caller]
fn assert_refusal(answer: &Response, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("text/plain"), "{what}: {kind:?}");
    let text = answer.body.text();
    assert!((1..200).contains(&text.len()), "{what}: {text:?}");
    assert!(!text.contains(|letter: char| letter.is_ascii_digit()), "{what}: {text:?}");
    assert_eq!(answer.fields.all("access-control-allow-origin"), ["*"], "{what}");
}

#[test]
fn an_origin_that_is_down_is_502_at_once() {
    let proxy = Proxy::before(nowhere(), &[]);
    for target in TARGETS {
        let mut connection = connect(&proxy);
        let start = Instant::now();
        let answer = connection.ask(&Request::get(target)).expect("an answer");
        assert!(start.elapsed() < AT_ONCE, "{target}: {:?}", start.elapsed());
        assert_refusal(&answer, 502, target);
    }
}

#[test]
fn no_origin_is_503_at_once() {
    let proxy = Proxy::start();
    let ask_all = |what: &str| {
        for target in TARGETS {
            let start = Instant::now();
            let answer = connect(&proxy).ask(&Request::get(target)).expect("an answer");
            assert!(start.elapsed() < AT_ONCE, "{target}: {:?}", start.elapsed());
            assert_refusal(&answer, 503, &format!("{target}, {what}"));
        }
    };
    ask_all("none at all");
    proxy.register("origin", "1", nowhere());
    ask_all("none that serves HTTP");
}

#[test]
fn an_error_leaves_the_connection_usable() {
    let proxy = Proxy::start();
    let mut connection = connect(&proxy);
    assert_refusal(&connection.ask(&Request::get("/live/x.m4s")).expect("an answer"), 503, "no origin");
    let dead = nowhere();
    proxy.register_http("dead", dead);
    assert_refusal(&connection.ask(&Request::get("/live/x.m4s")).expect("an answer"), 502, "a dead origin");
    let head = connection.ask(&Request::new("HEAD", "/live/x.m4s")).expect("an answer");
    assert_eq!((head.status, head.body.len()), (502, 0));
    let origin = HttpOrigin::answering(Answer::ok("video/mp4", b"media"));
    proxy.register_http("dead", origin.addr());
    let answer = connection.ask(&Request::get("/live/y.m4s")).expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"));
}

#[test]
fn another_origin_is_tried_when_one_is_down() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp4", b"media"));
    let proxy = Proxy::before(origin.addr(), &[]);
    proxy.register_http("dead", nowhere());
    for n in 0..12 {
        let answer = connect(&proxy).ask(&Request::get(&format!("/live/s{n}.m4s"))).expect("an answer");
        assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"), "stream {n}");
    }
}

#[test]
fn an_origin_that_takes_no_connections_is_given_up() {
    // Its queue is full: the kernel answers no further request for a connection.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    full.listen(0).expect("a listener");
    let addr = full.local_addr().expect("its address").as_socket().expect("of IP");
    let in_queue: Vec<_> =
        std::iter::from_fn(|| TcpStream::connect_timeout(&addr, Duration::from_millis(250)).ok()).collect();
    assert!(!in_queue.is_empty());
    let proxy = Proxy::before(addr, &[]);
    let start = Instant::now();
    let answer = connect(&proxy).ask(&Request::get("/live/x.flv")).expect("an answer");
    assert!(start.elapsed() < TRYING, "{:?}", start.elapsed());
    assert_refusal(&answer, if answer.status == 504 { 504 } else { 502 }, "no connection");
}

#[test]
fn an_origin_that_does_not_answer_is_504_after_its_deadline() {
    let origin = HttpOrigin::answering(Answer::silence());
    let proxy = Proxy::before(origin.addr(), &[("PROXY_HTTP_ORIGIN_TIMEOUT", "1s")]);
    let mut waiting: Vec<_> = TARGETS
        .iter()
        .map(|target| {
            let (mut connection, start) = (connect(&proxy), Instant::now());
            connection.send_request(&Request::get(target)).expect("it is sent");
            (connection, target, start)
        })
        .collect();
    for (connection, target, start) in &mut waiting {
        let answer = connection.response("GET").expect("an answer");
        let waited = start.elapsed();
        assert!((ORIGIN_TIMEOUT..ORIGIN_TIMEOUT + AT_ONCE).contains(&waited), "{target}: {waited:?}");
        assert_refusal(&answer, 504, target);
    }
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
}

#[test]
fn a_stopped_origin_is_504_and_serves_again_when_it_goes_on() {
    let origin = Nginx::start();
    std::fs::create_dir_all(origin.files().join("live")).expect("a folder");
    std::fs::write(origin.files().join("live/x.ts"), "media").expect("a file");
    let proxy = Proxy::before(origin.http(), &[("PROXY_HTTP_ORIGIN_TIMEOUT", "1s")]);
    let request = Request::get("/live/x.ts");
    assert_eq!(connect(&proxy).ask(&request).expect("an answer").status, 200);
    origin.signal(Signal::STOP);
    let answer = connect(&proxy).ask(&request).expect("an answer");
    origin.signal(Signal::CONT);
    assert_refusal(&answer, 504, "stopped");
    assert_eq!(connect(&proxy).ask(&request).expect("an answer").status, 200);
}

#[test]
fn nonsense_from_the_origin_is_502() {
    let head = "HTTP/1.1 200 OK\r\n";
    let long_field = format!("{head}X-Long: {}\r\nContent-Length: 0\r\n\r\n", "x".repeat(300_000));
    let many_fields = format!("{head}{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(20_000));
    let nonsense: [(&str, &[u8]); 24] = [
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("binary", &[0x15, 3, 1, 0, 2, 2, 80, 0, 0, 0, 0]),
        ("nothing", b""),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("HTTP/2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HTTP/0.9", b"<html>media</html>"),
        ("no status", b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a status out of range", b"HTTP/1.1 999999 OK\r\nContent-Length: 0\r\n\r\n"),
        ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("a bare CR in a value", b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"),
        ("a NUL in a value", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("no colon", b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n"),
        ("a blank before the colon", b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nmedia"),
        ("an empty name", b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n"),
        ("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nmedia"),
        ("a signed length", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nmedia"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nmedia!"),
        ("too large a length", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nmedia"),
        (
            "a length and chunks",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("an unknown coding", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("a switch that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        ("too long a head", long_field.as_bytes()),
        ("too many fields", many_fields.as_bytes()),
    ];
    let answers = nonsense.map(|(what, bytes)| (what, Answer::raw(bytes).then(Step::Close)));
    for (what, answer) in answers {
        let origin = HttpOrigin::answering(answer);
        let proxy = Proxy::before(origin.addr(), &[]);
        let start = Instant::now();
        let answer = connect(&proxy).ask(&Request::get("/live/x.m4s")).expect("an answer");
        assert!(start.elapsed() < AT_ONCE, "{what}: {:?}", start.elapsed());
        assert_refusal(&answer, 502, what);
    }
}

#[test]
fn endless_interim_answers_are_not_read_for_ever() {
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1000);
    let origin = HttpOrigin::answering(Answer::raw(b"").then(Step::Flood(interim)));
    let proxy = Proxy::before(origin.addr(), &[("PROXY_HTTP_ORIGIN_TIMEOUT", "1s")]);
    let mut connection = connect(&proxy);
    connection.send_request(&Request::get("/live/x.m4s").version_10()).expect("it is sent");
    let answer = connection.response("GET").expect("an answer");
    assert!(matches!(answer.status, 502 | 504), "{answer:?}");
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
}

#[test]
fn a_body_that_is_cut_short_never_ends_well() {
    let send = |bytes: &[u8]| Step::Send(bytes.to_vec());
    let ok = || Answer::new(200, "OK").field("Content-Type", "video/mp4");
    let cut = [
        ("a length, closed", ok().length(1000).then(send(b"media")).then(Step::Close)),
        ("a length, reset", ok().length(1000).then(send(b"media")).then(Step::Reset)),
        ("a length, nothing yet", ok().length(1000).then(Step::Close)),
        ("chunks, in a chunk", ok().chunked().then(send(b"64\r\nmedia")).then(Step::Close)),
        ("chunks, between two", ok().chunked().then(send(b"5\r\nmedia\r\n")).then(Step::Close)),
        ("chunks, in the last", ok().chunked().then(send(b"5\r\nmedia\r\n0\r\n")).then(Step::Close)),
        ("chunks, reset", ok().chunked().then(send(b"5\r\nmedia\r\n")).then(Step::Reset)),
        ("a chunk of no number", ok().chunked().then(send(b"5\r\nmedia\r\nxyz\r\nmore\r\n0\r\n\r\n"))),
        ("a chunk too large to be", ok().chunked().then(send(b"fffffffffffffffff\r\nmedia"))),
        ("a chunk longer than it says", ok().chunked().then(send(b"3\r\nmedia\r\n0\r\n\r\n"))),
    ];
    for (what, answer) in cut {
        let origin = HttpOrigin::answering(answer);
        let proxy = Proxy::before(origin.addr(), &[]);
        for target in ["/live/x.m4s", "/live/x.flv"] {
            let mut connection = connect(&proxy);
            connection.send_request(&Request::get(target)).expect("it is sent");
            let head = connection.head("GET");
            let (mut response, framing) = head.unwrap_or_else(|why| panic!("{what}, {target}: {why}"));
            if response.status != 200 {
                // It was known before the head was passed on.
                assert_eq!(response.status, 502, "{what}, {target}");
                continue;
            }
            let chunked_live = target.ends_with(".flv") && what.contains("chunk");
            let end = connection.body(&mut response, framing);
            let kind = end.as_ref().map_err(std::io::Error::kind);
            let cut = matches!(
                kind,
                Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::InvalidData)
            );
            assert!(cut, "{what}, {target}: {end:?} {response:?}");
            assert!(chunked_live || kind != Err(ErrorKind::InvalidData), "{what}, {target}: {end:?}");
        }
        wait_until("the origin is left", PATIENCE, || origin.open() == 0);
    }
}

#[test]
fn a_playlist_that_is_cut_short_is_502() {
    let playlist = b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n";
    let cut = [
        Answer::new(200, "OK").length(1000).then(Step::Send(playlist.to_vec())).then(Step::Close),
        Answer::new(200, "OK").chunked().then(Step::Send(b"8\r\n#EXTM3U\n\r\n".to_vec())).then(Step::Close),
    ];
    for answer in cut {
        let origin = HttpOrigin::answering(answer);
        let proxy = Proxy::before(origin.addr(), &[]);
        for target in ["/live/x.m3u8", "/live/x.mpd"] {
            let answer = connect(&proxy).ask(&Request::get(target)).expect("an answer");
            assert_refusal(&answer, 502, target);
        }
    }
}

#[test]
fn a_playlist_without_end_is_502() {
    let line = b"#EXTINF:1,\nx-0.ts\n".repeat(4000);
    let endless = Answer::new(200, "OK").field("Connection", "close").bodiless().then(Step::Flood(line));
    let origin = HttpOrigin::answering(endless);
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    let answer = connect(&proxy).ask(&Request::get("/live/x.m3u8")).expect("an answer");
    assert_refusal(&answer, 502, "endless");
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
}

#[test]
fn a_playlist_that_stops_in_the_middle_is_given_up() {
    let half = Answer::new(200, "OK").length(1000).then(Step::Send(b"#EXTM3U\n".to_vec())).then(Step::Hold);
    let origin = HttpOrigin::answering(half);
    let proxy = Proxy::before(origin.addr(), &[("PROXY_HTTP_ORIGIN_TIMEOUT", "1s")]);
    let answer = connect(&proxy).ask(&Request::get("/live/x.m3u8")).expect("an answer");
    assert_refusal(&answer, if answer.status == 504 { 504 } else { 502 }, "half a playlist");
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
}

#[test]
fn a_playlist_in_a_coding_nobody_asked_for_is_not_damaged() {
    let coded = [0x1F, 0x8B, 8, 0, 1, 2, 3, b'\n', b'x', b'.', b't', b's', b'\n'];
    let answer = Answer::new(200, "OK").field("Content-Encoding", "gzip").body(&coded);
    let origin = HttpOrigin::answering(answer);
    let proxy = Proxy::before(origin.addr(), &[]);
    let answer = connect(&proxy).ask(&Request::get("/live/x.m3u8")).expect("an answer");
    if answer.status != 502 {
        assert_eq!((answer.status, &answer.body[..]), (200, &coded[..]));
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
    }
}

#[test]
fn a_session_moves_with_its_stream_when_its_origin_is_gone() {
    let answer = |seen: &Seen| match seen.target.contains(".m3u8") {
        true => Answer::ok("application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n"),
        false => Answer::ok("video/mp2t", b"media"),
    };
    let mut first = HttpOrigin::start(answer);
    let proxy = Proxy::before(first.addr(), &[]);
    let mut connection = connect(&proxy);
    let playlist = connection.ask(&Request::get("/live/x.m3u8")).expect("an answer").body.text();
    let segment = format!("/live/{}", playlist.lines().last().expect("a segment"));
    assert_eq!(connection.ask(&Request::get(&segment)).expect("an answer").status, 200);
    let second = HttpOrigin::start(answer);
    proxy.register_http("second", second.addr());
    first.stop();
    let answer = connection.ask(&Request::get(&segment)).expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"));
    let again = connection.ask(&Request::get("/live/x.m3u8")).expect("an answer");
    assert_eq!(again.body.text(), playlist, "the session stays");
    assert_eq!(second.requests().len(), 2);
}

#[test]
fn viewers_are_cut_off_when_their_origin_is_killed_and_others_go_on() {
    let mut origin = NodeMediaServer::start();
    let other = HttpOrigin::answering(Answer::ok("video/mp4", b"media"));
    let proxy = Proxy::start();
    proxy.register_serving("nms", "1", origin.rtmp(), &[("http", origin.http())]);
    let _publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let mut viewers: Vec<_> = (0..10)
        .map(|_| {
            let mut connection = connect(&proxy);
            connection.send_request(&Request::get("/live/x.flv")).expect("it is sent");
            let (response, framing) = connection.head("GET").expect("a head");
            assert_eq!(response.status, 200);
            (connection, response, framing)
        })
        .collect();
    origin.kill();
    let start = Instant::now();
    for (connection, response, framing) in &mut viewers {
        // Whether it is an error depends on how the origin framed it; that it ends does not.
        let _ = connection.body(response, *framing);
    }
    assert!(start.elapsed() < AT_ONCE * 2, "{:?}", start.elapsed());
    drop(viewers);
    proxy.register_http("other", other.addr());
    let answer = connect(&proxy).ask(&Request::get("/live/x.flv")).expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"), "it is asked for elsewhere");
}
