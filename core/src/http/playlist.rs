//! HLS playlists (RFC 8216, draft-pantos-hls-rfc8216bis): puts the session's id into the URIs. Knows nothing
//! of sessions or HTTP, and touches nothing that is not a URI.
//!
//! **What gets the id.** Whatever the playlist names on the client's own host, as URI line or as attribute:
//! the origin that wrote the playlist speaks of what it has itself, so the request must come back to it. This
//! goes for segments and variants as for keys, session data, content steering and the assets of interstitials
//! (`X-ASSET-URI`, `X-ASSET-LIST`), which no path alone would lead to the right origin. What is elsewhere, or
//! not HTTP, is never told the id.
//!
//! ```text
//! #EXT-X-MAP:URI="init.mp4?a=b",BYTERANGE="…"     →  URI="init.mp4?a=b&spbhid=…"
//! segment-1.ts#t=5                                →  segment-1.ts?spbhid=…#t=5
//! /live/cam.m3u8?spbhid=old&hls_ctx=x             →  /live/cam.m3u8?hls_ctx=x&spbhid=…
//! https://other.example/ad.ts                     →  the same
//! ```

use super::reference::{self, Target};
use super::routes::SESSION;
use alloc::vec::Vec;
use core::fmt;

/// The longest result, in bytes: a day of two-second segments is 5 MB. Many short URIs grow many times over.
pub const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// The query parameter that carries the id.
const PARAMETER: &[u8] = SESSION.as_bytes();
/// What a playlist begins with (RFC 8216 §4.3.1.1).
const FIRST_TAG: &[u8] = b"#EXTM3U";
/// Allowed by no specification, and found.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Why a playlist is not rewritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaylistError {
    /// It does not begin with `#EXTM3U`.
    NoPlaylist,
    /// The result is longer than [`MAX_OUTPUT`].
    TooLong,
}

impl PlaylistError {
    /// The error in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPlaylist => "not a playlist",
            Self::TooLong => "playlist too long",
        }
    }
}

impl fmt::Display for PlaylistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for PlaylistError {}

/// The playlist with `spbhid`, which is URL-safe, in every URI of `host`, the client's `Host` field. An id
/// that a URI has already is replaced: some origins repeat the request's query in their URIs. All other
/// bytes, line ends among them, are as they were.
///
/// # Errors
/// If it is no playlist, or too long with the ids.
pub fn rewrite(playlist: &[u8], spbhid: &str, host: &str) -> Result<Vec<u8>, PlaylistError> {
    debug_assert!(is_url_safe(spbhid), "{spbhid:?} goes into queries as it is");
    let text = playlist.strip_prefix(BYTE_ORDER_MARK).unwrap_or(playlist);
    let after = text.strip_prefix(FIRST_TAG).ok_or(PlaylistError::NoPlaylist)?;
    if after.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
        return Err(PlaylistError::NoPlaylist);
    }
    // About every second line is a URI.
    let uris = playlist.iter().filter(|byte| **byte == b'\n').count() / 2 + 1;
    let grown = playlist.len() + uris * (PARAMETER.len() + spbhid.len() + 2);
    let mut out = Vec::with_capacity(grown.min(MAX_OUTPUT));
    out.extend_from_slice(playlist.get(..playlist.len() - text.len()).unwrap_or_default());
    let mut writer = Writer { out, spbhid: spbhid.as_bytes(), host };
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.trim_ascii_start().first() {
            None => writer.copy(line),
            Some(b'#') => writer.tag(line),
            Some(_) => writer.uri(line),
        }
        if writer.out.len() > MAX_OUTPUT {
            return Err(PlaylistError::TooLong);
        }
    }
    Ok(writer.out)
}

fn is_url_safe(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// Whether this attribute of this tag, named without `#EXT-X-`, is a URI.
fn is_uri(tag: &[u8], attribute: &[u8]) -> bool {
    match attribute {
        b"URI" => true,
        b"SERVER-URI" => tag == b"CONTENT-STEERING",
        b"X-ASSET-URI" | b"X-ASSET-LIST" => tag == b"DATERANGE",
        _ => false,
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    spbhid: &'a [u8],
    host: &'a str,
}

impl Writer<'_> {
    fn copy(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A line that begins with `#`: `#EXT-X-NAME:attribute-list` or anything else.
    fn tag(&mut self, line: &[u8]) {
        let named = line.strip_prefix(b"#EXT-X-");
        let colon = named.and_then(|named| named.iter().position(|byte| *byte == b':'));
        let (Some(named), Some(colon)) = (named, colon) else { return self.copy(line) };
        let (tag, list) = named.split_at(colon);
        self.copy(line.get(..line.len() - list.len()).unwrap_or_default());
        self.attributes(tag, list);
    }

    /// An attribute list (RFC 8216 §4.2), behind the colon or comma that `rest` begins with. What is none
    /// comes out as it is.
    fn attributes(&mut self, tag: &[u8], mut rest: &[u8]) {
        while let Some((&separator, list)) = rest.split_first() {
            self.out.push(separator);
            let name_end = list.iter().position(|byte| matches!(byte, b'=' | b','));
            let (name, value) = list.split_at(name_end.unwrap_or(list.len()));
            self.copy(name);
            rest = value;
            if let [b'=', b'"', quoted @ ..] = value
                && let Some(end) = quoted.iter().position(|byte| *byte == b'"')
            {
                let (value, after) = quoted.split_at(end);
                self.copy(b"=\"");
                if is_uri(tag, name.trim_ascii()) {
                    self.uri(value)
                } else {
                    self.copy(value)
                }
                rest = after;
            }
            let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            let (value, after) = rest.split_at(end);
            self.copy(value);
            rest = after;
        }
    }

    /// A URI with the blanks around it.
    fn uri(&mut self, bytes: &[u8]) {
        let trimmed = bytes.trim_ascii_start();
        let (before, _) = bytes.split_at(bytes.len() - trimmed.len());
        let uri = trimmed.trim_ascii_end();
        let (_, after) = trimmed.split_at(uri.len());
        let fragment = uri.iter().position(|byte| *byte == b'#').unwrap_or(uri.len());
        let (resource, fragment) = uri.split_at(fragment);
        if resource.is_empty() || reference::target(uri, self.host) == Target::Foreign {
            return self.copy(bytes);
        }
        self.copy(before);
        self.resource(resource);
        self.copy(fragment);
        self.copy(after);
    }

    /// A URI without its fragment. Empty parameters at the end of its query are left out.
    fn resource(&mut self, resource: &[u8]) {
        let path = resource.iter().position(|byte| *byte == b'?').unwrap_or(resource.len());
        let (path, query) = resource.split_at(path);
        self.copy(path);
        self.out.push(b'?');
        let begin = self.out.len();
        let parameters = query.strip_prefix(b"?").unwrap_or_default().split(|byte| *byte == b'&');
        for parameter in parameters.filter(|parameter| !is_id(parameter)) {
            self.copy(parameter);
            self.out.push(b'&');
        }
        // One ampersand is enough, and none if it would be the first.
        let written = self.out.get(begin..).unwrap_or_default();
        let blank = written.iter().rev().take_while(|byte| **byte == b'&').count();
        let kept = written.len() - blank;
        self.out.truncate(begin + if kept == 0 { 0 } else { kept + 1 });
        self.copy(PARAMETER);
        self.out.push(b'=');
        self.copy(self.spbhid);
    }
}

fn is_id(parameter: &[u8]) -> bool {
    matches!(parameter.strip_prefix(PARAMETER), Some([] | [b'=', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    const HOST: &str = "example.com:8080";

    fn rewritten(playlist: &str) -> String {
        String::from_utf8(rewrite(playlist.as_bytes(), "ID", HOST).unwrap()).unwrap()
    }

    /// What becomes of the only line behind the first.
    fn line(line: &str) -> String {
        rewritten(&format!("#EXTM3U\n{line}")).split_off("#EXTM3U\n".len())
    }

    #[test]
    fn uris_of_the_host_get_the_id() {
        for (uri, expected) in [
            ("a.ts", "a.ts?spbhid=ID"),
            ("a/b c.m4s", "a/b c.m4s?spbhid=ID"),
            ("../a.ts", "../a.ts?spbhid=ID"),
            ("/live/a.ts", "/live/a.ts?spbhid=ID"),
            ("?a", "?a&spbhid=ID"),
            ("a.ts?", "a.ts?spbhid=ID"),
            ("a.ts?b", "a.ts?b&spbhid=ID"),
            ("a.ts?b=c&", "a.ts?b=c&spbhid=ID"),
            ("a.ts?&", "a.ts?spbhid=ID"),
            ("a.ts?&b&&", "a.ts?&b&spbhid=ID"),
            ("a.ts?b=c&&d=e", "a.ts?b=c&&d=e&spbhid=ID"),
            ("a.ts#t=1", "a.ts?spbhid=ID#t=1"),
            ("a.ts?b#t=1?x", "a.ts?b&spbhid=ID#t=1?x"),
            ("http://example.com:8080/a.ts", "http://example.com:8080/a.ts?spbhid=ID"),
            ("//EXAMPLE.com:8080/a.ts", "//EXAMPLE.com:8080/a.ts?spbhid=ID"),
            ("http://example.com:8080", "http://example.com:8080?spbhid=ID"),
            ("{$path}/a.ts?{$query}", "{$path}/a.ts?{$query}&spbhid=ID"),
        ] {
            assert_eq!(line(uri), expected);
            assert_eq!(line(expected), expected, "again");
            assert_eq!(line(&format!("#EXT-X-MAP:URI=\"{uri}\"")), format!("#EXT-X-MAP:URI=\"{expected}\""));
        }
    }

    #[test]
    fn an_id_that_is_there_is_replaced() {
        for (uri, expected) in [
            ("a.ts?spbhid=old", "a.ts?spbhid=ID"),
            ("a.ts?spbhid", "a.ts?spbhid=ID"),
            ("a.ts?spbhid=", "a.ts?spbhid=ID"),
            ("a.ts?spbhid=old#f", "a.ts?spbhid=ID#f"),
            ("a.ts?spbhid=old&b=c", "a.ts?b=c&spbhid=ID"),
            ("a.ts?b=c&spbhid=1&d=e&spbhid=2", "a.ts?b=c&d=e&spbhid=ID"),
            ("a.ts?spbhid2=x&xspbhid=y", "a.ts?spbhid2=x&xspbhid=y&spbhid=ID"),
            ("a.ts#spbhid=old", "a.ts?spbhid=ID#spbhid=old"),
        ] {
            assert_eq!(line(uri), expected);
            assert_eq!(line(expected), expected, "again");
        }
    }

    #[test]
    fn attributes_of_any_tag_are_uris_if_they_are_named_so() {
        for (tag, expected) in [
            (
                r#"#EXT-X-KEY:METHOD=AES-128,URI="/k?a=b",IV=0x1"#,
                r#"#EXT-X-KEY:METHOD=AES-128,URI="/k?a=b&spbhid=ID",IV=0x1"#,
            ),
            (
                r#"#EXT-X-PART:DURATION=0.3,URI="p.1.mp4""#,
                r#"#EXT-X-PART:DURATION=0.3,URI="p.1.mp4?spbhid=ID""#,
            ),
            (
                r#"#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p.2.mp4",BYTERANGE-START=5"#,
                r#"#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p.2.mp4?spbhid=ID",BYTERANGE-START=5"#,
            ),
            (
                r#"#EXT-X-RENDITION-REPORT:URI="../l/l.m3u8",LAST-MSN=273"#,
                r#"#EXT-X-RENDITION-REPORT:URI="../l/l.m3u8?spbhid=ID",LAST-MSN=273"#,
            ),
            (
                r#"#EXT-X-MEDIA:TYPE=AUDIO,NAME="a,URI=b",URI="a.m3u8""#,
                r#"#EXT-X-MEDIA:TYPE=AUDIO,NAME="a,URI=b",URI="a.m3u8?spbhid=ID""#,
            ),
            (r#"#EXT-X-IMAGE-STREAM-INF:URI="i.m3u8""#, r#"#EXT-X-IMAGE-STREAM-INF:URI="i.m3u8?spbhid=ID""#),
            (r#"#EXT-X-OURS:A, URI="x",B=c"#, r#"#EXT-X-OURS:A, URI="x?spbhid=ID",B=c"#),
            (
                r#"#EXT-X-DATERANGE:ID="a",X-ASSET-LIST="/l.json",X-OTHER="/x""#,
                r#"#EXT-X-DATERANGE:ID="a",X-ASSET-LIST="/l.json?spbhid=ID",X-OTHER="/x""#,
            ),
            (
                r#"#EXT-X-CONTENT-STEERING:SERVER-URI="/s?v=1",PATHWAY-ID="a""#,
                r#"#EXT-X-CONTENT-STEERING:SERVER-URI="/s?v=1&spbhid=ID",PATHWAY-ID="a""#,
            ),
        ] {
            assert_eq!(line(tag), expected);
            assert_eq!(line(expected), expected, "again");
        }
    }

    #[test]
    fn all_else_stays_as_it_is() {
        for text in [
            "http://other.net/a.ts",
            "https://example.com/a.ts",
            "//other.net/a.ts",
            "data:application/octet-stream;base64,AAAA",
            "# a.ts",
            "#EXTINF:2.000,a.ts?b URI=\"c\"",
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T15:24:56.634+0000",
            "#EXT-X-BYTERANGE:1@0",
            "#EXT-X-ENDLIST",
            "#EXT-X-DEFINE:NAME=\"a\",VALUE=\"URI=b\"",
            "#EXT-X-DEFINE:QUERYPARAM=\"token\"",
            "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://key?a\",KEYFORMAT=\"com.apple.streamingkeydelivery\"",
            "#EXT-X-KEY:METHOD=AES-128,URI=\"http://keys.example.com/k\"",
            "#EXT-X-KEY:METHOD=NONE",
            "#EXT-X-OURS:X-URI=\"a\",URI-X=\"b\",uri=\"c\",X-ASSET-URI=\"d\",SERVER-URI=\"e\"",
            "#EXT-X-OURS:URI=a",
            "#EXT-X-OURS:URI=\"a",
            "#EXT-X-OURS:A=\"b,URI=\"c",
            "#EXT-X-OURS:A=b\"URI=\"c\"",
            "#EXT-X-OURS:URI=\"\"",
            "#EXT-X-OURS:URI=\"#a\"",
            "#EXT-X-OURS:,,=,=\"\"=",
            "#EXT-OURS:URI=\"a\"",
            " #EXT-X-MAP:URI=\"a\"",
            "  \t",
            "",
        ] {
            assert_eq!(line(text), text);
        }
    }

    #[test]
    fn line_ends_and_blanks_are_kept() {
        assert_eq!(
            rewritten("#EXTM3U\r\n\r\n#EXTINF:1,\n a.ts \r\nb.ts\r\n\n#EXT-X-MAP:URI=\"c\"\r\nd.ts"),
            "#EXTM3U\r\n\r\n#EXTINF:1,\n a.ts?spbhid=ID \r\nb.ts?spbhid=ID\r\n\n\
             #EXT-X-MAP:URI=\"c?spbhid=ID\"\r\nd.ts?spbhid=ID"
        );
        assert_eq!(rewritten("\u{feff}#EXTM3U\na\n"), "\u{feff}#EXTM3U\na?spbhid=ID\n");
        assert_eq!(rewrite(b"#EXTM3U\n\xFF\xFE.ts", "ID", "").unwrap(), b"#EXTM3U\n\xFF\xFE.ts?spbhid=ID");
    }

    #[test]
    fn contexts_of_srs_are_kept() {
        assert_eq!(
            rewritten("#EXTM3U\n/live/a.m3u8?hls_ctx=367kg5m8&token=abc&spbhid=old\n"),
            "#EXTM3U\n/live/a.m3u8?hls_ctx=367kg5m8&token=abc&spbhid=ID\n"
        );
    }

    #[test]
    fn only_playlists_are_rewritten() {
        for text in ["", "#", "#EXTM3", "#EXTM3U8\na", "\n#EXTM3U\na", "a\n#EXTM3U", "<html></html>"] {
            assert_eq!(rewrite(text.as_bytes(), "ID", HOST), Err(PlaylistError::NoPlaylist), "{text:?}");
        }
        assert_eq!(rewritten("#EXTM3U"), "#EXTM3U");
        assert_eq!(rewritten("#EXTM3U x-a=\"b\"\n"), "#EXTM3U x-a=\"b\"\n");
    }

    #[test]
    fn a_result_has_a_limit() {
        let id = "i".repeat(10_000);
        let long = |count| {
            let playlist = format!("#EXTM3U\n{}", "a\n".repeat(count));
            rewrite(playlist.as_bytes(), &id, HOST).map(drop)
        };
        assert_eq!(long(MAX_OUTPUT / id.len() - 5), Ok(()));
        assert_eq!(long(MAX_OUTPUT / id.len() + 1), Err(PlaylistError::TooLong));
    }
}
