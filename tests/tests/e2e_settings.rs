//! The proxy's settings: what wrong ones get, what help tells, where they are read from.

use srs_proxy_tests::peers::PATIENCE;
use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::process::{Ended, Process, run};
use srs_proxy_tests::peers::proxy::{Proxy, SERVERS, proxy_command};
use srs_proxy_tests::peers::temp::TempDir;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;

/// Every variable and its default, as documented.
const DEFAULTS: [(&str, &str); 26] = [
    ("PROXY_RTMP_SERVER", "11935"),
    ("PROXY_HTTP_SERVER", "18080"),
    ("PROXY_HTTP_API", "11985"),
    ("PROXY_WEBRTC_SERVER", "18000"),
    ("PROXY_SRT_SERVER", "20080"),
    ("PROXY_SYSTEM_API", "12025"),
    ("PROXY_STATIC_FILES", ""),
    ("PROXY_LOAD_BALANCER_TYPE", "memory"),
    ("PROXY_REDIS_HOST", "127.0.0.1"),
    ("PROXY_REDIS_PORT", "6379"),
    ("PROXY_REDIS_PASSWORD", ""),
    ("PROXY_REDIS_DB", "0"),
    ("PROXY_REDIS_KEY_PREFIX", ""),
    ("PROXY_ORIGIN_SERVER_TTL", "300s"),
    ("PROXY_HTTP_API_AUTH_ENABLED", "off"),
    ("PROXY_HTTP_API_AUTH_TYPE", ""),
    ("PROXY_HTTP_API_AUTH_TOKEN", ""),
    ("PROXY_DEFAULT_BACKEND_ENABLED", "off"),
    ("PROXY_DEFAULT_BACKEND_IP", "127.0.0.1"),
    ("PROXY_DEFAULT_BACKEND_RTMP", "1935"),
    ("PROXY_DEFAULT_BACKEND_HTTP", "8080"),
    ("PROXY_DEFAULT_BACKEND_API", "1985"),
    ("PROXY_DEFAULT_BACKEND_RTC", "8000"),
    ("PROXY_DEFAULT_BACKEND_SRT", "10080"),
    ("PROXY_GRACE_QUIT_TIMEOUT", "20s"),
    ("PROXY_FORCE_QUIT_TIMEOUT", "30s"),
];

/// Runs the proxy to its end with free ports, these settings and these arguments.
fn proxy(settings: &[(&str, &str)], arguments: &[&str]) -> Ended {
    proxy_in(&TempDir::new("settings"), settings, arguments)
}

fn proxy_in(dir: &TempDir, settings: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let mut command = proxy_command(dir);
    for server in SERVERS {
        command.env(server, format!("127.0.0.1:{}", free_port()));
    }
    command.envs(settings.iter().copied()).args(arguments);
    run("srs-proxy", &mut command, PATIENCE)
}

/// The proxy must have refused to start, with one line that says all of `parts`.
#[track_caller]
fn assert_refused(ended: &Ended, parts: &[&str]) {
    assert!(!ended.status.success(), "started with {parts:?}");
    let lines: Vec<_> = ended.stderr.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 1, "one line on standard error: {}", ended.stderr);
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} in {:?}", lines[0]);
    }
}

#[test]
fn a_wrong_value_stops_the_start_with_one_line() {
    let wrong = [
        ("PROXY_RTMP_SERVER", "rtmp"),
        ("PROXY_HTTP_SERVER", "70000"),
        ("PROXY_HTTP_API", "1.2.3:80:80"),
        ("PROXY_WEBRTC_SERVER", "-1"),
        ("PROXY_SRT_SERVER", "[::1"),
        ("PROXY_SYSTEM_API", "0x10"),
        ("PROXY_LOAD_BALANCER_TYPE", "roulette"),
        ("PROXY_REDIS_PORT", "six"),
        ("PROXY_REDIS_DB", "first"),
        ("PROXY_ORIGIN_SERVER_TTL", "soon"),
        ("PROXY_HTTP_API_AUTH_ENABLED", "perhaps"),
        ("PROXY_DEFAULT_BACKEND_ENABLED", "perhaps"),
        ("PROXY_GRACE_QUIT_TIMEOUT", "later"),
        ("PROXY_FORCE_QUIT_TIMEOUT", "-3s"),
        ("PROXY_WORKERS", "many"),
        ("PROXY_WORKERS", "0"),
    ];
    for (name, value) in wrong {
        assert_refused(&proxy(&[(name, value)], &[]), &[name, value]);
        assert_refused(&proxy(&[(name, value)], &["--check"]), &[name, value]);
    }
}

#[test]
fn a_wrong_default_origin_stops_the_start_with_one_line() {
    let wrong = [
        ("PROXY_DEFAULT_BACKEND_IP", "no such address"),
        ("PROXY_DEFAULT_BACKEND_RTMP", "x"),
        ("PROXY_DEFAULT_BACKEND_HTTP", "70000"),
        ("PROXY_DEFAULT_BACKEND_API", "x"),
        ("PROXY_DEFAULT_BACKEND_RTC", "x"),
        ("PROXY_DEFAULT_BACKEND_SRT", "x"),
    ];
    for (name, value) in wrong {
        let ended = proxy(&[("PROXY_DEFAULT_BACKEND_ENABLED", "on"), (name, value)], &[]);
        assert_refused(&ended, &[name, value]);
    }
}

#[test]
fn a_wrong_value_is_answered_with_what_is_allowed() {
    assert_refused(&proxy(&[("PROXY_LOAD_BALANCER_TYPE", "roulette")], &[]), &["memory"]);
    assert_refused(&proxy(&[("PROXY_HTTP_API_AUTH_ENABLED", "perhaps")], &[]), &["on", "off"]);
    assert_refused(&proxy(&[("PROXY_RTMP_SERVER", "rtmp")], &[]), &["1935"]);
    assert_refused(&proxy(&[("PROXY_ORIGIN_SERVER_TTL", "soon")], &[]), &["s"]);
}

#[test]
fn bearer_auth_needs_a_type_and_a_token() {
    let on = ("PROXY_HTTP_API_AUTH_ENABLED", "on");
    let bearer = ("PROXY_HTTP_API_AUTH_TYPE", "bearer");
    let token = ("PROXY_HTTP_API_AUTH_TOKEN", "secret-token");
    assert_refused(&proxy(&[on, token], &[]), &["PROXY_HTTP_API_AUTH_TYPE", "only supports bearer"]);
    assert_refused(&proxy(&[on, bearer], &[]), &["PROXY_HTTP_API_AUTH_TOKEN"]);
    let basic = proxy(&[on, ("PROXY_HTTP_API_AUTH_TYPE", "basic"), token], &[]);
    assert_refused(&basic, &["PROXY_HTTP_API_AUTH_TYPE", "basic", "only supports bearer"]);
    assert!(!basic.stderr.contains("secret-token"), "a token is never shown: {}", basic.stderr);
    proxy(&[on, bearer, token], &["--check"]).success();
}

#[test]
fn a_static_folder_must_exist() {
    let ended = proxy(&[("PROXY_STATIC_FILES", "/no/such/folder")], &[]);
    assert_refused(&ended, &["PROXY_STATIC_FILES", "/no/such/folder"]);
}

#[test]
fn a_bound_port_stops_the_start_on_each_of_the_six_servers() {
    for server in SERVERS {
        let port = free_port();
        let _tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let _udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let value = format!("127.0.0.1:{port}");
        assert_refused(&proxy(&[(server, &value)], &[]), &[server, &port.to_string()]);
    }
}

#[test]
fn a_second_proxy_does_not_share_the_first_ones_ports() {
    let first = Proxy::start();
    for server in SERVERS {
        let addr = first.addr(server);
        assert_refused(&proxy(&[(server, &addr.to_string())], &[]), &[server, &addr.port().to_string()]);
    }
}

#[test]
fn ports_may_be_written_in_every_documented_way() {
    for form in ["PORT", ":PORT", "0.0.0.0:PORT", "[::]:PORT", "127.0.0.1:PORT"] {
        let value = form.replace("PORT", &free_port().to_string());
        proxy(&[("PROXY_RTMP_SERVER", &value)], &["--check"]).success();
    }
}

#[test]
fn help_lists_every_variable_with_its_default() {
    let help = proxy(&[], &["--help"]).success().stdout;
    for (name, default) in DEFAULTS {
        // From the variable's name to the next variable's.
        let (_, entry) = help.split_once(name).unwrap_or_else(|| panic!("{name} in\n{help}"));
        let entry = entry.split("PROXY_").next().unwrap_or(entry);
        assert!(entry.contains(default), "{default:?} after {name}: {entry:?}");
    }
    assert!(help.contains("PROXY_WORKERS"), "{help}");
}

#[test]
fn version_and_check_answer_and_end() {
    let version = proxy(&[], &["--version"]).success().stdout;
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    proxy(&[], &["--check"]).success();
}

#[test]
fn a_dot_env_file_is_read_but_never_overrides_what_is_set() {
    let dir = TempDir::new("dotenv");
    dir.write(".env", "PROXY_ORIGIN_SERVER_TTL=soon\n");
    assert_refused(&proxy_in(&dir, &[], &["--check"]), &["PROXY_ORIGIN_SERVER_TTL", "soon"]);
    proxy_in(&dir, &[("PROXY_ORIGIN_SERVER_TTL", "60s")], &["--check"]).success();
    dir.write(".env", "FOO='no end\nPROXY_HTTP_API_AUTH_TOKEN='s3cret\n");
    let ended = proxy_in(&dir, &[], &["--check"]);
    assert_refused(&ended, &[".env: line 2, PROXY_HTTP_API_AUTH_TOKEN"]);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
}

#[test]
fn the_limit_of_open_files_is_raised_before_any_is_opened() {
    let dir = TempDir::new("nofile");
    let plain = proxy_command(&dir);
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=64:4096", "--"]).arg(plain.get_program()).args(plain.get_args());
    for (name, _) in plain.get_envs() {
        limited.env_remove(name);
    }
    limited.current_dir(dir.path()).env("PROXY_WORKERS", "32");
    for server in SERVERS {
        limited.env(server, format!("127.0.0.1:{}", free_port()));
    }
    let mut proxy = Process::start("srs-proxy", &mut limited);
    proxy.wait_line("serves with 32 workers", PATIENCE);
}
