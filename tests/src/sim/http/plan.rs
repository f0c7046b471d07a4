//! What a client asks and its origin answers, decided before the world begins. Sends nothing.

use super::super::{Dice, End};
use crate::http::{Chunking, Fields, head};
use srs_proxy_core::time::Duration;

/// A body, and how it is framed.
#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    /// There is none, and no word about one.
    None,
    /// With its length.
    Length(Vec<u8>),
    /// In chunks.
    Chunked(Vec<u8>, Chunking),
    /// Until the connection ends; only a response's.
    Close(Vec<u8>),
}

impl Body {
    /// What it is, however it is framed.
    pub fn content(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Length(bytes) | Self::Chunked(bytes, _) | Self::Close(bytes) => bytes,
        }
    }

    /// What is said about it in the head.
    fn field(&self) -> Option<(String, String)> {
        match self {
            Self::None | Self::Close(_) => None,
            Self::Length(bytes) => Some(("Content-Length".into(), bytes.len().to_string())),
            Self::Chunked(..) => Some(("Transfer-Encoding".into(), "chunked".into())),
        }
    }

    /// It as it is sent.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Chunked(bytes, chunking) => chunking.encode(bytes),
            other => other.content().to_vec(),
        }
    }
}

/// A request.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Its method.
    pub method: &'static str,
    /// Its target, with its number in the query.
    pub target: String,
    /// It is of HTTP/1.0.
    pub old: bool,
    /// What it says about the connection.
    pub connection: Option<&'static str>,
    /// Fields that the origin is to see.
    pub fields: Fields,
    /// Its body.
    pub body: Body,
    /// The client waits for a word before it sends the body.
    pub expects: bool,
}

/// What goes wrong with an answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Trouble {
    /// Nothing.
    None,
    /// It never comes.
    Silent,
    /// The connection ends without one.
    Leaves(End),
    /// The connection ends within its head.
    HalfHead,
    /// It is not HTTP.
    Garbage,
    /// Its head does not end.
    Oversize,
    /// It ends after so many bytes of its body.
    Stops(usize, End),
    /// Nothing more comes after so many bytes of its body.
    Freezes(usize),
    /// One of its chunks is broken.
    BrokenChunk,
    /// More bytes come than it said, at once or a little later.
    Surplus,
}

/// What an origin does with a connection that it said it would keep.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rest {
    /// It keeps it.
    Keeps,
    /// It ends it after a while.
    Closes(Duration),
    /// It ends it when the next request comes or so long after, and does not look at that.
    ClosesAtNext(End, Duration),
}

/// An answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Response {
    /// Interim responses before it.
    pub interim: Vec<u16>,
    /// Its status.
    pub status: u16,
    /// It is of HTTP/1.0.
    pub old: bool,
    /// What it says about the connection.
    pub connection: Option<&'static str>,
    /// Fields that the client is to see.
    pub fields: Fields,
    /// Its body.
    pub body: Body,
    /// How long it takes until it begins.
    pub delay: Duration,
    /// The pause between pieces of its body.
    pub pause: Option<Duration>,
    /// It comes before the request's body has.
    pub early: bool,
    /// What goes wrong.
    pub trouble: Trouble,
    /// What becomes of the connection.
    pub rest: Rest,
}

/// A request and its answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Exchange {
    /// The request.
    pub request: Request,
    /// Its answer.
    pub response: Response,
}

/// The host that all clients ask.
pub const HOST: &str = "media.example.com:8080";

/// A file of the proxy's own.
pub const FILE: &str = "static/film.bin";

/// Another one, which becomes shorter as soon as it is opened.
pub const SHRINKING: &str = "static/log.bin";

/// What is in them.
pub fn film() -> Vec<u8> {
    (0..5_001_u32).flat_map(u32::to_le_bytes).collect()
}

/// The number that a target carries.
pub fn number(target: &str) -> Option<usize> {
    let query = target.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix("n=")?.parse().ok())
}

impl Request {
    /// The plainest request for a target.
    pub fn get(target: String) -> Self {
        let (fields, body) = (Vec::new(), Body::None);
        Self { method: "GET", target, old: false, connection: None, fields, body, expects: false }
    }

    /// Any request number `n`.
    pub fn random(dice: &mut Dice, n: usize) -> Self {
        let extension = *dice.pick(&["flv", "ts", "m4s", "m4s", "m4s", "m4v", "m4a"]);
        let stream = dice.size(0..=2);
        let mut request = Self::get(format!("/live/s{stream}/{n}.{extension}?n={n}&token=a%20b"));
        request.old = dice.chance(120);
        request.connection = match dice.size(0..=9) {
            0 => Some("close"),
            1..=4 if request.old => Some("keep-alive"),
            1 => Some("Keep-Alive, X-Hop"),
            _ => None,
        };
        request.method = *dice.pick(&["GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE"]);
        for (field, chance) in [
            (("X-Twice", "1"), 200),
            (("Range", "bytes=0-9"), 100),
            (("Accept-Encoding", "gzip, br"), 200),
            (("Cookie", "a=b; c=\"d e\""), 200),
            (("X-Twice", "2"), 200),
            (("Authorization", "Bearer x.y"), 100),
            (("X-Bytes", "caf\u{e9}"), 100),
        ] {
            if dice.chance(chance) {
                request.fields.push((field.0.into(), field.1.into()));
            }
        }
        if matches!(request.method, "POST" | "PUT") {
            request.body = body(dice, 20_000, !request.old, false);
            request.expects = !request.old && dice.chance(300) && !request.body.content().is_empty();
        }
        request
    }

    /// A request for a file of the proxy's own.
    pub fn file(dice: &mut Dice, n: usize) -> Self {
        let other = Self::random(dice, n);
        let method = *dice.pick(&["GET", "GET", "HEAD"]);
        let connection = other.connection;
        Self { method, old: other.old, connection, ..Self::get(format!("/{FILE}?n={n}")) }
    }

    /// Whether the proxy itself answers it.
    pub fn is_for_file(&self) -> bool {
        self.target.starts_with(&format!("/{FILE}")) || self.target.starts_with(&format!("/{SHRINKING}"))
    }

    /// Its head, as the client sends it.
    pub fn head(&self) -> Vec<u8> {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut fields = vec![("Host".to_owned(), HOST.to_owned())];
        fields.extend(self.fields.iter().cloned());
        if let Some(value) = self.connection {
            fields.push(("Connection".into(), value.into()));
            fields.push(("Keep-Alive".into(), "timeout=5".into()));
            fields.extend(hop(value));
        }
        fields.extend(self.body.field());
        if self.expects {
            fields.push(("Expect".into(), "100-continue".into()));
        }
        head(&format!("{} {} HTTP/{version}", self.method, self.target), &fields)
    }

    /// Whether it may be sent twice.
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD") && self.body == Body::None
    }

    /// Whether the client means to ask more on this connection.
    pub fn persists(&self) -> bool {
        let says = |word: &str| self.connection.is_some_and(|value| value.to_lowercase().contains(word));
        !says("close") && (!self.old || says("keep-alive"))
    }

    /// Whether its answer is a playlist or a manifest for a player, if it is good.
    pub fn reads_playlist(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        matches!(self.method, "GET" | "HEAD") && (path.ends_with(".m3u8") || path.ends_with(".mpd"))
    }

    /// Whether the answer goes on for as long as the stream does.
    pub fn is_live(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        path.ends_with(".flv") || path.ends_with(".ts") && !self.target.contains("spbhid=")
    }
}

impl Response {
    /// The plainest answer.
    pub fn ok(body: Body) -> Self {
        Self {
            interim: Vec::new(),
            status: 200,
            old: false,
            connection: None,
            fields: Vec::new(),
            body,
            delay: Duration::ZERO,
            pause: None,
            early: false,
            trouble: Trouble::None,
            rest: Rest::Keeps,
        }
    }

    /// Any good answer.
    pub fn random(dice: &mut Dice, request: &Request) -> Self {
        let mut response = Self::ok(Body::None);
        response.status = *dice.pick(&[200, 200, 200, 200, 206, 204, 301, 304, 401, 404, 500, 599]);
        response.old = dice.chance(100);
        response.body = match response.status {
            204 | 304 => Body::None,
            _ => body(dice, 60_000, !response.old, true),
        };
        response.connection = match dice.size(0..=9) {
            0 => Some("close"),
            1 => Some("X-Hop"),
            2..=4 if response.old => Some("keep-alive"),
            _ => None,
        };
        for (field, chance) in [
            (("Content-Type", "video/x-flv"), 700),
            (("Set-Cookie", "a=b"), 300),
            (("Set-Cookie", "c=d"), 300),
            (("Location", "http://other.net/live/x.flv?a=b"), 200),
            (("ETag", "\"x\""), 200),
            (("Access-Control-Allow-Origin", "http://page.net"), 200),
            (("Server", "origin/1"), 500),
            (("Via", "1.1 cache"), 100),
            (("X-Bytes", "caf\u{e9}"), 100),
        ] {
            if dice.chance(chance) {
                response.fields.push((field.0.into(), field.1.into()));
            }
        }
        if request.expects {
            response.interim.push(100);
        }
        if dice.chance(100) {
            response.interim.push(103);
        }
        response.delay = Duration::from_millis(*dice.pick(&[0, 0, 1, 50, 1500]));
        response.pause = dice.chance(200).then(|| Duration::from_millis(dice.range(1..=100)));
        response.early = dice.chance(100);
        response.rest = match dice.size(0..=9) {
            0..=2 => Rest::Closes(Duration::from_micros(dice.range(0..=150_000))),
            3 => Rest::ClosesAtNext(End::Fin, Duration::from_millis(*dice.pick(&[0, 0, 10, 6000]))),
            4 => Rest::ClosesAtNext(End::Reset, Duration::ZERO),
            _ => Rest::Keeps,
        };
        response
    }

    /// Whether the connection could be used again, as far as the head says.
    pub fn persists(&self) -> bool {
        let says = |word: &str| self.connection.is_some_and(|value| value.to_lowercase().contains(word));
        !says("close") && (!self.old || says("keep-alive")) && !matches!(self.body, Body::Close(_))
    }

    /// Its head, for request number `n`.
    pub fn head(&self, n: usize, request: &Request) -> Vec<u8> {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut fields = vec![("X-N".to_owned(), n.to_string())];
        fields.extend(self.fields.iter().cloned());
        if let Some(value) = self.connection {
            fields.push(("Connection".into(), value.into()));
            fields.extend(hop(value));
        }
        let body = self.body.field();
        let empty = self.body == Body::None && !matches!(self.status, 204 | 304);
        fields.extend(body.or_else(|| empty.then(|| ("Content-Length".into(), "0".into()))));
        let _ = request;
        head(&format!("HTTP/{version} {} Because", self.status), &fields)
    }
}

/// A field that `Connection` names.
fn hop(connection: &str) -> Option<(String, String)> {
    connection.contains("X-Hop").then(|| ("X-Hop".into(), "for the proxy only".into()))
}

/// Any body, with bytes of its own.
pub fn body(dice: &mut Dice, most: usize, may_chunk: bool, may_close: bool) -> Body {
    let length = if dice.chance(100) { 0 } else { dice.any_size(most) };
    let bytes = dice.bytes(length);
    match dice.size(0..=9) {
        0..=3 if may_chunk => {
            let sizes = (0..dice.size(0..=3)).map(|_| dice.any_size(5000)).collect();
            let trailers = match dice.chance(300) {
                true => vec![("X-Trailer".to_owned(), "the end".to_owned())],
                false => Vec::new(),
            };
            Body::Chunked(bytes, Chunking { sizes, odd: dice.chance(300), trailers })
        }
        4 if may_close => Body::Close(bytes),
        _ => Body::Length(bytes),
    }
}
