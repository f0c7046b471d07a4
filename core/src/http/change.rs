//! The few bodies that are changed on their way: playlists and manifests get their session, answers of WebRTC
//! signalling the proxy's address. Moves no bytes and asks nobody; says what to ask.

use super::fields::Fields;
use super::head::{Head, path_of_target};
use super::reply::ReplyHead;
use super::routes::{Kind, SESSION};
use super::{manifest, playlist};
use crate::key::StreamKey;
use crate::machine::{Cx, Fault};
use crate::query::{HlsSession, Query, RtcSession};
use crate::rtc::envelope::{self, MAX_ENVELOPE};
use crate::rtc::sdp::{self, Candidates, MAX_SDP};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The largest playlist or manifest, in bytes: a day of two-second segments with long names has 5 MB.
const MAX_PLAYLIST: usize = 8 * 1024 * 1024;

/// The longest URL that is held with a session, in bytes: sessions are held by the hundred thousand, and whoever asks
/// may put into a query what he likes.
const MAX_FULL_URL: usize = 512;

/// The letters of a session's id.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Letters in a session's id: 120 bits, so that none can be guessed.
const SESSION_LETTERS: usize = 24;

/// Where the session of a resource is found again: its path is below this and the stream's key.
const RESOURCE: &str = "/of/";

/// What is done to the answer to one request.
#[derive(Debug)]
pub(super) struct Change {
    kind: Kind,
    /// The authority that the client asked.
    host: Box<str>,
    /// The target as the origin knows it.
    target: Box<str>,
    /// The id of the HLS session, if the request carried a valid one.
    session: Option<Arc<str>>,
    /// The client's ICE user name, if it made an offer.
    offer: Option<Box<str>>,
}

/// What becomes of a body that is there.
#[derive(Debug)]
pub(super) enum Changed {
    /// It can be sent.
    Now(Vec<u8>),
    /// This is to be asked before.
    Ask(Query, Vec<u8>),
}

impl Change {
    /// What is done to the answer to this request, if anything is.
    pub(super) fn of(kind: Kind, head: &Head<'_>, target: &str, session: Option<&Arc<str>>) -> Option<Self> {
        let host = head.host().unwrap_or_default().into();
        let changes = !matches!(kind, Kind::Live | Kind::Plain);
        changes.then(|| Self { kind, host, target: target.into(), session: session.cloned(), offer: None })
    }

    /// The session that the request carried is none.
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    /// Reads what the client offers: with JSON, that names the stream, too.
    pub(super) fn take_offer(&mut self, offer: &[u8]) -> Result<Option<StreamKey>, Fault> {
        if self.kind == Kind::Envelope {
            let offer = envelope::offer(offer).map_err(|why| Fault::Client(why.as_str()))?;
            self.offer = Some(offer.ufrag.into());
            return Ok(Some(offer.key));
        }
        // A fragment may have none: it adds to an offer that was made before.
        self.offer = sdp::ufrag(offer).ok().map(Into::into);
        Ok(None)
    }

    /// Whether this answer is one to be changed. What an origin compressed against our wish is not.
    pub(super) fn applies_to(&self, head: &ReplyHead<'_>) -> bool {
        let is_encoded =
            head.fields.tokens("content-encoding").any(|coding| !coding.eq_ignore_ascii_case("identity"));
        let fits = match self.kind {
            Kind::Description => matches!(head.status, 200 | 201) && is_description(&head.fields),
            _ => head.status == 200,
        };
        fits && !is_encoded
    }

    /// The largest body that is changed, in bytes.
    pub(super) const fn limit(&self) -> usize {
        match self.kind {
            Kind::Description => MAX_SDP,
            Kind::Envelope => MAX_ENVELOPE,
            _ => MAX_PLAYLIST,
        }
    }

    /// The body is there.
    pub(super) fn change(
        &self,
        cx: &mut Cx<'_>,
        key: &StreamKey,
        content: Vec<u8>,
        candidates: &Candidates<'_>,
    ) -> Result<Changed, Fault> {
        let (ufrag, body) = match self.kind {
            Kind::Description => {
                let ufrag = sdp::ufrag(&content).ok().map(String::from);
                (ufrag, sdp::rewrite(&content, candidates).map_err(|why| Fault::Origin(why.as_str()))?)
            }
            Kind::Envelope => {
                match envelope::answer(&content, candidates).map_err(|why| Fault::Origin(why.as_str()))? {
                    Some(answer) => (Some(answer.ufrag), answer.json),
                    None => return Ok(Changed::Now(content)),
                }
            }
            _ => {
                if let Some(id) = &self.session {
                    return Ok(Changed::Now(self.named(content, id)));
                }
                let full_url = Some(format!("http://{}{}", self.host, self.target));
                let full_url = full_url.filter(|url| url.len() <= MAX_FULL_URL).unwrap_or_default().into();
                let session = HlsSession { spbhid: new_session_id(cx).into(), key: key.clone(), full_url };
                return Ok(Changed::Ask(Query::StoreHls(session), content));
            }
        };
        Ok(match (ufrag, &self.offer) {
            (Some(answer), Some(offer)) => {
                let ufrag = format!("{answer}:{offer}").into();
                Changed::Ask(Query::StoreRtc(RtcSession { ufrag, key: key.clone() }), body)
            }
            _ => Changed::Now(body),
        })
    }

    /// A playlist or manifest with this session. What is none in spite of its name stays as it is.
    pub(super) fn named(&self, content: Vec<u8>, id: &str) -> Vec<u8> {
        let changed = if self.kind == Kind::Manifest {
            let prefix = format!("/{SESSION}/{id}");
            manifest::rewrite(&content, &prefix, directory(&self.target), &self.host).ok()
        } else {
            playlist::rewrite(&content, id, &self.host).ok()
        };
        changed.unwrap_or(content)
    }

    /// Where the client finds a resource that the origin made: behind the proxy, and in a place that names the
    /// stream, so that it leads to the same origin from any proxy and for as long as the session lasts.
    pub(super) fn location(&self, location: &str, key: &StreamKey) -> String {
        let after_scheme =
            ["http://", "https://", "//"].iter().find_map(|scheme| location.strip_prefix(scheme));
        let target: String = match after_scheme {
            Some(rest) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/").into(),
            None if location.starts_with('/') => location.into(),
            None => format!("{}{location}", directory(&self.target)),
        };
        match StreamKey::from_query(&self.host, &target) {
            Some(Ok(named)) if named == *key => target,
            _ => format!("{RESOURCE}{}{target}", key.to_segment()),
        }
    }
}

/// The stream of a resource that is at a [`Change::location`], and its target as the origin knows it.
pub(super) fn resource(target: &str) -> Option<(StreamKey, &str)> {
    let rest = target.strip_prefix(RESOURCE)?;
    let (segment, target) = rest.split_at_checked(rest.find('/')?)?;
    Some((StreamKey::from_segment(segment)?, target))
}

/// Whether the fields announce a session description, or a fragment of one.
pub(super) fn is_description(fields: &Fields<'_>) -> bool {
    let media_type =
        fields.text("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let is = |known: &str| media_type.trim().eq_ignore_ascii_case(known);
    is("application/sdp") || is("application/trickle-ice-sdpfrag")
}

/// The part of a target's path up to its last slash.
fn directory(target: &str) -> &str {
    let path = path_of_target(target);
    path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or("/")
}

fn new_session_id(cx: &mut Cx<'_>) -> String {
    let mut bytes = [0; SESSION_LETTERS];
    cx.rng.fill_bytes(&mut bytes);
    let letters = bytes.iter().filter_map(|byte| LETTERS.get(usize::from(byte % 32)));
    letters.map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadReader;
    use super::*;
    use crate::machine::Parsed;

    #[test]
    fn a_resource_is_found_again_at_the_origin_that_made_it() {
        let text = "POST /rtc/v1/whip/?app=live&stream=a HTTP/1.1\r\nHost: example.com:11985\r\n\r\n";
        let Ok(Parsed::Complete(head, _)) = HeadReader::default().read(text.as_bytes()) else { panic!() };
        let change = Change::of(Kind::Description, &head, head.target, None).unwrap();
        let key = StreamKey::from_query("example.com", head.target).unwrap().unwrap();
        let of = "/of/example.com%2Flive%2Fa";
        for (location, resource, at_origin) in [
            // It names the stream itself.
            ("/rtc/v1/whip/?action=delete&app=live&stream=a", None, ""),
            ("http://10.0.0.1:1985/rtc/v1/whip/?app=live&stream=a", None, ""),
            ("/session/1?x=y", Some("/session/1?x=y"), "/session/1?x=y"),
            ("1", Some("/rtc/v1/whip/1"), "/rtc/v1/whip/1"),
            ("http://10.0.0.1:1985/session/1", Some("/session/1"), "/session/1"),
            ("//10.0.0.1/session/1", Some("/session/1"), "/session/1"),
            ("https://10.0.0.1", Some("/"), "/"),
            // Of another stream: that is not where it leads.
            (
                "/session/1?app=live&stream=b",
                Some("/session/1?app=live&stream=b"),
                "/session/1?app=live&stream=b",
            ),
        ] {
            let told = change.location(location, &key);
            match resource {
                None => assert!(location.ends_with(&told) && told.starts_with('/'), "{told}"),
                Some(path) => {
                    assert_eq!(told, format!("{of}{path}"), "{location}");
                    assert_eq!(super::resource(&told), Some((key.clone(), at_origin)), "{location}");
                }
            }
        }
    }

    #[test]
    fn what_is_below_the_prefix_but_names_no_stream_is_no_resource() {
        for target in [
            "/of/",
            "/of/a/b",
            "/of/v%2Fa/b",
            "/of/v%2F%2Fs/b",
            "/of/v%2Fa%2Fs",
            "/of/v%2Fa%2Fs%00/b",
            "/o/v%2Fa%2Fs/b",
        ] {
            assert_eq!(resource(target), None, "{target}");
        }
    }
}
