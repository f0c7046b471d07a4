//! Redis is not there, or says no, when a proxy starts.

use rustix::process::Signal;
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::process::{Ended, Process};
use srs_proxy_tests::peers::proxy::{Proxy, SERVERS, proxy_command};
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Within this a start without Redis is given up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(12);

/// How late Redis comes: of the five seconds that a proxy waits for it, a busy machine may need most to start it.
const LATE: Duration = Duration::from_secs(1);

/// A password that is never to be shown.
const PASSWORD: &str = "very-secret-password";

/// Starts a proxy with these settings in free ports, and does not wait.
fn start(settings: &[(&str, &str)]) -> (Process, TempDir) {
    let dir = TempDir::new("start");
    let mut command = proxy_command(&dir);
    for server in SERVERS {
        command.env(server, format!("127.0.0.1:{}", free_port()));
    }
    command.env("PROXY_LOAD_BALANCER_TYPE", "redis").envs(settings.iter().copied());
    (Process::start("srs-proxy", &mut command), dir)
}

/// The proxy gives up soon, with one line on standard error that says all of `parts`, beside those of its log.
#[track_caller]
fn assert_given_up(settings: &[(&str, &str)], parts: &[&str]) -> Ended {
    let begin = Instant::now();
    let (mut process, _dir) = start(settings);
    let ended = process.wait_end(PATIENCE);
    println!("given up after {:?}: {}", begin.elapsed(), ended.stderr);
    assert!(begin.elapsed() < GIVEN_UP_WITHIN, "{:?}", begin.elapsed());
    assert!(ended.status.code().is_some_and(|code| code != 0), "{:?}", ended.status);
    let lines = ended.stderr.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    assert_eq!(lines.count(), 1, "one line with {parts:?} in {}", ended.stderr);
    assert_eq!(
        ended.stderr.lines().last().map(|line| parts.iter().all(|part| line.contains(part))),
        Some(true)
    );
    ended
}

#[test]
fn without_redis_the_start_is_given_up_with_one_clear_line() {
    let port = free_port().to_string();
    assert_given_up(&[("PROXY_REDIS_PORT", &port)], &["redis", &format!("127.0.0.1:{port}")]);
}

#[test]
fn a_redis_that_hangs_stops_the_start_too() {
    let redis = Redis::start();
    redis.signal(Signal::STOP);
    let port = redis.port().to_string();
    assert_given_up(&[("PROXY_REDIS_PORT", &port)], &["redis", &format!("127.0.0.1:{port}")]);
    redis.signal(Signal::CONT);
}

#[test]
fn a_wrong_or_missing_password_is_named_and_never_shown() {
    let redis = Redis::with("requirepass another", Some("another"));
    let port = redis.port().to_string();
    let at = format!("127.0.0.1:{port}");
    let wrong = [("PROXY_REDIS_PORT", &*port), ("PROXY_REDIS_PASSWORD", PASSWORD)];
    let ended = assert_given_up(&wrong, &["redis", &at, "Password authentication failed"]);
    assert!(!ended.stderr.contains(PASSWORD), "{}", ended.stderr);
    assert_given_up(&wrong[..1], &["redis", &at, "Authentication required"]);
}

#[test]
fn the_right_password_is_all_that_is_needed() {
    let redis = Redis::with(&format!("requirepass {PASSWORD}"), Some(PASSWORD));
    let proxy = Proxy::on_redis(redis.port(), &[("PROXY_REDIS_PASSWORD", PASSWORD)]);
    proxy.register("0", "1", SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    assert_eq!(proxy.health("0").as_deref(), Some("alive"));
    assert!(!proxy.log().contains(PASSWORD));
}

/// What a proxy needs, as docs/redis.md has it.
const NEEDED: &str =
    "~srs-proxy-* +eval +get +set +del +exists +pttl +pexpire +persist +hget +hset +hdel +hgetall +time";

#[test]
fn a_user_with_just_what_is_needed_is_let_in_and_one_who_may_not_write_is_named() {
    let redis = Redis::start();
    let url = |user: &str| format!("redis://{user}:{PASSWORD}@127.0.0.1:{}", redis.port());
    for (user, more) in [("enough", ""), ("reader", "-set")] {
        let mut words = vec!["acl", "setuser", user, "on"];
        let password = format!(">{PASSWORD}");
        words.push(&password);
        words.extend(NEEDED.split(' ').chain(more.split_whitespace()));
        assert_eq!(redis.cli(&words), "OK");
    }
    let proxy = Proxy::on_redis_url(&url("enough"), &[]);
    for pid in ["1", "2"] {
        proxy.register("0", pid, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
        assert_eq!(proxy.health("0").as_deref(), Some("alive"));
    }
    assert!(!proxy.log().contains("Redis refuses"), "{}", proxy.log());
    assert_given_up(&[("PROXY_REDIS_URL", &url("reader"))], &["redis", "refuses a command"]);
}

#[test]
fn redis_may_come_late() {
    let mut redis = Redis::start();
    redis.kill();
    let begin = Instant::now();
    let (mut process, _dir) = start(&[("PROXY_REDIS_PORT", &redis.port().to_string())]);
    wait_until("time has passed", PATIENCE, || {
        assert!(process.is_running(), "{}", process.tail());
        begin.elapsed() >= LATE
    });
    redis.restart();
    process.wait_line("serves with", PATIENCE);
}
