//! Where a body ends (RFC 9112 §6, §7.1): follows its framing through bytes that arrive in any pieces, and says what
//! of them is content. Keeps none of it, decodes nothing else.
//!
//! ```text
//!   Length(n) ──n bytes──▶ Done            Close ──▶ (for ever)
//!
//!   Size ──"1a;ext\r\n"──▶ Data(n) ──n bytes──▶ DataEnd ──"\r\n"──▶ Size
//!     └────"0\r\n"──▶ Trailer ──"name: value\r\n"──▶ Trailer ──"\r\n"──▶ Done
//! ```

use super::fields::Framing;

/// The longest line of a chunk's size with its extensions, in bytes. Nobody uses extensions.
const MAX_SIZE_LINE: usize = 256;
/// The longest trailer line, in bytes.
const MAX_TRAILER_LINE: usize = 4 * 1024;
/// All trailer lines together, in bytes: as much as a head may have.
const MAX_TRAILER: usize = 16 * 1024;

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// So many bytes of content.
    Content(usize),
    /// So many bytes that only frame it.
    Frame(usize),
    /// Too few to tell.
    More,
    /// Not of this body: it is over.
    End,
}

/// The chunks are broken: nobody knows where the body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyError;

/// A body that is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body(State);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Length(u64),
    Close,
    Size,
    Data(u64),
    DataEnd,
    Trailer(usize),
    Done,
}

impl Body {
    /// A body with this framing, at its start.
    pub const fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
        })
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Whether it ends with the connection.
    pub fn is_endless(&self) -> bool {
        self.0 == State::Close
    }

    /// Says what `bytes`, the next ones, begin with; that part is thereby read.
    ///
    /// # Errors
    /// If they are not what the framing demands.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Part, BodyError> {
        match self.0 {
            State::Done => Ok(Part::End),
            _ if bytes.is_empty() => Ok(Part::More),
            State::Close => Ok(Part::Content(bytes.len())),
            State::Length(left) => {
                let (taken, left) = take(left, bytes);
                self.0 = if left == 0 { State::Done } else { State::Length(left) };
                Ok(Part::Content(taken))
            }
            State::Data(left) => {
                let (taken, left) = take(left, bytes);
                self.0 = if left == 0 { State::DataEnd } else { State::Data(left) };
                Ok(Part::Content(taken))
            }
            State::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.0 = State::Size;
                    Ok(Part::Frame(2))
                }
                [b'\r'] => Ok(Part::More),
                _ => Err(BodyError),
            },
            State::Size => {
                let Some(line) = line(bytes, MAX_SIZE_LINE)? else { return Ok(Part::More) };
                self.0 = match chunk_size(line)? {
                    0 => State::Trailer(0),
                    size => State::Data(size),
                };
                Ok(Part::Frame(line.len() + 2))
            }
            State::Trailer(before) => {
                let Some(line) = line(bytes, MAX_TRAILER_LINE)? else { return Ok(Part::More) };
                let length = line.len() + 2;
                let all = before + length;
                if all > MAX_TRAILER || !(line.is_empty() || is_field(line)) {
                    return Err(BodyError);
                }
                self.0 = if line.is_empty() { State::Done } else { State::Trailer(all) };
                Ok(Part::Frame(length))
            }
        }
    }

    /// Reads as much of `bytes` as belongs to the body and can be told; how much that is.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub fn skip(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        let mut used = 0;
        loop {
            match self.next(bytes.get(used..).unwrap_or_default())? {
                Part::Content(length) | Part::Frame(length) => used += length,
                Part::More | Part::End => return Ok(used),
            }
        }
    }
}

fn take(left: u64, bytes: &[u8]) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (taken, left - taken as u64)
}

/// The line that `bytes` begin with, without its end. A CR or LF elsewhere could end it for another reader.
fn line(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, BodyError> {
    let window = bytes.get(..limit).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if bytes.len() >= limit { Err(BodyError) } else { Ok(None) };
    };
    match bytes.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok(bytes.get(..end)),
        Some([b'\r']) => Ok(None),
        _ => Err(BodyError),
    }
}

/// `1*HEXDIG *( BWS ";" … )`.
fn chunk_size(line: &[u8]) -> Result<u64, BodyError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, extension) = line.split_at_checked(digits).ok_or(BodyError)?;
    let blanks = extension.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let extension = extension.get(blanks..).unwrap_or_default();
    let is_text = extension.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    // Fifteen digits cannot overflow.
    if digits.len() > 15 || !(extension.is_empty() || extension.starts_with(b";")) || !is_text {
        return Err(BodyError);
    }
    let digits = core::str::from_utf8(digits).map_err(|_| BodyError)?;
    u64::from_str_radix(digits, 16).map_err(|_| BodyError)
}

fn is_field(line: &[u8]) -> bool {
    let mut parts = line.splitn(2, |byte| *byte == b':');
    let (Some(name), Some(value)) = (parts.next(), parts.next()) else { return false };
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty()
        && name.iter().all(is_token)
        && value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// Content, and how many bytes were used; fed in these pieces.
    fn read(framing: Framing, bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), BodyError> {
        let (mut body, mut used, mut content) = (Body::new(framing), 0, Vec::new());
        for end in cuts.iter().copied().chain([bytes.len()]) {
            loop {
                match body.next(bytes.get(used..end).unwrap_or_default())? {
                    Part::Content(n) => {
                        content.extend_from_slice(&bytes[used..used + n]);
                        used += n;
                    }
                    Part::Frame(n) => used += n,
                    Part::More => break,
                    Part::End => return Ok((content, used, body.is_done())),
                }
            }
        }
        Ok((content, used, body.is_done()))
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        let chunks = b"3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\nExpires: never\r\n\r\nGET /";
        let content = b"abc0123456789".to_vec();
        assert_eq!(read(Framing::Chunked, chunks, &[]), Ok((content, chunks.len() - 5, true)));
        assert_eq!(read(Framing::Length(3), b"abcdef", &[]), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(read(Framing::Length(0), b"abc", &[]), Ok((Vec::new(), 0, true)));
        assert_eq!(read(Framing::Close, b"abc", &[]), Ok((b"abc".to_vec(), 3, false)));
        assert_eq!(read(Framing::Chunked, b"5\r\nabc", &[]), Ok((b"abc".to_vec(), 6, false)));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for bytes in [
            &b"g\r\n"[..],
            b"\r\n",
            b" 3\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"-1\r\n",
            b"0x3\r\n",
            b"3 4\r\n",
            b"3\x0c\r\n",
            b"3;a\rb\r\n",
            b"3;a\0b\r\n",
            b"FFFFFFFFFFFFFFFF\r\n",
            b"0000000000000001\r\na\r\n",
            b"0\r\nno field\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
            b"0\r\n x: y\r\n\r\n",
            b"0\r\nx: y\n\r\n",
        ] {
            assert_eq!(read(Framing::Chunked, bytes, &[]), Err(BodyError), "{bytes:?}");
        }
        let endless = [&b"3;"[..], &[b'a'; MAX_SIZE_LINE]].concat();
        assert_eq!(read(Framing::Chunked, &endless, &[]), Err(BodyError));
        let trailer = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(MAX_TRAILER / 6 + 1)].concat();
        assert_eq!(read(Framing::Chunked, &trailer, &[]), Err(BodyError));
    }

    proptest! {
        #[test]
        fn bodies_are_the_same_however_they_are_split(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            noise in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(alloc::format!("{:x}\r\n", chunk.len()).into_bytes());
                wire.extend_from_slice(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nA: b\r\n\r\nrest");
            if let Some((at, byte)) = noise {
                let at = at.index(wire.len());
                wire[at] = byte;
            }
            let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(wire.len())).collect();
            cuts.sort_unstable();
            let every: Vec<_> = (0..wire.len()).collect();
            let whole = read(Framing::Chunked, &wire, &[]);
            if noise.is_none() {
                prop_assert_eq!(&whole, &Ok((chunks.concat(), wire.len() - 4, true)));
            }
            prop_assert_eq!(&whole, &read(Framing::Chunked, &wire, &cuts));
            prop_assert_eq!(&whole, &read(Framing::Chunked, &wire, &every));
        }
    }
}
