//! WebRTC's signalling on its way: who offers, what the origin answers, led to the proxy, and where the resource is
//! that it made (RFC 9725). Moves no bytes and asks nobody; says what to ask.

use super::change::{Changed, directory};
use super::fields::Fields;
use super::head::path_of_target;
use crate::key::StreamKey;
use crate::machine::Fault;
use crate::query::{Query, RtcSession};
use crate::rtc::envelope::{self, MAX_ENVELOPE};
use crate::rtc::sdp::{self, Candidates, MAX_SDP};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Where the session of a resource is found again: its path is below this and the stream's key.
const RESOURCE: &str = "/of/";

/// The longest name of a resource that is held with a session, in bytes. SRS's have some 150.
const MAX_RESOURCE: usize = 512;

/// What is done to an offer and its answer.
#[derive(Debug)]
pub(super) struct Signalling {
    /// In SRS's JSON.
    pub(super) is_envelope: bool,
    /// The authority that the client asked.
    pub(super) host: Box<str>,
    /// The target as the origin knows it.
    pub(super) target: Box<str>,
    /// The client's ICE user name, if it made an offer.
    pub(super) offer: Option<Box<str>>,
    /// The resource at the origin: what the offer adds to, or what the answer says that it made.
    pub(super) resource: Arc<str>,
}

impl Signalling {
    /// The largest offer, and the largest answer, in bytes.
    pub(super) const fn limit(&self) -> usize {
        if self.is_envelope { MAX_ENVELOPE } else { MAX_SDP }
    }

    /// Reads what the client offers: with JSON, that names the stream, too.
    pub(super) fn take_offer(&mut self, offer: &[u8]) -> Result<Option<StreamKey>, Fault> {
        if self.is_envelope {
            let offer = envelope::offer(offer).map_err(|why| Fault::Client(why.as_str()))?;
            self.offer = Some(offer.ufrag.into());
            return Ok(Some(offer.key));
        }
        // A fragment may have none: it adds to an offer that was made before.
        self.offer = sdp::ufrag(offer).ok().map(Into::into);
        Ok(None)
    }

    /// The answer's head is there: of an offer that is taken, it says where the resource is.
    pub(super) fn take_location(&mut self, status: u16, location: Option<&str>) {
        if status == 201 {
            let made = location.map(|location| resolve(&self.target, location));
            self.resource = made.map(Into::into).unwrap_or_default();
        }
    }

    /// The answer's body is there. What is none is not for the client: it would lead past the proxy.
    pub(super) fn change(
        &self,
        key: &StreamKey,
        content: Vec<u8>,
        candidates: &Candidates<'_>,
    ) -> Result<Changed, Fault> {
        let (ufrag, body) = if self.is_envelope {
            match envelope::answer(&content, candidates).map_err(|why| Fault::Origin(why.as_str()))? {
                Some(answer) => (Some(answer.ufrag), answer.json),
                None => return Ok(Changed::Now(content)),
            }
        } else {
            let ufrag = sdp::ufrag(&content).ok().map(String::from);
            (ufrag, sdp::rewrite(&content, candidates).map_err(|why| Fault::Origin(why.as_str()))?)
        };
        Ok(match (ufrag, &self.offer) {
            (Some(answer), Some(offer)) => {
                let username = format!("{answer}:{offer}").into();
                let resource = Some(&self.resource).filter(|it| it.len() <= MAX_RESOURCE);
                let resource = resource.cloned().unwrap_or_default();
                Changed::Ask(Query::StoreRtc(RtcSession { username, key: key.clone(), resource }), body)
            }
            _ => Changed::Now(body),
        })
    }

    /// Where the client finds a resource that the origin made: behind the proxy, and in a place that names the
    /// stream, so that it leads to the same origin from any proxy and for as long as the session lasts.
    pub(super) fn location(&self, location: &str, key: &StreamKey) -> String {
        let target = resolve(&self.target, location);
        match StreamKey::from_query(&self.host, &target) {
            Some(Ok(named)) if named == *key => target,
            _ => format!("{RESOURCE}{}{target}", key.to_segment()),
        }
    }
}

/// The stream of a resource that is at a [`Signalling::location`], and its target as the origin knows it.
pub(super) fn resource(target: &str) -> Option<(StreamKey, &str)> {
    let rest = target.strip_prefix(RESOURCE)?;
    let (segment, target) = rest.split_at_checked(rest.find('/')?)?;
    Some((StreamKey::from_segment(segment)?, target))
}

/// Whether who makes an offer there publishes, as the path has it.
pub(super) fn publishes(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or(target);
    path.split('/').any(|segment| segment == "whip")
        || path.trim_end_matches('/').ends_with("/rtc/v1/publish")
}

/// Whether the fields announce a session description, or a fragment of one.
pub(super) fn is_description(fields: &Fields<'_>) -> bool {
    let media_type =
        fields.text("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
    let is = |known: &str| media_type.trim().eq_ignore_ascii_case(known);
    is("application/sdp") || is("application/trickle-ice-sdpfrag")
}

/// The target at the origin of a reference that its answer to a request for `base` makes (RFC 3986 §5.2). Whatever
/// host the reference names, it is the origin's.
fn resolve(base: &str, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let after_scheme = reference.split_once("//").filter(|(scheme, _)| {
        scheme.is_empty() || ["http:", "https:"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    });
    let (is_absolute, reference) = match after_scheme {
        Some((_, rest)) => (true, rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default()),
        None => (reference.starts_with('/'), reference),
    };
    let path_of = |target: &str| path_of_target(target).len();
    let (path, query) = reference.split_at_checked(path_of(reference)).unwrap_or((reference, ""));
    match (is_absolute, path) {
        (false, "") if query.is_empty() => base.into(),
        (false, "") => format!("{}{query}", base.get(..path_of(base)).unwrap_or(base)),
        (false, path) => format!("{}{query}", without_dots(&format!("{}{path}", directory(base)))),
        (true, path) => format!("{}{query}", without_dots(path)),
    }
}

/// An absolute path whose `.` and `..` are followed (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut segments = Vec::new();
    let mut ends_open = true;
    for segment in path.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    if ends_open {
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signalling(target: &str) -> Signalling {
        let (host, target) = ("example.com:11985".into(), target.into());
        Signalling { is_envelope: false, host, target, offer: None, resource: Arc::default() }
    }

    #[test]
    fn a_resource_is_found_again_at_the_origin_that_made_it() {
        let target = "/rtc/v1/whip/?app=live&stream=a";
        let key = StreamKey::from_query("example.com", target).unwrap().unwrap();
        let of = "/of/example.com%2Flive%2Fa";
        let named = "/rtc/v1/whip/?app=live&stream=a&session=s:c";
        for (location, at_origin) in [
            // It names the stream itself.
            (named, None),
            (&format!("http://10.0.0.1:1985{named}"), None),
            ("?app=live&stream=a&session=s:c", None),
            ("/session/1?x=y", Some("/session/1?x=y")),
            ("1", Some("/rtc/v1/whip/1")),
            ("http://10.0.0.1:1985/session/1", Some("/session/1")),
            ("//10.0.0.1/session/1", Some("/session/1")),
            ("https://10.0.0.1", Some("/")),
            ("?id=7", Some("/rtc/v1/whip/?id=7")),
            // Of another stream: that is not where it leads.
            ("/session/1?app=live&stream=b", Some("/session/1?app=live&stream=b")),
        ] {
            let told = signalling(target).location(location, &key);
            match at_origin {
                None => assert_eq!(told, named, "{location}"),
                Some(target) => {
                    assert_eq!(told, format!("{of}{target}"), "{location}");
                    assert_eq!(resource(&told), Some((key.clone(), target)), "{location}");
                }
            }
        }
    }

    #[test]
    fn a_session_has_the_resource_that_the_answer_names() {
        let key = StreamKey::new("", "live", "a").unwrap();
        let answer =
            b"v=0\r\nm=audio 9 UDP 0\r\na=ice-ufrag:serv\r\na=candidate:0 1 udp 1 10.0.0.1 1 typ host\r\n";
        let long = format!("/{}", "a".repeat(MAX_RESOURCE));
        for (status, location, resource) in [
            (201, Some("http://10.0.0.1:1985/session/1?x=y"), "/session/1?x=y"),
            (201, Some("7"), "/rtc/v1/whip/7"),
            (201, None, ""),
            (200, Some("/session/1"), ""),
            (201, Some(&*long), ""),
        ] {
            let mut signalling = signalling("/rtc/v1/whip/?app=live&stream=a");
            signalling.take_offer(b"v=0\r\na=ice-ufrag:clie\r\n").unwrap();
            signalling.take_location(status, location);
            let candidates = Candidates { port: 18000, addresses: &[] };
            let Ok(Changed::Ask(Query::StoreRtc(session), _)) =
                signalling.change(&key, answer.into(), &candidates)
            else {
                panic!("{location:?}")
            };
            assert_eq!((&*session.username, &*session.resource), ("serv:clie", resource), "{location:?}");
        }
    }

    #[test]
    fn who_publishes_says_so_by_where_the_offer_goes() {
        for (target, expected) in [
            ("/rtc/v1/whip/?app=live&stream=a", true),
            ("/rtc/v1/whip?app=live&stream=a", true),
            ("/whip/live/a", true),
            ("/live/a/whip?x=/whep/", true),
            ("/rtc/v1/publish/", true),
            ("/rtc/v1/publish", true),
            ("/rtc/v1/whip-play/?app=live&stream=a", false),
            ("/rtc/v1/whep/?from=/whip/", false),
            ("/rtc/v1/play/", false),
            ("/live/a", false),
        ] {
            assert_eq!(publishes(target), expected, "{target}");
        }
    }

    #[test]
    fn references_are_resolved_against_what_was_asked() {
        for (base, reference, target) in [
            ("/whip/live/a?b=c", "?id=7", "/whip/live/a?id=7"),
            ("/whip/live/a?b=c", "", "/whip/live/a?b=c"),
            ("/whip/live/a?b=c", "#d", "/whip/live/a?b=c"),
            ("/whip/live/a?b=/c/", "d?e", "/whip/live/d?e"),
            ("/whip/live/a", "../d", "/whip/d"),
            ("/whip/live/a", "./d/.", "/whip/live/d/"),
            ("/whip/live/a", "../../../../..", "/"),
            ("/whip/live/a", "/d/../e//f/", "/e//f/"),
            ("/whip/live/a", "a:b", "/whip/live/a:b"),
            ("/whip/live/a", "d?to=http://x/y", "/whip/live/d?to=http://x/y"),
            ("/whip/live/a", "HTTP://h:1/d?e#f", "/d?e"),
            ("/whip/live/a", "https://h?e=/f", "/?e=/f"),
            ("/whip/live/a", "//h", "/"),
            ("*", "d", "/d"),
        ] {
            assert_eq!(resolve(base, reference), target, "{base} {reference}");
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
