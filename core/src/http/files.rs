//! Files over HTTP: which file a path names, and what a request for it is answered (RFC 9110 §8.8, §13,
//! §14). Opens nothing and reads nothing.
//!
//! ```text
//! head ── FileRequest::new ──▶ path() ── open it ──▶ opened(info), failed(why) ──▶ Plan: head, then range
//!                                └── among pages ──▶ page(page), missing() ──────▶
//! ```

mod date;
mod range;
#[cfg(test)]
mod tests;

pub use date::HttpDate;
use range::{ByteRange, Part};

use super::head::Head;
use super::response::{Response, Status};
use crate::machine::{FileInfo, OpenError};
use crate::percent;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt::Write;
use core::ops::Range;
use sha2::{Digest, Sha256};

/// The longest path that is looked for, in bytes as sent. Below what file systems take (4096), the
/// directory of files included.
pub const MAX_PATH: usize = 2048;
/// The file that stands for its directory.
const INDEX: &str = "index.html";
/// The one name with a dot before it that is public (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
/// The methods files take. `OPTIONS` is answered for all paths alike, elsewhere.
const METHODS: &str = "GET, HEAD, OPTIONS";
/// How many bytes of its digest tell one page from its other versions.
const ETAG_BYTES: usize = 12;

/// The file that a request path names, relative to the directory of files; for a path that ends in a slash
/// that is the directory's index. Percent-encoding is undone once. `None` for a path that names no public
/// file: one with a part that begins with a dot (`..`, `.`, and what is hidden, however encoded), an encoded
/// slash, a backslash, a control character, a broken encoding, or one that is too long.
pub fn locate(path: &str) -> Option<Box<str>> {
    let parts = path.strip_prefix('/').filter(|_| path.len() <= MAX_PATH)?;
    let mut file = String::with_capacity(path.len() + INDEX.len());
    for part in parts.split('/').filter(|part| !part.is_empty()) {
        let name = percent::decode(part)?;
        let is_hidden = name.starts_with('.') && !(file.is_empty() && name == WELL_KNOWN);
        if is_hidden || name.chars().any(|char| matches!(char, '/' | '\\') || char.is_control()) {
            return None;
        }
        if !file.is_empty() {
            file.push('/');
        }
        file.push_str(&name);
    }
    if parts.is_empty() || parts.ends_with('/') {
        if !file.is_empty() {
            file.push('/');
        }
        file.push_str(INDEX);
    }
    Some(file.into())
}

/// The media type of a file, told by its name alone.
pub fn content_type(path: &str) -> &'static str {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = TYPES.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    known.map_or("application/octet-stream", |(_, content_type)| content_type)
}

const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("xml", "text/xml; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mpd", "application/dash+xml"),
    ("ts", "video/mp2t"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("m4s", "video/iso.segment"),
    ("flv", "video/x-flv"),
    ("webm", "video/webm"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("mp3", "audio/mpeg"),
];

/// A file in memory, such as a built-in page.
#[derive(Clone, Debug)]
pub struct Page {
    path: &'static str,
    body: Bytes,
    etag: String,
}

impl Page {
    /// The page that [`locate`] finds at `path`.
    pub fn new(path: &'static str, body: &'static [u8]) -> Self {
        let mut etag = String::from("\"");
        for byte in Sha256::digest(body).iter().take(ETAG_BYTES) {
            let _ = write!(etag, "{byte:02x}");
        }
        etag.push('"');
        Self { path, body: Bytes::from_static(body), etag }
    }

    /// Where it is.
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// A part of its bytes; none of those that are not there.
    pub fn part(&self, range: &Range<u64>) -> Bytes {
        let within = |at: u64| usize::try_from(at).map_or(self.body.len(), |at| at.min(self.body.len()));
        let end = within(range.end);
        self.body.slice(within(range.start).min(end)..end)
    }
}

/// What a request asks of a file, kept while the file is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRequest {
    path: Box<str>,
    query: Option<Box<str>>,
    names_directory: bool,
    to_head: bool,
    if_match: Option<String>,
    if_unmodified_since: Option<HttpDate>,
    if_none_match: Option<String>,
    if_modified_since: Option<HttpDate>,
    if_range: Option<String>,
    range: Option<ByteRange>,
}

impl FileRequest {
    /// The request in `head`.
    ///
    /// # Errors
    /// With the refusal, if the method is none for files or the path names none.
    pub fn new(head: &Head<'_>) -> Result<Self, Plan> {
        let to_head = head.method == "HEAD";
        if !to_head && head.method != "GET" {
            return Err(Plan::new(Status::METHOD_NOT_ALLOWED, false).field("Allow", METHODS.to_owned()));
        }
        let Some(path) = locate(head.path()) else { return Err(Plan::new(Status::NOT_FOUND, to_head)) };
        let date = |name: &str| joined(head, name).and_then(|value| value.parse().ok());
        Ok(Self {
            path,
            query: head.query().map(Into::into),
            names_directory: head.path().ends_with('/'),
            to_head,
            if_match: joined(head, "if-match"),
            if_unmodified_since: date("if-unmodified-since"),
            if_none_match: joined(head, "if-none-match"),
            if_modified_since: date("if-modified-since"),
            if_range: joined(head, "if-range"),
            // For GET alone (RFC 9110 §14.2).
            range: joined(head, "range").filter(|_| !to_head).and_then(|value| ByteRange::parse(&value)),
        })
    }

    /// The file to open, as [`locate`] gives it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file is open, or it is a directory: that is redirected to its path with a slash, where its index is.
    pub fn opened(&self, info: &FileInfo) -> Plan {
        match (info.is_directory, self.names_directory) {
            (true, true) => self.missing(),
            (true, false) => {
                Plan::new(Status::MOVED_PERMANENTLY, self.to_head).field("Location", self.with_slash())
            }
            (false, _) => self.answer(&Entity {
                path: &self.path,
                length: info.length,
                etag: &format!("\"{:x}-{:x}\"", info.modified, info.length),
                modified: Some(HttpDate::from_unix(info.modified)),
                cache: None,
            }),
        }
    }

    /// The file cannot be opened.
    pub const fn failed(&self, why: OpenError) -> Plan {
        match why {
            OpenError::Unreachable => self.missing(),
            OpenError::Exhausted => Plan::new(Status::UNAVAILABLE, self.to_head),
        }
    }

    /// There is no such file.
    pub const fn missing(&self) -> Plan {
        Plan::new(Status::NOT_FOUND, self.to_head)
    }

    /// It is this page that is asked for. A browser asks again whether it has changed: with the program it may.
    pub fn page(&self, page: &Page) -> Plan {
        self.answer(&Entity {
            path: page.path,
            length: u64::try_from(page.body.len()).unwrap_or(u64::MAX),
            etag: &page.etag,
            modified: None,
            cache: Some("no-cache"),
        })
    }

    /// The path of the directory that was asked for without a slash, made from its decoded parts: whatever
    /// was asked, the answer is a path on this host and not `//another.host`.
    fn with_slash(&self) -> String {
        let mut location = String::from("/");
        percent::encode(&mut location, &self.path, |byte| b"!$&'()*+,;=:@/".contains(&byte));
        location.push('/');
        if let Some(query) = &self.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }

    /// The preconditions in the order of RFC 9110 §13.2.2, then the range.
    fn answer(&self, entity: &Entity<'_>) -> Plan {
        let plan = |status| Plan::new(status, self.to_head);
        let may_go_on = match (&self.if_match, self.if_unmodified_since, entity.modified) {
            // A weak tag keeps its `W/`, and so never equals a strong one (§8.8.3.2).
            (Some(tags), ..) => tags == "*" || entity_tags(tags).any(|tag| tag == entity.etag),
            (None, Some(date), Some(modified)) => modified <= date,
            _ => true,
        };
        if !may_go_on {
            return plan(Status::PRECONDITION_FAILED);
        }
        let is_known = match (&self.if_none_match, self.if_modified_since, entity.modified) {
            (Some(tags), ..) => {
                let weakly = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag) == entity.etag;
                tags == "*" || entity_tags(tags).any(weakly)
            }
            (None, Some(date), Some(modified)) => modified <= date,
            _ => false,
        };
        if is_known {
            return entity.describe(plan(Status::NOT_MODIFIED));
        }
        let range = self.range.filter(|_| self.if_range.as_ref().is_none_or(|if_range| entity.is(if_range)));
        match range.map_or(Part::Whole, |range| range.of(entity.length)) {
            Part::Whole => entity.send(plan(Status::OK), 0..entity.length),
            Part::Some(part) => {
                let (last, length) = (part.end.saturating_sub(1), entity.length);
                let content_range = format!("bytes {}-{last}/{length}", part.start);
                entity.send(plan(Status::PARTIAL_CONTENT).field("Content-Range", content_range), part)
            }
            Part::None => plan(Status::RANGE_NOT_SATISFIABLE)
                .field("Content-Range", format!("bytes */{}", entity.length)),
        }
    }
}

/// All values of a field as one, or `None` if there is none. What is no UTF-8 equals nothing of ours.
fn joined(head: &Head<'_>, name: &str) -> Option<String> {
    head.values(name).map(|value| String::from_utf8_lossy(value).into_owned()).reduce(|mut all, value| {
        all.push_str(", ");
        all.push_str(&value);
        all
    })
}

/// The tags of a list, in their quotes, weak ones with their `W/`; up to the first that is malformed.
fn entity_tags(mut list: &str) -> impl Iterator<Item = &str> {
    core::iter::from_fn(move || {
        list = list.trim_start_matches([' ', '\t', ',']);
        let opaque = list.strip_prefix("W/").unwrap_or(list).strip_prefix('"')?;
        let (tag, rest) = list.split_at_checked(list.len() - opaque.len() + opaque.find('"')? + 1)?;
        list = rest;
        Some(tag)
    })
}

/// What is there to be sent.
struct Entity<'a> {
    path: &'a str,
    length: u64,
    etag: &'a str,
    modified: Option<HttpDate>,
    cache: Option<&'static str>,
}

impl Entity<'_> {
    /// Whether this is what `If-Range` names: by its tag, or by the very date (RFC 9110 §13.1.5).
    fn is(&self, if_range: &str) -> bool {
        if_range == self.etag || self.modified.is_some_and(|modified| if_range.parse() == Ok(modified))
    }

    fn describe(&self, mut plan: Plan) -> Plan {
        plan = plan.field("ETag", self.etag.to_owned());
        if let Some(modified) = self.modified {
            plan = plan.field("Last-Modified", format!("{modified}"));
        }
        match self.cache {
            Some(cache) => plan.field("Cache-Control", cache.to_owned()),
            None => plan,
        }
    }

    fn send(&self, plan: Plan, range: Range<u64>) -> Plan {
        let mut plan = self
            .describe(plan)
            .field("Accept-Ranges", "bytes".to_owned())
            .field("Content-Type", content_type(self.path).to_owned())
            .field("Content-Length", format!("{}", range.end.saturating_sub(range.start)));
        plan.range = if plan.to_head { 0..0 } else { range };
        plan
    }
}

/// The answer to a request for a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Its status.
    pub status: Status,
    /// The part of the file that follows [`Plan::head`]; nothing does if it is empty.
    pub range: Range<u64>,
    fields: Vec<(&'static str, String)>,
    to_head: bool,
}

impl Plan {
    const fn new(status: Status, to_head: bool) -> Self {
        Self { status, range: 0..0, fields: Vec::new(), to_head }
    }

    fn field(mut self, name: &'static str, value: String) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Ends `response`, which was begun with this status and has the fields that are not the file's. A
    /// refusal has its reason as its body.
    pub fn head(&self, response: Response) -> Bytes {
        let response =
            self.fields.iter().fold(response, |response, (name, value)| response.field(name, value));
        match self.status {
            Status::OK | Status::PARTIAL_CONTENT | Status::NOT_MODIFIED => response.empty(),
            status => {
                let reason = format!("{}\n", status.reason());
                response.body("text/plain; charset=utf-8", reason.as_bytes())
            }
        }
    }
}
