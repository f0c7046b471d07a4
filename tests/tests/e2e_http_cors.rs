//! Pages of any site may play: preflights are answered, and answers may be read.

use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::proxy::Proxy;
use std::net::SocketAddr;

/// Targets of every kind.
const TARGETS: [&str; 6] =
    ["/live/x.flv", "/live/x.ts", "/live/x.m3u8", "/live/x-0.m4s", "/live/x.mpd", "/live/x-0.ts?spbhid=gone"];

#[track_caller]
fn ask(to: SocketAddr, request: &Request) -> Response {
    Connection::open(to).expect("a connection").ask(request).expect("an answer")
}

fn from_a_page(target: &str) -> Request {
    Request::get(target).field("Origin", "https://pages.test")
}

/// Whether a page may read these fields of an answer.
#[track_caller]
fn assert_open(answer: &Response, what: &str) {
    assert_eq!(answer.fields.all("access-control-allow-origin"), ["*"], "{what}");
    let exposed = answer.fields.all("access-control-expose-headers");
    assert_eq!(exposed.len(), 1, "{what}: {exposed:?}");
    for name in ["Content-Length", "Content-Range"] {
        assert!(answer.fields.lists("access-control-expose-headers", name), "{what}: {exposed:?}");
    }
}

#[test]
fn a_preflight_is_answered_without_the_origin() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp4", b"media"));
    let proxy = Proxy::start();
    let addr = origin.addr();
    proxy.register_serving("origin", "1", addr, &[("http", addr), ("api", addr)]);
    let api = ["/api/v1/streams?app=live&stream=x", "/rtc/v1/whep/?app=live&stream=x"];
    let all = TARGETS.iter().chain(&["/", "/player.js"]).map(|target| (proxy.http(), *target));
    for (to, target) in all.chain(api.map(|target| (proxy.http_api(), target))) {
        let request = Request::new("OPTIONS", target)
            .field("Origin", "https://pages.test")
            .field("Access-Control-Request-Method", "GET")
            .field("Access-Control-Request-Headers", "range, authorization, x-mine");
        let answer = ask(to, &request);
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{target}");
        assert_eq!(answer.header("content-length"), None, "{target}");
        assert_eq!(answer.fields.all("access-control-allow-origin"), ["*"], "{target}");
        assert!(answer.fields.lists("access-control-allow-methods", "GET"), "{target}: {:?}", answer.fields);
        for name in ["range", "authorization", "x-mine"] {
            assert!(answer.fields.lists("access-control-allow-headers", name), "{target}: {name}");
        }
        assert!(answer.header("access-control-max-age").is_some(), "{target}");
    }
    let plain = ask(proxy.http(), &Request::new("OPTIONS", "/live/x.flv"));
    assert!(plain.fields.lists("allow", "GET") && plain.fields.lists("allow", "OPTIONS"), "{plain:?}");
    assert_eq!(ask(proxy.http(), &Request::new("OPTIONS", "*")).status, 204);
    assert!(origin.requests().is_empty());
}

#[test]
fn streams_playlists_and_segments_are_open() {
    let origin = HttpOrigin::start(|seen| match seen.target.ends_with(".m3u8") {
        true => Answer::ok("application/vnd.apple.mpegurl", b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n"),
        false => Answer::ok("video/mp4", b"<MPD></MPD>"),
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in &TARGETS[..5] {
        let answer = ask(proxy.http(), &from_a_page(target));
        assert_eq!(answer.status, 200, "{target}");
        assert_open(&answer, target);
    }
}

#[test]
fn errors_of_the_origin_and_of_the_proxy_are_open() {
    let origin = HttpOrigin::start(|seen| match seen.target.ends_with(".ts") {
        true => Answer::new(404, "Not Found"),
        false => Answer::raw(b"nonsense\r\n\r\n"),
    });
    let proxy = Proxy::start();
    assert_eq!(
        ask(proxy.http(), &from_a_page("/live/x.ts")).header("access-control-allow-origin"),
        Some("*")
    );
    proxy.register_http("origin", origin.addr());
    for (target, status) in [("/live/x.ts", 404), ("/live/x.m4s", 502), ("/live/x-0.ts?spbhid=gone", 404)] {
        let answer = ask(proxy.http(), &from_a_page(target));
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.fields.all("access-control-allow-origin"), ["*"], "{target}");
    }
}

#[test]
fn what_the_origin_says_about_other_sites_stands() {
    let origin = HttpOrigin::start(|seen| {
        let answer = Answer::new(200, "OK")
            .field("Access-Control-Allow-Origin", "https://pages.test")
            .field("access-control-expose-headers", "X-Mine")
            .field("Access-Control-Allow-Credentials", "true")
            .field("Vary", "Origin");
        match seen.target.ends_with(".m3u8") {
            true => answer.body(b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n"),
            false => answer.body(b"media"),
        }
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in ["/live/x.flv", "/live/x.m3u8", "/live/x.m4s"] {
        let answer = ask(proxy.http(), &from_a_page(target));
        assert_eq!(answer.fields.all("access-control-allow-origin"), ["https://pages.test"], "{target}");
        assert_eq!(answer.fields.all("access-control-expose-headers"), ["X-Mine"], "{target}");
        assert_eq!(answer.fields.all("access-control-allow-credentials"), ["true"], "{target}");
    }
}
