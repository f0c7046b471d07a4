//! SRT: packets and handshakes, stream ids, and the hub.

use super::Script;
use crate::sim::srt::{Desk, Sent};
use crate::srt::wire::{self, CONCLUSION, Handshake, data, shutdown};
use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Leg, Machine, OpenError};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, Refusal};
use srs_proxy_core::srt::IDLE;
use srs_proxy_core::srt::handshake::{self, Extensions, MAX_HANDSHAKE, MAX_STREAM_ID, Phase};
use srs_proxy_core::srt::packet::{Header, Kind};
use srs_proxy_core::srt::stream_id::StreamId;
use srs_proxy_core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What is read is what an independent reader reads, and what is written reads the same.
pub fn srt_packet(bytes: &[u8]) {
    let header = Header::parse(bytes);
    assert_eq!(header.is_some(), bytes.len() >= 16);
    let is_handshake = header.is_some_and(|header| header.kind == Kind::Handshake);
    let read = handshake::Handshake::parse(bytes);
    let independent = Handshake::read(bytes).filter(|_| bytes.len() <= MAX_HANDSHAKE);
    assert_eq!(read.is_ok(), independent.is_some(), "{read:?}");
    let (Ok(read), Some(independent), Some(header)) = (read, independent, header) else { return };
    assert!(is_handshake && header.destination == independent.to);
    assert_eq!(
        (read.version, read.encryption, read.extension, read.socket, read.cookie, read.peer),
        (
            independent.version,
            independent.encryption,
            independent.field,
            independent.from,
            independent.cookie,
            independent.peer
        )
    );
    assert_eq!(read.phase == Phase::Conclusion, independent.kind == CONCLUSION);
    let written = read.write(header.destination, header.timestamp);
    assert_eq!(written[4..], [&[0; 4], &bytes[8..64]].concat());
    let length: usize = Extensions::of(bytes).flatten().map(|extension| 4 + extension.contents.len()).sum();
    let all = Extensions::of(bytes).all(|extension| extension.is_ok());
    assert_eq!(all, length == independent.extensions.len());
    if let Ok(Some(id)) = handshake::stream_id(bytes) {
        assert!(all && id.len() <= MAX_STREAM_ID && id.last() != Some(&0));
    }
}

/// A stream id's key is one that any other protocol could have made, and a stream id of that key has it, too.
pub fn srt_stream_id(bytes: &[u8]) {
    let Ok(StreamId { key, .. }) = StreamId::parse(bytes) else { return };
    assert!(bytes.len() <= MAX_STREAM_ID);
    let parts = key.as_str().splitn(2, '/').collect::<Vec<_>>();
    assert!(parts.len() == 2 && parts.iter().all(|part| !part.is_empty()), "{key}");
    // Names of nobody's hosts, and what means something else in a stream id.
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_special = |text: &str| text.contains([',', '?', '#', '%']) || text.contains("...vhost...");
    let has_special = !parts[0].bytes().all(is_host) || is_special(parts[1]);
    let again = format!("#!::r={},h={}", parts[1], parts[0]);
    if !has_special && again.len() <= MAX_STREAM_ID {
        let again = StreamId::parse(again.as_bytes()).expect("a stream id");
        // One extension is cut off: a name may have had two.
        assert!(again.key == key || key.as_str().starts_with(again.key.as_str()), "{key}, {}", again.key);
    }
}

/// A hub, and what it may do: whose each leg is, and what each caller may get.
struct Story {
    desk: Desk,
    /// Whose each leg is.
    legs: BTreeMap<Leg, (SocketAddr, u32)>,
}

impl Story {
    fn client(&mut self, from: SocketAddr, bytes: &[u8]) {
        // What time and answers have led to is nobody's reaction.
        self.desk.sent();
        for Sent { by, to, bytes: sent } in self.desk.client(from, bytes) {
            if by == Leg::CLIENT {
                assert!(
                    to == Some(from) && sent.len() <= bytes.len(),
                    "no more than was asked goes to who asked"
                );
            } else {
                let (caller, _) = self.legs[&by];
                assert!(caller == from && sent.len() == bytes.len(), "it goes to the caller's own origin");
            }
        }
    }

    /// A caller with the right cookie, which begins anew if it did with another number. It may be answered with more than
    /// it said: it is where it seems to be.
    fn conclude(&mut self, from: SocketAddr, socket: u32, sequence: u8, id: &[u8]) {
        let cookie = self.desk.cookie(from, socket);
        let conclusion = Handshake::conclusion(socket, cookie, id).begun_with(sequence.into());
        for Sent { by, to, bytes } in self.desk.client(from, &conclusion.bytes()) {
            if by == Leg::CLIENT {
                assert_eq!(to, Some(from), "the answer goes to who asked");
            } else {
                let is_own = self.legs[&by] == (from, socket);
                assert!(is_own && bytes[..2] == [0x80, 5], "the old one's origin is told that it is over");
            }
        }
    }

    fn origin(&mut self, leg: Leg, bytes: &[u8]) {
        let Some((caller, _)) = self.legs.get(&leg).copied() else { return };
        self.desk.sent();
        for Sent { by, to, .. } in self.desk.origin(leg, bytes) {
            assert!(by == leg || to == Some(caller), "it goes back, or to the caller");
        }
    }

    fn opened(&mut self) {
        if let Some(leg) = self.desk.opened() {
            let sent = self.desk.sent();
            let induction =
                sent.iter().find(|sent| sent.by == leg).and_then(|sent| Handshake::read(&sent.bytes));
            let socket = induction.expect("the origin is asked").from;
            // Which address it is comes with the first answer; sockets are numbered by address here.
            self.legs.insert(leg, (client((socket >> 8) as u8), socket));
        }
    }

    /// Some leg there is.
    fn leg(&self, which: u8) -> Leg {
        let count = self.legs.len().max(1);
        self.legs.keys().nth(usize::from(which) % count).copied().unwrap_or(Leg::new(1, 1))
    }

    fn answer(&mut self, manner: u8) {
        let picked = |origin: u8| {
            let (origin, to) = (OriginId::new("o", "0", &origin.to_string()), ([10, 1, 0, origin], 1).into());
            Answer::Picked(Picked { origin, to })
        };
        self.desk.answer(match manner {
            0..=200 => picked(manner % 4),
            201..=230 => Answer::Refused(Refusal::NoOrigin),
            _ => Answer::Registered,
        });
    }
}

fn client(n: u8) -> SocketAddr {
    ([10, 0, 0, n % 3], 5000 + u16::from(n % 5)).into()
}

/// Socket ids say whose they are, so that the story can check where things go.
fn socket(of: u8, n: u8) -> u32 {
    (u32::from(of) << 8) | (u32::from(n % 4) + 1)
}

/// Anything may happen in any order: nothing goes to somebody else, and silence ends everything.
pub fn srt_hub(bytes: &[u8]) {
    let mut script = Script(bytes);
    let limits = Limits {
        max_sessions: 8,
        max_sessions_per_network: 4,
        lookups_per_second: 20,
        lookups_per_network: 10,
        ..Limits::new(IDLE)
    };
    let mut story = Story { desk: Desk::new(3, limits), legs: BTreeMap::new() };
    while let Some(deed) = script.byte() {
        let (a, b) = (script.byte().unwrap_or(0), script.byte().unwrap_or(0));
        let handshake = Handshake::conclusion(socket(a, b), 9, b"live/x");
        match deed % 12 {
            // Only who has no session says just anything, since its words may be a conclusion of another socket.
            0 => story.client(([10, 0, 9, 9], 9).into(), script.bytes().unwrap_or(&[])),
            1 => story.conclude(client(a), socket(a, b), deed / 48, b"#!::r=live/x,m=publish"),
            2 => story.conclude(client(a), socket(a, b), deed / 48, b"#!::m=publish"),
            3 => story.client(client(a), &data(u32::from(b % 8), 0, 0)),
            4 => story.client(client(a), &shutdown(u32::from(b % 8))),
            5 => story.origin(story.leg(a), &handshake.refused(1000 + u32::from(b)).bytes()),
            6 => {
                let induction = Handshake { kind: wire::INDUCTION, ..handshake.welcome(b.into()) };
                story.origin(story.leg(a), &induction.bytes());
                story.origin(story.leg(a), &handshake.accepted(u32::from(b % 8)).bytes());
            }
            7 => story.origin(story.leg(a), script.bytes().unwrap_or(&[])),
            8 => story.answer(a),
            9 if a < 200 => story.opened(),
            9 => story.desk.open_failed([OpenError::Unreachable, OpenError::Exhausted][usize::from(b % 2)]),
            10 if a == 255 => story.desk.drain(),
            10 if a > 200 => story.desk.eof(story.leg(b)),
            10 => {
                story.desk.pass(Duration::from_millis(u64::from(a) * u64::from(b) / 4));
                story.desk.sent();
            }
            // A whole session, to get far.
            _ => {
                story.conclude(client(a), socket(a, b), deed / 48, b"live/x");
                story.answer(b % 4);
                story.opened();
                let leg = story.leg(255);
                let induction = Handshake { kind: wire::INDUCTION, ..handshake.welcome(b.into()) };
                story.origin(leg, &induction.bytes());
                story.origin(leg, &handshake.accepted(u32::from(b % 8)).bytes());
            }
        }
        story.desk.sent();
    }
    story.desk.pass(Duration::from_secs(120));
    assert_eq!((story.desk.hub().sessions(), story.desk.legs(), story.desk.deadline()), (0, 0, None));
}
