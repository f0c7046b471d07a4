//! Clients that break HTTP, or may be read in two ways: refused, and nothing of it reaches an origin as a request of its
//! own.

use srs_proxy_tests::peers::http::{Connection, Request};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What is decided without waiting for anybody takes no longer, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);

/// The longest that a client may take to send a head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

fn origin() -> HttpOrigin {
    HttpOrigin::answering(Answer::ok("video/mp4", b"media"))
}

#[track_caller]
fn connect(proxy: &Proxy) -> Connection {
    Connection::open(proxy.http()).expect("a connection")
}

/// What follows on the connection: it must never be taken for a request.
const SMUGGLED: &str = "GET /live/smuggled.ts HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn heads_that_can_be_read_in_two_ways_are_refused() {
    let post = "POST /live/x.mp4 HTTP/1.1\r\nHost: h\r\n";
    let get = "GET /live/x.mp4 HTTP/1.1\r\nHost: h\r\n";
    let cases = [
        (
            "a length and chunks",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunks and a length",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("two lengths", format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"), 400),
        ("the same length twice", format!("{post}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"), 400),
        ("a list of lengths", format!("{post}Content-Length: 5, 5\r\n\r\nabcde"), 400),
        ("a negative length", format!("{post}Content-Length: -5\r\n\r\nabcde"), 400),
        ("a signed length", format!("{post}Content-Length: +5\r\n\r\nabcde"), 400),
        ("a length in hex", format!("{post}Content-Length: 0x5\r\n\r\nabcde"), 400),
        ("an empty length", format!("{post}Content-Length: \r\n\r\n"), 400),
        ("too large a length", format!("{post}Content-Length: 99999999999999999999999\r\n\r\nabcde"), 400),
        ("bare LF after the first line", "GET /live/x.mp4 HTTP/1.1\nHost: h\r\n\r\n".to_owned(), 400),
        ("bare LF after a field", format!("{get}X: y\nZ: z\r\n\r\n"), 400),
        ("bare LF as the end", format!("{get}\n"), 400),
        ("a folded field", format!("{get}X: a\r\n b\r\n\r\n"), 400),
        ("a folded length", format!("{post}Content-Length:\r\n 5\r\n\r\nabcde"), 400),
        ("a folded first field", "GET /live/x.mp4 HTTP/1.1\r\n Host: h\r\n\r\n".to_owned(), 400),
        ("a blank before the colon", format!("{post}Content-Length : 5\r\n\r\nabcde"), 400),
        ("a bare CR in a value", format!("{get}X: a\rContent-Length: 5\r\n\r\n"), 400),
        ("a NUL in a value", format!("{get}X: a\0b\r\n\r\n"), 400),
        ("no colon", format!("{get}nonsense\r\n\r\n"), 400),
        ("two hosts", format!("{get}Host: other\r\n\r\n"), 400),
        ("a host with a blank", "GET /live/x.mp4 HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
        ("a host with a path", "GET /live/x.mp4 HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), 400),
        ("a host with a user", "GET /live/x.mp4 HTTP/1.1\r\nHost: user@a\r\n\r\n".to_owned(), 400),
        ("hosts in one field", "GET /live/x.mp4 HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned(), 400),
        ("no host", "GET /live/x.mp4 HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "chunks in HTTP/1.0",
            "POST /live/x.mp4 HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            400,
        ),
        ("two codings", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501),
        ("an unknown coding", format!("{post}Transfer-Encoding: gzip\r\n\r\n"), 501),
        ("a coding in disguise", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 501),
        ("no coding", format!("{post}Transfer-Encoding: identity\r\n\r\n"), 501),
        (
            "a coding twice",
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("a blank in the target", "GET /live/x.mp4 y HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 505),
        ("another version", "GET /live/x.mp4 HTTP/2.0\r\nHost: h\r\n\r\n".to_owned(), 505),
        ("no version", "GET /live/x.mp4\r\n\r\n".to_owned(), 400),
        ("an unknown expectation", format!("{post}Expect: miracles\r\nContent-Length: 5\r\n\r\nabcde"), 417),
        ("CONNECT", "CONNECT streams.test:80 HTTP/1.1\r\nHost: streams.test:80\r\n\r\n".to_owned(), 405),
        ("TRACE", "TRACE /live/x.mp4 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 405),
    ];
    let origin = origin();
    let proxy = Proxy::before(origin.addr(), &[]);
    for (what, head, status) in cases {
        let mut connection = connect(&proxy);
        connection.send(format!("{head}{SMUGGLED}").as_bytes()).expect("it is sent");
        let answer = connection.response("GET").unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        // Where the head was understood the next request may be served; where it was not, never.
        if !matches!(status, 405 | 417) {
            assert!(answer.fields.lists("connection", "close"), "{what}");
            connection.assert_closed(what, AT_ONCE);
            assert!(origin.requests().is_empty(), "{what}: {:?}", origin.requests());
        }
        origin.forget();
    }
}

#[test]
fn bodies_whose_chunks_are_wrong_reach_the_origin_as_no_second_request() {
    let bodies: [(&str, &str); 12] = [
        ("no number", "xyz\r\nabc\r\n0\r\n\r\n"),
        ("an empty size", "\r\n0\r\n\r\n"),
        ("a signed size", "+3\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-1\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a size that overflows", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("a size that is almost too large", "fffffffffffffffe\r\nabc\r\n0\r\n\r\n"),
        ("a chunk longer than it says", "3\r\nabcd\r\n0\r\n\r\n"),
        ("bare LF after a size", "3\nabc\r\n0\r\n\r\n"),
        ("bare LF after a chunk", "3\r\nabc\n0\r\n\r\n"),
        ("bare LF as the end", "3\r\nabc\r\n0\r\n\n"),
        ("bare LF in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ];
    for (what, body) in bodies {
        let origin = origin();
        let proxy = Proxy::before(origin.addr(), &[]);
        let mut connection = connect(&proxy);
        let head = Request::new("POST", "/live/x.mp4").field("Transfer-Encoding", "chunked").head_bytes();
        connection.send(&[&head, body.as_bytes(), SMUGGLED.as_bytes()].concat()).expect("it is sent");
        // An almost endless chunk swallows all that follows; all others are refused or cut off.
        if what != "a size that is almost too large" {
            let rest = connection.rest(AT_ONCE).unwrap_or_else(|why| panic!("{what}: not closed: {why}"));
            let rest = String::from_utf8_lossy(&rest);
            assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{what}: {rest}");
        }
        drop(connection);
        wait_until("the origin is left", PATIENCE, || origin.open() == 0);
        let requests = origin.requests();
        assert!(
            requests.iter().all(|seen| !seen.target.contains("smuggled") && !seen.whole),
            "{what}: {requests:?}"
        );
        let faults: Vec<_> = origin.records().into_iter().filter_map(|record| record.fault).collect();
        assert!(faults.is_empty(), "{what}: the origin was sent nonsense: {faults:?}");
    }
}

#[test]
fn a_body_is_never_a_request_whatever_is_in_it() {
    let origin = origin();
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    for request in [
        Request::new("POST", "/live/x.mp4").body(SMUGGLED.as_bytes()),
        Request::new("POST", "/live/x.mp4").chunked(&[SMUGGLED.as_bytes()]),
        Request::get("/live/x.mp4").body(SMUGGLED.as_bytes()),
        Request::new("DELETE", "/live/x.mp4").body(SMUGGLED.as_bytes()),
        // Answered by the proxy itself.
        Request::new("OPTIONS", "/live/x.mp4").body(SMUGGLED.as_bytes()),
        Request::get("/no/such/page").body(SMUGGLED.as_bytes()),
        Request::get("/api/v1/versions").chunked(&[SMUGGLED.as_bytes()]),
    ] {
        let answer = connection.ask(&request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
        if answer.fields.lists("connection", "close") {
            connection = connect(&proxy);
        }
    }
    let requests = origin.requests();
    assert!(requests.iter().all(|seen| seen.target == "/live/x.mp4"), "{requests:?}");
}

#[test]
fn too_long_a_head_is_431() {
    let origin = origin();
    let proxy = Proxy::before(origin.addr(), &[]);
    let long = [
        Request::get("/live/x.mp4").field("X-Long", &"x".repeat(100_000)),
        (0..2000).fold(Request::get("/live/x.mp4"), |request, _| request.field("X", "y")),
        Request::get(&format!("/live/x.mp4?{}", "x".repeat(100_000))),
    ];
    for request in long {
        let mut connection = connect(&proxy);
        // The proxy may close before it has taken everything.
        let _ = connection.send_request(&request);
        let status = connection.response("GET").map(|answer| answer.status);
        assert!(matches!(status, Ok(431 | 414)), "{status:?}");
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_trickles_its_head_is_cut_off() {
    let origin = origin();
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let mut trickling = TcpStream::connect(proxy.http()).expect("a connection");
    let start = Instant::now();
    connection.send(b"GET /live/x.mp4 HTTP/1.1\r\nHo").expect("it is sent");
    trickling.write_all(b"GET /live/x.mp4 HTTP/1.1\r\nX: ").expect("it is sent");
    wait_until("the trickling one is cut off", HEAD_TIMEOUT * 2, || trickling.write_all(b"x").is_err());
    assert!(start.elapsed() >= HEAD_TIMEOUT / 2);
    let answer = connection.response("GET").expect("an answer");
    assert_eq!(answer.status, 408);
    connection.assert_closed("it was too slow", AT_ONCE);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_wish_for_another_protocol_gets_a_plain_answer() {
    let origin = origin();
    let proxy = Proxy::before(origin.addr(), &[]);
    let request = Request::get("/live/x.flv")
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let answer = connect(&proxy).ask(&request).expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"));
    let seen = origin.only_request();
    assert_eq!(seen.fields.get("upgrade"), None);
    assert!(!seen.fields.lists("connection", "upgrade"));
}

#[test]
fn tls_on_the_plain_port_is_closed_at_once() {
    let origin = origin();
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03").expect("it is sent");
    let start = Instant::now();
    connection.rest(AT_ONCE).expect("it closes");
    assert!(start.elapsed() < AT_ONCE);
}
