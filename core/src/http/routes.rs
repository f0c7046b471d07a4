//! What a request is for: a resource of the proxy's own, a stream at its origin, or a file. Reads no body and sends
//! nothing.

use super::head::{Head, path_of_target};
use super::signalling::{is_description, resource};
use crate::key::{KeyError, StreamKey, parameter};
use crate::origin::{OriginId, Protocol};
use crate::percent;

/// The parameter that carries an HLS session's id.
pub(super) const SESSION: &str = "spbhid";

/// The longest session id, in bytes. Ours have 24, those of other proxies of the fleet fewer.
const MAX_SESSION: usize = 64;

/// Where SRS takes signalling in JSON.
const ENVELOPES: [&str; 2] = ["/rtc/v1/publish", "/rtc/v1/play"];

/// Where WHIP and WHEP endpoints are, if the path names the stream; it may as well end with `/whip`. The third is what
/// SRS called the second before.
const ENDPOINTS: [&str; 5] = ["/rtc/v1/whip/", "/rtc/v1/whep/", "/rtc/v1/whip-play/", "/whip/", "/whep/"];

/// Which of the proxy's HTTP servers it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// `PROXY_SYSTEM_API`: registration of origins and the proxy's own API.
    System,
    /// `PROXY_HTTP_API`: what clients and people ask an origin's API.
    HttpApi,
    /// `PROXY_HTTP_SERVER`: streams and files.
    Http,
}

/// A resource of the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Resource {
    /// The proxy's version; a health check as well.
    Versions,
    /// Where origins register.
    Register,
    /// The origins, their health and their streams.
    Origins,
    /// An origin.
    Origin(OriginId),
    /// That an origin gets no new streams.
    Drain(OriginId),
}

impl Resource {
    pub(super) fn find(server: Server, path: &str) -> Option<Self> {
        match (path, server) {
            ("/api/v1/versions", _) => Some(Self::Versions),
            ("/api/v1/srs/register", Server::System) => Some(Self::Register),
            ("/api/v1/origins", Server::System) => Some(Self::Origins),
            (_, Server::System) => {
                let (id, below) = path
                    .strip_prefix("/api/v1/origins/")
                    .map(|rest| rest.split_once('/').map_or((rest, None), |(id, below)| (id, Some(below))))?;
                let id = OriginId::from_text(&percent::decode(id).filter(|id| !id.is_empty())?);
                match below {
                    None => Some(Self::Origin(id)),
                    Some("drain") => Some(Self::Drain(id)),
                    Some(_) => None,
                }
            }
            _ => None,
        }
    }

    /// The methods it takes, as `Allow` lists them.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::Versions | Self::Origins => "GET, HEAD, OPTIONS",
            Self::Register => "POST, OPTIONS",
            Self::Origin(_) => "DELETE, OPTIONS",
            Self::Drain(_) => "POST, DELETE, OPTIONS",
        }
    }

    pub(super) fn allows(&self, method: &str) -> bool {
        self.methods().split(", ").any(|allowed| allowed == method)
    }

    /// Whether it asks for the token, where one is set.
    pub(super) const fn is_guarded(&self) -> bool {
        !matches!(self, Self::Versions)
    }

    /// Whether pages of any site may read it: a console may, but no page shall change an origin.
    pub(super) const fn is_shared(&self) -> bool {
        matches!(self, Self::Versions | Self::Origins)
    }
}

/// What is to be done with the answer to a request for a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It goes on for as long as the stream does: nothing follows it on its connection.
    Live,
    /// An HLS playlist: its URIs are to carry the session.
    Playlist,
    /// A DASH manifest: likewise.
    Manifest,
    /// An offer of WHIP or WHEP, or what is added to one: the answer's media is to come by the proxy.
    Description,
    /// The same in SRS's JSON.
    Envelope,
    /// All else that is asked of an endpoint, or of a resource that it made: it passes as it is.
    Resource,
    /// Anything else: it passes as it is.
    Plain,
}

impl Kind {
    /// Whether it is about media that do not come by HTTP.
    pub(super) const fn is_signalling(self) -> bool {
        matches!(self, Self::Description | Self::Envelope | Self::Resource)
    }

    /// Whether the answer's body is changed.
    pub(super) const fn is_changed(self) -> bool {
        matches!(self, Self::Playlist | Self::Manifest) || self.is_offer()
    }

    /// Whether such media are offered.
    pub(super) const fn is_offer(self) -> bool {
        matches!(self, Self::Description | Self::Envelope)
    }
}

/// A request for a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted<'a> {
    /// What of the origin is asked.
    pub(super) need: Protocol,
    pub(super) kind: Kind,
    /// The session's id, at the path's start or in the query.
    pub(super) session: Option<&'a str>,
    /// The target as the origin knows it.
    pub(super) target: &'a str,
    /// The stream that host and target name.
    pub(super) key: Result<StreamKey, KeyError>,
}

/// The stream that a request to `server` is about, if it is. Beside a directory of files, what could as well be one
/// of them is about a stream only if it carries a session.
pub(super) fn wanted<'a>(server: Server, head: &Head<'a>, has_files: bool) -> Option<Wanted<'a>> {
    let (host, target) = (head.host().unwrap_or_default(), head.origin_form());
    let asks_options = head.method == "OPTIONS";
    match server {
        // Pages of all sites may play, so no origin need be asked.
        Server::System | Server::Http if asks_options => None,
        Server::System => None,
        Server::HttpApi => {
            let (kind, target, key) = signalling(head, host, target).or_else(|| {
                let key = StreamKey::from_query(host, target).filter(|_| !asks_options)?;
                // A resource of signalling may be anywhere, and name its stream itself.
                let kind = if head.method == "DELETE" { Kind::Resource } else { Kind::Plain };
                Some((kind, target, key))
            })?;
            Some(Wanted { need: Protocol::Api, kind, session: None, target, key })
        }
        Server::Http => {
            let (session, target) = split_session(target);
            let session = session.or_else(|| parameter(target, SESSION));
            let path = path_of_target(target);
            let (directory, name) = path.rsplit_once('/')?;
            let is = |known: &[&str]| known.iter().any(|known| has_extension(name, known));
            let reads = matches!(head.method, "GET" | "HEAD");
            let kind = if reads && is(&["m3u8"]) {
                Kind::Playlist
            } else if reads && is(&["mpd"]) {
                Kind::Manifest
            } else if is(&["flv"]) || (session.is_none() && is(&["ts", "aac", "mp3"])) {
                Kind::Live
            } else if session.is_some()
                || is(&["m3u8", "mpd", "m4s", "m4v", "m4a"])
                || (!has_files && is(&["mp4", "webm", "vtt"]))
            {
                Kind::Plain
            } else {
                return None;
            };
            // What is not in an app's place is a file.
            if session.is_none() && directory.split('/').all(str::is_empty) {
                return None;
            }
            let key = StreamKey::from_http(host, target);
            Some(Wanted { need: Protocol::Http, kind, session, target, key })
        }
    }
}

/// What is wanted of WebRTC: SRS's calls, offers to WHIP and WHEP, what is added to them, and the resources they made.
/// What an endpoint is sent is an offer, whatever its type is said to be: SRS answers it.
fn signalling<'a>(
    head: &Head<'a>,
    host: &str,
    target: &'a str,
) -> Option<(Kind, &'a str, Result<StreamKey, KeyError>)> {
    let path = path_of_target(target);
    if head.method == "OPTIONS" && head.fields.text("access-control-request-method").is_some() {
        // Pages of all sites may signal.
        return None;
    }
    if head.method == "POST" && ENVELOPES.contains(&path.trim_end_matches('/')) {
        // The stream's name is in the offer.
        return Some((Kind::Envelope, target, Err(KeyError::NoStream)));
    }
    let offers = matches!(head.method, "POST" | "PATCH");
    let kind = if offers { Kind::Description } else { Kind::Resource };
    if let Some((key, target)) = resource(target) {
        // Nothing is made below what was made.
        return Some((kind, target, Ok(key))).filter(|_| head.method != "POST");
    }
    let below = ENDPOINTS.iter().find_map(|endpoint| path.strip_prefix(endpoint));
    let above = ["/whip", "/whep"].iter().find_map(|endpoint| path.strip_suffix(endpoint));
    let is_endpoint = below.or(above).is_some();
    if !(is_endpoint || offers && is_description(&head.fields)) {
        return None;
    }
    let named = StreamKey::from_query(host, target);
    let key = named.unwrap_or_else(|| StreamKey::from_path(host, target, below.or(above).unwrap_or(path)));
    // What may be sent to an endpoint that names no stream the proxy can say itself.
    Some((kind, target, key)).filter(|(_, _, key)| head.method != "OPTIONS" || key.is_ok())
}

/// Whether it can be a session's id at all, of whichever proxy of the fleet.
pub(super) fn is_session_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !id.is_empty() && id.len() <= MAX_SESSION && id.bytes().all(is_plain)
}

/// Splits `/spbhid/<id>/app/stream.mpd` into the id and `/app/stream.mpd`.
fn split_session(target: &str) -> (Option<&str>, &str) {
    let rest = target.strip_prefix('/').and_then(|rest| rest.strip_prefix(SESSION)?.strip_prefix('/'));
    match rest.and_then(|rest| rest.split_at_checked(rest.find(['/', '?'])?)) {
        Some((id, rest)) if rest.starts_with('/') => (Some(id), rest),
        _ => (None, target),
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, last)| last.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadReader;
    use super::*;
    use crate::machine::Parsed;
    use alloc::borrow::ToOwned;
    use alloc::format;
    use alloc::string::{String, ToString};

    /// Kind, session, target and key of what a `GET` wants.
    fn route(
        server: Server,
        target: &str,
        has_files: bool,
    ) -> Option<(Kind, Option<String>, String, String)> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: example.com:8080\r\n\r\n");
        let Ok(Parsed::Complete(head, _)) = HeadReader::default().read(text.as_bytes()) else {
            panic!("{text}")
        };
        wanted(server, &head, has_files).map(|wanted| {
            let key = wanted.key.map_or_else(|why| why.to_string(), |key| key.to_string());
            (wanted.kind, wanted.session.map(str::to_owned), wanted.target.to_owned(), key)
        })
    }

    #[test]
    fn streams_playlists_and_segments_are_known_by_their_names() {
        for (target, kind, session, asked) in [
            ("/live/a.flv?x=y", Kind::Live, None, "/live/a.flv?x=y"),
            ("/live/a.FLV", Kind::Live, None, "/live/a.FLV"),
            ("/live/a.ts", Kind::Live, None, "/live/a.ts"),
            ("/live/a-1.ts?x=y&spbhid=id", Kind::Plain, Some("id"), "/live/a-1.ts?x=y&spbhid=id"),
            ("/live/a.m3u8", Kind::Playlist, None, "/live/a.m3u8"),
            ("/live/a.m3u8?spbhid=id", Kind::Playlist, Some("id"), "/live/a.m3u8?spbhid=id"),
            ("/live/a.mpd", Kind::Manifest, None, "/live/a.mpd"),
            ("/spbhid/id/live/v-1.m4s?x", Kind::Plain, Some("id"), "/live/v-1.m4s?x"),
            ("/spbhid/id/a.key", Kind::Plain, Some("id"), "/a.key"),
            ("/a.key?spbhid=id", Kind::Plain, Some("id"), "/a.key?spbhid=id"),
            ("/live/a/init.mp4", Kind::Plain, None, "/live/a/init.mp4"),
            ("http://other.net/live/a.flv", Kind::Live, None, "/live/a.flv"),
        ] {
            let (found, id, to_origin, _) = route(Server::Http, target, false).expect(target);
            assert_eq!((found, id.as_deref(), &*to_origin), (kind, session, asked), "{target}");
        }
    }

    #[test]
    fn a_playlist_gets_a_session_only_where_it_is_read() {
        for (method, kind) in
            [("GET", true), ("HEAD", true), ("PUT", false), ("POST", false), ("DELETE", false)]
        {
            for target in ["/live/a.m3u8", "/live/a.mpd"] {
                let text = format!("{method} {target} HTTP/1.1\r\nHost: v.net\r\n\r\n");
                let Ok(Parsed::Complete(head, _)) = HeadReader::default().read(text.as_bytes()) else {
                    panic!("{text}")
                };
                let wanted = wanted(Server::Http, &head, true).unwrap();
                assert_eq!((wanted.kind.is_changed(), wanted.kind == Kind::Plain), (kind, !kind), "{text}");
                assert_eq!(wanted.key.unwrap().as_str(), "v.net/live/a", "{text}");
            }
        }
    }

    #[test]
    fn all_else_is_a_file() {
        for target in
            ["/", "/a.flv", "/index.html", "/live/a", "/live/a.html", "/spbhid/id", "/spbhid/id?a=/b.ts", "*"]
        {
            assert_eq!(route(Server::Http, target, false), None, "{target}");
        }
        assert_eq!(route(Server::Http, "/films/a.mp4", true), None);
        assert!(route(Server::Http, "/films/a.mp4?spbhid=id", true).is_some());
        assert!(route(Server::Http, "/films/a.flv", true).is_some());
    }

    #[test]
    fn an_api_request_names_its_stream_in_the_query() {
        let wanted = route(Server::HttpApi, "/api/v1/streams?app=live&stream=a&vhost=v.net", false).unwrap();
        assert_eq!((wanted.0, &*wanted.3), (Kind::Plain, "v.net/live/a"));
        assert_eq!(route(Server::HttpApi, "/api/v1/streams", false), None);
        assert_eq!(route(Server::System, "/live/a.flv", false), None);
    }

    #[test]
    fn signalling_names_its_stream_in_one_of_several_places() {
        let route = |line: &str, media_type: &str| {
            let text = format!("{line} HTTP/1.1\r\nHost: v.net\r\nContent-Type: {media_type}\r\n\r\n");
            let Ok(Parsed::Complete(head, _)) = HeadReader::default().read(text.as_bytes()) else {
                panic!("{text}")
            };
            wanted(Server::HttpApi, &head, false).map(|wanted| {
                (wanted.kind, wanted.key.map_or_else(|why| why.to_string(), |key| key.to_string()))
            })
        };
        let endpoints = [
            "/rtc/v1/whip/?app=live&stream=a",
            "/rtc/v1/whip?app=live&stream=a",
            "/rtc/v1/whip-play/?app=live&stream=a",
            "/rtc/v1/whep/live/a?token=x",
            "/whip/live/a",
            "/live/a/whep?token=x",
        ];
        let resource = "/of/v.net%2Flive%2Fa/session/1";
        let offers = endpoints.map(|target| ("POST", target, "x/y"));
        let elsewhere = [("POST", "/live/a", "application/sdp; charset=x"), ("PATCH", resource, "x/y")];
        for (method, target, media_type) in offers.into_iter().chain(elsewhere) {
            let found = route(&format!("{method} {target}"), media_type);
            assert_eq!(found, Some((Kind::Description, "v.net/live/a".into())), "{method} {target}");
        }
        for method in ["DELETE", "OPTIONS"] {
            for target in [resource, "/whip/live/a", "/live/a/whip", "/rtc/v1/whip/?app=live&stream=a"] {
                let found = route(&format!("{method} {target}"), "x/y");
                assert_eq!(found, Some((Kind::Resource, "v.net/live/a".into())), "{method} {target}");
            }
        }
        let anywhere = route("DELETE /x?app=live&stream=a", "x/y");
        assert_eq!(anywhere, Some((Kind::Resource, "v.net/live/a".into())));
        for target in ["/rtc/v1/publish/", "/rtc/v1/play"] {
            assert!(matches!(
                route(&format!("POST {target}"), "application/json"),
                Some((Kind::Envelope, _))
            ));
        }
        assert_eq!(route("POST /live/a", "x/y"), None);
        assert_eq!(route("GET /rtc/v1/play/", "x/y"), None);
        assert_eq!(route(&format!("POST {resource}"), "application/sdp"), None, "nothing is made there");
        assert_eq!(route("OPTIONS /whip/", "x/y"), None);
        assert_eq!(route("OPTIONS /x?app=live&stream=a", "x/y"), None);
        let preflight = "x/y\r\nAccess-Control-Request-Method: POST";
        assert_eq!(route("OPTIONS /whip/live/a", preflight), None);
    }

    #[test]
    fn a_session_id_is_short_and_plain() {
        assert!(is_session_id("aZ09-_") && is_session_id(&"a".repeat(MAX_SESSION)));
        for id in ["", "a/b", "a b", "a%20", "\u{e9}", &"a".repeat(MAX_SESSION + 1)] {
            assert!(!is_session_id(id), "{id}");
        }
    }
}
