//! AMF0 values, as far as RTMP commands use them. Pure functions on slices.

use super::Error;

/// Deepest nesting that is decoded; commands have two or three levels.
const MAX_DEPTH: usize = 16;

/// A value. Properties keep their order.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// 0x00
    Number(f64),
    /// 0x01
    Boolean(bool),
    /// 0x02, or 0x0C where longer than 65,535 bytes.
    String(String),
    /// 0x03
    Object(Vec<(String, Value)>),
    /// 0x05
    Null,
    /// 0x06
    Undefined,
    /// 0x08; its count is a hint and is written as the true number.
    EcmaArray(Vec<(String, Value)>),
    /// 0x0A
    StrictArray(Vec<Value>),
    /// 0x0B: milliseconds since 1970 and a time zone that is to be 0.
    Date(f64, i16),
}

impl Value {
    /// A string value.
    pub fn string(text: impl Into<String>) -> Self {
        Self::String(text.into())
    }

    /// An object of the given properties.
    pub fn object<K: Into<String>>(properties: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Object(properties.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// A property of an object or ECMA array.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number of a number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Adds the value's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => {
                out.push(0x00);
                out.extend(number.to_be_bytes());
            }
            Self::Boolean(yes) => out.extend([0x01, u8::from(*yes)]),
            Self::String(text) => match u16::try_from(text.len()) {
                Ok(_) => {
                    out.push(0x02);
                    encode_name(text, out);
                }
                Err(_) => {
                    out.push(0x0C);
                    out.extend(u32::try_from(text.len()).expect("a string below 4 GB").to_be_bytes());
                    out.extend(text.as_bytes());
                }
            },
            Self::Object(properties) => {
                out.push(0x03);
                encode_properties(properties, out);
            }
            Self::Null => out.push(0x05),
            Self::Undefined => out.push(0x06),
            Self::EcmaArray(properties) => {
                out.push(0x08);
                out.extend((properties.len() as u32).to_be_bytes());
                encode_properties(properties, out);
            }
            Self::StrictArray(values) => {
                out.push(0x0A);
                out.extend((values.len() as u32).to_be_bytes());
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Date(millis, zone) => {
                out.push(0x0B);
                out.extend(millis.to_be_bytes());
                out.extend(zone.to_be_bytes());
            }
        }
    }
}

fn encode_name(name: &str, out: &mut Vec<u8>) {
    out.extend(u16::try_from(name.len()).expect("a name below 64 KB").to_be_bytes());
    out.extend(name.as_bytes());
}

fn encode_properties(properties: &[(String, Value)], out: &mut Vec<u8>) {
    for (name, value) in properties {
        encode_name(name, out);
        value.encode(out);
    }
    out.extend([0, 0, 0x09]);
}

/// Decodes all of `bytes` as one value after the other.
///
/// # Errors
/// At the first byte that is not AMF0, at bytes that end within a value, at text that is not UTF-8.
pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(decode(&mut bytes)?);
    }
    Ok(values)
}

/// Decodes one value and moves `bytes` behind it.
///
/// # Errors
/// As [`decode_all`].
pub fn decode(bytes: &mut &[u8]) -> Result<Value, Error> {
    value(bytes, MAX_DEPTH)
}

fn value(bytes: &mut &[u8], depth: usize) -> Result<Value, Error> {
    let depth = depth.checked_sub(1).ok_or(Error("AMF0 nests too deep"))?;
    Ok(match array::<1>(bytes)?[0] {
        0x00 => Value::Number(f64::from_be_bytes(array(bytes)?)),
        0x01 => Value::Boolean(array::<1>(bytes)?[0] != 0),
        0x02 => Value::String(name(bytes)?),
        0x03 => Value::Object(properties(bytes, depth)?),
        0x05 => Value::Null,
        0x06 => Value::Undefined,
        0x08 => {
            array::<4>(bytes)?;
            Value::EcmaArray(properties(bytes, depth)?)
        }
        0x0A => {
            let count = u32::from_be_bytes(array(bytes)?);
            Value::StrictArray((0..count).map(|_| value(bytes, depth)).collect::<Result<_, _>>()?)
        }
        0x0B => Value::Date(f64::from_be_bytes(array(bytes)?), i16::from_be_bytes(array(bytes)?)),
        0x0C => {
            let length = u32::from_be_bytes(array(bytes)?);
            Value::String(text(bytes, length as usize)?)
        }
        _ => return Err(Error("unknown AMF0 marker")),
    })
}

fn properties(bytes: &mut &[u8], depth: usize) -> Result<Vec<(String, Value)>, Error> {
    let mut found = Vec::new();
    loop {
        if let Some(rest) = bytes.strip_prefix(&[0, 0, 0x09]) {
            *bytes = rest;
            return Ok(found);
        }
        found.push((name(bytes)?, value(bytes, depth)?));
    }
}

fn name(bytes: &mut &[u8]) -> Result<String, Error> {
    let length = u16::from_be_bytes(array(bytes)?);
    text(bytes, usize::from(length))
}

fn text(bytes: &mut &[u8], length: usize) -> Result<String, Error> {
    let (text, rest) = bytes.split_at_checked(length).ok_or(Error("AMF0 ends within a string"))?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Error("AMF0 text is not UTF-8"))
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Error> {
    let (head, rest) = bytes.split_first_chunk().ok_or(Error("AMF0 ends within a value"))?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e300f64..1e300).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,40}".prop_map(Value::String),
            Just(Value::Null),
            Just(Value::Undefined),
            (0f64..1e15, any::<i16>()).prop_map(|(millis, zone)| Value::Date(millis, zone)),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            // An empty name would be read as the end of the object if an end marker could follow; AMF0 has none.
            let properties = prop::collection::vec((".{1,12}", inner.clone()), 0..5);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.prop_map(Value::EcmaArray),
                prop::collection::vec(inner, 0..5).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_round_trip(values in prop::collection::vec(any_value(), 0..4)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| value.encode(&mut bytes));
            prop_assert_eq!(decode_all(&bytes).unwrap(), values);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_all(&bytes);
        }
    }

    #[test]
    fn a_long_string_takes_the_long_form() {
        let long = Value::string("x".repeat(70_000));
        let mut bytes = Vec::new();
        long.encode(&mut bytes);
        assert_eq!(bytes[0], 0x0C);
        assert_eq!(decode_all(&bytes).unwrap(), [long]);
    }
}
