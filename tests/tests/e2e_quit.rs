//! Signals: draining, the limits of draining, and that nothing is left behind.

use rustix::process::Signal;
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, http, wait_until};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What a busy machine may add to a promised time.
const SLACK: Duration = Duration::from_secs(3);

#[test]
fn an_idle_proxy_ends_at_once_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut proxy = Proxy::start();
        proxy.signal(signal);
        assert_eq!(proxy.wait_end(SLACK).status.code(), Some(0));
    }
}

#[test]
fn running_sessions_go_on_while_new_ones_are_refused_and_the_last_one_ends_the_drain() {
    let origin = Nginx::start();
    let mut proxy = Proxy::with(&[("PROXY_GRACE_QUIT_TIMEOUT", "60s"), ("PROXY_FORCE_QUIT_TIMEOUT", "90s")]);
    proxy.register("a", "1", origin.rtmp());
    let mut publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    proxy.signal(Signal::TERM);
    wait_until("no new connection is taken", PATIENCE, || TcpStream::connect(proxy.rtmp()).is_err());
    let sent = publisher.frames();
    wait_until("the publisher goes on", PATIENCE, || publisher.frames() > sent + 25);
    assert!(publisher.is_running() && proxy.is_running());
    drop(publisher);
    assert_eq!(proxy.wait_end(PATIENCE).status.code(), Some(0));
}

#[test]
fn the_grace_time_ends_the_sessions_that_stay() {
    let origin = Nginx::start();
    let mut proxy = Proxy::with(&[("PROXY_GRACE_QUIT_TIMEOUT", "1s"), ("PROXY_FORCE_QUIT_TIMEOUT", "60s")]);
    proxy.register("a", "1", origin.rtmp());
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    let start = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(Duration::from_secs(1) + SLACK).status.code(), Some(0));
    assert!(start.elapsed() >= Duration::from_secs(1), "drained for {:?} only", start.elapsed());
    assert!(!publisher.wait_end(PATIENCE).status.success());
}

#[test]
fn a_second_signal_ends_the_drain() {
    let origin = Nginx::start();
    let mut proxy = Proxy::with(&[("PROXY_GRACE_QUIT_TIMEOUT", "60s"), ("PROXY_FORCE_QUIT_TIMEOUT", "90s")]);
    proxy.register("a", "1", origin.rtmp());
    let publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    proxy.signal(Signal::TERM);
    wait_until("no new connection is taken", PATIENCE, || TcpStream::connect(proxy.rtmp()).is_err());
    proxy.signal(Signal::TERM);
    proxy.wait_end(SLACK);
    drop(publisher);
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_media_nor_the_end() {
    let origin = Nginx::start();
    let mut proxy = Proxy::unread(&[
        ("PROXY_LOG_LEVEL", "debug"),
        ("PROXY_GRACE_QUIT_TIMEOUT", "1s"),
        ("PROXY_FORCE_QUIT_TIMEOUT", "2s"),
    ]);
    proxy.register("a", "1", origin.rtmp());
    let mut publisher = ffmpeg::Publisher::start(&proxy.url("live/x"));
    // Two lines each: several times what the pipe holds.
    for _ in 0..200 {
        http::get(proxy.system_api(), "/api/v1/versions").expect("the health check is answered");
    }
    let sent = publisher.frames();
    wait_until("the publisher goes on", PATIENCE, || publisher.frames() > sent + 25);
    assert!(publisher.is_running());
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait_end(Duration::from_secs(2) + SLACK).status.code(), Some(0));
    drop(publisher);
}

#[test]
fn the_force_time_is_never_passed() {
    let origin = Nginx::start();
    let mut proxy = Proxy::with(&[("PROXY_GRACE_QUIT_TIMEOUT", "1s"), ("PROXY_FORCE_QUIT_TIMEOUT", "2s")]);
    proxy.register("a", "1", origin.rtmp());
    // Connections that say nothing and never leave by themselves.
    let silent: Vec<_> = (0..4).map(|_| TcpStream::connect(proxy.rtmp()).expect("a connection")).collect();
    proxy.signal(Signal::TERM);
    proxy.wait_end(Duration::from_secs(2) + SLACK);
    drop(silent);
}
