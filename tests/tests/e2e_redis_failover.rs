//! An origin dies, is drained or removed: all proxies of a fleet know, and each stream is at one origin all the time.

use srs_proxy_tests::peers::fleet::{KNOWN_WITHIN, wait_known};
use srs_proxy_tests::peers::http;
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::process::{Pipe, Process, command};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::recorder::{Behaviour, Recorder};
use srs_proxy_tests::peers::redis::Redis;
use srs_proxy_tests::peers::session::{Session, drive};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use srs_proxy_tests::rtmp::{ClientScript, OriginScript};
use std::time::{Duration, Instant};

/// Within this the streams of a dead origin can be published again.
const AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// Streams that two proxies are asked for at once, again and again.
const STREAMS: usize = 20;

/// Origins are chosen at random: an alive one that gets none of so many streams is not chosen at all.
const MANY_STREAMS: usize = 40;

fn key(stream: &str) -> String {
    format!("__defaultVhost__/live/{stream}")
}

fn publish(proxy: &Proxy, stream: &str) -> Session {
    Session::start(proxy.rtmp(), ClientScript::publish("live", stream))
}

fn play(proxy: &Proxy, stream: &str) -> Session {
    Session::start(proxy.rtmp(), ClientScript::play("live", stream))
}

#[track_caller]
fn fleet() -> (Redis, [Proxy; 2]) {
    let redis = Redis::start();
    let proxies = [(); 2].map(|()| Proxy::on_redis(redis.port(), &[]));
    (redis, proxies)
}

/// A `redis-cli` that tells of every command.
#[track_caller]
fn monitor(redis: &Redis) -> Process {
    let mut start = command("redis-cli");
    start.args(["-p", &redis.port().to_string(), "monitor"]);
    let mut process = Process::start("redis-cli monitor", &mut start);
    process.wait_line("OK", PATIENCE);
    process
}

/// The values that were written to a key, in order, of what a `MONITOR` has told since it had told `from` bytes. A value
/// that is written again is none.
fn written(monitor: &Process, from: usize, key: &str) -> Vec<String> {
    let told = monitor.text(Pipe::Out);
    let lines = told[from..].lines();
    let mut values: Vec<_> = lines.filter_map(|line| value_set(line, key)).collect();
    values.dedup();
    values
}

/// The value, if this line of `MONITOR` sets this key: `1.2 [0 lua] "SET" "key" "value" …`. What a script is given is no
/// line of its own kind.
fn value_set(line: &str, key: &str) -> Option<String> {
    let (_, words) = line.split_once("] ")?;
    let mut words = words.split('"').skip(1).step_by(2);
    let sets =
        matches!(&words.next()?.to_ascii_lowercase()[..], "set" | "setex" | "psetex" | "getset" | "setnx");
    let mut rest = words.skip_while(|word| *word != key).skip(1);
    sets.then(|| rest.find(|word| word.parse::<u64>().is_err()).map(str::to_owned))?
}

/// A published stream whose origin is killed is published again at one of the two proxies.
#[track_caller]
fn failover(again_at: usize) {
    let (redis, proxies) = fleet();
    let mut origins = [(); 3].map(|()| Nginx::start());
    for (n, origin) in origins.iter().enumerate() {
        proxies[n % 2].register(&n.to_string(), "1", origin.rtmp());
    }
    wait_known(&proxies, origins.len());
    let mut sessions = vec![publish(&proxies[0], "x"), play(&proxies[0], "x"), play(&proxies[1], "x")];
    drive(&mut sessions, "all have begun", PATIENCE, Session::is_started);
    let dead = origins.iter().position(|origin| origin.has_publisher("x")).expect("it is at an origin");
    for proxy in &proxies {
        assert_eq!(proxy.holders(&key("x")), [dead.to_string()]);
    }
    let monitor = monitor(&redis);
    let before = monitor.text(Pipe::Out).len();

    let killed = Instant::now();
    origins[dead].kill();
    drive(&mut sessions, "all are closed", PATIENCE, |session| session.ended().is_some());
    let mut publisher = publish(&proxies[again_at], "x");
    publisher.wait_started(AGAIN_WITHIN.saturating_sub(killed.elapsed()));
    println!("published again after {:?}", killed.elapsed());
    let mut players = [play(&proxies[0], "x"), play(&proxies[1], "x")];
    drive(&mut players, "players have begun", AGAIN_WITHIN, Session::is_started);

    // All three are at the same new origin, and nobody at the third.
    let clients = |n: usize| origins[n].stream("x").map_or(0, |stream| stream.clients);
    let alive: Vec<_> = (0..origins.len()).filter(|n| *n != dead).collect();
    wait_until("all are at one origin", PATIENCE, || alive.iter().map(|n| clients(*n)).sum::<usize>() == 3);
    let new = *alive.iter().find(|n| clients(**n) == 3).expect("all at one");
    assert!(origins[new].has_publisher("x"));
    for proxy in &proxies {
        assert_eq!(proxy.holders(&key("x")), [new.to_string()]);
    }

    // Some time passes, with players that come and go at both; then the mapping was written once.
    for n in 0..MANY_STREAMS {
        play(&proxies[n % 2], "x").wait_started(PATIENCE);
    }
    let mapping = format!("srs-proxy-url:{}", key("x"));
    let server = |n: usize| format!("srs-proxy-server:{n}-service-1-1");
    assert_eq!(redis.cli(&["get", &mapping]), server(new));
    let mut values = written(&monitor, before, &mapping);
    // Renewals before it was noticed.
    values.retain(|value| *value != server(dead));
    assert_eq!(values, [server(new)], "{}", monitor.tail());
    publisher.turn();
    assert!(publisher.ended().is_none());

    // The other proxy was told that the origin cannot be reached.
    wait_until("both proxies know it", KNOWN_WITHIN, || {
        proxies.iter().all(|proxy| proxy.health(&dead.to_string()).as_deref() == Some("quarantined"))
    });
}

#[test]
fn a_killed_origins_stream_is_published_again_at_the_same_proxy() {
    failover(0);
}

#[test]
fn a_killed_origins_stream_is_published_again_at_the_other_proxy() {
    failover(1);
}

#[test]
fn streams_of_a_killed_origin_that_both_proxies_are_asked_for_at_once_are_not_split() {
    let (_redis, proxies) = fleet();
    let mut origins = [(); 3].map(|()| Nginx::start());
    for (n, origin) in origins.iter().enumerate() {
        proxies[n % 2].register(&n.to_string(), "1", origin.rtmp());
    }
    wait_known(&proxies, origins.len());
    let all = || {
        let publishers = (0..STREAMS).map(|n| publish(&proxies[n % 2], &format!("s{n}")));
        let players = (0..STREAMS).map(|n| play(&proxies[(n + 1) % 2], &format!("s{n}")));
        publishers.chain(players).collect::<Vec<_>>()
    };
    let assert_whole = |origins: &[Nginx]| {
        for n in 0..STREAMS {
            let name = format!("s{n}");
            let clients =
                origins.iter().filter_map(|origin| origin.stream(&name)).map(|stream| stream.clients);
            assert_eq!(clients.collect::<Vec<_>>(), [2], "{name}: publisher and player are at one origin");
        }
    };
    let mut sessions = all();
    drive(&mut sessions, "all have begun", PATIENCE, Session::is_started);
    assert_whole(&origins);
    let origin = origins.iter().position(|origin| !origin.streams().is_empty()).expect("one that is used");
    drop(sessions);
    wait_until("all have left", PATIENCE, || origins.iter().all(|origin| origin.streams().is_empty()));

    origins[origin].kill();
    let killed = Instant::now();
    let mut sessions = all();
    drive(&mut sessions, "all have begun again", AGAIN_WITHIN, Session::is_started);
    println!("all have begun again after {:?}", killed.elapsed());
    let alive: Vec<_> = origins.into_iter().enumerate().filter(|(n, _)| *n != origin).collect();
    assert_whole(&alive.into_iter().map(|(_, origin)| origin).collect::<Vec<_>>());
}

#[test]
fn what_a_proxy_was_about_to_say_of_a_dead_publisher_moves_nothing() {
    for round in 0..3 {
        let (redis, proxies) = fleet();
        let mut origins = recorders(&proxies).map(Some);
        let mut first = publish(&proxies[0], "x");
        first.wait_started(PATIENCE);
        let dead: usize = proxies[0].holders(&key("x"))[0].parse().expect("its number");
        drop(origins[dead].take());
        first.wait_ended(PATIENCE);
        let mut again = publish(&proxies[1], "x");
        again.wait_started(AGAIN_WITHIN);
        // Something else is asked of Redis by the first proxy, which has not heard yet that the origin is dead.
        let unknown = format!("/live/y.ts?spbhid=unknown{round}");
        http::get(proxies[0].http(), &unknown).expect("an answer");
        let mapping = redis.cli(&["get", &format!("srs-proxy-url:{}", key("x"))]);
        assert_eq!(mapping, format!("srs-proxy-server:{}-service-1-1", 1 - dead), "round {round}");
        play(&proxies[0], "x").wait_started(PATIENCE);
        for proxy in &proxies {
            assert_eq!(proxy.holders(&key("x")), [(1 - dead).to_string()], "round {round}");
        }
    }
}

/// Origins that only say yes.
#[track_caller]
fn recorders(proxies: &[Proxy; 2]) -> [Recorder; 2] {
    let origins = [(); 2].map(|()| Recorder::start(Behaviour::Answer(OriginScript::default())));
    for (n, origin) in origins.iter().enumerate() {
        proxies[n].register(&n.to_string(), "1", origin.rtmp());
    }
    wait_known(proxies, origins.len());
    origins
}

/// Asks for something to be done to an origin.
#[track_caller]
fn tell(proxy: &Proxy, method: &str, server: &str, what: &str) {
    let path = format!("/api/v1/origins/{server}-service-1-1{what}");
    let answer = http::request(proxy.system_api(), method, &path, &[], "").expect("an answer");
    assert_eq!((answer.status, &answer.json()["code"]), (200, &0.into()), "{method} {path}: {}", answer.body);
}

/// Streams so named, published at both proxies, are all at this origin.
#[track_caller]
fn assert_new_streams_at(proxies: &[Proxy; 2], name: &str, home: &str) {
    let names: Vec<_> = (0..MANY_STREAMS).map(|n| format!("{name}{n}")).collect();
    let new = names.iter().enumerate().map(|(n, name)| publish(&proxies[n % 2], name));
    drive(&mut new.collect::<Vec<_>>(), "all new streams are published", PATIENCE, Session::is_started);
    for (n, name) in names.iter().enumerate() {
        assert_eq!(proxies[n % 2].holders(&key(name)), [home], "{name}");
    }
}

#[test]
fn an_origin_that_is_drained_at_one_proxy_gets_no_new_stream_at_any() {
    let (_redis, proxies) = fleet();
    let origins = recorders(&proxies);
    let mut publisher = publish(&proxies[0], "x");
    publisher.wait_started(PATIENCE);
    let drained = proxies[0].holders(&key("x")).pop().expect("its origin");
    let other = if drained == "0" { "1" } else { "0" };
    tell(&proxies[0], "POST", &drained, "/drain");
    for proxy in &proxies {
        wait_until("it is known", KNOWN_WITHIN, || proxy.health(&drained).as_deref() == Some("draining"));
    }
    assert_new_streams_at(&proxies, "new", other);

    // What it has stays, also for who comes now.
    for proxy in &proxies {
        play(proxy, "x").wait_started(PATIENCE);
        assert_eq!(proxy.holders(&key("x")), [&*drained]);
    }
    // Its heartbeats go on, and change nothing.
    let index: usize = drained.parse().expect("its number");
    proxies[1].register(&drained, "1", origins[index].rtmp());
    assert_new_streams_at(&proxies, "newer", other);
    publisher.turn();
    assert!(publisher.ended().is_none());
}

#[test]
fn an_origin_that_is_removed_at_one_proxy_is_gone_at_all_until_it_registers_again() {
    let (redis, proxies) = fleet();
    let origins = recorders(&proxies);
    tell(&proxies[0], "DELETE", "0", "");
    for proxy in &proxies {
        wait_until("it is known", KNOWN_WITHIN, || proxy.health("0").is_none());
        assert_eq!(proxy.health("1").as_deref(), Some("alive"));
    }
    assert_eq!(redis.cli(&["exists", "srs-proxy-server:0-service-1-1"]), "0");
    assert_eq!(redis.cli(&["get", "srs-proxy-all-servers"]), "[\"srs-proxy-server:1-service-1-1\"]");
    assert_new_streams_at(&proxies, "new", "1");
    proxies[1].register("0", "2", origins[0].rtmp());
    for proxy in &proxies {
        wait_until("its new life is known", KNOWN_WITHIN, || proxy.health("0").as_deref() == Some("alive"));
    }
}

#[test]
fn a_restarted_origin_replaces_its_old_life_at_all_proxies() {
    let (redis, proxies) = fleet();
    let origins = recorders(&proxies);
    proxies[1].register("0", "2", origins[0].rtmp());
    for proxy in &proxies {
        wait_until("only the new life is known", KNOWN_WITHIN, || {
            let ids: Vec<_> = proxy.origins().iter().map(|origin| origin["id"].clone()).collect();
            ids == ["0-service-2-2", "1-service-1-1"]
        });
    }
    let list = redis.cli(&["get", "srs-proxy-all-servers"]);
    let mut list: Vec<String> = serde_json::from_str(&list).expect("a list in JSON");
    list.sort();
    assert_eq!(list, ["srs-proxy-server:0-service-2-2", "srs-proxy-server:1-service-1-1"]);
}
