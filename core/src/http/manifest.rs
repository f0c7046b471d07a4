//! DASH manifests (ISO/IEC 23009-1): leads every URI that a client resolves below an MPD to the session's
//! path. Knows nothing of sessions or HTTP, and only ever inserts: no byte of the manifest is lost.
//!
//! A query would not do: a client resolves references against `BaseURL`s, and their queries are lost on the
//! way (RFC 3986 §5.2.2). A path stays. So whatever led to `/live/a.m4s` of the client's host leads to
//! `/spbhid/…/live/a.m4s` instead:
//!
//! ```text
//! <MPD>                                    →  <MPD><BaseURL>/spbhid/…/live/</BaseURL>
//! <BaseURL>cam/</BaseURL>  of the MPD      →  <BaseURL>/spbhid/…/live/cam/</BaseURL>
//! <BaseURL>/vod/</BaseURL>                 →  <BaseURL>/spbhid/…/vod/</BaseURL>
//! <SegmentTemplate media="/a/$Time$.m4s">  →  <SegmentTemplate media="/spbhid/…/a/$Time$.m4s">
//! <SegmentTemplate media="$Time$.m4s">     →  the same: it is below a BaseURL
//! https://other.example/a/                 →  the same, and so is what is below it
//! ```
//!
//! `Location` is left alone: it names a manifest, which finds its origin by its own path, with the session's
//! path before it (as clients that resolve it against a `BaseURL` have it) or without. So are the URLs of
//! licence servers, which no media origin is.
//!
//! What cannot be understood for sure is refused, never guessed at.

use super::head::path_of_target;
use super::reference::{self, Target};
use alloc::vec::Vec;
use core::fmt;
use smallvec::SmallVec;
use xmlparser::{ElementEnd, StrSpan, Token, Tokenizer};

/// The longest result, in bytes: an hour of listed two-second segments in eight qualities is 2 MB. Many short
/// URIs grow many times over.
pub const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// How deep elements may be in one another. The schema's own need nine, events may hold documents.
pub const MAX_DEPTH: usize = 32;

/// Why a manifest is not rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManifestError {
    /// No well-formed XML, or not in UTF-8.
    Malformed,
    /// A document type, which could redefine anything.
    Doctype,
    /// Another document than an `MPD`.
    NoManifest,
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    /// It cannot be told for sure where a URI leads.
    Unclear,
    /// The result is longer than [`MAX_OUTPUT`].
    TooLong,
}

impl ManifestError {
    /// The error in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed manifest",
            Self::Doctype => "manifest with a document type",
            Self::NoManifest => "not a manifest",
            Self::TooDeep => "manifest too deep",
            Self::Unclear => "manifest with an unclear URI",
            Self::TooLong => "manifest too long",
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for ManifestError {}

/// The manifest with all URIs of `host`, the client's `Host` field, below `prefix`: a path such as
/// `/spbhid/id`, URL-safe and without a slash at its end. `directory` is the manifest's own path up to its
/// last slash, without the prefix. A URI that has the prefix keeps it.
///
/// # Errors
/// If it is no manifest or cannot be understood for sure, or if the result is too long.
pub fn rewrite(mpd: &[u8], prefix: &str, directory: &str, host: &str) -> Result<Vec<u8>, ManifestError> {
    debug_assert!(prefix.starts_with('/') && !prefix.ends_with('/'), "{prefix:?}");
    debug_assert!(directory.starts_with('/') && directory.ends_with('/'), "{directory:?}");
    let text = core::str::from_utf8(mpd).map_err(|_| ManifestError::Malformed)?;
    let directory_base = Base::default().descend(directory.strip_prefix('/').unwrap_or(directory))?;
    let mut rewriter = Rewriter {
        prefix,
        directory,
        host,
        base: Base { manifest: true, ..directory_base },
        writer: Writer { text, copied: 0, out: Vec::with_capacity(mpd.len() + mpd.len() / 8) },
        open: SmallVec::new(),
        started: None,
        root: None,
        content: Content::Blank,
    };
    for token in Tokenizer::from(text) {
        rewriter.token(token.map_err(|_| ManifestError::Malformed)?)?;
    }
    rewriter.finish()
}

/// A name: its namespace's prefix and what follows. No prefix is none and not an empty text: comparing those
/// took most of the time.
type Name<'a> = (Option<&'a str>, &'a str);

fn name<'a>(prefix: StrSpan<'a>, local: StrSpan<'a>) -> Name<'a> {
    (Some(prefix.as_str()).filter(|prefix| !prefix.is_empty()), local.as_str())
}

/// What references are resolved against, as far as it matters: `BaseURL`s may be alternatives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Base {
    /// How many directories there are below the root of the client's host, in the shallowest alternative.
    /// No meaning if all are foreign.
    depth: usize,
    /// Some alternative is on the client's host.
    own: bool,
    /// Some alternative is not.
    foreign: bool,
    /// Some alternative is the manifest itself, whose name is lost behind the prefix.
    manifest: bool,
}

impl Default for Base {
    /// The root of the client's host.
    fn default() -> Self {
        Self { depth: 0, own: true, foreign: false, manifest: false }
    }
}

impl Base {
    const FOREIGN: Self = Self { depth: 0, own: false, foreign: true, manifest: false };

    /// Where a relative path leads from here. One that climbs above the root ends there, and would end
    /// elsewhere below the prefix. An empty one leads to the same file, as some query does.
    fn descend(self, path: &str) -> Result<Self, ManifestError> {
        if path.is_empty() {
            return if self.manifest { Err(ManifestError::Unclear) } else { Ok(self) };
        }
        let mut depth = self.depth;
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                _ if !self.own => {}
                "." => {}
                ".." => depth = depth.checked_sub(1).ok_or(ManifestError::Unclear)?,
                // The last one is a file.
                _ => depth += usize::from(segments.peek().is_some()),
            }
        }
        Ok(Self { depth, manifest: false, ..self })
    }

    /// Both, as alternatives.
    fn or(self, other: Self) -> Self {
        let depth = match (self.own, other.own) {
            (true, false) => self.depth,
            (false, true) => other.depth,
            _ => self.depth.min(other.depth),
        };
        Self {
            depth,
            own: self.own || other.own,
            foreign: self.foreign || other.foreign,
            manifest: self.manifest || other.manifest,
        }
    }
}

/// An element that is not over yet.
struct Open<'a> {
    name: Name<'a>,
    /// What its `BaseURL`s are resolved against, and all else if it has none.
    inherited: Base,
    /// Its `BaseURL`s so far.
    own: Option<Base>,
    /// Something was resolved against the element's base: it must not change any more.
    used: bool,
}

impl Open<'_> {
    fn base(&self) -> Base {
        self.own.unwrap_or(self.inherited)
    }
}

/// The document's element.
struct Root<'a> {
    /// Its namespace's prefix, which all elements of the schema have.
    prefix: Option<&'a str>,
    /// Where a `BaseURL` belongs, in the result: behind its start tag and each `ProgramInformation`.
    first_child: Option<usize>,
    /// It has a `BaseURL`.
    has_base: bool,
}

/// What was read of the content of an element that is a URI.
#[derive(Clone, Copy)]
enum Content<'a> {
    Blank,
    Text(StrSpan<'a>),
    Cdata(StrSpan<'a>),
}

/// The result in the making: the text with insertions.
struct Writer<'a> {
    text: &'a str,
    /// So much of the text is in `out`.
    copied: usize,
    out: Vec<u8>,
}

impl Writer<'_> {
    /// Puts `pieces` before the text's byte `at`, and says where in the result.
    fn insert<'a>(
        &mut self,
        at: usize,
        pieces: impl IntoIterator<Item = &'a str>,
    ) -> Result<usize, ManifestError> {
        let before = self.text.get(self.copied..at).ok_or(ManifestError::Malformed)?;
        self.out.extend_from_slice(before.as_bytes());
        self.copied = at;
        let place = self.out.len();
        for piece in pieces {
            self.out.extend_from_slice(piece.as_bytes());
        }
        if self.out.len() > MAX_OUTPUT { Err(ManifestError::TooLong) } else { Ok(place) }
    }
}

struct Rewriter<'a> {
    prefix: &'a str,
    directory: &'a str,
    host: &'a str,
    /// The manifest's own.
    base: Base,
    writer: Writer<'a>,
    open: SmallVec<[Open<'a>; MAX_DEPTH]>,
    /// The element whose start tag is read.
    started: Option<Name<'a>>,
    root: Option<Root<'a>>,
    content: Content<'a>,
}

impl<'a> Rewriter<'a> {
    fn token(&mut self, token: Token<'a>) -> Result<(), ManifestError> {
        match token {
            Token::DtdStart { .. }
            | Token::EmptyDtd { .. }
            | Token::EntityDeclaration { .. }
            | Token::DtdEnd { .. } => Err(ManifestError::Doctype),
            Token::Declaration { .. } | Token::ProcessingInstruction { .. } | Token::Comment { .. } => Ok(()),
            Token::ElementStart { prefix, local, .. } => self.start(name(prefix, local)),
            Token::Attribute { prefix, local, value, .. } => self.attribute(name(prefix, local), value),
            Token::ElementEnd { end, span } => match (end, self.started.take()) {
                (ElementEnd::Open, Some(name)) => self.enter(name, span.end()),
                (ElementEnd::Empty, Some(name)) => self.leave(name, span.end()),
                (ElementEnd::Close(prefix, local), None) => self.close(name(prefix, local), span.end()),
                _ => Err(ManifestError::Malformed),
            },
            Token::Text { text } => self.content(text, Content::Text(text)),
            Token::Cdata { text, .. } => self.content(text, Content::Cdata(text)),
        }
    }

    fn start(&mut self, name: Name<'a>) -> Result<(), ManifestError> {
        match (&self.root, self.open.last()) {
            (None, _) if name.1 == "MPD" => {
                self.root = Some(Root { prefix: name.0, first_child: None, has_base: false });
            }
            (None, _) => return Err(ManifestError::NoManifest),
            (Some(_), None) => return Err(ManifestError::Malformed),
            (Some(_), Some(parent)) if self.is_uri(parent.name) => return Err(ManifestError::Unclear),
            _ => {}
        }
        self.started = Some(name);
        Ok(())
    }

    fn enter(&mut self, name: Name<'a>, end: usize) -> Result<(), ManifestError> {
        if self.open.len() == MAX_DEPTH {
            return Err(ManifestError::TooDeep);
        }
        let inherited = self.open.last().map_or(self.base, Open::base);
        self.open.push(Open { name, inherited, own: None, used: false });
        self.content = Content::Blank;
        if let (1, Some(root)) = (self.open.len(), &mut self.root) {
            root.first_child = Some(self.writer.insert(end, [])?);
        }
        Ok(())
    }

    fn close(&mut self, name: Name<'a>, end: usize) -> Result<(), ManifestError> {
        let open = self.open.pop().filter(|open| open.name == name).ok_or(ManifestError::Malformed)?;
        if self.is_uri(name) {
            self.uri_element(name.1, open.inherited)?;
        }
        self.leave(name, end)
    }

    /// An element is over, with a tag of its own or without.
    fn leave(&mut self, name: Name<'a>, end: usize) -> Result<(), ManifestError> {
        if let (1, Some(root)) = (self.open.len(), &mut self.root)
            && name == (root.prefix, "ProgramInformation")
        {
            root.first_child = Some(self.writer.insert(end, [])?);
        }
        Ok(())
    }

    /// Whether the content of an element is a URI.
    fn is_uri(&self, (prefix, local): Name<'_>) -> bool {
        self.is_of_schema(prefix) && matches!(local, "BaseURL" | "ContentSteering" | "PatchLocation")
    }

    fn is_of_schema(&self, prefix: Option<&str>) -> bool {
        self.root.as_ref().is_some_and(|root| root.prefix == prefix)
    }

    fn content(&mut self, text: StrSpan<'a>, content: Content<'a>) -> Result<(), ManifestError> {
        let blank = text.as_str().trim_ascii().is_empty();
        if !blank && self.open.last().is_some_and(|open| self.is_uri(open.name)) {
            if !matches!(self.content, Content::Blank) {
                return Err(ManifestError::Unclear);
            }
            self.content = content;
        }
        Ok(())
    }

    fn attribute(&mut self, name: Name<'a>, value: StrSpan<'a>) -> Result<(), ManifestError> {
        let (prefix, local) = self.started.ok_or(ManifestError::Malformed)?;
        let is_uri = match (local, name) {
            // XLink's, whatever it calls its namespace. No other one is known in manifests.
            (_, (namespace, "href")) => namespace.is_some(),
            ("SegmentTemplate", (None, "media" | "index" | "initialization" | "bitstreamSwitching"))
            | ("SegmentURL", (None, "media" | "index"))
            | ("Initialization" | "RepresentationIndex" | "BitstreamSwitching", (None, "sourceURL"))
            | ("InitializationSet", (None, "initialization"))
            | ("UTCTiming", (None, "value")) => self.is_of_schema(prefix),
            _ => false,
        };
        if !is_uri {
            return Ok(());
        }
        let base = self.open.last().map_or(self.base, Open::base);
        let level = self.open.len();
        if local != "UTCTiming" {
            return self.uri(value.as_str(), value.start(), true, base, level).map(drop);
        }
        // A list of them, or a time, or names of hosts, which look like relative ones.
        let mut at = value.start();
        for uri in value.as_str().split([' ', '\t', '\r', '\n']) {
            self.uri(uri, at, true, base, level)?;
            at += uri.len() + 1;
        }
        Ok(())
    }

    /// The end of an element whose content is a URI. `inherited` is its parent's base so far.
    fn uri_element(&mut self, local: &str, inherited: Base) -> Result<(), ManifestError> {
        let (span, escaped) = match core::mem::replace(&mut self.content, Content::Blank) {
            // It says nothing.
            Content::Blank => return Ok(()),
            Content::Text(span) => (span, true),
            Content::Cdata(span) => (span, false),
        };
        let level = self.open.len();
        if local != "BaseURL" {
            return self.uri(span.as_str(), span.start(), escaped, inherited, level).map(drop);
        }
        // It is resolved against the base of the level above its parent's.
        let above = self.open.last().ok_or(ManifestError::Malformed)?.inherited;
        let base = match level {
            1 => self.first_base(span, escaped)?,
            _ => self.uri(span.as_str(), span.start(), escaped, above, level - 1)?,
        };
        let parent = self.open.last_mut().ok_or(ManifestError::Malformed)?;
        // The schema puts it before all that it is for. One that comes late must change nothing.
        let before = parent.base();
        let same = (base.own, base.foreign) == (before.own, before.foreign) && base.depth >= before.depth;
        if parent.used && !same {
            return Err(ManifestError::Unclear);
        }
        parent.own = Some(parent.own.map_or(base, |own| own.or(base)));
        Ok(())
    }

    /// A `BaseURL` of the MPD, which a relative one has above it no more.
    fn first_base(&mut self, span: StrSpan<'a>, escaped: bool) -> Result<Base, ManifestError> {
        if let Some(root) = &mut self.root {
            root.has_base = true;
        }
        let uri = span.as_str().trim_ascii_start();
        let base = self.uri(span.as_str(), span.start(), escaped, self.base, 0)?;
        if reference::target(uri.as_bytes(), self.host) == Target::Relative {
            // What would have to be escaped cannot be, in a CDATA section.
            if !escaped && self.directory.contains(['&', '<', '>']) {
                return Err(ManifestError::Unclear);
            }
            let pieces = [self.prefix].into_iter().chain(escape(self.directory));
            self.writer.insert(span.end() - uri.len(), pieces)?;
        }
        Ok(base)
    }

    /// A URI at the text's byte `at`, resolved against `base`, that of the element with this many elements
    /// around it. Gives what it is a base for.
    fn uri(
        &mut self,
        text: &str,
        at: usize,
        escaped: bool,
        base: Base,
        level: usize,
    ) -> Result<Base, ManifestError> {
        let uri = text.trim_ascii();
        let at = at + (text.len() - text.trim_ascii_start().len());
        if uri.is_empty() {
            return Ok(base);
        }
        if escaped && !is_plain(uri) {
            return Err(ManifestError::Unclear);
        }
        let target = reference::target(uri.as_bytes(), self.host);
        let root = match target {
            Target::Foreign => return Ok(Base::FOREIGN),
            Target::Relative | Target::Rooted(0) => {
                // Who has used a base has used those above it.
                let around = self.open.iter_mut().take(level).rev();
                around.take_while(|open| !open.used).for_each(|open| open.used = true);
                0
            }
            Target::Rooted(root) => root,
        };
        let rest = uri.get(root..).ok_or(ManifestError::Malformed)?;
        let path = rest.split(['?', '#']).next().unwrap_or(rest);
        if target == Target::Relative {
            return base.descend(path);
        }
        if root == 0 && base.foreign {
            // With alternatives on both sides there is no right one.
            return if base.own { Err(ManifestError::Unclear) } else { Ok(Base::FOREIGN) };
        }
        let below = path.strip_prefix(self.prefix).filter(|below| below.starts_with('/'));
        if below.is_none() {
            let slash = if path.is_empty() { "/" } else { "" };
            self.writer.insert(at + root, [self.prefix, slash])?;
        }
        Base::default().descend(below.unwrap_or(path).strip_prefix('/').unwrap_or_default())
    }

    fn finish(mut self) -> Result<Vec<u8>, ManifestError> {
        let root = self.root.as_ref().ok_or(ManifestError::NoManifest)?;
        if !self.open.is_empty() || self.started.is_some() {
            return Err(ManifestError::Malformed);
        }
        self.writer.insert(self.writer.text.len(), [])?;
        let mut out = self.writer.out;
        if let (false, Some(place)) = (root.has_base, root.first_child) {
            let prefix = root.prefix.into_iter().flat_map(|prefix| [prefix, ":"]);
            let name = prefix.chain(["BaseURL>"]);
            let content = [self.prefix].into_iter().chain(escape(self.directory));
            let element = ["<"].into_iter().chain(name.clone()).chain(content).chain(["</"]).chain(name);
            out.splice(place..place, element.flat_map(str::bytes));
        }
        if out.len() > MAX_OUTPUT { Err(ManifestError::TooLong) } else { Ok(out) }
    }
}

/// Whether no reference to a character can hide what a URI is made of: before its query there are at most the
/// predefined ones, of which none has a meaning there.
fn is_plain(uri: &str) -> bool {
    let mut references = path_of_target(uri).split('&').skip(1);
    references.all(|text| ["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|name| text.starts_with(name)))
}

/// `text` as XML, in pieces.
fn escape(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['&', '<', '>']).flat_map(|piece| match piece.as_bytes().split_last() {
        Some((b'&', _)) => [piece.strip_suffix('&').unwrap_or(piece), "&amp;"],
        Some((b'<', _)) => [piece.strip_suffix('<').unwrap_or(piece), "&lt;"],
        Some((b'>', _)) => [piece.strip_suffix('>').unwrap_or(piece), "&gt;"],
        _ => [piece, ""],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    const PREFIX: &str = "/spbhid/ID";

    fn rewritten(mpd: &str) -> Result<String, ManifestError> {
        let result = rewrite(mpd.as_bytes(), PREFIX, "/live/", "example.com:8080")?;
        let again = rewrite(&result, PREFIX, "/live/", "example.com:8080");
        assert_eq!(again.as_ref(), Ok(&result), "again");
        Ok(String::from_utf8(result).unwrap())
    }

    /// What becomes of an MPD with this content and no other `BaseURL`.
    fn inside(content: &str) -> Result<String, ManifestError> {
        let result = rewritten(&format!("<MPD>{content}</MPD>"))?;
        let start = "<MPD><BaseURL>/spbhid/ID/live/</BaseURL>";
        let content = result.strip_prefix(start).and_then(|rest| rest.strip_suffix("</MPD>"));
        Ok(content.unwrap_or_else(|| panic!("{result}")).into())
    }

    #[track_caller]
    fn assert_kept(content: &str) {
        assert_eq!(inside(content).as_deref(), Ok(content));
    }

    #[track_caller]
    fn assert_refused(mpd: &str, why: ManifestError) {
        assert_eq!(rewritten(mpd), Err(why), "{mpd}");
    }

    #[test]
    fn a_manifest_without_base_gets_one_where_the_schema_has_it() {
        let base = "<BaseURL>/spbhid/ID/live/</BaseURL>";
        for (before, after) in [
            ("<MPD>", "\n<Period/></MPD>"),
            (
                "\u{feff}<?xml version='1.0' encoding='utf-8'?><!-- > --><?a <b>?>\n<MPD a='>'\n>",
                "<Location>/x</Location></MPD>\n",
            ),
            (
                "<MPD><ProgramInformation><Title>a</Title></ProgramInformation>\n<ProgramInformation/>",
                "<Period/></MPD>",
            ),
            ("<MPD><!-- <BaseURL>a</BaseURL> --><ProgramInformation></ProgramInformation>", "</MPD>"),
            ("<MPD>", "<Period><BaseURL>a/</BaseURL></Period></MPD>"),
            ("<MPD>", "<BaseURL/><BaseURL>\n</BaseURL><Period/></MPD>"),
        ] {
            assert_eq!(rewritten(&format!("{before}{after}")), Ok(format!("{before}{base}{after}")));
        }
        assert_eq!(
            rewritten("<d:MPD xmlns:d='urn:mpeg:dash:schema:mpd:2011'><BaseURL>/x/</BaseURL></d:MPD>")
                .as_deref(),
            Ok("<d:MPD xmlns:d='urn:mpeg:dash:schema:mpd:2011'><d:BaseURL>/spbhid/ID/live/</d:BaseURL>\
                <BaseURL>/x/</BaseURL></d:MPD>")
        );
        assert_eq!(rewritten("<MPD/>").as_deref(), Ok("<MPD/>"));
    }

    #[test]
    fn bases_of_the_manifest_get_the_prefix() {
        for (uri, expected) in [
            ("livestream/", "/spbhid/ID/live/livestream/"),
            ("../vod/", "/spbhid/ID/live/../vod/"),
            ("./", "/spbhid/ID/live/./"),
            ("\n  a/b/ \n", "\n  /spbhid/ID/live/a/b/ \n"),
            ("/", "/spbhid/ID/"),
            ("/vod/?a&amp;b", "/spbhid/ID/vod/?a&amp;b"),
            ("http://example.com:8080", "http://example.com:8080/spbhid/ID/"),
            ("http://EXAMPLE.com:8080/a/", "http://EXAMPLE.com:8080/spbhid/ID/a/"),
            ("//example.com:8080?a", "//example.com:8080/spbhid/ID/?a"),
            ("<![CDATA[a&b/]]>", "<![CDATA[/spbhid/ID/live/a&b/]]>"),
            (" <!-- a --><![CDATA[ /b/]]>\n", " <!-- a --><![CDATA[ /spbhid/ID/b/]]>\n"),
            ("/spbhid/ID/live/", "/spbhid/ID/live/"),
            ("/spbhid/other/live/", "/spbhid/ID/spbhid/other/live/"),
            ("http://other.net/a/", "http://other.net/a/"),
            ("http://other.net/a&#47;", "http://other.net/a&#47;"),
            ("http://example.com/a/", "http://example.com/a/"),
        ] {
            let mpd = |uri| format!("<MPD><BaseURL serviceLocation='/a'>{uri}</BaseURL><Period/></MPD>");
            if uri.contains("&#") {
                assert_refused(&mpd(uri), ManifestError::Unclear);
                continue;
            }
            assert_eq!(rewritten(&mpd(uri)), Ok(mpd(expected)));
        }
    }

    #[test]
    fn uris_from_the_root_get_the_prefix() {
        for (element, expected) in [
            ("<BaseURL>/a/</BaseURL>", "<BaseURL>/spbhid/ID/a/</BaseURL>"),
            (
                "<BaseURL>http://example.com:8080/a/</BaseURL>",
                "<BaseURL>http://example.com:8080/spbhid/ID/a/</BaseURL>",
            ),
            (
                "<PatchLocation ttl='6'>/a.mpp</PatchLocation>",
                "<PatchLocation ttl='6'>/spbhid/ID/a.mpp</PatchLocation>",
            ),
            ("<ContentSteering>/s</ContentSteering>", "<ContentSteering>/spbhid/ID/s</ContentSteering>"),
            (
                "<SegmentTemplate media=\"/a-$Number%05d$.m4s?b&amp;c\" initialization='/a' index = '/b'/>",
                "<SegmentTemplate media=\"/spbhid/ID/a-$Number%05d$.m4s?b&amp;c\" initialization='/spbhid/ID/a' index = '/spbhid/ID/b'/>",
            ),
            (
                "<SegmentURL media='/a' index='//example.com:8080/b'/>",
                "<SegmentURL media='/spbhid/ID/a' index='//example.com:8080/spbhid/ID/b'/>",
            ),
            (
                "<Initialization sourceURL=' /a&amp;b '/>",
                "<Initialization sourceURL=' /spbhid/ID/a&amp;b '/>",
            ),
            (
                "<RepresentationIndex sourceURL='/a'></RepresentationIndex>",
                "<RepresentationIndex sourceURL='/spbhid/ID/a'></RepresentationIndex>",
            ),
            ("<BitstreamSwitching sourceURL='/a'/>", "<BitstreamSwitching sourceURL='/spbhid/ID/a'/>"),
            (
                "<SegmentTemplate bitstreamSwitching='/a'/>",
                "<SegmentTemplate bitstreamSwitching='/spbhid/ID/a'/>",
            ),
            (
                "<AdaptationSet xlink:href='/a' xlink:actuate='onLoad'/>",
                "<AdaptationSet xlink:href='/spbhid/ID/a' xlink:actuate='onLoad'/>",
            ),
            (
                "<InitializationSet id='1' initialization='/a'/>",
                "<InitializationSet id='1' initialization='/spbhid/ID/a'/>",
            ),
            (
                "<UTCTiming value='/a  http://other.net/ /b'/>",
                "<UTCTiming value='/spbhid/ID/a  http://other.net/ /spbhid/ID/b'/>",
            ),
        ] {
            let period = |element| format!("<Period>{element}</Period>");
            assert_eq!(inside(&period(element)), Ok(period(expected)));
        }
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for content in [
            "<Location>/live/a.mpd</Location>",
            "<Period xlink:href='urn:mpeg:dash:resolve-to-zero:2013'/>",
            "<Period><BaseURL>a/</BaseURL><SegmentTemplate media='../$Time$.m4s' initialization='a'/></Period>",
            "<Period><BaseURL>http://other.net/a/</BaseURL><SegmentTemplate media='/a' initialization='../../b'/></Period>",
            "<SegmentURL media='//other.net/a'/>",
            "<SegmentURL mediaRange='/a' x='media=\"/a\"'/>",
            "<UTCTiming schemeIdUri='urn:mpeg:dash:utc:direct:2014' value='2026-11-22T15:32:12Z'/>",
            "<UTCTiming schemeIdUri='urn:mpeg:dash:utc:ntp:2014' value='a.ntp.org b.ntp.org'/>",
            "<Event media='/a'><x:BaseURL>/a</x:BaseURL><![CDATA[<BaseURL>/a</BaseURL>]]></Event>",
            "<x:SegmentURL media='/a'/><!-- <SegmentURL media='/a'/> --><?x <SegmentURL media='/a'/>?>",
            "<cenc:pssh>/a</cenc:pssh><dashif:Laurl>/a</dashif:Laurl>&lt;BaseURL&gt;/a",
            "<Label href='/a'>/a &#47; &unknown;</Label>",
        ] {
            assert_kept(content);
        }
    }

    #[test]
    fn what_is_below_another_host_stays_there() {
        let mpd = "<MPD><BaseURL>http://other.net/</BaseURL><Period><SegmentTemplate media='/a' initialization='b'/>\
                   <BaseURL>c/</BaseURL></Period></MPD>";
        assert_eq!(rewritten(mpd).as_deref(), Ok(mpd));
        let back = |uri| {
            format!(
                "<MPD><BaseURL>//other.net/</BaseURL><Period><BaseURL>http://example.com:8080{uri}</BaseURL>\
                 <SegmentURL media='{uri}b'/></Period></MPD>"
            )
        };
        assert_eq!(rewritten(&back("/a/")), Ok(back("/spbhid/ID/a/")));
    }

    #[test]
    fn alternatives_may_be_on_either_side() {
        let mpd = |own, media| {
            format!(
                "<MPD><BaseURL>http://other.net/</BaseURL><BaseURL>{own}</BaseURL>\
                 <Period><SegmentURL media='{media}'/></Period></MPD>"
            )
        };
        assert_eq!(rewritten(&mpd("/x/", "a")), Ok(mpd("/spbhid/ID/x/", "a")));
        assert_refused(&mpd("/x/", "/a"), ManifestError::Unclear);
        assert_refused(&mpd("/x/", "../../a"), ManifestError::Unclear);
    }

    #[test]
    fn what_climbs_above_the_root_is_refused() {
        for (content, climbs) in [
            ("<SegmentURL media='../a'/>", false),
            ("<SegmentURL media='b/../../a'/>", false),
            ("<SegmentURL media='../a?../../..'/>", false),
            ("<SegmentURL media='../../a'/>", true),
            ("<SegmentURL media='..'/>", false),
            ("<SegmentURL media='../..'/>", true),
            ("<SegmentURL media='/../a'/>", true),
            ("<BaseURL>a/b/</BaseURL><SegmentURL media='../../../c'/>", false),
            ("<BaseURL>a/b</BaseURL><SegmentURL media='../../../c'/>", true),
            ("<BaseURL>/</BaseURL><SegmentURL media='../c'/>", true),
            ("<BaseURL>a/</BaseURL><BaseURL>/</BaseURL><SegmentURL media='../c'/>", true),
            ("<BaseURL>../</BaseURL><BaseURL>../</BaseURL>", false),
            ("<BaseURL>../</BaseURL><AdaptationSet><BaseURL>../</BaseURL></AdaptationSet>", true),
        ] {
            let result = inside(&format!("<Period>{content}</Period>"));
            assert_eq!(result.is_err_and(|why| why == ManifestError::Unclear), climbs, "{content}");
        }
        assert_refused("<MPD><BaseURL>../../</BaseURL></MPD>", ManifestError::Unclear);
    }

    #[test]
    fn what_is_unclear_is_refused() {
        for content in [
            "<BaseURL>/a<!-- -->b/</BaseURL>",
            "<BaseURL>/a<![CDATA[b]]></BaseURL>",
            "<BaseURL>/a<b/></BaseURL>",
            "<BaseURL>&#x2f;a/</BaseURL>",
            "<BaseURL>&slash;a/</BaseURL>",
            "<SegmentURL media='&#47;a'/>",
            "<SegmentURL media='/a'/><BaseURL>http://other.net/</BaseURL>",
            "<SegmentURL media='../a'/><BaseURL>/</BaseURL>",
            "<SegmentURL media='?a'/>",
            "<BaseURL>#a</BaseURL>",
            "<AdaptationSet><SegmentURL media='../a'/></AdaptationSet><BaseURL>/</BaseURL>",
        ] {
            assert_refused(&format!("<MPD><Period>{content}</Period></MPD>"), ManifestError::Unclear);
        }
        assert_kept("<Period><BaseURL>a</BaseURL><SegmentURL media='?b'/></Period>");
        // What comes late and changes nothing is none of it.
        assert_kept("<Period><SegmentURL media='a'/><BaseURL>b/</BaseURL></Period>");
        assert_kept("<Period><SegmentURL media='a?b=&#47;'/></Period>");
    }

    #[test]
    fn only_manifests_are_rewritten() {
        for (text, why) in [
            ("", ManifestError::NoManifest),
            ("<!-- -->", ManifestError::NoManifest),
            ("<SmoothStreamingMedia/>", ManifestError::NoManifest),
            ("<Patch><add/></Patch>", ManifestError::NoManifest),
            ("#EXTM3U", ManifestError::Malformed),
            ("<MPD>", ManifestError::Malformed),
            ("<MPD", ManifestError::Malformed),
            ("<MPD a='", ManifestError::Malformed),
            ("<MPD></Period></MPD>", ManifestError::Malformed),
            ("<MPD></MPD></MPD>", ManifestError::Malformed),
            ("<MPD></MPD><MPD></MPD>", ManifestError::Malformed),
            ("<MPD></x:MPD>", ManifestError::Malformed),
            ("<MPD>\u{0}</MPD>", ManifestError::Malformed),
            ("<MPD a=b></MPD>", ManifestError::Malformed),
            ("<!DOCTYPE MPD><MPD></MPD>", ManifestError::Doctype),
            ("<!DOCTYPE MPD [<!ENTITY a 'b'>]><MPD></MPD>", ManifestError::Doctype),
        ] {
            assert_refused(text, why);
        }
        assert_eq!(rewrite(b"<MPD>\xFF</MPD>", PREFIX, "/", ""), Err(ManifestError::Malformed));
        let utf16: Vec<_> = "<MPD></MPD>".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(rewrite(&utf16, PREFIX, "/", ""), Err(ManifestError::Malformed));
    }

    #[test]
    fn manifests_have_limits() {
        let deep = |depth| format!("{}{}", "<MPD>".repeat(depth), "</MPD>".repeat(depth));
        assert!(rewritten(&deep(MAX_DEPTH)).is_ok());
        assert_refused(&deep(MAX_DEPTH + 1), ManifestError::TooDeep);
        let prefix = "/a".repeat(10_000);
        let long = |count| {
            let mpd = format!("<MPD><Period>{}</Period></MPD>", "<SegmentURL media='/'/>".repeat(count));
            rewrite(mpd.as_bytes(), &prefix, "/", "").map(drop)
        };
        assert_eq!(long(MAX_OUTPUT / prefix.len() - 5), Ok(()));
        assert_eq!(long(MAX_OUTPUT / prefix.len() + 1), Err(ManifestError::TooLong));
    }

    #[test]
    fn the_directory_is_escaped() {
        let of = |mpd: &str| {
            let result = rewrite(mpd.as_bytes(), PREFIX, "/a&b/<c>/", "").unwrap();
            String::from_utf8(result).unwrap()
        };
        assert_eq!(of("<MPD></MPD>"), "<MPD><BaseURL>/spbhid/ID/a&amp;b/&lt;c&gt;/</BaseURL></MPD>");
        assert_eq!(
            of("<MPD><BaseURL>d/</BaseURL></MPD>"),
            "<MPD><BaseURL>/spbhid/ID/a&amp;b/&lt;c&gt;/d/</BaseURL></MPD>"
        );
        let cdata = rewrite(b"<MPD><BaseURL><![CDATA[d]]></BaseURL></MPD>", PREFIX, "/a&b/", "");
        assert_eq!(cdata, Err(ManifestError::Unclear));
    }
}
