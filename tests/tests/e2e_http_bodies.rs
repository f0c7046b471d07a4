//! Bodies of every framing both ways, interim answers, and connections that serve many requests.

use srs_proxy_tests::peers::http::{Connection, Framing, Left, Request};
use srs_proxy_tests::peers::http_origin::{Answer, Gate, HttpOrigin, Step};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

/// A long body, bytes.
const LONG: usize = 10 * 1024 * 1024;

/// Requests on one connection.
const MANY: usize = 100;

/// For what must not take the time of a deadline.
const SOON: Duration = Duration::from_secs(5);

/// Bytes that are the same nowhere.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// The bytes in chunks of uneven sizes, from one byte on.
fn uneven(bytes: &[u8]) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let mut left = bytes;
    for size in [1, 2, 15, 16, 255, 4096, 65_535, 65_536, 300_000].iter().cycle() {
        let (chunk, rest) = left.split_at((*size).min(left.len()));
        chunks.push(chunk);
        left = rest;
        if left.is_empty() {
            break;
        }
    }
    chunks
}

#[track_caller]
fn connect(proxy: &Proxy) -> Connection {
    Connection::open(proxy.http()).expect("a connection")
}

/// An origin that answers with these bytes, framed as the target says.
fn framed_as_asked(bytes: Vec<u8>) -> HttpOrigin {
    HttpOrigin::start(move |seen| {
        let answer = Answer::new(200, "OK").field("Content-Type", "video/mp2t");
        match seen.target.split(['/', '.']).nth(2) {
            Some("length") => answer.body(&bytes),
            Some("chunks") => answer.chunks(&uneven(&bytes), &[]),
            _ => answer.until_close(&bytes),
        }
    })
}

#[test]
fn ten_megabytes_arrive_whatever_frames_them() {
    let bytes = noise(LONG);
    let origin = framed_as_asked(bytes.clone());
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in
        ["/live/length.mp4", "/live/chunks.mp4", "/live/close.mp4", "/live/length.flv", "/live/close.flv"]
    {
        let answer = connect(&proxy).ask(&Request::get(target)).expect("an answer");
        assert_eq!(answer.status, 200, "{target}");
        assert!(answer.body.0 == bytes, "{target}: {} bytes", answer.body.len());
    }
}

#[test]
fn a_length_stays_a_length_and_chunks_stay_chunks() {
    let origin = framed_as_asked(noise(1000));
    let proxy = Proxy::before(origin.addr(), &[]);
    let cases = [
        ("/live/length.mp4", Framing::Length(1000)),
        ("/live/chunks.mp4", Framing::Chunked),
        ("/live/length.flv", Framing::Length(1000)),
    ];
    for (target, expected) in cases {
        let mut connection = connect(&proxy);
        connection.send_request(&Request::get(target)).expect("it is sent");
        let (_, framing) = connection.head("GET").expect("a head");
        assert_eq!(framing, expected, "{target}");
    }
}

#[test]
fn an_old_client_gets_chunks_unwrapped_and_the_end_with_the_connection() {
    let bytes = noise(1_000_000);
    let origin = framed_as_asked(bytes.clone());
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in ["/live/chunks.mp4", "/live/chunks.flv", "/live/close.mp4"] {
        let mut connection = connect(&proxy);
        let answer = connection.ask(&Request::get(target).version_10()).expect("an answer");
        assert_eq!(answer.header("transfer-encoding"), None, "{target}");
        assert_eq!(answer.header("content-length"), None, "{target}");
        assert!(answer.body.0 == bytes, "{target}");
    }
}

#[test]
fn an_old_client_can_keep_its_connection_where_lengths_are_known() {
    let origin = framed_as_asked(noise(1000));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let request = Request::get("/live/length.mp4").version_10().field("Connection", "keep-alive");
    for _ in 0..3 {
        let answer = connection.ask(&request).expect("an answer");
        assert!(answer.fields.lists("connection", "keep-alive"), "{:?}", answer.fields);
    }
    let last = Request::get("/live/length.mp4").version_10();
    connection.ask(&last).expect("an answer");
    connection.assert_closed("without keep-alive", SOON);
}

#[test]
fn an_answer_until_close_says_so_and_closes() {
    let origin = framed_as_asked(noise(1000));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let answer = connection.ask(&Request::get("/live/close.mp4")).expect("an answer");
    assert!(answer.fields.lists("connection", "close") || answer.fields.get("transfer-encoding").is_some());
    assert_eq!(answer.body.0, noise(1000));
}

#[test]
fn a_hundred_requests_share_one_connection_and_few_at_the_origin() {
    let origin = HttpOrigin::start(|seen| match seen.target.len() % 3 {
        0 => Answer::ok("video/mp2t", seen.target.as_bytes()),
        1 => Answer::new(404, "Not Found").body(seen.target.as_bytes()),
        _ => Answer::new(200, "OK").chunks(&[seen.target.as_bytes()], &[]),
    });
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    let mut connection = connect(&proxy);
    for n in 0..MANY {
        let target = format!("/live/{}.m4s?n={n}", "x".repeat(n));
        let method = if n % 7 == 0 { "HEAD" } else { "GET" };
        let answer = connection.ask(&Request::new(method, &target)).expect("an answer");
        let expected = if method == "HEAD" { "" } else { &target };
        assert_eq!(answer.body.text(), expected);
    }
    assert_eq!(origin.requests().len(), MANY);
    assert!(origin.records().len() <= 2, "{} connections", origin.records().len());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gate = Gate::default();
    let first = gate.clone();
    let origin = HttpOrigin::start(move |seen| match &seen.target[..] {
        "/live/0.m4s" => Answer::new(200, "OK")
            .length(seen.target.len())
            .then(Step::Wait(first.clone()))
            .then(Step::Send(seen.target.clone().into_bytes())),
        target => Answer::ok("video/mp4", target.as_bytes()),
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let targets: Vec<_> = (0..20).map(|n| format!("/live/{n}.m4s")).collect();
    let requests = targets.iter().flat_map(|target| Request::get(target).bytes());
    // The API's own answer must wait for its turn as well.
    let own = Request::get("/api/v1/versions").bytes();
    connection.send(&requests.chain(own).collect::<Vec<_>>()).expect("it is sent");
    origin.wait_request("the first", |seen| seen.target == targets[0]);
    gate.open();
    for target in &targets {
        assert_eq!(connection.response("GET").expect("an answer").body.text(), *target);
    }
    assert!(connection.response("GET").expect("an answer").body.contains("version"));
}

#[test]
fn far_more_pipelined_requests_than_fit_a_buffer_are_answered() {
    let origin = HttpOrigin::start(|seen| Answer::ok("video/mp4", seen.target.as_bytes()));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let request = |n: usize| Request::get(&format!("/live/{n}.m4s")).field("X-Long", &"x".repeat(2000));
    let requests: Vec<u8> = (0..MANY).flat_map(|n| request(n).bytes()).collect();
    connection.send(&requests).expect("it is sent");
    for n in 0..MANY {
        assert_eq!(connection.response("GET").expect("an answer").body.text(), format!("/live/{n}.m4s"));
    }
}

#[test]
fn a_kept_connection_that_the_origin_ended_is_no_matter_to_the_client() {
    // Each connection serves one request, and is ended without an answer when it brings a second.
    let served = Mutex::new(BTreeSet::new());
    let origin = HttpOrigin::start(move |seen| {
        let first = served.lock().expect("no panic").insert(seen.connection);
        if first { Answer::ok("video/mp2t", b"media") } else { Answer::raw(b"").then(Step::Reset) }
    });
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    let mut connection = connect(&proxy);
    for _ in 0..10 {
        let answer = connection.ask(&Request::get("/live/x.m4s")).expect("an answer");
        assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"));
    }
}

#[test]
fn a_request_with_a_body_is_sent_once() {
    let served = Mutex::new(BTreeSet::new());
    let origin = HttpOrigin::start(move |seen| {
        let first = served.lock().expect("no panic").insert(seen.connection);
        if first && seen.method == "GET" {
            Answer::ok("video/mp2t", b"media")
        } else {
            Answer::raw(b"").then(Step::Reset)
        }
    });
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "1")]);
    let mut connection = connect(&proxy);
    assert_eq!(connection.ask(&Request::get("/live/x.m4s")).expect("an answer").status, 200);
    let answer = connection.ask(&Request::new("POST", "/live/x.m4s").body(b"pay once")).expect("an answer");
    assert_eq!(answer.status, 502);
    assert_eq!(origin.requests().iter().filter(|seen| seen.method == "POST").count(), 1);
}

#[test]
fn the_clients_wish_to_close_is_heard() {
    let origin = framed_as_asked(noise(1000));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let request = Request::get("/live/length.mp4").field("Connection", "close");
    let answer = connection.ask(&request).expect("an answer");
    assert!(answer.fields.lists("connection", "close"), "{:?}", answer.fields);
    connection.assert_closed("it asked for it", SOON);
}

#[test]
fn trailers_arrive() {
    let trailers = [("X-Sum", "abc"), ("Server-Timing", "total;dur=5")];
    let origin = HttpOrigin::answering(
        Answer::new(200, "OK").field("Trailer", "X-Sum").chunks(&[b"me", b"dia"], &trailers),
    );
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    for _ in 0..2 {
        let answer = connection.ask(&Request::get("/live/x.m4s").field("TE", "trailers")).expect("an answer");
        assert_eq!(answer.body.text(), "media");
        let got: Vec<_> = answer.trailers.0.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_eq!(got, trailers);
    }
}

#[test]
fn interim_answers_pass_to_those_who_know_them() {
    let answer = Answer::ok("video/mp2t", b"media")
        .after_interim(103, "Early Hints", &[("Link", "</b.css>")])
        .after_interim(103, "Early Hints", &[("Link", "</a.css>"), ("Link", "</c.css>")])
        .after_interim(102, "Processing", &[]);
    let origin = HttpOrigin::answering(answer);
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    for _ in 0..2 {
        let answer = connection.ask(&Request::get("/live/x.m4s")).expect("an answer");
        let interim: Vec<_> =
            answer.interim.iter().map(|(status, fields)| (*status, fields.all("link"))).collect();
        assert_eq!(interim, [(102, vec![]), (103, vec!["</a.css>", "</c.css>"]), (103, vec!["</b.css>"])]);
        assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"));
    }
    let old = connect(&proxy).ask(&Request::get("/live/x.m4s").version_10()).expect("an answer");
    assert_eq!((old.interim.len(), old.status, &old.body.text()[..]), (0, 200, "media"));
}

#[test]
fn a_request_body_arrives_whatever_frames_it() {
    let bytes = noise(1_000_000);
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"taken"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    for request in [
        Request::new("POST", "/live/x.flv").body(&bytes),
        Request::new("POST", "/live/x.flv").chunked(&uneven(&bytes)),
        Request::new("PUT", "/live/x.mp4").body(&bytes),
        Request::new("PUT", "/live/x.mp4").chunked(&uneven(&bytes)),
    ] {
        origin.forget();
        let answer = connection.ask(&request).expect("an answer");
        assert_eq!((answer.status, &answer.body.text()[..]), (200, "taken"));
        let seen = origin.only_request();
        assert!(seen.whole && seen.body.0 == bytes, "{request:?}");
    }
}

#[test]
fn a_request_body_flows_as_it_comes() {
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"taken"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let request = Request::new("POST", "/live/x.flv").field("Transfer-Encoding", "chunked");
    connection.send(&request.head_bytes()).expect("it is sent");
    let so_far = |text: &str| {
        origin.wait_request("what was sent so far", |seen| seen.body.text() == text);
    };
    connection.send(b"5\r\nfirst\r\n").expect("it is sent");
    so_far("first");
    connection.send(b"6;name=value\r\nsecond\r\n").expect("it is sent");
    so_far("firstsecond");
    connection.send(b"0\r\nX-Sum: 7\r\n\r\n").expect("it is sent");
    assert_eq!(connection.response("POST").expect("an answer").status, 200);
    let seen = origin.only_request();
    assert!(seen.whole);
    assert_eq!(seen.trailers.get("x-sum"), Some("7"));
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on() {
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"taken"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let request = Request::new("POST", "/live/x.flv").field("Expect", "100-continue").body(b"a body");
    connection.send(&request.head_bytes()).expect("it is sent");
    let interim = connection.interim().expect("an interim answer");
    assert_eq!(interim, 100);
    connection.send(b"a body").expect("it is sent");
    let answer = connection.response("POST").expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..], answer.interim.len()), (200, "taken", 0));
    assert_eq!(origin.only_request().body.text(), "a body");
}

#[test]
fn an_answer_before_the_body_passes_at_once() {
    let answer = Answer::new(401, "Unauthorized").field("Connection", "close").body(b"who are you?").early();
    let origin = HttpOrigin::answering(answer.then(Step::Close));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    let request = Request::new("POST", "/live/x.flv").field("Content-Length", "1000000");
    connection.send(&request.head_bytes()).expect("it is sent");
    connection.send(&[0; 1000]).expect("it is sent");
    let answer = connection.response("POST").expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..]), (401, "who are you?"));
    // The rest of the body must not be taken for a request.
    let _ = connection.send(&Request::get("/live/y.ts").bytes());
    connection.assert_closed("the body was never sent", SOON);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn an_answer_flows_as_it_comes() {
    let gates = [Gate::default(), Gate::default()];
    let [first, second] = gates.clone();
    let origin = HttpOrigin::start(move |seen| {
        let answer = Answer::new(200, "OK");
        let (answer, pieces) = match &seen.target[..] {
            "/live/length.mp4" => (answer.length(11), [&b"first"[..], b"second"]),
            "/live/chunks.mp4" => (answer.chunked(), [&b"5\r\nfirst\r\n"[..], b"6\r\nsecond\r\n0\r\n\r\n"]),
            _ => (answer.field("Connection", "close").bodiless(), [&b"first"[..], b"second"]),
        };
        answer
            .then(Step::Wait(first.clone()))
            .then(Step::Send(pieces[0].to_vec()))
            .then(Step::Wait(second.clone()))
            .then(Step::Send(pieces[1].to_vec()))
            .then(Step::Close)
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    let targets = ["/live/length.mp4", "/live/chunks.mp4", "/live/close.mp4", "/live/close.flv"];
    let mut viewers: Vec<_> = targets
        .iter()
        .map(|target| {
            let mut connection = connect(&proxy);
            connection.send_request(&Request::get(target)).expect("it is sent");
            let (_, framing) = connection.head("GET").expect("the head alone");
            (connection, Left::from(framing))
        })
        .collect();
    for (gate, piece) in gates.iter().zip(["first", "second"]) {
        gate.open();
        for (connection, left) in &mut viewers {
            let start = connection.body_start(left, piece.len()).expect("the next piece");
            assert_eq!(String::from_utf8_lossy(&start), piece);
        }
    }
    drop(viewers);
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
}
