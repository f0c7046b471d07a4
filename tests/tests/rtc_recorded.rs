//! WebRTC sessions of real clients with a real server, recorded, through the hub: every datagram goes on, untouched, to
//! whom it went without a proxy.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Leg, Machine};
use srs_proxy_core::rtc::IDLE;
use srs_proxy_core::time::Duration;
use srs_proxy_tests::sim::rtc::wire::{self, REQUEST};
use srs_proxy_tests::sim::rtc::{Desk, session};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const RECORDED: [(&str, &[u8]); 5] = [
    ("whip-chromium", include_bytes!("../fixtures/rtc/whip-chromium")),
    ("whep-chromium", include_bytes!("../fixtures/rtc/whep-chromium")),
    ("whip-pion", include_bytes!("../fixtures/rtc/whip-pion")),
    ("whep-pion", include_bytes!("../fixtures/rtc/whep-pion")),
    ("whep-aiortc", include_bytes!("../fixtures/rtc/whep-aiortc")),
];

struct Datagram<'a> {
    from_client: bool,
    client: SocketAddr,
    bytes: &'a [u8],
}

fn datagrams(mut recorded: &[u8]) -> Vec<Datagram<'_>> {
    let mut datagrams = Vec::new();
    while let [direction, client, high, low, rest @ ..] = recorded {
        let (bytes, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        let client = ([10, 0, 0, *client], 5000).into();
        datagrams.push(Datagram { from_client: *direction == 0, client, bytes });
        recorded = rest;
    }
    datagrams
}

#[test]
fn recorded_sessions_pass_untouched() {
    for (recording, recorded) in RECORDED {
        let mut desk = Desk::new(1, Limits::new(IDLE));
        let mut legs = BTreeMap::<String, Leg>::new();
        let mut names = BTreeMap::<SocketAddr, String>::new();
        let (mut to_origin, mut to_client) = (0, 0);
        for (number, Datagram { from_client, client, bytes }) in datagrams(recorded).into_iter().enumerate() {
            let what = format!("datagram {number} of {recording}");
            desk.pass(Duration::from_millis(5));
            let stun = wire::read(bytes);
            if from_client {
                let name = stun.filter(|stun| stun.kind == REQUEST).and_then(|check| check.username);
                if let Some(name) = name {
                    names.insert(client, String::from_utf8(name).expect("a name"));
                }
                let name = &names[&client];
                let mut sent = desk.client(client, bytes);
                let leg = *legs.entry(name.clone()).or_insert_with(|| {
                    let leg = desk.route(&session(name), ([10, 1, 0, 1], 8000).into());
                    sent = desk.sent();
                    leg
                });
                let [sent] = &sent[..] else { panic!("{what}: {sent:?}") };
                assert_eq!((sent.by, &sent.bytes[..]), (leg, bytes), "{what}");
                to_origin += 1;
            } else {
                let sent = desk.origin(legs[&names[&client]], bytes);
                let [sent] = &sent[..] else { panic!("{what}: {sent:?}") };
                let to = sent.to.expect("an address");
                assert_eq!((sent.by, &sent.bytes[..]), (Leg::CLIENT, bytes), "{what}");
                if stun.is_some() {
                    assert_eq!(to, client, "{what}: an answer goes to who asked");
                }
                assert_eq!(names[&to], names[&client], "{what}");
                to_client += 1;
            }
        }
        assert_eq!(desk.hub().drops().total(), 0, "{recording}: {:?}", desk.hub().drops());
        assert!(to_origin >= 10 && to_client >= 10, "{recording}: {to_origin}, {to_client}");
        assert_eq!((desk.hub().sessions(), desk.asked), (legs.len(), 2 * legs.len()));
    }
}
