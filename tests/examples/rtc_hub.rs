//! Measures what a datagram costs a WebRTC hub, with few sessions and with many:
//! `cargo run --release -p srs-proxy-tests --example rtc_hub`.

use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Actions, Cx, Input, Leg, Machine};
use srs_proxy_core::rtc::RtcHub;
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::sim::Dice;
use srs_proxy_tests::sim::rtc::{Desk, check, media, session};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

/// Datagrams of one round.
const ROUND: usize = 1_000_000;

fn client(n: usize) -> SocketAddr {
    let [a, b, c, d] = (0x0a00_0000 + n as u32).to_be_bytes();
    ([a, b, c, d], 50_000).into()
}

fn main() {
    let origin = ([10, 0, 0, 1], 8000).into();
    for sessions in [10, 100, 1000, 10_000] {
        // Everybody is live for long enough that nothing else happens.
        let limits = Limits::new(Duration::from_secs(3600));
        let mut desk = Desk::new(1, limits);
        let mut flows = Vec::new();
        for n in 0..sessions {
            // No faster than names may be looked up.
            desk.pass(Duration::from_millis(2));
            let name = format!("s{n:08}:c{n:09}");
            let leg = desk.establish(client(n), &session(&name), origin);
            flows.push((client(n), leg, check([7; 12], &name, 0)));
        }
        let now = desk.now();
        let mut hub = desk.into_hub();
        // Datagrams come in no order that the tables know.
        let order: Vec<_> = (0..ROUND).map(|n| n.wrapping_mul(0x9E37_79B9) % sessions).collect();
        let packet = [&media(0, 0)[..], &[0; 1200]].concat();
        let up = |n: usize| Input::Datagram { leg: Leg::CLIENT, from: flows[n].0, bytes: &packet };
        let down = |n: usize| Input::Datagram { leg: flows[n].1, from: origin, bytes: &packet };
        let checks = |n: usize| Input::Datagram { leg: Leg::CLIENT, from: flows[n].0, bytes: &flows[n].2 };
        let strangers = |n| Input::Datagram { leg: Leg::CLIENT, from: client(n + sessions), bytes: &packet };
        let rounds = [
            ("from a client", round(&mut hub, now, &order, up)),
            ("from an origin", round(&mut hub, now, &order, down)),
            ("a check", round(&mut hub, now, &order, checks)),
            ("a stranger's", round(&mut hub, now, &order, strangers)),
        ];
        let rounds = rounds.map(|(what, nanos)| format!("{what} {nanos} ns"));
        println!("{sessions:>6} sessions: {}", rounds.join(", "));
    }
}

/// Nanoseconds per datagram.
fn round<'a>(hub: &mut RtcHub, now: Time, order: &[usize], input: impl Fn(usize) -> Input<'a>) -> u128 {
    let (mut actions, mut dice) = (Actions::new(), Dice::new(1));
    let start = Instant::now();
    for &n in order {
        let mut cx = Cx { now, rng: dice.rng(), actions: &mut actions };
        let _ = black_box(hub.handle(&mut cx, input(n)));
        actions.drain().for_each(|action| drop(black_box(action)));
    }
    start.elapsed().as_nanos() / order.len() as u128
}
