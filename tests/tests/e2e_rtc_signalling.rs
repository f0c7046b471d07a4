//! WHIP, WHEP and SRS's JSON at the HTTP API: what reaches the origin, what comes back, and what the proxy refuses itself.

use serde_json::Value;
use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Seen};
use srs_proxy_tests::peers::pion::{Location, Pion, Publisher};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ports::free_port, wait_for, wait_until};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

const WHEP: &str = "/rtc/v1/whep/?app=live&stream=x&token=a%2Fb";
const SRS_RESOURCE: &str = "/rtc/v1/whep/?action=delete&app=live&stream=x&session=7";
const LINK: &str = "<stun:stun.test:3478>; rel=\"ice-server\"";

/// What browsers and SRS have said to each other.
fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/rtc").join(name)).expect("a fixture")
}

/// Answers offers as SRS does, and with these fields.
fn srs(location: &'static str) -> HttpOrigin {
    HttpOrigin::start(move |seen: &Seen| match (&seen.method[..], seen.target.contains("/play/")) {
        ("POST", true) => Answer::ok("application/json", &fixture("legacy-play.answer.json")),
        ("POST", false) => Answer::new(201, "Created")
            .field("Content-Type", "application/sdp")
            .field("Location", location)
            .field("ETag", "\"xyzzy\"")
            .field("Link", LINK)
            .field("X-Mine", "yes")
            .body(&fixture("whep-chromium.answer.sdp")),
        ("PATCH", _) => Answer::new(204, "No Content").field("ETag", "\"plugh\"").bodiless(),
        _ => Answer::new(200, "OK"),
    })
}

/// A proxy before this API.
#[track_caller]
fn before(api: SocketAddr, settings: &[(&str, &str)]) -> Proxy {
    let proxy = Proxy::with(settings);
    proxy.register_rtc("origin", api, (Ipv4Addr::LOCALHOST, free_port()).into());
    proxy
}

#[track_caller]
fn ask(proxy: &Proxy, request: &Request) -> Response {
    Connection::open(proxy.http_api()).expect("a connection").ask(request).expect("an answer")
}

fn post(target: &str) -> Request {
    Request::new("POST", target).field("Content-Type", "application/sdp")
}

fn offer(target: &str) -> Request {
    post(target).body(&fixture("whep-chromium.offer.sdp"))
}

/// The addresses and ports of the candidates.
fn candidates(sdp: &str) -> Vec<String> {
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    lines.map(|line| line.split(' ').skip(4).take(2).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn an_offer_reaches_the_origin_as_it_is_and_its_answer_leads_to_the_proxy() {
    let origin = srs("/rtc/v1/whep/?action=delete&token=t&app=live&stream=x&session=s:c");
    let proxy = before(origin.addr(), &[]);
    let request = offer(WHEP).field("Authorization", "Bearer t").field("X-Mine", "1").host("rtc.test");
    let answer = ask(&proxy, &request);
    let port = proxy.rtc().port();
    assert_eq!(answer.status, 201, "{answer:?}");
    for (name, value) in [
        ("content-type", "application/sdp"),
        ("location", "/rtc/v1/whep/?action=delete&token=t&app=live&stream=x&session=s:c"),
        ("etag", "\"xyzzy\""),
        ("link", LINK),
        ("x-mine", "yes"),
        ("access-control-allow-origin", "*"),
        ("content-length", &answer.body.len().to_string()),
    ] {
        assert_eq!(answer.fields.all(name), [value], "{name}");
    }
    for name in ["Location", "ETag", "Link"] {
        assert!(answer.fields.lists("access-control-expose-headers", name), "{:?}", answer.fields);
    }
    assert_eq!(candidates(&answer.body.text()), [format!("10.99.0.1 {port}"), format!("10.99.0.1 {port}")]);
    let seen = origin.only_request();
    assert_eq!((&seen.method[..], &seen.target[..]), ("POST", WHEP));
    assert_eq!(seen.body.0, fixture("whep-chromium.offer.sdp"));
    for (name, value) in [
        ("authorization", "Bearer t"),
        ("x-mine", "1"),
        ("host", "rtc.test"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(seen.fields.all(name), [value], "{name}");
    }
}

#[test]
fn a_port_that_the_system_chose_is_the_one_that_answers_name() {
    let origin = srs("/x");
    let proxy = before(origin.addr(), &[("PROXY_WEBRTC_SERVER", "127.0.0.1:0")]);
    let answer = ask(&proxy, &offer(WHEP));
    let line = wait_for("a line of the start", PATIENCE, || {
        proxy.log().lines().find(|line| line.contains("webrtc listens on")).map(str::to_owned)
    });
    let (_, port) = line.rsplit_once(':').expect("a port");
    assert_ne!(port, "0");
    assert_eq!(candidates(&answer.body.text())[0], format!("10.99.0.1 {port}"));
}

#[test]
fn candidates_are_the_addresses_that_are_set() {
    let origin = srs("/x");
    for (set, expected) in
        [("127.0.0.1", &["127.0.0.1"][..]), ("203.0.113.7, 2001:db8::7", &["203.0.113.7", "2001:db8::7"])]
    {
        let proxy = before(origin.addr(), &[("PROXY_WEBRTC_CANDIDATE", set)]);
        let port = proxy.rtc().port();
        let of_media: Vec<_> = expected.iter().map(|ip| format!("{ip} {port}")).collect();
        let expected = [&of_media[..], &of_media].concat();
        assert_eq!(candidates(&ask(&proxy, &offer(WHEP)).body.text()), expected, "{set}");
        let request = Request::new("POST", "/rtc/v1/play/").body(&fixture("legacy-play.offer.json"));
        let answer = ask(&proxy, &request).json();
        assert_eq!(candidates(answer["sdp"].as_str().expect("an sdp")), expected, "{set}");
        let original: Value = serde_json::from_slice(&fixture("legacy-play.answer.json")).expect("JSON");
        for name in ["code", "server", "service", "pid", "sessionid"] {
            assert_eq!(answer[name], original[name], "{name}");
        }
    }
}

#[test]
fn what_the_origin_refuses_is_refused_in_its_words() {
    for (status, reason) in
        [(400, "Bad Request"), (401, "Unauthorized"), (404, "Not Found"), (406, "Not Acceptable")]
    {
        let origin = HttpOrigin::answering(
            Answer::new(status, reason).field("WWW-Authenticate", "Bearer").body(b"because"),
        );
        let proxy = before(origin.addr(), &[]);
        let answer = ask(&proxy, &offer(WHEP));
        assert_eq!((answer.status, &answer.body.text()[..]), (status, "because"));
        assert_eq!(answer.fields.all("www-authenticate"), ["Bearer"]);
        assert_eq!(answer.fields.all("location"), Vec::<&str>::new());
    }
    let refusal = br#"{"code":400,"data":"no"}"#;
    let origin = HttpOrigin::answering(Answer::ok("application/json", refusal));
    let proxy = before(origin.addr(), &[]);
    let request = Request::new("POST", "/rtc/v1/play/").body(&fixture("legacy-play.offer.json"));
    assert_eq!(ask(&proxy, &request).body.0, refusal, "SRS says so with 200");
}

#[test]
fn resources_are_found_wherever_the_origin_puts_them() {
    // Each at another origin: only one of three has the stream, and the resource is its.
    let of = "/of/__defaultVhost__%2Flive%2Fx";
    for (location, told, at_origin) in [
        ("/session/7", format!("{of}/session/7"), "/session/7"),
        (SRS_RESOURCE, SRS_RESOURCE.into(), SRS_RESOURCE),
        ("7", format!("{of}/rtc/v1/whep/7"), "/rtc/v1/whep/7"),
        ("?id=7", format!("{of}/rtc/v1/whep/?id=7"), "/rtc/v1/whep/?id=7"),
        ("http://10.0.0.9:1985/session/7?a=b", format!("{of}/session/7?a=b"), "/session/7?a=b"),
    ] {
        let origins = [srs(location), srs(location), srs(location)];
        let proxy = Proxy::with(&[("PROXY_WORKERS", "2")]);
        for (name, origin) in ["a", "b", "c"].iter().zip(&origins) {
            proxy.register_rtc(name, origin.addr(), (Ipv4Addr::LOCALHOST, free_port()).into());
        }
        let answer = ask(&proxy, &offer(WHEP));
        let resource = answer.header("location").expect("a resource").to_owned();
        assert_eq!(resource, told, "{location}");
        let holder = origins.iter().find(|origin| !origin.requests().is_empty()).expect("one was asked");
        holder.forget();
        let fragment = b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=end-of-candidates\r\n";
        let patch = Request::new("PATCH", &resource).field("Content-Type", "application/trickle-ice-sdpfrag");
        let patched = ask(&proxy, &patch.field("If-Match", "\"xyzzy\"").body(fragment));
        assert_eq!((patched.status, patched.header("etag")), (204, Some("\"plugh\"")), "{location}");
        let delete = Request::new("DELETE", &resource).field("Authorization", "Bearer t");
        assert_eq!(ask(&proxy, &delete).status, 200, "{location}");
        let seen = holder.requests();
        assert_eq!(seen.iter().map(|seen| &seen.method[..]).collect::<Vec<_>>(), ["PATCH", "DELETE"]);
        assert_eq!(seen[0].fields.all("if-match"), ["\"xyzzy\""]);
        assert_eq!(seen[0].body.0, fragment);
        assert_eq!(seen[1].fields.all("authorization"), ["Bearer t"]);
        assert!(seen.iter().all(|seen| seen.target == at_origin), "{location}: {}", seen[0].target);
        let preflight = Request::new("OPTIONS", &resource)
            .field("Origin", "https://pages.test")
            .field("Access-Control-Request-Method", "DELETE")
            .field("Access-Control-Request-Headers", "authorization");
        let preflight = ask(&proxy, &preflight);
        assert_eq!(preflight.status, 204);
        for method in ["POST", "PATCH", "DELETE"] {
            assert!(preflight.fields.lists("access-control-allow-methods", method), "{:?}", preflight.fields);
        }
    }
}

#[test]
fn offers_may_come_in_chunks_and_after_100_continue() {
    let origin = srs("/x");
    let proxy = before(origin.addr(), &[]);
    let sdp = fixture("whep-chromium.offer.sdp");
    let pieces: Vec<_> = sdp.chunks(100).collect();
    assert_eq!(ask(&proxy, &post(WHEP).chunked(&pieces)).status, 201);
    assert_eq!(origin.only_request().body.0, sdp);

    let request = post(WHEP).field("Expect", "100-continue").body(&sdp);
    let mut connection = Connection::open(proxy.http_api()).expect("a connection");
    connection.send(&request.head_bytes()).expect("it is sent");
    assert_eq!(connection.interim().expect("an interim answer"), 100);
    connection.send(&sdp).expect("it is sent");
    assert_eq!(connection.response("POST").expect("an answer").status, 201);

    // On the same connection, byte by byte, another one, as a slow client's.
    origin.forget();
    for byte in offer(WHEP).bytes() {
        connection.send(&[byte]).expect("it is sent");
    }
    assert_eq!(connection.response("POST").expect("an answer").status, 201);
    assert_eq!(origin.only_request().body.0, sdp);
}

#[test]
fn what_cannot_be_an_offer_is_refused_without_the_origin() {
    let origin = srs("/x");
    let proxy = before(origin.addr(), &[]);
    let large = vec![b'a'; 200 * 1024];
    let huge = vec![b'a'; 400 * 1024];
    let json = |body: &[u8]| Request::new("POST", "/rtc/v1/play/").body(body);
    for (what, status, request) in [
        ("a large offer", 413, post(WHEP).body(&large)),
        ("a large one in chunks", 413, post(WHEP).chunked(&[&large])),
        ("a large envelope", 413, json(&huge)),
        ("no JSON", 400, json(b"{")),
        ("an array", 400, json(b"[]")),
        ("no stream", 400, json(br#"{"sdp":"v=0\r\na=ice-ufrag:abcd\r\n"}"#)),
        ("no sdp", 400, json(br#"{"streamurl":"webrtc://h/live/x"}"#)),
        ("no user", 400, json(br#"{"streamurl":"webrtc://h/live/x","sdp":"v=0\r\n"}"#)),
        ("an empty envelope", 400, Request::new("POST", "/rtc/v1/play/").field("Content-Length", "0")),
    ] {
        let answer = ask(&proxy, &request);
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert_eq!(answer.fields.all("access-control-allow-origin"), ["*"], "{what}");
        assert!(!answer.body.contains("127.0.0.1"), "{what}: {}", answer.body);
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn without_an_origin_it_is_503_and_with_a_dead_one_502() {
    let proxy = Proxy::start();
    assert_eq!(ask(&proxy, &offer(WHEP)).status, 503);
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    proxy.register_rtc("origin", nowhere, nowhere);
    assert_eq!(ask(&proxy, &offer(WHEP)).status, 502);
}

#[test]
fn an_answer_that_is_none_does_not_pass() {
    let sdp = |body: &[u8]| Answer::new(201, "Created").field("Content-Type", "application/sdp").body(body);
    let tcp_only = b"v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:abcd\r\n\
        a=candidate:0 1 tcp 1 10.99.0.1 8000 typ host tcptype passive\r\n";
    let answer = fixture("whep-chromium.answer.sdp");
    for (what, answer) in [
        ("nonsense", sdp(b"not a description")),
        ("nothing to reach", sdp(tcp_only)),
        ("too much", sdp(&vec![b'a'; 300 * 1024])),
        ("nonsense of no type", Answer::new(200, "OK").body(b"not a description")),
        ("compressed", sdp(&answer).field("Content-Encoding", "gzip")),
    ] {
        let origin = HttpOrigin::answering(answer);
        let proxy = before(origin.addr(), &[]);
        assert_eq!(ask(&proxy, &offer(WHEP)).status, 502, "{what}");
    }
}

#[test]
fn an_offer_is_one_whatever_its_type_is_said_to_be() {
    let origin = srs("/session/7");
    let proxy = before(origin.addr(), &[]);
    let port = proxy.rtc().port();
    for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = Request::new("POST", WHEP).field("Content-Type", media_type);
        let answer = ask(&proxy, &request.body(&fixture("whep-chromium.offer.sdp")));
        assert_eq!(answer.status, 201);
        assert_eq!(candidates(&answer.body.text()), vec![format!("10.99.0.1 {port}"); 2], "{media_type}");
    }
    let untyped = HttpOrigin::answering(Answer::new(200, "OK").body(&fixture("whep-chromium.answer.sdp")));
    let proxy = before(untyped.addr(), &[]);
    let answer = ask(&proxy, &offer(WHEP));
    assert_eq!(candidates(&answer.body.text()), vec![format!("10.99.0.1 {}", proxy.rtc().port()); 2]);
}

#[test]
fn a_restart_of_ice_is_answered_with_the_proxys_candidates() {
    let restarted = b"a=ice-lite\r\na=ice-ufrag:new1\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:0 1 udp 1 10.99.0.1 8000 typ host\r\n";
    let origin = HttpOrigin::start(|seen: &Seen| match &seen.method[..] {
        "PATCH" => Answer::new(200, "OK")
            .field("Content-Type", "application/trickle-ice-sdpfrag")
            .field("ETag", "\"plugh\"")
            .body(restarted),
        _ => Answer::new(201, "Created")
            .field("Content-Type", "application/sdp")
            .field("Location", "/session/7")
            .body(&fixture("whep-chromium.answer.sdp")),
    });
    let proxy = before(origin.addr(), &[]);
    let resource = ask(&proxy, &offer(WHEP)).header("location").expect("a resource").to_owned();
    let fragment = b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    let patch = Request::new("PATCH", &resource).field("Content-Type", "application/trickle-ice-sdpfrag");
    let answer = ask(&proxy, &patch.field("If-Match", "*").body(fragment));
    assert_eq!((answer.status, answer.header("etag")), (200, Some("\"plugh\"")));
    assert_eq!(candidates(&answer.body.text()), [format!("10.99.0.1 {}", proxy.rtc().port())]);
    assert!(answer.body.contains("a=ice-ufrag:new1"), "{}", answer.body);
}

#[test]
fn who_asks_for_no_more_than_the_options_hears_the_origins() {
    let origin = HttpOrigin::start(|_: &Seen| {
        Answer::new(204, "No Content")
            .field("Link", LINK)
            .field("Accept-Post", "application/sdp")
            .field("Access-Control-Expose-Headers", "Accept-Post")
            .bodiless()
    });
    let proxy = before(origin.addr(), &[]);
    let answer = ask(&proxy, &Request::new("OPTIONS", WHEP).field("Authorization", "Bearer t"));
    assert_eq!((answer.status, answer.header("link")), (204, Some(LINK)));
    for name in ["Accept-Post", "Link", "Location"] {
        assert!(answer.fields.lists("access-control-expose-headers", name), "{:?}", answer.fields);
    }
    let seen = origin.only_request();
    assert_eq!((&seen.method[..], &seen.target[..]), ("OPTIONS", WHEP));
    assert_eq!(seen.fields.all("authorization"), ["Bearer t"]);
}

#[test]
fn a_redirect_leads_where_the_origin_says_and_no_offer_goes_to_a_resource() {
    let elsewhere = "https://other.test/rtc/v1/whep/?app=live&stream=y";
    let origin =
        HttpOrigin::answering(Answer::new(307, "Temporary Redirect").field("Location", elsewhere).body(b"x"));
    let proxy = before(origin.addr(), &[]);
    let answer = ask(&proxy, &offer(WHEP));
    assert_eq!((answer.status, answer.header("location")), (307, Some(elsewhere)));
    origin.forget();
    assert_eq!(ask(&proxy, &offer("/of/__defaultVhost__%2Flive%2Fx/session/7")).status, 404);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_real_origin_is_told_who_asks() {
    let origin = Pion::start(Location::Query);
    let proxy = Proxy::before_rtc(&origin, &[]);
    let url = proxy.rtc_url("whip", "live", "x") + "&secret=s";
    let publisher = Publisher::start(&url, 50);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    let seen = &origin.requests()[0];
    assert_eq!(seen["uri"], "/rtc/v1/whip/?app=live&stream=x&secret=s");
    assert_eq!(seen["host"], proxy.http_api().to_string());
    assert_eq!(seen["forwarded_for"], "127.0.0.1");
    drop(publisher);
}
