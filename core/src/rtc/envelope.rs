//! SRS's own signalling, `/rtc/v1/publish/` and `/rtc/v1/play/`: descriptions inside of JSON. Reads which stream
//! an offer is for, and leads an answer's candidates to the proxy; in JSON it changes nothing but that.
//!
//! ```text
//! {"api": "http://…", "clientip": null, "sdp": "v=0\r\n…", "streamurl": "webrtc://host/app/stream", "tid": "2b45a06"}
//! {"code": 0, "server": "vid-…", "service": "…", "pid": "…", "sdp": "v=0\r\n…", "sessionid": "server:client"}
//! ```

use super::sdp::{self, Candidates, MAX_SDP, SdpError};
use crate::key::{KeyError, StreamKey};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest envelope, in bytes: the longest description, each of whose characters JSON may write as two, and
/// as much again as a client's `streamurl` may have.
pub const MAX_ENVELOPE: usize = 2 * MAX_SDP + 16 * 1024;

/// Why an envelope is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnvelopeError {
    /// It is no JSON object, or a field in it is of another type.
    NoEnvelope,
    /// It is longer than [`MAX_ENVELOPE`].
    TooLong,
    /// There is no `sdp`.
    NoSdp,
    /// There is no `streamurl`.
    NoStreamUrl,
    /// Its `streamurl` names no stream.
    Key(KeyError),
    /// Its `sdp` is not read.
    Sdp(SdpError),
}

impl EnvelopeError {
    /// The error in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoEnvelope => "not a JSON object of signalling",
            Self::TooLong => "signalling too long",
            Self::NoSdp => "no sdp",
            Self::NoStreamUrl => "no streamurl",
            Self::Key(why) => why.as_str(),
            Self::Sdp(why) => why.as_str(),
        }
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for EnvelopeError {}

impl From<SdpError> for EnvelopeError {
    fn from(why: SdpError) -> Self {
        Self::Sdp(why)
    }
}

impl From<KeyError> for EnvelopeError {
    fn from(why: KeyError) -> Self {
        Self::Key(why)
    }
}

/// What a client offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The stream.
    pub key: StreamKey,
    /// The client's ICE user name.
    pub ufrag: String,
}

/// What its origin answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The origin's ICE user name.
    pub ufrag: String,
    /// The envelope, with candidates that lead to the proxy.
    pub json: Vec<u8>,
}

/// Reads a client's request.
///
/// # Errors
/// If it is no envelope, or names no stream or no user.
pub fn offer(json: &[u8]) -> Result<Offer, EnvelopeError> {
    /// The fields that matter.
    #[derive(Deserialize)]
    struct Fields {
        sdp: Option<String>,
        streamurl: Option<String>,
    }
    let fields: Fields = read(json)?;
    let key = key(&fields.streamurl.ok_or(EnvelopeError::NoStreamUrl)?)?;
    let ufrag = sdp::ufrag(fields.sdp.ok_or(EnvelopeError::NoSdp)?.as_bytes())?.into();
    Ok(Offer { key, ufrag })
}

/// Reads an origin's response and rewrites it: the bytes of its `sdp` are replaced, all others stay. `None` if
/// the origin refuses, with a code that is not 0; then there is nothing to rewrite.
///
/// # Errors
/// If it is no envelope, or its description is not as it must be (see [`sdp::rewrite`]).
pub fn answer(json: &[u8], candidates: &Candidates<'_>) -> Result<Option<Answer>, EnvelopeError> {
    /// The fields that matter; the raw one as it stands in the text.
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(default)]
        code: i64,
        #[serde(borrow)]
        sdp: Option<&'a RawValue>,
    }
    let fields: Fields<'_> = read(json)?;
    if fields.code != 0 {
        return Ok(None);
    }
    let raw = fields.sdp.ok_or(EnvelopeError::NoSdp)?.get();
    let text: String = serde_json::from_str(raw).map_err(|_| EnvelopeError::NoSdp)?;
    let ufrag = sdp::ufrag(text.as_bytes())?.into();
    let text = String::from_utf8(sdp::rewrite(text.as_bytes(), candidates)?);
    let text = text.ok().and_then(|text| serde_json::to_string(&text).ok()).ok_or(EnvelopeError::NoSdp)?;
    // `raw` is a part of `json`.
    let start = raw.as_ptr().addr().wrapping_sub(json.as_ptr().addr());
    let (before, rest) = json.split_at_checked(start).ok_or(EnvelopeError::NoEnvelope)?;
    let (_, after) = rest.split_at_checked(raw.len()).ok_or(EnvelopeError::NoEnvelope)?;
    Ok(Some(Answer { ufrag, json: [before, text.as_bytes(), after].concat() }))
}

/// Reads JSON, in bounded depth.
fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, EnvelopeError> {
    if json.len() > MAX_ENVELOPE {
        return Err(EnvelopeError::TooLong);
    }
    // An array would do for a struct.
    let is_object = json.trim_ascii_start().starts_with(b"{");
    let fields = if is_object { serde_json::from_slice(json).ok() } else { None };
    fields.ok_or(EnvelopeError::NoEnvelope)
}

/// The key of a `streamurl`: `webrtc://host:port/app/stream?query`, of whatever scheme. It is made as that of an
/// RTMP URL, since that is what SRS takes it for.
fn key(url: &str) -> Result<StreamKey, KeyError> {
    let path = url.find(['?', '#']).unwrap_or(url.len());
    let (path, _) = url.split_at(path);
    let authority = path.find("://").map_or(0, |scheme| scheme + 3);
    match path.rfind('/').filter(|slash| *slash >= authority) {
        Some(slash) => {
            let (tc_url, stream) = url.split_at(slash);
            let app = if authority == 0 { tc_url } else { "" };
            StreamKey::from_rtmp(tc_url, app, stream)
        }
        None => Err(KeyError::NoStream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use core::net::IpAddr;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    const ANSWER: &str =
        "v=0\r\na=ice-ufrag:srv\r\nm=audio 9 X 1\r\na=candidate:0 1 udp 7 10.0.0.9 8000 typ host\r\n";
    const PROXY: Candidates<'_> = Candidates { port: 18000, addresses: &[] };

    fn offered(streamurl: &str) -> Result<String, EnvelopeError> {
        let fields = [("sdp", "v=0\r\na=ice-ufrag:cli\r\n"), ("streamurl", streamurl)];
        let json = Map::from_iter(fields.map(|(name, text)| (name.to_string(), Value::from(text))));
        let offer = offer(Value::from(json).to_string().as_bytes())?;
        assert_eq!(offer.ufrag, "cli");
        Ok(offer.key.to_string())
    }

    #[test]
    fn a_streamurl_names_the_stream_that_rtmp_does() {
        for url in [
            "webrtc://example.com/live/cam",
            "webrtc://example.com:1985/live/cam",
            "webrtc://user:secret@example.com/live/cam",
            "webrtc://10.0.0.1:1985/live/cam?vhost=example.com",
            "webrtc://10.0.0.1/live/cam?token=a/b&vhost=example.com&c=http://d/e",
            "webrtc://10.0.0.1/live/cam?domain=example.com#f/g",
            "webrtc://10.0.0.1/live...vhost...example.com/cam",
            "webrtc://example.com//live/cam",
            "webrtc://example.com/live/cam.flv",
            "webrtc://example.com/l%69ve/c%61m",
            "rtc://EXAMPLE.com/live/cam",
            "rtmp://example.com/live/cam",
            "https://example.com/live/_definst_/cam?eip=10.0.0.1:8000",
            "/live/cam?vhost=example.com",
            "live/cam?vhost=example.com",
        ] {
            assert_eq!(offered(url).as_deref(), Ok("example.com/live/cam"), "{url}");
        }
        for (url, key) in [
            ("webrtc://localhost/live/cam", "__defaultVhost__/live/cam"),
            ("webrtc://[2001:db8::1]:1985/live/cam", "__defaultVhost__/live/cam"),
            ("webrtc://10.0.0.1/live/room/cam", "__defaultVhost__/live/room/cam"),
            ("webrtc://10.0.0.1/cam", "__defaultVhost__/__defaultApp__/cam"),
            ("live/cam", "__defaultVhost__/live/cam"),
        ] {
            assert_eq!(offered(url).as_deref(), Ok(key), "{url}");
        }
        for url in
            ["", "cam", "webrtc://", "webrtc://h", "webrtc://h/", "webrtc://h/live/", "webrtc://h/?a=/b/c"]
        {
            assert_eq!(offered(url), Err(EnvelopeError::Key(KeyError::NoStream)), "{url}");
        }
    }

    #[test]
    fn a_request_that_lacks_something_says_what() {
        for (json, why) in [
            (r#""#, EnvelopeError::NoEnvelope),
            (r#"["v=0", "webrtc://h/a/s"]"#, EnvelopeError::NoEnvelope),
            (r#"{"sdp": 1, "streamurl": "webrtc://h/a/s"}"#, EnvelopeError::NoEnvelope),
            (r#"{"sdp": "v=0", "streamurl": "webrtc://h/a/s"} x"#, EnvelopeError::NoEnvelope),
            (r#"{"sdp": "v=0", "streamurl": "a/b", "streamurl": "a/c"}"#, EnvelopeError::NoEnvelope),
            (r#"{"streamurl": "webrtc://h/a/s"}"#, EnvelopeError::NoSdp),
            (r#"{"sdp": null, "streamurl": "webrtc://h/a/s"}"#, EnvelopeError::NoSdp),
            (r#"{"sdp": "v=0"}"#, EnvelopeError::NoStreamUrl),
            (r#"{"sdp": "v=0", "streamurl": "webrtc://h"}"#, EnvelopeError::Key(KeyError::NoStream)),
            (r#"{"sdp": "v=0", "streamurl": "webrtc://h/a/s"}"#, EnvelopeError::Sdp(SdpError::NoUfrag)),
            (r#"{"sdp": "hello", "streamurl": "webrtc://h/a/s"}"#, EnvelopeError::Sdp(SdpError::NoSdp)),
        ] {
            assert_eq!(offer(json.as_bytes()), Err(why), "{json}");
        }
        let deep = format!("{{\"x\":{}1{},\"sdp\":\"v=0\"}}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(offer(deep.as_bytes()).is_err());
        assert_eq!(offer(&[b' '; MAX_ENVELOPE + 1]), Err(EnvelopeError::TooLong));
    }

    #[test]
    fn only_the_bytes_of_the_sdp_are_replaced() {
        let sdp = Value::from(ANSWER).to_string();
        let led = sdp.replace("8000", "18000");
        for (before, after) in [
            (r#"{"code":0,"server":"vid-1","sdp":"#, r#","sessionid":"srv:cli"}"#),
            (
                "{ \"sdp\" :\t",
                " , \"code\": 0, \"z\": {\"sdp\": \"v=0\"}, \"a\": [1.50, 1e3, \"\\u00e4\\/\"] }\n",
            ),
            (r#"{"s\u0064p":"#, "}"),
        ] {
            let answer = answer(format!("{before}{sdp}{after}").as_bytes(), &PROXY).unwrap().unwrap();
            assert_eq!(String::from_utf8(answer.json).unwrap(), format!("{before}{led}{after}"));
            assert_eq!(answer.ufrag, "srv");
        }
    }

    #[test]
    fn a_refusal_needs_no_rewriting() {
        for json in [r#"{"code":400}"#, r#"{"code": -1, "sdp": "v=0"}"#, r#"{"code":5020,"data":{}}"#] {
            assert_eq!(answer(json.as_bytes(), &PROXY), Ok(None), "{json}");
        }
    }

    #[test]
    fn an_answer_that_could_not_be_used_says_why() {
        for (json, why) in [
            (r#"{"code":0}"#, EnvelopeError::NoSdp),
            (r#"{"code":0,"sdp":null}"#, EnvelopeError::NoSdp),
            (r#"{"code":0,"sdp":{}}"#, EnvelopeError::NoSdp),
            (r#"{"code":"0","sdp":"v=0"}"#, EnvelopeError::NoEnvelope),
            (r#"{"code":0,"sdp":"v=0","sdp":"v=0"}"#, EnvelopeError::NoEnvelope),
            (r#"{"code":0,"sdp":"v=0"}"#, EnvelopeError::Sdp(SdpError::NoUfrag)),
            (r#"{"sdp":"v=0\na=ice-ufrag:a\nm=audio 9 X 1"}"#, EnvelopeError::Sdp(SdpError::NoCandidate)),
            ("<html>", EnvelopeError::NoEnvelope),
            ("[0, \"v=0\"]", EnvelopeError::NoEnvelope),
        ] {
            assert_eq!(answer(json.as_bytes(), &PROXY), Err(why), "{json}");
        }
    }

    proptest! {
        #[test]
        fn whatever_else_is_in_an_answer_comes_out_as_it_was(
            before in proptest::collection::btree_map("[a-z]{4,6}", "[^\r\n]{0,9}", 0..4),
            line in "[^\r\n]{0,9}",
            address: IpAddr,
        ) {
            let mut json = Map::from_iter(before.into_iter().map(|(name, text)| (name, Value::from(text))));
            json.insert("code".into(), 0.into());
            json.insert("sdp".into(), format!("{ANSWER}s={line}\r\n").into());
            let to = Candidates { port: 18000, addresses: &[address] };
            let answer = answer(&serde_json::to_vec(&json).unwrap(), &to).unwrap().unwrap();
            let mut out: Map<String, Value> = serde_json::from_slice(&answer.json).unwrap();
            let candidate = format!("a=candidate:1 1 udp 7 {address} 18000 typ host\r\ns={line}\r\n");
            prop_assert!(out["sdp"].as_str().unwrap().ends_with(&candidate));
            out["sdp"] = json["sdp"].clone();
            prop_assert_eq!(out, json);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "(.|[{}\":,])*") {
            for json in [&bytes[..], text.as_bytes(), format!("{{\"sdp\":{text:?}}}").as_bytes()] {
                let _ = (offer(json), answer(json, &PROXY));
            }
        }
    }
}
