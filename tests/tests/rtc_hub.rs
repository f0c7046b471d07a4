//! How a WebRTC hub behaves, one behaviour after the other, driven by hand.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Fault, Leg, Machine, Note, OpenError};
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, Need, Picked, Query, Refusal, Report, RtcSession};
use srs_proxy_core::rtc::{DRAIN_GRACE, DropReason, IDLE, SETUP_TIMEOUT, UNKNOWN_LIFE};
use srs_proxy_core::time::Duration;
use srs_proxy_core::usage::USE_INTERVAL;
use srs_proxy_tests::sim::rtc::wire::{REQUEST, stun};
use srs_proxy_tests::sim::rtc::{Desk, Sent, check, dtls, media, refusal, rtcp, session, success};
use std::net::SocketAddr;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The origins are ICE-lite and believe anything but this.
const FORGED: u64 = 666;

fn desk() -> Desk {
    Desk::new(1, Limits::new(IDLE))
}

fn client(n: u16) -> SocketAddr {
    ([198, 51, 100, 7], n).into()
}

fn origin() -> SocketAddr {
    ([10, 0, 0, 1], 8000).into()
}

const fn id(n: u8) -> [u8; 12] {
    [n; 12]
}

fn picked() -> Answer {
    Answer::Picked(Picked { origin: OriginId::new("origin", "0", "1"), to: origin() })
}

fn to_origin(leg: Leg, bytes: &[u8]) -> Vec<Sent> {
    vec![Sent { by: leg, to: None, bytes: bytes.to_vec() }]
}

fn to_client(address: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
    vec![Sent { by: Leg::CLIENT, to: Some(address), bytes: bytes.to_vec() }]
}

#[test]
fn a_check_finds_its_session_and_then_everything_flows() {
    let (mut desk, flow) = (desk(), session("s:c"));
    let first = check(id(1), "s:c", 0);
    assert_eq!(desk.client(client(1), &first), []);
    assert_eq!(desk.questions[0].1, Query::LoadRtc("s:c".into()));
    desk.answer(Answer::Rtc(Some(flow.clone())));
    assert_eq!(
        desk.questions[0].1,
        Query::Pick { key: flow.key.clone(), need: Need::to_play(Protocol::Rtc) }
    );
    desk.answer(picked());
    assert_eq!(desk.opening[0].1, origin());
    let leg = desk.opened().unwrap();
    assert_eq!(desk.sent(), to_origin(leg, &first), "what was parked");
    let routed = Note::Routed {
        verb: "webrtc",
        key: flow.key.clone(),
        origin: OriginId::new("origin", "0", "1"),
        to: origin(),
    };
    assert_eq!(desk.notes, [routed]);

    assert_eq!(desk.client(client(1), &dtls(1, 0)), [], "nobody knows yet who is there");
    assert_eq!(desk.origin(leg, &dtls(1, 0)), [], "nor where the client is");
    assert_eq!(desk.told, []);
    assert_eq!(desk.origin(leg, &success(id(1))), to_client(client(1), &success(id(1))));
    assert_eq!(desk.told, [Report::Flowing(flow.clone()), Report::Playing(flow.key)]);
    for packet in [dtls(1, 0), media(1, 1)] {
        assert_eq!(desk.client(client(1), &packet), to_origin(leg, &packet));
        assert_eq!(desk.origin(leg, &packet), to_client(client(1), &packet));
    }
    let again = check(id(2), "s:c", 0);
    assert_eq!(desk.client(client(1), &again), to_origin(leg, &again));
    assert_eq!(desk.origin(leg, &success(id(2))), to_client(client(1), &success(id(2))));
    assert_eq!((desk.asked, desk.hub().sessions()), (2, 1));
    assert_eq!((desk.dropped(DropReason::Stranger), desk.dropped(DropReason::NoClient)), (1, 1));
}

#[test]
fn checks_that_come_before_the_origin_is_known_wait_each_once_and_few() {
    let mut desk = desk();
    for n in 0..6 {
        for _ in 0..3 {
            desk.client(client(n.into()), &check(id(n), "s:c", 0));
        }
    }
    assert_eq!(desk.dropped(DropReason::TooEarly), 6, "all of the last two clients'");
    let leg = desk.route(&session("s:c"), origin());
    let sent = desk.sent();
    assert_eq!(sent.iter().filter(|sent| sent.by == leg).count(), 4);
    assert_eq!(desk.origin(leg, &success(id(2))), to_client(client(2), &success(id(2))));
    assert_eq!(desk.origin(leg, &media(0, 0)), to_client(client(2), &media(0, 0)));
}

#[test]
fn a_forged_user_name_gets_the_origins_no_and_moves_nothing() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    let forged = check(id(9), "s:c", FORGED);
    assert_eq!(desk.client(client(666), &forged), to_origin(leg, &forged));
    assert_eq!(desk.origin(leg, &media(1, 0)), to_client(client(1), &media(1, 0)));
    assert_eq!(desk.origin(leg, &refusal(id(9))), to_client(client(666), &refusal(id(9))));
    assert_eq!(desk.origin(leg, &media(1, 1)), to_client(client(1), &media(1, 1)));
    assert_eq!(desk.client(client(666), &media(1, 2)), []);
    // Nor does it cut off who is in another session at that address.
    let other = desk.establish(client(2), &session("t:d"), origin());
    let forged = check(id(10), "s:c", FORGED);
    assert_eq!(desk.client(client(2), &forged), to_origin(leg, &forged));
    desk.origin(leg, &refusal(id(10)));
    assert_eq!(desk.client(client(2), &media(2, 0)), to_origin(other, &media(2, 0)));
    assert_eq!(desk.origin(other, &media(2, 1)), to_client(client(2), &media(2, 1)));
}

#[test]
fn a_check_that_is_sent_again_by_somebody_else_is_not_his() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    let genuine = check(id(9), "s:c", 0);
    desk.client(client(2), &genuine);
    assert_eq!(desk.client(client(666), &genuine), []);
    assert_eq!(desk.dropped(DropReason::Repeated), 1);
    assert_eq!(desk.origin(leg, &success(id(9))), to_client(client(2), &success(id(9))));
    assert_eq!(desk.origin(leg, &media(1, 0)), to_client(client(2), &media(1, 0)));
    // Nor if the client is at home, and has its answer.
    let genuine = check(id(10), "s:c", 0);
    desk.client(client(2), &genuine);
    desk.origin(leg, &success(id(10)));
    assert_eq!(desk.client(client(666), &genuine), []);
    assert_eq!(desk.dropped(DropReason::Repeated), 2);
}

#[test]
fn an_answer_goes_where_its_check_came_from_wherever_the_client_is_then() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    desk.client(client(1), &check(id(8), "s:c", 0));
    desk.client(client(2), &check(id(9), "s:c", 0));
    desk.origin(leg, &success(id(9)));
    assert_eq!(desk.origin(leg, &success(id(8))), to_client(client(1), &success(id(8))));
    assert_eq!(desk.origin(leg, &media(1, 0)), to_client(client(2), &media(1, 0)));
}

#[test]
fn a_client_that_moves_is_followed_as_soon_as_its_origin_agrees() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    desk.client(client(2), &check(id(9), "s:c", 0));
    assert_eq!(desk.origin(leg, &media(1, 0)), to_client(client(1), &media(1, 0)));
    assert_eq!(desk.origin(leg, &success(id(9))), to_client(client(2), &success(id(9))));
    assert_eq!(desk.origin(leg, &media(1, 1)), to_client(client(2), &media(1, 1)));
    assert_eq!(desk.client(client(2), &media(1, 2)), to_origin(leg, &media(1, 2)));
    // A response that comes twice goes where the first went, and changes nothing.
    desk.client(client(1), &media(1, 3));
    assert_eq!(desk.origin(leg, &success(id(9))), to_client(client(2), &success(id(9))));
    assert_eq!(desk.origin(leg, &media(1, 4)), to_client(client(1), &media(1, 4)));
}

#[test]
fn a_client_with_two_addresses_is_where_it_sends_media_from() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    desk.client(client(2), &check(id(9), "s:c", 0));
    desk.origin(leg, &success(id(9)));
    for n in 0..10 {
        let (here, there) = (client(n % 2 + 1), client(2 - n % 2));
        assert_eq!(desk.client(here, &media(1, 0)), to_origin(leg, &media(1, 0)));
        assert_eq!(desk.origin(leg, &media(1, 1)), to_client(here, &media(1, 1)));
        // It goes on checking the other.
        let check = check(id(100 + n as u8), "s:c", 0);
        assert_eq!(desk.client(there, &check), to_origin(leg, &check));
        let answer = success(id(100 + n as u8));
        assert_eq!(desk.origin(leg, &answer), to_client(there, &answer));
        assert_eq!(desk.origin(leg, &media(1, 2)), to_client(here, &media(1, 2)));
    }
}

#[test]
fn an_address_that_is_granted_in_a_new_session_leaves_the_old_one() {
    let mut desk = desk();
    let old = desk.establish(client(1), &session("s:c"), origin());
    // The same client after a restart of ICE, or another that got its address: until the origin agrees, the old
    // session has it.
    desk.client(client(1), &check(id(9), "t:d", 0));
    assert_eq!(desk.client(client(1), &media(1, 0)), to_origin(old, &media(1, 0)));
    let new = desk.route(&session("t:d"), origin());
    desk.sent();
    assert_eq!(desk.client(client(1), &media(1, 1)), to_origin(old, &media(1, 1)));
    assert_eq!(desk.origin(old, &media(1, 1)), to_client(client(1), &media(1, 1)));
    assert_eq!(desk.origin(new, &success(id(9))), to_client(client(1), &success(id(9))));
    assert_eq!(desk.client(client(1), &media(2, 0)), to_origin(new, &media(2, 0)));
    assert_eq!(desk.origin(new, &media(2, 1)), to_client(client(1), &media(2, 1)));
    assert_eq!(desk.origin(old, &media(1, 2)), [], "the old session's client is nowhere");
    // And back, to a session that is known here.
    desk.client(client(1), &check(id(10), "s:c", 0));
    assert_eq!(desk.origin(old, &success(id(10))), to_client(client(1), &success(id(10))));
    assert_eq!(desk.origin(old, &media(1, 3)), to_client(client(1), &media(1, 3)));
    assert_eq!(desk.origin(new, &media(2, 2)), []);
}

#[test]
fn an_origin_that_checks_too_is_answered() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    let theirs = check(id(9), "c:s", 0);
    assert_eq!(desk.origin(leg, &theirs), to_client(client(1), &theirs));
    assert_eq!(desk.client(client(1), &success(id(9))), to_origin(leg, &success(id(9))));
    let indication = stun(0x0011, id(10), &[]);
    assert_eq!(desk.client(client(1), &indication), to_origin(leg, &indication));
    let nameless = stun(REQUEST, id(11), &[]);
    assert_eq!(desk.client(client(1), &nameless), to_origin(leg, &nameless));
    assert_eq!(desk.origin(leg, &success(id(11))), to_client(client(1), &success(id(11))));
}

#[test]
fn an_answer_to_no_check_goes_nowhere() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    assert_eq!((desk.origin(leg, &success(id(9))), desk.origin(leg, &refusal(id(10)))), (vec![], vec![]));
    assert_eq!(desk.dropped(DropReason::Unasked), 2);
    // Nor does one that comes too late.
    desk.client(client(1), &check(id(11), "s:c", 0));
    desk.pass(SECOND * 10);
    assert_eq!(desk.origin(leg, &success(id(11))), []);
    // A success of what is no check says nothing of who is there.
    let new = desk.establish(client(2), &session("t:d"), origin());
    desk.client(client(2), &stun(REQUEST, id(12), &[]));
    desk.client(client(2), &check(id(13), "s:c", 0));
    desk.origin(leg, &success(id(13)));
    assert_eq!(desk.origin(new, &success(id(12))), to_client(client(2), &success(id(12))));
    assert_eq!(desk.client(client(2), &media(1, 0)), to_origin(leg, &media(1, 0)));
}

#[test]
fn a_session_ends_when_its_client_has_been_silent() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    for _ in 0..29 {
        desk.pass(SECOND);
        desk.origin(leg, &media(1, 0));
    }
    desk.client(client(1), &media(1, 0));
    for _ in 0..29 {
        desk.pass(SECOND);
        assert!(!desk.origin(leg, &media(1, 0)).is_empty());
    }
    desk.pass(SECOND);
    assert_eq!((desk.hub().sessions(), desk.legs(), desk.deadline()), (0, 0, None));
    let fault = Some(Fault::Client("silent for too long"));
    let (key, client_at, lasted) = (session("s:c").key, Some(client(1)), Duration::from_secs(59));
    assert_eq!(desk.notes.last(), Some(&Note::Ended { key, client: client_at, fault, lasted }));
    assert_eq!(desk.client(client(1), &media(1, 0)), []);
    // It may come back.
    desk.establish(client(1), &session("s:c"), origin());
}

#[test]
fn a_session_ends_when_its_origin_has_been_silent() {
    let mut desk = desk();
    desk.establish(client(1), &session("s:c"), origin());
    for _ in 0..29 {
        desk.pass(SECOND);
        assert!(!desk.client(client(1), &media(1, 0)).is_empty());
    }
    desk.pass(SECOND);
    assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
    assert_eq!(why_it_ended(&desk), Some(Fault::Origin("silent for too long")));
}

/// Why the last session that ended did.
fn why_it_ended(desk: &Desk) -> Option<Fault> {
    let Some(Note::Ended { fault, .. }) = desk.notes.last() else { panic!("{:?}", desk.notes) };
    *fault
}

#[test]
fn a_session_whose_client_is_never_granted_a_check_ends() {
    let mut desk = desk();
    desk.client(client(1), &check(id(1), "s:c", 0));
    let leg = desk.route(&session("s:c"), origin());
    for n in 2..32 {
        desk.pass(SECOND);
        desk.client(client(1), &check(id(n), "s:c", FORGED));
        desk.origin(leg, &refusal(id(n)));
    }
    assert_eq!((desk.hub().sessions(), desk.legs(), desk.told.len()), (1, 0, 0), "only asked for anew");
}

#[test]
fn what_icmp_says_ends_no_session() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    desk.eof(leg);
    assert_eq!(desk.client(client(1), &media(1, 0)), to_origin(leg, &media(1, 0)));
    assert_eq!(desk.origin(leg, &media(1, 1)), to_client(client(1), &media(1, 1)));
}

#[test]
fn the_load_balancer_hears_that_media_flow_as_long_as_they_do() {
    let (mut desk, flow) = (desk(), session("s:c"));
    let leg = desk.establish(client(1), &flow, origin());
    for _ in 0..100 {
        desk.pass(SECOND);
        desk.client(client(1), &rtcp(201));
        desk.origin(leg, &media(1, 0));
    }
    let told = [Report::Flowing(flow.clone()), Report::Playing(flow.key)];
    assert_eq!(desk.told, vec![told; 6].concat(), "at once, and each 20 s");
    desk.pass(USE_INTERVAL * 2);
    assert_eq!(desk.told.len(), 12);
}

#[test]
fn who_sends_media_publishes_until_it_is_over() {
    let flow = session("s:c");
    let origin_id = || OriginId::new("origin", "0", "1");
    let publishing = Report::Publishing(flow.key.clone(), origin_id());
    for way_out in ["silence", "goodbye", "stop"] {
        let mut desk = desk();
        let leg = desk.establish(client(1), &flow, origin());
        desk.told.clear();
        for kind in [64, 95, 192, 200, 207, 223] {
            desk.client(client(1), &rtcp(kind));
        }
        desk.client(client(1), &dtls(1, 0));
        desk.client(client(666), &media(1, 0));
        desk.client(client(1), &[0x80]);
        assert_eq!(desk.told, [], "what a player says, a stranger, and half of a packet");
        desk.client(client(1), &media(1, 0));
        assert_eq!(desk.told, std::slice::from_ref(&publishing), "at once");
        for _ in 0..60 {
            desk.pass(SECOND);
            desk.client(client(1), &media(1, 0));
            desk.origin(leg, &rtcp(201));
        }
        let told = desk.told.split_off(1);
        assert_eq!(
            told,
            vec![[Report::Flowing(flow.clone()), publishing.clone()]; 3].concat(),
            "and each 20 s"
        );
        match way_out {
            "silence" => desk.pass(IDLE),
            "goodbye" => desk.end(Answer::Rtc(None)),
            _ => desk.stop(),
        }
        assert_eq!(desk.told.last(), Some(&Report::Ended(flow.key.clone(), origin_id())), "{way_out}");
    }
}

#[test]
fn a_publisher_that_restarts_ice_publishes_on() {
    let mut desk = desk();
    let before = session("s:c");
    let after = RtcSession { username: "t:d".into(), ..before.clone() };
    desk.establish(client(1), &before, origin());
    desk.client(client(1), &media(1, 0));
    let leg = desk.establish(client(1), &after, origin());
    desk.told.clear();
    for _ in 0..40 {
        desk.client(client(1), &media(1, 0));
        desk.origin(leg, &rtcp(201));
        desk.pass(SECOND);
    }
    assert_eq!(desk.hub().sessions(), 1, "the old one ended by silence");
    let ended = |told: &[Report]| told.iter().filter(|report| matches!(report, Report::Ended(..))).count();
    assert_eq!(ended(&desk.told), 0, "{:?}", desk.told);
    assert!(desk.told.contains(&Report::Publishing(after.key, OriginId::new("origin", "0", "1"))));
    desk.end(Answer::Registered);
    desk.end(Answer::Rtc(None));
    assert_eq!((desk.hub().sessions(), ended(&desk.told)), (0, 1));
}

#[test]
fn a_session_that_is_left_is_over_at_once() {
    let (mut desk, flow) = (desk(), session("s:c"));
    let leg = desk.establish(client(1), &flow, origin());
    let other = desk.establish(client(2), &session("t:d"), origin());
    assert_eq!(desk.ends[0].1, Query::EndOfRtc("s:c".into()));
    desk.end(Answer::Rtc(None));
    assert_eq!((desk.hub().sessions(), desk.legs()), (1, 1));
    let (key, client_at) = (flow.key, Some(client(1)));
    let ended = Note::Ended { key, client: client_at, fault: None, lasted: Duration::ZERO };
    assert_eq!(desk.notes.last(), Some(&ended));
    assert_eq!(desk.told.len(), 4, "players come and go untold: {:?}", desk.told);
    // Its client may not have heard of it yet.
    let asked = desk.asked;
    for n in 0..5 {
        assert_eq!(desk.client(client(1), &check(id(n), "s:c", 0)), []);
        assert_eq!(desk.client(client(1), &media(1, 0)), []);
    }
    assert_eq!((desk.origin(leg, &media(1, 0)), desk.asked), (vec![], asked));
    assert_eq!(desk.dropped(DropReason::UnknownName), 5);
    assert_eq!(desk.client(client(2), &media(2, 0)), to_origin(other, &media(2, 0)));
    desk.pass(UNKNOWN_LIFE);
    desk.establish(client(1), &session("s:c"), origin());
}

#[test]
fn an_end_that_is_none_or_comes_too_late_ends_nothing() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    for answer in
        [Answer::Refused(Refusal::Unavailable), Answer::Rtc(Some(session("s:c"))), Answer::Registered]
    {
        desk.ends.extend(desk.ends.front().cloned());
        desk.end(answer);
        assert_eq!(desk.client(client(1), &media(1, 0)), to_origin(leg, &media(1, 0)));
    }
    desk.pass(IDLE);
    let leg = desk.establish(client(1), &session("s:c"), origin());
    desk.end(Answer::Rtc(None));
    assert_eq!(desk.client(client(1), &media(1, 0)), to_origin(leg, &media(1, 0)), "of the session before");
}

#[test]
fn a_flood_of_forged_checks_keeps_no_genuine_one_from_its_answer() {
    // 2,000 a second in the name of a session that just begins, from one address and from a few networks, while its
    // origin is 20 ms away.
    for networks in [1, 4] {
        let mut desk = desk();
        desk.client(client(1), &check(id(1), "s:c", 0));
        let leg = desk.route(&session("s:c"), origin());
        let mut forged = 0_u32;
        let mut flood = |desk: &mut Desk| {
            for _ in 0..40 {
                forged += 1;
                let transaction = [&[9; 8][..], &forged.to_be_bytes()].concat().try_into().expect("12 bytes");
                let from = SocketAddr::from(([203, 0, 113, (forged % networks) as u8], 666));
                desk.client(from, &check(transaction, "s:c", FORGED));
            }
            desk.pass(MS * 20);
        };
        flood(&mut desk);
        assert_eq!(desk.origin(leg, &success(id(1))), to_client(client(1), &success(id(1))), "the first");
        assert_eq!(desk.origin(leg, &media(1, 0)), to_client(client(1), &media(1, 0)));
        // Nor does it when the client moves, nor at home.
        for (n, at) in [(2, 2), (3, 1), (4, 1)] {
            desk.client(client(at), &check(id(n), "s:c", 0));
            flood(&mut desk);
            assert_eq!(desk.origin(leg, &success(id(n))), to_client(client(at), &success(id(n))), "{n}");
        }
    }
}

#[test]
fn a_name_that_nobody_knows_is_asked_for_once_in_a_moment() {
    let mut desk = desk();
    for n in 0..20 {
        desk.client(client(1), &check(id(n), "s:c", 0));
        desk.answer(Answer::Rtc(None));
    }
    assert_eq!((desk.asked, desk.hub().sessions()), (1, 0));
    assert_eq!(desk.dropped(DropReason::UnknownName), 20);
    desk.pass(UNKNOWN_LIFE);
    assert_eq!(desk.deadline(), None, "nothing is left of it");
    desk.establish(client(1), &session("s:c"), origin());
}

#[test]
fn a_load_balancer_that_says_no_or_nothing_or_nonsense_leaves_nothing_behind() {
    let known = || Answer::Rtc(Some(session("s:c")));
    type Script = (Vec<Answer>, &'static str);
    let scripts: [Script; 7] = [
        (vec![Answer::Refused(Refusal::Unavailable)], "unavailable"),
        (vec![known(), Answer::Refused(Refusal::NoOrigin)], "no origin"),
        (vec![known(), Answer::Refused(Refusal::Full)], "full"),
        (vec![picked()], "answers another question"),
        (vec![known(), Answer::Registered], "answers another question"),
        (vec![], "does not answer"),
        (vec![known()], "does not answer"),
    ];
    for (answers, why) in scripts {
        let mut desk = desk();
        desk.client(client(1), &check(id(1), "s:c", 0));
        let has_key = answers.first() == Some(&known());
        answers.into_iter().for_each(|answer| desk.answer(answer));
        desk.pass(SETUP_TIMEOUT);
        let key = has_key.then(|| session("s:c").key);
        assert_eq!(desk.notes, [Note::Refused { key, fault: Fault::Balancer(why) }]);
        assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
        // An answer that comes now is for nobody, whoever asks meanwhile.
        desk.pass(UNKNOWN_LIFE);
        desk.client(client(2), &check(id(2), "t:d", 0));
        if desk.questions.len() > 1 {
            desk.answer(known());
        }
        let leg = desk.route(&session("t:d"), origin());
        assert_eq!(desk.sent(), to_origin(leg, &check(id(2), "t:d", 0)));
    }
}

#[test]
fn an_origin_that_is_not_there_is_told_of_once() {
    for (why, told, fault) in [
        (OpenError::Unreachable, 1, Fault::Origin("cannot be reached")),
        (OpenError::Exhausted, 0, Fault::Proxy("no socket left")),
    ] {
        let mut desk = desk();
        for n in 0..5 {
            desk.client(client(1), &check(id(n), "s:c", 0));
            desk.answer(Answer::Rtc(Some(session("s:c"))));
            desk.answer(picked());
            desk.open_failed(why);
        }
        let origin = OriginId::new("origin", "0", "1");
        assert_eq!(desk.told, vec![Report::Unreachable(origin.clone(), Protocol::Rtc); told]);
        let key = Some(session("s:c").key);
        assert_eq!(desk.notes.first(), Some(&Note::OriginFailed { key, origin, fault }));
        assert_eq!((desk.hub().sessions(), desk.legs(), desk.asked), (0, 0, 2));
    }
}

#[test]
fn a_socket_that_does_not_open_in_time_is_given_back() {
    let mut desk = desk();
    desk.client(client(1), &check(id(1), "s:c", 0));
    desk.answer(Answer::Rtc(Some(session("s:c"))));
    desk.answer(picked());
    desk.pass(SETUP_TIMEOUT);
    assert_eq!((desk.hub().sessions(), desk.opening.len()), (0, 0));
}

#[test]
fn what_strangers_send_is_counted_and_leaves_no_state() {
    let mut desk = desk();
    let good = check(id(1), "s:c", 0);
    for end in 0..good.len() {
        assert_eq!(desk.client(client(1), &good[..end]), []);
    }
    assert_eq!(desk.dropped(DropReason::BadStun), good.len() as u64 - 1);
    assert_eq!(desk.dropped(DropReason::NotWebRtc), 1, "the empty one");
    for first in 0..=255 {
        for length in [1, 2, 12, 20, 21, 100, 1500] {
            assert_eq!(desk.client(client(1), &vec![first; length]), [], "{first} {length}");
        }
    }
    for message in [success(id(1)), refusal(id(1)), stun(REQUEST, id(1), &[]), stun(0x0011, id(1), &[])] {
        assert_eq!(desk.client(client(1), &message), []);
    }
    assert!(desk.dropped(DropReason::Stranger) > 100 * 7);
    assert!(desk.notes.len() <= 3, "{:?}", desk.notes);
    assert_eq!((desk.asked, desk.hub().sessions(), desk.deadline()), (0, 0, None));
}

#[test]
fn malformed_datagrams_are_kept_from_clients_and_origins_that_know_each_other_too() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    assert_eq!(desk.client(client(1), &[0; 19]), []);
    assert_eq!(desk.client(client(1), &[64; 19]), []);
    assert_eq!(desk.origin(leg, &[64; 19]), []);
    assert_eq!(desk.dropped(DropReason::BadStun), 1);
    assert_eq!(desk.dropped(DropReason::NotWebRtc), 1);
    assert_eq!(desk.dropped(DropReason::NotWebRtcOrigin), 1);
}

/// Three seconds of ten new names each millisecond, from so many networks; the questions they made.
fn flood(desk: &mut Desk, networks: u8) -> usize {
    let asked = desk.asked;
    for millis in 0..3000_u32 {
        desk.pass(MS);
        for n in 0..10 {
            let name = millis * 10 + n;
            let from = SocketAddr::from(([203, 0, 113, (name % u32::from(networks)) as u8], 4000));
            desk.client(from, &check(id(3), &format!("{name}:x"), 0));
            desk.answer(Answer::Rtc(None));
        }
    }
    desk.asked - asked
}

#[test]
fn a_flood_of_made_up_names_asks_little_and_is_forgotten_within_seconds() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    let asked = flood(&mut desk, 200);
    assert!((3000..=4000).contains(&asked), "{asked} questions in three seconds and a bit");
    assert!(desk.notes.len() <= 10, "{} notes", desk.notes.len());
    assert_eq!(desk.client(client(1), &media(1, 0)), to_origin(leg, &media(1, 0)), "others are unharmed");
    desk.pass(UNKNOWN_LIFE);
    assert_eq!((desk.hub().sessions(), desk.legs()), (1, 1));
    desk.pass(SECOND * 40);
    assert_eq!((desk.hub().sessions(), desk.deadline()), (0, None));
}

#[test]
fn a_flood_from_one_network_leaves_room_for_the_others() {
    let mut desk = desk();
    let asked = flood(&mut desk, 1);
    assert!((1500..=2000).contains(&asked), "{asked} questions");
    desk.establish(client(2), &session("t:d"), origin());
}

#[test]
fn with_a_load_balancer_that_is_silent_no_more_wait_than_may_ask_and_not_for_long() {
    let mut desk = desk();
    let mut most = 0;
    for name in 0..80_000_u32 {
        desk.pass(MS / 10);
        let from = SocketAddr::from((name.to_be_bytes(), 4000));
        desk.client(from, &check(id(3), &format!("{name}:x"), 0));
        most = most.max(desk.hub().sessions());
    }
    assert!((3000..=4000).contains(&most), "{most}: so many may ask in three seconds and a bit");
    assert_eq!(desk.dropped(DropReason::TooManySessions), 0);
    desk.pass(SETUP_TIMEOUT + UNKNOWN_LIFE);
    assert_eq!((desk.hub().sessions(), desk.deadline()), (0, None));
}

#[test]
fn sessions_are_limited_in_all_and_of_one_network() {
    let limits = Limits { max_sessions: 3, max_sessions_per_network: 2, ..Limits::new(IDLE) };
    let mut desk = Desk::new(1, limits);
    for name in ["a:a", "b:b"] {
        desk.establish(client(1), &session(name), origin());
    }
    desk.client(client(2), &check(id(1), "c:c", 0));
    assert_eq!(desk.dropped(DropReason::TooManyOfOne), 1);
    let elsewhere = SocketAddr::from(([203, 0, 113, 1], 1));
    desk.establish(elsewhere, &session("c:c"), origin());
    desk.client(elsewhere, &check(id(1), "d:d", 0));
    assert_eq!(desk.dropped(DropReason::TooManySessions), 1);
    assert_eq!(desk.hub().sessions(), 3);
    desk.pass(SECOND * 31);
    desk.establish(client(1), &session("d:d"), origin());
}

#[test]
fn a_drain_ends_nothing_and_begins_only_what_was_signalled_before() {
    let mut desk = desk();
    let leg = desk.establish(client(1), &session("s:c"), origin());
    desk.client(client(2), &check(id(1), "u:e", 0));
    desk.drain();
    assert_eq!(desk.client(client(1), &media(1, 0)), to_origin(leg, &media(1, 0)));
    desk.route(&session("u:e"), origin());
    desk.sent();
    desk.pass(DRAIN_GRACE - MS);
    // An offer that was being answered when the drain began.
    desk.establish(client(3), &session("t:d"), origin());
    desk.pass(MS);
    desk.client(client(4), &check(id(2), "v:f", 0));
    assert_eq!((desk.dropped(DropReason::Draining), desk.hub().sessions()), (1, 3));
    desk.stop();
    let ended = |note: &&Note| matches!(note, Note::Ended { fault: Some(Fault::STOP), .. });
    assert_eq!(desk.notes.iter().filter(ended).count(), 3);
}
