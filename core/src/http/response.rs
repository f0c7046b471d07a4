//! Responses of the proxy's own (RFC 9112 §4): small, whole, with a length. Streams nothing.

use alloc::vec::Vec;
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
    /// 503 Service Unavailable
    pub const UNAVAILABLE: Self = Self(503);
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
            503 => "Service Unavailable",
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

/// A response in the making. There is no `Date`: this crate has no clock (RFC 9110 §6.6.1).
#[derive(Clone, Debug)]
pub struct Response {
    head: Vec<u8>,
}

impl Response {
    /// Begins a response with this status.
    pub fn new(status: Status) -> Self {
        let mut response = Self { head: Vec::with_capacity(256) };
        response.line(format_args!("HTTP/1.1 {status}"));
        response
    }

    /// Adds a field. Both parts are the proxy's own; a control character in the value becomes a space, so
    /// that no value can begin a line.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.line(format_args!("{name}: {value}"));
        self
    }

    /// Says whether the connection will be used again. Old clients want to hear both.
    #[must_use]
    pub fn connection(self, keep_alive: bool) -> Self {
        self.field("Connection", if keep_alive { "keep-alive" } else { "close" })
    }

    /// Ends it with no body of its own and no word about one: 204 wants it so, and a file follows by itself.
    pub fn empty(mut self) -> Bytes {
        self.head.extend_from_slice(b"\r\n");
        self.head.into()
    }

    /// Ends it with a body. To `HEAD` goes all but the body itself.
    pub fn body(self, content_type: &str, body: &[u8], to_head: bool) -> Bytes {
        let mut response = self.field("Content-Type", content_type).field("Content-Length", body.len());
        response.head.extend_from_slice(b"\r\n");
        if !to_head {
            response.head.extend_from_slice(body);
        }
        response.head.into()
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        struct Line<'a>(&'a mut Vec<u8>);
        impl fmt::Write for Line<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
                Ok(())
            }
        }
        // Writing to a vector cannot fail, and the values' `Display` do not.
        let _ = fmt::Write::write_fmt(&mut Line(&mut self.head), text);
        self.head.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_a_length_and_no_body_for_head() {
        let response = || Response::new(Status::NOT_FOUND).connection(true).field("Allow", "GET, HEAD");
        assert_eq!(
            response().body("text/plain", b"gone", false),
            "HTTP/1.1 404 Not Found\r\nConnection: keep-alive\r\nAllow: GET, HEAD\r\n\
             Content-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone"
        );
        assert!(response().body("text/plain", b"gone", true).ends_with(b"Content-Length: 4\r\n\r\n"));
    }

    #[test]
    fn no_value_begins_a_line_of_its_own() {
        let bytes = Response::new(Status::NO_CONTENT).field("Server", "x\r\nSet-Cookie: y").empty();
        assert_eq!(bytes, "HTTP/1.1 204 No Content\r\nServer: x  Set-Cookie: y\r\n\r\n");
    }
}
