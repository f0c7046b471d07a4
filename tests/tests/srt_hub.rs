//! How an SRT hub behaves, one behaviour after the other, driven by hand.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Fault, Leg, Machine, Note, OpenError};
use srs_proxy_core::origin::{OriginId, Protocol};
use srs_proxy_core::query::{Answer, Need, Picked, Query, Refusal, Report};
use srs_proxy_core::srt::{DropReason, IDLE, LINGER, PROOF, RETRY, SETUP_TIMEOUT};
use srs_proxy_core::time::Duration;
use srs_proxy_core::usage::USE_INTERVAL;
use srs_proxy_tests::sim::srt::{Desk, Sent};
use srs_proxy_tests::srt::wire::{CONCLUSION, Handshake, data, keep_alive, peer, shutdown};
use std::net::SocketAddr;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const ID: &str = "#!::r=live/cam,m=publish";
const KEY: &str = "__defaultVhost__/live/cam";

fn desk() -> Desk {
    Desk::new(1, Limits::new(IDLE))
}

fn client(n: u16) -> SocketAddr {
    ([198, 51, 100, 7], n).into()
}

fn origin() -> SocketAddr {
    ([10, 0, 0, 1], 10080).into()
}

fn name() -> OriginId {
    OriginId::new("origin", "0", "1")
}

fn picked() -> Answer {
    Answer::Picked(Picked { origin: name(), to: origin() })
}

fn to_origin(leg: Leg, bytes: &[u8]) -> Vec<Sent> {
    vec![Sent { by: leg, to: None, bytes: bytes.to_vec() }]
}

fn to_client(address: SocketAddr, bytes: &[u8]) -> Vec<Sent> {
    vec![Sent { by: Leg::CLIENT, to: Some(address), bytes: bytes.to_vec() }]
}

/// The one handshake that was sent.
fn one(sent: &[Sent]) -> (Leg, Option<SocketAddr>, Handshake) {
    let [Sent { by, to, bytes }] = sent else { panic!("{sent:?}") };
    (*by, *to, Handshake::read(bytes).expect("a handshake"))
}

/// A caller with a right cookie, whose origin is asked for.
fn call(desk: &mut Desk, from: SocketAddr, socket: u32, id: &str) -> Handshake {
    let cookie = desk.cookie(from, socket);
    let conclusion = Handshake::conclusion(socket, cookie, id.as_bytes());
    assert_eq!(desk.client(from, &conclusion.bytes()), []);
    conclusion
}

/// What a caller with a right cookie is told at once.
fn told(desk: &mut Desk, from: SocketAddr, socket: u32, id: &[u8]) -> u32 {
    let cookie = desk.cookie(from, socket);
    let (by, to, answer) = one(&desk.client(from, &Handshake::conclusion(socket, cookie, id).bytes()));
    assert_eq!((by, to, answer.to, answer.from), (Leg::CLIENT, Some(from), socket, socket));
    answer.kind
}

/// A SHUTDOWN of the hub's own, for this socket.
fn is_goodbye(sent: &Sent, socket: u32) -> bool {
    sent.bytes[..4] == [0x80, 5, 0, 0] && sent.bytes[12..16] == socket.to_be_bytes()
}

/// Of the last session that ended: where its caller was, and why.
fn said_at_the_end(desk: &Desk) -> (Option<SocketAddr>, Option<Fault>) {
    let Some(Note::Ended { client, fault, .. }) = desk.notes.last() else { panic!("{:?}", desk.notes) };
    (*client, *fault)
}

#[test]
fn an_induction_is_answered_and_forgotten() {
    let mut desk = desk();
    let induction = Handshake::induction(7);
    let (_, to, answer) = one(&desk.client(client(1), &induction.bytes()));
    assert_eq!(to, Some(client(1)));
    let cookie = answer.cookie;
    assert_eq!(answer, Handshake { timestamp: 0, peer: peer(198, 51, 100, 7), ..induction.welcome(cookie) });
    assert!(cookie != 0 && desk.cookie(client(1), 8) == cookie && desk.cookie(client(2), 7) != cookie);
    assert_eq!((desk.hub().sessions(), desk.asked, desk.deadline()), (0, 0, None));
}

#[test]
fn a_caller_finds_its_origin_and_then_everything_flows() {
    let mut desk = desk();
    desk.pass(5 * SECOND);
    let conclusion = call(&mut desk, client(1), 7, ID);
    let key = match &desk.questions[0].1 {
        Query::Pick { key, need: Need { protocol: Protocol::Srt, .. } } => key.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(key.as_str(), KEY);
    desk.pass(20 * MS);
    let leg = desk.route(origin());
    let (by, _, induction) = one(&desk.sent());
    assert_eq!(by, leg);
    let expected = Handshake { timestamp: 5_020_000, peer: peer(10, 0, 0, 1), ..Handshake::induction(7) };
    assert_eq!(induction, expected);
    desk.pass(10 * MS);
    let passed_on = desk.welcome(leg);
    // Of the conclusion another cookie, the origin's address; and its clock goes on while it waits.
    let expected = Handshake {
        cookie: passed_on.cookie,
        peer: peer(10, 0, 0, 1),
        timestamp: conclusion.timestamp + 30_000,
        ..conclusion
    };
    assert_eq!(passed_on, expected);
    let accepted = Handshake { timestamp: 77, ..passed_on.accepted(9) };
    let (_, to, answer) = one(&desk.origin(leg, &accepted.bytes()));
    assert_eq!((to, answer), (Some(client(1)), Handshake { peer: peer(198, 51, 100, 7), ..accepted }));
    let routed = Note::Routed { verb: "publish", key: key.clone(), origin: name(), to: origin() };
    assert_eq!(desk.notes, [routed]);
    assert_eq!(desk.told, []);
    desk.pass(PROOF);
    assert_eq!(desk.told, [Report::Publishing(key, name())]);
    for n in 0..3 {
        assert_eq!(desk.client(client(1), &data(9, n, 0)), to_origin(leg, &data(9, n, 0)));
        assert_eq!(desk.origin(leg, &data(7, n, 0)), to_client(client(1), &data(7, n, 0)));
    }
    assert_eq!(desk.client(client(1), &keep_alive(9)), to_origin(leg, &keep_alive(9)));
    assert_eq!((desk.hub().sessions(), desk.asked, desk.hub().drops().total()), (1, 1, 0));
}

#[test]
fn extensions_pass_as_they_are_known_or_not() {
    let extension = |kind: u8, content: &[u8]| [&[0, kind, 0, (content.len() / 4) as u8], content].concat();
    let further = [
        extension(3, &[0x12; 28]),
        extension(6, b"elif"),
        extension(7, b",cefloc:s01\0"),
        extension(8, &[0x80, 0, 0, 7, 1, 2, 0, 50]),
        extension(99, b""),
        extension(200, &[0xff; 400]),
    ]
    .concat();
    let mut desk = desk();
    let cookie = desk.cookie(client(1), 7);
    let mut conclusion = Handshake::conclusion(7, cookie, ID.as_bytes());
    conclusion.encryption = 4;
    conclusion.field = 7;
    conclusion.extensions.extend(&further);
    assert_eq!(desk.client(client(1), &conclusion.bytes()), []);
    let leg = desk.route(origin());
    desk.sent();
    let passed_on = desk.welcome(leg);
    let terms = |it: &Handshake| (it.encryption, it.field, it.terms, it.extensions.clone());
    assert_eq!(terms(&passed_on), terms(&conclusion));
    let mut accepted = passed_on.accepted(9);
    accepted.extensions.extend(&further);
    let (_, _, answer) = one(&desk.origin(leg, &accepted.bytes()));
    assert_eq!(terms(&answer), terms(&accepted));
    let (_, _, again) = one(&desk.client(client(1), &conclusion.bytes()));
    assert_eq!(again, answer);
}

#[test]
fn a_handshake_that_comes_again_makes_nothing_new_at_any_stage() {
    let mut desk = desk();
    let conclusion = call(&mut desk, client(1), 7, ID);
    let again = |desk: &mut Desk| desk.client(client(1), &conclusion.bytes());
    assert_eq!(again(&mut desk), [], "while the origin is asked for");
    desk.answer(picked());
    assert_eq!(again(&mut desk), [], "while its socket is opened");
    let leg = desk.opened().unwrap();
    desk.sent();
    assert_eq!(again(&mut desk), [], "while its cookie is asked for");
    let passed_on = desk.welcome(leg);
    assert_eq!(again(&mut desk), [], "while its answer is waited for");
    let induction = Handshake::induction(7);
    assert_eq!(desk.origin(leg, &induction.welcome(1).bytes()), [], "nor does the origin's");
    desk.origin(leg, &passed_on.accepted(9).bytes());
    assert_eq!(desk.origin(leg, &induction.welcome(1).bytes()), [], "however late");
    assert_eq!(desk.origin(leg, &passed_on.accepted(9).bytes()), [], "nor does its yes");
    // Its answer was lost: it is told again, with the clock gone on, and the origin hears nothing of it.
    for n in 1..3 {
        desk.pass(RETRY);
        let (_, to, answer) = one(&again(&mut desk));
        let accepted = passed_on.accepted(9);
        let timestamp = accepted.timestamp + n * 250_000;
        let expected = Handshake { timestamp, peer: peer(198, 51, 100, 7), ..accepted };
        assert_eq!((to, answer), (Some(client(1)), expected));
    }
    // Who has heard it says something.
    assert_eq!(desk.client(client(1), &keep_alive(9)), to_origin(leg, &keep_alive(9)));
    assert_eq!(again(&mut desk), []);
    // And when all is over.
    desk.client(client(1), &shutdown(9));
    assert_eq!(again(&mut desk), []);
    assert_eq!((desk.asked, desk.hub().sessions(), desk.legs()), (1, 0, 0));
}

/// A caller with this address and id begins anew, for another stream.
fn call_anew(desk: &mut Desk, from: SocketAddr, socket: u32, sequence: u32) -> Vec<Sent> {
    let cookie = desk.cookie(from, socket);
    let mut conclusion = Handshake::conclusion(socket, cookie, b"#!::r=live/other,m=publish");
    conclusion.terms[0] = sequence;
    desk.client(from, &conclusion.bytes())
}

#[test]
fn a_caller_that_begins_anew_with_the_same_id_is_another_at_any_stage() {
    for stage in 0..6 {
        let mut desk = desk();
        call(&mut desk, client(1), 7, ID);
        let mut old = None;
        if stage >= 1 {
            desk.answer(picked());
        }
        if stage >= 2 {
            old = desk.opened();
            desk.sent();
        }
        let conclusion = (stage >= 3).then(|| desk.welcome(old.unwrap()));
        if stage >= 4 {
            desk.origin(old.unwrap(), &conclusion.clone().unwrap().accepted(9).bytes());
        }
        if stage == 5 {
            desk.client(client(1), &shutdown(9));
        }
        let goodbye = if stage == 4 { to_origin(old.unwrap(), &shutdown(9)) } else { vec![] };
        assert_eq!(call_anew(&mut desk, client(1), 7, 8), goodbye, "{stage}");
        if stage == 4 {
            assert_eq!(said_at_the_end(&desk), (Some(client(1)), Some(Fault::Client("begins anew"))));
        }
        // The old one's question, socket and connection are nobody's any more.
        if stage == 0 {
            desk.answer(picked());
            assert_eq!((desk.opening.len(), desk.legs()), (0, 0));
        }
        assert_eq!(desk.asked, 2, "{stage}: it is routed by what it asks for now");
        let leg = desk.route(origin());
        assert_ne!(Some(leg), old);
        desk.sent();
        let passed_on = desk.welcome(leg);
        assert_eq!(passed_on.terms[0], 8);
        // The old one's origin says yes only now.
        if stage == 3 {
            let late = conclusion.unwrap().accepted(9);
            assert_eq!(desk.origin(old.unwrap(), &late.bytes()), to_origin(old.unwrap(), &shutdown(9)));
        }
        desk.origin(leg, &passed_on.accepted(10).bytes());
        assert_eq!(desk.client(client(1), &data(10, 1, 2)), to_origin(leg, &data(10, 1, 2)), "{stage}");
        assert_eq!(desk.client(client(1), &data(9, 1, 2)), [], "{stage}");
        // What is remembered of the old one is forgotten without harm to the new one.
        desk.pass(LINGER);
        assert_eq!((desk.hub().sessions(), desk.legs()), (1, 1), "{stage}");
        assert_eq!(desk.client(client(1), &data(10, 1, 2)), to_origin(leg, &data(10, 1, 2)), "{stage}");
    }
}

#[test]
fn who_begins_anew_again_and_again_meets_the_limits() {
    let limits = Limits { lookups_per_network: 4, ..Limits::new(IDLE) };
    let mut desk = Desk::new(1, limits);
    for sequence in 0..20 {
        assert_eq!(call_anew(&mut desk, client(1), 7, sequence), []);
    }
    assert_eq!((desk.asked, desk.dropped(DropReason::TooManyLookups)), (4, 16));
}

#[test]
fn an_origin_that_says_yes_too_late_is_told_that_nobody_is_there() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    let leg = desk.route(origin());
    desk.sent();
    let passed_on = desk.welcome(leg);
    desk.pass(SETUP_TIMEOUT);
    assert_eq!(one(&desk.sent()[9..]).2.kind, 2502);
    desk.pass(SECOND);
    // It has thawed, and answers each conclusion that it was sent meanwhile.
    for _ in 0..2 {
        let sent = desk.origin(leg, &passed_on.accepted(9).bytes());
        assert!(sent.len() == 1 && sent[0].by == leg && is_goodbye(&sent[0], 9), "{sent:?}");
        assert_eq!(desk.origin(leg, &data(7, 0, 0)), [], "its caller was told no");
    }
    desk.pass(LINGER);
    assert_eq!((desk.hub().sessions(), desk.legs(), desk.deadline()), (0, 0, None));
    assert_eq!(desk.hub().drops().total(), 0);
}

#[test]
fn what_is_lost_on_the_way_to_the_origin_is_sent_again() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    let leg = desk.route(origin());
    let (_, _, first) = one(&desk.sent());
    for n in 1..4u32 {
        desk.pass(RETRY);
        let (_, _, again) = one(&desk.sent());
        assert_eq!(again, Handshake { timestamp: n * 250_000, ..first.clone() });
    }
    let first = desk.welcome(leg);
    for n in 1..3 {
        desk.pass(RETRY);
        let (by, _, again) = one(&desk.sent());
        assert_eq!(
            (by, again),
            (leg, Handshake { timestamp: first.timestamp + n * 250_000, ..first.clone() })
        );
    }
    desk.origin(leg, &first.accepted(9).bytes());
    desk.pass(SECOND);
    assert_eq!(desk.sent(), []);
}

#[test]
fn without_the_right_cookie_nothing_happens() {
    let mut desk = desk();
    let right = desk.cookie(client(1), 7);
    for (from, cookie) in [(client(1), right ^ 1), (client(1), 0), (client(2), right)] {
        let conclusion = Handshake::conclusion(7, cookie, ID.as_bytes());
        assert_eq!(desk.client(from, &conclusion.bytes()), []);
    }
    assert_eq!((desk.dropped(DropReason::WrongCookie), desk.asked, desk.hub().sessions()), (3, 0, 0));
    // It is good for a while, and then no more.
    desk.pass(29 * SECOND);
    let conclusion = Handshake::conclusion(7, right, b"#!::m=publish");
    assert_eq!(one(&desk.client(client(1), &conclusion.bytes())).2.kind, 2400);
    desk.pass(31 * SECOND);
    assert_eq!(desk.client(client(1), &conclusion.bytes()), []);
}

#[test]
fn who_names_no_stream_is_told_so_and_forgotten() {
    let mut desk = desk();
    for (id, code) in [
        (&b""[..], 2400),
        (b"#!::m=publish", 2400),
        (b"#!{r=live/cam}", 2400),
        (b"steal:live/cam", 2400),
        (b"live/\xff\xfe", 2400),
        (b"#!::r=live/cam,m=nonsense", 2405),
        (&[b'a'; 516], 2400),
    ] {
        assert_eq!(told(&mut desk, client(1), 7, id), code, "{}", String::from_utf8_lossy(id));
    }
    let cookie = desk.cookie(client(1), 7);
    let good = Handshake::conclusion(7, cookie, ID.as_bytes());
    let none = Handshake { extensions: Vec::new(), ..good.clone() };
    let old = Handshake { version: 4, ..good.clone() };
    let mut cut = good.clone();
    cut.extensions.pop();
    for (conclusion, code) in [(none, 2400), (old, 1008), (cut, 1004)] {
        assert_eq!(one(&desk.client(client(1), &conclusion.bytes())).2.kind, code);
    }
    assert_eq!((desk.hub().sessions(), desk.asked, desk.deadline()), (0, 0, None));
    assert!(desk.notes.iter().all(|note| matches!(note, Note::Refused { fault: Fault::Client(_), .. })));
}

#[test]
fn a_load_balancer_that_says_no_or_nothing_or_nonsense_is_told_of() {
    for (answer, code, why) in [
        (Some(Answer::Refused(Refusal::NoOrigin)), 2503, "no origin"),
        (Some(Answer::Refused(Refusal::Unavailable)), 2503, "unavailable"),
        (Some(Answer::Refused(Refusal::Full)), 2402, "full"),
        (Some(Answer::Registered), 2503, "answers another question"),
        (None, 2503, "does not answer"),
    ] {
        let mut desk = desk();
        let conclusion = call(&mut desk, client(1), 7, ID);
        match answer {
            Some(answer) => desk.answer(answer),
            None => desk.pass(SETUP_TIMEOUT),
        }
        let (_, to, rejection) = one(&desk.sent());
        assert_eq!((to, rejection.to, rejection.kind), (Some(client(1)), 7, code));
        assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
        let [Note::Refused { key: Some(key), fault }] = &desk.notes[..] else { panic!("{:?}", desk.notes) };
        assert_eq!((key.as_str(), *fault), (KEY, Fault::Balancer(why)));
        // A caller that did not hear it asks again, and hears the same.
        assert_eq!(one(&desk.client(client(1), &conclusion.bytes())).2, rejection);
        desk.pass(LINGER);
        assert_eq!((desk.asked, desk.deadline()), (1, None), "nothing is left");
        // An answer that comes now is for nobody.
        desk.answer(picked());
        assert_eq!((desk.sent(), desk.legs()), (vec![], 0));
    }
}

#[test]
fn the_origins_rejection_reaches_its_caller() {
    // The last is an application's own.
    for (before, code) in [(true, 1010), (false, 1010), (false, 4404)] {
        let mut desk = desk();
        let conclusion = call(&mut desk, client(1), 7, ID);
        let leg = desk.route(origin());
        desk.sent();
        let asked = if before { Handshake::induction(7) } else { desk.welcome(leg) };
        let refused = asked.refused(code);
        let (_, to, told) = one(&desk.origin(leg, &refused.bytes()));
        let expected = Handshake { peer: peer(198, 51, 100, 7), ..refused };
        assert_eq!((to, &told), (Some(client(1)), &expected));
        assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
        assert_eq!(one(&desk.client(client(1), &conclusion.bytes())).2, told);
        assert_eq!(desk.asked, 1);
    }
}

#[test]
fn an_origin_that_is_not_there_is_told_of_and_another_tried() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    for n in 0..3 {
        let origin = OriginId::new("origin", "0", &n.to_string());
        desk.answer(Answer::Picked(Picked { origin: origin.clone(), to: ([10, 0, 0, n], 10080).into() }));
        match n {
            0 => desk.open_failed(OpenError::Unreachable),
            _ => {
                let leg = desk.opened().unwrap();
                if n == 2 {
                    desk.sent();
                    desk.welcome(leg);
                }
                desk.eof(leg);
            }
        }
        assert_eq!(desk.told.last(), Some(&Report::Unreachable(origin, Protocol::Srt)));
        desk.pass(100 * MS);
    }
    let told = desk.sent();
    let rejection = Handshake::read(&told.last().unwrap().bytes).unwrap();
    assert_eq!((rejection.to, rejection.kind, desk.asked, desk.legs()), (7, 2502, 3, 0));
}

#[test]
fn the_same_origin_is_not_tried_twice() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    desk.answer(picked());
    desk.open_failed(OpenError::Unreachable);
    desk.answer(picked());
    assert_eq!(one(&desk.sent()).2.kind, 2502);
    assert_eq!((desk.asked, desk.told.len(), desk.hub().sessions()), (2, 1, 0));
}

#[test]
fn without_a_socket_of_ours_no_origin_is_blamed() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    desk.answer(picked());
    desk.open_failed(OpenError::Exhausted);
    assert_eq!(one(&desk.sent()).2.kind, 2402);
    assert_eq!((desk.told.len(), desk.asked, desk.hub().sessions()), (0, 1, 0));
}

#[test]
fn a_silent_origin_holds_up_its_own_callers_only_and_they_are_told() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    let frozen = desk.route(origin());
    desk.sent();
    let (leg, id) = desk.establish(client(2), 8, "live/other", ([10, 0, 0, 2], 10080).into(), 9);
    assert_eq!(desk.client(client(2), &data(id, 0, 0)), to_origin(leg, &data(id, 0, 0)));
    desk.pass(SETUP_TIMEOUT - MS);
    assert!(desk.sent().iter().all(|sent| sent.by == frozen));
    desk.pass(MS);
    let (_, to, rejection) = one(&desk.sent());
    assert_eq!((to, rejection.kind), (Some(client(1)), 2502));
    assert_eq!(desk.told.last(), Some(&Report::Unreachable(name(), Protocol::Srt)));
    assert_eq!((desk.hub().sessions(), desk.legs()), (1, 1));
    // One that did say something is slow, but there.
    call(&mut desk, client(1), 9, ID);
    let leg = desk.route(origin());
    desk.sent();
    desk.welcome(leg);
    let told = desk.told.len();
    desk.pass(SETUP_TIMEOUT);
    assert_eq!(one(&desk.sent()[9..]).2.kind, 2502);
    assert_eq!(desk.told.len(), told);
}

#[test]
fn an_origin_that_ends_it_before_its_yes_has_arrived_has_said_no() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    let leg = desk.route(origin());
    desk.sent();
    desk.welcome(leg);
    assert_eq!(desk.origin(leg, &data(7, 0, 0)), to_client(client(1), &data(7, 0, 0)), "it overtakes");
    assert_eq!(one(&desk.origin(leg, &shutdown(7))).2.kind, 1002);
    assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
}

#[test]
fn one_address_has_many_connections_and_origins_may_choose_the_same_ids() {
    let mut desk = desk();
    let other = ([10, 0, 0, 2], 10080).into();
    let (a, id_a) = desk.establish(client(1), 7, "live/a", origin(), 9);
    let (b, id_b) = desk.establish(client(1), 8, "live/b", other, 9);
    let (c, id_c) = desk.establish(client(1), 6, "live/c", other, 10);
    let (d, id_d) = desk.establish(client(2), 7, "live/d", other, 9);
    assert_eq!((id_a, id_c, id_d), (9, 10, 9));
    assert!(![0, 9, 10].contains(&id_b), "it is another's");
    // The answer that is told again says the same.
    let cookie = desk.cookie(client(1), 8);
    let (_, _, again) = one(&desk.client(client(1), &Handshake::conclusion(8, cookie, b"live/b").bytes()));
    assert_eq!(again.from, id_b);
    for (from, leg, id, theirs, own) in [
        (client(1), a, id_a, 9, 7),
        (client(1), b, id_b, 9, 8),
        (client(1), c, id_c, 10, 6),
        (client(2), d, id_d, 9, 7),
    ] {
        assert_eq!(desk.client(from, &data(id, 1, 2)), to_origin(leg, &data(theirs, 1, 2)));
        assert_eq!(desk.origin(leg, &data(own, 1, 2)), to_client(from, &data(own, 1, 2)));
    }
    // And its end is nobody else's.
    assert_eq!(desk.client(client(1), &shutdown(id_b)), to_origin(b, &shutdown(9)));
    assert_eq!(desk.client(client(1), &data(id_a, 1, 2)), to_origin(a, &data(9, 1, 2)));
    assert_eq!(desk.client(client(1), &data(id_b, 1, 2)), []);
}

#[test]
fn a_shutdown_of_either_side_is_passed_on_and_ends_the_session() {
    for by_client in [true, false] {
        let mut desk = desk();
        let (leg, id) = desk.establish(client(1), 7, ID, origin(), 9);
        if by_client {
            assert_eq!(desk.client(client(1), &shutdown(id)), to_origin(leg, &shutdown(9)));
        } else {
            assert_eq!(desk.origin(leg, &shutdown(7)), to_client(client(1), &shutdown(7)));
        }
        assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
        assert_eq!(said_at_the_end(&desk), (Some(client(1)), None));
        assert_eq!(desk.client(client(1), &data(id, 0, 0)), []);
        // The next connection from there is another.
        desk.establish(client(1), 6, ID, origin(), 9);
        desk.pass(LINGER);
        assert_eq!(desk.hub().sessions(), 1);
    }
}

#[test]
fn a_session_ends_when_its_client_or_its_origin_has_been_silent_and_the_other_hears_of_it() {
    for client_talks in [true, false] {
        let mut desk = desk();
        let (leg, id) = desk.establish(client(1), 7, ID, origin(), 9);
        for _ in 0..9 {
            desk.pass(SECOND);
            match client_talks {
                true => desk.client(client(1), &keep_alive(id)),
                false => desk.origin(leg, &keep_alive(7)),
            };
        }
        assert_eq!(desk.hub().sessions(), 1);
        desk.pass(SECOND);
        let sent = desk.sent();
        let [theirs, own] = &sent[..] else { panic!("{sent:?}") };
        assert!(theirs.by == leg && is_goodbye(theirs, 9), "{sent:?}");
        assert!(own.to == Some(client(1)) && is_goodbye(own, 7), "{sent:?}");
        assert_eq!((desk.hub().sessions(), desk.legs()), (0, 0));
        let silent = if client_talks { Fault::Origin } else { Fault::Client };
        assert_eq!(said_at_the_end(&desk), (Some(client(1)), Some(silent("silent for too long"))));
        desk.pass(LINGER);
        assert_eq!(desk.deadline(), None);
    }
}

#[test]
fn what_icmp_says_ends_no_live_session() {
    let mut desk = desk();
    let (leg, id) = desk.establish(client(1), 7, ID, origin(), 9);
    desk.eof(leg);
    assert_eq!(desk.client(client(1), &data(id, 0, 0)), to_origin(leg, &data(9, 0, 0)));
}

#[test]
fn the_load_balancer_hears_that_a_stream_is_in_use_as_long_as_it_is() {
    for (id, is_play) in [(ID, false), ("live/cam", true), ("#!::r=live/cam,m=bidirectional", false)] {
        let mut desk = desk();
        let (leg, socket) = desk.establish(client(1), 7, id, origin(), 9);
        for _ in 0..100 {
            desk.pass(SECOND);
            desk.client(client(1), &keep_alive(socket));
            desk.origin(leg, &keep_alive(7));
        }
        let expected = if is_play { 6 } else { 5 };
        assert_eq!(
            desk.told.len(),
            expected,
            "a player at once, a publisher after {PROOF:?}; then each {USE_INTERVAL:?}"
        );
        let is_right = |report: &Report| match report {
            Report::Playing(key) => is_play && key.as_str() == KEY,
            Report::Publishing(key, origin) => !is_play && key.as_str() == KEY && *origin == name(),
            _ => false,
        };
        assert!(desk.told.iter().all(is_right), "{:?}", desk.told);
        desk.told.clear();
        desk.client(client(1), &shutdown(socket));
        let ended = Report::Ended(StreamKey::new("", "live", "cam").unwrap(), name());
        assert_eq!(desk.told, if is_play { vec![] } else { vec![ended] });
    }
}

#[test]
fn who_is_turned_out_after_the_handshake_has_published_nothing() {
    let mut desk = desk();
    let (leg, _) = desk.establish(client(1), 7, ID, origin(), 9);
    desk.pass(SECOND);
    desk.origin(leg, &shutdown(7));
    desk.pass(PROOF);
    assert_eq!(desk.told, [], "nor has anything ended: it may be another's stream");
}

#[test]
fn junk_guesses_and_what_is_cut_are_dropped_and_counted() {
    let mut desk = desk();
    let (leg, id) = desk.establish(client(1), 7, ID, origin(), 9);
    let conclusion = Handshake::conclusion(7, 1, ID.as_bytes()).bytes();
    for end in 0..64 {
        assert_eq!(desk.client(client(3), &conclusion[..end]), []);
    }
    assert_eq!(desk.dropped(DropReason::NotSrt), 16);
    assert_eq!(desk.dropped(DropReason::BadHandshake), 48);
    for (from, to) in [(client(2), id), (client(1), id + 1), (client(1), 0)] {
        assert_eq!(desk.client(from, &data(to, 0, 0)), []);
        assert_eq!(desk.client(from, &shutdown(to)), []);
    }
    assert_eq!(desk.dropped(DropReason::Stranger), 6);
    let induction = Handshake::induction(7);
    for bad in [
        Handshake { from: 0, ..induction.clone() },
        Handshake { version: 3, ..induction.clone() },
        Handshake { kind: 0, ..induction.clone() },
        Handshake { kind: 1400, ..induction.clone() },
        Handshake { extensions: vec![0; 1500], ..induction },
    ] {
        assert_eq!(desk.client(client(2), &bad.bytes()), []);
    }
    assert_eq!(desk.dropped(DropReason::BadHandshake), 53);
    assert_eq!(desk.origin(leg, &[0; 15]), []);
    assert_eq!(desk.dropped(DropReason::BadOrigin), 1);
    assert_eq!((desk.hub().sessions(), desk.asked), (1, 1));
}

#[test]
fn an_origin_that_speaks_nonsense_gives_no_connection() {
    let mut desk = desk();
    call(&mut desk, client(1), 7, ID);
    let leg = desk.route(origin());
    desk.sent();
    let induction = Handshake::induction(7);
    let accepted = Handshake::conclusion(7, 0, b"").accepted(9);
    for bad in [accepted.bytes(), data(7, 0, 0), shutdown(7), vec![0; 3], induction.bytes()[..63].to_vec()] {
        assert_eq!(desk.origin(leg, &bad), [], "{bad:?}");
    }
    assert_eq!(desk.dropped(DropReason::BadOrigin), 5);
    assert_eq!(one(&desk.origin(leg, &Handshake { field: 2, ..induction.welcome(5) }.bytes())).2.kind, 2502);
    // And one that says yes, but not who it is.
    call(&mut desk, client(1), 8, ID);
    let leg = desk.route(origin());
    desk.sent();
    let conclusion = desk.welcome(leg);
    assert_eq!(conclusion.kind, CONCLUSION);
    assert_eq!(desk.origin(leg, &conclusion.accepted(0).bytes()), []);
    assert_eq!(desk.dropped(DropReason::BadOrigin), 6);
}

#[test]
fn sessions_and_lookups_are_limited_in_all_and_of_one_network() {
    let limits = Limits {
        max_sessions: 5,
        max_sessions_per_network: 3,
        lookups_per_second: 7,
        lookups_per_network: 4,
        ..Limits::new(IDLE)
    };
    let mut desk = Desk::new(1, limits);
    for socket in 1..4 {
        call(&mut desk, client(1), socket, ID);
    }
    assert_eq!(told(&mut desk, client(1), 4, ID.as_bytes()), 2402);
    assert_eq!(desk.dropped(DropReason::TooManyOfOne), 1);
    let elsewhere = ([203, 0, 113, 1], 5000).into();
    for socket in 1..3 {
        call(&mut desk, elsewhere, socket, ID);
    }
    assert_eq!(told(&mut desk, elsewhere, 3, ID.as_bytes()), 2402);
    assert_eq!(desk.dropped(DropReason::TooManySessions), 1);
    // Who comes too often is not heard for the rest of the second.
    let mut desk = Desk::new(1, Limits { max_sessions: 100, max_sessions_per_network: 100, ..limits });
    for socket in 1..10 {
        call(&mut desk, client(1), socket, ID);
    }
    assert_eq!((desk.asked, desk.dropped(DropReason::TooManyLookups)), (4, 5));
    desk.pass(SECOND);
    call(&mut desk, client(1), 9, ID);
    assert_eq!(desk.asked, 5);
}

#[test]
fn callers_of_a_silent_origin_take_nobody_elses_place() {
    let mut desk = desk();
    for round in 0..60_u32 {
        // 900 a second, of three networks, whose origin is frozen: 2,250 wait at a time.
        for n in 0..90 {
            let number = round * 90 + n;
            let from = SocketAddr::from(([203, 0, 113, (n % 3) as u8], 5000));
            call(&mut desk, from, number + 1, ID);
            desk.route(origin());
            desk.sent();
        }
        desk.establish(client(1), round + 1, "live/other", ([10, 0, 0, 2], 10080).into(), round + 1);
        desk.pass(100 * MS);
        desk.sent();
    }
    assert_eq!(
        (desk.hub().sessions(), desk.hub().drops().total()),
        (60 + 24 * 90, 0),
        "all that were not told no"
    );
}

#[test]
fn a_drain_lets_sessions_go_on_and_begins_none() {
    let mut desk = desk();
    let (leg, id) = desk.establish(client(1), 7, ID, origin(), 9);
    desk.drain();
    assert_eq!(desk.hub().sessions(), 1);
    assert_eq!(told(&mut desk, client(1), 8, ID.as_bytes()), 1007);
    assert_eq!(desk.client(client(1), &data(id, 0, 0)), to_origin(leg, &data(9, 0, 0)));
    desk.client(client(1), &shutdown(id));
    assert_eq!(desk.hub().sessions(), 0);
}

#[test]
fn whoever_is_there_is_told_that_the_process_ends() {
    let mut desk = desk();
    let (leg, id) = desk.establish(client(1), 7, ID, origin(), 9);
    call(&mut desk, client(2), 8, ID);
    desk.sent();
    desk.stop();
    let sent = desk.sent();
    assert_eq!(id, 9);
    let both = [to_origin(leg, &shutdown(9)), to_client(client(1), &shutdown(7))].concat();
    assert_eq!(sent[..2], both);
    let (_, to, told) = one(&sent[2..]);
    assert_eq!((to, told.to, told.kind), (Some(client(2)), 8, 1007), "who waits, too");
    assert!(matches!(desk.notes.last(), Some(Note::Refused { fault: Fault::STOP, .. })), "{:?}", desk.notes);
    desk.notes.pop();
    assert_eq!(said_at_the_end(&desk), (Some(client(1)), Some(Fault::STOP)));
}

#[test]
fn addresses_are_written_in_their_own_family() {
    let mut desk = desk();
    let caller: SocketAddr = "[2001:db8::7]:5000".parse().unwrap();
    let (_, _, answer) = one(&desk.client(caller, &Handshake::induction(7).bytes()));
    assert_eq!(answer.peer, [0xb8, 0x0d, 0x01, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
    call(&mut desk, caller, 7, ID);
    let leg = desk.route(origin());
    assert_eq!(one(&desk.sent()).2.peer, peer(10, 0, 0, 1));
    assert_eq!(desk.welcome(leg).peer, peer(10, 0, 0, 1));
}
