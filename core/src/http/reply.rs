//! Response heads as origins send them (RFC 9112 §4), and where their bodies end. As strict as with requests: what
//! could be read in two ways is of no use to a client.

use super::fields::{Fields, Framing, MAX_FIELDS, Version};
use super::head::{HeadError, version};

/// A response's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyHead<'a> {
    /// The status code.
    pub status: u16,
    /// The reason phrase, for people.
    pub reason: &'a str,
    /// The version.
    pub version: Version,
    /// All fields in their order.
    pub fields: Fields<'a>,
    /// How the body's end is known, if there is a body.
    framing: Framing,
}

impl<'a> ReplyHead<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, HeadError> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut slots);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(httparse::Error::Version) => return Err(HeadError::Version),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HeadError::Malformed),
        }
        let status = response.code.filter(|code| (100..=999).contains(code)).ok_or(HeadError::Malformed)?;
        let version = version(response.version);
        let fields = Fields::new(response.headers);
        if fields.nominates_too_many() {
            return Err(HeadError::Connection);
        }
        let framing = fields.framing(version)?.unwrap_or(Framing::Close);
        Ok(Self { status, reason: response.reason.unwrap_or_default(), version, fields, framing })
    }

    /// Whether another head follows (RFC 9110 §15.2).
    pub const fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// How the end of the body is known; `None` if there is no body, whatever the fields say.
    pub fn body(&self, to_head: bool) -> Option<Framing> {
        let without = to_head || self.is_interim() || matches!(self.status, 204 | 304);
        (!without && self.framing != Framing::Length(0)).then_some(self.framing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::HeadReader;
    use super::*;
    use crate::machine::Parsed;
    use alloc::format;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn reply(text: &str) -> Result<ReplyHead<'_>, HeadError> {
        match HeadReader::default().read_reply(text.as_bytes()) {
            Ok(Parsed::Complete(head, used)) if used == text.len() => Ok(head),
            Ok(other) => panic!("{text:?}: {other:?}"),
            Err(why) => Err(why),
        }
    }

    #[test]
    fn bodies_end_as_the_fields_say_unless_there_is_none() {
        for (status, fields, to_head, body) in [
            ("200 OK", "Content-Length: 7\r\n", false, Some(Framing::Length(7))),
            ("200 OK", "Content-Length: 0\r\n", false, None),
            ("200 OK", "Content-Length: 7\r\n", true, None),
            ("200 OK", "Transfer-Encoding: chunked\r\n", false, Some(Framing::Chunked)),
            ("200", "", false, Some(Framing::Close)),
            ("404 Not Found", "", false, Some(Framing::Close)),
            ("304 Not Modified", "Content-Length: 7\r\n", false, None),
            ("204 No Content", "", false, None),
            ("103 Early Hints", "", false, None),
        ] {
            let text = format!("HTTP/1.1 {status}\r\n{fields}\r\n");
            assert_eq!(reply(&text).unwrap().body(to_head), body, "{text}");
        }
    }

    #[test]
    fn a_head_that_can_be_read_in_two_ways_is_refused() {
        for (text, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", HeadError::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Coding),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Coding),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HeadError::UnknownCoding),
            (
                "HTTP/1.1 200 OK\r\nConnection: a,b,c,d,e,f,g,h\r\nConnection: a,b,c,d,e,f,g,h,i\r\n\r\n",
                HeadError::Connection,
            ),
            ("HTTP/1.1 200 OK\nContent-Length: 1\n\n", HeadError::BareLf),
            ("HTTP/2.0 200 OK\r\n\r\n", HeadError::Version),
            ("HTTP/1.1 099 Low\r\n\r\n", HeadError::Malformed),
            ("HTTP/1.1 OK\r\n\r\n", HeadError::Malformed),
            ("ICY 200 OK\r\n\r\n", HeadError::Version),
        ] {
            assert_eq!(reply(text).err(), Some(why), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_head_or_an_error_or_too_few(bytes: Vec<u8>) {
            let _ = HeadReader::default().read_reply(&bytes);
            let bytes = [b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat();
            let _ = HeadReader::default().read_reply(&bytes);
        }
    }
}
