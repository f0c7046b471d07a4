//! The settings as people write them, rightly and wrongly.

use super::*;
use srs_proxy_lb::redis::{Mappings, Node, RedisConfig, Topology};

fn outcome(args: &[&str], env: &[(&str, &str)], dotenv: &str) -> Result<Outcome, String> {
    let env = |var: &str| env.iter().find(|(name, _)| *name == var).map(|(_, value)| value.into());
    load(args.iter().map(OsString::from), env, dotenv)
}

fn settings(args: &[&str], env: &[(&str, &str)], dotenv: &str) -> Settings {
    match outcome(args, env, dotenv) {
        Ok(Outcome::Run(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

fn refusal(env: &[(&str, &str)]) -> String {
    outcome(&[], env, "").unwrap_err()
}

fn printed(args: &[&str]) -> String {
    match outcome(args, &[], "") {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_as_documented() {
    let settings = settings(&[], &[], "");
    let mut servers = vec![settings.rtmp, settings.http, settings.api, settings.system];
    servers.extend([settings.rtc, settings.srt].concat());
    let ports = [11935, 18080, 11985, 12025, 18000, 20080].map(|port| format!("[::]:{port}"));
    assert_eq!(Vec::from_iter(servers.iter().map(ToString::to_string)), ports);
    assert_eq!((settings.token, settings.default_origin), (None, None));
    assert_eq!((settings.policy, settings.weights), (Policy::Random, Weights::default()));
    let seconds = [settings.origin_ttl, settings.grace, settings.force].map(|duration| duration.as_secs());
    assert_eq!(seconds, [300, 20, 30]);
    assert!(settings.workers >= 1);
    assert_eq!((settings.log_format, settings.log_level), (Format::Text, LevelFilter::Info));
}

#[test]
fn datagram_servers_may_have_several_addresses() {
    let several = "10.0.0.1:1000, 10.0.0.2:1000,[2001:db8::1]:1000";
    let settings = settings(&["--srt-server", several], &[("PROXY_WEBRTC_SERVER", several)], "");
    let addresses = several.split(',').map(|address| address.trim().parse().unwrap());
    let addresses: Vec<SocketAddr> = addresses.collect();
    assert_eq!((&settings.rtc, &settings.srt), (&addresses, &addresses));
}

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default() {
    let ttl =
        |args: &[&str], env: &[(&str, &str)], file: &str| settings(args, env, file).origin_ttl.as_secs();
    let (flag, var) = ("--origin-server-ttl=1s", ("PROXY_ORIGIN_SERVER_TTL", "2s"));
    let file = "# a comment\nexport PROXY_ORIGIN_SERVER_TTL='3s'\nOTHER=x\n";
    assert_eq!(ttl(&[flag], &[var], file), 1);
    assert_eq!(ttl(&["--origin-server-ttl", "1m30s"], &[], ""), 90);
    assert_eq!(ttl(&[], &[var], file), 2);
    assert_eq!(ttl(&[], &[], file), 3);
    assert_eq!(ttl(&[], &[], "PROXY_ORIGIN_SERVER_TTL=4s\nPROXY_ORIGIN_SERVER_TTL=5s"), 5);
    assert_eq!(ttl(&[], &[], "\u{feff}PROXY_ORIGIN_SERVER_TTL=6s"), 6);
    assert_eq!(ttl(&[], &[], ""), 300);
}

#[test]
fn what_is_empty_is_not_set() {
    let empty = ("PROXY_ORIGIN_SERVER_TTL", "");
    assert_eq!(settings(&[], &[empty], "").origin_ttl.as_secs(), 300);
    assert_eq!(settings(&[], &[empty], "PROXY_ORIGIN_SERVER_TTL=3s").origin_ttl.as_secs(), 3);
    assert_eq!(settings(&[], &[], "PROXY_ORIGIN_SERVER_TTL=").origin_ttl.as_secs(), 300);
    // A flag, too, can only say "the default" by it.
    let set = ("PROXY_ORIGIN_SERVER_TTL", "2s");
    assert_eq!(settings(&["--origin-server-ttl="], &[set], "").origin_ttl.as_secs(), 300);
}

#[test]
fn every_setting_has_its_flag_and_is_in_the_help() {
    let help = printed(&["--help"]);
    for row in &TABLE {
        assert!(help.contains(&format!("--{} ", flag(row.var))), "{}\n{help}", row.var);
        let (_, entry) = help.split_once(&format!("[{}]", row.var)).unwrap();
        let default = format!("[default: {}]", row.default);
        let entry = entry.split("--").next().unwrap();
        assert_eq!(entry.contains(&default), !row.default.is_empty(), "{}: {entry}", row.var);
    }
    assert_eq!(printed(&["--version"]), concat!("srs-proxy ", env!("CARGO_PKG_VERSION")));
    assert_eq!(printed(&["--check"]), "the settings are good");
}

#[test]
fn each_wrong_value_is_named_with_what_is_allowed() {
    for (var, value, allowed) in [
        ("PROXY_RTMP_SERVER", "rtmp", "0.0.0.0:1935"),
        ("PROXY_HTTP_SERVER", "70000", "1935"),
        ("PROXY_HTTP_API", "localhost:1", "1935"),
        ("PROXY_WEBRTC_SERVER", "-1", "1935"),
        ("PROXY_SRT_SERVER", "[::1", "1935"),
        ("PROXY_SRT_SERVER", "127.0.0.1:1935,", "192.0.2.8:1935"),
        ("PROXY_SRT_SERVER", "127.0.0.1:1935,127.0.0.1:1935", "several of this host's"),
        ("PROXY_WEBRTC_SERVER", "127.0.0.1:1935,127.0.0.2:1936", "with one port"),
        ("PROXY_WEBRTC_SERVER", "127.0.0.1:1935,1935", "several of this host's"),
        ("PROXY_WEBRTC_SERVER", "127.0.0.1:0,127.0.0.2:0", "several of this host's"),
        ("PROXY_SYSTEM_API", "0x10", "1935"),
        ("PROXY_STATIC_FILES", "/no/such/folder", "a folder that exists"),
        ("PROXY_LOAD_BALANCER_TYPE", "roulette", "memory"),
        ("PROXY_LB_POLICY", "best", "random, least-streams, rendezvous"),
        ("PROXY_LB_WEIGHTS", "origin1", "origin1=3,origin2=0"),
        ("PROXY_LB_WEIGHTS", "origin1=1001", "0 to 1000"),
        ("PROXY_REDIS_HOST", "a\tb", "visible"),
        ("PROXY_REDIS_PORT", "0", "65535"),
        ("PROXY_REDIS_DB", "first", "0 to 2147483647"),
        ("PROXY_REDIS_KEY_PREFIX", "\u{7f}", "visible"),
        ("PROXY_REDIS_MIXED_FLEET", "maybe", "on, off"),
        ("PROXY_ORIGIN_SERVER_TTL", "300", "1ms to 365days, written like 300s"),
        ("PROXY_ORIGIN_SERVER_TTL", "0s", "1ms to 365days"),
        ("PROXY_ORIGIN_SERVER_TTL", "-3s", "1ms to 365days"),
        ("PROXY_HTTP_API_AUTH_ENABLED", "perhaps", "on, off"),
        ("PROXY_HTTP_API_AUTH_TYPE", "\u{1}", "visible"),
        ("PROXY_DEFAULT_BACKEND_ENABLED", "2", "on, off"),
        ("PROXY_DEFAULT_BACKEND_IP", "0.0.0.0", "address"),
        ("PROXY_WEBRTC_CANDIDATE", "rtc.example.com", "203.0.113.7"),
        ("PROXY_DEFAULT_BACKEND_RTMP", "0", "1935"),
        ("PROXY_DEFAULT_BACKEND_HTTP", "x", "1935"),
        ("PROXY_DEFAULT_BACKEND_API", "http://:1985", "1935"),
        ("PROXY_DEFAULT_BACKEND_RTC", "x", "1935"),
        ("PROXY_DEFAULT_BACKEND_SRT", "x", "1935"),
        ("PROXY_SRT_TIMEOUT", "2s", "3s to 365days"),
        ("PROXY_GRACE_QUIT_TIMEOUT", "later", "0s to 365days"),
        ("PROXY_FORCE_QUIT_TIMEOUT", "500days", "0s to 365days"),
        ("PROXY_WORKERS", "0", "1 to 1024"),
        ("PROXY_WORKERS", "many", "1 to 1024"),
        ("PROXY_LOG_FORMAT", "xml", "text, json"),
        ("PROXY_LOG_LEVEL", "loud", "off, error, warn"),
    ] {
        let line = refusal(&[(var, value)]);
        let start = format!("{var}={value:?}: ");
        assert!(line.starts_with(&start) && line.contains(allowed), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        let by_file = outcome(&[], &[], &format!("{var}=\"{}\"", value.escape_default()));
        assert!(by_file.is_err(), "{var}");
    }
}

#[test]
fn secrets_are_never_shown() {
    for var in ["PROXY_HTTP_API_AUTH_TOKEN", "PROXY_REDIS_PASSWORD", "PROXY_REDIS_URL"] {
        let line = refusal(&[(var, "s3cret\u{1}")]);
        assert!(line.starts_with(&format!("{var}: ")) && !line.contains("s3cret"), "{line}");
    }
    let on = [("PROXY_HTTP_API_AUTH_ENABLED", "on"), ("PROXY_HTTP_API_AUTH_TYPE", "bearer")];
    let settings = settings(&["--http-api-auth-token=s3cret"], &on, "");
    assert!(!format!("{settings:?}").contains("s3cret"));
    assert!(!outcome(&[], &[], "PROXY_HTTP_API_AUTH_TOKEN='s3cret").unwrap_err().contains("s3cret"));
}

#[test]
fn a_policy_has_a_name_and_an_origin_a_weight() {
    let settings = settings(&["--lb-policy=Least-Streams", "--lb-weights=a=3, b=0"], &[], "");
    assert_eq!((settings.policy, settings.weights), (Policy::LeastStreams, "a=3,b=0".parse().unwrap()));
    let line = refusal(&[("PROXY_LB_WEIGHTS", "a=1,a=2")]);
    assert!(line.contains("\"a=2\" has a weight already"), "{line}");
}

#[test]
fn bearer_auth_needs_type_and_token() {
    let on = ("PROXY_HTTP_API_AUTH_ENABLED", "on");
    let bearer = ("PROXY_HTTP_API_AUTH_TYPE", "Bearer");
    let token = ("PROXY_HTTP_API_AUTH_TOKEN", "t0k-en");
    assert_eq!(settings(&[], &[on, bearer, token], "").token, Some(Token("t0k-en".into())));
    assert_eq!(settings(&[], &[bearer, token], "").token, None);
    assert!(refusal(&[on, token]).contains("only supports bearer"));
    assert!(refusal(&[on, ("PROXY_HTTP_API_AUTH_TYPE", "basic"), token]).contains("\"basic\""));
    assert!(refusal(&[on, bearer]).starts_with("PROXY_HTTP_API_AUTH_TOKEN is not set"));
}

#[test]
fn the_default_origin_is_registered_only_where_it_is_switched_on() {
    let env =
        [("PROXY_DEFAULT_BACKEND_IP", "10.0.0.7"), ("PROXY_DEFAULT_BACKEND_RTC", "udp://10.0.0.8:8001")];
    assert_eq!(settings(&[], &env, "").default_origin, None);
    let origin = settings(&["--default-backend-enabled"], &env, "").default_origin.unwrap();
    assert_eq!(origin.id().as_str(), "default-10.0.0.7:1935-default-0");
    let other = [("PROXY_DEFAULT_BACKEND_RTMP", "1936")];
    let other = settings(&["--default-backend-enabled"], &other, "").default_origin.unwrap();
    assert_eq!(other.id().as_str(), "default-127.0.0.1:1936-default-0");
    let endpoints: Vec<_> =
        origin.endpoints.iter().map(|(protocol, to)| format!("{protocol} {to}")).collect();
    assert_eq!(
        endpoints,
        [
            "rtmp 10.0.0.7:1935",
            "http 10.0.0.7:8080",
            "api 10.0.0.7:1985",
            "srt 10.0.0.7:10080",
            "rtc 10.0.0.8:8001"
        ]
    );
}

#[test]
fn switches_take_every_usual_word() {
    for (word, on) in [
        ("on", true),
        ("TRUE", true),
        ("1", true),
        ("yes", true),
        ("Off", false),
        ("false", false),
        ("0", false),
        ("no", false),
    ] {
        let settings = settings(&[], &[("PROXY_DEFAULT_BACKEND_ENABLED", word)], "");
        assert_eq!(settings.default_origin.is_some(), on, "{word}");
    }
}

#[test]
fn a_static_folder_that_exists_is_taken() {
    settings(&["--static-files", env!("CARGO_MANIFEST_DIR")], &[], "");
}

/// Which Redis the settings name.
fn redis(env: &[(&str, &str)]) -> (RedisConfig, String, Mappings) {
    let env = [&[("PROXY_LOAD_BALANCER_TYPE", "redis")], env].concat();
    match settings(&[], &env, "").load_balancer {
        LoadBalancer::Redis { config, prefix, mappings } => (config, prefix, mappings),
        LoadBalancer::Memory => panic!("memory"),
    }
}

#[test]
fn redis_is_one_server_as_the_go_proxy_names_it_or_what_a_url_says() {
    assert_eq!(settings(&[], &[("PROXY_REDIS_HOST", "elsewhere")], "").load_balancer, LoadBalancer::Memory);
    let local = RedisConfig::single(Node::Tcp("127.0.0.1".into(), 6379));
    assert_eq!(redis(&[]), (local.clone(), String::new(), Mappings::End));
    let (config, prefix, mappings) = redis(&[
        ("PROXY_REDIS_HOST", "[::1]"),
        ("PROXY_REDIS_PORT", "6380"),
        ("PROXY_REDIS_PASSWORD", "s3cret"),
        ("PROXY_REDIS_DB", "2"),
        ("PROXY_REDIS_KEY_PREFIX", "eu"),
        ("PROXY_REDIS_MIXED_FLEET", "on"),
    ]);
    let single = RedisConfig::single(Node::Tcp("::1".into(), 6380));
    assert_eq!(config, RedisConfig { password: Some("s3cret".into()), db: 2, ..single });
    assert_eq!((&*prefix, mappings), ("eu", Mappings::Stay));
    let (config, ..) = redis(&[("PROXY_REDIS_URL", "rediss+cluster://me:p%40ss@a,b:7000")]);
    assert_eq!((config.topology, config.tls, config.user.as_deref()), (Topology::Cluster, true, Some("me")));
    let both = refusal(&[("PROXY_REDIS_URL", "redis://a"), ("PROXY_REDIS_PORT", "6380")]);
    assert_eq!(both, "PROXY_REDIS_URL and PROXY_REDIS_PORT are both set: only one can say where Redis is");
}

#[test]
fn a_wrong_url_is_explained_and_not_shown() {
    for (url, why) in [
        ("http://:s3cret@a", "not the scheme of a Redis"),
        ("redis://:s3cret@a:b", "has a port that is none"),
        ("redis+sentinel://:s3cret@a", "names no master"),
    ] {
        let line = refusal(&[("PROXY_REDIS_URL", url)]);
        assert!(line.starts_with(&format!("PROXY_REDIS_URL: {why}; allowed: redis://")), "{line}");
        assert!(!line.contains("s3cret"), "{line}");
    }
    let (config, ..) = redis(&[("PROXY_REDIS_URL", "redis://us3r:s3cret@a")]);
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_wrong_flag_or_file_is_one_line_too() {
    for args in [&["--rtmp-sever=1"][..], &["extra"], &["--workers"], &["--workers=1", "--workers=2"]] {
        let line = outcome(args, &[], "").unwrap_err();
        assert!(line.lines().count() == 1 && line.ends_with("(see --help)"), "{line}");
    }
    let line = outcome(&[], &[], "PROXY_RTMP_SERVER 1935\n").unwrap_err();
    assert!(
        line.starts_with(".env: ") && line.contains("PROXY_RTMP_SERVER") && line.lines().count() == 1,
        "{line}"
    );
    assert_eq!(read_dotenv(Path::new("/no/such/file")), Ok(String::new()));
    assert!(read_dotenv(Path::new("/")).is_err());
}
