//! Playlists and manifests as clients read them, with parsers and a resolver of URLs that the proxy does not use: whether
//! what the proxy made of one leads where it should. Rewrites nothing itself.

use m3u8_rs::{ExtTag, MediaPlaylist, Playlist, SessionDataField};
use roxmltree::{Document, Node};
use srs_proxy_core::http::manifest::{self, ManifestError};
use srs_proxy_core::http::playlist::{self, PlaylistError};
use url::Url;

/// The session's id.
pub const ID: &str = "Abc-123";
/// The path of the session.
pub const PREFIX: &str = "/spbhid/Abc-123";
/// The host that the client asked.
pub const HOST: &str = "example.com:8080";
/// Where the client had the playlist or manifest from.
pub const DOCUMENT: &str = "http://example.com:8080/live/cam?token=t";
/// Its directory.
pub const DIRECTORY: &str = "/live/";

// Playlists.

/// Whether the client takes it for a URI of its own host, and not for one of another or of none.
fn is_own(uri: &str) -> bool {
    Url::parse(DOCUMENT).and_then(|document| document.join(uri)).is_ok_and(|url| is_on_host(&url))
}

/// Over which of the two schemes the client came is not known.
fn is_on_host(url: &Url) -> bool {
    let authority =
        url.host_str().zip(url.port_or_known_default()).map(|(host, port)| format!("{host}:{port}"));
    ["http", "https"].contains(&url.scheme()) && authority.is_some_and(|authority| authority == HOST)
}

/// The URI without any id, and how often it had this one. Empty parameters do not count.
fn without_id(uri: &str) -> (String, usize) {
    let (resource, fragment) = uri.find('#').map_or((uri, ""), |at| uri.split_at(at));
    let Some((path, query)) = resource.split_once('?') else { return (uri.to_owned(), 0) };
    let (ids, others): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| *pair == "spbhid" || pair.starts_with("spbhid="));
    let others: Vec<_> = others.into_iter().filter(|pair| !pair.is_empty()).collect();
    let mark = if others.is_empty() { "" } else { "?" };
    let count = ids.iter().filter(|pair| **pair == format!("spbhid={ID}")).count();
    assert!(count == 0 || ids.len() == count, "{uri} has another id too");
    (format!("{path}{mark}{}{fragment}", others.join("&")), count)
}

/// A line as pieces that are URIs or not.
fn pieces(line: &str) -> Vec<(&str, bool)> {
    if line.trim().is_empty() {
        return vec![(line, false)];
    }
    if !line.trim_start().starts_with('#') {
        return vec![(line.trim(), true)];
    }
    if !line.starts_with("#EXT-X-") || !line.matches('"').count().is_multiple_of(2) {
        return vec![(line, false)];
    }
    let mut before = "";
    let pieces = line.split('"').enumerate().map(|(n, piece)| {
        let name = before.rsplit([':', ',']).next().unwrap_or(before).trim();
        let is_asset = line.starts_with("#EXT-X-DATERANGE:") && name.starts_with("X-ASSET-");
        let is_server = line.starts_with("#EXT-X-CONTENT-STEERING:") && name == "SERVER-URI=";
        before = piece;
        (piece, n % 2 == 1 && (name == "URI=" || is_asset || is_server))
    });
    pieces.collect()
}

/// What a parser that the proxy does not use has read, without ids. None if it cannot read it.
pub fn parsed(text: &str) -> Option<Playlist> {
    let forget = |uri: &mut String| *uri = without_id(uri).0;
    let forget_tags = |tags: &mut Vec<ExtTag>| {
        for rest in tags.iter_mut().filter_map(|tag| tag.rest.as_mut()) {
            let quoted = rest.split('"').enumerate().map(|(n, text)| match n % 2 {
                1 => without_id(text).0,
                _ => text.to_owned(),
            });
            *rest = quoted.collect::<Vec<_>>().join("\"");
        }
    };
    let mut playlist = m3u8_rs::parse_playlist_res(text.as_bytes()).ok()?;
    match &mut playlist {
        Playlist::MasterPlaylist(master) => {
            master.variants.iter_mut().for_each(|variant| forget(&mut variant.uri));
            master.alternatives.iter_mut().filter_map(|media| media.uri.as_mut()).for_each(forget);
            master.session_key.iter_mut().filter_map(|key| key.0.uri.as_mut()).for_each(forget);
            for data in &mut master.session_data {
                if let SessionDataField::Uri(uri) = &mut data.field {
                    forget(uri);
                }
            }
            forget_tags(&mut master.unknown_tags);
        }
        Playlist::MediaPlaylist(MediaPlaylist { segments, unknown_tags, .. }) => {
            for segment in segments {
                forget(&mut segment.uri);
                segment.key.iter_mut().filter_map(|key| key.uri.as_mut()).for_each(forget);
                segment.map.iter_mut().for_each(|map| forget(&mut map.uri));
                forget_tags(&mut segment.unknown_tags);
            }
            forget_tags(unknown_tags);
        }
    }
    Some(playlist)
}

/// Holds what became of any bytes against what must hold for all.
pub fn check_playlist(original: &[u8]) -> Option<Vec<u8>> {
    let rewritten = match playlist::rewrite(original, ID, HOST) {
        Ok(rewritten) => rewritten,
        Err(PlaylistError::TooLong) => return None,
        Err(PlaylistError::NoPlaylist) => {
            let text = original.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(original);
            assert!(!text.starts_with(b"#EXTM3U\n"), "it is one");
            return None;
        }
    };
    assert_eq!(playlist::rewrite(&rewritten, ID, HOST).as_ref(), Ok(&rewritten), "again");
    assert_eq!(lines(original).count(), lines(&rewritten).count());
    for (before, after) in lines(original).zip(lines(&rewritten)) {
        assert!(before == after || after.windows(7).any(|bytes| bytes == b"spbhid="), "{before:?} {after:?}");
        assert_eq!(before.ends_with(b"\r\n"), after.ends_with(b"\r\n"));
        assert_eq!(before.ends_with(b"\n"), after.ends_with(b"\n"));
    }
    Some(rewritten)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// Holds what became of a playlist against how clients read it.
pub fn compare_playlists(original: &str) {
    let rewritten = check_playlist(original.as_bytes()).expect("a playlist");
    let rewritten = String::from_utf8(rewritten).expect("UTF-8");
    for (before, after) in original.lines().zip(rewritten.lines()) {
        assert_eq!(pieces(before).len(), pieces(after).len(), "{before} {after}");
        for ((before, was_uri), (after, is_uri)) in pieces(before).into_iter().zip(pieces(after)) {
            assert_eq!(was_uri, is_uri, "{before} {after}");
            let named = before.split('#').next().is_some_and(|resource| !resource.is_empty());
            if was_uri && named && is_own(before) {
                assert_eq!(without_id(after), (without_id(before).0, 1), "{before}");
            } else {
                assert_eq!(before, after);
            }
        }
    }
    let (before, after) = (parsed(original), parsed(&rewritten));
    assert!(before.is_some(), "not read: {original}");
    assert_eq!(before, after);
}

// Manifests.

/// Every reference of an MPD in the document's order, resolved against each of its bases (§5.6.4), but for what has none:
/// `Location`.
pub fn resolved(mpd: &Document<'_>) -> Vec<Vec<Url>> {
    let mut found = Vec::new();
    resolve(mpd.root_element(), &[Url::parse(DOCUMENT).expect("a URL")], &mut found);
    found
}

fn resolve(element: Node<'_, '_>, bases: &[Url], found: &mut Vec<Vec<Url>>) {
    let against = |bases: &[Url], reference: &str| -> Vec<Url> {
        bases.iter().map(|base| base.join(reference).expect("a reference")).collect()
    };
    const XLINK: &str = "http://www.w3.org/1999/xlink";
    let namespace = element.tag_name().namespace();
    let of_schema = namespace == element.document().root_element().tag_name().namespace();
    for attribute in element.attributes() {
        let is_uri = match attribute.name() {
            "media" | "index" | "initialization" | "bitstreamSwitching" | "sourceURL" => of_schema,
            name => name == "href" && attribute.namespace() == Some(XLINK),
        };
        if is_uri && !attribute.value().trim().is_empty() {
            found.push(against(bases, attribute.value()));
        }
    }
    let mut own = Vec::new();
    let is_base = |child: &Node<'_, '_>| {
        child.tag_name().name() == "BaseURL" && child.tag_name().namespace() == namespace
    };
    for child in element.children().filter(is_base) {
        let reference: String =
            child.children().filter(Node::is_text).filter_map(|node| node.text()).collect();
        own.extend(against(bases, reference.trim()));
    }
    if !own.is_empty() {
        found.push(own.clone());
    }
    let bases = if own.is_empty() { bases } else { &own };
    for child in element.children().filter(Node::is_element) {
        resolve(child, bases, found);
    }
}

/// Holds what became of any bytes against what must hold for all.
pub fn check_manifest(original: &[u8]) -> Result<Vec<u8>, ManifestError> {
    let rewritten = manifest::rewrite(original, PREFIX, DIRECTORY, HOST)?;
    assert_eq!(manifest::rewrite(&rewritten, PREFIX, DIRECTORY, HOST).as_ref(), Ok(&rewritten), "again");
    let mut rest = rewritten.iter();
    assert!(original.iter().all(|byte| rest.any(|other| other == byte)), "something is lost");
    let text = std::str::from_utf8(original).expect("UTF-8");
    if let Ok(before) = Document::parse(text) {
        let text = std::str::from_utf8(&rewritten).expect("UTF-8");
        let after = Document::parse(text).expect("well-formed as before");
        let count = |document: &Document<'_>| document.descendants().filter(Node::is_element).count();
        assert!((0..=1).contains(&(count(&after) - count(&before))), "more than a BaseURL");
    }
    Ok(rewritten)
}

/// Holds what became of a manifest against where clients are led. It must not name an `http` URL of the host that has the
/// prefix already. Gives how many references there were.
pub fn compare_manifests(original: &str) -> Result<usize, ManifestError> {
    let rewritten = String::from_utf8(check_manifest(original.as_bytes())?).expect("UTF-8");
    let [before, mut after] =
        [original, &rewritten].map(|text| resolved(&Document::parse(text).expect("well-formed XML")));
    if after.len() > before.len() {
        let session = Url::parse(DOCUMENT).and_then(|url| url.join(&format!("{PREFIX}{DIRECTORY}")));
        assert_eq!(after.remove(0), [session.expect("a URL")], "{rewritten}");
    }
    assert_eq!(before.len(), after.len(), "{rewritten}");
    for (before, after) in before.iter().zip(&after) {
        let led: Vec<_> = before.iter().cloned().map(led).collect();
        assert_eq!(&led, after, "{original}\n{rewritten}");
    }
    Ok(before.len())
}

/// Where a URL of the original must lead.
fn led(mut url: Url) -> Url {
    if is_on_host(&url) {
        let path = format!("{PREFIX}{}", url.path());
        url.set_path(&path);
    }
    url
}
