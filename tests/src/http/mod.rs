//! HTTP/1.1 as a peer of the proxy speaks it, independent of the proxy's own code: messages read strictly, and written as
//! oddly as the grammar allows. No I/O.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Field lines: names and values.
pub type Fields = Vec<(String, String)>;

/// How a body's end is known (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// With the connection.
    Close,
}

/// A message that was read, or as much of it as there was.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    /// Its fields, byte for character.
    pub fields: Fields,
    /// How the body's end is known.
    pub framing: Framing,
    /// The body, without chunks.
    pub body: Vec<u8>,
    /// The fields behind the last chunk.
    pub trailers: Fields,
    /// All of it is there.
    pub complete: bool,
}

impl Message {
    /// A request's method.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// A request's target.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// A response's status.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// The values of all fields of this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first value of this name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether a list has this member.
    pub fn has(&self, name: &str, member: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(member))
    }

    /// Whether its sender means to use the connection again (RFC 9112 §9.3).
    pub fn persists(&self) -> bool {
        let old = self.start.starts_with("HTTP/1.0") || self.start.ends_with("HTTP/1.0");
        !self.has("connection", "close") && (!old || self.has("connection", "keep-alive"))
    }
}

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Head,
    Length(u64),
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Close,
}

/// Reads one message after the other from bytes in any pieces, and takes nothing that is not of the grammar.
#[derive(Debug)]
pub struct Reader {
    responses: bool,
    asked: VecDeque<String>,
    buffer: Vec<u8>,
    state: State,
    /// All messages so far; the last may be incomplete.
    pub messages: Vec<Message>,
}

impl Reader {
    /// A server's.
    pub fn requests() -> Self {
        Self::new(false)
    }

    /// A client's.
    pub fn responses() -> Self {
        Self::new(true)
    }

    fn new(responses: bool) -> Self {
        let (asked, buffer, messages) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { responses, asked, buffer, state: State::Head, messages }
    }

    /// A request with this method was sent.
    pub fn asked(&mut self, method: &str) {
        self.asked.push_back(method.to_owned());
    }

    /// Whether nothing is half read.
    pub fn is_between_messages(&self) -> bool {
        self.state == State::Head && self.buffer.is_empty()
    }

    /// Reads on.
    ///
    /// # Errors
    /// If it is not HTTP, in words.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.is_over() {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        while self.step()? {
            if self.is_over() {
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// There will be no more bytes; a body that was to end so is complete.
    pub fn end(&mut self) {
        if self.state == State::Close {
            self.complete();
        }
    }

    fn step(&mut self) -> Result<bool, String> {
        match self.state {
            State::Head => return self.head(),
            State::Close => return Ok(self.body(u64::MAX) > 0),
            State::Length(left) => match left - self.body(left) {
                0 => self.complete(),
                left => {
                    self.state = State::Length(left);
                    return Ok(false);
                }
            },
            State::Data(left) => match left - self.body(left) {
                0 => self.state = State::DataEnd,
                left => {
                    self.state = State::Data(left);
                    return Ok(false);
                }
            },
            State::DataEnd => match self.line()? {
                Some(line) if line.is_empty() => self.state = State::Size,
                Some(line) => return Err(format!("{line:?} behind a chunk")),
                None => return Ok(false),
            },
            State::Size => {
                let Some(line) = self.line()? else { return Ok(false) };
                let digits = line.split(';').next().unwrap_or_default().trim_end();
                let size = u64::from_str_radix(digits, 16).map_err(|_| format!("chunk size {line:?}"))?;
                self.state = if size == 0 { State::Trailer } else { State::Data(size) };
            }
            State::Trailer => match self.line()? {
                Some(line) if line.is_empty() => self.complete(),
                Some(line) => {
                    let field = field(&line)?;
                    self.message().trailers.push(field);
                }
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Behind an answer that says it is the last there is nothing more for a client to read.
    fn is_over(&self) -> bool {
        let last = self.messages.last().filter(|last| last.complete && last.status() >= 200);
        self.responses && last.is_some_and(|last| !last.persists())
    }

    fn message(&mut self) -> &mut Message {
        self.messages.last_mut().expect("a head was read")
    }

    fn complete(&mut self) {
        self.message().complete = true;
        self.state = State::Head;
    }

    fn body(&mut self, most: u64) -> u64 {
        let take = self.buffer.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let bytes: Vec<u8> = self.buffer.drain(..take).collect();
        self.message().body.extend(bytes);
        take as u64
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let line = line.strip_suffix(b"\r\n").ok_or("a line ends with LF alone")?;
        if line.iter().any(|byte| matches!(byte, b'\r' | 0)) {
            return Err("CR or NUL within a line".to_owned());
        }
        Ok(Some(line.iter().map(|byte| char::from(*byte)).collect()))
    }

    fn head(&mut self) -> Result<bool, String> {
        let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let mut message = Message::default();
        while let Some(line) = self.line()?.filter(|line| !line.is_empty()) {
            if message.start.is_empty() {
                check_start(&line, self.responses)?;
                message.start = line;
            } else {
                message.fields.push(field(&line)?);
            }
        }
        if message.start.is_empty() || end == 0 {
            return Err("an empty line where a message should begin".to_owned());
        }
        self.state = self.framing(&mut message)?;
        self.messages.push(message);
        if self.state == State::Head {
            self.message().complete = true;
        }
        Ok(true)
    }

    /// RFC 9112 §6.3.
    fn framing(&mut self, message: &mut Message) -> Result<State, String> {
        let lengths: Vec<_> = message.values("content-length").collect();
        let codings: Vec<_> = message.values("transfer-encoding").collect();
        let hosts = message.values("host").count();
        if lengths.len() > 1 || codings.len() > 1 || lengths.len() + codings.len() > 1 {
            return Err(format!("lengths {lengths:?} and codings {codings:?}"));
        }
        let length = match lengths.first() {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits.parse().ok(),
            Some(other) => return Err(format!("length {other:?}")),
            None => None,
        };
        let chunked = match codings.first() {
            Some(coding) if *coding != "chunked" => return Err(format!("coding {coding:?}")),
            coding => coding.is_some(),
        };
        let bare = if self.responses {
            let interim = message.status() < 200;
            let to_head = !interim && self.asked.pop_front().is_some_and(|method| method == "HEAD");
            interim || to_head || matches!(message.status(), 204 | 304)
        } else {
            if hosts != 1 {
                return Err(format!("{hosts} Host fields"));
            }
            length.is_none() && !chunked
        };
        (message.framing, self.state) = match (bare, chunked, length) {
            (true, ..) => (Framing::None, State::Head),
            (false, true, _) => (Framing::Chunked, State::Size),
            (false, false, Some(0)) => (Framing::Length(0), State::Head),
            (false, false, Some(length)) => (Framing::Length(length), State::Length(length)),
            (false, false, None) => (Framing::Close, State::Close),
        };
        Ok(self.state)
    }
}

fn check_start(line: &str, response: bool) -> Result<(), String> {
    let parts: Vec<_> = line.splitn(3, ' ').collect();
    let is_version = |text: &str| matches!(text, "HTTP/1.0" | "HTTP/1.1");
    let good = match parts[..] {
        [version, status, _] if response => {
            is_version(version) && status.len() == 3 && status.parse().is_ok_and(|code: u16| code >= 100)
        }
        [method, target, version] if !response => {
            is_token(method) && !target.is_empty() && !target.contains(' ') && is_version(version)
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(format!("start line {line:?}")) }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn field(line: &str) -> Result<(String, String), String> {
    match line.split_once(':') {
        Some((name, value)) if is_token(name) => {
            Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
        }
        _ => Err(format!("field {line:?}")),
    }
}

/// A head of this start line and these fields.
pub fn head(start: &str, fields: &Fields) -> Vec<u8> {
    let mut text = format!("{start}\r\n");
    for (name, value) in fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    text.chars().map(|letter| letter as u8).collect()
}

/// How a body is cut into chunks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Chunking {
    /// Sizes that are used in turn; none means one chunk.
    pub sizes: Vec<usize>,
    /// Extensions, leading zeros and capitals, as hardly anybody writes them.
    pub odd: bool,
    /// Fields behind the last chunk.
    pub trailers: Fields,
}

impl Chunking {
    /// The chunks of a body.
    pub fn encode(&self, mut body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sizes = self.sizes.iter().cycle();
        while !body.is_empty() {
            let size = sizes.next().map_or(body.len(), |size| body.len().min(*size).max(1));
            let (chunk, rest) = body.split_at(size);
            let line = if self.odd { format!("0{size:X};a=\"b\" ;c\r\n") } else { format!("{size:x}\r\n") };
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
            body = rest;
        }
        bytes.extend_from_slice(if self.odd { b"000;last\r\n" } else { b"0\r\n" });
        for (name, value) in &self.trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: Reader, bytes: &[u8], piece: usize) -> Result<Vec<Message>, String> {
        let mut reader = reader;
        for bytes in bytes.chunks(piece) {
            reader.feed(bytes)?;
        }
        reader.end();
        Ok(reader.messages)
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let chunking =
            Chunking { sizes: vec![3, 1], odd: true, trailers: vec![("X-T".into(), "end".into())] };
        let mut bytes = head("HTTP/1.1 100 Continue", &vec![]);
        bytes.extend(head("HTTP/1.1 200 OK", &vec![("Transfer-Encoding".into(), "chunked".into())]));
        bytes.extend(chunking.encode(b"0123456789"));
        bytes.extend(head("HTTP/1.1 200 OK", &vec![("Content-Length".into(), "7".into())]));
        bytes.extend(head("HTTP/1.0 404 ", &vec![]));
        bytes.extend(b"gone");
        for piece in [1, 2, 3, 7, 1000] {
            let mut reader = Reader::responses();
            ["GET", "HEAD", "GET"].iter().for_each(|method| reader.asked(method));
            let messages = read(reader, &bytes, piece).expect("good messages");
            let statuses: Vec<_> = messages.iter().map(Message::status).collect();
            assert_eq!(statuses, [100, 200, 200, 404]);
            assert!(messages.iter().all(|message| message.complete));
            assert_eq!(
                (&messages[1].body[..], &messages[1].trailers),
                (&b"0123456789"[..], &chunking.trailers)
            );
            assert_eq!((messages[2].framing, &messages[3].body[..]), (Framing::None, &b"gone"[..]));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (line, why) in [
            ("Content-Length: 1\r\nContent-Length: 1", "lengths"),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", "lengths"),
            ("Transfer-Encoding: gzip", "coding"),
            ("Content-Length: +1", "length"),
            ("No field", "field"),
            ("A : b", "field"),
            ("A: b\nC: d", "LF alone"),
            ("Host: b", "2 Host"),
        ] {
            let text = format!("GET /a HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
            let error = read(Reader::requests(), text.as_bytes(), 1000).expect_err(line);
            assert!(error.contains(why), "{line:?}: {error}");
        }
    }
}
