//! SRT sessions of real callers with a real server, recorded, through the hub: every packet goes on, to the byte, to whom it
//! went without a proxy. Only the cookie of the caller's conclusion is the hub's until it is there.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Leg, Machine};
use srs_proxy_core::srt::IDLE;
use srs_proxy_tests::sim::srt::{Desk, Sent};
use srs_proxy_tests::srt::wire::{CONCLUSION, Handshake, INDUCTION};
use std::net::SocketAddr;

const RECORDED: [(&str, &[u8], usize); 5] = [
    ("publish-ffmpeg", include_bytes!("../fixtures/srt/publish-ffmpeg"), 1),
    ("play-ffmpeg", include_bytes!("../fixtures/srt/play-ffmpeg"), 1),
    ("play-live-transmit", include_bytes!("../fixtures/srt/play-live-transmit"), 1),
    ("publish-passphrase", include_bytes!("../fixtures/srt/publish-passphrase"), 1),
    ("publish-wrong-passphrase", include_bytes!("../fixtures/srt/publish-wrong-passphrase"), 0),
];

/// Here the stream id's mode is nonsense, which the server found out only when it had agreed.
const NONSENSE: &[u8] = include_bytes!("../fixtures/srt/refused-after-handshake");

fn client() -> SocketAddr {
    ([127, 0, 0, 1], 5000).into()
}

fn origin() -> SocketAddr {
    ([127, 0, 0, 1], 10080).into()
}

/// From whom, and what.
fn packets(mut recorded: &[u8]) -> Vec<(bool, &[u8])> {
    let mut packets = Vec::new();
    while let [direction, high, low, rest @ ..] = recorded {
        let (bytes, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        packets.push((*direction == 0, bytes));
        recorded = rest;
    }
    packets
}

fn without_time(bytes: &[u8]) -> Vec<u8> {
    [&bytes[..8], &[0; 4], &bytes[12..]].concat()
}

#[test]
fn recorded_sessions_pass_to_the_byte() {
    for (recording, recorded, live) in RECORDED {
        let mut desk = Desk::new(1, Limits::new(IDLE));
        let (mut cookie, mut leg, mut passed, mut ended) = (0, Leg::CLIENT, 0, 0);
        for (number, (by_client, bytes)) in packets(recorded).into_iter().enumerate() {
            let what = format!("packet {number} of {recording}");
            let handshake = Handshake::read(bytes);
            ended += usize::from(bytes[..2] == [0x80, 5]);
            let (sent, expected) = match handshake.map(|handshake| (by_client, handshake.kind, handshake)) {
                Some((true, INDUCTION, induction)) => {
                    cookie = desk.cookie(client(), induction.from);
                    continue;
                }
                Some((false, INDUCTION, _)) => (desk.origin(leg, bytes), None),
                Some((true, CONCLUSION, conclusion)) => {
                    assert_eq!(
                        desk.client(client(), &Handshake { cookie, ..conclusion }.bytes()),
                        [],
                        "{what}"
                    );
                    leg = desk.route(origin());
                    // What it asks the origin first is, but for the time, what the caller asked the hub.
                    let [asked] = &desk.sent()[..] else { panic!("{what}") };
                    assert_eq!(without_time(&asked.bytes), without_time(packets(recorded)[0].1), "{what}");
                    // The origin's answer was recorded before.
                    let (_, answer) = packets(recorded)[1];
                    (desk.origin(leg, answer), Some((leg, None)))
                }
                Some((true, ..)) => panic!("{what}"),
                None if by_client => (desk.client(client(), bytes), Some((leg, None))),
                _ => (desk.origin(leg, bytes), Some((Leg::CLIENT, Some(client())))),
            };
            let expected = expected.map(|(by, to)| Sent { by, to, bytes: bytes.to_vec() });
            assert!(sent.iter().eq(expected.iter()), "{what}: {sent:?}");
            passed += sent.len();
        }
        let sessions = live - ended.min(live);
        assert_eq!((desk.hub().sessions(), desk.legs()), (sessions, sessions), "{recording}");
        assert_eq!(desk.hub().drops().total(), 0, "{recording}: {:?}", desk.hub().drops());
        assert!(passed >= 2 + 14 * live, "{recording}: {passed}");
    }
}

#[test]
fn a_recorded_caller_that_asks_for_nonsense_is_refused_at_once() {
    let mut desk = Desk::new(1, Limits::new(IDLE));
    let mut refused = 0;
    for (by_client, bytes) in packets(NONSENSE) {
        match Handshake::read(bytes) {
            Some(conclusion) if by_client && conclusion.kind == CONCLUSION => {
                let cookie = desk.cookie(client(), conclusion.from);
                let sent = desk.client(client(), &Handshake { cookie, ..conclusion.clone() }.bytes());
                let [Sent { by: Leg::CLIENT, bytes, .. }] = &sent[..] else { panic!("{sent:?}") };
                let rejection = Handshake::read(bytes).expect("a rejection");
                assert_eq!((rejection.kind, rejection.to), (2405, conclusion.from));
                refused += 1;
            }
            _ => {}
        }
    }
    assert_eq!((refused, desk.asked), (4, 0));
}
