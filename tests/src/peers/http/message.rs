//! Requests and answers as values. Reads and sends nothing.

use serde_json::Value;
use std::fmt;
use std::ops::Deref;

/// Field lines in their order, names in the sender's spelling, values trimmed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first field of this name, which has no case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// All fields of this name, which has no case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.0.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether a field that is a list has this member; neither has case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        let mut members = self.all(name).into_iter().flat_map(|value| value.split(','));
        members.any(|known| known.trim().eq_ignore_ascii_case(member))
    }
}

/// A body's bytes, shown as text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// The bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Whether the text has this part.
    pub fn contains(&self, part: &str) -> bool {
        self.text().contains(part)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Long bodies are shown by their length: nobody reads ten megabytes of a failed test.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 2000;
        match self.0.get(..SHOWN) {
            Some(start) => {
                write!(f, "{} bytes, beginning {:?}", self.0.len(), String::from_utf8_lossy(start))
            }
            None => write!(f, "{:?}", self.text()),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The version it was sent with, as `HTTP/1.1`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Its field lines.
    pub fields: Fields,
    /// The interim answers before it: status and fields.
    pub interim: Vec<(u16, Fields)>,
    /// The body, without the coding of the transfer.
    pub body: Body,
    /// The fields after a chunked body.
    pub trailers: Fields,
}

impl Response {
    /// The first header with this name, which has no case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.body))
    }
}

/// A request as it is to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: String,
    target: String,
    version: &'static str,
    host: Option<String>,
    fields: String,
    body: Vec<u8>,
}

impl Request {
    /// A request of HTTP/1.1 with `Host: 127.0.0.1` and no other field.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            host: Some("127.0.0.1".to_owned()),
            fields: String::new(),
            body: Vec::new(),
        }
    }

    /// `GET target`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// The same with this `Host`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// The same in HTTP/1.0, which needs no `Host`.
    #[must_use]
    pub fn version_10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// The same with one field more.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// The same with a body of known length. An empty one is not mentioned.
    #[must_use]
    pub fn body(self, body: &[u8]) -> Self {
        if body.is_empty() {
            return self;
        }
        let mut request = self.field("Content-Length", &body.len().to_string());
        request.body = body.to_vec();
        request
    }

    /// The same with a body in these chunks.
    #[must_use]
    pub fn chunked(self, chunks: &[&[u8]]) -> Self {
        let mut request = self.field("Transfer-Encoding", "chunked");
        request.body = chunked(chunks, &[]);
        request
    }

    /// Its head alone.
    pub fn head_bytes(&self) -> Vec<u8> {
        let host = self.host.iter().map(|host| format!("Host: {host}\r\n")).collect::<String>();
        format!("{} {} {}\r\n{host}{}\r\n", self.method, self.target, self.version, self.fields).into_bytes()
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head_bytes()[..], &self.body].concat()
    }
}

/// A chunked body (RFC 9112 §7.1) of these chunks and trailer fields.
pub fn chunked(chunks: &[&[u8]], trailers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}
