//! WHIP in the simulated world: offers, what origins answer, and goodbyes; and what must be true of them. The sessions are
//! told apart by the exchange's number in their names.

use super::plan::{Body, Request, Response};
use super::play::Played;
use crate::http::{Chunking, Message};
use crate::signalling::check_sdp;
use crate::sim::Dice;
use srs_proxy_core::query::Report;

/// The path of all endpoints, and of all resources.
const ENDPOINT: &str = "/rtc/v1/whip/";
const RESOURCES: &str = "/session/";

/// Where the proxy says that resources are.
const OF: &str = "/of/media.example.com%2Flive%2Fs";

fn sdp(ufrag: &str, candidate: &str) -> Vec<u8> {
    format!(
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
         c=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789abcdef01234567\r\n{candidate}"
    )
    .into_bytes()
}

fn body(dice: &mut Dice, bytes: Vec<u8>) -> Body {
    if dice.chance(500) {
        return Body::Length(bytes);
    }
    let sizes = (0..dice.size(0..=3)).map(|_| dice.size(1..=200)).collect();
    Body::Chunked(bytes, Chunking { sizes, odd: dice.chance(300), trailers: Vec::new() })
}

impl Request {
    /// An offer, whatever its type is said to be.
    pub fn offer(dice: &mut Dice, n: usize) -> Self {
        let mut request = Self::get(format!("{ENDPOINT}?app=live&stream=s&n={n}"));
        request.method = "POST";
        request.body = body(dice, sdp(&format!("client{n}"), ""));
        request.expects = dice.chance(200);
        if dice.chance(700) {
            request.fields.push(("Content-Type".into(), "application/sdp".into()));
        }
        request
    }

    /// The goodbye to what offer number `of` has made.
    pub fn goodbye(of: usize, n: usize) -> Self {
        Self { method: "DELETE", ..Self::get(format!("{OF}{RESOURCES}{of}?n={n}")) }
    }

    /// Whether it is an offer.
    pub fn is_offer(&self) -> bool {
        self.method == "POST" && self.target.starts_with(ENDPOINT)
    }
}

impl Response {
    /// The answer to offer number `n`.
    pub fn answer(dice: &mut Dice, n: usize) -> Self {
        let candidate = "a=candidate:0 1 udp 2130706431 10.0.0.1 8000 typ host\r\n";
        let body = body(dice, sdp(&format!("server{n}"), candidate));
        // A goodbye has a number of its own.
        let location = format!("http://10.0.0.1:1985{RESOURCES}{n}?n={}", n + 1);
        let fields = [("Content-Type", "application/sdp"), ("Location", &location)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { status: 201, fields, ..Self::ok(body) }
    }
}

/// A resource's target as its origin knows it.
pub(super) fn at_origin(target: &str) -> &str {
    target.strip_prefix(OF).unwrap_or(target)
}

impl Played {
    /// The answer to offer number `n`, if it came whole, leads to the proxy, and its session was stored before.
    #[track_caller]
    pub(super) fn assert_signalled(
        &self,
        n: usize,
        answer: &Message,
        content: &[u8],
        tail: &dyn Fn() -> String,
    ) {
        let location = format!("{OF}{RESOURCES}{n}?n={}", n + 1);
        assert_eq!(answer.value("location"), Some(&*location), "{}", tail());
        let stored = self.stored.borrow();
        let session = stored.get(&format!("server{n}:client{n}"));
        let resource = session.map(|session| at_origin(&location) == &*session.resource);
        assert_eq!(resource, Some(true), "answered before it was stored: {session:?}\n{}", tail());
        if answer.complete {
            let led = check_sdp(content, &[]).expect("a description");
            assert_eq!(answer.body, led, "{}", tail());
        }
    }

    /// Every session whose goodbye was answered is over, and no other.
    ///
    /// # Panics
    /// If it is otherwise.
    #[track_caller]
    pub fn assert_left(&self) {
        let told = self.told.borrow();
        let left = |resource: &str| {
            told.iter().filter(|report| matches!(report, Report::Left(_, it) if &**it == resource)).count()
        };
        for (n, exchange) in self.table.borrow().iter().enumerate() {
            if exchange.request.method == "DELETE" {
                let goodbyes = self.answers_to(n);
                let granted =
                    goodbyes.iter().any(|answer| answer.value("x-n").is_some() && answer.status() == 200);
                let known = left(at_origin(&exchange.request.target));
                assert!(known <= 1 && (!granted || known == 1), "request {n}\n{}", self.world.tail());
            }
        }
    }
}
