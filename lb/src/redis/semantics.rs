//! What every store must do with each [`Command`], as tests that the one in memory and the real ones run alike. Knows no
//! implementation.

use super::{Census, Command, FOREVER, Keys, LOADS_LIFE, Mark, RedisClient, Reply, Returned};
use srs_proxy_core::origin::Protocol;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

/// A store to be tested, empty at first.
pub trait Subject {
    /// The names of keys there.
    fn keys(&self) -> Keys;

    /// Another client.
    fn client(&self) -> Box<dyn RedisClient>;

    /// How long the entry at `key` lives on. Inside: `None` if it has no end.
    fn ttl(&self, key: &str) -> Option<Option<Duration>>;

    /// Lets time pass, within a moment.
    fn pass(&self, time: Duration);
}

/// Builds the store to be tested.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Subject>;

/// A life that ends during a test.
const SHORT: Duration = Duration::from_secs(60);
/// After this it is over, and a long one is not.
const AFTER: Duration = Duration::from_secs(61);
/// A life that does not end.
const LONG: Duration = Duration::from_secs(300);
/// Within this a test's step is done, on a busy machine: how exactly lives are looked at.
const STEP: Duration = Duration::from_secs(30);

/// A registration as the Go proxy writes it: recorded.
const RECORDED: &str = r#"{"ip":"192.0.2.2","device_id":"origin1","server_id":"vid-8f503b0","service_id":"ib2f72c6","pid":"15486","rtmp":["19351"],"http":["8081"],"api":["19851"],"srt":["udp://0.0.0.0:10081"],"rtc":["udp://0.0.0.0:8001"],"update_at":"2026-11-22T10:34:52.070553836Z"}"#;
const RECORDED_ID: &str = "vid-8f503b0-ib2f72c6-15486";
const RECORDED_HLS: &str = r#"{"spbhid":"3f2bbba","stream_url":"__defaultVhost__/live/vec","full_url":"http://127.0.0.1/live/vec.m3u8"}"#;

/// Runs all tests on stores that `make` builds.
///
/// # Panics
/// If one fails.
pub fn run(make: Make<'_>) {
    type Case = (&'static str, fn(&World));
    let cases: [Case; 25] = [
        ("what is set is there until it ends", what_is_set_is_there_until_it_ends),
        ("a claim takes what is free, and only that", a_claim_takes_what_is_free_and_only_that),
        ("what is found is in use", what_is_found_is_in_use),
        ("a session is stored by name and as its stream's", a_session_is_stored_by_name_and_as_its_streams),
        (
            "a mapping takes what is free, or just what it replaces",
            a_mapping_takes_what_is_free_or_just_what_it_replaces,
        ),
        (
            "a stream that is published is not mapped elsewhere",
            a_stream_that_is_published_is_not_mapped_elsewhere,
        ),
        ("of two publishers the first stays", of_two_publishers_the_first_stays),
        ("a claim lengthens a life and never shortens it", a_claim_lengthens_a_life_and_never_shortens_it),
        ("of many claims one wins", of_many_claims_one_wins),
        ("an origin is on the list until its life ends", an_origin_is_on_the_list_until_its_life_ends),
        ("a new life of a server ends the old one", a_new_life_of_a_server_ends_the_old_one),
        ("who is met lives as long as its registration", who_is_met_lives_as_long_as_its_registration),
        ("a heartbeat leaves the list alone", a_heartbeat_leaves_the_list_alone),
        ("of many origins at once none is lost", of_many_origins_at_once_none_is_lost),
        ("what is given back does no harm", what_is_given_back_does_no_harm),
        (
            "of what is given back the younger heartbeat counts",
            of_what_is_given_back_the_younger_heartbeat_counts,
        ),
        ("a deregistered origin is gone", a_deregistered_origin_is_gone),
        ("an empty list is a list", an_empty_list_is_a_list),
        ("marks are told until they end", marks_are_told_until_they_end),
        ("loads of all others are summed up", loads_of_all_others_are_summed_up),
        ("a silent proxy has no loads", a_silent_proxy_has_no_loads),
        ("what the Go proxy wrote is read", what_the_go_proxy_wrote_is_read),
        ("keys without our prefix are known", keys_without_our_prefix_are_known),
        ("garbage is no list", garbage_is_no_list),
        ("garbage on the list and in registrations does no harm", garbage_in_places_does_no_harm),
    ];
    for (name, case) in cases {
        // Shown by the test harness if the case fails.
        eprintln!("store: {name}");
        let store = make();
        let client = RefCell::new(store.client());
        case(&World(store, client));
    }
}

/// A store, and a client of it that stays connected.
struct World(Box<dyn Subject>, RefCell<Box<dyn RedisClient>>);

impl World {
    fn keys(&self) -> Keys {
        self.0.keys()
    }

    fn pass(&self, time: Duration) {
        self.0.pass(time);
    }

    fn run(&self, command: Command) -> Reply {
        one(&mut **self.1.borrow_mut(), command)
    }

    #[track_caller]
    fn done(&self, command: Command) {
        assert_eq!(self.run(command), Reply::Done);
    }

    fn get(&self, key: &str) -> Option<String> {
        match self.run(Command::Get { key: key.to_owned() }) {
            Reply::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    /// So many clients at once, which are connected one after the other: that takes its time where it is encrypted.
    fn clients(&self, count: usize) -> Vec<Box<dyn RedisClient>> {
        let connected = (0..count).map(|_| {
            let mut client = self.0.client();
            client.run(&[]).expect("the store lets it in");
            client
        });
        connected.collect()
    }

    /// Removes what is there, whatever it is.
    fn remove(&self, key: String) {
        if let Some(value) = self.get(&key) {
            self.done(Command::Delete { key, value });
        }
    }

    fn set(&self, key: &str, value: &str, life: Option<Duration>) {
        self.done(Command::Set { key: key.to_owned(), value: value.to_owned(), life });
    }

    fn claim(&self, key: &str, value: &str, life: Option<Duration>) -> String {
        claim(&mut **self.1.borrow_mut(), key, value, life)
    }

    /// Maps `live/a`; the id that it is mapped to then.
    fn map(&self, origin: &str, instead_of: Option<&str>, publishes: bool, life: Option<Duration>) -> String {
        let instead_of = instead_of.map(|id| self.keys().server(id));
        let (stream, origin) = ("live/a".to_owned(), origin.to_owned());
        match self.run(Command::Map { stream, origin, instead_of, publishes, life }) {
            Reply::Mapped { held, .. } => self.id_of(&held),
            other => panic!("{other:?}"),
        }
    }

    /// Publishes `live/a`; where it is published then, and the id that it is mapped to.
    fn publish(&self, origin: &str, not_at: Option<&str>, moves: bool, fresh: Duration) -> [String; 2] {
        let (stream, origin) = ("live/a".to_owned(), origin.to_owned());
        let not_at = not_at.map(str::to_owned);
        match self.run(Command::Publish { stream, origin, not_at, moves, fresh, life: Some(LONG) }) {
            Reply::Published { publisher, held } => [publisher, self.id_of(&held)],
            other => panic!("{other:?}"),
        }
    }

    fn id_of(&self, held: &str) -> String {
        self.keys().id_of(held).expect("a server's key").to_owned()
    }

    fn register(&self, id: &str, server: &str, life: Duration) {
        self.done(register(id, server, life));
    }

    fn give(&self, id: &str, server: &str, life: Duration) {
        self.done(Command::GiveBack { origins: vec![returned(id, server, life)] });
    }

    fn mark(&self, id: &str, mark: Mark, life: Duration) {
        self.done(Command::Mark { id: id.to_owned(), mark, life });
    }

    fn census(&self, proxy: &str, loads: &[(&str, u32)]) -> Census {
        let loads = loads.iter().map(|(id, streams)| ((*id).to_owned(), *streams)).collect();
        match self.run(Command::Census { proxy: proxy.into(), loads }) {
            Reply::Census(census) => census,
            other => panic!("{other:?}"),
        }
    }

    /// All registrations, in the list's order.
    fn origins(&self) -> Vec<String> {
        self.census("nobody", &[]).registrations.into_iter().map(|(json, _)| json).collect()
    }

    /// The list as it is stored.
    fn list(&self) -> Option<Vec<String>> {
        let list = self.get(&self.keys().all_servers())?;
        Some(serde_json::from_str(&list).expect("a JSON array of texts"))
    }

    #[track_caller]
    fn assert_life(&self, key: &str, life: Duration) {
        let left = self.0.ttl(key).expect("an entry").expect("an end");
        assert!(left <= life && left + STEP > life, "{left:?} of {life:?}");
    }
}

fn one(client: &mut dyn RedisClient, command: Command) -> Reply {
    let mut replies = client.run(&[command]).expect("the store answers");
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

fn claim(client: &mut dyn RedisClient, key: &str, value: &str, life: Option<Duration>) -> String {
    match one(client, Command::Claim { key: key.to_owned(), value: value.to_owned(), life }) {
        Reply::Value(Some(value)) => value,
        other => panic!("{other:?}"),
    }
}

fn json(id: &str, server: &str) -> String {
    format!(r#"{{"server_id":"{server}","pid":"{id}"}}"#)
}

fn register(id: &str, server: &str, life: Duration) -> Command {
    Command::Register { id: id.to_owned(), server: server.to_owned(), json: json(id, server), life }
}

fn returned(id: &str, server: &str, life: Duration) -> Returned {
    Returned { id: id.to_owned(), server: server.to_owned(), json: json(id, server), life }
}

fn what_is_set_is_there_until_it_ends(world: &World) {
    let keys = world.keys();
    let (key, other) = (keys.url("live/a"), keys.url("live/ä\n\"b"));
    assert_eq!(world.get(&key), None);
    world.set(&key, "1", None);
    world.set(&other, "x\r\ny\0", Some(SHORT));
    assert_eq!(world.get(&key).as_deref(), Some("1"));
    assert_eq!(world.get(&other).as_deref(), Some("x\r\ny\0"));
    assert_eq!(world.0.ttl(&key), Some(None));
    world.assert_life(&other, SHORT);
    world.pass(AFTER);
    assert_eq!((world.get(&key).as_deref(), world.get(&other)), (Some("1"), None));
    assert_eq!(world.0.ttl(&other), None);
    // Another value has another life.
    world.set(&key, "2", Some(LONG));
    world.assert_life(&key, LONG);
    world.set(&key, "3", None);
    assert_eq!(world.0.ttl(&key), Some(None));
    // What is not there any more, or is not that, stays as it is.
    world.done(Command::Delete { key: key.clone(), value: "2".into() });
    assert_eq!(world.get(&key), Some("3".into()));
    world.done(Command::Delete { key: key.clone(), value: "3".into() });
    world.done(Command::Delete { key: key.clone(), value: "3".into() });
    assert_eq!(world.get(&key), None);
    // Many in one go are answered in their order.
    let batch: Vec<_> = (0..500)
        .flat_map(|n: u32| {
            let key = keys.url(n);
            [Command::Set { key: key.clone(), value: n.to_string(), life: None }, Command::Get { key }]
        })
        .collect();
    let replies = world.0.client().run(&batch).expect("the store answers");
    let expected = (0..500).flat_map(|n: u32| [Reply::Done, Reply::Value(Some(n.to_string()))]);
    assert_eq!(replies, expected.collect::<Vec<_>>());
    assert_eq!(world.0.client().run(&[]), Ok(Vec::new()));
    // A life that is hardly one, and one that never ends as far as anyone can tell.
    world.set(&key, "4", Some(Duration::MAX));
    world.assert_life(&key, FOREVER);
    world.set(&key, "5", Some(Duration::ZERO));
    world.pass(Duration::from_millis(10));
    assert_eq!(world.get(&key), None);
}

fn a_claim_takes_what_is_free_and_only_that(world: &World) {
    let key = world.keys().hls("live/a");
    assert_eq!(world.claim(&key, "a", Some(SHORT)), "a");
    assert_eq!(world.claim(&key, "b", None), "a");
    world.assert_life(&key, SHORT);
    world.pass(AFTER);
    assert_eq!(world.claim(&key, "d", None), "d");
    assert_eq!(world.get(&key).as_deref(), Some("d"));
}

fn what_is_found_is_in_use(world: &World) {
    let keys = world.keys();
    let find = |key: &str, of_stream: Option<&str>, life| {
        let (key, of_stream) = (key.to_owned(), of_stream.map(str::to_owned));
        match world.run(Command::Find { key, of_stream, life }) {
            Reply::Value(value) => value,
            other => panic!("{other:?}"),
        }
    };
    let (name, stream) = (keys.spbhid("3f2bbba"), keys.hls("__defaultVhost__/live/vec"));
    assert_eq!(find(&name, Some(&keys.hls("")), LONG), None);
    world.set(&name, RECORDED_HLS, Some(SHORT));
    world.set(&stream, RECORDED_HLS, Some(SHORT));
    assert_eq!(find(&name, None, LONG).as_deref(), Some(RECORDED_HLS));
    world.assert_life(&name, LONG);
    world.assert_life(&stream, SHORT);
    assert_eq!(find(&name, Some(&keys.hls("")), LONG).as_deref(), Some(RECORDED_HLS));
    world.assert_life(&stream, LONG);
    assert_eq!(find(&name, Some(&keys.hls("")), SHORT).as_deref(), Some(RECORDED_HLS));
    world.assert_life(&name, LONG);
    // Another one of the stream is not in use, and what has no end is given none.
    world.set(&stream, "another", Some(SHORT));
    world.set(&name, RECORDED_HLS, None);
    find(&name, Some(&keys.hls("")), LONG);
    world.assert_life(&stream, SHORT);
    assert_eq!(world.0.ttl(&name), Some(None));
    for garbage in ["", "{", "[]", "7", r#"{"stream_url":7}"#] {
        world.set(&name, garbage, Some(SHORT));
        assert_eq!(find(&name, Some(&keys.hls("")), LONG).as_deref(), Some(garbage));
    }
}

fn a_session_is_stored_by_name_and_as_its_streams(world: &World) {
    let (of_stream, by_name) = (world.keys().hls("live/a"), |name: &str| world.keys().spbhid(name));
    let store = |name: &str, keeps, life| {
        let (of_stream, key, value) = (of_stream.clone(), by_name(name), format!("session {name}"));
        match world.run(Command::Store { of_stream, key, value, keeps, life }) {
            Reply::Value(Some(held)) => held,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(store("1", true, SHORT), "session 1");
    assert_eq!(store("1", true, LONG), "session 1");
    world.assert_life(&of_stream, LONG);
    world.assert_life(&by_name("1"), LONG);
    assert_eq!(store("2", true, SHORT), "session 1");
    assert_eq!(world.get(&by_name("2")).as_deref(), Some("session 2"));
    world.assert_life(&of_stream, LONG);
    assert_eq!(store("3", false, SHORT), "session 3");
    assert_eq!(world.get(&of_stream).as_deref(), Some("session 3"));
    world.assert_life(&of_stream, SHORT);
    world.assert_life(&by_name("3"), SHORT);
    assert_eq!(world.get(&by_name("1")).as_deref(), Some("session 1"));
}

fn a_mapping_takes_what_is_free_or_just_what_it_replaces(world: &World) {
    let key = world.keys().url("live/a");
    assert_eq!(world.map("a", None, false, Some(SHORT)), "a");
    world.assert_life(&key, SHORT);
    // Whoever is told of it uses it.
    assert_eq!(world.map("b", None, false, Some(LONG)), "a");
    world.assert_life(&key, LONG);
    assert_eq!(world.map("b", Some("c"), true, Some(SHORT)), "a");
    world.assert_life(&key, LONG);
    assert_eq!(world.map("b", Some("a"), false, None), "b");
    assert_eq!(world.0.ttl(&key), Some(None));
    assert_eq!(world.map("c", Some("a"), false, Some(SHORT)), "b");
    assert_eq!(world.map("c", Some("b"), false, Some(SHORT)), "c");
    assert_eq!(world.map("c", Some("c"), false, Some(LONG)), "c");
    world.assert_life(&key, LONG);
    world.set(&key, &world.keys().server("c"), Some(SHORT));
    world.pass(AFTER);
    // What has ended is free, whatever was expected there.
    assert_eq!(world.map("d", Some("x"), false, None), "d");
    // What is no server's key may be replaced as it was found.
    world.set(&key, "nonsense", None);
    let replace = Command::Map {
        stream: "live/a".into(),
        origin: "e".into(),
        instead_of: Some("nonsense".into()),
        publishes: false,
        life: None,
    };
    let mapped = |held, is_new| Reply::Mapped { held, is_new, stays: true };
    assert_eq!(world.run(replace.clone()), mapped(world.keys().server("e"), true));
    assert_eq!(world.run(replace), mapped(world.keys().server("e"), false));
}

fn a_stream_that_is_published_is_not_mapped_elsewhere(world: &World) {
    let publisher = || world.get(&world.keys().publisher("live/a"));
    assert_eq!(world.publish("a", None, false, SHORT), ["a", "a"]);
    assert_eq!(world.map("b", Some("a"), false, Some(LONG)), "a");
    // Whoever wrote the mapping had another prefix, or none.
    world.set(&world.keys().url("live/a"), "srs-proxy-server:a", Some(LONG));
    let without_prefix = |publishes| Command::Map {
        stream: "live/a".into(),
        origin: "b".into(),
        instead_of: Some("srs-proxy-server:a".into()),
        publishes,
        life: Some(LONG),
    };
    let mapped = |held, is_new| Reply::Mapped { held, is_new, stays: false };
    assert_eq!(world.run(without_prefix(false)), mapped("srs-proxy-server:a".into(), false));
    assert_eq!(publisher().as_deref(), Some("a"));
    // Who publishes may move it, and then it is published there no more.
    assert_eq!(world.run(without_prefix(true)), mapped(world.keys().server("b"), true));
    assert_eq!(publisher(), None);
    // Nor does the word of an origin count that has gone.
    assert_eq!(world.publish("b", None, false, SHORT), ["b", "b"]);
    world.mark("b", Mark::Gone, LONG);
    assert_eq!(world.map("c", Some("b"), false, Some(LONG)), "c");
    assert_eq!(publisher(), None);
    // Or that is too old, or of another place.
    assert_eq!(world.publish("c", None, false, SHORT), ["c", "c"]);
    world.pass(AFTER);
    assert_eq!(world.map("d", Some("c"), false, Some(LONG)), "d");
    assert_eq!(world.publish("e", None, false, LONG), ["e", "d"]);
    assert_eq!(world.map("f", Some("d"), false, Some(LONG)), "f");
    assert_eq!(publisher().as_deref(), Some("e"));
}

fn of_two_publishers_the_first_stays(world: &World) {
    let keys = world.keys();
    assert_eq!(world.publish("a", None, true, SHORT), ["a", "a"]);
    world.assert_life(&keys.publisher("live/a"), SHORT);
    world.assert_life(&keys.url("live/a"), LONG);
    assert_eq!(world.publish("b", None, true, LONG), ["a", "a"]);
    assert_eq!(world.publish("b", Some("c"), true, LONG), ["a", "a"]);
    assert_eq!(world.publish("b", Some("a"), false, LONG), ["b", "a"]);
    world.assert_life(&keys.publisher("live/a"), LONG);
    assert_eq!(world.publish("b", None, true, SHORT), ["b", "b"]);
    world.assert_life(&keys.publisher("live/a"), LONG);
    world.done(Command::Delete { key: keys.publisher("live/a"), value: "a".into() });
    assert_eq!(world.publish("a", None, true, SHORT), ["b", "b"]);
    world.done(Command::Delete { key: keys.publisher("live/a"), value: "b".into() });
    assert_eq!(world.publish("a", None, true, SHORT), ["a", "a"]);
}

fn a_claim_lengthens_a_life_and_never_shortens_it(world: &World) {
    let key = world.keys().url("live/a");
    world.claim(&key, "a", Some(SHORT));
    assert_eq!(world.claim(&key, "a", Some(LONG)), "a");
    world.assert_life(&key, LONG);
    assert_eq!(world.claim(&key, "a", Some(SHORT)), "a");
    world.assert_life(&key, LONG);
    world.claim(&key, "a", None);
    assert_eq!(world.0.ttl(&key), Some(None));
    world.claim(&key, "a", Some(SHORT));
    assert_eq!(world.0.ttl(&key), Some(None));
}

fn of_many_claims_one_wins(world: &World) {
    const ROUNDS: usize = 20;
    let barrier = Barrier::new(8);
    let key = |round| world.keys().url(round);
    let keys: Vec<_> = (0..ROUNDS).map(key).collect();
    let won: Vec<Vec<String>> = thread::scope(|scope| {
        let clients = world.clients(8).into_iter().enumerate();
        let claimers: Vec<_> = clients
            .map(|(n, mut client)| {
                let (barrier, keys) = (&barrier, &keys);
                scope.spawn(move || {
                    let claims = keys.iter().map(|key| {
                        barrier.wait();
                        claim(&mut *client, key, &n.to_string(), Some(LONG))
                    });
                    claims.collect()
                })
            })
            .collect();
        claimers.into_iter().map(|claimer| claimer.join().expect("a claimer")).collect()
    });
    for (round, key) in keys.iter().enumerate() {
        let winners: BTreeSet<_> = won.iter().map(|claims| claims[round].clone()).collect();
        assert_eq!(winners, BTreeSet::from([world.get(key).expect("a winner")]));
    }
}

fn an_origin_is_on_the_list_until_its_life_ends(world: &World) {
    assert_eq!(world.census("p", &[]), Census::default());
    world.register("a-1-1", "a", SHORT);
    world.register("b-1-1", "b", LONG);
    let keys = world.keys();
    assert_eq!(world.list(), Some(vec![keys.server("a-1-1"), keys.server("b-1-1")]));
    assert_eq!(world.get(&keys.server("a-1-1")), Some(json("a-1-1", "a")));
    assert_eq!(world.0.ttl(&keys.all_servers()), Some(None));
    let census = world.census("p", &[]);
    assert!(census.has_list);
    let [(a, life_a), (b, life_b)] = &census.registrations[..] else { panic!("{census:?}") };
    assert_eq!((a, b), (&json("a-1-1", "a"), &json("b-1-1", "b")));
    assert!(*life_a <= SHORT && *life_b <= LONG && *life_b + STEP > LONG, "{census:?}");
    world.pass(AFTER);
    assert_eq!(world.origins(), [json("b-1-1", "b")]);
    // It makes room when the next one is put on the list.
    world.register("c-1-1", "c", LONG);
    assert_eq!(world.list(), Some(vec![keys.server("b-1-1"), keys.server("c-1-1")]));
}

fn a_new_life_of_a_server_ends_the_old_one(world: &World) {
    world.register("a-1-1", "a", LONG);
    world.register("b-1-1", "b", LONG);
    world.register("a-2-2", "a", LONG);
    assert_eq!(world.origins(), [json("b-1-1", "b"), json("a-2-2", "a")]);
    assert_eq!(world.get(&world.keys().server("a-1-1")), None);
    let marks = world.census("p", &[]).marks;
    assert!(matches!(&marks[..], [(id, Mark::Gone, left)] if id == "a-1-1" && *left <= LONG), "{marks:?}");
}

fn who_is_met_lives_as_long_as_its_registration(world: &World) {
    let meet = |id: &str| match world.run(Command::Meet { id: id.to_owned() }) {
        Reply::Met(met) => met,
        other => panic!("{other:?}"),
    };
    assert_eq!(meet("a-1-1"), None);
    world.register("a-1-1", "a", LONG);
    let (registration, left) = meet("a-1-1").expect("a registration");
    assert!(registration == json("a-1-1", "a") && left <= LONG && left + STEP > LONG, "{left:?}");
    world.set(&world.keys().server("b-1-1"), "not on the list", None);
    assert_eq!(meet("b-1-1"), Some(("not on the list".to_owned(), FOREVER)));
}

fn a_heartbeat_leaves_the_list_alone(world: &World) {
    world.register("a-1-1", "a", SHORT);
    world.register("b-1-1", "b", LONG);
    let list = world.list();
    world.register("a-1-1", "a", LONG);
    assert_eq!(world.list(), list);
    world.assert_life(&world.keys().server("a-1-1"), LONG);
}

fn of_many_origins_at_once_none_is_lost(world: &World) {
    thread::scope(|scope| {
        for (proxy, mut client) in world.clients(8).into_iter().enumerate() {
            scope.spawn(move || {
                for n in 0..25 {
                    let server = format!("{proxy}x{n}");
                    one(&mut *client, register(&format!("{server}-1-1"), &server, LONG));
                }
            });
        }
    });
    assert_eq!(world.origins().into_iter().collect::<BTreeSet<_>>().len(), 200);
}

fn what_is_given_back_does_no_harm(world: &World) {
    let keys = world.keys();
    world.register("a-1-1", "a", LONG);
    // What was deregistered stays away, until its mark ends or it registers anew.
    world.mark("c-1-1", Mark::Gone, LONG);
    world.register("c-1-1", "c", SHORT);
    assert_eq!(world.census("p", &[]).marks, []);
    world.mark("b-1-1", Mark::Gone, SHORT);
    world.give("b-1-1", "b", LONG);
    assert_eq!(world.origins(), [json("a-1-1", "a"), json("c-1-1", "c")]);
    world.pass(AFTER);
    world.give("b-1-1", "b", LONG);
    assert_eq!(world.origins(), [json("a-1-1", "a"), json("b-1-1", "b")]);
    world.assert_life(&keys.server("b-1-1"), LONG);
    // What only the list has lost is put back on it.
    world.remove(keys.all_servers());
    assert!(!world.census("p", &[]).has_list);
    world.give("b-1-1", "b", SHORT);
    assert_eq!(world.origins(), [json("b-1-1", "b")]);
    world.assert_life(&keys.server("b-1-1"), LONG);
    // What others wrote has no end, and is given none.
    world.set(&keys.server("d-1-1"), &json("d-1-1", "d"), None);
    world.give("d-1-1", "d", LONG);
    world.give("d-2-2", "d", LONG);
    assert_eq!(world.0.ttl(&keys.server("d-1-1")), Some(None));
    assert_eq!(world.origins(), [json("b-1-1", "b"), json("d-1-1", "d")]);
    // Nothing, and nothing to nobody.
    world.done(Command::GiveBack { origins: Vec::new() });
    assert_eq!(world.origins().len(), 2);
}

fn of_what_is_given_back_the_younger_heartbeat_counts(world: &World) {
    let keys = world.keys();
    world.register("a-1-1", "a", SHORT);
    world.give("a-1-1", "a", SHORT / 2);
    world.assert_life(&keys.server("a-1-1"), SHORT);
    world.give("a-1-1", "a", LONG);
    world.assert_life(&keys.server("a-1-1"), LONG);
    // Of two lives of a server, too.
    world.give("a-0-0", "a", SHORT);
    assert_eq!(world.origins(), [json("a-1-1", "a")]);
    world.register("b-1-1", "b", SHORT);
    world.give("b-2-2", "b", LONG);
    assert_eq!(world.origins(), [json("a-1-1", "a"), json("b-2-2", "b")]);
    assert_eq!(world.get(&keys.server("b-1-1")), None);
    world.give("b-1-1", "b", LONG * 2);
    assert_eq!(world.origins(), [json("a-1-1", "a"), json("b-2-2", "b")], "that is over");
    // As one of many, of which some are of one server.
    let many = (0..100).map(|n| {
        let life = if n == 77 { LONG } else { SHORT };
        returned(&format!("c-{n}-{n}"), &format!("c{}", n / 50), life)
    });
    world.done(Command::GiveBack { origins: many.collect() });
    let origins = world.origins();
    assert_eq!(origins.len(), 4, "{origins:?}");
    assert_eq!(origins[2..], [json("c-0-0", "c0"), json("c-77-77", "c1")]);
}

fn a_deregistered_origin_is_gone(world: &World) {
    world.register("a-1-1", "a", LONG);
    world.register("b-1-1", "b", LONG);
    let deregister = |id: &str| world.done(Command::Deregister { id: id.to_owned() });
    deregister("a-1-1");
    deregister("nobody");
    assert_eq!(world.origins(), [json("b-1-1", "b")]);
    assert_eq!(world.list(), Some(vec![world.keys().server("b-1-1")]));
    assert_eq!(world.get(&world.keys().server("a-1-1")), None);
    // It may come back by itself.
    world.register("a-1-1", "a", LONG);
    assert_eq!(world.origins().len(), 2);
}

fn an_empty_list_is_a_list(world: &World) {
    let list = world.keys().all_servers();
    world.done(Command::Deregister { id: "a-1-1".to_owned() });
    assert_eq!(world.get(&list), None);
    world.register("a-1-1", "a", LONG);
    world.done(Command::Deregister { id: "a-1-1".to_owned() });
    assert_eq!(world.get(&list).as_deref(), Some("[]"));
    assert_eq!(world.census("p", &[]), Census { has_list: true, ..Census::default() });
}

fn marks_are_told_until_they_end(world: &World) {
    let marks = || {
        let marks = world.census("p", &[]).marks.into_iter();
        let told = marks.map(|(id, mark, left)| {
            assert!(left <= LONG);
            (id, mark)
        });
        told.collect::<Vec<_>>()
    };
    let told = |id: &str, mark| (id.to_owned(), mark);
    world.mark("b:1", Mark::Trouble(Protocol::Rtmp, 1), SHORT);
    world.mark("b:1", Mark::Trouble(Protocol::Srt, 3), SHORT);
    world.mark("b:1", Mark::Draining, LONG);
    world.mark("a", Mark::Gone, LONG);
    world.mark("a", Mark::Draining, SHORT);
    let all = [
        told("a", Mark::Draining),
        told("a", Mark::Gone),
        told("b:1", Mark::Draining),
        told("b:1", Mark::Trouble(Protocol::Rtmp, 1)),
        told("b:1", Mark::Trouble(Protocol::Srt, 3)),
    ];
    assert_eq!(marks(), all);
    world.pass(AFTER);
    assert_eq!(marks(), [told("a", Mark::Gone), told("b:1", Mark::Draining)]);
    world.mark("b:1", Mark::Trouble(Protocol::Rtmp, 2), LONG);
    world.mark("b:1", Mark::Trouble(Protocol::Rtmp, u32::MAX), LONG);
    world.mark("a", Mark::Gone, Duration::ZERO);
    world.mark("a", Mark::Trouble(Protocol::Rtmp, 0), Duration::ZERO);
    assert_eq!(marks(), [told("b:1", Mark::Draining), told("b:1", Mark::Trouble(Protocol::Rtmp, u32::MAX))]);
    world.mark("b:1", Mark::Draining, Duration::MAX);
    world.mark("b:1", Mark::Trouble(Protocol::Rtmp, 0), Duration::ZERO);
    let census = world.census("p", &[]);
    let [(_, Mark::Draining, left)] = census.marks[..] else { panic!("{census:?}") };
    assert!(left <= FOREVER && left + STEP > FOREVER);
}

fn loads_of_all_others_are_summed_up(world: &World) {
    let loads = |loads: &[(&str, u32)]| -> Vec<_> {
        loads.iter().map(|(id, streams)| ((*id).to_owned(), *streams)).collect()
    };
    assert_eq!(world.census("a", &[("y", 1), ("x \"ä", 2)]).loads, []);
    assert_eq!(world.census("b", &[("x \"ä", 40)]).loads, loads(&[("x \"ä", 2), ("y", 1)]));
    assert_eq!(world.census("c", &[]).loads, loads(&[("x \"ä", 42), ("y", 1)]));
    // The last word of each counts.
    assert_eq!(world.census("a", &[("z", 5)]).loads, loads(&[("x \"ä", 40)]));
    assert_eq!(world.census("c", &[]).loads, loads(&[("x \"ä", 40), ("z", 5)]));
}

fn a_silent_proxy_has_no_loads(world: &World) {
    assert!(!world.census("a", &[("x", 3)]).knows_us);
    assert!(world.census("a", &[("x", 3)]).knows_us);
    world.pass(LOADS_LIFE / 2);
    assert_eq!(world.census("b", &[]).loads, [("x".to_owned(), 3)]);
    world.pass(LOADS_LIFE / 2);
    assert_eq!(world.census("b", &[]).loads, []);
    assert!(!world.census("a", &[]).knows_us);
}

fn what_the_go_proxy_wrote_is_read(world: &World) {
    // Without a prefix these are the recorded keys.
    let keys = world.keys();
    let (server, stream) = (keys.server(RECORDED_ID), "__defaultVhost__/live/vec");
    world.set(&keys.all_servers(), &format!(r#"["{server}"]"#), None);
    world.set(&server, RECORDED, Some(Duration::from_secs(295)));
    world.set(&keys.url(stream), &server, None);
    world.set(&keys.hls(stream), RECORDED_HLS, Some(Duration::from_secs(119)));
    world.set(&keys.spbhid("3f2bbba"), RECORDED_HLS, Some(Duration::from_secs(119)));
    assert_eq!(world.origins(), [RECORDED]);
    // Its mapping has no end, and is given none.
    assert_eq!(world.claim(&keys.url(stream), &keys.server("other"), Some(LONG)), server);
    assert_eq!(world.claim(&keys.url(stream), &server, Some(LONG)), server);
    assert_eq!(world.0.ttl(&keys.url(stream)), Some(None));
    // A session that it stored is found, not replaced.
    assert_eq!(world.claim(&keys.hls(stream), "{}", Some(LONG)), RECORDED_HLS);
    // Its registration is one of a server like any other.
    world.register("vid-8f503b0-new-1", "vid-8f503b0", LONG);
    assert_eq!(world.origins(), [json("vid-8f503b0-new-1", "vid-8f503b0")]);
}

fn keys_without_our_prefix_are_known(world: &World) {
    let keys = world.keys();
    world.register("a-1-1", "a", LONG);
    world.set(&keys.all_servers(), r#" [ "srs-proxy-server:a-1-1" ]"#, None);
    assert_eq!(world.origins(), [json("a-1-1", "a")]);
    world.register("a-1-1", "a", LONG);
    assert_eq!(world.origins().len(), 1);
    world.register("b-1-1", "b", LONG);
    assert_eq!(world.list(), Some(vec!["srs-proxy-server:a-1-1".to_owned(), keys.server("b-1-1")]));
    assert_eq!(world.origins().len(), 2);
    world.done(Command::Deregister { id: "a-1-1".to_owned() });
    assert_eq!(world.origins(), [json("b-1-1", "b")]);
}

fn garbage_is_no_list(world: &World) {
    let list = world.keys().all_servers();
    for garbage in ["", "x", "[", "{}", r#"{"0":"srs-proxy-server:x"}"#, "null", "7", "[\"a\"", "[[[[["] {
        world.set(&list, garbage, None);
        let census = world.census("p", &[]);
        assert_eq!(census, Census { knows_us: census.knows_us, ..Census::default() }, "{garbage}");
        world.done(Command::Deregister { id: "a-1-1".to_owned() });
        assert_eq!(world.get(&list).as_deref(), Some(garbage));
        world.register("a-1-1", "a", LONG);
        assert_eq!(world.origins(), [json("a-1-1", "a")], "{garbage}");
        world.remove(world.keys().server("a-1-1"));
    }
}

fn garbage_in_places_does_no_harm(world: &World) {
    let keys = world.keys();
    let bad = ["", "x", "[]", "null", r#"{"server_id":7}"#, r#"{"server_id":["a"]}"#];
    let mut listed =
        vec![serde_json::json!(null), serde_json::json!(7), serde_json::json!({}), "srs-proxy-url:x".into()];
    for (n, garbage) in bad.iter().enumerate() {
        world.set(&keys.server(n), garbage, Some(LONG));
        listed.push(keys.server(n).into());
    }
    world.set(&keys.all_servers(), &serde_json::json!(listed).to_string(), None);
    assert_eq!(world.origins(), bad);
    world.register("a-1-1", "a", LONG);
    assert_eq!(world.origins().len(), bad.len() + 1);
    // What is no server's key was dropped.
    assert_eq!(world.list().expect("a list").len(), bad.len() + 1);
}
