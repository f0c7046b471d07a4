//! Field lines of requests and responses (RFC 9110 §5): reading them, what they say about the body's end, and
//! writing them. Sends nothing.

use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use smallvec::SmallVec;

/// The most fields in a head: browsers send about 20.
pub const MAX_FIELDS: usize = 64;
/// The most members of `Connection`: clients send two or three.
pub(super) const MAX_NOMINATIONS: usize = 16;
/// How many fields are held without an allocation.
const INLINE_FIELDS: usize = 16;

/// The protocol's version. There is no other that the parsers let through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a body's end is known (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// This many bytes.
    Length(u64),
    /// It comes in chunks and says itself when it is over.
    Chunked,
    /// It ends with the connection; only a response's can.
    Close,
}

/// Why nobody can say where the body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FramingError {
    /// Two lengths, or one that is no number.
    Length,
    /// A length beside a transfer coding, or a coding where there can be none.
    Coding,
    /// A transfer coding other than `chunked`.
    UnknownCoding,
}

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Its name, a token, in the sender's spelling.
    pub name: &'a str,
    /// Its value without the blanks around it; not always UTF-8.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether it has this name, which has no case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// All fields of a head, in their order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Fields<'a>(SmallVec<[Field<'a>; INLINE_FIELDS]>);

impl<'a> Fields<'a> {
    pub(super) fn new(parsed: &[httparse::Header<'a>]) -> Self {
        Self(parsed.iter().map(|field| Field { name: field.name, value: field.value }).collect())
    }

    /// The fields.
    pub fn iter(&self) -> impl Iterator<Item = &Field<'a>> {
        self.0.iter()
    }

    /// The values of all fields of this name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.is(name)).map(|field| field.value)
    }

    /// The first value of this name, if it is text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.values(name).next().and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The members of all fields of this name, which are comma-separated lists of tokens.
    pub fn tokens(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values(name)
            .filter_map(|value| core::str::from_utf8(value).ok())
            .flat_map(|value| value.split(',').map(str::trim_ascii))
            .filter(|token| !token.is_empty())
    }

    /// Whether a list has this member, which has no case.
    pub fn has_token(&self, name: &str, member: &str) -> bool {
        self.tokens(name).any(|token| token.eq_ignore_ascii_case(member))
    }

    /// Whether the sender wants to use the connection again (RFC 9112 §9.3).
    pub fn keep_alive(&self, version: Version) -> bool {
        !self.has_token("connection", "close")
            && (version == Version::Http11 || self.has_token("connection", "keep-alive"))
    }

    /// Whether `Connection` has more than [`MAX_NOMINATIONS`] members: each is compared with each field.
    pub(super) fn nominates_too_many(&self) -> bool {
        self.tokens("connection").nth(MAX_NOMINATIONS).is_some()
    }

    /// How the body's end is known, if the fields say anything about it. What two readers could understand in
    /// two ways is an error.
    pub(super) fn framing(&self, version: Version) -> Result<Option<Framing>, FramingError> {
        let mut lengths = self.values("content-length");
        let length = lengths.next();
        let mut codings = self.values("transfer-encoding");
        if let Some(coding) = codings.next() {
            if length.is_some() || codings.next().is_some() || version == Version::Http10 {
                return Err(FramingError::Coding);
            }
            return match coding.eq_ignore_ascii_case(b"chunked") {
                true => Ok(Some(Framing::Chunked)),
                false => Err(FramingError::UnknownCoding),
            };
        }
        let Some(length) = length else { return Ok(None) };
        // `parse` takes a plus sign, and an empty text is caught by it.
        let digits = core::str::from_utf8(length).ok();
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|digits| digits.parse().ok()) {
            Some(length) if lengths.next().is_none() => Ok(Some(Framing::Length(length))),
            _ => Err(FramingError::Length),
        }
    }
}

/// A head in the making. Text of our own never begins a line by itself: a control character in it becomes a space.
#[derive(Clone, Debug)]
pub(super) struct HeadWriter(Vec<u8>);

impl HeadWriter {
    /// Begins with a request line or status line.
    pub(super) fn new(first: fmt::Arguments<'_>) -> Self {
        let mut head = Self(Vec::with_capacity(512));
        head.line(first);
        head
    }

    /// Adds a field.
    pub(super) fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.line(format_args!("{name}: {value}"));
    }

    /// Adds a field as it was received.
    pub(super) fn pass(&mut self, field: &Field<'_>) {
        for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// Adds a list of what was received and one more.
    pub(super) fn list<'a>(
        &mut self,
        name: &str,
        received: impl Iterator<Item = &'a [u8]>,
        last: impl fmt::Display,
    ) {
        self.text(format_args!("{name}: "));
        for value in received {
            self.0.extend_from_slice(value);
            self.text(format_args!(", "));
        }
        self.line(format_args!("{last}"));
    }

    /// Says how the body's end is known.
    pub(super) fn framing(&mut self, framing: Framing) {
        match framing {
            Framing::Length(length) => self.field("Content-Length", length),
            Framing::Chunked => self.field("Transfer-Encoding", "chunked"),
            Framing::Close => {}
        }
    }

    /// Ends the head.
    pub(super) fn end(self) -> Bytes {
        self.end_with(&[])
    }

    /// Ends the head and adds a body.
    pub(super) fn end_with(mut self, body: &[u8]) -> Bytes {
        self.0.extend_from_slice(b"\r\n");
        self.0.extend_from_slice(body);
        self.0.into()
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        self.text(text);
        self.0.extend_from_slice(b"\r\n");
    }

    fn text(&mut self, text: fmt::Arguments<'_>) {
        struct Line<'a>(&'a mut Vec<u8>);
        impl fmt::Write for Line<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
                Ok(())
            }
        }
        // Writing to a vector cannot fail, and the values' `Display` do not.
        let _ = fmt::Write::write_fmt(&mut Line(&mut self.0), text);
    }
}
