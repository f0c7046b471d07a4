//! Messages off a stream of bytes, for both sides: heads, and bodies however they are framed (RFC 9112 §6, §7). What
//! is not exactly so is an error. Knows no method and no status.

use super::message::Fields;
use std::io::{self, ErrorKind, Read};

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// How the end of a body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// There is none.
    None,
    /// By its length.
    Length(u64),
    /// It says so itself.
    Chunked,
    /// With it the connection ends.
    UntilClose,
}

/// A start line and fields.
#[derive(Clone, Debug)]
pub struct Head {
    /// The first line, without its end.
    pub start: String,
    /// The field lines.
    pub fields: Fields,
    /// All bytes of the head, the empty line included.
    pub raw: Vec<u8>,
}

/// Where bytes come from, with what was received and not yet used.
#[derive(Debug)]
pub struct Wire<R> {
    from: R,
    unread: Vec<u8>,
}

impl<R: Read> Wire<R> {
    /// Reads messages from here.
    pub fn new(from: R) -> Self {
        Self { from, unread: Vec::new() }
    }

    /// Where the bytes come from.
    pub fn get_ref(&self) -> &R {
        &self.from
    }

    /// What was received and not yet used.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// The next head.
    ///
    /// # Errors
    /// `UnexpectedEof` when there is none, `InvalidData` when it is not of the grammar, or the stream's own.
    pub fn head(&mut self) -> io::Result<Head> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let raw: Vec<u8> = self.unread.drain(..end).collect();
        let text = String::from_utf8_lossy(&raw[..end - 4]).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Ok(Head { start, fields: fields(lines)?, raw })
    }

    /// The next piece of a body that is framed so, or `None` at its end. `left` is the framing at first, and is kept
    /// up to date. Trailers are added to `trailers`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the body is cut short, `InvalidData` when it is not of the grammar.
    pub fn piece(&mut self, left: &mut Left, trailers: &mut Fields) -> io::Result<Option<Vec<u8>>> {
        match left {
            Left::Nothing => Ok(None),
            Left::Bytes(count) => {
                let piece = self.some(*count)?;
                *count -= piece.len() as u64;
                if *count == 0 {
                    *left = Left::Nothing;
                }
                Ok(Some(piece))
            }
            Left::Chunk(count) => {
                let piece = self.some(*count)?;
                *count -= piece.len() as u64;
                if *count == 0 {
                    if !self.line()?.is_empty() {
                        return Err(invalid("a chunk is longer than it said"));
                    }
                    *left = Left::ChunkSize;
                }
                Ok(Some(piece))
            }
            Left::ChunkSize => {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim_end();
                let size =
                    u64::from_str_radix(digits, 16).map_err(|_| invalid(&format!("chunk size {line:?}")))?;
                if size > 0 {
                    *left = Left::Chunk(size);
                    return self.piece(left, trailers);
                }
                *left = Left::Nothing;
                let mut lines = Vec::new();
                loop {
                    let line = self.line()?;
                    if line.is_empty() {
                        trailers.0.extend(fields(lines.iter().map(String::as_str))?.0);
                        return Ok(None);
                    }
                    lines.push(line);
                }
            }
            Left::UntilClose => match self.some(u64::MAX) {
                Err(why) if why.kind() == ErrorKind::UnexpectedEof => {
                    *left = Left::Nothing;
                    Ok(None)
                }
                piece => piece.map(Some),
            },
        }
    }

    /// Whatever comes next, whatever it is; empty at the end of the stream.
    ///
    /// # Errors
    /// The stream's own.
    pub fn any(&mut self) -> io::Result<Vec<u8>> {
        match self.some(u64::MAX) {
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(Vec::new()),
            other => other,
        }
    }

    fn some(&mut self, most: u64) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.more()?;
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.unread.len());
        Ok(self.unread.drain(..count).collect())
    }

    fn line(&mut self) -> io::Result<String> {
        let end = loop {
            if let Some(end) = self.unread.windows(2).position(|bytes| bytes == b"\r\n") {
                break end;
            }
            self.more()?;
        };
        let line: Vec<u8> = self.unread.drain(..end + 2).take(end).collect();
        String::from_utf8(line).map_err(|_| invalid("a line that is no text"))
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; BUFFER];
        match self.from.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(why) if why.kind() == ErrorKind::Interrupted => Ok(()),
            Err(why) => Err(why),
        }
    }
}

/// What is left of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// All there is.
    UntilClose,
}

impl From<Framing> for Left {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Nothing,
            Framing::Length(length) => Self::Bytes(length),
            Framing::Chunked => Self::ChunkSize,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

/// How a message with these fields says that its body is framed.
///
/// # Errors
/// When it says two things, or what nobody understands.
pub fn framing(fields: &Fields) -> io::Result<Option<Framing>> {
    match (&fields.all("transfer-encoding")[..], &fields.all("content-length")[..]) {
        ([], []) => Ok(None),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        ([], [length]) => match length.parse() {
            Ok(length) => Ok(Some(Framing::Length(length))),
            Err(_) => Err(invalid(&format!("length {length:?}"))),
        },
        _ => Err(invalid(&format!("a body framed in two ways: {fields:?}"))),
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> io::Result<Fields> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(&format!("field line {line:?}")))?;
        if name.is_empty() || name.contains([' ', '\t', '\n', '\r']) {
            return Err(invalid(&format!("field name {name:?}")));
        }
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    lines.map(field).collect::<io::Result<Vec<_>>>().map(Fields)
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}
