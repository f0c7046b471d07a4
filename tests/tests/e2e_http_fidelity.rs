//! What a client sends and what an origin answers pass through the proxy unchanged, but for what an intermediary must
//! change (RFC 9110 §7.6).

use srs_proxy_tests::peers::http::{Connection, Fields, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::proxy::Proxy;
use std::fs;

/// Sends one request through a new proxy to this origin.
#[track_caller]
fn ask(origin: &HttpOrigin, request: &Request) -> Response {
    let proxy = Proxy::before(origin.addr(), &[]);
    connect(&proxy).ask(request).expect("an answer")
}

/// What the origin sees of a request.
#[track_caller]
fn seen(request: &Request) -> Seen {
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    assert_eq!(ask(&origin, request).status, 200);
    origin.only_request()
}

#[track_caller]
fn connect(proxy: &Proxy) -> Connection {
    Connection::open(proxy.http()).expect("a connection")
}

/// Fields that the proxy may add to what a client or an origin sent, or that are its own to set.
const ADDED: [&str; 9] = [
    "access-control-allow-origin",
    "access-control-expose-headers",
    "connection",
    "keep-alive",
    "transfer-encoding",
    "via",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-real-ip",
];

/// The fields without those that the proxy may add, the length last: it may stand anywhere.
fn own(fields: &Fields) -> Vec<(&str, &str)> {
    let ours = |name: &str| ADDED.iter().any(|added| added.eq_ignore_ascii_case(name));
    let own = fields.0.iter().filter(|(name, _)| !ours(name));
    let mut own: Vec<_> = own.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    own.sort_by_key(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    own
}

#[test]
fn every_status_passes_with_its_reason_fields_and_body() {
    type Case = (u16, &'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: [Case; 14] = [
        (200, "Fine", &[("Content-Type", "video/mp2t"), ("X-A", "1"), ("x-a", "2"), ("X-A", "1")], "media"),
        (201, "Created", &[("Location", "/live/new.ts?a=b")], "new"),
        (204, "No Content", &[("X-Session", "7")], ""),
        (206, "Partial Content", &[("Content-Range", "bytes 2-5/10"), ("ETag", "\"e\"")], "2345"),
        (301, "Moved Permanently", &[("Location", "http://elsewhere.test:81/live/x.ts?a=b")], "moved"),
        (302, "Found", &[("Location", "/live/other.ts"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")], ""),
        (304, "Not Modified", &[("ETag", "\"e\""), ("Cache-Control", "max-age=1")], ""),
        (401, "Unauthorized", &[("WWW-Authenticate", "Basic realm=\"streams\"")], "who are you?"),
        (403, "Forbidden", &[], "no"),
        (404, "Not Found", &[("Server", "SRS/6.0")], "no such stream"),
        (416, "Range Not Satisfiable", &[("Content-Range", "bytes */10")], ""),
        (429, "", &[("Retry-After", "3")], "later"),
        (500, "It Broke  Here", &[], "sorry"),
        (503, "Service Unavailable", &[("Retry-After", "5")], "full"),
    ];
    let origin = HttpOrigin::start(move |seen| {
        let case = cases.iter().find(|(status, ..)| seen.target.contains(&format!("/{status}.")));
        let (status, reason, fields, body) = case.expect("a case");
        let answer = fields
            .iter()
            .fold(Answer::new(*status, reason), |answer, (name, value)| answer.field(name, value));
        match status {
            204 | 304 => answer.bodiless(),
            _ => answer.body(body.as_bytes()),
        }
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    for (status, reason, fields, body) in cases {
        let answer = connection.ask(&Request::get(&format!("/live/{status}.ts"))).expect("an answer");
        assert_eq!((answer.status, &answer.reason[..]), (status, reason));
        assert_eq!(answer.body.text(), body, "{status}");
        let length = body.len().to_string();
        let mut expected = fields.to_vec();
        if !matches!(status, 204 | 304) {
            expected.push(("Content-Length", &length));
        }
        assert_eq!(own(&answer.fields), expected, "{status}");
    }
    assert_eq!(origin.requests().len(), cases.len());
}

#[test]
fn a_real_server_answers_through_the_proxy_as_it_does_directly() {
    let origin = Nginx::start();
    let folder = origin.files().join("live");
    fs::create_dir_all(&folder).expect("a folder");
    let media: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect();
    fs::write(folder.join("x.ts"), &media).expect("a file");
    let proxy = Proxy::before(origin.http(), &[]);
    let etag = {
        let answer = connect(&proxy).ask(&Request::get("/live/x.ts")).expect("an answer");
        answer.header("etag").expect("nginx tags its files").to_owned()
    };
    let statuses = [204, 301, 302, 401, 403, 404, 500];
    let mut cases: Vec<(u16, Request)> =
        statuses.iter().map(|status| (*status, Request::get(&format!("/status/{status}.ts")))).collect();
    cases.extend([
        (200, Request::get("/live/x.ts?a=b")),
        (200, Request::new("HEAD", "/live/x.ts")),
        (200, Request::get("/live/x.ts").field("Accept-Encoding", "gzip")),
        (206, Request::get("/live/x.ts").field("Range", "bytes=10-19")),
        (206, Request::get("/live/x.ts").field("Range", "bytes=-100")),
        (206, Request::get("/live/x.ts").field("Range", "bytes=0-1,5-6")),
        (416, Request::get("/live/x.ts").field("Range", "bytes=100000-")),
        (304, Request::get("/live/x.ts").field("If-None-Match", &etag)),
        (404, Request::get("/live/nothing.ts")),
        (405, Request::new("POST", "/live/x.ts").body(b"data")),
    ]);
    let mut direct = Connection::open(origin.http()).expect("a connection");
    let mut proxied = connect(&proxy);
    for (status, request) in cases {
        let expected = direct.ask(&request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
        let answer = proxied.ask(&request).unwrap_or_else(|why| panic!("{request:?}: {why}"));
        if answer.fields.lists("connection", "close") {
            proxied = connect(&proxy);
        }
        if expected.fields.lists("connection", "close") {
            direct = Connection::open(origin.http()).expect("a connection");
        }
        let what = format!("{request:?}");
        assert_eq!((answer.status, answer.status), (status, expected.status), "{what}");
        assert_eq!(answer.reason, expected.reason, "{what}");
        let boundary = |answer: &Response| answer.header("content-type")?.split_once("boundary=").map(|_| ());
        // A clock may tick in between, and the boundaries of a multipart body are made up for each.
        if boundary(&answer).is_none() {
            assert!(answer.body == expected.body, "{what}");
            let without_date = |fields| {
                let own = own(fields).into_iter().filter(|(name, _)| *name != "Date");
                own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
            };
            assert_eq!(without_date(&answer.fields), without_date(&expected.fields), "{what}");
        }
    }
}

#[test]
fn the_target_reaches_the_origin_byte_for_byte() {
    let targets = [
        "/live/x.flv",
        "/live/x.flv?",
        "/live/x.flv?token=a%2Fb%3Fc&empty=&flag&a=1&a=2",
        "/live/x.flv?name=%E4%BD%A0%e5%a5%bd&plus=a+b",
        "/live/x.flv?q=a?b/c.m3u8&path=/live/../y",
        "/live/x.flv?;:@!$'()*,=/",
        "/liv%65/%78.flv",
        "/live/a%20b.ts",
        "/live/a%2Fb.ts",
        "/live/a;v=1/x.ts",
        "//live//x.ts",
        "/a/b/c/d/x.m4s",
        "/live/x.FLV",
        "/live/x.tar.ts",
        "/live/~x_-.'!.ts",
    ];
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in targets {
        origin.forget();
        let answer = connect(&proxy).ask(&Request::get(target)).expect("an answer");
        assert_eq!((answer.status, origin.only_request().target), (200, target.to_owned()));
    }
}

#[test]
fn a_long_target_passes() {
    let target = format!("/live/x.ts?token={}", "t".repeat(8000));
    assert_eq!(seen(&Request::get(&target)).target, target);
}

#[test]
fn every_method_with_a_meaning_for_resources_passes() {
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"done"));
    let proxy = Proxy::before(origin.addr(), &[]);
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
        origin.forget();
        let answer = connect(&proxy).ask(&Request::new(method, "/live/x.ts")).expect("an answer");
        assert_eq!((answer.status, &origin.only_request().method[..]), (200, method));
    }
}

#[test]
fn request_fields_pass_in_their_order_and_spelling() {
    let fields = [
        ("User-Agent", "VLC/3.0 (Linux; \"quoted\")"),
        ("accept", "*/*"),
        ("X-Twice", "one"),
        ("Cookie", "a=b; c=d"),
        ("X-Twice", "two"),
        ("x-TWICE", "one"),
        ("Authorization", "Bearer abc.def=="),
        ("Accept-Encoding", "gzip, br"),
        ("Range", "bytes=0-"),
        ("If-None-Match", "W/\"e\", \"f\""),
        ("Origin", "https://pages.test"),
        ("Referer", "https://pages.test/a?b=c"),
        ("X-Empty", ""),
        ("X-Odd", "a:b,c;d=\"e\\\"f\"  g"),
        ("Cache-Control", "no-cache"),
    ];
    let request =
        fields.iter().fold(Request::get("/live/x.ts"), |request, (name, value)| request.field(name, value));
    let seen = seen(&request);
    let expected: Vec<_> = [("Host", "127.0.0.1")].into_iter().chain(fields).collect();
    assert_eq!(own(&seen.fields), expected);
}

#[test]
fn field_values_that_are_not_text_pass() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    connection.send(b"GET /live/x.ts HTTP/1.1\r\nHost: h\r\nX-Raw: \xE9\xFF\r\n\r\n").expect("it is sent");
    assert_eq!(connection.response("GET").expect("an answer").status, 200);
    assert!(origin.only_request().head.windows(9).any(|bytes| bytes == b"X-Raw: \xE9\xFF"));
}

#[test]
fn host_reaches_the_origin_unchanged() {
    for host in
        ["Streams.Example.test", "streams.example.test:8080", "10.1.2.3:18080", "[::1]:18080", "localhost"]
    {
        assert_eq!(seen(&Request::get("/live/x.ts").host(host)).fields.all("host"), [host]);
    }
}

#[test]
fn a_whole_url_as_target_becomes_path_and_host() {
    let seen = seen(&Request::get("http://streams.test:81/live/x.ts?a=b").host("other.test"));
    assert_eq!(seen.target, "/live/x.ts?a=b");
    assert_eq!(seen.fields.all("host"), ["streams.test:81"]);
}

#[test]
fn who_is_named_in_a_whole_url_stays_out_of_host() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    let answer = ask(&origin, &Request::get("http://user:secret@streams.test/live/x.ts"));
    // To refuse it is as good.
    if answer.status != 400 {
        assert_eq!(origin.only_request().fields.all("host"), ["streams.test"]);
    }
}

#[test]
fn an_old_client_need_not_name_a_host() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = connect(&proxy);
    connection.send(b"GET /live/x.ts HTTP/1.0\r\n\r\n").expect("it is sent");
    assert_eq!(connection.response("GET").expect("an answer").status, 200);
    assert_eq!(proxy.holders("__defaultVhost__/live/x"), ["origin"]);
    assert_eq!(origin.only_request().fields.all("host").len(), 1, "HTTP/1.1 wants one");
}

#[test]
fn an_answer_that_can_have_no_body_tells_no_length_of_one() {
    for length in ["0", "5"] {
        let answer = Answer::new(204, "No Content").field("Content-Length", length).bodiless();
        let answer = ask(&HttpOrigin::answering(answer), &Request::get("/live/x.ts"));
        assert_eq!((answer.status, answer.header("content-length")), (204, None), "{length}");
    }
}

#[test]
fn what_is_meant_for_the_next_hop_alone_does_not_reach_the_origin() {
    let request = Request::get("/live/x.ts")
        .field("Connection", "keep-alive, X-Mine")
        .field("X-Mine", "1")
        .field("Connection", "x-other")
        .field("X-Other", "2")
        .field("Keep-Alive", "timeout=5")
        .field("Proxy-Connection", "keep-alive")
        .field("TE", "trailers, deflate")
        .field("Upgrade", "h2c")
        .field("X-Kept", "3");
    let seen = seen(&request);
    for name in ["x-mine", "x-other", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(seen.fields.get(name), None, "{name} in {:?}", seen.fields);
    }
    assert!(!seen.fields.lists("te", "deflate"), "{:?}", seen.fields);
    assert_eq!(seen.fields.all("x-kept"), ["3"]);
}

#[test]
fn what_is_meant_for_the_next_hop_alone_does_not_reach_the_client() {
    let answer = Answer::new(200, "OK")
        .field("Connection", "keep-alive, X-Mine")
        .field("X-Mine", "1")
        .field("Keep-Alive", "timeout=5, max=7")
        .field("Proxy-Connection", "keep-alive")
        .field("X-Kept", "2")
        .body(b"media");
    let answer = ask(&HttpOrigin::answering(answer), &Request::get("/live/x.ts"));
    assert_eq!(answer.header("x-mine"), None);
    assert_eq!(answer.header("proxy-connection"), None);
    assert_ne!(answer.header("keep-alive"), Some("timeout=5, max=7"));
    assert!(!answer.fields.lists("connection", "x-mine"));
    assert_eq!(answer.header("x-kept"), Some("2"));
}

#[test]
fn connection_cannot_name_a_field_that_routes_or_frames() {
    let request = Request::new("POST", "/live/x.ts")
        .field("Connection", "Host, Content-Length, X-Forwarded-For, X-Real-IP")
        .body(b"a body");
    let seen = seen(&request);
    assert_eq!(seen.fields.all("host"), ["127.0.0.1"]);
    assert_eq!(seen.body.text(), "a body");
    assert_eq!(seen.fields.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.fields.all("x-real-ip"), ["127.0.0.1"]);
}

#[test]
fn the_origin_is_told_who_asks() {
    let seen = seen(&Request::get("/live/x.ts"));
    for (name, value) in
        [("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1"), ("x-forwarded-proto", "http")]
    {
        assert_eq!(seen.fields.all(name), [value], "{name}");
    }
    assert_eq!(seen.fields.all("via"), ["1.1 srs-proxy"]);
}

#[test]
fn who_asked_before_is_kept() {
    let request = Request::get("/live/x.ts")
        .field("X-Forwarded-For", "203.0.113.7, 198.51.100.2")
        .field("X-Forwarded-For", "192.0.2.9")
        .field("X-Forwarded-Proto", "https")
        .field("X-Real-IP", "203.0.113.7")
        .field("Via", "1.0 edge");
    let seen = seen(&request);
    let list = |name: &str| seen.fields.all(name).join(", ");
    assert_eq!(list("x-forwarded-for"), "203.0.113.7, 198.51.100.2, 192.0.2.9, 127.0.0.1");
    assert_eq!(list("via"), "1.0 edge, 1.1 srs-proxy");
    assert_eq!(list("x-forwarded-proto"), "https");
    assert_eq!(list("x-real-ip"), "127.0.0.1");
}

#[test]
fn an_old_client_is_asked_for_in_the_proxys_own_version() {
    let seen = seen(&Request::get("/live/x.ts").version_10());
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(seen.fields.all("via"), ["1.0 srs-proxy"]);
}
