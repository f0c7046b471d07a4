//! SRT packets written by hand. What no honest caller sends is dropped, costs nothing that lasts, and disturbs nobody.

use srs_proxy_tests::peers::ports::free_port;
use srs_proxy_tests::peers::proc::Usage;
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::srt::{SrtOrigin, playing, publishing};
use srs_proxy_tests::peers::srt_by_hand::{ask_cookie, receive, socket, socket_of};
use srs_proxy_tests::peers::srt_callers::{Caller, Callers};
use srs_proxy_tests::peers::{PATIENCE, wait_until};
use srs_proxy_tests::srt::wire::{Handshake, media, shutdown};
use std::net::{SocketAddr, UdpSocket};

/// How much larger a process may look that has done work but keeps nothing, KiB.
const MEMORY_SLACK: u64 = 4096;

/// Datagrams of a flood that are sent before the proxy is given time to read them: fewer than the socket holds that it
/// shares with the live session, of the size that kernels allow by default.
const BURST: usize = 100;

/// Socket ids of a caller that is played by hand.
const CALLER: u32 = 0x0BAD_CAFE;

/// A session that goes on while others misbehave.
struct Live {
    origin: SrtOrigin,
    proxy: Proxy,
    callers: Callers,
    before: Usage,
}

impl Live {
    #[track_caller]
    fn start() -> Self {
        let origin = SrtOrigin::start();
        let proxy = Proxy::before_srt(origin.addr(), &[]);
        let at = proxy.srt();
        let mut callers = Callers::start(&[
            Caller::publisher("p", at, publishing("live/x")),
            Caller::player("v", at, playing("live/x")),
        ]);
        callers.wait_flow(&["v"], 2);
        proxy.wait_quiet();
        let before = proxy.usage();
        Self { origin, proxy, callers, before }
    }

    /// A stranger's socket.
    #[track_caller]
    fn stranger(&self) -> UdpSocket {
        socket(self.proxy.srt())
    }

    /// Sends all of these, no faster than they are read.
    #[track_caller]
    fn flood(&self, from: &UdpSocket, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        for (n, datagram) in (1..).zip(datagrams) {
            from.send(&datagram).expect("it is sent");
            if n % BURST == 0 {
                self.proxy.wait_read(self.proxy.srt());
            }
        }
    }

    /// An answer to an honest question shows that all that was sent before is dealt with, whichever worker has it.
    #[track_caller]
    fn settle(&self) {
        for socket_id in 1..=16 {
            ask_cookie(&self.stranger(), socket_id);
        }
    }

    /// Checks that the session has gone on without a gap, that the proxy is as it was and has told of drops for these
    /// reasons, and that nobody else got to the origin.
    #[track_caller]
    fn assert_undisturbed(mut self, reasons: &[&str]) {
        self.settle();
        wait_until(&format!("the proxy tells of {reasons:?}"), PATIENCE, || {
            let log = self.proxy.log();
            reasons.iter().all(|reason| log.contains(reason))
        });
        self.callers.wait_flow(&["v"], 3);
        let after = self.proxy.usage();
        assert!(after.descriptors <= self.before.descriptors, "{after:?}");
        let grown = after.rss_kib.saturating_sub(self.before.rss_kib);
        assert!(grown < MEMORY_SLACK, "{:?} {after:?}", self.before);
        assert_eq!(self.origin.stream_ids().len(), 2);
        assert_eq!(self.origin.open(), 2);
        let ends = self.callers.leave();
        assert!(ends.len() == 2 && ends.iter().all(|end| end["gaps"] == 0), "{ends:?}");
    }
}

fn induction(socket_id: u32) -> Vec<u8> {
    Handshake::induction(socket_id).bytes()
}

fn conclusion(socket_id: u32, cookie: u32, stream_id: &str) -> Vec<u8> {
    Handshake::conclusion(socket_id, cookie, stream_id.as_bytes()).bytes()
}

/// A sequence of numbers that look random.
fn noise(seed: u32) -> impl Iterator<Item = u8> {
    (0_u32..).map(move |n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8)
}

#[test]
fn conclusions_with_wrong_cookies_open_nothing() {
    let live = Live::start();
    let stranger = live.stranger();
    let cookie = ask_cookie(&stranger, CALLER).cookie;
    let guesses = (1..2000).map(|n: u32| cookie ^ n.rotate_left(n % 32)).chain([0, 1, u32::MAX]);
    live.flood(&stranger, guesses.map(|guess| conclusion(CALLER, guess, "live/guessed")));
    // A cookie is good for its own address only.
    for _ in 0..100 {
        live.stranger().send(&conclusion(CALLER, cookie, "live/stolen")).expect("it is sent");
    }
    live.assert_undisturbed(&["SRT conclusion with a wrong cookie"]);
}

#[test]
fn a_flood_of_inductions_leaves_nothing() {
    let live = Live::start();
    let stranger = live.stranger();
    live.flood(&stranger, (1..20_000).map(induction));
    live.assert_undisturbed(&[]);
}

#[test]
fn an_answer_is_never_longer_than_its_question() {
    let live = Live::start();
    let stranger = live.stranger();
    let question = induction(CALLER);
    stranger.send(&question).expect("it is sent");
    let mut buffer = [0; 2048];
    let count = stranger.recv(&mut buffer).expect("an answer");
    assert!(count <= question.len(), "{count}");
    let answer = Handshake::read(&buffer[..count]).expect("a handshake");
    assert_eq!((answer.to, answer.version, answer.kind), (CALLER, 5, 1), "{answer:?}");
    assert_eq!(answer.field, 0x4A17, "the mark of this version");
    live.assert_undisturbed(&[]);
}

#[test]
fn junk_and_packets_cut_at_every_length_are_dropped() {
    let live = Live::start();
    let stranger = live.stranger();
    let cookie = ask_cookie(&stranger, CALLER).cookie;
    let whole = [
        induction(CALLER),
        conclusion(CALLER, cookie, "live/cut"),
        media(CALLER, 1, &[7; 64]),
        shutdown(CALLER),
    ];
    let cut = whole.iter().flat_map(|packet| (0..packet.len()).map(|length| packet[..length].to_vec()));
    live.flood(&stranger, cut);
    let junk = (0..1500).flat_map(|length: u32| {
        let junk: Vec<u8> = noise(length).take(length as usize).collect();
        // The same as a control packet of each type, and as data.
        let control = [&[0x80 | (length >> 8) as u8 & 0x7F, length as u8][..], &junk].concat();
        [junk, control]
    });
    live.flood(&stranger, junk);
    live.assert_undisturbed(&["not SRT", "malformed SRT handshake"]);
}

#[test]
fn socket_ids_of_others_are_of_no_use() {
    let live = Live::start();
    let stranger = live.stranger();
    let ids = live.origin.events("accepted");
    let ids = ids.iter().filter_map(|accepted| u32::try_from(accepted["id"].as_u64()?).ok());
    for id in ids.flat_map(|id| [id, id + 1, id - 1]) {
        for _ in 0..20 {
            stranger.send(&media(id, 1, &[7; 1316])).expect("it is sent");
            stranger.send(&shutdown(id)).expect("it is sent");
        }
    }
    live.assert_undisturbed(&["no SRT connection of this address and socket id"]);
}

#[test]
fn a_handshake_that_is_repeated_is_answered_again_and_is_one_connection() {
    let origin = SrtOrigin::start();
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    let caller = socket(proxy.srt());
    let answer = ask_cookie(&caller, CALLER);
    let conclusion = conclusion(CALLER, answer.cookie, "live/x");
    for _ in 0..5 {
        caller.send(&conclusion).expect("it is sent");
    }
    let accepted = receive(&caller);
    assert_eq!((accepted.to, accepted.kind), (CALLER, u32::MAX), "{accepted:?}");
    caller.send(&conclusion).expect("it is sent");
    let again = receive(&caller);
    assert_eq!((again.to, again.from), (CALLER, accepted.from));
    origin.wait("accepted", "live/x", false);
    assert_eq!(origin.events("hook").len(), 1);
}

#[test]
fn a_caller_that_is_started_again_with_the_same_port_and_id_gets_what_it_asks_for_now() {
    let origin = SrtOrigin::with(&["--idle", "60000"]);
    let proxy = Proxy::before_srt(origin.addr(), &[]);
    let caller = socket(proxy.srt());
    let mut told = Vec::new();
    for (sequence, stream) in [(1, "live/first"), (2, "live/second"), (3, "live/second")] {
        let cookie = ask_cookie(&caller, CALLER).cookie;
        let conclusion = Handshake::conclusion(CALLER, cookie, stream.as_bytes()).begun_with(sequence);
        caller.send(&conclusion.bytes()).expect("it is sent");
        let accepted = receive(&caller);
        assert_eq!((accepted.to, accepted.kind, accepted.terms[0]), (CALLER, u32::MAX, sequence));
        told.push(accepted.from);
        wait_until("the origin has accepted it", PATIENCE, || origin.events("accepted").len() == told.len());
        assert_eq!(origin.events("accepted").last().expect("the newest")["resource"], stream);
    }
    assert!(told[0] != told[1] && told[1] != told[2], "{told:?}");
    wait_until("the earlier ones have ended at their origin", PATIENCE, || origin.open() == 1);
    assert_eq!(origin.events("accepted").len(), told.len());
}

#[test]
fn one_network_has_no_more_sessions_than_are_set() {
    let origin = SrtOrigin::start();
    let proxy =
        Proxy::before_srt(origin.addr(), &[("PROXY_WORKERS", "1"), ("PROXY_SESSIONS_PER_NETWORK", "1")]);
    let answers = ["live/a", "live/b"].map(|stream| {
        let caller = socket(proxy.srt());
        let cookie = ask_cookie(&caller, CALLER).cookie;
        caller.send(&conclusion(CALLER, cookie, stream)).expect("it is sent");
        receive(&caller).kind
    });
    // Accepted; and the handshake type of `SRT_REJX_OVERLOAD`.
    assert_eq!(answers, [u32::MAX, 1000 + 1402]);
}

#[test]
fn callers_are_told_their_own_address_as_without_the_proxy() {
    for (own, listens) in [("127.0.0.2", "127.0.0.1"), ("::1", "::1")] {
        let origin = SrtOrigin::with(&["--host", listens]);
        let at = SocketAddr::new(listens.parse().expect("an address"), free_port());
        let _proxy = Proxy::before_srt(origin.addr(), &[("PROXY_SRT_SERVER", &at.to_string())]);
        let told = [origin.addr(), at].map(|at| {
            let caller = socket_of(own.parse().expect("an address"), at);
            let first = ask_cookie(&caller, CALLER);
            caller.send(&conclusion(CALLER, first.cookie, "live/x")).expect("it is sent");
            let second = receive(&caller);
            assert_eq!(second.kind, u32::MAX, "{second:?}");
            second.peer
        });
        assert_eq!(told[0], told[1], "{own}");
    }
}
