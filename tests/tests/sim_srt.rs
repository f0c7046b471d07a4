//! SRT hubs in the simulated world: callers with several connections on one address, origins that choose the same socket
//! ids, say no, end connections and die, and forgers, while the network loses, doubles and reorders, and the load balancer
//! is late, silent or says no.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Machine, Note};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, Query};
use srs_proxy_core::srt::{DropReason, IDLE, SrtHub};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::sim::hub::{self, Told};
use srs_proxy_tests::sim::srt::{Book, Caller, Forger, Origin, Plan, Shared};
use srs_proxy_tests::sim::{Dice, Host, Manner, Scripted, Weather, seeds};
use std::net::SocketAddr;

fn at() -> SocketAddr {
    ([127, 0, 0, 1], 10080).into()
}

fn origin_address(index: u8) -> SocketAddr {
    ([10, 0, 0, index], 10080).into()
}

struct Scene {
    hub: hub::Scene<SrtHub>,
    book: Shared,
}

#[derive(Clone, Copy)]
struct Cast {
    callers: u16,
    /// Connections of each.
    sockets: usize,
    forgers: u8,
    plan: Plan,
    manner: Manner,
    /// Of the origins, per thousand.
    moods: u64,
    first_origin_dies: Option<Time>,
    /// At so many conclusions.
    first_origin_freezes: Option<u32>,
}

fn scene(seed: u64, weather: Weather, cast: Cast) -> Scene {
    let limits = Limits { lookups_per_network: 5000, lookups_per_second: 5000, ..Limits::new(IDLE) };
    let mut hub = hub::Scene::new(seed, weather, limits, at(), cast.callers < 100);
    let book = Shared::default();
    let answer = |query, _: &mut Dice| match query {
        Query::Pick { key, .. } => {
            let index = key.as_str().bytes().fold(0, u8::wrapping_add) % 2 + 1;
            let origin = OriginId::new("origin", "0", &index.to_string());
            Answer::Picked(Picked { origin, to: origin_address(index) })
        }
        other => panic!("{other:?} is nothing for an SRT hub"),
    };
    let balancer = Scripted::new(cast.manner, answer).on_report(hub.hears());
    let world = &mut hub.world;
    world.balancer(balancer);
    for index in [1, 2] {
        let dies = cast.first_origin_dies.filter(|_| index == 1);
        let freezes = cast.first_origin_freezes.filter(|_| index == 1);
        let origin = Origin::new(&book, cast.moods, dies).freezes_at(freezes);
        world.host(origin_address(index), Host::Datagrams(Box::new(origin)));
    }
    for number in 0..cast.callers {
        let [high, low] = number.to_be_bytes();
        let streams = (0..cast.sockets).map(|n| format!("#!::r=live/s{number}-{n},m=publish"));
        let streams: Vec<_> = streams.collect();
        let caller = Caller::new(&book, at(), cast.plan, 10 + u32::from(number), &streams);
        world.host(([10, 9, high, low], 5000).into(), Host::Datagrams(Box::new(caller)));
    }
    for number in 0..cast.forgers {
        let forger = Forger { hub: at(), left: 200, pause: Duration::from_millis(50) };
        world.host(([10, 66, 6, number], 666).into(), Host::Datagrams(Box::new(forger)));
    }
    Scene { hub, book }
}

fn lively() -> Cast {
    Cast {
        callers: 8,
        sockets: 4,
        forgers: 2,
        plan: Plan { data: 40, pause: Duration::from_millis(200), begin: Duration::from_secs(3), births: 5 },
        manner: Manner::Moody,
        moods: 50,
        first_origin_dies: None,
        first_origin_freezes: None,
    }
}

#[test]
fn connections_never_mix_and_all_end_whatever_the_network_does() {
    let (mut sums, mut told, mut routed) = (Book::default(), Told::default(), 0);
    let mut drops = [0; DropReason::ALL.len()];
    seeds::run("srt", 150, |seed| {
        let mut dice = Dice::new(seed);
        let weather = Weather::random(&mut dice);
        let first_origin_dies = dice.chance(300).then(|| Time::ZERO + Duration::from_secs(2));
        let first_origin_freezes = dice.chance(300).then_some(5);
        let cast = Cast { first_origin_dies, first_origin_freezes, ..lively() };
        let mut scene = scene(seed, weather, cast);
        let run = scene.hub.run_out();
        let book = scene.book.borrow();
        sums.connected += book.connected;
        sums.sent += book.sent;
        sums.echoed += book.echoed;
        sums.forsaken += book.forsaken;
        sums.aliased += book.aliased;
        sums.ended += book.ended;
        sums.closed += book.closed;
        sums.hung_up += book.hung_up;
        sums.reborn += book.reborn;
        sums.vanished += book.vanished;
        for (code, count) in &book.rejected {
            *sums.rejected.entry(*code).or_default() += count;
        }
        for (sum, reason) in drops.iter_mut().zip(DropReason::ALL) {
            *sum += scene.hub.world.machine().drops().count(reason);
        }
        told.add(&scene.hub.told.borrow());
        routed += run.notes.iter().filter(|note| matches!(note, Note::Routed { .. })).count() as u64;
    });
    // The seeds did show what they are for.
    let many = [sums.connected, sums.sent, sums.echoed, sums.ended, sums.closed, sums.hung_up];
    for sum in many.into_iter().chain([sums.reborn, sums.vanished, told.publishing, told.ended, routed]) {
        assert!(sum > 500, "{sums:?}, {told:?}, {routed} routed");
    }
    assert!(sums.aliased > 100, "{sums:?}");
    for code in [2402, 2403, 2502, 2503] {
        assert!(sums.rejected.get(&code).is_some_and(|count| *count > 20), "{code}: {sums:?}");
    }
    for reason in
        [DropReason::NotSrt, DropReason::BadHandshake, DropReason::WrongCookie, DropReason::Stranger]
    {
        assert!(drops[reason as usize] > 0, "{reason:?} never happened");
    }
}

#[test]
fn on_a_good_network_every_caller_connects_and_all_its_data_come_back() {
    let manner = Manner::Late(Duration::from_millis(30));
    for seed in 0..30 {
        let plan = Plan { births: 0, ..lively().plan };
        let mut scene = scene(seed, Weather::fair(), Cast { manner, moods: 0, plan, ..lively() });
        scene.hub.run_out();
        let book = scene.book.borrow();
        let connections = 8 * 4;
        assert_eq!((book.connected, book.accepted), (connections, connections), "seed {seed}: {book:?}");
        assert_eq!((book.sent, book.echoed), (connections * 40, connections * 40), "seed {seed}: {book:?}");
    }
}

#[test]
fn neither_who_begins_anew_nor_an_origin_that_thaws_leaves_a_connection_behind() {
    let manner = Manner::Late(Duration::from_millis(30));
    let (mut reborn, mut too_late) = (0, 0);
    for seed in 0..30 {
        let plan = Plan { births: 30, ..lively().plan };
        let first_origin_freezes = Some(seed as u32 % 10 + 1);
        let cast = Cast { manner, moods: 0, plan, first_origin_freezes, ..lively() };
        let mut scene = scene(seed, Weather::fair(), cast);
        scene.hub.run_out();
        let book = scene.book.borrow();
        assert_eq!(book.accepted, book.closed, "seed {seed}: {book:?}");
        reborn += book.reborn;
        too_late += book.accepted - book.connected;
    }
    assert!(reborn > 100 && too_late > 0, "{reborn} were reborn, {too_late} heard no too early");
}

#[test]
fn when_the_process_ends_everybody_is_told() {
    for seed in 0..10 {
        // Some are connected by then, some are not.
        let plan = Plan { data: 10_000, births: 0, ..lively().plan };
        let manner = Manner::Late(Duration::from_millis(200));
        let mut scene = scene(seed, Weather::fair(), Cast { manner, moods: 0, plan, ..lively() });
        scene.hub.world.stop(Duration::from_millis(1500));
        let run = scene.hub.world.run(Duration::from_secs(60));
        assert!(run.over);
        let book = scene.book.borrow();
        assert!(book.connected > 5, "seed {seed}: {book:?}");
        assert_eq!((book.hung_up, book.closed), (book.connected, book.accepted), "seed {seed}: {book:?}");
        let waited = book.rejected.get(&1007).copied().unwrap_or_default();
        assert_eq!(waited + book.connected + book.forsaken, 32, "seed {seed}: {book:?}");
    }
}

#[test]
fn a_caller_hears_why_there_is_no_connection_before_it_gives_up() {
    let plan = Plan { births: 0, ..lively().plan };
    for (manner, code) in
        [(Manner::Silent, 2503), (Manner::Refuses(srs_proxy_core::query::Refusal::NoOrigin), 2503)]
    {
        let mut scene = scene(1, Weather::fair(), Cast { manner, forgers: 0, plan, ..lively() });
        scene.hub.run_out();
        let book = scene.book.borrow();
        assert_eq!((book.rejected.get(&code), book.forsaken), (Some(&32), 0), "{book:?}");
    }
    let dead = Some(Time::ZERO);
    let manner = Manner::Prompt;
    let cast = Cast { manner, moods: 0, first_origin_dies: dead, forgers: 0, plan, ..lively() };
    let mut scene = scene(1, Weather::fair(), cast);
    scene.hub.run_out();
    let book = scene.book.borrow();
    assert!(book.connected > 5 && book.forsaken == 0, "{book:?}");
    assert_eq!(book.rejected.get(&2502).copied(), Some(32 - book.connected), "{book:?}");
}

#[test]
fn thousands_of_callers_share_one_hub() {
    let weather = Weather { delay: Duration::from_millis(20), loss: 10, ..Weather::fair() };
    let plan = Plan { data: 12, pause: Duration::from_secs(1), begin: Duration::from_secs(3), births: 0 };
    let cast =
        Cast { callers: 3000, sockets: 1, forgers: 10, plan, moods: 0, manner: Manner::Prompt, ..lively() };
    let mut scene = scene(1, weather, cast);
    scene.hub.world.run(Duration::from_secs(4));
    assert!(scene.hub.world.machine().sessions() >= 2500, "{}", scene.hub.world.machine().sessions());
    scene.hub.world.machine().invariants().unwrap_or_else(|broken| panic!("{broken}"));
    scene.hub.run_out();
    let book = scene.book.borrow();
    assert_eq!(book.connected, 3000, "{book:?}");
    assert!(book.echoed * 100 > book.sent * 95, "{book:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| {
        let weather = Weather::random(&mut Dice::new(seed));
        scene(seed, weather, lively()).hub.run_out().hash
    };
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed));
    }
}
