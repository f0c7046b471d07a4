//! What the fuzz targets run: each body takes any bytes and panics if something that must always hold does not. Compiled
//! and run over the committed corpora in the ordinary tests; knows nothing of the fuzzer.

mod http;
mod redis;
mod rtc;
mod srt;

pub use http::{http_connection, http_splits};
pub use redis::{redis_desk, redis_records};
pub use rtc::{rtc_hub, stun};
pub use srt::{srt_hub, srt_packet, srt_stream_id};

use crate::rewriting::{check_manifest, check_playlist};
use crate::rtmp::command::{self, COMMAND_CSID, control};
use crate::rtmp::{Command, Dechunker, Encoder, Message, amf0 as independent, kind};
use crate::signalling::{check_envelope, check_sdp};
use crate::sim::{Dice, Straight};
use srs_proxy_core::amf0::{Decoder, Encoder as Amf0Encoder};
use srs_proxy_core::endpoint;
use srs_proxy_core::http::files::HttpDate;
use srs_proxy_core::http::head::HeadReader;
use srs_proxy_core::http::{Connection, HttpConfig, Server};
use srs_proxy_core::key::{MAX_APP, MAX_STREAM, MAX_VHOST, StreamKey};
use srs_proxy_core::machine::{Action, Leg, OpenError, Parsed};
use srs_proxy_core::origin::{MAX_ENDPOINTS, MAX_TEXT, Origin, OriginId, Protocol};
use srs_proxy_core::query::{Answer, Picked, Query, Refusal};
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_core::rtmp::chunk::{ChunkReader, MessageHeader, Step};
use srs_proxy_core::time::Time;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What a target does with bytes.
pub type Body = fn(&[u8]);

/// Every target's name and body.
pub const TARGETS: [(&str, Body); 22] = [
    ("amf0", amf0),
    ("chunks", chunks),
    ("rtmp_session", rtmp_session),
    ("rtmp_splits", rtmp_splits),
    ("stream_key", stream_key),
    ("endpoint", address),
    ("registration", registration),
    ("http_head", http_head),
    ("http_api", http_api),
    ("http_connection", http_connection),
    ("http_splits", http_splits),
    ("playlist", playlist),
    ("manifest", manifest),
    ("sdp", sdp),
    ("envelope", envelope),
    ("stun", stun),
    ("rtc_hub", rtc_hub),
    ("srt_packet", srt_packet),
    ("srt_stream_id", srt_stream_id),
    ("srt_hub", srt_hub),
    ("redis_desk", redis_desk),
    ("redis_records", redis_records),
];

/// How a stream of bytes is cut.
#[derive(Clone, Copy, Debug)]
pub enum Split {
    /// Not at all.
    Whole,
    /// Into pieces of this size.
    Every(usize),
    /// At random, by this seed.
    Random(u64),
}

impl Split {
    /// The pieces.
    pub fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole => vec![bytes],
            Self::Every(size) => bytes.chunks(size).collect(),
            Self::Random(seed) => {
                let (mut dice, mut pieces, mut rest) = (Dice::new(seed), Vec::new(), bytes);
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(dice.any_size(4000).min(rest.len()));
                    pieces.push(piece);
                    rest = after;
                }
                pieces
            }
        }
    }
}

// AMF0.

/// What is read can be written, and reads the same.
pub fn amf0(bytes: &[u8]) {
    let Some(written) = rewrite(bytes) else { return };
    assert_eq!(rewrite(&written).as_ref(), Some(&written), "what was written reads otherwise");
    if let Ok(values) = independent::decode_all(bytes) {
        let mut again = Vec::new();
        values.iter().for_each(|value| value.encode(&mut again));
        let same = independent::decode_all(&written).map(|values| format!("{values:?}"));
        assert_eq!(same, Ok(format!("{values:?}")), "an independent reader reads otherwise");
    }
}

fn rewrite(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut encoder) = (Decoder::new(bytes), Amf0Encoder::new());
    while let Some(value) = decoder.next_value().ok()? {
        encoder = encoder.value(&value);
    }
    Some(encoder.into_bytes())
}

// Chunks.

/// Chunk stream, timestamp, type, message stream and payload of a message.
pub type Plain = (u32, u32, u8, u32, Vec<u8>);

/// Messages as the proxy's chunk reader sees them, up to the first error.
pub fn read_chunks(bytes: &[u8], split: Split) -> (Vec<Plain>, Option<&'static str>) {
    let (mut reader, mut messages) = (ChunkReader::default(), Vec::new());
    let mut open: Vec<(u32, MessageHeader, Vec<u8>)> = Vec::new();
    let (mut at, mut given) = (0, 0);
    for piece in split.pieces(bytes) {
        given += piece.len();
        loop {
            let (step, used) = match reader.next(&bytes[at..given]) {
                Ok(Parsed::Complete(step, used)) => (step, used),
                Ok(Parsed::Partial) => break,
                Err(error) => return (messages, Some(error.as_str())),
            };
            let complete = match step {
                Step::Header(header) => {
                    if header.begins {
                        open.retain(|(csid, ..)| *csid != header.csid);
                        open.push((header.csid, header.message, Vec::new()));
                    }
                    (header.message.length == 0).then_some(header.csid)
                }
                Step::Payload { csid, complete } => {
                    let message = open.iter_mut().find(|(id, ..)| *id == csid).expect("a message is open");
                    message.2.extend_from_slice(&bytes[at..at + used]);
                    complete.then_some(csid)
                }
            };
            at += used;
            let Some(index) = open.iter().position(|(csid, ..)| complete == Some(*csid)) else { continue };
            let (csid, header, payload) = open.remove(index);
            let value = payload.first_chunk().map(|value| u32::from_be_bytes(*value));
            match (header.type_id, value) {
                (kind::SET_CHUNK_SIZE, size) => {
                    if let Err(error) = reader.set_chunk_size(size.unwrap_or(0)) {
                        return (messages, Some(error.as_str()));
                    }
                }
                (kind::ABORT, Some(csid)) => reader.abort(csid),
                _ => {}
            }
            messages.push((csid, header.timestamp, header.type_id, header.stream_id, payload));
        }
    }
    (messages, None)
}

/// Messages as the independent reader sees them, if it takes the bytes.
pub fn dechunk(bytes: &[u8]) -> Option<Vec<Message>> {
    let mut dechunker = Dechunker::new();
    dechunker.feed(bytes).ok()?;
    Some(std::iter::from_fn(|| dechunker.next_message()).collect())
}

/// What both readers are compared by.
pub fn plain(messages: Vec<Message>) -> Vec<Plain> {
    messages.into_iter().map(|m| (m.csid, m.timestamp, m.type_id, m.stream_id, m.payload.to_vec())).collect()
}

/// Splits mean nothing, and what a strict reader takes is read the same.
pub fn chunks(bytes: &[u8]) {
    let whole = read_chunks(bytes, Split::Whole);
    assert_eq!(read_chunks(bytes, Split::Every(1)), whole, "byte by byte");
    assert_eq!(read_chunks(bytes, Split::Random(1)), whole, "in pieces");
    let too_many = whole.1 == Some("too many chunk streams");
    if let Some(messages) = dechunk(bytes).filter(|_| !too_many) {
        assert_eq!(whole, (plain(messages), None), "an independent reader reads otherwise");
    }
}

// RTMP sessions.

/// The leg of the first origin.
pub const ORIGIN: Leg = Leg::new(1, 1);

fn picked() -> Answer {
    let to = (Ipv4Addr::new(10, 0, 0, 1), 1935).into();
    Answer::Picked(Picked { origin: OriginId::new("origin", "0", "1"), to })
}

/// What a session comes to: all that was sent to each leg, and all else that was done, in order.
#[derive(PartialEq, Debug)]
pub struct Outcome {
    /// What the client was sent.
    pub client: Vec<u8>,
    /// What the origin was sent.
    pub origin: Vec<u8>,
    /// All other actions.
    pub deeds: Vec<Action>,
    /// Whether the session ended.
    pub over: bool,
    /// It ended before somebody left.
    pub cut: bool,
}

/// An RTMP session: the client's bytes, its origin's answer to them, then the end of whoever leaves.
pub fn rtmp(client: &[u8], origin: &[u8], split: Split, client_leaves: bool) -> Outcome {
    rtmp_in_pieces(&split.pieces(client), &split.pieces(origin), client_leaves)
}

fn rtmp_in_pieces(client: &[&[u8]], origin: &[&[u8]], client_leaves: bool) -> Outcome {
    let mut driver = Straight::new(5, RtmpSession::new(Time::ZERO));
    client.iter().for_each(|piece| driver.bytes(Leg::CLIENT, piece));
    driver.answer(picked());
    driver.opened();
    origin.iter().for_each(|piece| driver.bytes(ORIGIN, piece));
    let cut = driver.is_over();
    driver.eof(if client_leaves { Leg::CLIENT } else { ORIGIN }, false);
    Outcome {
        cut,
        client: driver.sent(Leg::CLIENT).to_vec(),
        origin: driver.sent(ORIGIN).to_vec(),
        over: driver.is_over(),
        deeds: driver.deeds,
    }
}

/// C0, C1 and C2, or S0, S1 and S2, without the client's digest.
fn handshake() -> Vec<u8> {
    let mut bytes = vec![0; 1 + 2 * 1536];
    bytes[0] = 3;
    bytes
}

/// However the bytes of a session are split, it comes to the same. One byte chooses the split, two say how much
/// of the rest is the client's, and the remainder is its origin's; both after their handshakes.
pub fn rtmp_splits(bytes: &[u8]) {
    let Some(([seed, high, low], rest)) = bytes.split_first_chunk() else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (client, origin) = rest.split_at(length.min(rest.len()));
    // The handshakes come in one piece each: byte by byte they take most of the time.
    let handshake = handshake();
    let run = |split: Split| {
        let pieces = |bytes| [vec![&handshake[..]], split.pieces(bytes)].concat();
        rtmp_in_pieces(&pieces(client), &pieces(origin), seed % 2 == 0)
    };
    let whole = run(Split::Whole);
    for split in [Split::Every(1), Split::Random((*seed).into())] {
        let outcome = run(split);
        assert_eq!(outcome.cut, whole.cut, "{split:?}");
        assert!(same(&outcome.client, &whole.client, whole.cut), "{split:?}: the client gets other bytes");
        assert!(same(&outcome.origin, &whole.origin, whole.cut), "{split:?}: the origin gets other bytes");
        if !whole.cut {
            assert_eq!((outcome.deeds, outcome.over), (whole.deeds.clone(), whole.over), "{split:?}");
        }
    }
}

/// Whether two runs sent the same. If one side broke the protocol it depends on the splits how far the other
/// side's bytes had come, and no more.
fn same(a: &[u8], b: &[u8], cut: bool) -> bool {
    a == b || cut && (a.starts_with(b) || b.starts_with(a))
}

/// Bytes read as a script of what happens to a session.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// As many bytes as the next one says.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?);
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        Some(bytes)
    }
}

/// Anything may happen in any order: the contract holds, nothing panics, and silence ends it.
pub fn rtmp_session(bytes: &[u8]) {
    let mut script = Script(bytes);
    let mut driver = Straight::new(7, RtmpSession::new(Time::ZERO));
    let (mut client, mut origin) = (Encoder::new(), Encoder::new());
    let mut leg = ORIGIN;
    while let Some(deed) = script.byte() {
        match (deed % 10, script.byte().unwrap_or(0)) {
            (0, _) => driver.bytes(Leg::CLIENT, script.bytes().unwrap_or(&[])),
            (1, _) => driver.bytes(leg, script.bytes().unwrap_or(&[])),
            (2, 0..=200) => driver.answer(picked()),
            (2, 201..=220) => driver.answer(Answer::Refused(Refusal::NoOrigin)),
            (2, 221..=240) => driver.answer(Answer::Refused(Refusal::Unavailable)),
            (2, _) => driver.answer(Answer::Registered),
            (3, _) => leg = driver.opened().unwrap_or(leg),
            (4, why) => {
                driver.open_failed([OpenError::Unreachable, OpenError::Exhausted][usize::from(why % 2)])
            }
            (5, who) => driver.eof(if who % 2 == 0 { Leg::CLIENT } else { leg }, who % 4 > 1),
            (6, 0..=250) => driver.tick(),
            (6, _) => driver.drain(),
            (7, what) => driver.bytes(Leg::CLIENT, &said(what, &mut client)),
            (8, what) => driver.bytes(leg, &answered(what, &mut origin)),
            (_, _) => {
                driver.bytes(Leg::CLIENT, &handshake());
                for what in [0, 1, 2] {
                    driver.bytes(Leg::CLIENT, &said(what, &mut client));
                }
            }
        }
        assert!(driver.questions.len() <= 1 && driver.opening.len() <= 1, "more than it can use");
    }
    // A relay is renewed for ever; nothing else waits for long.
    for _ in 0..20 {
        driver.tick();
    }
    let relays = driver.deeds.iter().any(|deed| matches!(deed, Action::Note { note, .. } if is_routed(note)));
    assert!(driver.is_over() || relays, "silence does not end it");
}

fn is_routed(note: &srs_proxy_core::machine::Note) -> bool {
    matches!(note, srs_proxy_core::machine::Note::Routed { .. })
}

/// What clients say.
fn said(what: u8, encoder: &mut Encoder) -> Vec<u8> {
    let object = command::connect_object("live", "rtmp://example.com/live", &[]);
    let message = match what % 9 {
        0 => command::connect(1.0, object).message(COMMAND_CSID, 0),
        1 => command::create_stream(2.0).message(COMMAND_CSID, 0),
        2 => command::publish(3.0, "s").message(8, 1),
        3 => command::play(3.0, "s").message(8, 1),
        4 => command::delete_stream(4.0, 1).message(COMMAND_CSID, 0),
        5 => control::buffer_length(1, 3000),
        6 => control::set_chunk_size(u32::from(what) + 1),
        7 => control::abort(8),
        _ => media(what),
    };
    written(&message, encoder)
}

/// What origins answer.
fn answered(what: u8, encoder: &mut Encoder) -> Vec<u8> {
    let id = independent::Value::Number(f64::from(what / 9 % 3 + 1));
    let message = match what % 9 {
        0 => return handshake(),
        1 => command::result(1.0, independent::Value::Null, []).message(COMMAND_CSID, 0),
        2 => command::result(2.0, independent::Value::Null, [id]).message(COMMAND_CSID, 0),
        3 => command::on_status("status", "NetStream.Publish.Start", "").message(5, 1),
        4 => command::on_status("error", "NetStream.Publish.BadName", "").message(5, 1),
        5 => command::error([1.0, 2.0][usize::from(what) % 2], "NetConnection.Call.Failed", "")
            .message(COMMAND_CSID, 0),
        6 => control::set_chunk_size(u32::from(what) + 1),
        7 => control::stream_begin(1),
        _ => media(what),
    };
    written(&message, encoder)
}

fn media(what: u8) -> Message {
    let timestamp = u32::from(what) * 0x0003_0000;
    let command = Command::new("@setDataFrame", 0.0, [independent::Value::string("x".repeat(what.into()))]);
    Message { type_id: kind::VIDEO, timestamp, ..command.message(3 + u32::from(what % 4), 1) }
}

fn written(message: &Message, encoder: &mut Encoder) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder.write(message, &mut bytes);
    bytes
}

// Text.

/// A key is made of three parts within their limits, without control characters, whatever it was made from.
pub fn stream_key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(3, '\n');
    let [a, b, c] = [(); 3].map(|()| parts.next().unwrap_or(""));
    for key in [StreamKey::from_rtmp(a, b, c), StreamKey::from_http(a, b), StreamKey::new(a, b, c)] {
        let Ok(key) = key else { continue };
        let (vhost, rest) = key.as_str().split_once('/').expect("a vhost");
        let (app, stream) = rest.rsplit_once('/').expect("an app");
        assert!(!vhost.is_empty() && !app.is_empty() && !stream.is_empty(), "{key}");
        assert!(vhost.len() <= MAX_VHOST && app.len() <= MAX_APP && stream.len() <= MAX_STREAM, "{key}");
        assert!(!key.as_str().chars().any(char::is_control), "{key:?}");
    }
}

/// An address that is read can be written and read again.
pub fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let ip = IpAddr::from([10, 0, 0, 1]);
    if let Ok(address) = endpoint::resolve(&text, ip) {
        assert!(address.port() != 0 && !address.ip().is_unspecified(), "{address}");
        assert_eq!(
            endpoint::resolve(&plain_address(address), ip),
            Ok(plain_address(address).parse().expect("one"))
        );
    }
    if let Ok(address) = endpoint::listen(&text) {
        let again = plain_address(address);
        assert_eq!(endpoint::listen(&again), Ok(again.parse().expect("an address")));
    }
}

/// Without the scope of an IPv6 address.
fn plain_address(address: SocketAddr) -> String {
    SocketAddr::new(address.ip(), address.port()).to_string()
}

/// A registration that is taken is within the limits.
pub fn registration(bytes: &[u8]) {
    let Ok(origin) = Origin::from_json(bytes) else { return };
    for text in [&origin.device_id, &origin.server, &origin.service, &origin.pid] {
        assert!(text.len() <= MAX_TEXT, "{text}");
    }
    assert!(origin.serves(Protocol::Rtmp).count() >= 1, "RTMP is mandatory");
    for protocol in Protocol::ALL {
        assert!(origin.serves(protocol).count() <= MAX_ENDPOINTS, "{protocol}");
    }
    assert!(origin.endpoints.iter().all(|(_, at)| at.port() != 0 && !at.ip().is_unspecified()));
}

// HTTP.

/// A date is one however it is written.
fn check_date(text: &str) {
    if let Ok(date) = text.parse::<HttpDate>() {
        assert_eq!(date.to_string().parse(), Ok(date), "{text}");
    }
}

/// A head is the same however it arrives, and ends where its empty line does.
pub fn http_head(bytes: &[u8]) {
    let whole = HeadReader::default().read(bytes);
    let mut reader = HeadReader::default();
    let mut piecewise = Ok(Parsed::Partial);
    for end in 1..=bytes.len() {
        piecewise = reader.read(&bytes[..end]);
        if !matches!(piecewise, Ok(Parsed::Partial)) {
            break;
        }
    }
    assert_eq!(piecewise, whole, "byte by byte");
    if let Ok(Parsed::Complete(head, used)) = whole {
        assert!(bytes[..used].ends_with(b"\r\n\r\n"), "{used}");
        let _ =
            (head.path(), head.query(), head.host(), head.keep_alive(), head.expectation(), head.bearer());
        for field in head.fields.iter() {
            let tokens: usize = head.fields.tokens(field.name).map(str::len).sum();
            let values: usize = head.values(field.name).map(<[u8]>::len).sum();
            assert!(tokens <= values, "{field:?}");
            check_date(&String::from_utf8_lossy(field.value));
        }
    }
    check_date(&String::from_utf8_lossy(bytes));
}

/// However the bytes of a connection are split, and whatever the load balancer says, the answers are the same.
pub fn http_api(bytes: &[u8]) {
    let Some((&manner, bytes)) = bytes.split_first() else { return };
    let whole = api(manner, bytes, Split::Whole);
    for split in [Split::Every(1), Split::Random(manner.into())] {
        assert_eq!(api(manner, bytes, split), whole, "{split:?}");
    }
}

/// What a connection to the API is answered, and whether it ended.
fn api(manner: u8, bytes: &[u8], split: Split) -> (String, bool) {
    let token = (manner & 1 != 0).then(|| "secret".to_owned());
    let config = HttpConfig { signature: "srs-proxy".into(), token, ..HttpConfig::default() };
    let server = [Server::System, Server::HttpApi, Server::Http][usize::from(manner >> 1) % 3];
    let client = SocketAddr::from(([10, 0, 0, 9], 1234));
    let mut driver = Straight::new(1, Connection::new(Arc::new(config), server, client, Time::ZERO));
    for piece in split.pieces(bytes) {
        driver.bytes(Leg::CLIENT, piece);
        while let Some((_, query)) = driver.questions.front() {
            let answer = match query {
                _ if manner & 64 != 0 => Answer::Refused(Refusal::Unavailable),
                Query::Register(_) => Answer::Registered,
                Query::Drain { on, .. } => Answer::Known(*on),
                Query::Deregister(_) => Answer::Known(true),
                _ => Answer::Origins(Vec::new()),
            };
            driver.answer(answer);
        }
    }
    driver.eof(Leg::CLIENT, false);
    (String::from_utf8_lossy(driver.sent(Leg::CLIENT)).into_owned(), driver.is_over())
}

/// Any bytes are rewritten or refused; all but the URIs stays, also as what follows a playlist's first line.
pub fn playlist(bytes: &[u8]) {
    check_playlist(bytes);
    check_playlist(&[b"#EXTM3U\n", bytes].concat());
}

/// Any bytes are rewritten or refused; nothing of them is lost, also as what is in an MPD.
pub fn manifest(bytes: &[u8]) {
    let _ = check_manifest(bytes);
    let _ = check_manifest(&[b"<MPD>", bytes, b"</MPD>"].concat());
}

// WebRTC.

/// What a proxy's addresses may be, two bits of a byte choose.
fn addresses(manner: u8) -> Vec<IpAddr> {
    let all = [IpAddr::from([203, 0, 113, 7]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7])];
    all.into_iter().enumerate().filter(|(n, _)| manner >> n & 1 == 1).map(|(_, address)| address).collect()
}

/// Any bytes are rewritten or refused; no candidate leads past the proxy, and all else stays.
pub fn sdp(bytes: &[u8]) {
    let Some((&manner, bytes)) = bytes.split_first() else { return };
    let _ = check_sdp(bytes, &addresses(manner));
    let _ = check_sdp(&[b"v=0\nm=audio 9 X 0\n", bytes].concat(), &addresses(manner));
}

/// Any bytes are read or refused; of an answer only the description changes, also as what is beside a good one.
pub fn envelope(bytes: &[u8]) {
    let Some((&manner, bytes)) = bytes.split_first() else { return };
    let _ = srs_proxy_core::rtc::envelope::offer(bytes);
    let _ = check_envelope(bytes, &addresses(manner));
    let good = br#"{"code":0,"sdp":"v=0\nm=audio 9 X 0\na=ice-ufrag:a\na=candidate:0 1 udp 1 10.0.0.1 1 typ host\n","x":"#;
    let _ = check_envelope(&[good, bytes, b"}"].concat(), &addresses(manner));
}
