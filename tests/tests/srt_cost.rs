//! What a packet costs an SRT hub in memory: nothing, with few sessions and with many. This binary has an allocator that
//! counts, so nothing else is tested here.

use allocation_counter::measure;
use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::Leg;
use srs_proxy_core::time::Duration;
use srs_proxy_tests::sim::hub::Bare;
use srs_proxy_tests::sim::srt::Desk;
use srs_proxy_tests::srt::wire::{data, keep_alive};
use std::net::SocketAddr;

fn client(n: usize) -> SocketAddr {
    ([10, 0, 0, 0], 5000 + n as u16).into()
}

/// Actions and allocations of everything that a session's client and origin send, in all sessions.
fn cost(sessions: usize) -> (usize, u64) {
    let origin = ([10, 0, 0, 1], 10080).into();
    let idle = Duration::from_secs(60);
    let mut desk = Desk::new(1, Limits::new(idle));
    let legs: Vec<Leg> = (0..sessions)
        .map(|n| {
            desk.pass(Duration::from_millis(2));
            desk.establish(client(n / 2), n as u32 + 1, "live/cam", origin, n as u32 + 1).0
        })
        .collect();
    let mut hub = Bare::new(desk);
    let mut feed = |leg, from, bytes: &[u8]| hub.feed(leg, from, bytes);
    let packets = |n: usize| {
        let to = n as u32 + 1;
        [data(to, 0, 0), keep_alive(to), [&data(to, 1, 0)[..], &[0; 1312]].concat()]
    };
    let packets: Vec<_> = (0..sessions).map(packets).collect();
    feed(Leg::CLIENT, client(0), &packets[0][0]);
    let mut forwarded = 0;
    let measured = measure(|| {
        for n in 0..sessions {
            for packet in &packets[n] {
                forwarded += feed(Leg::CLIENT, client(n / 2), packet) + feed(legs[n], origin, packet);
                // Who has no connection costs nothing either.
                forwarded += feed(Leg::CLIENT, client(n / 2 + sessions), packet);
            }
        }
    });
    (forwarded, measured.count_total)
}

#[test]
fn no_packet_of_a_session_is_copied_or_makes_the_hub_allocate() {
    for sessions in [10, 1000, 8000] {
        assert_eq!(cost(sessions), (6 * sessions, 0));
    }
}
