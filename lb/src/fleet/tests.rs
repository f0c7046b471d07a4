//! What the fleet does and no load balancer's caller sees directly: how choices are distributed, what is learned
//! of other proxies.

use super::*;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::Protocol;
use srs_proxy_core::query::{Need, Picked};
use std::collections::BTreeMap;

impl Fleet {
    /// Nominates an origin and sends a client there.
    fn choose(
        &mut self,
        now: Time,
        key: &StreamKey,
        need: Need,
        present: Option<Member>,
    ) -> Option<(Member, Picked)> {
        let member = self.nominate(now, key, need, present)?;
        Some((member, self.send(now, member, need)?))
    }

    /// Where a client of a stream at `member` goes, if that keeps it.
    fn stay(&mut self, member: Member) -> Option<OriginId> {
        let keeps = self.keeps(NOW, member, PLAY, false);
        keeps.then(|| self.send(NOW, member, PLAY).unwrap().origin)
    }
}

const NOW: Time = Time::from_micros(1_000_000_000);
const PLAY: Need = Need::to_play(Protocol::Rtmp);

fn fleet(policy: Policy, weights: &str, seed: u64) -> Fleet {
    Fleet::new(&Setup { policy, weights: weights.parse().unwrap(), seed, ..Setup::default() })
}

fn life(server: &str, pid: &str) -> Origin {
    Origin {
        device_id: "".into(),
        server: server.into(),
        service: "v".into(),
        pid: pid.into(),
        endpoints: vec![(Protocol::Rtmp, ([127, 0, 0, 1], 1935).into())],
    }
}

fn origin(server: &str) -> Origin {
    life(server, "1")
}

fn id(server: &str) -> OriginId {
    origin(server).id()
}

/// A fleet of these.
fn of(policy: Policy, weights: &str, seed: u64, servers: &[&str]) -> Fleet {
    let mut fleet = fleet(policy, weights, seed);
    for server in servers {
        fleet.update(NOW, origin(server)).unwrap();
    }
    fleet
}

fn key(n: usize) -> StreamKey {
    StreamKey::new("", "live", &n.to_string()).unwrap()
}

/// Where a new stream goes.
fn chosen(fleet: &mut Fleet, key: &StreamKey) -> Option<(Member, OriginId)> {
    fleet.choose(NOW, key, PLAY, None).map(|(member, picked)| (member, picked.origin))
}

/// Where each of so many new streams goes, none of which is counted.
fn homes(fleet: &mut Fleet, streams: usize) -> Vec<OriginId> {
    (0..streams).map(|n| chosen(fleet, &key(n)).unwrap().1).collect()
}

fn counts(homes: &[OriginId]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for home in homes {
        *counts.entry(home.as_str()).or_default() += 1;
    }
    counts
}

/// Seats so many new streams.
fn seat(fleet: &mut Fleet, streams: usize) -> Vec<Seat> {
    let seats = (0..streams).map(|n| {
        let (member, _) = chosen(fleet, &key(n)).unwrap();
        fleet.seat(member).unwrap()
    });
    seats.collect()
}

/// The most and the fewest streams of an origin.
fn spread(fleet: &Fleet) -> (u32, u32) {
    let loads = || fleet.loads().into_iter().map(|(_, streams)| streams);
    (loads().max().unwrap(), loads().min().unwrap())
}

fn health(fleet: &Fleet, id: &OriginId) -> Health {
    fleet.iter(NOW).find(|(_, origin, ..)| origin.id() == *id).unwrap().2
}

const POLICIES: [Policy; 3] = [Policy::Random, Policy::LeastStreams, Policy::Rendezvous];

#[test]
fn new_streams_follow_the_weights() {
    for policy in [Policy::Random, Policy::Rendezvous] {
        let mut fleet = of(policy, "a=6,b=3,d=0", 1, &["a", "b", "c", "d"]);
        let homes = homes(&mut fleet, 10_000);
        let counts = counts(&homes);
        // Expected are 6000, 3000 and 1000, with a standard deviation of less than 50.
        for (id, expected) in [("a-v-1", 6000), ("b-v-1", 3000), ("c-v-1", 1000)] {
            assert!(counts[id].abs_diff(expected) < 250, "{policy:?} {counts:?}");
        }
        assert_eq!(counts.len(), 3, "{policy:?}");
    }
}

#[test]
fn the_search_follows_the_weights_as_the_draw_does() {
    let mut fleet = of(Policy::Random, "a=3,b=1", 1, &["a", "b", "c", "d"]);
    // Nobody is usable, so that all are looked at.
    for server in ["a", "b", "c", "d"] {
        fleet.unreachable(NOW, &id(server), Protocol::Rtmp);
    }
    fleet.set_draining(&id("c"), true);
    fleet.set_draining(&id("d"), true);
    let homes = homes(&mut fleet, 4000);
    let counts = counts(&homes);
    assert!(counts["a-v-1"].abs_diff(3000) < 200 && counts.len() == 2, "{counts:?}");
}

#[test]
fn fewest_streams_for_the_weight_win() {
    let mut fleet = of(Policy::LeastStreams, "a=3", 1, &["a", "b"]);
    let seats = seat(&mut fleet, 400);
    assert_eq!(fleet.loads(), [("a-v-1".to_owned(), 300), ("b-v-1".to_owned(), 100)]);
    drop(seats);
    assert_eq!(fleet.loads(), []);
}

#[test]
fn the_better_of_two_spreads_more_evenly_than_chance() {
    let servers: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let servers: Vec<_> = servers.iter().map(String::as_str).collect();
    let difference = |policy| {
        let mut fleet = of(policy, "", 1, &servers);
        let _seats = seat(&mut fleet, 5000);
        let (most, fewest) = spread(&fleet);
        most - fewest
    };
    let (chance, two) = (difference(Policy::Random), difference(Policy::LeastStreams));
    assert!(two <= 10 && chance >= 3 * two, "{two} against {chance}");
}

#[test]
fn streams_of_other_proxies_count() {
    let mut fleet = of(Policy::LeastStreams, "", 1, &["a", "b"]);
    let other = |streams| ("a-v-1".to_owned(), streams);
    fleet.set_loads(&[other(60), other(40), ("unknown".to_owned(), 9)]);
    let seats = seat(&mut fleet, 50);
    assert_eq!(fleet.loads(), [("b-v-1".to_owned(), 50)], "only own streams are said");
    fleet.set_loads(&[]);
    assert_eq!(chosen(&mut fleet, &key(0)).unwrap().1, id("a"), "they are gone again");
    drop(seats);
}

#[test]
fn proxies_agree_by_rendezvous_whatever_they_heard_first() {
    let mut here = of(Policy::Rendezvous, "a=2", 1, &["a", "b", "c", "d"]);
    let mut there = of(Policy::Rendezvous, "a=2", 99, &["gone", "d", "c", "a", "b"]);
    there.forget(&id("gone"));
    // A restart changes the id, not the server.
    there.update(NOW, life("b", "2")).unwrap();
    let server = |home: &OriginId| home.as_str().split('-').next().unwrap().to_owned();
    let here: Vec<_> = homes(&mut here, 1000).iter().map(server).collect();
    let there: Vec<_> = homes(&mut there, 1000).iter().map(server).collect();
    assert_eq!(here, there);
}

#[test]
fn rendezvous_is_the_same_in_every_release() {
    let mut fleet = of(Policy::Rendezvous, "a=2", 1, &["a", "b", "c"]);
    let homes: String = homes(&mut fleet, 24).iter().map(|home| &home.as_str()[..1]).collect();
    assert_eq!(homes, "ccbbbababbcccabaaccaaaba");
}

#[test]
fn an_origin_that_goes_moves_no_stream_but_its_own() {
    let mut fleet = of(Policy::Rendezvous, "", 1, &["a", "b", "c", "d"]);
    let before = homes(&mut fleet, 1000);
    fleet.set_draining(&id("c"), true);
    let after = homes(&mut fleet, 1000);
    for (before, after) in before.iter().zip(&after) {
        assert!(*after != id("c") && (before == after || *before == id("c")));
    }
    let counts = counts(&after);
    assert!(counts.values().all(|count| *count > 250), "they spread over all others: {counts:?}");
}

#[test]
fn who_drains_or_weighs_nothing_gets_no_new_stream_and_keeps_its_own() {
    for policy in POLICIES {
        let mut fleet = of(policy, "b=0", 1, &["a", "b", "c"]);
        let (member, _) =
            (0..).find_map(|n| chosen(&mut fleet, &key(n)).filter(|(_, to)| *to == id("a"))).unwrap();
        assert!(fleet.set_draining(&id("a"), true));
        assert_eq!(health(&fleet, &id("a")), Health::Draining);
        assert!(homes(&mut fleet, 100).iter().all(|home| *home == id("c")), "{policy:?}");
        assert_eq!(fleet.stay(member), Some(id("a")));
        // With nobody else, too.
        fleet.forget(&id("c"));
        assert_eq!(chosen(&mut fleet, &key(0)), None, "{policy:?}");
        fleet.unreachable(NOW, &id("a"), Protocol::Rtmp);
        assert_eq!(health(&fleet, &id("a")), Health::Quarantined, "the worse is shown");
        assert_eq!(chosen(&mut fleet, &key(0)), None, "{policy:?}");
        let stays = fleet.choose(NOW, &key(0), PLAY, Some(member)).unwrap();
        assert_eq!(stays.0, member, "{policy:?}");

        assert!(fleet.set_draining(&id("a"), false) && !fleet.set_draining(&id("z"), true));
        assert_eq!(chosen(&mut fleet, &key(0)).unwrap().0, member);
    }
}

#[test]
fn a_heartbeat_ends_no_drain_but_a_new_life_does() {
    let mut fleet = of(Policy::Random, "", 1, &["a"]);
    fleet.set_draining(&id("a"), true);
    fleet.update(NOW, origin("a")).unwrap();
    assert_eq!(health(&fleet, &id("a")), Health::Draining);
    fleet.update(NOW, life("a", "2")).unwrap();
    assert_eq!(health(&fleet, &life("a", "2").id()), Health::Alive);
    assert!(!fleet.set_draining(&id("a"), true), "the old life is over");
}

#[test]
fn who_is_forgotten_takes_no_other_with_it() {
    for policy in POLICIES {
        let mut fleet = of(policy, "", 1, &["a", "b", "c"]);
        let members: Vec<_> = ["a", "b", "c"].iter().map(|server| fleet.find(&id(server)).unwrap()).collect();
        let seat = fleet.seat(members[0]).unwrap();
        assert!(fleet.forget(&id("a")) && !fleet.forget(&id("a")));
        let mut left = |member| fleet.stay(member);
        assert_eq!(
            [left(members[0]), left(members[1]), left(members[2])],
            [None, Some(id("b")), Some(id("c"))]
        );
        assert!(homes(&mut fleet, 100).iter().all(|home| *home != id("a")));
        // Its place is free for another, which is not taken for it.
        fleet.update(NOW, origin("d")).unwrap();
        assert_eq!(fleet.find(&id("d")).unwrap().slot, members[0].slot);
        assert_eq!(fleet.stay(members[0]), None);
        drop(seat);
        assert_eq!(fleet.loads(), []);
        for server in ["b", "c", "d"] {
            assert!(fleet.forget(&id(server)));
        }
        assert!(fleet.entries.is_empty() && fleet.servers.is_empty());
        assert_eq!(chosen(&mut fleet, &key(0)), None);
        fleet.update(NOW, origin("a")).unwrap();
        assert_eq!(chosen(&mut fleet, &key(0)).unwrap().1, id("a"));
    }
}

#[test]
fn of_what_is_learned_the_younger_heartbeat_counts() {
    let mut fleet = of(Policy::Random, "", 1, &["a"]);
    let seconds = Duration::from_secs;
    let age = |fleet: &Fleet, id: &OriginId| {
        fleet.iter(NOW).find(|(_, origin, ..)| origin.id() == *id).map(|(.., age)| age.as_secs())
    };
    let mut moved = origin("a");
    moved.endpoints[0].1.set_port(1936);
    assert_eq!(fleet.learn(NOW, moved.clone(), seconds(290)), None, "an older one");
    assert_eq!(fleet.learn(NOW, life("a", "0"), seconds(290)), None, "an older life");
    assert_eq!(chosen(&mut fleet, &key(0)).unwrap().1, id("a"));

    assert_eq!(fleet.learn(NOW, life("b", "1"), seconds(100)), Some(Updated::New));
    assert_eq!(age(&fleet, &id("b")), Some(200), "also from before the process began");
    let mut moved = origin("b");
    moved.endpoints[0].1.set_port(1936);
    assert_eq!(fleet.learn(NOW, moved.clone(), seconds(101)), Some(Updated::Heartbeat));
    assert_eq!(
        fleet.iter(NOW).find(|(_, origin, ..)| **origin == moved).map(|(.., age)| age),
        Some(seconds(199))
    );
    assert_eq!(fleet.learn(NOW, life("b", "2"), seconds(102)), Some(Updated::Replaced(id("b"))));
    assert_eq!((age(&fleet, &id("b")), age(&fleet, &life("b", "2").id())), (None, Some(198)));
    let later = NOW + seconds(102);
    assert_eq!(
        fleet.iter(later).map(|(_, _, health, _)| health).collect::<Vec<_>>(),
        [Health::Alive, Health::Dead]
    );
}

#[test]
fn silence_counts_only_while_heartbeats_are_heard_of() {
    let mut fleet = of(Policy::Random, "", 1, &["a"]);
    let ttl = fleet.ttl;
    let is_dead = |fleet: &Fleet, now| fleet.iter(now).all(|(_, _, health, _)| health == Health::Dead);
    fleet.hear(NOW, true);
    assert!(is_dead(&fleet, NOW + ttl));
    fleet.hear(NOW, false);
    let mut now = NOW + ttl * 2;
    assert!(!is_dead(&fleet, now));
    // Nor for a moment after, which is counted from the last gap.
    for _ in 0..2 {
        for _ in 0..RETURN.as_secs() {
            fleet.hear(now, true);
            assert!(!is_dead(&fleet, now));
            now = now + Duration::from_secs(1);
        }
        fleet.hear(now, false);
    }
    assert!(!is_dead(&fleet, now));
    fleet.hear(now, true);
    fleet.hear(now + RETURN, true);
    assert!(is_dead(&fleet, now + RETURN));
}

#[test]
fn who_was_silent_for_long_is_forgotten() {
    let mut fleet = of(Policy::Random, "", 1, &["a", "b"]);
    let over = NOW + fleet.ttl + REMEMBERED;
    fleet.expire(NOW + fleet.ttl + (REMEMBERED - Duration::from_secs(1)));
    assert!(fleet.find(&id("a")).is_some());
    fleet.update(over, origin("b")).unwrap();
    fleet.expire(over);
    assert!(fleet.find(&id("a")).is_none() && fleet.find(&id("b")).is_some());
    assert_eq!((fleet.ids.len(), fleet.servers.len()), (1, 1));
    // Not while nothing can be heard.
    fleet.hear(over, false);
    fleet.expire(over + REMEMBERED * 3);
    assert!(fleet.find(&id("b")).is_some());
}

#[test]
fn two_servers_of_one_id_do_not_take_each_other_away() {
    let named = |server: &str, service: &str| Origin { service: service.into(), ..origin(server) };
    let mut fleet = of(Policy::Random, "", 1, &[]);
    fleet.update(NOW, named("a-b", "c")).unwrap();
    fleet.update(NOW, named("a", "b-c")).unwrap();
    let both = named("a", "b-c").id();
    assert!(fleet.forget(&both));
    fleet.update(NOW, named("a-b", "c")).unwrap();
    assert!(fleet.find(&both).is_some());
    assert!(fleet.forget(&both) && !fleet.forget(&both));
}

#[test]
fn what_is_learned_finds_room_or_is_left_out() {
    let limits = crate::Limits { origins: 2, ..Default::default() };
    let mut fleet = Fleet::new(&Setup { limits, ..Setup::default() });
    fleet.learn(NOW, origin("a"), Duration::from_secs(10));
    fleet.learn(NOW, origin("b"), Duration::from_secs(20));
    assert_eq!(fleet.learn(NOW, origin("c"), Duration::from_secs(300)), None);
    let later = NOW + Duration::from_secs(15);
    assert_eq!(fleet.learn(later, origin("c"), Duration::from_secs(300)), Some(Updated::New));
    assert!(fleet.find(&id("a")).is_none() && fleet.find(&id("b")).is_some());
}

#[test]
fn what_others_cannot_reach_gets_no_new_streams_and_keeps_its_own() {
    let mut fleet = of(Policy::Random, "", 1, &["a", "b"]);
    let seconds = Duration::from_secs;
    let member = fleet.find(&id("a")).unwrap();
    fleet.learn_trouble(NOW, &id("unknown"), Protocol::Rtmp, 1, seconds(5));
    fleet.learn_trouble(NOW, &id("a"), Protocol::Rtmp, 1, Duration::ZERO);
    assert_eq!(health(&fleet, &id("a")), Health::Alive, "that is over");
    fleet.learn_trouble(NOW, &id("a"), Protocol::Rtmp, 2, seconds(8));
    assert_eq!(health(&fleet, &id("a")), Health::Quarantined);
    fleet.learn_trouble(NOW, &id("a"), Protocol::Rtmp, 1, seconds(5));
    assert!(homes(&mut fleet, 50).iter().all(|home| *home == id("b")));
    assert_eq!(fleet.stay(member), Some(id("a")), "it may be reached from here");
    assert!(fleet.usable(NOW, &id("a")).is_some());

    // It is tried after the longer of the two, by which all that was learned is over.
    let probe = NOW + seconds(8);
    let probed = (0..50).filter(|n| fleet.choose(probe, &key(*n), PLAY, None).unwrap().1.origin == id("a"));
    assert_eq!(probed.count(), 1);
    fleet.learn_trouble(probe, &id("a"), Protocol::Rtmp, 2, Duration::ZERO);
    assert!((0..50).all(|n| fleet.choose(probe, &key(n), PLAY, None).unwrap().1.origin == id("b")));
    // Another proxy's probe failed first: there is none under way here any more.
    fleet.learn_trouble(probe, &id("a"), Protocol::Rtmp, 3, seconds(20));
    let later = probe + PROBE;
    assert!((0..50).all(|n| fleet.choose(later, &key(n), PLAY, None).unwrap().1.origin == id("b")));
    // A failure here is of the same three, and moves streams.
    let failed = fleet.unreachable(later, &id("a"), Protocol::Rtmp);
    assert_eq!(failed, Some((3, seconds(20))));
    assert_eq!(fleet.usable(later, &id("a")), None);
    assert!(!fleet.keeps(later, member, PLAY, true));
    assert!(fleet.usable(later + seconds(20), &id("a")).is_some());
    // And the next failure is the fourth in a row.
    assert_eq!(
        fleet.unreachable(later + seconds(20), &id("a"), Protocol::Rtmp).map(|(_, pause)| pause),
        Some(seconds(40))
    );
    // Nobody's word counts for longer than the longest quarantine.
    fleet.learn_trouble(NOW, &id("b"), Protocol::Rtmp, u32::MAX, seconds(1 << 40));
    assert!(fleet.usable(NOW + MAX_QUARANTINE, &id("b")).is_some());
    let again = fleet.unreachable(NOW + MAX_QUARANTINE, &id("b"), Protocol::Rtmp);
    assert_eq!(again.map(|(_, pause)| pause), Some(MAX_QUARANTINE));
}

#[test]
fn a_dead_port_is_left_alone_and_the_others_are_not() {
    let all = |server| Origin {
        endpoints: Protocol::ALL.map(|protocol| (protocol, ([127, 0, 0, 1], 1).into())).to_vec(),
        ..origin(server)
    };
    let mut fleet = fleet(Policy::Random, "", 1);
    fleet.update(NOW, all("a")).unwrap();
    fleet.update(NOW, all("b")).unwrap();
    let member = fleet.find(&id("a")).unwrap();
    assert_eq!(fleet.unreachable(NOW, &id("a"), Protocol::Srt), Some((1, QUARANTINE)));
    assert_eq!(fleet.unreachable(NOW, &id("a"), Protocol::Srt), None, "it is known");
    assert_eq!(fleet.unreachable(NOW, &id("a"), Protocol::Rtc), Some((1, QUARANTINE)), "of that it is news");
    let whep = Need { media: Some(Protocol::Rtc), ..Need::to_play(Protocol::Api) };
    for (need, is_reached) in [
        (Need::to_play(Protocol::Srt), false),
        (whep, false),
        (Need::to_play(Protocol::Api), true),
        (PLAY, true),
        (Need::to_play(Protocol::Http), true),
    ] {
        assert_eq!(fleet.keeps(NOW, member, need, false), is_reached, "{need:?}");
        let mut homes = (0..50).map(|n| fleet.choose(NOW, &key(n), need, None).unwrap().1.origin);
        assert_eq!(homes.any(|home| home == id("a")), is_reached, "{need:?}");
    }
    assert_eq!(fleet.usable(NOW, &id("a")), None, "no word brings a stream there");
}
