//! WebRTC: STUN, and the hub.

use super::Script;
use crate::sim::rtc::wire::{self, Stun};
use crate::sim::rtc::{Desk, Sent, check, media, refusal, session, success};
use srs_proxy_core::flow::Limits;
use srs_proxy_core::machine::{Leg, Machine, OpenError};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, Picked, Query, Refusal};
use srs_proxy_core::rtc::IDLE;
use srs_proxy_core::rtc::stun::{Class, MAX_MESSAGE, MAX_USERNAME, Message};
use srs_proxy_core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What is read is what an independent reader reads; and what that one takes is refused only for a limit.
pub fn stun(bytes: &[u8]) {
    let read = Message::parse(bytes);
    let independent = wire::read(bytes);
    let Ok(message) = read else {
        let is_limited = |stun: Stun| {
            let is_name = stun.username.is_none_or(|name| is_user_name(&name));
            bytes.len() > MAX_MESSAGE || !is_name
        };
        return assert!(independent.is_none_or(is_limited), "{read:?}");
    };
    let independent = independent.expect("no message, says an independent reader");
    let class = match independent.kind & 0x0110 {
        0 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    assert_eq!(message.class, class);
    assert_eq!(message.transaction.0, independent.transaction);
    assert_eq!(message.username.map(str::as_bytes), independent.username.as_deref());
    for end in 0..bytes.len() {
        assert!(Message::parse(&bytes[..end]).is_err(), "{end} bytes of it are one, too");
    }
}

fn is_user_name(name: &[u8]) -> bool {
    let parts = name.splitn(2, |byte| *byte == b':').collect::<Vec<_>>();
    let is_text = std::str::from_utf8(name).is_ok_and(|name| !name.chars().any(char::is_control));
    is_text && name.len() <= MAX_USERNAME && parts.len() == 2 && parts.iter().all(|part| !part.is_empty())
}

/// A hub, and what it may do: whose each leg is, who asked in whose name, and who was granted it.
struct Story {
    desk: Desk,
    legs: BTreeMap<Leg, String>,
    asked: BTreeMap<(String, [u8; 12]), BTreeSet<SocketAddr>>,
    granted: BTreeSet<(String, SocketAddr)>,
}

impl Story {
    fn client(&mut self, from: SocketAddr, bytes: &[u8]) {
        if let Some(check) = wire::read(bytes).filter(|stun| stun.kind == wire::REQUEST)
            && let Some(name) = check.username.and_then(|name| String::from_utf8(name).ok())
        {
            self.asked.entry((name, check.transaction)).or_default().insert(from);
        }
        let sent = self.desk.client(from, bytes);
        assert!(sent.len() <= 1 && sent.iter().all(|sent| sent.by != Leg::CLIENT && sent.bytes == bytes));
    }

    fn origin(&mut self, leg: Leg, bytes: &[u8]) {
        let Some(name) = self.legs.get(&leg).cloned() else { return };
        let stun = wire::read(bytes);
        let answered = stun.as_ref().and_then(|stun| self.asked.get(&(name.clone(), stun.transaction)));
        let askers = answered.cloned().unwrap_or_default();
        if stun.is_some_and(|stun| stun.kind & 0x0110 == 0x0100) {
            self.granted.extend(askers.iter().map(|asker| (name.clone(), *asker)));
        }
        for Sent { by, to, bytes: sent } in self.desk.origin(leg, bytes) {
            let to = to.expect("an address");
            assert!(by == Leg::CLIENT && sent == bytes);
            let may = askers.contains(&to) || self.granted.contains(&(name.clone(), to));
            assert!(may, "{to} was granted nothing of {name}");
        }
    }

    fn opened(&mut self) {
        if let Some(leg) = self.desk.opened() {
            let first = self.desk.sent().into_iter().find(|sent| sent.by == leg).expect("a check was parked");
            let name = wire::read(&first.bytes).and_then(|check| check.username).expect("a name");
            self.legs.insert(leg, String::from_utf8(name).expect("text"));
        }
    }

    fn answer(&mut self, manner: u8) {
        let answer = match (self.desk.questions.front(), manner) {
            (Some((_, Query::LoadRtc(name))), 0..=200) => Answer::Rtc(Some(session(name))),
            (Some(_), 0..=200) => {
                let (origin, to) = (OriginId::new("origin", "0", "1"), ([10, 1, 0, 1], 8000).into());
                Answer::Picked(Picked { origin, to })
            }
            (_, 201..=220) => Answer::Rtc(None),
            (_, 221..=240) => Answer::Refused(Refusal::NoOrigin),
            _ => Answer::Registered,
        };
        self.desk.answer(answer);
    }

    /// Some leg there is.
    fn leg(&self, which: u8) -> Leg {
        let count = self.legs.len().max(1);
        self.legs.keys().nth(usize::from(which) % count).copied().unwrap_or(Leg::new(1, 1))
    }
}

/// Anything may happen in any order: nothing goes to who was granted nothing, and silence ends everything.
pub fn rtc_hub(bytes: &[u8]) {
    let mut script = Script(bytes);
    let limits = Limits {
        max_sessions: 6,
        max_sessions_per_network: 4,
        lookups_per_second: 20,
        lookups_per_network: 10,
        ..Limits::new(IDLE)
    };
    let (legs, asked, granted) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut story = Story { desk: Desk::new(3, limits), legs, asked, granted };
    let client = |n: u8| SocketAddr::from(([10, 0, 0, n % 3], 5000 + u16::from(n % 16)));
    let name = |n: u8| format!("s{}:c", n % 8);
    while let Some(deed) = script.byte() {
        let (a, b) = (script.byte().unwrap_or(0), script.byte().unwrap_or(0));
        match deed % 10 {
            0 => story.client(client(a), script.bytes().unwrap_or(&[])),
            1 => story.client(client(a), &check([b / 8; 12], &name(b), 0)),
            2 => story.client(client(a), &media(b.into(), 0)),
            3 => story.origin(story.leg(a), &success([b; 12])),
            4 if b % 2 == 0 => story.origin(story.leg(a), &refusal([b; 12])),
            4 => story.origin(story.leg(a), &media(b.into(), 0)),
            5 => story.origin(story.leg(a), script.bytes().unwrap_or(&[])),
            6 => story.answer(a),
            7 if a < 200 => story.opened(),
            7 => story.desk.open_failed([OpenError::Unreachable, OpenError::Exhausted][usize::from(b % 2)]),
            8 if a == 255 => story.desk.drain(),
            8 if a == 254 => story.desk.end(Answer::Rtc(None)),
            8 if a == 253 => story.desk.end(Answer::Registered),
            8 if a > 200 => story.desk.eof(story.leg(b)),
            8 => story.desk.pass(Duration::from_millis(u64::from(a) * u64::from(b))),
            // A whole session, to get far.
            _ => {
                story.client(client(a), &check([b; 12], &name(b), 0));
                story.answer(0);
                story.answer(0);
                story.opened();
                story.origin(story.leg(a), &success([b; 12]));
            }
        }
    }
    story.desk.pass(Duration::from_secs(120));
    assert_eq!((story.desk.hub().sessions(), story.desk.legs(), story.desk.deadline()), (0, 0, None));
}
