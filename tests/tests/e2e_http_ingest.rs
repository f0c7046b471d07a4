//! Encoders that send what they make by HTTP, and leave as soon as they have sent it.

use srs_proxy_tests::peers::http::{Connection, Request};
use srs_proxy_tests::peers::http_origin::{Answer, Gate, HttpOrigin, Step};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, packaged, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The files in a folder: names and contents.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        Some((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).ok()?))
    };
    entries.filter_map(read).collect()
}

#[test]
fn hls_that_ffmpeg_puts_is_whole_at_its_origin() {
    let dir = TempDir::new("film");
    packaged::hls(dir.path());
    let made = files(dir.path());
    assert!(made.len() > 3 && made.contains_key("x.m3u8"), "{:?}", made.keys());
    let origin = Nginx::start();
    let proxy = Proxy::before(origin.http(), &[]);
    packaged::hls_sent_to(&proxy.http_url("ingest/film"));
    let folder = origin.files().join("ingest/film");
    wait_until("all files are there", PATIENCE, || files(&folder).len() == made.len());
    wait_until("they are what ffmpeg makes", PATIENCE, || files(&folder) == made);
}

#[test]
fn a_stream_that_ffmpeg_posts_is_whole_at_its_origin() {
    let dir = TempDir::new("film");
    let (made, arrived) = (dir.path().join("made.flv"), dir.path().join("arrived.flv"));
    packaged::flash_video(&made.display().to_string());
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"taken"));
    let proxy = Proxy::before(origin.addr(), &[]);
    packaged::flash_video(&proxy.http_url("live/x.flv"));
    let seen = origin.wait_request("the whole of it", |seen| seen.whole);
    fs::write(&arrived, &seen.body.0).expect("a file");
    assert_eq!((&seen.method[..], &seen.target[..]), ("POST", "/live/x.flv"));
    assert!(ffmpeg::file_packets(&arrived) == ffmpeg::file_packets(&made), "other packets");
}

#[test]
fn a_body_is_delivered_whole_though_its_client_is_gone() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin =
        HttpOrigin::start(move |_| Answer::raw(b"").then(Step::Wait(held.clone())).then(Step::Close));
    let proxy = Proxy::before(origin.addr(), &[]);
    let long = vec![7; 3_000_000];
    for (method, target, body) in [
        ("PUT", "/live/x.m3u8", &b"#EXTM3U\n"[..]),
        ("PUT", "/live/x-1.ts", &long[..]),
        ("POST", "/live/x.flv", &long[..]),
    ] {
        for request in
            [Request::new(method, target).body(body), Request::new(method, target).chunked(&[body])]
        {
            origin.forget();
            let mut connection = Connection::open(proxy.http()).expect("a connection");
            connection.send_request(&request).expect("it is sent");
            drop(connection);
            let seen = origin.wait_request("the whole of it", |seen| seen.whole);
            assert!(seen.body.0 == body, "{method} {target}: {} bytes", seen.body.len());
        }
    }
    gate.open();
    wait_until("its connections are over", PATIENCE, || origin.open() == 0);
}

#[test]
fn half_a_body_does_not_look_whole() {
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"taken"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let request = Request::new("PUT", "/live/x.m3u8").field("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    connection.send(&request.head_bytes()).expect("it is sent");
    connection.send(b"5\r\nfirst\r\n").expect("it is sent");
    origin.wait_request("the start", |seen| seen.body.text() == "first");
    drop(connection);
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
    assert!(!origin.only_request().whole);
}
