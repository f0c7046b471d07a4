//! The RTMP session in the simulated world: what is relayed, whatever the two sides and the network are like.

use srs_proxy_core::machine::Note;
use srs_proxy_core::query::Refusal;
use srs_proxy_core::time::Duration;
use srs_proxy_tests::sim::rtmp::{ClientPlan, Leave, Moment, OriginPlan, Style, Temper};
use srs_proxy_tests::sim::scene::{Kind, Scene, origin_address};
use srs_proxy_tests::sim::{Dice, End, Fate, Fates, Manner, Weather, seeds};

/// Longer than any scripted session lasts.
const LONG: Duration = Duration::from_secs(1200);

/// A session of any publisher or player with any origin.
fn any(seed: u64, publishes: bool) -> Scene {
    let mut dice = Dice::new(seed);
    let mut scene = Scene::new(&mut dice, publishes);
    scene.be_in_time();
    if dice.chance(600) {
        scene.manner = Manner::Late(Duration::from_secs(2));
    }
    if dice.chance(500) {
        scene.client.1.leave = *dice.pick(&[Leave::Close, Leave::Politely]);
    } else {
        scene.origins[0].2.leave = Leave::Close;
    }
    scene
}

#[test]
fn what_a_publisher_sends_reaches_its_origin_unchanged() {
    seeds::run("rtmp_publish", 150, |seed| {
        let scene = any(seed, true);
        let client_leaves = scene.client.1.leave != Leave::Never;
        let played = scene.play(seed, LONG);
        played.assert_relayed(client_leaves);
    });
}

#[test]
fn what_an_origin_plays_reaches_its_player_unchanged() {
    seeds::run("rtmp_play", 150, |seed| {
        let scene = any(seed, false);
        let client_leaves = scene.client.1.leave != Leave::Never;
        let played = scene.play(seed, LONG);
        played.assert_relayed(client_leaves);
    });
}

#[test]
fn what_a_client_calls_before_its_stream_is_answered_once() {
    seeds::run("rtmp_calls", 100, |seed| {
        let mut scene = any(seed, seed % 2 == 0);
        scene.client.0.calls = true;
        let client_leaves = scene.client.1.leave != Leave::Never;
        let played = scene.play(seed, LONG);
        played.assert_relayed(client_leaves);
        assert_eq!(played.client.borrow().answers_to_calls(), [1, 1], "{}", played.world.tail());
    });
}

#[test]
fn a_refusal_of_the_origin_reaches_the_client_as_it_is() {
    seeds::run("rtmp_refused", 60, |seed| {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::new(&mut dice, seed % 2 == 0);
        scene.be_in_time();
        scene.client.0.blind = false;
        scene.origins[0].1.temper = Temper::RefusesStream;
        scene.origins[0].2.leave = Leave::Close;
        scene.origins[0].2.ops.clear();
        scene.origins[0].3 = true;
        let played = scene.play(seed, LONG);
        played.world.assert_ended();
        let (client, origin) = (played.client.borrow(), played.origin(0));
        let origin = origin.borrow();
        assert_eq!((client.error, origin.error), (None, None));
        let words = |log: &srs_proxy_tests::sim::rtmp::Log| {
            log.statuses.iter().map(|(a, b, c, _)| (a.clone(), b.clone(), c.clone())).collect::<Vec<_>>()
        };
        assert_eq!(words(&client), words(&origin));
        assert_eq!(client.statuses.len(), 1);
        assert_eq!(client.end, Some(End::Fin));
    });
}

#[test]
fn a_client_whose_setup_fails_is_told_so_before_the_connection_ends() {
    /// What an origin may be, and how long the client waits at most beside the network's delays, in seconds.
    fn failures() -> Vec<(Kind, Temper, u64)> {
        let mut all = vec![
            (Kind::Refuses, Temper::Serves, 5),
            (Kind::Silent, Temper::Serves, 5),
            (Kind::Exhausted, Temper::Serves, 5),
            (Kind::Serves, Temper::RefusesConnect, 15),
            (Kind::Serves, Temper::RefusesCreate, 15),
        ];
        for moment in Moment::ALL {
            all.push((Kind::Serves, Temper::Closes(moment), 15));
            all.push((Kind::Serves, Temper::Resets(moment), 15));
            // A player may wait long for its stream to begin.
            let patience = if moment == Moment::Start { 600 } else { 20 };
            all.push((Kind::Serves, Temper::FallsSilent(moment), patience));
            if moment != Moment::Start {
                all.push((Kind::Serves, Temper::Babbles(moment), 15));
            }
        }
        all
    }
    for (index, (kind, temper, patience)) in failures().into_iter().enumerate() {
        seeds::run(&format!("rtmp_failed_{index}"), 12, |seed| {
            let mut dice = Dice::new(seed ^ (index as u64) << 32);
            let mut scene = Scene::new(&mut dice, seed % 2 == 0);
            scene.be_in_time();
            scene.origins[0].0 = kind;
            scene.origins[0].1.temper = temper;
            let played = scene.play(seed, LONG);
            played.assert_told(Duration::from_secs(patience));
        });
    }
}

#[test]
fn a_client_is_told_when_the_load_balancer_has_no_answer() {
    let manners = [
        Manner::Silent,
        Manner::Refuses(Refusal::NoOrigin),
        Manner::Refuses(Refusal::Unavailable),
        Manner::Refuses(Refusal::Full),
        Manner::Late(Duration::from_secs(60)),
    ];
    for (index, manner) in manners.into_iter().enumerate() {
        seeds::run(&format!("rtmp_unbalanced_{index}"), 12, |seed| {
            let mut dice = Dice::new(seed);
            let mut scene = Scene::new(&mut dice, seed % 2 == 0);
            scene.be_in_time();
            scene.manner = manner;
            let played = scene.play(seed, LONG);
            let late = matches!(manner, Manner::Late(_)) && played.origins.borrow().len() == 1;
            if !late {
                played.assert_told(Duration::from_secs(5));
            }
        });
    }
}

#[test]
fn a_slow_load_balancer_costs_no_origin_its_name() {
    seeds::run("rtmp_hurried", 60, |seed| {
        let mut scene = any(seed, seed % 2 == 0);
        scene.weather.delay = Duration::from_millis(400);
        scene.manner = Manner::Late(Duration::from_secs(5));
        let played = scene.play(seed, LONG);
        played.world.assert_ended();
        played.assert_nothing_damaged();
        let told = played.unreachable.borrow();
        assert!(told.is_empty(), "slandered: {told:?}\n{}", played.world.tail());
    });
}

#[test]
fn another_origin_serves_when_the_first_cannot_be_reached() {
    seeds::run("rtmp_failover", 80, |seed| {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::new(&mut dice, seed % 2 == 0);
        scene.be_in_time();
        scene.client.1.leave = Leave::Politely;
        let (kind, temper) = *dice.pick(&[
            (Kind::Refuses, Temper::Serves),
            (Kind::Silent, Temper::Serves),
            (Kind::Serves, Temper::Closes(Moment::Accept)),
            (Kind::Serves, Temper::Resets(Moment::Accept)),
            (Kind::Serves, Temper::FallsSilent(Moment::Accept)),
        ]);
        scene.add_origin(&mut dice);
        scene.origins[0].0 = kind;
        scene.origins[0].1.temper = temper;
        let played = scene.play(seed, LONG);
        played.assert_relayed(true);
        assert_eq!(played.unreachable.borrow().len(), 1, "the load balancer was not told");
        assert!(played.run.notes.iter().any(|note| matches!(note, Note::OriginFailed { .. })));
        let routed = played.run.notes.iter().find_map(|note| match note {
            Note::Routed { to, .. } => Some(*to),
            _ => None,
        });
        assert_eq!(routed, Some(origin_address(1)));
    });
}

#[test]
fn connections_that_break_at_any_byte_end_the_session_and_nothing_else() {
    seeds::run("rtmp_breaks", 250, |seed| {
        let mut dice = Dice::new(seed);
        let mut scene = any(seed, seed % 2 == 0);
        // Half of them break during the setup, the others anywhere.
        let mut fate = |kinds: &[Fate]| {
            let most = *dice.pick(&[1600, 3200, 4000, 6000, 100_000]);
            Some((dice.range(0..=most), *dice.pick(kinds)))
        };
        let (from, to) = (fate(&[Fate::Reset, Fate::End]), fate(&[Fate::Reset]));
        let fates = match seed % 4 {
            0 | 1 => Fates { from_peer: from, to_peer: None },
            _ => Fates { from_peer: None, to_peer: to },
        };
        if seed % 3 == 0 {
            scene.fates = fates;
        } else {
            scene.origin_fates = fates;
        }
        let played = scene.play(seed, LONG);
        played.world.assert_ended();
        played.assert_nothing_damaged();
    });
}

#[test]
fn a_client_that_falls_silent_before_it_names_a_stream_is_let_go() {
    seeds::run("rtmp_frozen", 40, |seed| {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::new(&mut dice, seed % 2 == 0);
        scene.fates.from_peer = Some((dice.range(0..=1 + 2 * 1536 + 100), Fate::Freeze));
        let played = scene.play(seed, Duration::from_secs(100));
        played.world.assert_ended();
    });
}

#[test]
fn a_player_that_stops_reading_holds_back_its_origin_and_costs_no_memory() {
    for seed in 0..5 {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::plain(false);
        scene.weather = Weather { window: 16 * 1024, high_water: 64 * 1024, ..Weather::fair() };
        scene.fates.to_peer = Some((20_000, Fate::Freeze));
        scene.origins[0].2.ops = Style::flood(&mut dice, 400, 16 * 1024);
        scene.origins[0].2.leave = Leave::Close;
        // The bound on the queue is asserted all the while; here it is that the origin had to stop, too.
        let played = scene.play(seed, Duration::from_secs(600));
        assert!(!played.run.over, "nobody has left");
        let sent = played.origin(0).borrow().sent.len();
        assert!(sent < 100, "the origin was not held back: {sent} messages sent");
    }
}

#[test]
fn headers_mean_the_same_across_the_switch_from_setup_to_relay() {
    // 3 and 5 are the chunk streams by which the proxy itself has spoken to the client.
    for (command_csid, stream_csid) in [(3, 3), (3, 5), (5, 3), (8, 8)] {
        for time in [0, 7, 0x00FF_FFF0, 0x0100_0000] {
            for compression in 0..=3 {
                for (chunk_size, stream_id) in [(1, 1), (1, 7), (128, 1), (60_000, 7)] {
                    for step in [0, 7, 40, 0x0100_0000] {
                        let mut scene = Scene::plain(false);
                        // Without it, nothing of the origin comes between its setup and its status.
                        scene.client.0.ceremony = stream_id == 7;
                        let (_, plan, style, _) = &mut scene.origins[0];
                        *plan = OriginPlan { talkative: true, even: true, stream_id, ..OriginPlan::plain() };
                        let chunk_size = Some((chunk_size, 1));
                        *style = Style {
                            command_csid,
                            stream_csid,
                            time,
                            compression,
                            chunk_size,
                            ..Style::plain()
                        };
                        style.ops =
                            [step, step + 40].map(|later| Style::aside(command_csid, time + later)).into();
                        style.leave = Leave::Close;
                        scene.play(1, LONG).assert_relayed(false);
                    }
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let hash = |_| any(seed, seed % 2 == 0).play(seed, LONG).run.hash;
        assert_eq!(hash(0), hash(1), "seed {seed}");
    }
}

#[test]
fn the_plainest_session_is_relayed_both_ways() {
    for publishes in [true, false] {
        let mut scene = Scene::plain(publishes);
        scene.client.1.leave = Leave::Politely;
        scene.client.0 = ClientPlan { publishes, ..ClientPlan::publisher() };
        scene.origins[0].1 = OriginPlan::plain();
        scene.play(1, LONG).assert_relayed(true);
    }
}
