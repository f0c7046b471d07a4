//! Redis dies, hangs or is slow: what runs does not notice, what is known is found, what is new is refused at once; and all
//! is as before when it is back, even if it has forgotten everything.

use rustix::process::Signal;
use srs_proxy_tests::peers::fleet::{ANSWERED_WITHIN, Fleet, JITTER, KEY, wait_known};
use srs_proxy_tests::peers::http;
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::pion::{LONGEST, Location, Pion, Publisher, Viewers};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::slow::Slow;
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Within this all is as before when Redis is back: the longest pause between two attempts to connect, and some work.
const RECOVERY: Duration = Duration::from_secs(7);

/// Packets of some seconds.
const PACKETS: u64 = 250;

/// How late a slow Redis answers: far within the half second that a proxy waits, all of which a busy machine may need.
const SLOW: Duration = Duration::from_millis(200);

/// How often a busy machine may make an answer so late that a proxy connects again, all in all. Were it for Redis being slow,
/// it would be all the time.
const RECONNECTED: usize = 2;

#[track_caller]
fn fleet(redis_port: u16) -> Fleet {
    Fleet::start([(); 2].map(|()| Proxy::on_redis(redis_port, &[])))
}

/// Redis knows again both origins and where the stream is.
#[track_caller]
fn wait_restored(fleet: &Fleet, redis: &Redis) {
    let home = fleet.proxies()[0].holders(KEY).pop().expect("the stream has an origin");
    let back = Instant::now();
    wait_until("the stream's mapping is in Redis again", RECOVERY, || {
        redis.cli(&["get", &format!("srs-proxy-url:{KEY}")]) == server_key(&home)
    });
    let names = ["0", "1"];
    wait_until("all origins are in Redis again", RECOVERY.saturating_sub(back.elapsed()), || {
        list(redis) == names.map(server_key).into()
            && names.iter().all(|name| redis.cli(&["exists", &server_key(name)]) == "1")
    });
    println!("all is in Redis again after {:?}", back.elapsed());
    for name in names {
        let life = redis.cli(&["ttl", &server_key(name)]).parse::<u64>().expect("seconds");
        assert!((1..=300).contains(&life), "{life}");
    }
    for proxy in fleet.proxies() {
        assert_eq!(proxy.holders(KEY), [&*home], "the stream has not moved");
    }
}

/// The list of all registrations in Redis.
#[track_caller]
fn list(redis: &Redis) -> BTreeSet<String> {
    let list = redis.cli(&["get", "srs-proxy-all-servers"]);
    if list.is_empty() { BTreeSet::new() } else { serde_json::from_str(&list).expect("a list in JSON") }
}

/// The key of an origin's registration.
fn server_key(name: &str) -> String {
    format!("srs-proxy-server:{name}-service-1-1")
}

#[track_caller]
fn get(proxy: &Proxy, target: &str) -> http::Response {
    http::get(proxy.http(), target).expect("an answer")
}

#[test]
fn redis_is_killed_and_comes_back_empty() {
    let mut redis = Redis::start();
    let mut fleet = fleet(redis.port());

    redis.kill();
    fleet.assert_new_is_refused("killed");
    fleet.assert_known_is_found();
    fleet.assert_api_answers();
    fleet.assert_no_stall("killed");
    fleet.assert_new_is_refused("still-killed");
    fleet.assert_known_is_found();

    redis.restart();
    fleet.assert_new_works("new", RECOVERY);
    wait_restored(&fleet, &redis);
    fleet.assert_no_stall("back");
    fleet.end();
}

#[test]
fn redis_is_frozen_and_thaws() {
    let redis = Redis::start();
    let mut fleet = fleet(redis.port());

    redis.signal(Signal::STOP);
    fleet.assert_known_is_found();
    fleet.assert_new_is_refused("frozen");
    fleet.assert_api_answers();
    fleet.assert_no_stall("frozen");
    fleet.assert_new_is_refused("still-frozen");
    fleet.assert_known_is_found();

    redis.signal(Signal::CONT);
    fleet.assert_new_works("new", RECOVERY);
    wait_restored(&fleet, &redis);
    fleet.assert_no_stall("back");
    fleet.end();
}

#[test]
fn redis_is_slow() {
    let redis = Redis::start();
    let path = Slow::start((Ipv4Addr::LOCALHOST, redis.port()).into());
    let mut fleet = fleet(path.addr().port());
    let came = path.came();

    path.set_delay(SLOW);
    fleet.assert_known_is_found();
    fleet.assert_new_works("slow", ANSWERED_WITHIN);
    fleet.assert_no_stall("slow");
    fleet.assert_api_answers();
    let again = path.came() - came;
    assert!(again <= RECONNECTED, "a slow Redis is no reason to connect again: {again} times");

    path.set_delay(Duration::ZERO);
    fleet.assert_new_works("new", ANSWERED_WITHIN);
    fleet.end();
}

#[test]
fn webrtc_goes_on_without_redis() {
    let mut redis = Redis::start();
    let origin = Pion::start(Location::Query);
    let proxies = [(); 2].map(|()| Proxy::on_redis(redis.port(), &[]));
    proxies[0].register_rtc("origin", origin.api(), origin.media());
    wait_known(&proxies, 1);
    let storeless = Proxy::before_rtc(&origin, &[("PROXY_WORKERS", "2")]);
    let _publisher = Publisher::start(&proxies[0].rtc_url("whip", "live", "x"), 100);
    wait_until("the track has arrived", PATIENCE, || origin.tracks("live/x") == 1);
    // The same without a Redis: what those wait for, no Redis is to blame for.
    let [viewers, others] = [&proxies[1], &storeless]
        .map(|proxy| Viewers::start(&proxy.rtc_url("whep", "live", "x"), 3, LONGEST, true));
    let arrive = |count: u64| {
        let before = origin.packets("live/x");
        wait_until("media arrives", PATIENCE, || origin.packets("live/x") > before + count);
    };
    arrive(100);
    redis.kill();
    arrive(PACKETS);
    // Known where it was asked for, it is found there still.
    let late =
        Viewers::start(&proxies[1].rtc_url("whep", "live", "x"), 1, Duration::from_secs(1), true).finish();
    assert_eq!((late.connected, late.lost), (1, 0), "{late:?}");
    redis.restart();
    arrive(PACKETS);
    let [seen, others] = [viewers, others].map(Viewers::leave);
    println!("{seen:?}, without a Redis {others:?}");
    assert_eq!((seen.connected, seen.lost, seen.deleted), (3, 0, 3), "{seen:?}");
    assert!(seen.gap < others.gap + JITTER, "{:?} without media, without a Redis {:?}", seen.gap, others.gap);
}

#[test]
fn by_rendezvous_proxies_agree_on_new_streams_without_redis() {
    /// Enough that two proxies which draw lots would differ, and that no origin gets none.
    const KEYS: usize = 40;
    let mut redis = Redis::start();
    let origins =
        [0, 1, 2].map(|n: u8| HttpOrigin::answering(Answer::ok("text/plain", n.to_string().as_bytes())));
    let proxies = [(); 2].map(|()| Proxy::on_redis(redis.port(), &[("PROXY_LB_POLICY", "rendezvous")]));
    for (n, origin) in origins.iter().enumerate() {
        proxies[n % 2].register_http(&n.to_string(), origin.addr());
    }
    wait_known(&proxies, origins.len());
    let homes = |name: &str| {
        let mut homes = Vec::new();
        for key in 0..KEYS {
            let told = [0, 1].map(|n| {
                let asked = Instant::now();
                let answer = get(&proxies[n], &format!("/live/{name}{key}.flv"));
                assert_eq!(answer.status, 200, "{name}{key}: {}", answer.body);
                assert!(asked.elapsed() < ANSWERED_WITHIN, "{name}{key}: {:?}", asked.elapsed());
                answer.body.text()
            });
            assert_eq!(told[0], told[1], "{name}{key}");
            homes.push(told[0].clone());
        }
        assert_eq!(homes.iter().collect::<BTreeSet<_>>().len(), origins.len(), "all origins are used");
        homes
    };
    homes("with");
    redis.kill();
    let without = homes("without");
    redis.restart();
    wait_until("all origins are in Redis again", RECOVERY, || list(&redis).len() == origins.len());
    assert_eq!(homes("without"), without, "nothing has moved");
}

#[test]
fn proxies_come_back_to_redis_without_a_herd() {
    const PROXIES: usize = 8;
    /// What a proxy may try in the outage below: 0.1 s after the first failure, and less and less often.
    const ATTEMPTS: usize = 12;
    /// How long Redis is away.
    const AWAY: Duration = Duration::from_secs(5);
    /// Connections that a proxy may need when all is well.
    const CONNECTIONS: usize = 3;
    let mut redis = Redis::start();
    let path = Slow::start((Ipv4Addr::LOCALHOST, redis.port()).into());
    let proxies: Vec<_> =
        (0..PROXIES).map(|_| Proxy::on_redis(path.addr().port(), &[("PROXY_WORKERS", "1")])).collect();
    let origin = HttpOrigin::answering(Answer::ok("text/plain", b"here"));
    proxies[0].register_http("origin", origin.addr());
    wait_known(&proxies, 1);
    let started = path.came();
    assert!(started <= PROXIES * CONNECTIONS, "{started} connections of {PROXIES} proxies at the start");

    redis.kill();
    let killed = Instant::now();
    let mut asked = 0;
    // All the time there are questions, which must not be a reason to try more often.
    while killed.elapsed() < AWAY {
        for proxy in &proxies {
            assert_eq!(get(proxy, &format!("/live/new{asked}.flv")).status, 503);
            asked += 1;
        }
    }
    let tried = path.came() - started;
    println!("{tried} attempts of {PROXIES} proxies in {AWAY:?}, with {asked} questions");
    assert!(tried <= PROXIES * ATTEMPTS, "{tried} attempts of {PROXIES} proxies");

    let before = path.came();
    redis.restart();
    for (n, proxy) in proxies.iter().enumerate() {
        wait_until("every proxy is back", RECOVERY, || {
            get(proxy, &format!("/live/back{n}.flv")).status == 200
        });
    }
    let came = path.came() - before;
    println!("{came} connections of {PROXIES} proxies to be back");
    assert!(came <= PROXIES * CONNECTIONS, "{came} connections of {PROXIES} proxies");
    // Those of the proxies, and that of who asks.
    let clients = redis.cli(&["client", "list"]).lines().count();
    assert!(clients <= PROXIES * CONNECTIONS + 1, "{clients} connections are open");
}
