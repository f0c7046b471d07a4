//! SRS's own signalling, `/rtc/v1/publish/` and `/rtc/v1/play/`: descriptions inside of JSON. Reads which stream
//! an offer is for, and leads an answer's candidates to the proxy; in JSON it changes nothing but that.
//!
//! ```text
//! {"api": "http://…", "clientip": null, "sdp": "v=0\r\n…", "streamurl": "webrtc://host/app/stream", "tid": "2b45a06"}
//! {"code": 0, "server": "vid-…", "service": "…", "pid": "…", "sdp": "v=0\r\n…", "sessionid": "server:client"}
//! ```

use super::sdp::{self, Candidates, MAX_SDP, SdpError};
use crate::key::{KeyError, StreamKey};
use alloc::borrow::Cow;
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
    struct Fields<'a> {
        #[serde(borrow)]
        sdp: Option<Cow<'a, str>>,
        #[serde(borrow)]
        streamurl: Option<Cow<'a, str>>,
    }
    let fields: Fields<'_> = read(json)?;
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
