//! The HTTP harness itself, with no proxy between: what it sees through the proxy must hold without it.

use srs_proxy_tests::peers::http::{Connection, Left, Request};
use srs_proxy_tests::peers::http_origin::{Answer, Gate, HttpOrigin, Step};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::nms::NodeMediaServer;
use srs_proxy_tests::peers::packets::compare;
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::ts_origin::TsOrigin;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, http, packaged, wait_until};
use std::io::ErrorKind;

/// Packets a player takes: some seconds of the film.
const PACKETS: usize = 300;

/// Bytes of a stream that are looked at.
const START: usize = 500_000;

#[test]
fn an_answer_of_every_framing_is_read_and_its_request_recorded() {
    let origin = HttpOrigin::start(|seen| match &seen.target[..] {
        "/length" => Answer::ok("text/plain", b"with a length"),
        "/chunks" => Answer::new(200, "OK").chunks(&[b"in ", b"chunks"], &[("X-Sum", "7")]),
        "/close" => Answer::new(200, "OK").until_close(b"until the end"),
        "/hints" => Answer::ok("text/plain", b"later").after_interim(103, "Early Hints", &[("Link", "</x>")]),
        _ => Answer::new(404, "Nothing Here"),
    });
    let mut connection = Connection::open(origin.addr()).expect("a connection");
    let cases = [("/length", "with a length"), ("/chunks", "in chunks"), ("/hints", "later"), ("/", "")];
    for (target, body) in cases {
        let answer = connection.ask(&Request::get(target)).expect("an answer");
        assert_eq!(answer.body.text(), body, "{target}");
        assert_eq!(answer.trailers.get("x-sum").is_some(), target == "/chunks");
        assert_eq!(answer.interim.len(), usize::from(target == "/hints"));
    }
    let head = connection.ask(&Request::new("HEAD", "/length")).expect("an answer");
    assert_eq!((head.header("content-length"), head.body.len()), (Some("13"), 0));
    let post = Request::new("POST", "/length").field("Expect", "100-continue").chunked(&[b"a ", b"body"]);
    let answer = connection.ask(&post).expect("an answer");
    assert_eq!(answer.interim.len(), 1);
    let until_close = connection.ask(&Request::get("/close")).expect("an answer");
    assert_eq!(until_close.body.text(), "until the end");

    let requests = origin.requests();
    assert_eq!(requests.len(), cases.len() + 3);
    assert!(requests.iter().all(|seen| seen.connection == 0 && seen.whole));
    assert_eq!(requests[5].body.text(), "a body");
    let head = &requests[0].head;
    assert_eq!(head.text(), "GET /length HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert!(origin.records()[0].received.starts_with(head));
}

#[test]
fn an_answer_that_is_cut_short_is_an_error() {
    let cut = [
        Answer::new(200, "OK").length(100).then(Step::Send(b"short".to_vec())).then(Step::Close),
        Answer::new(200, "OK").length(100).then(Step::Send(b"short".to_vec())).then(Step::Reset),
        Answer::new(200, "OK").chunked().then(Step::Send(b"64\r\nshort".to_vec())).then(Step::Close),
        Answer::new(200, "OK").chunked().then(Step::Send(b"5\r\nshort\r\n".to_vec())).then(Step::Close),
        Answer::raw(b"HTTP/1.1 200 OK\r\n").then(Step::Close),
    ];
    for answer in cut {
        let origin = HttpOrigin::answering(answer.clone());
        let why = http::get(origin.addr(), "/").expect_err("it is cut short");
        let kinds = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
        assert!(kinds.contains(&why.kind()), "{answer:?}: {why}");
    }
}

#[test]
fn an_origin_that_holds_or_floods_notices_that_its_client_leaves() {
    let gate = Gate::default();
    let answers = [
        Answer::silence(),
        Answer::new(200, "OK").endless(b"start"),
        Answer::new(200, "OK").until_close(b"").then(Step::Flood(vec![7; 65536])),
        Answer::new(200, "OK").chunked().then(Step::Wait(gate.clone())).then(Step::Hold),
    ];
    gate.open();
    for answer in answers {
        let origin = HttpOrigin::answering(answer);
        let mut connection = Connection::open(origin.addr()).expect("a connection");
        connection.send_request(&Request::get("/")).expect("it is sent");
        origin.wait_request("the request", |_| true);
        assert_eq!(origin.open(), 1);
        drop(connection);
        wait_until("the origin notices", PATIENCE, || origin.open() == 0);
    }
}

#[test]
fn nginx_answers_with_every_kind_of_status() {
    let origin = Nginx::start();
    for status in [204, 301, 302, 401, 403, 404, 500] {
        let answer = http::get(origin.http(), &format!("/status/{status}.ts")).expect("an answer");
        assert_eq!((answer.status, answer.header("x-origin")), (status, Some("nginx")));
    }
}

#[test]
fn nginx_serves_its_streams_as_hls_plain_and_encrypted() {
    let origin = Nginx::start();
    for app in ["hls", "keyed"] {
        let publisher = ffmpeg::Publisher::start(&format!("rtmp://{}/{app}/x", origin.rtmp()));
        let playlist = format!("/{app}/x.m3u8");
        wait_until("there is a playlist", PATIENCE, || {
            http::get(origin.http(), &playlist).is_ok_and(|answer| answer.body.contains(".ts"))
        });
        let text = http::get(origin.http(), &playlist).expect("a playlist").body;
        assert_eq!(text.contains("EXT-X-KEY"), app == "keyed", "{text}");
        let url = format!("http://{}{playlist}", origin.http());
        ffmpeg::decode_for(&url, 3, PATIENCE).success();
        drop(publisher);
    }
}

#[test]
fn node_media_server_serves_the_film_as_http_flv() {
    let origin = NodeMediaServer::start();
    let publisher = ffmpeg::Publisher::start(&format!("rtmp://{}/live/x", origin.rtmp()));
    let url = format!("http://{}/live/x.flv", origin.http());
    let first = ffmpeg::PacketPlayer::start(&url, PACKETS);
    let second = ffmpeg::packets(&url, PACKETS);
    assert!(compare(&first.finish(), &second).expect("the same packets").packets >= PACKETS / 2);
    drop(publisher);
}

#[test]
fn ffmpeg_serves_the_film_as_http_ts_to_one_viewer() {
    let dir = TempDir::new("film");
    let film = dir.path().join("film.ts");
    packaged::transport_stream(&film);
    let mut origin = TsOrigin::start();
    let mut connection = Connection::open(origin.http()).expect("a connection");
    connection.send_request(&Request::get("/live/x.ts")).expect("it is sent");
    let (_, framing) = connection.head("GET").expect("a head");
    let start = connection.body_start(&mut Left::from(framing), START).expect("a stream");
    assert!(std::fs::read(film).expect("the film").starts_with(&start));
    drop(connection);
    wait_until("it ends with its viewer", PATIENCE, || !origin.is_running());
}

#[test]
fn the_packaged_film_plays_from_files() {
    type Make = fn(&std::path::Path);
    let kinds: [(&str, Make, &str); 5] = [
        ("hls", packaged::hls, "x.m3u8"),
        ("fmp4", packaged::fragmented_mp4, "x.m3u8"),
        ("encrypted", packaged::encrypted, "x.m3u8"),
        ("variants", packaged::variants, "x.m3u8"),
        ("dash", packaged::dash, "x.mpd"),
    ];
    let origin = Nginx::start();
    for (name, make, playlist) in kinds {
        make(&origin.files().join("vod").join(name));
        let url = format!("http://{}/vod/{name}/{playlist}", origin.http());
        assert!(ffmpeg::file_packets(&url).len() > 1500, "{name}");
    }
}

#[test]
fn a_body_can_be_read_in_pieces() {
    let origin = HttpOrigin::answering(Answer::new(200, "OK").endless(b"0123456789"));
    let mut connection = Connection::open(origin.addr()).expect("a connection");
    connection.send_request(&Request::get("/")).expect("it is sent");
    let (_, framing) = connection.head("GET").expect("a head");
    let mut left = Left::from(framing);
    assert_eq!(connection.body_start(&mut left, 10).expect("the start"), b"0123456789");
}
