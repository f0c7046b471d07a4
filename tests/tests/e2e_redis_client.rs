//! The client of Redis and the real one: every topology does with each command what the store in memory does, and what
//! happens to servers is noticed in time and survived.

use rustix::process::Signal;
use srs_proxy_lb::redis::semantics::{self, Subject};
use srs_proxy_lb::redis::{Command, Keys, Lost, Mark, RealRedis, RedisClient, RedisConfig, Reply};
use srs_proxy_tests::peers::process::{self, run};
use srs_proxy_tests::peers::redis::{Cluster, Redis, Watched};
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, wait_for, wait_until};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A call takes no longer, whatever the servers do: half a second to connect, half a second to be answered, and a busy
/// machine. A call without a bound of its own would wait for TCP's, which is minutes.
const BOUND: Duration = Duration::from_secs(3);

fn client(url: &str) -> RealRedis {
    RealRedis::new(RedisConfig::from_url(url).expect("a URL"), "")
}

fn get(key: &str) -> Command {
    Command::Get { key: key.to_owned() }
}

fn set(key: &str, value: &str) -> Command {
    Command::Set { key: key.to_owned(), value: value.to_owned(), life: None }
}

fn claim(key: &str, value: &str) -> Command {
    Command::Claim { key: key.to_owned(), value: value.to_owned(), life: None }
}

fn register(id: &str) -> Command {
    let life = Duration::from_secs(300);
    let json = format!(r#"{{"server_id":"{id}"}}"#);
    Command::Register { id: id.to_owned(), server: id.to_owned(), json, life }
}

fn registrations(reply: &Reply) -> usize {
    match reply {
        Reply::Census(census) => census.registrations.len(),
        _ => 0,
    }
}

fn census() -> Command {
    Command::Census { proxy: "p".into(), loads: Vec::new() }
}

fn value(value: &str) -> Reply {
    Reply::Value(Some(value.to_owned()))
}

/// Runs the commands; ends the test if that takes too long.
#[track_caller]
fn run_in_time(client: &mut RealRedis, commands: &[Command]) -> Result<Vec<Reply>, Lost> {
    let start = Instant::now();
    let result = client.run(commands);
    assert!(start.elapsed() < BOUND, "{:?} for {result:?}", start.elapsed());
    result
}

/// Runs the commands until they are answered.
#[track_caller]
fn run_until_answered(client: &mut RealRedis, commands: &[Command]) -> Vec<Reply> {
    wait_for("an answer", PATIENCE, || run_in_time(client, commands).ok())
}

/// A store behind a URL, of whose servers one has all keys.
struct Real<T> {
    url: String,
    prefix: &'static str,
    servers: Arc<T>,
    owner: fn(&T) -> &Redis,
}

impl<T> Subject for Real<T> {
    fn keys(&self) -> Keys {
        RedisConfig::from_url(&self.url).expect("a URL").keys(self.prefix)
    }

    fn client(&self) -> Box<dyn RedisClient> {
        Box::new(RealRedis::new(RedisConfig::from_url(&self.url).expect("a URL"), self.prefix))
    }

    fn ttl(&self, key: &str) -> Option<Option<Duration>> {
        let left = (self.owner)(&self.servers).cli(&["pttl", key]);
        match left.parse::<i64>().expect("a number") {
            -2 => None,
            -1 => Some(None),
            left => Some(Some(Duration::from_millis(u64::try_from(left).expect("a time")))),
        }
    }

    fn pass(&self, time: Duration) {
        (self.owner)(&self.servers).pass(time);
    }
}

fn store<T: 'static>(
    servers: &Arc<T>,
    url: String,
    prefix: &'static str,
    owner: fn(&T) -> &Redis,
) -> Box<dyn Subject> {
    owner(servers).cli(&["flushall"]);
    Box::new(Real { url, prefix, servers: Arc::clone(servers), owner })
}

#[test]
fn one_server_does_what_every_store_must() {
    let redis = Arc::new(Redis::start());
    semantics::run(&|| store(&redis, redis.url(), "", |redis| redis));
}

#[test]
fn a_master_that_sentinels_know_does_what_every_store_must() {
    let watched = Arc::new(Watched::start());
    semantics::run(&|| store(&watched, watched.url(), "eu", |watched| &watched.servers()[0]));
}

#[test]
fn a_cluster_does_what_every_store_must() {
    let cluster = Arc::new(Cluster::start());
    semantics::run(&|| {
        store(&cluster, cluster.url(), "", |cluster| &cluster.nodes()[cluster.owner("{srs-proxy}")])
    });
}

/// Where the test of TLS, started again with `SSL_CERT_FILE`, finds the certificates.
const CERTIFICATES: &str = "REDIS_TEST_CERTIFICATES";

#[test]
fn over_tls_with_user_and_password_too() {
    // The trusted certificates are of the process, so that this test is one of its own.
    let Some(dir) = std::env::var_os(CERTIFICATES) else {
        let dir = TempDir::new("redis-tls");
        make_certificates(dir.path());
        let mut again = process::command(std::env::current_exe().expect("the test's own path"));
        again.args(["--exact", "over_tls_with_user_and_password_too", "--nocapture"]);
        again.env(CERTIFICATES, dir.path()).env("SSL_CERT_FILE", dir.path().join("ca.crt"));
        run("the same over TLS", &mut again, PATIENCE).success();
        return;
    };
    let dir = Path::new(&dir).display().to_string();
    let tls_port = srs_proxy_tests::peers::ports::free_port();
    let config = |certificate: &str, port: u16| {
        format!(
            "requirepass s3cret-d\nuser proxy on >p@ss:w/rd ~* +@all\n\
             tls-port {port}\ntls-cert-file {dir}/{certificate}.crt\ntls-key-file {dir}/{certificate}.key\n\
             tls-ca-cert-file {dir}/ca.crt\ntls-auth-clients no\nunixsocket DIR/r.sock"
        )
    };
    let redis = Arc::new(Redis::with(&config("server", tls_port), Some("s3cret-d")));
    let url = |access: &str| format!("rediss://{access}127.0.0.1:{tls_port}");
    for access in ["proxy:p%40ss%3Aw%2Frd@", ":s3cret-d@"] {
        semantics::run(&|| store(&redis, url(access), "{eu}", |redis| redis));
    }

    // Another database, by name, over a Unix socket.
    let socket = format!("redis+unix://:s3cret-d@{}?db=3", redis.file("r.sock").display());
    assert_eq!(run_in_time(&mut client(&socket), &[set("a", "3")]), Ok(vec![Reply::Done]));
    assert_eq!(redis.cli(&["-n", "3", "get", "a"]), "3");
    let named = format!("rediss://:s3cret-d@localhost:{tls_port}/3");
    assert_eq!(run_in_time(&mut client(&named), &[get("a")]), Ok(vec![value("3")]));

    // Who is not let in is told so, and no secret is.
    for (access, why) in [("proxy:s3cret@", "authentication"), (":s3cret@", "authentication"), ("", "NOAUTH")]
    {
        let lost = run_in_time(&mut client(&url(access)), &[get("a")]).expect_err("not let in");
        assert!(lost.0.contains(why) && !lost.0.contains("s3cret"), "{lost}");
    }
    // A server whom nobody trusts is not spoken to.
    let stranger_port = srs_proxy_tests::peers::ports::free_port();
    let _stranger = Redis::with(&config("stranger", stranger_port), Some("s3cret-d"));
    let stranger = format!("rediss://:s3cret-d@127.0.0.1:{stranger_port}");
    let lost = run_in_time(&mut client(&stranger), &[get("a")]).expect_err("not trusted");
    assert!(lost.0.contains("certificate"), "{lost}");
}

/// An authority `ca`, a `server` whom it knows and a `stranger` whom it does not.
fn make_certificates(dir: &Path) {
    let openssl = |words: &[&str]| {
        let mut openssl = process::command("openssl");
        run("openssl", openssl.current_dir(dir).args(words), PATIENCE).success();
    };
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let leaf = [
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    openssl(&[&new[..], &["-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt"]].concat());
    let server = ["-subj", "/CN=server", "-keyout", "server.key", "-out", "server.crt"];
    openssl(&[&new[..], &server, &leaf, &["-CA", "ca.crt", "-CAkey", "ca.key"]].concat());
    let stranger = ["-subj", "/CN=stranger", "-keyout", "stranger.key", "-out", "stranger.crt"];
    openssl(&[&new[..], &stranger, &leaf].concat());
}

#[test]
fn a_command_that_fails_leaves_the_others_alone() {
    let redis = Redis::start();
    let mut client = client(&redis.url());
    redis.cli(&["rpush", "list", "x"]);
    let replies = run_in_time(&mut client, &[set("a", "1"), get("list"), claim("list", "x"), get("a")]);
    let replies = replies.expect("an answer");
    assert!(matches!(&replies[1], Reply::Failed(why) if why.starts_with("WRONGTYPE")), "{replies:?}");
    assert!(matches!(&replies[2], Reply::Failed(why) if why.starts_with("WRONGTYPE")), "{replies:?}");
    assert_eq!((&replies[0], &replies[3]), (&Reply::Done, &value("1")));
    // What is no text is nothing we can read.
    redis.cli(&["eval", r"redis.call('set', 'b', '\255')", "0"]);
    assert!(matches!(&run_in_time(&mut client, &[get("b"), get("a")]).as_deref(), Ok([Reply::Failed(_), _])));

    // A full server tells what it has.
    redis.cli(&["config", "set", "maxmemory", "1"]);
    let full =
        run_in_time(&mut client, &[set("a", "2"), claim("c", "2"), get("a"), census()]).expect("an answer");
    assert!(matches!(&full[0], Reply::Failed(why) if why.starts_with("OOM")), "{full:?}");
    assert!(matches!(&full[1], Reply::Failed(why) if why.starts_with("OOM")), "{full:?}");
    assert_eq!(full[2], value("1"));
    assert!(matches!(full[3], Reply::Census(_)), "{full:?}");
}

#[test]
fn nothing_of_another_type_stops_a_census() {
    let redis = Redis::start();
    let mut client = client(&redis.url());
    for key in ["srs-proxy-all-servers", "srs-proxy-marks", "srs-proxy-loads", "srs-proxy-server:a"] {
        redis.cli(&["rpush", key, "x"]);
    }
    assert!(matches!(run_in_time(&mut client, &[census()]).as_deref(), Ok([Reply::Census(_)])));
    redis.cli(&["set", "srs-proxy-all-servers", r#"["srs-proxy-server:a"]"#]);
    redis.cli(&["del", "srs-proxy-marks"]);
    redis.cli(&["hset", "srs-proxy-marks", "x", "y", "gone:b", "never", "what:c", "99999999999999 0"]);
    redis.cli(&["del", "srs-proxy-loads"]);
    redis.cli(&["hset", "srs-proxy-loads", "x", "y", "z", "99999999999999 [1,\"2\",{}]"]);
    let replies = run_in_time(&mut client, &[census()]).expect("an answer");
    let [Reply::Census(census)] = &replies[..] else { panic!("{replies:?}") };
    assert!(census.registrations.is_empty() && census.marks.is_empty(), "{census:?}");
}

#[test]
fn a_server_that_hangs_or_dies_is_lost_in_time_and_found_again() {
    let mut redis = Redis::start();
    let mut client = client(&redis.url());
    let many: Vec<_> = (0..1000).map(|n| set(&n.to_string(), "x")).collect();
    assert_eq!(run_in_time(&mut client, &many), Ok(vec![Reply::Done; many.len()]));

    redis.signal(Signal::STOP);
    for _ in 0..2 {
        run_in_time(&mut client, &many).expect_err("it hangs");
    }
    redis.signal(Signal::CONT);
    assert_eq!(run_until_answered(&mut client, &[get("0")]), [value("x")]);

    // Slow is not lost: this is far within the half second that the client waits.
    redis.cli(&["client", "pause", "100", "all"]);
    assert_eq!(run_in_time(&mut client, &[get("0")]), Ok(vec![value("x")]));

    redis.kill();
    for _ in 0..2 {
        let lost = run_in_time(&mut client, &[get("0")]).expect_err("it is dead");
        assert!(lost.0.contains(&redis.port().to_string()), "{lost}");
    }
    redis.restart();
    assert_eq!(run_until_answered(&mut client, &[get("0")]), [Reply::Value(None)]);
}

#[test]
fn a_server_that_takes_no_writes_is_lost() {
    let redis = Redis::start();
    let mut client = client(&redis.url());
    assert_eq!(run_in_time(&mut client, &[set("a", "1")]), Ok(vec![Reply::Done]));
    redis.cli(&["replicaof", "127.0.0.1", "1"]);
    for command in [set("a", "2"), claim("b", "2"), census()] {
        let lost = run_in_time(&mut client, &[get("a"), command]).expect_err("read only");
        assert!(lost.0.contains("READONLY"), "{lost}");
    }
    redis.cli(&["replicaof", "no", "one"]);
    assert_eq!(run_in_time(&mut client, &[get("a")]), Ok(vec![value("1")]));
}

#[test]
fn after_a_failover_the_new_master_is_found() {
    let mut watched = Watched::start();
    let mut client = client(&watched.url());
    assert_eq!(run_in_time(&mut client, &[set("a", "1")]), Ok(vec![Reply::Done]));

    // A Sentinel that hangs costs one attempt at most: it takes half of an attempt's time, and for the other half the
    // machine may be too busy; then another is asked first.
    watched.sentinels()[0].signal(Signal::STOP);
    let mut other = crate::client(&watched.url());
    let answer = run_in_time(&mut other, &[get("a")]).or_else(|_| run_in_time(&mut other, &[get("a")]));
    assert_eq!(answer, Ok(vec![value("1")]));
    watched.sentinels()[0].signal(Signal::CONT);

    let master = watched.master();
    assert_eq!(master.cli(&["wait", "1", "5000"]), "1");
    let old = master.port();
    master.kill();
    run_in_time(&mut client, &[get("a")]).expect_err("it is dead");
    assert_eq!(run_until_answered(&mut client, &[set("b", "2"), get("a")]), [Reply::Done, value("1")]);
    wait_until("all Sentinels agree", PATIENCE, || watched.master().port() != old);
    assert_eq!(watched.master().cli(&["get", "b"]), "2");
}

#[test]
fn a_slot_that_moves_is_followed() {
    let cluster = Cluster::start();
    let url = cluster.url();
    let keys = RedisConfig::from_url(&url).expect("a URL").keys("");
    let key = |n: u32| keys.url(n);
    let all: Vec<_> = (0..10).map(|n| claim(&key(n), "1")).collect();
    let mut client = client(&url);
    assert_eq!(run_in_time(&mut client, &all), Ok(vec![value("1"); 10]));
    let origins = ["a", "b", "c"].map(register);
    assert_eq!(run_in_time(&mut client, &origins), Ok(vec![Reply::Done; 3]));
    let mark = Command::Mark { id: "x".to_owned(), mark: Mark::Draining, life: Duration::from_secs(300) };
    run_in_time(&mut client, &[mark, census()]).expect("an answer");
    let from = cluster.owner(&key(0));
    let to = (from + 1) % cluster.nodes().len();

    // Half of it is there, half of it here.
    let moving = cluster.begin_move(&key(0), to);
    (0..5).for_each(|n| moving.key(&key(n)));
    let both: Vec<_> = (0..12).map(|n| claim(&key(n), "2")).collect();
    let expected: Vec<_> = (0..12).map(|n| value(if n < 10 { "1" } else { "2" })).collect();
    assert_eq!(run_in_time(&mut client, &both), Ok(expected.clone()));
    assert_eq!(run_in_time(&mut crate::client(&url), &both), Ok(expected.clone()));
    // Who asks for all origins gets all or none, and neither is a list made of some.
    for key in [keys.all_servers(), keys.marks(), keys.loads(), keys.server("b")] {
        let replies = run_in_time(&mut client, &[census(), register("d"), register("a")]).expect("an answer");
        let (told, new) = (&replies[0], &replies[1]);
        assert!(matches!(told, Reply::Failed(_)) || registrations(told) >= 3, "{told:?}");
        assert!(matches!(new, Reply::Failed(_) | Reply::Done), "{new:?}");
        moving.key(&key);
    }
    let replies = run_in_time(&mut client, &[census(), register("e")]).expect("an answer");
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Failed(_))), "{replies:?}");
    moving.finish();

    // All of it is there.
    let replies = run_in_time(&mut client, &[register("e"), census()]).expect("an answer");
    assert!(registrations(&replies[1]) >= 4, "{replies:?}");
    assert_eq!(cluster.owner(&key(0)), to);
    assert_eq!(run_in_time(&mut client, &both), Ok(expected.clone()));
    assert!(matches!(run_in_time(&mut client, &[census()]).as_deref(), Ok([Reply::Census(_)])));
    assert_eq!(run_in_time(&mut crate::client(&url), &both), Ok(expected.clone()));

    // And back, before the client has heard of it.
    cluster.begin_move(&key(0), from).finish();
    assert_eq!(run_in_time(&mut client, &both), Ok(expected));

    // One node of a Cluster is no server that stands alone.
    let lone = cluster.nodes()[to].url();
    let lost = run_in_time(&mut crate::client(&lone), &[get(&key(0))]).expect_err("the other one has it");
    assert!(lost.0.contains("MOVED"), "{lost}");
}
