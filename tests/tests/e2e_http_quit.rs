//! A proxy that is told to end finishes what runs over HTTP, for as long as it may.

use rustix::process::Signal;
use srs_proxy_tests::peers::http::{Connection, Left, Request};
use srs_proxy_tests::peers::http_origin::{Answer, Gate, HttpOrigin, Step};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What takes no waiting.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn idle_connections_close_at_once_and_running_answers_are_finished() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = HttpOrigin::start(move |seen| match &seen.target[..] {
        "/live/slow.m4s" => Answer::new(200, "OK")
            .length(10)
            .then(Step::Send(b"first".to_vec()))
            .then(Step::Wait(held.clone()))
            .then(Step::Send(b"other".to_vec())),
        _ => Answer::ok("video/mp4", b"media"),
    });
    let mut proxy = Proxy::before(origin.addr(), &[]);
    let mut idle = Connection::open(proxy.http()).expect("a connection");
    idle.ask(&Request::get("/live/x.m4s")).expect("an answer");
    let mut busy = Connection::open(proxy.http()).expect("a connection");
    busy.send_request(&Request::get("/live/slow.m4s")).expect("it is sent");
    let (_, framing) = busy.head("GET").expect("a head");
    let mut left = Left::from(framing);
    assert_eq!(busy.body_start(&mut left, 5).expect("the start"), b"first");

    proxy.signal(Signal::TERM);
    idle.assert_closed("it is idle", SOON);
    let addr = proxy.http();
    wait_until("nobody is accepted", PATIENCE, || TcpStream::connect(addr).is_err());
    gate.open();
    assert_eq!(busy.body_start(&mut left, 5).expect("the rest"), b"other");
    busy.assert_closed("it is finished", SOON);
    // Clients that have heard the end, but do not end themselves, are waited for a little.
    drop((idle, busy));
    assert!(proxy.wait_end(SOON).status.success());
}

#[test]
fn a_viewer_of_a_live_stream_may_watch_until_the_time_is_over() {
    let origin = HttpOrigin::answering(Answer::new(200, "OK").endless(b"start"));
    let settings = [("PROXY_GRACE_QUIT_TIMEOUT", "2s"), ("PROXY_FORCE_QUIT_TIMEOUT", "10s")];
    let mut proxy = Proxy::before(origin.addr(), &settings);
    let mut viewer = Connection::open(proxy.http()).expect("a connection");
    viewer.send_request(&Request::get("/live/x.flv")).expect("it is sent");
    viewer.head("GET").expect("a head");
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_end(PATIENCE).status.success());
    let waited = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    wait_until("the origin is left", PATIENCE, || origin.open() == 0);
}
