//! WebRTC hubs in the simulated world: clients that move, restart and vanish, origins that die, forgers and floods, while
//! the network loses, doubles and reorders, and the load balancer is late, silent or says no.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Machine, Note, Ticket};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, Query, Report};
use srs_proxy_core::rtc::{DropReason, IDLE, RtcHub};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::sim::hub::{self, Told};
use srs_proxy_tests::sim::rtc::{Book, Forger, Origin, Plan, Shared, client, session};
use srs_proxy_tests::sim::{Balancer, Dice, Host, Manner, Reply, Scripted, Weather, seeds};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;

fn at() -> SocketAddr {
    ([127, 0, 0, 1], 8000).into()
}

fn origin_address(index: u8) -> SocketAddr {
    ([10, 0, 0, index], 8000).into()
}

struct Scene {
    hub: hub::Scene<RtcHub>,
    book: Shared,
}

#[derive(Clone, Copy)]
struct Cast {
    clients: u16,
    addresses: usize,
    forgers: u8,
    plan: Plan,
    manner: Manner,
    is_prompt: bool,
    first_origin_dies: Option<Time>,
    /// Sessions that are left, per thousand.
    leave: u64,
}

/// Some sessions' clients leave by signalling, sooner or later; that of the others nobody hears.
struct Leaving {
    balancer: Scripted,
    part: u64,
}

impl Balancer for Leaving {
    fn ask(&mut self, now: Time, dice: &mut Dice, ticket: Ticket, query: Query) -> Reply {
        match query {
            Query::EndOfRtc(_) if self.part > 0 && dice.chance(self.part) => {
                let after = Duration::from_millis(dice.range(0..=20_000));
                Reply::After(after, Answer::Rtc(None))
            }
            Query::EndOfRtc(_) => Reply::Never,
            query => self.balancer.ask(now, dice, ticket, query),
        }
    }

    fn tell(&mut self, now: Time, report: &Report) {
        self.balancer.tell(now, report);
    }
}

fn scene(seed: u64, weather: Weather, cast: Cast) -> Scene {
    let limits = Limits { lookups_per_network: 2000, lookups_per_second: 5000, ..Limits::new(IDLE) };
    let mut hub = hub::Scene::new(seed, weather, limits, at(), cast.clients < 100);
    let book = Shared::default();
    let signalled = Rc::clone(&book);
    let answer = move |query, _: &mut Dice| match query {
        Query::LoadRtc(name) => Answer::Rtc(signalled.borrow().find(&name).map(|_| session(&name))),
        Query::Pick { key, .. } => {
            let index = key.as_str().bytes().fold(0, u8::wrapping_add) % 2 + 1;
            Answer::Picked(Picked { origin: OriginId::new("origin", "0", "1"), to: origin_address(index) })
        }
        other => panic!("{other:?} is nothing for a hub"),
    };
    let balancer = Scripted::new(cast.manner, answer).on_report(hub.hears());
    let world = &mut hub.world;
    world.balancer(Leaving { balancer, part: cast.leave });
    for index in [1, 2] {
        let dies = cast.first_origin_dies.filter(|_| index == 1);
        let origin = Origin::new(&book, cast.is_prompt, dies);
        world.host(origin_address(index), Host::Datagrams(Box::new(origin)));
    }
    for number in 0..cast.clients {
        let [high, low] = number.to_be_bytes();
        for (index, socket) in client(&book, at(), cast.plan, cast.addresses).into_iter().enumerate() {
            let own = ([10, 9, high, low], 5000 + index as u16).into();
            world.host(own, Host::Datagrams(Box::new(socket)));
        }
    }
    for number in 0..cast.forgers {
        let (book, pause) = (Rc::clone(&book), Duration::from_millis(100));
        let (left, pause) = if number == 0 { (1000, pause / 50) } else { (200, pause) };
        let forger = Forger { book, hub: at(), left, pause, asked: BTreeSet::new() };
        world.host(([10, 66, 6, number], 666).into(), Host::Datagrams(Box::new(forger)));
    }
    Scene { hub, book }
}

fn lively() -> Cast {
    Cast {
        clients: 8,
        addresses: 3,
        forgers: 2,
        plan: Plan {
            media: 40,
            pause: Duration::from_millis(200),
            moves: 50,
            restarts: 30,
            begin: Duration::from_secs(3),
        },
        manner: Manner::Moody,
        is_prompt: false,
        first_origin_dies: None,
        leave: 200,
    }
}

#[test]
fn sessions_never_mix_and_all_end_whatever_the_network_does() {
    let (mut sums, mut told, mut routed) = (Book::default(), Told::default(), 0);
    let mut left = 0;
    let (mut strays, mut drops) = (0, [0; DropReason::ALL.len()]);
    seeds::run("rtc", 300, |seed| {
        let mut dice = Dice::new(seed);
        let weather = Weather::random(&mut dice);
        let first_origin_dies = dice.chance(300).then(|| Time::ZERO + Duration::from_secs(4));
        let mut scene = scene(seed, weather, Cast { first_origin_dies, ..lively() });
        let run = scene.hub.run_out();
        let book = scene.book.borrow();
        sums.granted += book.granted;
        sums.echoed += book.echoed;
        sums.moved += book.moved;
        sums.restarted += book.restarted;
        sums.refused += book.refused;
        strays += scene.hub.world.stray_datagrams();
        for (sum, reason) in drops.iter_mut().zip(DropReason::ALL) {
            *sum += scene.hub.world.machine().drops().count(reason);
        }
        told.add(&scene.hub.told.borrow());
        left += run.notes.iter().filter(|note| matches!(note, Note::Ended { fault: None, .. })).count();
        routed += run.notes.iter().filter(|note| matches!(note, Note::Routed { .. })).count() as u64;
    });
    // The seeds did show what they are for.
    let reported = [told.flowing, told.playing, told.publishing, told.ended];
    for sum in
        [sums.granted, sums.echoed, sums.moved, sums.restarted, sums.refused, routed].iter().chain(&reported)
    {
        assert!(*sum > 1000, "{sums:?}, {told:?}, {routed} routed");
    }
    assert!(left > 300, "{left} were left");
    assert!(strays > 0, "nothing came for a leg that was gone");
    for reason in [
        DropReason::NotWebRtc,
        DropReason::BadStun,
        DropReason::Stranger,
        DropReason::UnknownName,
        DropReason::TooEarly,
        DropReason::NoClient,
    ] {
        assert!(drops[reason as usize] > 0, "{reason:?} never happened");
    }
}

#[test]
fn on_a_good_network_all_media_come_back_wherever_their_client_goes() {
    // Faster than a client's pauses: it is where it was when its media come back.
    let weather = Weather { delay: Duration::from_micros(100), ..Weather::fair() };
    let cast =
        Cast { manner: Manner::Late(Duration::from_millis(30)), is_prompt: true, leave: 0, ..lively() };
    let mut moved = 0;
    for seed in 0..30 {
        let mut scene = scene(seed, weather.clone(), cast);
        scene.hub.run_out();
        let book = scene.book.borrow();
        assert_eq!(book.echoed, book.sent, "seed {seed}");
        assert!(book.granted >= u64::from(cast.clients), "seed {seed}: {book:?}");
        moved += book.moved + book.restarted;
    }
    assert!(moved > 300, "{moved}");
}

#[test]
fn thousands_of_sessions_share_one_hub() {
    let weather = Weather { delay: Duration::from_millis(20), loss: 10, ..Weather::fair() };
    let plan = Plan { media: 6, pause: Duration::from_millis(1000), ..lively().plan };
    let cast = Cast { clients: 3000, addresses: 2, forgers: 10, plan, leave: 0, ..lively() };
    let mut scene = scene(1, weather, Cast { manner: Manner::Prompt, ..cast });
    scene.hub.world.run(Duration::from_secs(15));
    assert!(scene.hub.world.machine().sessions() >= 3000, "{}", scene.hub.world.machine().sessions());
    scene.hub.world.machine().invariants().unwrap_or_else(|broken| panic!("{broken}"));
    scene.hub.run_out();
    let book = scene.book.borrow();
    assert!(book.echoed * 100 > book.sent * 90, "{book:?}");
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
