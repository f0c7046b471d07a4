//! Eight proxies at once: each of thousands of keys gets one origin, and no registration of hundreds is lost.

use srs_proxy_tests::peers::fleet::wait_known;
use srs_proxy_tests::peers::http::{Connection, Request};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::{PATIENCE, raise_descriptor_limit, wait_for, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

const PROXIES: usize = 8;
const ORIGINS: usize = 4;
const KEYS: usize = 2000;

/// Connections of which each asks one proxy for a share of the keys, in the same order as those of the other proxies.
const LANES: usize = 4;

/// Registrations that each proxy is sent.
const REGISTRATIONS: usize = 25;

/// Descriptors that the connections between all these need in this process.
const DESCRIPTORS: u64 = 8192;

fn origins() -> [HttpOrigin; ORIGINS] {
    std::array::from_fn(|n| HttpOrigin::answering(Answer::ok("text/plain", n.to_string().as_bytes())))
}

/// Proxies on one Redis. They need no second worker: there are enough of them.
#[track_caller]
fn proxies(redis: &Redis) -> Vec<Proxy> {
    (0..PROXIES).map(|_| Proxy::on_redis(redis.port(), &[("PROXY_WORKERS", "1")])).collect()
}

/// Of so many questions one may be refused: on so busy a machine a proxy may find that Redis has been silent for half a
/// second, and then refuses what is new for a moment.
const REFUSED: usize = 10;

/// Which origin each of these keys is led to, by one connection. Who is refused asks again: that is no origin.
#[track_caller]
fn led(at: SocketAddr, keys: impl Iterator<Item = usize>, refused: &AtomicUsize) -> BTreeMap<usize, String> {
    let mut connection = Connection::open(at).expect("a connection");
    keys.map(|key| {
        let origin = wait_for("an answer that is no refusal", PATIENCE, || {
            let answer = connection.ask(&Request::get(&format!("/live/k{key}.flv"))).expect("an answer");
            assert!(matches!(answer.status, 200 | 503), "k{key}: {}", answer.body);
            refused.fetch_add(usize::from(answer.status == 503), Ordering::Relaxed);
            (answer.status == 200).then(|| answer.body.text())
        });
        (key, origin)
    })
    .collect()
}

#[test]
fn each_of_two_thousand_keys_asked_at_eight_proxies_at_once_has_one_origin() {
    raise_descriptor_limit(DESCRIPTORS);
    let redis = Redis::start();
    let origins = origins();
    let proxies = proxies(&redis);
    for (n, origin) in origins.iter().enumerate() {
        proxies[n].register_http(&n.to_string(), origin.addr());
    }
    wait_known(&proxies, ORIGINS);
    let start = Barrier::new(PROXIES * LANES);
    let refused = AtomicUsize::new(0);
    let begin = Instant::now();
    let answers: Vec<BTreeMap<usize, String>> = thread::scope(|scope| {
        let lanes = proxies.iter().flat_map(|proxy| (0..LANES).map(move |lane| (proxy.http(), lane)));
        let asking: Vec<_> = lanes
            .map(|(at, lane)| {
                let (start, refused) = (&start, &refused);
                scope.spawn(move || {
                    start.wait();
                    led(at, (lane..KEYS).step_by(LANES), refused)
                })
            })
            .collect();
        asking.into_iter().map(|lane| lane.join().expect("all answers")).collect()
    });
    let refusals = refused.load(Ordering::Relaxed);
    println!("{} questions answered in {:?}, {refusals} refused at first", PROXIES * KEYS, begin.elapsed());
    assert!(refusals < PROXIES * KEYS / REFUSED, "{refusals} refused");
    let mut homes = BTreeMap::<usize, BTreeSet<String>>::new();
    for (key, origin) in answers.into_iter().flatten() {
        homes.entry(key).or_default().insert(origin);
    }
    assert_eq!(homes.len(), KEYS);
    let split: Vec<_> = homes.iter().filter(|(_, origins)| origins.len() != 1).collect();
    assert!(split.is_empty(), "{} keys have more than one origin: {split:?}", split.len());
    for n in 0..ORIGINS {
        let count = homes.values().filter(|home| home.contains(&n.to_string())).count();
        assert!(count > KEYS / ORIGINS / 2, "origin {n} has {count} keys");
    }

    // Asked again, from the last to the first, everybody says the same.
    for proxy in &proxies {
        for (key, origin) in led(proxy.http(), (0..KEYS).rev().step_by(7), &refused) {
            assert!(homes[&key].contains(&origin), "k{key} has moved to {origin}");
        }
    }
}

#[test]
fn two_hundred_registrations_at_eight_proxies_at_once_are_all_known_everywhere() {
    let redis = Redis::start();
    let proxies = proxies(&redis);
    let start = Barrier::new(PROXIES);
    thread::scope(|scope| {
        for (n, proxy) in proxies.iter().enumerate() {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for m in 0..REGISTRATIONS {
                    proxy.register(&format!("{n}-{m}"), "1", ([127, 0, 0, 1], 1).into());
                }
            });
        }
    });
    let told = Instant::now();
    for (n, proxy) in proxies.iter().enumerate() {
        wait_until(&format!("proxy {n} lists all"), PATIENCE, || {
            let servers: BTreeSet<_> =
                proxy.origins().iter().map(|origin| origin["server"].to_string()).collect();
            servers.len() == PROXIES * REGISTRATIONS
        });
    }
    println!("all known everywhere after {:?}", told.elapsed());
    let list = redis.cli(&["get", "srs-proxy-all-servers"]);
    let list: Vec<String> = serde_json::from_str(&list).expect("a list in JSON");
    assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), PROXIES * REGISTRATIONS);
    assert_eq!(list.len(), PROXIES * REGISTRATIONS, "each once");
}
