//! A client's HTTP connection, fed with whatever the fuzzer chooses as client, origin and load balancer.

use super::{Script, Split, same};
use crate::http::{Fields, head};
use crate::sim::Straight;
use srs_proxy_core::http::{Connection, Files, HttpConfig, Server};
use srs_proxy_core::machine::{Action, FileInfo, Leg, OpenError, Opened};
use srs_proxy_core::origin::OriginId;
use srs_proxy_core::query::{Answer, HlsSession, Picked, Query, Refusal};
use srs_proxy_core::time::Time;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Requests of one connection after which it is let go: what the fuzzer can say in a few bytes.
const MOST_REQUESTS: usize = 200;

fn connection(server: Server, files: Files) -> Straight<Connection> {
    let client = SocketAddr::from(([192, 0, 2, 9], 1234));
    let config = HttpConfig { files, ..HttpConfig::default() };
    Straight::new(3, Connection::new(Arc::new(config), server, client, Time::ZERO))
}

fn picked() -> Answer {
    let to = (Ipv4Addr::new(10, 0, 0, 1), 8080).into();
    Answer::Picked(Picked { origin: OriginId::new("origin", "0", "1"), to })
}

fn session(id: &Arc<str>) -> Answer {
    let key = srs_proxy_core::key::StreamKey::new("", "live", "s").expect("a key");
    Answer::Hls(Some(HlsSession { spbhid: Arc::clone(id), key, full_url: "".into() }))
}

/// What a good load balancer answers.
fn answer(query: &Query) -> Answer {
    match query {
        Query::Pick { .. } => picked(),
        Query::LoadHls(id) => session(id),
        Query::StoreHls(new) => Answer::Hls(Some(new.clone())),
        Query::StoreRtc(new) => Answer::Rtc(Some(new.clone())),
        Query::LoadRtc(_) | Query::EndOfRtc(_) => Answer::Rtc(None),
        Query::Register(_) => Answer::Registered,
        Query::Origins => Answer::Origins(Vec::new()),
        Query::Drain { .. } | Query::Deregister(_) => Answer::Known(true),
    }
}

/// Whether the leg that is being opened is a file's.
fn is_file(driver: &Straight<Connection>) -> bool {
    let opens =
        driver.deeds.iter().rev().find(|deed| matches!(deed, Action::Open { .. } | Action::OpenFile { .. }));
    matches!(opens, Some(Action::OpenFile { .. }))
}

fn file(length: u64) -> Opened {
    Opened::File(FileInfo { is_directory: length % 5 == 4, length, modified: 1_700_000_000 })
}

/// What a connection comes to.
struct Outcome {
    /// What the client was sent.
    client: Vec<u8>,
    /// What its origins were sent.
    origins: Vec<u8>,
    /// It ended with a fault.
    failed: bool,
}

/// All that the client sends is there before anybody answers; every origin says the same, and then ends.
fn converse(manner: u8, client: &[u8], origin: &[u8], split: Split) -> Outcome {
    let files = if manner & 1 == 0 { Files::Directory } else { Files::Pages(Vec::new()) };
    let server = if manner & 2 == 0 { Server::Http } else { Server::HttpApi };
    let mut driver = connection(server, files);
    split.pieces(client).iter().for_each(|piece| driver.bytes(Leg::CLIENT, piece));
    for _ in 0..MOST_REQUESTS {
        if let Some((_, query)) = driver.questions.front() {
            let answer = answer(query);
            driver.answer(answer);
        } else if driver.opening.is_empty() {
            break;
        } else if is_file(&driver) {
            driver.opened_as(file(u64::from(manner)));
        } else {
            let leg = driver.opened_as(if manner & 4 == 0 { Opened::Fresh } else { Opened::Reused });
            let leg = leg.expect("it is being opened");
            split.pieces(origin).iter().for_each(|piece| driver.bytes(leg, piece));
            driver.eof(leg, false);
        }
    }
    let origins = driver.all_sent().filter(|(leg, _)| *leg != Leg::CLIENT);
    let origins = origins.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    Outcome { client: driver.sent(Leg::CLIENT).to_vec(), origins, failed: driver.fault.is_some() }
}

/// However the bytes of a client and of its origins are split, they come to the same. One byte chooses what is
/// asked, two say how much of the rest is the client's, and the remainder is what each origin answers.
pub fn http_splits(bytes: &[u8]) {
    let Some(([manner, high, low], rest)) = bytes.split_first_chunk() else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (client, origin) = rest.split_at(length.min(rest.len()));
    let whole = converse(*manner, client, origin, Split::Whole);
    for split in [Split::Every(1), Split::Random((*manner).into())] {
        let outcome = converse(*manner, client, origin, split);
        // It depends on the splits how much of something broken passes before that is seen.
        let failed = whole.failed || outcome.failed;
        assert!(same(&outcome.client, &whole.client, failed), "{split:?}: the client gets other bytes");
        let refused = whole.client.windows(13).any(|text| text == b"broken chunks");
        let cut = failed || refused;
        assert!(same(&outcome.origins, &whole.origins, cut), "{split:?}: the origins get other bytes");
    }
}

/// Anything may happen in any order: the contract holds, nothing panics, and nothing stays of a client that left.
pub fn http_connection(bytes: &[u8]) {
    let mut script = Script(bytes);
    let manner = script.byte().unwrap_or(0);
    let files = if manner & 1 == 0 { Files::Directory } else { Files::Pages(Vec::new()) };
    let server = [Server::Http, Server::Http, Server::HttpApi, Server::System][usize::from(manner / 2 % 4)];
    let mut driver = connection(server, files);
    let mut leg = Leg::new(1, 1);
    while let Some(deed) = script.byte() {
        match (deed % 12, script.byte().unwrap_or(0)) {
            (0, _) => driver.bytes(Leg::CLIENT, script.bytes().unwrap_or(&[])),
            (1, _) => driver.bytes(leg, script.bytes().unwrap_or(&[])),
            (2, what) => {
                let Some((_, query)) = driver.questions.front() else { continue };
                let answer = match what {
                    0..=180 => answer(query),
                    181..=200 => Answer::Hls(None),
                    201..=220 => Answer::Refused(Refusal::NoOrigin),
                    221..=240 => Answer::Refused(Refusal::Unavailable),
                    _ => Answer::Registered,
                };
                driver.answer(answer);
            }
            (3, what) => {
                let opened = match (driver.opening.is_empty(), what % 2) {
                    (true, _) => continue,
                    _ if is_file(&driver) => file(u64::from(what)),
                    (_, 0) => Opened::Fresh,
                    (_, _) => Opened::Reused,
                };
                leg = driver.opened_as(opened).unwrap_or(leg);
            }
            (4, why) => {
                driver.open_failed([OpenError::Unreachable, OpenError::Exhausted][usize::from(why % 2)])
            }
            (5, who) if who % 4 == 1 => driver.hang_up(Leg::CLIENT),
            (5, who) => driver.eof(if who % 4 == 0 { Leg::CLIENT } else { leg }, who % 8 > 3),
            (6, _) => driver.tick(),
            (7, what) if what % 8 == 0 => driver.drain(),
            (7 | 8, what) => driver.bytes(Leg::CLIENT, &asked(what)),
            (_, what) => driver.bytes(leg, &answered(what)),
        }
        assert!(driver.opening.len() <= 1, "more than it can use");
    }
    driver.eof(Leg::CLIENT, false);
    // Only who asks the proxy itself may still hear the answer.
    for _ in 0..3 {
        driver.tick();
    }
    assert!(driver.is_over() || driver.is_paused(Leg::CLIENT), "the client has left, and something stays");
}

/// What clients ask.
fn asked(what: u8) -> Vec<u8> {
    let path = [
        "/live/s.flv",
        "/live/s.m3u8",
        "/live/s.mpd",
        "/live/s-1.ts?spbhid=id",
        "/spbhid/id/live/s-1.m4s",
        "/index.html",
        "/api/v1/versions",
        "/api/v1/streams?app=live&stream=s",
    ][usize::from(what % 8)];
    let (method, version) = (["GET", "HEAD", "POST", "OPTIONS"][usize::from(what / 8 % 4)], what / 32 % 2);
    let mut fields: Fields = vec![("Host".into(), "example.com".into())];
    let mut body: &[u8] = b"";
    if method == "POST" && version == 1 {
        fields.push(("Transfer-Encoding".into(), "chunked".into()));
        body = if what < 128 { b"3\r\nabc\r\n0\r\n\r\n" } else { b"3\r\nabc" };
    } else if method == "POST" {
        fields.push(("Content-Length".into(), "5".into()));
        body = if what < 128 { b"abcde" } else { b"ab" };
    }
    [&head(&format!("{method} {path} HTTP/1.{version}"), &fields), body].concat()
}

/// What origins answer.
fn answered(what: u8) -> Vec<u8> {
    let (field, body): (_, &[u8]) = match what % 8 {
        0 => (Some(("Content-Length", "7")), b"#EXTM3U"),
        1 => (Some(("Content-Length", "9")), b"#EXT"),
        2 => (Some(("Transfer-Encoding", "chunked")), b"8\r\n#EXTM3U\n\r\n0\r\nA: b\r\n\r\n"),
        3 => (Some(("Transfer-Encoding", "chunked")), b"5\r\n<MPD>"),
        4 => (None, b"#EXTM3U\na.ts\n"),
        5 => (Some(("Content-Length", "5")), b"<MPD/> and more"),
        6 => (Some(("Content-Length", "0")), b""),
        _ => return b"abc".to_vec(),
    };
    let status = ["200 OK", "206 Part", "204 None", "100 Continue", "304 Same"][usize::from(what / 8 % 5)];
    let mut fields: Fields = field.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    if what >= 128 {
        fields.push(("Connection".into(), "close".into()));
    }
    [&head(&format!("HTTP/1.1 {status}"), &fields), body].concat()
}
