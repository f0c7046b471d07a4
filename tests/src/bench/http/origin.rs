//! The origin's side of one connection: what is asked for, and the heads of the answers. No I/O.

use crate::bench::media::{HEAD, Head, Payloads};
use std::ops::Range;

/// A request's head longer than this is a mistake.
const HEAD_MAX: usize = 16 * 1024;

/// How live answers are framed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// In chunks, one for each message, as SRS does.
    Chunked,
    /// They end with the connection.
    Close,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// `/live/sSTREAM.flv?viewer=N`: media without an end.
    Live(usize),
    /// `/live/sSTREAM.m3u8`.
    Playlist(u64),
    /// `/live/sSTREAM-segment.ts?n=NUMBER`.
    Segment(u64, u64),
}

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// For what.
    pub asked: Asked,
    /// The client asks that the connection be closed.
    pub last: bool,
}

/// Takes one request off the front of `held`, if a whole one is there.
///
/// # Errors
/// It is not one that this origin knows.
pub fn take_request(held: &mut Vec<u8>) -> Result<Option<Request>, String> {
    let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if held.len() > HEAD_MAX { Err("a request too long".into()) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&held[..end]).to_ascii_lowercase();
    held.drain(..end + 4);
    let last =
        head.lines().any(|line| line.strip_prefix("connection:").is_some_and(|to| to.trim() == "close"));
    let target = head.strip_prefix("get /live/s").and_then(|rest| rest.split(' ').next());
    let asked = target.and_then(asked).ok_or_else(|| format!("a request for something else: {head:?}"))?;
    Ok(Some(Request { asked, last }))
}

fn asked(target: &str) -> Option<Asked> {
    let (name, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok())
    };
    if let Some(stream) = name.strip_suffix("-segment.ts") {
        Some(Asked::Segment(stream.parse().ok()?, parameter("n")?))
    } else if let Some(stream) = name.strip_suffix(".m3u8") {
        Some(Asked::Playlist(stream.parse().ok()?))
    } else {
        name.strip_suffix(".flv")?;
        Some(Asked::Live(parameter("viewer")? as usize))
    }
}

/// What a live answer begins with.
pub fn live_head(framing: Framing, last: bool) -> Vec<u8> {
    let fields = match framing {
        Framing::Chunked if last => "Transfer-Encoding: chunked\r\nConnection: close\r\n",
        Framing::Chunked => "Transfer-Encoding: chunked\r\n",
        Framing::Close => "Connection: close\r\n",
    };
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n{fields}\r\n").into_bytes();
    let file = super::flv::FILE_HEADER;
    if framing == Framing::Chunked {
        bytes.extend_from_slice(format!("{:x}\r\n", file.len()).as_bytes());
    }
    bytes.extend_from_slice(&file);
    if framing == Framing::Chunked {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The answer to [`Asked::Playlist`].
pub fn playlist(stream: u64, last: bool) -> Vec<u8> {
    let body = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:2.000,\n\
         s{stream}-segment.ts\n"
    );
    [head("application/vnd.apple.mpegurl", body.len(), last), body.into_bytes()].concat()
}

/// The answer to [`Asked::Segment`] up to the payload's head; of its body, what is left to send.
pub fn segment(payloads: &Payloads, payload: Head, last: bool) -> (Vec<u8>, Range<usize>) {
    let mut bytes = head("video/mp2t", payloads.size(), last);
    bytes.extend_from_slice(&payload.bytes());
    (bytes, 0..payloads.size() - HEAD)
}

fn head(kind: &str, length: usize, last: bool) -> Vec<u8> {
    let last = if last { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{last}\r\n").into_bytes()
}
