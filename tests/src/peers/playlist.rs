//! What an HLS playlist names, and where that is (RFC 8216 §4.1, §4.2; RFC 3986 §5.2). Fetches nothing but on request.

use super::http::{Connection, Request, Response};

/// All URIs of a playlist in their order: lines that are URIs, and the attribute `URI` of tags.
pub fn uris(playlist: &str) -> Vec<&str> {
    let uri = |line: &'_ str| -> Option<(usize, usize)> {
        match line.strip_prefix('#') {
            None => (!line.trim().is_empty()).then_some((0, line.len())),
            Some(_) => {
                let start =
                    [":URI=\"", ",URI=\""].iter().find_map(|name| Some(line.find(name)? + name.len()))?;
                Some((start, start + line[start..].find('"')?))
            }
        }
    };
    playlist.lines().filter_map(|line| uri(line).map(|(start, end)| &line[start..end])).collect()
}

/// The target of a URI that a playlist at this target names. A whole URL keeps its path and query only.
pub fn resolve(base: &str, uri: &str) -> String {
    if let Some((_, rest)) = uri.split_once("://") {
        return rest.find('/').map_or("/", |at| &rest[at..]).to_owned();
    }
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let path = base.split('?').next().unwrap_or(base);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut folders: Vec<_> = folder.split('/').collect();
    let mut rest = uri;
    loop {
        if let Some(up) = rest.strip_prefix("../") {
            if folders.len() > 1 {
                folders.pop();
            }
            rest = up;
        } else if let Some(here) = rest.strip_prefix("./") {
            rest = here;
        } else {
            return format!("{}/{rest}", folders.join("/"));
        }
    }
}

/// Fetches a playlist and everything that it and the playlists in it name. Gives the targets and answers in the order
/// in which they are named; a playlist comes before what it names.
#[track_caller]
pub fn fetch_all(connection: &mut Connection, target: &str) -> Vec<(String, Response)> {
    let answer = connection.ask(&Request::get(target)).unwrap_or_else(|why| panic!("{target}: {why}"));
    let text = answer.body.text();
    let mut all = vec![(target.to_owned(), answer)];
    if text.starts_with("#EXTM3U") {
        for uri in uris(&text) {
            all.extend(fetch_all(connection, &resolve(target, uri)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_found_in_lines_and_attributes() {
        let playlist = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k.key?a=b,c\",IV=0x1\n#EXTINF:1,URI\nx-0.ts\n\n\
                        #EXT-X-MAP:URI=\"init.mp4\"\n#comment\n/abs/x.ts?q\n";
        assert_eq!(uris(playlist), ["k.key?a=b,c", "x-0.ts", "init.mp4", "/abs/x.ts?q"]);
    }

    #[test]
    fn uris_are_resolved_against_their_playlist() {
        for (uri, target) in [
            ("x.ts?a=b", "/live/s/x.ts?a=b"),
            ("./x.ts", "/live/s/x.ts"),
            ("../x.ts", "/live/x.ts"),
            ("../../../x.ts", "/x.ts"),
            ("/x.ts", "/x.ts"),
            ("http://h:1/a/x.ts?b", "/a/x.ts?b"),
        ] {
            assert_eq!(resolve("/live/s/index.m3u8?token=a/b", uri), target, "{uri}");
        }
    }
}
