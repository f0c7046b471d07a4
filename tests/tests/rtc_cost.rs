//! What a datagram costs a WebRTC hub in memory: nothing, with few sessions and with many. This binary has an allocator
//! that counts, so nothing else is tested here.

use allocation_counter::measure;
use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::Leg;
use srs_proxy_core::rtc::IDLE;
use srs_proxy_core::time::Duration;
use srs_proxy_tests::sim::hub::Bare;
use srs_proxy_tests::sim::rtc::{Desk, check, dtls, media, session, success};
use std::net::SocketAddr;

fn client(n: usize) -> SocketAddr {
    ([10, 0, 0, 0], 5000 + n as u16).into()
}

/// Actions and allocations of everything that a session's client and origin send, in all sessions.
fn cost(sessions: usize) -> (usize, u64) {
    let origin = ([10, 0, 0, 1], 8000).into();
    let mut desk = Desk::new(1, Limits { max_sessions_per_network: sessions, ..Limits::new(IDLE) });
    let legs: Vec<Leg> = (0..sessions)
        .map(|n| {
            desk.pass(Duration::from_millis(2));
            desk.establish(client(n), &session(&format!("s{n}:c{n}")), origin)
        })
        .collect();
    let mut hub = Bare::new(desk);
    let mut feed = |leg, from, bytes: &[u8]| hub.feed(leg, from, bytes);
    let packets = [media(0, 0), dtls(0, 0), [&media(0, 0)[..], &[0; 1200]].concat()];
    let checks: Vec<_> = (0..sessions).map(|n| check([n as u8; 12], &format!("s{n}:c{n}"), 0)).collect();
    let granted: Vec<_> = (0..sessions).map(|n| success([n as u8; 12])).collect();
    // A session's first checks make room for those to come.
    for (n, check) in checks.iter().enumerate() {
        feed(Leg::CLIENT, client(n), check);
    }
    let mut forwarded = 0;
    let measured = measure(|| {
        for n in 0..sessions {
            for packet in &packets {
                forwarded += feed(Leg::CLIENT, client(n), packet) + feed(legs[n], origin, packet);
            }
            forwarded += feed(Leg::CLIENT, client(n), &checks[n]) + feed(legs[n], origin, &granted[n]);
            // Who has no session costs nothing either.
            forwarded += feed(Leg::CLIENT, client(n + sessions), &packets[0]);
        }
    });
    (forwarded, measured.count_total)
}

#[test]
fn no_datagram_of_a_session_is_copied_or_makes_the_hub_allocate() {
    for sessions in [10, 1000, 10_000] {
        assert_eq!(cost(sessions), (8 * sessions, 0));
    }
}
