//! Which origin a request over HTTP goes to: that of its stream, whichever way the stream is named and whichever worker
//! is asked.

use srs_proxy_tests::peers::http::{Connection, Request};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::playlist::{resolve, uris};
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, http, wait_for, wait_until};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

/// Streams that are chosen for one of three origins: that all are on one is not chance.
const STREAMS: usize = 12;

/// Connections that a viewer uses for one playlist: enough for every worker to get some.
const CONNECTIONS: usize = 40;

/// What an origin calls a playlist.
const TYPE: &str = "application/vnd.apple.mpegurl";

/// A playlist of one segment.
const PLAYLIST: &[u8] = b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n";

/// Three origins, each answering with its number.
fn numbered_origins() -> [HttpOrigin; 3] {
    [0, 1, 2]
        .map(|number| HttpOrigin::answering(Answer::ok("video/mp2t", format!("origin{number}").as_bytes())))
}

#[track_caller]
fn before<const N: usize>(origins: [SocketAddr; N], settings: &[(&str, &str)]) -> Proxy {
    let proxy = Proxy::with(settings);
    for (number, http) in origins.into_iter().enumerate() {
        proxy.register_http(&format!("origin{number}"), http);
    }
    proxy
}

#[track_caller]
fn ask(to: SocketAddr, request: &Request) -> http::Response {
    Connection::open(to).expect("a connection").ask(request).expect("an answer")
}

#[test]
fn every_spelling_of_a_stream_reaches_its_one_origin() {
    let origins = numbered_origins();
    let proxy = before(origins.each_ref().map(HttpOrigin::addr), &[]);
    let spellings = [
        ("streams.test", "/live/x.flv"),
        ("streams.test:18080", "/live/x.flv"),
        ("STREAMS.test", "/live/x.ts"),
        ("streams.test.", "/live/x.m3u8"),
        ("streams.test", "/live/x.aac?token=a/b.c"),
        ("127.0.0.1:18080", "/live/x.flv?vhost=streams.test"),
        ("[::1]:18080", "/live/x.flv?token=t&vhost=streams.test"),
        ("other.test", "/live/x.ts?vhost=streams.test"),
        ("streams.test", "//live//x.flv"),
        ("streams.test", "/l%69ve/x.flv"),
        ("other.test", "http://streams.test/live/x.flv"),
    ];
    let mut answers: Vec<_> = spellings
        .iter()
        .map(|(host, target)| ask(proxy.http(), &Request::get(target).host(host)).body.text())
        .collect();
    assert_eq!(proxy.holders("streams.test/live/x"), [answers[0].clone()]);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn a_host_without_a_name_is_the_default_vhost() {
    let origins = numbered_origins();
    let proxy = before(origins.each_ref().map(HttpOrigin::addr), &[]);
    let hosts =
        ["127.0.0.1", "127.0.0.1:18080", "[::1]", "[::1]:18080", "[2001:db8::7]:80", "localhost:18080", ""];
    let mut answers: Vec<_> = hosts
        .iter()
        .map(|host| ask(proxy.http(), &Request::get("/live/x.flv").host(host)).body.text())
        .collect();
    assert_eq!(proxy.holders("__defaultVhost__/live/x"), [answers[0].clone()]);
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn a_bare_port_serves_both_families_and_tells_the_origin_whose_request_it_is() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    let port = free_port();
    let proxy = Proxy::before(origin.addr(), &[("PROXY_HTTP_SERVER", &port.to_string())]);
    let clients = [
        (SocketAddr::from((Ipv6Addr::LOCALHOST, port)), format!("[::1]:{port}"), "::1"),
        (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), format!("127.0.0.1:{port}"), "127.0.0.1"),
    ];
    for (to, host, client) in clients {
        origin.forget();
        assert_eq!(ask(to, &Request::get("/live/x.flv").host(&host)).status, 200);
        let seen = origin.only_request();
        for (name, value) in [("host", &host[..]), ("x-forwarded-for", client), ("x-real-ip", client)] {
            assert_eq!(seen.fields.all(name), [value], "{name}");
        }
    }
    assert_eq!(proxy.holders("__defaultVhost__/live/x"), ["origin"]);
}

#[test]
fn streams_spread_over_the_origins_and_stay() {
    let origins = numbered_origins();
    let proxy = before(origins.each_ref().map(HttpOrigin::addr), &[]);
    let round = || -> Vec<String> {
        (0..STREAMS)
            .map(|n| ask(proxy.http(), &Request::get(&format!("/live/s{n}.flv"))).body.text())
            .collect()
    };
    let first = round();
    assert!(first.iter().any(|origin| *origin != first[0]), "{first:?}");
    assert_eq!(round(), first);
}

#[test]
fn a_stream_is_published_where_it_is_watched() {
    let origins = [Nginx::start(), Nginx::start(), Nginx::start()];
    let proxy = Proxy::start();
    for (number, origin) in origins.iter().enumerate() {
        proxy.register_serving(&format!("origin{number}"), "1", origin.rtmp(), &[("http", origin.http())]);
    }
    let playlist = |n: usize| Request::get(&format!("/hls/s{n}.m3u8"));
    // Half of the streams have viewers before they have a publisher.
    for n in 0..STREAMS / 4 {
        assert_eq!(ask(proxy.http(), &playlist(n)).status, 404);
    }
    let publishers: Vec<_> =
        (0..STREAMS / 2).map(|n| ffmpeg::Publisher::start(&proxy.url(&format!("hls/s{n}")))).collect();
    for n in 0..publishers.len() {
        wait_until("the playlist is there", PATIENCE, || ask(proxy.http(), &playlist(n)).status == 200);
        assert_eq!(proxy.holders(&format!("__defaultVhost__/hls/s{n}")).len(), 1);
    }
}

#[test]
fn segments_reach_the_origin_of_their_playlist_on_every_worker() {
    let origins = [Nginx::start(), Nginx::start(), Nginx::start()];
    let proxy = Proxy::with(&[("PROXY_WORKERS", "2")]);
    for (number, origin) in origins.iter().enumerate() {
        proxy.register_serving(&format!("origin{number}"), "1", origin.rtmp(), &[("http", origin.http())]);
    }
    let _publisher = ffmpeg::Publisher::start(&proxy.url("hls/x"));
    let target = "/hls/x.m3u8?token=a%2Fb";
    let playlist = || ask(proxy.http(), &Request::get(target));
    let text = wait_for("a playlist with segments", PATIENCE, || {
        let answer = playlist();
        (answer.status == 200 && uris(&answer.body.text()).len() >= 3).then(|| answer.body.text())
    });
    let session = session_of(uris(&text)[0]);
    for n in 0..CONNECTIONS {
        let text = playlist().body.text();
        let uris = uris(&text);
        assert!(uris.iter().all(|uri| session_of(uri) == session), "{session} in {text}");
        // The last is not removed before it is asked for.
        let segment = resolve(target, uris[uris.len() - 1 - n % 2]);
        // Whatever host a segment is asked by, its session says where it is.
        let host = ["127.0.0.1", "other.test"][n % 2];
        let answer = ask(proxy.http(), &Request::get(&segment).host(host));
        assert_eq!((answer.status, answer.body.first()), (200, Some(&0x47)), "{segment}");
    }
}

/// The session's id in a URI.
fn session_of(uri: &str) -> String {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let id = query.split('&').find_map(|pair| pair.strip_prefix("spbhid="));
    id.unwrap_or_else(|| panic!("no session in {uri}")).to_owned()
}

#[test]
fn each_stream_has_a_session_of_its_own_that_nobody_can_guess() {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, PLAYLIST));
    let proxy = Proxy::before(origin.addr(), &[]);
    let session = |n: usize| {
        let text = ask(proxy.http(), &Request::get(&format!("/live/s{n}.m3u8"))).body.text();
        session_of(uris(&text)[0])
    };
    let mut sessions: Vec<_> = (0..STREAMS).map(session).collect();
    assert_eq!((0..STREAMS).map(session).collect::<Vec<_>>(), sessions, "they stay");
    assert!(sessions.iter().all(|id| id.len() >= 16), "{sessions:?}");
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), STREAMS);
}

#[test]
fn viewers_who_come_at_the_same_instant_share_one_session() {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, PLAYLIST));
    let proxy = Proxy::before(origin.addr(), &[("PROXY_WORKERS", "2")]);
    let addr = proxy.http();
    let viewers: Vec<_> = (0..CONNECTIONS)
        .map(|_| thread::spawn(move || ask(addr, &Request::get("/live/x.m3u8")).body.text()))
        .collect();
    let mut texts: Vec<_> = viewers.into_iter().map(|viewer| viewer.join().expect("an answer")).collect();
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[test]
fn a_playlist_with_an_unknown_session_is_found_by_its_path() {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, PLAYLIST));
    let proxy = Proxy::before(origin.addr(), &[]);
    let answer = ask(proxy.http(), &Request::get("/live/x.m3u8?spbhid=gone"));
    assert_eq!(answer.status, 200);
    let text = answer.body.text();
    assert_ne!(session_of(uris(&text)[0]), "");
    assert_eq!(proxy.holders("__defaultVhost__/live/x"), ["origin"]);
}

#[test]
fn a_segment_with_an_unknown_session_is_not_found() {
    let origin = HttpOrigin::answering(Answer::ok("video/mp2t", b"media"));
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in ["/live/x-0.ts?spbhid=gone", "/spbhid/gone/live/x-0.m4s"] {
        let answer = ask(proxy.http(), &Request::get(target));
        assert_eq!(answer.status, 404, "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{target}");
    }
    assert!(origin.requests().is_empty());
}
