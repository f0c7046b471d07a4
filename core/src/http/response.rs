//! Responses of the proxy's own (RFC 9112 §4): small, whole, with a length. Streams nothing.

use super::fields::{HeadWriter, Version};
use bytes::Bytes;
use core::fmt;

/// A status code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status(pub u16);

impl Status {
    /// 200 OK
    pub const OK: Self = Self(200);
    /// 204 No Content
    pub const NO_CONTENT: Self = Self(204);
    /// 206 Partial Content
    pub const PARTIAL_CONTENT: Self = Self(206);
    /// 301 Moved Permanently
    pub const MOVED_PERMANENTLY: Self = Self(301);
    /// 304 Not Modified
    pub const NOT_MODIFIED: Self = Self(304);
    /// 400 Bad Request
    pub const BAD_REQUEST: Self = Self(400);
    /// 401 Unauthorized
    pub const UNAUTHORIZED: Self = Self(401);
    /// 403 Forbidden
    pub const FORBIDDEN: Self = Self(403);
    /// 404 Not Found
    pub const NOT_FOUND: Self = Self(404);
    /// 405 Method Not Allowed
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    /// 408 Request Timeout
    pub const REQUEST_TIMEOUT: Self = Self(408);
    /// 411 Length Required
    pub const LENGTH_REQUIRED: Self = Self(411);
    /// 412 Precondition Failed
    pub const PRECONDITION_FAILED: Self = Self(412);
    /// 413 Content Too Large
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    /// 416 Range Not Satisfiable
    pub const RANGE_NOT_SATISFIABLE: Self = Self(416);
    /// 417 Expectation Failed
    pub const EXPECTATION_FAILED: Self = Self(417);
    /// 431 Request Header Fields Too Large
    pub const FIELDS_TOO_LARGE: Self = Self(431);
    /// 501 Not Implemented
    pub const NOT_IMPLEMENTED: Self = Self(501);
    /// 502 Bad Gateway
    pub const BAD_GATEWAY: Self = Self(502);
    /// 503 Service Unavailable
    pub const UNAVAILABLE: Self = Self(503);
    /// 504 Gateway Timeout
    pub const GATEWAY_TIMEOUT: Self = Self(504);
    /// 505 HTTP Version Not Supported
    pub const VERSION_NOT_SUPPORTED: Self = Self(505);

    /// Its reason phrase, for people; empty for a code this proxy does not send by itself.
    pub const fn reason(self) -> &'static str {
        match self.0 {
            200 => "OK",
            204 => "No Content",
            206 => "Partial Content",
            301 => "Moved Permanently",
            304 => "Not Modified",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            411 => "Length Required",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            416 => "Range Not Satisfiable",
            417 => "Expectation Failed",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

/// The interim response that asks for the body (RFC 9110 §15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The field that says what a page of another site may read of an answer, beside what every page may.
pub(super) const EXPOSE: &str = "Access-Control-Expose-Headers";

/// What it says.
const EXPOSED: &str =
    "Accept-Ranges, Content-Length, Content-Range, Date, ETag, Last-Modified, Link, Location";

/// Lets pages of other sites read an answer, with those of the two fields that are wanted (Fetch, CORS protocol).
pub(super) fn allow_pages(out: &mut HeadWriter, wanted: impl Fn(&str) -> bool) {
    for (name, value) in [("Access-Control-Allow-Origin", "*"), (EXPOSE, EXPOSED)] {
        if wanted(name) {
            out.field(name, value);
        }
    }
}

/// To whom a response goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hearer {
    /// The client's version.
    pub version: Version,
    /// It asked by `HEAD`: it gets all but the body.
    pub to_head: bool,
    /// Whether its connection goes on after the response.
    pub keep_alive: bool,
}

impl Hearer {
    pub(super) fn tell(self, out: &mut HeadWriter) {
        match (self.version, self.keep_alive) {
            (_, false) => out.field("Connection", "close"),
            (Version::Http10, true) => out.field("Connection", "keep-alive"),
            (Version::Http11, true) => {}
        }
    }
}

/// A response in the making. There is no `Date`: this crate has no clock (RFC 9110 §6.6.1).
#[derive(Clone, Debug)]
pub struct Response {
    head: HeadWriter,
    to_head: bool,
}

impl Response {
    /// Begins a response with this status.
    pub fn new(status: Status, hearer: Hearer) -> Self {
        let mut head = HeadWriter::new(format_args!("HTTP/1.1 {status}"));
        hearer.tell(&mut head);
        Self { head, to_head: hearer.to_head }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.head.field(name, value);
        self
    }

    /// Lets pages of other sites read it.
    #[must_use]
    pub fn for_all_pages(mut self) -> Self {
        allow_pages(&mut self.head, |_| true);
        self
    }

    /// Ends it with no body of its own and no word about one: 204 wants it so, and a file follows by itself.
    pub fn empty(self) -> Bytes {
        self.head.end()
    }

    /// Ends it with a body.
    pub fn body(self, content_type: &str, body: &[u8]) -> Bytes {
        let sent = if self.to_head { &[] } else { body };
        self.field("Content-Type", content_type).field("Content-Length", body.len()).head.end_with(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hearer(to_head: bool) -> Hearer {
        Hearer { version: Version::Http10, to_head, keep_alive: true }
    }

    #[test]
    fn a_response_has_a_length_and_no_body_for_head() {
        let response =
            |to_head| Response::new(Status::NOT_FOUND, hearer(to_head)).field("Allow", "GET, HEAD");
        assert_eq!(
            response(false).body("text/plain", b"gone"),
            "HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nAllow: GET, HEAD\r\n\
             Content-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone"
        );
        assert!(response(true).body("text/plain", b"gone").ends_with(b"Content-Length: 4\r\n\r\n"));
    }

    #[test]
    fn no_value_begins_a_line_of_its_own() {
        let response = Response::new(Status::NO_CONTENT, hearer(false)).field("Server", "x\r\nSet-Cookie: y");
        assert_eq!(
            response.empty(),
            "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\nServer: x  Set-Cookie: y\r\n\r\n"
        );
    }
}
