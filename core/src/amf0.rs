//! AMF0 values (Action Message Format 0, Adobe 2007), read in place and written. No allocation on reading.
//!
//! Reading is total and bounded: [`MAX_DEPTH`] limits nesting, every count is checked against the bytes that
//! are there. Containers are handed out as the bytes they were read from, already checked.

use crate::read::Reader;
use alloc::vec::Vec;

/// How deep containers may nest: far more than any client sends, far less than a stack holds.
pub const MAX_DEPTH: u8 = 16;

/// Why bytes are not AMF0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The value ends before it should.
    Truncated,
    /// A marker that AMF0 does not define, or that may not stand here.
    Marker(u8),
    /// Containers nest deeper than [`MAX_DEPTH`].
    TooDeep,
}

mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
}

/// A value, borrowed from the bytes it was read from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// A double.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string, short or long; UTF-8 by the specification, not checked here.
    String(&'a [u8]),
    /// An anonymous object.
    Object(Properties<'a>),
    /// `null`.
    Null,
    /// `undefined`.
    Undefined,
    /// A reference to an earlier object, by its index.
    Reference(u16),
    /// An associative array.
    EcmaArray(Properties<'a>),
    /// An array: how many values, and their bytes.
    StrictArray(u32, &'a [u8]),
    /// Milliseconds since 1970 and a time zone that is always 0.
    Date(f64, i16),
    /// A value the sender could not express.
    Unsupported,
    /// An XML document.
    Xml(&'a [u8]),
    /// An object with a class name.
    TypedObject(&'a [u8], Properties<'a>),
}

impl<'a> Value<'a> {
    /// The number, if it is one.
    pub const fn as_number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The string, if it is one and is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        if let Self::String(bytes) = self { core::str::from_utf8(bytes).ok() } else { None }
    }

    /// The properties, if it is any kind of object.
    pub const fn as_properties(&self) -> Option<Properties<'a>> {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) | Self::TypedObject(_, properties) => {
                Some(*properties)
            }
            _ => None,
        }
    }
}

/// The properties of an object: its checked bytes, without marker and end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// The first property of this name.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// All properties, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let mut reader = Reader::new(self.0);
        core::iter::from_fn(move || {
            let key = short_string(&mut reader).ok()?;
            Some((key, value(&mut reader, 1).ok()?))
        })
    }

    /// The bytes: pairs of a short string and a value.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// Reads values off a message, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    reader: Reader<'a>,
}

impl<'a> Decoder<'a> {
    /// Reads from the slice's first byte on.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes) }
    }

    /// The next value; `None` at the end.
    ///
    /// # Errors
    /// The bytes are not a value; the decoder stays before them.
    pub fn next_value(&mut self) -> Result<Option<Value<'a>>, Error> {
        if self.reader.rest().is_empty() {
            return Ok(None);
        }
        let mut ahead = self.reader;
        let value = value(&mut ahead, 0)?;
        self.reader = ahead;
        Ok(Some(value))
    }
}

fn short_string<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let length = reader.u16().ok_or(Error::Truncated)?;
    reader.take(usize::from(length)).ok_or(Error::Truncated)
}

fn long_string<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let length = reader.u32().ok_or(Error::Truncated)?;
    reader.take(length as usize).ok_or(Error::Truncated)
}

/// Reads pairs up to and with the object end; returns the pairs' bytes.
fn properties<'a>(reader: &mut Reader<'a>, depth: u8) -> Result<Properties<'a>, Error> {
    let start = reader.rest();
    loop {
        let before = reader.rest().len();
        let key = short_string(reader)?;
        if key.is_empty() && reader.rest().first() == Some(&marker::OBJECT_END) {
            reader.take(1);
            let length = start.len().saturating_sub(before);
            return Ok(Properties(start.get(..length).unwrap_or_default()));
        }
        value(reader, depth)?;
    }
}

fn value<'a>(reader: &mut Reader<'a>, depth: u8) -> Result<Value<'a>, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let deeper = depth + 1;
    Ok(match reader.u8().ok_or(Error::Truncated)? {
        marker::NUMBER => Value::Number(reader.f64().ok_or(Error::Truncated)?),
        marker::BOOLEAN => Value::Boolean(reader.u8().ok_or(Error::Truncated)? != 0),
        marker::STRING => Value::String(short_string(reader)?),
        marker::LONG_STRING => Value::String(long_string(reader)?),
        marker::XML => Value::Xml(long_string(reader)?),
        marker::OBJECT => Value::Object(properties(reader, deeper)?),
        marker::TYPED_OBJECT => {
            let class = short_string(reader)?;
            Value::TypedObject(class, properties(reader, deeper)?)
        }
        marker::ECMA_ARRAY => {
            // The count is a hint; the object end is what counts.
            reader.u32().ok_or(Error::Truncated)?;
            Value::EcmaArray(properties(reader, deeper)?)
        }
        marker::STRICT_ARRAY => {
            let count = reader.u32().ok_or(Error::Truncated)?;
            let start = reader.rest();
            // Each value takes a byte at least, so a lying count ends with the input.
            for _ in 0..count {
                value(reader, deeper)?;
            }
            let length = start.len().saturating_sub(reader.rest().len());
            Value::StrictArray(count, start.get(..length).unwrap_or_default())
        }
        marker::NULL => Value::Null,
        marker::UNDEFINED => Value::Undefined,
        marker::UNSUPPORTED => Value::Unsupported,
        marker::REFERENCE => Value::Reference(reader.u16().ok_or(Error::Truncated)?),
        marker::DATE => {
            let millis = reader.f64().ok_or(Error::Truncated)?;
            Value::Date(millis, i16::from_be_bytes(reader.array().ok_or(Error::Truncated)?))
        }
        other => return Err(Error::Marker(other)),
    })
}

/// Writes values, one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins with nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends a double.
    #[must_use]
    pub fn number(mut self, number: f64) -> Self {
        self.0.push(marker::NUMBER);
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends a boolean.
    #[must_use]
    pub fn boolean(mut self, boolean: bool) -> Self {
        self.0.extend_from_slice(&[marker::BOOLEAN, u8::from(boolean)]);
        self
    }

    /// Appends a string, a long one if it needs to be.
    #[must_use]
    pub fn string(mut self, string: &str) -> Self {
        if let Ok(length) = u16::try_from(string.len()) {
            self.0.push(marker::STRING);
            self.0.extend_from_slice(&length.to_be_bytes());
        } else {
            self.0.push(marker::LONG_STRING);
            self.0.extend_from_slice(&u32::try_from(string.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
        self.0.extend_from_slice(string.as_bytes());
        self
    }

    /// Appends `null`.
    #[must_use]
    pub fn null(mut self) -> Self {
        self.0.push(marker::NULL);
        self
    }

    /// Appends `undefined`.
    #[must_use]
    pub fn undefined(mut self) -> Self {
        self.0.push(marker::UNDEFINED);
        self
    }

    /// Appends an object whose properties `fill` adds with [`Encoder::key`] before each value.
    #[must_use]
    pub fn object(mut self, fill: impl FnOnce(Self) -> Self) -> Self {
        self.0.push(marker::OBJECT);
        let mut filled = fill(self);
        filled.0.extend_from_slice(&[0, 0, marker::OBJECT_END]);
        filled
    }

    /// Appends a property's name (at most 65,535 bytes).
    #[must_use]
    pub fn key(mut self, name: &str) -> Self {
        debug_assert!(name.len() <= usize::from(u16::MAX), "property names are ours and short");
        self.0.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend_from_slice(name.as_bytes());
        self
    }

    /// Appends any value that was read.
    #[must_use]
    pub fn value(mut self, value: &Value<'_>) -> Self {
        match *value {
            Value::Number(number) => return self.number(number),
            Value::Boolean(boolean) => return self.boolean(boolean),
            Value::Null => return self.null(),
            Value::Undefined => return self.undefined(),
            Value::String(bytes) => self.sized(marker::STRING, Some(marker::LONG_STRING), bytes),
            Value::Xml(bytes) => self.sized(marker::XML, Some(marker::XML), bytes),
            Value::Object(properties) => {
                self.0.push(marker::OBJECT);
                self.properties(properties);
            }
            Value::EcmaArray(properties) => {
                self.0.push(marker::ECMA_ARRAY);
                let count = u32::try_from(properties.iter().count()).unwrap_or(u32::MAX);
                self.0.extend_from_slice(&count.to_be_bytes());
                self.properties(properties);
            }
            Value::TypedObject(class, properties) => {
                self.sized(marker::TYPED_OBJECT, None, class);
                self.properties(properties);
            }
            Value::StrictArray(count, values) => {
                self.0.push(marker::STRICT_ARRAY);
                self.0.extend_from_slice(&count.to_be_bytes());
                self.0.extend_from_slice(values);
            }
            Value::Reference(index) => {
                self.0.push(marker::REFERENCE);
                self.0.extend_from_slice(&index.to_be_bytes());
            }
            Value::Date(millis, zone) => {
                self.0.push(marker::DATE);
                self.0.extend_from_slice(&millis.to_be_bytes());
                self.0.extend_from_slice(&zone.to_be_bytes());
            }
            Value::Unsupported => self.0.push(marker::UNSUPPORTED),
        }
        self
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A marker, a length and bytes; `long` is the marker with a 4-byte length.
    fn sized(&mut self, short: u8, long: Option<u8>, bytes: &[u8]) {
        match (u16::try_from(bytes.len()), long) {
            (Ok(length), long) if long != Some(short) => {
                self.0.push(short);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
            (_, long) => {
                self.0.push(long.unwrap_or(short));
                self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            }
        }
        self.0.extend_from_slice(bytes);
    }

    fn properties(&mut self, properties: Properties<'_>) {
        self.0.extend_from_slice(properties.as_bytes());
        self.0.extend_from_slice(&[0, 0, marker::OBJECT_END]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = Encoder::new()
            .string("connect")
            .number(1.0)
            .object(|o| {
                o.key("app").string("live").key("fpad").boolean(false).key("x").null().key("y").undefined()
            })
            .into_bytes();
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(decoder.next_value().unwrap().unwrap().as_str(), Some("connect"));
        assert_eq!(decoder.next_value().unwrap().unwrap().as_number(), Some(1.0));
        let object = decoder.next_value().unwrap().unwrap();
        let properties = object.as_properties().unwrap();
        assert_eq!(properties.get("app").unwrap().as_str(), Some("live"));
        assert_eq!(properties.get("fpad"), Some(Value::Boolean(false)));
        assert_eq!(properties.get("z"), None);
        assert_eq!(decoder.next_value(), Ok(None));
        assert_eq!(Encoder::new().value(&object).into_bytes(), bytes[19..]);
    }

    #[test]
    fn every_truncation_is_an_error_not_a_panic() {
        let whole = Encoder::new()
            .object(|o| o.key("a").object(|o| o.key("b").string("c")).key("d").number(1.0))
            .into_bytes();
        for end in 1..whole.len() {
            assert_eq!(Decoder::new(&whole[..end]).next_value(), Err(Error::Truncated), "{end}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let bomb = [marker::STRICT_ARRAY, 0, 0, 0, 1].repeat(10_000);
        assert_eq!(Decoder::new(&bomb).next_value(), Err(Error::TooDeep));
    }

    #[test]
    fn a_lying_count_ends_with_the_input() {
        let lie = [marker::STRICT_ARRAY, 0xff, 0xff, 0xff, 0xff, marker::NULL];
        assert_eq!(Decoder::new(&lie).next_value(), Err(Error::Truncated));
    }

    #[test]
    fn unknown_markers_are_named() {
        assert_eq!(Decoder::new(&[0x42]).next_value(), Err(Error::Marker(0x42)));
    }
}
