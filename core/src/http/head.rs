//! Heads (RFC 9112 §2 to §7), those of requests in particular: total, bounded, and strict where two readers could
//! disagree about where a message ends. Knows no resource and sends nothing.
//!
//! What a lenient reader could take for another request is refused, not repaired: lines that end with a
//! bare LF, folded fields, two lengths of whatever value, a length beside a transfer coding, blanks before a
//! colon. A proxy that passes a head on can rely on its having one meaning.

use super::fields::{Fields, Framing, FramingError, MAX_FIELDS, Version};
use super::reply::ReplyHead;
use super::response::Status;
use crate::machine::Parsed;
use core::fmt;

/// The longest head, in bytes: what common servers take, with room for tokens in the query.
pub const MAX_HEAD: usize = 16 * 1024;
/// What the client wants to hear before it sends the body (RFC 9110 §10.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// Nothing.
    None,
    /// `100 (Continue)`.
    Continue,
    /// Something that nobody knows.
    Unknown,
}

/// A request's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// The method, a token.
    pub method: &'a str,
    /// The request target, as sent: `/path?query`, `http://host/path?query`, `*` or `host:port`.
    pub target: &'a str,
    /// The version.
    pub version: Version,
    /// All fields in their order.
    pub fields: Fields<'a>,
    /// How long the body is.
    pub framing: Framing,
}

/// Why a head is refused. After any of these the connection is of no more use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not of HTTP's grammar.
    Malformed,
    /// A line ends with LF alone.
    BareLf,
    /// Longer than [`MAX_HEAD`].
    TooLong,
    /// More than [`MAX_FIELDS`].
    TooManyFields,
    /// More than a handful of members in `Connection`.
    Connection,
    /// A version that is neither 1.1 nor 1.0.
    Version,
    /// No `Host` in HTTP/1.1, or two, or one that is no host with or without a port.
    Host,
    /// A target that is neither a path nor a URL of ours (RFC 9112 §3.2).
    Target,
    /// Two lengths, or one that is no number.
    Length,
    /// A length beside a transfer coding, or a coding where there can be none.
    Coding,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
}

impl HeadError {
    /// The status to refuse it with.
    pub const fn status(self) -> Status {
        match self {
            Self::TooLong | Self::TooManyFields => Status::FIELDS_TOO_LARGE,
            Self::Version => Status::VERSION_NOT_SUPPORTED,
            Self::UnknownCoding => Status::NOT_IMPLEMENTED,
            Self::Malformed
            | Self::BareLf
            | Self::Connection
            | Self::Host
            | Self::Target
            | Self::Length
            | Self::Coding => Status::BAD_REQUEST,
        }
    }

    /// The error in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed head",
            Self::BareLf => "line of the head ends without CR",
            Self::TooLong => "head too long",
            Self::TooManyFields => "too many fields in the head",
            Self::Connection => "too many members in Connection",
            Self::Version => "HTTP version is neither 1.1 nor 1.0",
            Self::Host => "not exactly one good Host field",
            Self::Target => "request target is neither a path nor a URL",
            Self::Length => "not exactly one number as Content-Length",
            Self::Coding => "Transfer-Encoding where it must not be",
            Self::UnknownCoding => "unknown transfer coding",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for HeadError {}

/// Finds and reads one head after the other in bytes that arrive in any pieces. It is offered the same
/// bytes again, with more behind them, until it has a head; none is looked at twice.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    /// So many bytes are known not to end the head.
    scanned: usize,
    /// Where the line that is not over yet began.
    line: usize,
    /// There was a line that is not empty: the next empty one is the end.
    begun: bool,
}

impl HeadReader {
    /// Reads the request's head that `bytes` begin with. Empty lines before it are skipped (RFC 9112 §2.2).
    ///
    /// # Errors
    /// As soon as the head cannot become a good one.
    pub fn read<'a>(&mut self, bytes: &'a [u8]) -> Result<Parsed<Head<'a>>, HeadError> {
        let Some(end) = self.end(bytes)? else { return Ok(Parsed::Partial) };
        let head = bytes.get(..end).ok_or(HeadError::Malformed)?;
        Ok(Parsed::Complete(Head::parse(head)?, end))
    }

    /// Reads the response's head that `bytes` begin with.
    ///
    /// # Errors
    /// As soon as the head cannot become a good one.
    pub fn read_reply<'a>(&mut self, bytes: &'a [u8]) -> Result<Parsed<ReplyHead<'a>>, HeadError> {
        let Some(end) = self.end(bytes)? else { return Ok(Parsed::Partial) };
        let head = bytes.get(..end).ok_or(HeadError::Malformed)?;
        Ok(Parsed::Complete(ReplyHead::parse(head)?, end))
    }

    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadError> {
        // Not HTTP at all, such as TLS: say so at once instead of waiting for a line's end.
        if bytes.first().is_some_and(|first| !first.is_ascii_graphic() && !matches!(first, b'\r' | b'\n')) {
            return Err(HeadError::Malformed);
        }
        let window = bytes.get(..MAX_HEAD).unwrap_or(bytes);
        while let Some(fresh) = window.get(self.scanned..)
            && let Some(at) = fresh.iter().position(|byte| *byte == b'\n')
        {
            let newline = self.scanned + at;
            let text = window.get(self.line..newline).and_then(|line| line.strip_suffix(b"\r"));
            let empty = text.ok_or(HeadError::BareLf)?.is_empty();
            self.scanned = newline + 1;
            self.line = newline + 1;
            if empty && self.begun {
                *self = Self::default();
                return Ok(Some(newline + 1));
            }
            self.begun |= !empty;
        }
        self.scanned = window.len();
        if bytes.len() >= MAX_HEAD { Err(HeadError::TooLong) } else { Ok(None) }
    }
}

impl From<FramingError> for HeadError {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::Length => Self::Length,
            FramingError::Coding => Self::Coding,
            FramingError::UnknownCoding => Self::UnknownCoding,
        }
    }
}

pub(super) fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

impl<'a> Head<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut slots);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HeadError::Malformed),
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(HeadError::Malformed);
        };
        let fields = Fields::new(request.headers);
        let version = version(request.version);
        let hosts = fields.values("host").count();
        if hosts > 1 || (hosts == 0 && version == Version::Http11) {
            return Err(HeadError::Host);
        }
        if fields.nominates_too_many() {
            return Err(HeadError::Connection);
        }
        let framing = fields.framing(version)?.unwrap_or(Framing::Length(0));
        let head = Self { method, target, version, fields, framing };
        let is_form = target.starts_with('/') || head.absolute_form().is_some();
        if (!is_form && target != "*" && method != "CONNECT") || target.contains('#') {
            return Err(HeadError::Target);
        }
        let named = head.absolute_form().map(|(authority, _)| authority.as_bytes());
        if !head.values("host").chain(named).all(is_host) {
            return Err(HeadError::Host);
        }
        Ok(head)
    }

    /// The values of all fields of this name, which has no case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.values(name)
    }

    /// The path of the target, without its query; `*` for the server as a whole, empty for a target that is
    /// an authority.
    pub fn path(&self) -> &'a str {
        let target = self.origin_form();
        match path_of_target(target) {
            "" if self.absolute_form().is_some() => "/",
            path => path,
        }
    }

    /// The query of the target.
    pub fn query(&self) -> Option<&'a str> {
        self.origin_form().split_once('?').map(|(_, query)| query)
    }

    /// The host that is asked, with its port if it was given. An absolute target overrides the field
    /// (RFC 9112 §3.2.2).
    pub fn host(&self) -> Option<&'a str> {
        match self.absolute_form() {
            Some((authority, _)) => Some(authority),
            None => self.fields.text("host"),
        }
    }

    /// Whether the client wants to use the connection again (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.fields.keep_alive(self.version)
    }

    /// What the client expects before it sends the body.
    pub fn expectation(&self) -> Expectation {
        if self.version == Version::Http10 {
            return Expectation::None;
        }
        let mut expectation = Expectation::None;
        for token in self.fields.tokens("expect") {
            if !token.eq_ignore_ascii_case("100-continue") {
                return Expectation::Unknown;
            }
            expectation = Expectation::Continue;
        }
        expectation
    }

    /// The token of `Authorization: Bearer …`, if there is exactly one such field (RFC 6750 §2.1).
    pub fn bearer(&self) -> Option<&'a [u8]> {
        let mut values = self.values("authorization");
        let (value, None) = (values.next()?, values.next()) else { return None };
        let (scheme, token) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    }

    /// Path and query of the target.
    pub fn origin_form(&self) -> &'a str {
        match self.absolute_form() {
            Some((_, rest)) => rest,
            None if self.target.starts_with('/') || self.target == "*" => self.target,
            None => "",
        }
    }

    /// Authority, and path with query, of a target that is a whole URL.
    fn absolute_form(&self) -> Option<(&'a str, &'a str)> {
        let (scheme, rest) = self.target.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        Some(rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at)))
    }
}

/// What stands before the query.
pub(super) fn path_of_target(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

/// Whether it can be `host [ ":" port ]` (RFC 3986 §3.2.2). A user's name in it, a path or a list is none.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Parsed<Head<'_>>, HeadError> {
        HeadReader::default().read(bytes)
    }

    fn head(text: &str) -> Head<'_> {
        match read(text.as_bytes()) {
            Ok(Parsed::Complete(head, used)) if used == text.len() => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    /// A request with these field lines.
    fn with(fields: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")
    }

    fn refusal(text: &str) -> Option<HeadError> {
        read(text.as_bytes()).err()
    }

    #[test]
    fn a_head_is_read_with_all_its_parts() {
        let head = head("GET /a/b.flv?x=y?z HTTP/1.1\r\nHost: example.com:80\r\nX-A: 1\r\nx-a:  2 \r\n\r\n");
        assert_eq!((head.method, head.target, head.version), ("GET", "/a/b.flv?x=y?z", Version::Http11));
        assert_eq!(
            (head.path(), head.query(), head.host()),
            ("/a/b.flv", Some("x=y?z"), Some("example.com:80"))
        );
        assert_eq!(head.values("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(head.framing, Framing::Length(0));
        assert!(head.keep_alive());
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let head = head("GET http://other.net?q HTTP/1.1\r\nHost: example.com\r\n\r\n");
        assert_eq!((head.path(), head.query(), head.host()), ("/", Some("q"), Some("other.net")));
        let whole = "GET HTTP://other.net:80/a?q HTTP/1.1\r\nHost: x\r\n\r\n";
        let Ok(Parsed::Complete(head, _)) = read(whole.as_bytes()) else { panic!() };
        assert_eq!((head.path(), head.query(), head.host()), ("/a", Some("q"), Some("other.net:80")));
    }

    #[test]
    fn empty_lines_before_a_head_are_skipped() {
        assert_eq!(head("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").method, "GET");
        assert_eq!(read(b"\r\n\r\n"), Ok(Parsed::Partial));
    }

    #[test]
    fn what_follows_a_head_is_left_alone() {
        let text = "GET / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n";
        let Ok(Parsed::Complete(head, used)) = read(text.as_bytes()) else { panic!() };
        assert_eq!((head.path(), used), ("/", 18));
    }

    #[test]
    fn connections_persist_by_version_and_option() {
        for (text, keep) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false),
        ] {
            assert_eq!(head(text).keep_alive(), keep, "{text:?}");
        }
    }

    #[test]
    fn bodies_are_framed_by_one_length_or_by_chunks() {
        assert_eq!(head(&with("Content-Length: 42")).framing, Framing::Length(42));
        assert_eq!(head(&with("content-length:0007")).framing, Framing::Length(7));
        assert_eq!(head(&with("Transfer-Encoding: Chunked")).framing, Framing::Chunked);
    }

    #[test]
    fn shapes_that_smuggle_requests_are_refused() {
        for (text, why) in [
            (with("Content-Length: 4\r\nTransfer-Encoding: chunked"), HeadError::Coding),
            (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), HeadError::Coding),
            (with("Transfer-Encoding: chunked, identity"), HeadError::UnknownCoding),
            (with("Transfer-Encoding: gzip, chunked"), HeadError::UnknownCoding),
            (with("Transfer-Encoding: xchunked"), HeadError::UnknownCoding),
            (with("Transfer-Encoding:"), HeadError::UnknownCoding),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), HeadError::Coding),
            (with("Content-Length: 4\r\nContent-Length: 4"), HeadError::Length),
            (with("Content-Length: 4, 4"), HeadError::Length),
            (with("Content-Length: +4"), HeadError::Length),
            (with("Content-Length: -4"), HeadError::Length),
            (with("Content-Length: 0x4"), HeadError::Length),
            (with("Content-Length: 4 4"), HeadError::Length),
            (with("Content-Length:"), HeadError::Length),
            (with("Content-Length: 18446744073709551616"), HeadError::Length),
            (with("Content-Length : 4"), HeadError::Malformed),
            (with(" Content-Length: 4"), HeadError::Malformed),
            (with("A: b\r\n folded"), HeadError::Malformed),
            (with("A: b\r\n\tfolded"), HeadError::Malformed),
            (with("A: b\rContent-Length: 4"), HeadError::Malformed),
            (with("A: b\0"), HeadError::Malformed),
            (with("A b"), HeadError::Malformed),
            (with("Host: h"), HeadError::Host),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), HeadError::Host),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), HeadError::Host),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), HeadError::Host),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), HeadError::Host),
            ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadError::Host),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadError::Target),
            ("GET /a.flv#b.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadError::Target),
            ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n".into(), HeadError::Target),
            ("GET / HTTP/1.1\r\n\r\n".into(), HeadError::Host),
            (with(&format!("Connection: close{}", ",x".repeat(16))), HeadError::Connection),
            (with("A: b\nContent-Length: 4"), HeadError::BareLf),
            ("GET / HTTP/1.1\nHost: h\n\n".into(), HeadError::BareLf),
            ("\nGET / HTTP/1.1\r\n".into(), HeadError::BareLf),
            ("GET / HTTP/2.0\r\n\r\n".into(), HeadError::Version),
            ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n".into(), HeadError::Malformed),
            ("GET / \r\n\r\n".into(), HeadError::Version),
            ("GET /\r\n\r\n".into(), HeadError::Malformed),
            ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n".into(), HeadError::Malformed),
            ("\u{16}\u{3}\u{1}".into(), HeadError::Malformed),
        ] {
            assert_eq!(refusal(&text), Some(why), "{text:?}");
        }
    }

    #[test]
    fn heads_have_limits() {
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(refusal(&long), Some(HeadError::TooLong));
        assert_eq!(refusal(&long[..MAX_HEAD]), Some(HeadError::TooLong));
        assert_eq!(read(&long.as_bytes()[..MAX_HEAD - 1]), Ok(Parsed::Partial));
        assert_eq!(refusal(&"\r\n".repeat(MAX_HEAD)), Some(HeadError::TooLong));
        let fields = |count: usize| with(&["A: b"].repeat(count - 1).join("\r\n"));
        assert_eq!(head(&fields(MAX_FIELDS)).fields.iter().count(), MAX_FIELDS);
        assert_eq!(refusal(&fields(MAX_FIELDS + 1)), Some(HeadError::TooManyFields));
        assert_eq!(HeadError::TooManyFields.status(), Status::FIELDS_TOO_LARGE);
    }

    #[test]
    fn a_bearer_token_is_taken_from_one_field() {
        let bearer = |fields: &str| head(&with(fields)).bearer().map(<[u8]>::to_vec);
        assert_eq!(bearer("Authorization: Bearer abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(bearer("authorization: bearer  abc").as_deref(), Some(&b"abc"[..]));
        for fields in
            ["A: b", "Authorization: Basic abc", "Authorization: Bearer", "Authorization: Bearerabc"]
        {
            assert_eq!(bearer(fields), None, "{fields}");
        }
        assert_eq!(bearer("Authorization: Bearer a\r\nAuthorization: Bearer b"), None);
    }

    #[test]
    fn only_a_known_expectation_is_known() {
        let expectation = |fields: &str| head(&with(fields)).expectation();
        assert_eq!(expectation("A: b"), Expectation::None);
        assert_eq!(expectation("Expect: 100-Continue"), Expectation::Continue);
        assert_eq!(expectation("Expect: 100-continue, tea"), Expectation::Unknown);
        assert_eq!(head("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expectation(), Expectation::None);
    }

    /// What a stream of heads gives when it arrives in these pieces.
    fn outcomes(bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        let (mut reader, mut start, mut outcomes) = (HeadReader::default(), 0, Vec::new());
        for end in cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([bytes.len()]) {
            loop {
                if end < start {
                    break;
                }
                match reader.read(&bytes[start..end]) {
                    Ok(Parsed::Partial) => break,
                    Ok(Parsed::Complete(head, used)) => {
                        outcomes.push(format!("{head:?}"));
                        start += used;
                    }
                    Err(why) => {
                        outcomes.push(format!("{why:?}"));
                        return outcomes;
                    }
                }
            }
        }
        outcomes
    }

    const PIECES: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.0\r\n",
        "Host: h\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "A: b\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\u{0}",
        "é",
        "x",
        ":",
    ];

    proptest! {
        #[test]
        fn heads_are_the_same_however_they_are_split(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
            mut cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let text = pieces.concat();
            for cut in &mut cuts {
                *cut %= text.len() + 1;
            }
            cuts.sort_unstable();
            let every: Vec<_> = (0..text.len()).collect();
            let whole = outcomes(text.as_bytes(), &[]);
            prop_assert_eq!(&whole, &outcomes(text.as_bytes(), &cuts));
            prop_assert_eq!(&whole, &outcomes(text.as_bytes(), &every));
        }

        #[test]
        fn any_bytes_are_a_head_or_an_error_or_too_few(bytes: Vec<u8>) {
            let _ = read(&bytes);
            let _ = read(&[b"GET / HTTP/1.1\r\n", &bytes[..], b"\r\n\r\n"].concat());
        }
    }
}
