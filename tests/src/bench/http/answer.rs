//! Reads HTTP/1.1 answers in every framing they come in (RFC 9112 §6.3). No I/O; knows nothing of bodies.

/// A head longer than this is a mistake.
const HEAD_MAX: usize = 16 * 1024;
/// So is a chunk-size line or trailer field longer than this.
const LINE_MAX: usize = 1024;

/// What a part of an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// The head has come: the status code.
    Head(u16),
    /// Bytes of the body, without the framing.
    Body(&'a [u8]),
    /// The body has come whole; whether another request may follow on the connection.
    End(bool),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Head,
    /// So many bytes of the body are to come.
    Length(u64),
    UntilEof,
    ChunkSize,
    /// So many bytes of the chunk.
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

/// One connection's answers, one after the other.
#[derive(Clone, Debug)]
pub struct Answers {
    place: Place,
    /// The beginning of a head or a line.
    held: Vec<u8>,
    persists: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self { place: Place::Head, held: Vec::new(), persists: true }
    }
}

impl Answers {
    /// What `bytes` begin with, which is taken off them; nothing if more must come.
    ///
    /// # Errors
    /// This is not an answer.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, &'static str> {
        loop {
            match self.place {
                Place::Length(0) => return Ok(Some(self.end())),
                _ if bytes.is_empty() => return Ok(None),
                Place::Head => {
                    if !self.hold(bytes, b"\r\n\r\n", HEAD_MAX)? {
                        return Ok(None);
                    }
                    let status = self.head()?;
                    self.held.clear();
                    return Ok(Some(Piece::Head(status)));
                }
                Place::Length(left) => {
                    let body = cut(bytes, left);
                    self.place = Place::Length(left - body.len() as u64);
                    return Ok(Some(Piece::Body(body)));
                }
                Place::UntilEof => return Ok(Some(Piece::Body(cut(bytes, u64::MAX)))),
                Place::Chunk(left) => {
                    let body = cut(bytes, left);
                    let left = left - body.len() as u64;
                    self.place = if left > 0 { Place::Chunk(left) } else { Place::ChunkEnd };
                    return Ok(Some(Piece::Body(body)));
                }
                Place::ChunkSize | Place::ChunkEnd | Place::Trailer => {
                    if !self.hold(bytes, b"\r\n", LINE_MAX)? {
                        return Ok(None);
                    }
                    let ended = self.line()?;
                    self.held.clear();
                    if ended {
                        return Ok(Some(self.end()));
                    }
                }
            }
        }
    }

    /// The connection has ended: whether that is a body's end.
    pub fn ends_body(&self) -> bool {
        self.place == Place::UntilEof
    }

    fn end(&mut self) -> Piece<'static> {
        self.place = Place::Head;
        Piece::End(self.persists)
    }

    /// Takes bytes up to and with `end`; whether that has come.
    fn hold(&mut self, bytes: &mut &[u8], end: &[u8], limit: usize) -> Result<bool, &'static str> {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.held.push(byte);
            *bytes = rest;
            if self.held.ends_with(end) {
                return Ok(true);
            }
            if self.held.len() > limit {
                return Err("a head or line too long");
            }
        }
        Ok(false)
    }

    fn head(&mut self) -> Result<u16, &'static str> {
        let head = str::from_utf8(&self.held).map_err(|_| "a head that is no text")?;
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
        let status = status.and_then(|status| status.parse().ok()).ok_or("no status line")?;
        (self.place, self.persists) = (Place::UntilEof, true);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                self.place = Place::ChunkSize;
            } else if name.eq_ignore_ascii_case("content-length") && self.place == Place::UntilEof {
                self.place = Place::Length(value.parse().map_err(|_| "a length that is no number")?);
            } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
                self.persists = false;
            }
        }
        Ok(status)
    }

    /// Goes on after a line of the chunked coding; whether it was the last.
    fn line(&mut self) -> Result<bool, &'static str> {
        let line = &self.held[..self.held.len() - 2];
        self.place = match self.place {
            Place::ChunkEnd if line.is_empty() => Place::ChunkSize,
            Place::ChunkEnd => return Err("a chunk longer than it says"),
            Place::Trailer => {
                let ended = line.is_empty();
                return Ok(ended);
            }
            _ => {
                let size = str::from_utf8(line).ok().and_then(|line| line.split(';').next());
                match size.and_then(|size| u64::from_str_radix(size.trim(), 16).ok()) {
                    Some(0) => Place::Trailer,
                    Some(size) => Place::Chunk(size),
                    None => return Err("a chunk without a size"),
                }
            }
        };
        Ok(false)
    }
}

/// Takes at most `most` bytes.
fn cut<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX)));
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body, and whether the connection persists, of each answer that ended; however it is cut.
    fn read(text: &str) -> Result<Vec<(u16, String, bool)>, &'static str> {
        let whole = read_by(text.len(), text);
        for step in 1..text.len() {
            assert_eq!(read_by(step, text), whole, "in steps of {step}");
        }
        whole
    }

    fn read_by(step: usize, text: &str) -> Result<Vec<(u16, String, bool)>, &'static str> {
        let mut answers = Answers::default();
        let (mut seen, mut status, mut body) = (Vec::new(), 0, Vec::new());
        for mut bytes in text.as_bytes().chunks(step) {
            while let Some(piece) = answers.next(&mut bytes)? {
                match piece {
                    Piece::Head(code) => status = code,
                    Piece::Body(more) => body.extend_from_slice(more),
                    Piece::End(persists) => {
                        seen.push((status, String::from_utf8(std::mem::take(&mut body)).unwrap(), persists));
                    }
                }
            }
        }
        if answers.ends_body() {
            seen.push((status, String::from_utf8(body).unwrap(), false));
        }
        Ok(seen)
    }

    #[test]
    fn bodies_of_every_framing_end_where_they_should() {
        let sized = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        let empty = "HTTP/1.1 404 Not Found\r\ncontent-length:0\r\nConnection: close\r\n\r\n";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
        let closed = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n12345";
        let seen = read(&[sized, chunked, sized, empty, closed].concat()).unwrap();
        let expected = [
            (200, "abc", true),
            (200, "abc0123456789", true),
            (200, "abc", true),
            (404, "", false),
            (200, "12345", false),
        ];
        assert_eq!(seen, expected.map(|(status, body, persists)| (status, body.to_owned(), persists)));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "FLV\x01\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
