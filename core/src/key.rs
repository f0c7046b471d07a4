//! The stream key: what every protocol's request is mapped to, and all that the load balancer sees.
//!
//! One stream has one key, whichever protocol names it and however the name is spelled. The rules, which
//! follow what SRS itself does with a `tcUrl` where it does anything:
//!
//! - **vhost**: the `vhost` parameter (or its alias `domain`), searched in the stream name, then in the
//!   `tcUrl` or the request target, then in `app`; SRS's old spelling `app...vhost...example.com` counts
//!   as the parameter. Else the host's name without port. A host that is an IP address, is empty or has no
//!   dot is [`DEFAULT_VHOST`], and so is a parameter that is an IP address. Names of hosts have no case:
//!   a vhost is in lower case.
//! - **app and stream**: the path, `app/instance/stream`. The last part is the stream, what stands before
//!   it the app ([`DEFAULT_APP`] if nothing does), no matter where the protocol draws the line. Empty parts
//!   and Flash's `_definst_` are left out. A query or a fragment ends the path and is no part of the key.
//! - **extension**: one of a media file or playlist (`.flv`, `.m3u8`, …) is cut off the stream, others are
//!   part of its name. So is Flash's prefix `mp4:` or `flv:` of an RTMP stream name.
//! - **percent-encoding** is undone once, part by part, in every protocol. What is no valid encoding of
//!   UTF-8 stays as it is written, and so does an encoded slash. It separates only in parameters, where browsers
//!   write every slash so.

use crate::percent::{self, Piece};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::IpAddr;
use smallvec::SmallVec;

/// The vhost of requests that name none.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";
/// The app of requests that name none.
pub const DEFAULT_APP: &str = "__defaultApp__";

/// The longest vhost, in bytes: what fits every DNS name.
pub const MAX_VHOST: usize = 255;
/// The longest app, in bytes, with the slashes between its parts. Keys are held by the hundred thousand.
pub const MAX_APP: usize = 255;
/// The longest stream name, in bytes. Longer than an app, since some put signatures into it.
pub const MAX_STREAM: usize = 511;

/// A whole key fits, with its two slashes.
const MAX_KEY: usize = 1024;

/// Extensions that name a container or a playlist, not a stream.
const EXTENSIONS: [&str; 10] = ["flv", "ts", "m3u8", "mpd", "mp4", "m4s", "f4v", "aac", "mp3", "webm"];
/// What Flash puts before a stream name to say what kind of file it is; ffmpeg still does.
const PREFIXES: [&str; 2] = ["mp4:", "flv:"];

/// Flash's name for "no instance".
const NO_INSTANCE: &str = "_definst_";
/// SRS's old spelling of `?vhost=`, for encoders that allow no question mark.
const OLD_VHOST: &str = "...vhost...";

/// `vhost/app/stream`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(Arc<str>);

/// Why a request names no stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// There is no stream name.
    NoStream,
    /// The vhost is longer than [`MAX_VHOST`].
    LongVhost,
    /// The app is longer than [`MAX_APP`].
    LongApp,
    /// The stream name is longer than [`MAX_STREAM`].
    LongStream,
    /// There is a control character in it.
    ControlCharacter,
}

impl KeyError {
    /// The error in words, for the session's fault.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoStream => "no stream name",
            Self::LongVhost => "vhost too long",
            Self::LongApp => "app too long",
            Self::LongStream => "stream name too long",
            Self::ControlCharacter => "control character in the stream's name",
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for KeyError {}

impl StreamKey {
    /// The key of the parts as a protocol gave them, percent-encoded or not, without queries. No vhost is
    /// the default one.
    ///
    /// # Errors
    /// If there is no stream, a part is too long or has control characters.
    pub fn new(vhost: &str, app: &str, stream: &str) -> Result<Self, KeyError> {
        Self::build(Vhost::Named(vhost), app, stream)
    }

    /// The key of an RTMP `publish` or `play`: `connect`'s `tcUrl` (empty if it had none) and `app`, and
    /// the stream name, each as sent.
    ///
    /// # Errors
    /// As [`StreamKey::new`].
    pub fn from_rtmp(tc_url: &str, app: &str, stream: &str) -> Result<Self, KeyError> {
        let (host, tc_path) = match path_of(tc_url).split_once("://") {
            Some((_scheme, rest)) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", ""),
        };
        let app_path = if tc_path.split('/').all(str::is_empty) { path_of(app) } else { tc_path };
        let vhost = [stream, tc_url, app].into_iter().find_map(vhost_in);
        let name = path_of(stream).trim_start_matches('/');
        let name = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        Self::build(vhost.map_or(Vhost::Host(host), Vhost::Named), app_path, name)
    }

    /// The key of an HTTP request: its `Host` (with or without port; empty if there is none) and its
    /// target, `/app/stream.flv?query`.
    ///
    /// # Errors
    /// As [`StreamKey::new`].
    pub fn from_http(host: &str, target: &str) -> Result<Self, KeyError> {
        Self::from_path(host, target, path_of(target))
    }

    /// The key of a path that is a part of an HTTP request's: its `Host`, its target, which may name the vhost, and
    /// `app/stream`.
    ///
    /// # Errors
    /// As [`StreamKey::new`].
    pub fn from_path(host: &str, target: &str, path: &str) -> Result<Self, KeyError> {
        let (app, stream) = path.rsplit_once('/').unwrap_or(("", path));
        Self::build(vhost_in(target).map_or(Vhost::Host(host), Vhost::Named), app, stream)
    }

    /// The key of an HTTP request that names its stream by parameters, as SRS's APIs do: its `Host` and its
    /// target, `/path?app=live&stream=a`. `None` if it has no such parameters.
    ///
    /// # Errors
    /// As [`StreamKey::new`].
    pub fn from_query(host: &str, target: &str) -> Option<Result<Self, KeyError>> {
        let slashes = |value: &str| path_of(value).replace("%2F", "/").replace("%2f", "/");
        let (app, stream) = (slashes(parameter(target, "app")?), slashes(parameter(target, "stream")?));
        let vhost = vhost_in(target).map_or(Vhost::Host(host), Vhost::Named);
        Some(Self::build(vhost, &app, &stream))
    }

    /// The key as one part of a path: its slashes and whatever is special there are percent-encoded.
    pub fn to_segment(&self) -> String {
        let mut segment = String::with_capacity(self.0.len() + 8);
        percent::encode(&mut segment, &self.0, |_| false);
        segment
    }

    /// The key of a [`StreamKey::to_segment`], which is taken as it is.
    pub fn from_segment(segment: &str) -> Option<Self> {
        Self::from_text(&percent::decode(segment)?)
    }

    /// The key of what [`StreamKey::as_str`] gave, here or in another proxy; it is taken as it is.
    pub fn from_text(text: &str) -> Option<Self> {
        let (vhost, path) = text.split_once('/')?;
        let (app, name) = path.rsplit_once('/')?;
        let is_whole = ![vhost, app, name].contains(&"") && text.len() <= MAX_KEY;
        (is_whole && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn build(vhost: Vhost<'_>, app: &str, stream: &str) -> Result<Self, KeyError> {
        if !stream.split('/').any(is_part) {
            return Err(KeyError::NoStream);
        }
        let mut key = Draft::default();
        vhost.write(&mut key)?;
        let app_start = key.text.len();
        let mut stream_start = app_start;
        let mut parts = app.split('/').chain(stream.split('/')).filter(|part| is_part(part)).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                key.push_part(part, MAX_APP).ok_or(KeyError::LongApp)?;
                stream_start = key.text.len();
            } else {
                if stream_start == app_start {
                    key.push_part(DEFAULT_APP, MAX_APP).ok_or(KeyError::LongApp)?;
                    stream_start = key.text.len();
                }
                key.push_part(without_extension(part), MAX_STREAM).ok_or(KeyError::LongStream)?;
            }
            // Each part has a slash before it that does not count.
            if stream_start - app_start > MAX_APP + 1 {
                return Err(KeyError::LongApp);
            }
        }
        key.finish()
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where a vhost comes from.
#[derive(Clone, Copy)]
enum Vhost<'a> {
    /// It was named as such.
    Named(&'a str),
    /// It is the host that was asked.
    Host(&'a str),
}

impl Vhost<'_> {
    fn write(self, key: &mut Draft) -> Result<(), KeyError> {
        let (Self::Named(text) | Self::Host(text)) = self;
        let host = text.split('/').next().unwrap_or(text);
        key.push(without_port(host), MAX_VHOST).ok_or(KeyError::LongVhost)?;
        // Judged as it is once decoded: an encoded dot is one.
        while key.text.last() == Some(&b'.') {
            key.text.pop();
        }
        let name = core::str::from_utf8(&key.text).unwrap_or_default();
        let is_name = !name.is_empty()
            && !name.eq_ignore_ascii_case(DEFAULT_VHOST)
            && name.parse::<IpAddr>().is_err()
            && (matches!(self, Self::Named(_)) || name.contains('.'));
        if !is_name {
            key.text.clear();
            return key.push(DEFAULT_VHOST, MAX_VHOST).ok_or(KeyError::LongVhost);
        }
        key.text.make_ascii_lowercase();
        Ok(())
    }
}

/// A key in the making, on the stack.
#[derive(Default)]
struct Draft {
    /// UTF-8: only whole, checked pieces are put in.
    text: SmallVec<[u8; MAX_KEY]>,
}

impl Draft {
    fn push_part(&mut self, part: &str, limit: usize) -> Option<()> {
        self.text.push(b'/');
        self.push(part, limit)
    }

    /// Adds `raw`, decoded if it is a valid encoding of UTF-8. `None` if it is longer than `limit`.
    fn push(&mut self, raw: &str, limit: usize) -> Option<()> {
        // An encoded byte takes three. Nothing longer is worth a look.
        if raw.len() > limit * 3 {
            return None;
        }
        let start = self.text.len();
        for piece in percent::pieces(raw) {
            match piece {
                // An encoded slash stays one: it separates nothing, and a key has three parts.
                Piece::Encoded(b'/', written) => self.text.extend_from_slice(written),
                Piece::Plain(byte) | Piece::Encoded(byte, _) => self.text.push(byte),
                Piece::Stray => self.text.push(b'%'),
            }
        }
        if self.text.get(start..).is_none_or(|piece| core::str::from_utf8(piece).is_err()) {
            self.text.truncate(start);
            self.text.extend_from_slice(raw.as_bytes());
        }
        (self.text.len() - start <= limit).then_some(())
    }

    fn finish(&self) -> Result<StreamKey, KeyError> {
        match core::str::from_utf8(&self.text) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(StreamKey(Arc::from(text))),
            _ => Err(KeyError::ControlCharacter),
        }
    }
}

fn is_part(part: &str) -> bool {
    !part.is_empty() && part != NO_INSTANCE
}

/// What stands before the query, the fragment or the old spelling of the vhost.
pub(crate) fn path_of(text: &str) -> &str {
    let text = text.split(['?', '#']).next().unwrap_or(text);
    text.split(OLD_VHOST).next().unwrap_or(text)
}

/// The value of a parameter of the query in `text`.
pub(crate) fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    // A second `?` in place of `&` is common: a player's query put behind a server URL that has one.
    let mut pairs = text.split_once('?')?.1.split(['&', '?', '#']).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The vhost that `text` names, in its query or in the old spelling.
fn vhost_in(text: &str) -> Option<&str> {
    let old = text.split_once(OLD_VHOST).map(|(_, value)| value.split("...").next().unwrap_or(value));
    [old, parameter(text, "vhost"), parameter(text, "domain")]
        .into_iter()
        .flatten()
        // `tcUrl` may go on behind its query: `rtmp://host/app?vhost=example.com/`.
        .map(|value| value.split(['/', '?', '&', '#']).next().unwrap_or(value))
        .find(|value| !value.is_empty())
}

/// The name or address in `host`, `host:port`, `[v6]`, `[v6]:port`, `user@host:port`.
pub(crate) fn without_port(host: &str) -> &str {
    let host = host.rsplit_once('@').map_or(host, |(_user, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.split_once(':') {
        // A second colon: an IPv6 address without its brackets.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

fn without_extension(stream: &str) -> &str {
    match stream.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty() && EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)) =>
        {
            stem
        }
        _ => stream,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    fn rtmp(tc_url: &str, app: &str, stream: &str) -> String {
        StreamKey::from_rtmp(tc_url, app, stream).unwrap().to_string()
    }

    fn http(host: &str, target: &str) -> String {
        StreamKey::from_http(host, target).unwrap().to_string()
    }

    #[test]
    fn all_spellings_of_a_stream_of_a_vhost_have_one_key() {
        let key = "example.com/live/cam";
        for (tc_url, app, stream) in [
            ("rtmp://example.com/live", "live", "cam"),
            ("rtmp://example.com:11935/live", "live", "cam"),
            ("rtmps://example.com/live", "live", "cam"),
            ("rtmp://Example.COM./live/", "live/", "cam"),
            ("rtmp://user:secret@example.com:1935/live", "live", "cam"),
            ("rtmp://example.com/live", "live", "/cam"),
            ("rtmp://example.com/live", "live", "cam.flv"),
            ("rtmp://example.com/live", "live", "mp4:cam.mp4"),
            ("rtmp://example.com/live", "live", "cam?token=a/b&x=y.z"),
            ("rtmp://example.com/live", "live", "cam.flv?token=t"),
            ("rtmp://example.com/live", "live", "cam#fragment"),
            ("rtmp://example.com/live?token=a/b/c", "live?token=a/b/c", "cam"),
            ("rtmp://example.com/live?token=t", "live?token=t", "cam?token=u"),
            ("rtmp://10.1.2.3/live?vhost=example.com", "live?vhost=example.com", "cam"),
            ("rtmp://10.1.2.3/live?vhost=example.com/", "live", "cam"),
            ("rtmp://10.1.2.3/live?token=t&vhost=example.com&u=v", "live", "cam"),
            ("rtmp://10.1.2.3/live?token=t?vhost=example.com", "live", "cam"),
            ("rtmp://10.1.2.3/live?domain=example.com", "live", "cam"),
            ("rtmp://10.1.2.3/live", "live", "cam?vhost=example.com"),
            ("rtmp://10.1.2.3/live?vhost=other.net", "live", "cam?vhost=example.com"),
            ("rtmp://other.net/live", "live", "cam?token=t&vhost=example.com"),
            ("rtmp://10.1.2.3/live...vhost...example.com", "live...vhost...example.com", "cam"),
            ("rtmp://10.1.2.3/live...vhost...example.com...token...t", "live", "cam"),
            ("rtmp://[2001:db8::1]:1935/live?vhost=example.com", "live", "cam"),
            ("rtmp://example.com/live/_definst_", "live/_definst_", "cam"),
            ("rtmp://example.com", "live", "cam"),
            ("rtmp://example.com/", "live?token=t", "cam"),
            ("", "live?vhost=example.com", "cam"),
            ("rtmp://10.1.2.3/live?vhost=example%2Ecom%2e", "live", "cam"),
            ("rtmp://example.com/l%69ve", "live", "c%61m"),
        ] {
            assert_eq!(rtmp(tc_url, app, stream), key, "{tc_url} {app} {stream}");
        }
        for (host, target) in [
            ("example.com", "/live/cam"),
            ("example.com:18080", "/live/cam.flv"),
            ("EXAMPLE.com", "/live/cam.m3u8?spbhid=1"),
            ("example.com", "/live/cam.ts?vhost="),
            ("example.com", "//live//cam.FLV"),
            ("10.1.2.3:18080", "/live/cam.mpd?vhost=example.com"),
            ("[2001:db8::1]:18080", "/live/cam.flv?a=b&vhost=example.com"),
            ("", "/live/cam?vhost=example.com"),
            ("example.com", "/liv%65/cam.flv"),
        ] {
            assert_eq!(http(host, target), key, "{host} {target}");
        }
        assert_eq!(StreamKey::new("example.com", "live", "cam").unwrap().as_str(), key);
        assert_eq!(StreamKey::new("Example.com:80", "/live/", "/cam.flv").unwrap().as_str(), key);
    }

    #[test]
    fn parameters_name_what_the_path_does_however_their_slashes_are_written() {
        let query = |target: &str| StreamKey::from_query("h", target).unwrap().unwrap().to_string();
        let key = http("h", "/live/studio/cam.flv");
        for target in [
            "/?app=live/studio&stream=cam",
            "/rtc/v1/whip/?app=live%2Fstudio&stream=cam",
            "/?stream=studio%2fcam&app=live",
            "/?stream=%2Fcam.flv&app=%2Flive%2Fstudio%2F",
        ] {
            assert_eq!(query(target), key, "{target}");
        }
        assert_eq!(query("/?app=live%252Fstudio&stream=cam"), http("h", "/live%252Fstudio/cam"));
        assert_eq!(StreamKey::from_query("h", "/?app=live&stream=%2F"), Some(Err(KeyError::NoStream)));
    }

    #[test]
    fn hosts_that_are_no_names_are_the_default_vhost() {
        let key = "__defaultVhost__/live/cam";
        for host in [
            "127.0.0.1",
            "10.1.2.3:11935",
            "localhost",
            "localhost:11935",
            "origin",
            "",
            ":11935",
            "[::1]",
            "[2001:db8::1]:11935",
            "::1",
            "__defaultVhost__",
            "localhost.",
            "127%2e0.0.1",
            "origin%2e",
        ] {
            assert_eq!(rtmp(&format!("rtmp://{host}/live"), "live", "cam"), key, "{host}");
            assert_eq!(http(host, "/live/cam.flv"), key, "{host}");
        }
        assert_eq!(rtmp("", "live", "cam"), key);
        assert_eq!(rtmp("not a url", "live", "cam"), key);
        assert_eq!(rtmp("rtmp://example.com/live?vhost=__defaultVhost__", "live", "cam"), key);
        assert_eq!(rtmp("rtmp://example.com/live?vhost=192.168.1.1", "live", "cam"), key);
        assert_eq!(StreamKey::new("", "live", "cam").unwrap().as_str(), key);
    }

    #[test]
    fn a_vhost_parameter_needs_no_dot() {
        assert_eq!(rtmp("rtmp://127.0.0.1/live?vhost=studio", "live", "cam"), "studio/live/cam");
        assert_eq!(http("127.0.0.1", "/live/cam.flv?vhost=studio"), "studio/live/cam");
    }

    #[test]
    fn an_app_with_instances_is_one_path_wherever_the_line_is_drawn() {
        let key = "__defaultVhost__/live/studio/cam";
        assert_eq!(rtmp("rtmp://h/live/studio", "live/studio", "cam"), key);
        assert_eq!(rtmp("rtmp://h/live", "live", "studio/cam"), key);
        assert_eq!(rtmp("rtmp://h/live", "live", "/studio/cam?t"), key);
        assert_eq!(rtmp("", "live/studio", "cam"), key);
        assert_eq!(http("h", "/live/studio/cam.flv"), key);
        assert_eq!(StreamKey::new("", "live/studio", "cam").unwrap().as_str(), key);
    }

    #[test]
    fn a_stream_without_an_app_has_the_default_app() {
        let key = "__defaultVhost__/__defaultApp__/cam";
        assert_eq!(rtmp("rtmp://h/", "", "cam"), key);
        assert_eq!(http("h", "/cam.flv"), key);
        assert_eq!(http("h", "cam.flv"), key);
    }

    #[test]
    fn only_media_extensions_are_cut_off_and_only_one() {
        assert_eq!(http("h", "/live/v1.2.flv"), rtmp("rtmp://h/live", "live", "v1.2"));
        assert_eq!(http("h", "/live/a.flv.ts"), "__defaultVhost__/live/a.flv");
        assert_eq!(http("h", "/live/.flv"), "__defaultVhost__/live/.flv");
        assert_eq!(http("h", "/live.flv/cam"), "__defaultVhost__/live.flv/cam");
    }

    #[test]
    fn a_slash_in_a_name_is_none_between_names() {
        let key = |vhost, app, stream| StreamKey::new(vhost, app, stream).unwrap().to_string();
        assert_eq!(key("a.b%2fc", "live", "s%2Ft%2f"), "a.b%2fc/live/s%2Ft%2f");
        assert_eq!(key("a.b/c", "live", "s"), "a.b/live/s");
        assert_eq!(key("/c", "live", "s"), "__defaultVhost__/live/s");
    }

    #[test]
    fn percent_encoding_is_undone_once_and_never_breaks_utf8() {
        assert_eq!(http("h", "/live/a%20b.flv"), rtmp("rtmp://h/live", "live", "a b"));
        assert_eq!(http("h", "/live/%E7%9B%B4.flv"), "__defaultVhost__/live/直");
        assert_eq!(http("h", "/live/%2541"), "__defaultVhost__/live/%41");
        assert_eq!(http("h", "/live/50%"), "__defaultVhost__/live/50%");
        assert_eq!(http("h", "/live/%zz%4"), "__defaultVhost__/live/%zz%4");
        assert_eq!(http("h", "/live/%ff%41"), "__defaultVhost__/live/%ff%41");
    }

    #[test]
    fn what_names_no_stream_is_refused() {
        for (tc_url, stream) in
            [("rtmp://h/live", ""), ("rtmp://h/live", "/"), ("rtmp://h/live/x", "?token=t")]
        {
            assert_eq!(StreamKey::from_rtmp(tc_url, "live", stream), Err(KeyError::NoStream), "{stream}");
        }
        for target in ["", "/", "/live/", "/live/?stream=cam", "/live/_definst_"] {
            assert_eq!(StreamKey::from_http("h", target), Err(KeyError::NoStream), "{target}");
        }
        for stream in ["a\0b", "a\nb", "a%0Ab", "a\u{7f}", "a\u{85}"] {
            assert_eq!(StreamKey::new("", "live", stream), Err(KeyError::ControlCharacter), "{stream:?}");
        }
        assert_eq!(StreamKey::new("a.\rb", "live", "x"), Err(KeyError::ControlCharacter));
    }

    #[test]
    fn each_part_has_its_limit() {
        let long = "x".repeat(5000);
        let new = StreamKey::new;
        assert!(new(&long[..MAX_VHOST], &long[..MAX_APP], &long[..MAX_STREAM]).is_ok());
        assert_eq!(new(&long[..=MAX_VHOST], "a", "s"), Err(KeyError::LongVhost));
        assert_eq!(new("v", &long[..=MAX_APP], "s"), Err(KeyError::LongApp));
        assert_eq!(new("v", &"a/".repeat(MAX_APP), "s"), Err(KeyError::LongApp));
        assert_eq!(new("v", "a", &long[..=MAX_STREAM]), Err(KeyError::LongStream));
        assert_eq!(new(&long, "a", "s"), Err(KeyError::LongVhost));
        assert_eq!(new("v", &long, "s"), Err(KeyError::LongApp));
        assert_eq!(new("v", "a", &long), Err(KeyError::LongStream));
        assert!(new("v", "a", &"%41".repeat(MAX_STREAM)).is_ok());
        assert_eq!(new("v", "a", &"%ff".repeat(MAX_STREAM)), Err(KeyError::LongStream));
    }

    proptest::proptest! {
        #[test]
        fn any_text_gives_a_key_within_limits_or_an_error(a in ".*", b in ".*", c in "(.|[/?&=.%:@#])*") {
            for key in [
                StreamKey::from_rtmp(&a, &b, &c),
                StreamKey::from_rtmp(&format!("rtmp://{a}/{b}"), &a, &c),
                StreamKey::from_http(&a, &format!("/{b}/{c}")),
                StreamKey::from_query(&a, &format!("/?app={b}&stream={c}")).unwrap_or(Err(KeyError::NoStream)),
                StreamKey::new(&a, &b, &c),
            ].into_iter().flatten() {
                assert_eq!(StreamKey::from_segment(&key.to_segment()).as_ref(), Some(&key));
                assert!(key.as_str().len() <= MAX_VHOST + MAX_APP + MAX_STREAM + 2);
                assert!(key.as_str().split('/').count() >= 3);
            }
        }
    }
}
