//! Measures what a pick costs: `cargo run --release -p srs-proxy-lb --example pick`.

use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::origin::{Origin, Protocol};
use srs_proxy_core::query::Need;
use srs_proxy_core::time::Time;
use srs_proxy_lb::{Asker, Mailbox, Memory, Notify, OriginService, Outcome, ReplyTo, Setup};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

struct Nobody;

impl Notify for Nobody {
    fn notify(&self) {}
}

fn main() {
    for (origins, streams) in [(3, 1_000), (3, 100_000), (1_000, 100_000), (1_000, 250_000)] {
        let memory = Memory::new(&Setup::default());
        let mailbox = Arc::new(Mailbox::new(Box::new(Nobody)));
        let asker = Asker { now: Time::ZERO, mailbox, reply_to: ReplyTo { session: 0, ticket: Ticket(0) } };
        for n in 0..origins {
            let origin = Origin {
                device_id: "".into(),
                server: n.to_string().into(),
                service: "s".into(),
                pid: "1".into(),
                endpoints: vec![(Protocol::Rtmp, ([127, 0, 0, 1], 1935).into())],
            };
            assert_eq!(memory.update(&asker, origin), Outcome::Now(()));
        }
        // Picks come in no order that the tables know.
        let keys: Vec<_> = (0..streams)
            .map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % streams)
            .filter_map(|n| StreamKey::new("live.example.com", "live", &format!("stream-{n}")).ok())
            .collect();
        let pass = || {
            let start = Instant::now();
            for key in &keys {
                black_box(memory.pick(&asker, key, Need::to_play(Protocol::Rtmp)));
            }
            start.elapsed().as_nanos() / keys.len() as u128
        };
        let claim = pass();
        let mut rounds: Vec<_> = (0..9).map(|_| pass()).collect();
        rounds.sort_unstable();
        println!(
            "{origins:>5} origins, {streams:>6} streams: known {} ns (best {}, worst {}), new {claim} ns on average",
            rounds[4], rounds[0], rounds[8]
        );
    }
}
