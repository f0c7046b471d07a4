//! Properties of what becomes of playlists and manifests, generated and real: clients read the same as before, and are led
//! to the session by each URI of the host, once, and by no other.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use srs_proxy_core::http::manifest::ManifestError;
use srs_proxy_tests::rewriting::{ID, compare_manifests, compare_playlists, parsed};
use std::fs;
use std::path::Path;

/// Names and texts of the fixtures in a folder.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut fixtures: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect();
    fixtures.sort();
    assert!(fixtures.len() >= 5, "{}", folder.display());
    fixtures
}

#[test]
fn real_playlists_are_read_as_before() {
    for (name, text) in fixtures("hls") {
        println!("{name}");
        assert!(parsed(&text).is_some());
        for text in [text.clone(), text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
            compare_playlists(&text);
        }
    }
}

#[test]
fn real_manifests_lead_to_the_session() {
    for (name, text) in fixtures("dash") {
        println!("{name}");
        let count = compare_manifests(&text);
        assert!(count.is_ok_and(|count| count >= 2), "{count:?}");
        for base in ["cam/", "/vod/", "http://example.com:8080/", "http://other.net/"] {
            let start = text.find("<Period").expect("a period");
            let based = format!("{}<BaseURL>{base}</BaseURL>{}", &text[..start], &text[start..]);
            assert_eq!(compare_manifests(&based), count.map(|count| count + 1), "{base}");
        }
    }
}

/// A URI, often of the host.
fn uri() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "",
        "",
        "",
        "a/",
        "../",
        "./",
        "/",
        "/vod/",
        "//example.com:8080/",
        "http://example.com:8080/live/",
        "HTTPS://user@EXAMPLE.com:8080/",
        "//other.net/",
        "https://other.net:8080/",
        "http://example.com/",
    ]);
    let name =
        prop::sample::select(vec!["cam-1.ts", "b.m4s", "k", "a b.mp4", "é.ts", "d,e.ts", "%41.ts", "f=g"]);
    let parameter = prop::sample::select(vec![
        "",
        "token=x/y",
        "hls_ctx=367kg5m8",
        "spbhid=old",
        "spbhid",
        "spbhid2=a",
        "b=c?d",
    ]);
    let query = prop::option::weighted(0.5, prop::collection::vec(parameter, 0..4));
    let fragment = prop::sample::select(vec!["", "", "", "#", "#t=1", "#?a&spbhid=f"]);
    let foreign = prop::sample::select(vec!["data:text/plain,a?b", "skd://key?a", "urn:a:b"]);
    prop_oneof![
        9 => (start, name, query, fragment).prop_map(|(start, name, query, fragment)| {
            let query = query.map_or(String::new(), |pairs| format!("?{}", pairs.join("&")));
            format!("{start}{name}{query}{fragment}")
        }),
        1 => foreign.prop_map(str::to_owned),
    ]
}

/// Lines of which each is in its place anywhere in a media playlist, or in a master playlist.
fn lines(media: bool) -> impl Strategy<Value = String> {
    let forms = if media {
        vec![
            "#EXTINF:2.0,title, URI=\"x\"\nURI",
            "#EXTINF:2.0,\n#EXT-X-BYTERANGE:10@0\nURI",
            "#EXT-X-MAP:URI=\"URI\",BYTERANGE=\"1@0\"\n#EXTINF:1,\nURI",
            "#EXT-X-KEY:METHOD=AES-128,URI=\"URI\",IV=0x1\n#EXTINF:1,\nURI",
            "#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\nURI",
            "#EXT-X-PART:DURATION=0.3,URI=\"URI\",INDEPENDENT=YES\n#EXTINF:1,\nURI",
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"URI\"",
            "#EXT-X-RENDITION-REPORT:URI=\"URI\",LAST-MSN=2",
            "#EXT-X-DATERANGE:ID=\"a,URI=b\",START-DATE=\"2026-11-22T15:24:56.634Z\",X-OTHER=\"c\"",
            "#EXT-X-DISCONTINUITY",
            "#EXT-X-OURS:X-URI=\"a\",URI=\"URI\", URI-X=\"b\"",
            "# a comment, URI=\"x\"",
            "",
        ]
    } else {
        vec![
            "#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a,URI=b\"\nURI",
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"n,URI=m\",URI=\"URI\"",
            "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"URI\"",
            "#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,URI=\"URI\"",
            "#EXT-X-SESSION-DATA:DATA-ID=\"a\",URI=\"URI\"",
            "#EXT-X-SESSION-DATA:DATA-ID=\"a\",VALUE=\"URI=b\"",
            "#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"URI\"",
            "#EXT-X-CONTENT-STEERING:SERVER-URI=\"URI\",PATHWAY-ID=\"a\"",
            "#EXT-X-DEFINE:NAME=\"a\",VALUE=\"b\"",
            "# a comment",
            "",
        ]
    };
    (prop::sample::select(forms), prop::collection::vec(uri(), 2)).prop_map(|(form, uris)| {
        uris.iter().fold(form.to_owned(), |form, uri| {
            let place = form.find("URI\"").filter(|at| form[..*at].ends_with('"'));
            match place.or_else(|| form.ends_with("\nURI").then(|| form.len() - 3)) {
                Some(at) => format!("{}{uri}{}", &form[..at], &form[at + 3..]),
                None => form,
            }
        })
    })
}

fn playlists() -> impl Strategy<Value = String> {
    let media = (Just("#EXT-X-TARGETDURATION:2"), prop::collection::vec(lines(true), 0..12));
    let first = "#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8";
    let master = (Just(first), prop::collection::vec(lines(false), 0..12));
    (prop_oneof![media, master], any::<bool>(), any::<bool>()).prop_map(|((first, lines), crlf, ended)| {
        let mut text = format!("#EXTM3U\n{first}\n{}", lines.join("\n"));
        // The parser takes a tag that does not end for a URI.
        if ended || text.lines().last().is_some_and(|line| line.starts_with('#')) {
            text += "\n";
        }
        if crlf { text.replace('\n', "\r\n") } else { text }
    })
}

/// A reference in an MPD, without what XML would have to escape.
fn reference() -> BoxedStrategy<String> {
    let start = prop::sample::select(vec![
        "",
        "",
        "a/",
        "a/b/",
        "./",
        "../",
        "c/../../",
        "/",
        "/vod/",
        "//example.com:8080/d/",
        "http://Example.com:8080/",
        "https://user@example.com:8080/e/",
        "http://other.net/f/",
        "//other.net/",
    ]);
    let name =
        prop::sample::select(vec!["", "g/", "g", "$RepresentationID$-$Number%05d$.m4s", "?h", "i?j&amp;k#l"]);
    let query = prop::sample::select(vec!["", "", "?m=/../n"]);
    (start, name, query).prop_map(|(start, name, query)| format!("{start}{name}{query}")).boxed()
}

/// `BaseURL` elements, none of them empty, with what may stand around their content.
fn bases() -> impl Strategy<Value = String> {
    let one = (reference(), 0..5)
        .prop_map(|(uri, form)| match form {
            _ if uri.is_empty() => String::new(),
            0 => format!("<BaseURL>\n {uri} </BaseURL>"),
            1 => format!(
                "<BaseURL serviceLocation='/a'><!-- b --><![CDATA[{}]]></BaseURL>\n",
                uri.replace("&amp;", "&")
            ),
            _ => format!("<BaseURL>{uri}</BaseURL>"),
        })
        .boxed();
    prop_oneof![
        3 => Just(String::new()),
        3 => one.clone(),
        1 => (one.clone(), one).prop_map(|(a, b)| a + &b),
    ]
}

fn manifests() -> impl Strategy<Value = String> {
    let segments = (reference(), reference(), 0..5)
        .prop_map(|(a, b, form)| match form {
            0 => format!("<SegmentTemplate media='{a}' initialization=\"{b}\"/>"),
            1 => {
                format!(
                    "<SegmentList><Initialization sourceURL='{a}'/><SegmentURL media=\"{b}\"/></SegmentList>"
                )
            }
            2 => format!(
                "<SegmentBase><RepresentationIndex sourceURL=' {a} '/></SegmentBase><x:y index='{b}'/>"
            ),
            3 => format!("<SegmentTemplate index = '{a}' bitstreamSwitching='{b}'></SegmentTemplate>"),
            _ => {
                "<!-- <SegmentURL media='/a'/> --><Event><![CDATA[<BaseURL>/a</BaseURL>]]></Event>".to_owned()
            }
        })
        .boxed();
    let level = |name: &'static str, inner: BoxedStrategy<String>| {
        let link = prop::option::weighted(0.2, reference());
        (link, bases(), prop::collection::vec(inner, 0..3))
            .prop_map(move |(link, bases, inner)| {
                let link = link.map_or(String::new(), |uri| format!(" xlink:href='{uri}'"));
                format!("<{name}{link}>{bases}{}</{name}>", inner.concat())
            })
            .boxed()
    };
    let representation = level("Representation", segments.clone());
    let set = level("AdaptationSet", prop_oneof![representation, segments.clone()].boxed());
    let period = level("Period", prop_oneof![3 => set, 1 => segments].boxed());
    let before = prop::sample::select(vec![
        "",
        "\n",
        "<!-- a -->",
        "<ProgramInformation><Title>t</Title></ProgramInformation>",
    ]);
    (before, bases(), prop::collection::vec(period, 0..3)).prop_map(|(before, bases, periods)| {
        format!(
            "<?xml version='1.0'?>\n<MPD xmlns='urn:mpeg:dash:schema:mpd:2011' xmlns:xlink='http://www.w3.org/1999/xlink' \
             xmlns:x='urn:x'>{before}{bases}<Location>/live/x.mpd</Location>{}</MPD>",
            periods.concat()
        )
    })
}

proptest! {
    #[test]
    fn playlists_are_read_as_before(playlist in playlists()) {
        compare_playlists(&playlist);
    }

    #[test]
    fn manifests_lead_to_the_session(manifest in manifests()) {
        match compare_manifests(&manifest) {
            Ok(_) | Err(ManifestError::Unclear) => {}
            Err(why) => prop_assert!(false, "{why}: {manifest}"),
        }
    }
}

#[test]
fn most_generated_manifests_are_clear() {
    let mut runner = TestRunner::deterministic();
    let clear = (0..200).filter(|_| {
        let tree = manifests().new_tree(&mut runner).expect("a manifest");
        compare_manifests(&tree.current()).is_ok()
    });
    assert!(clear.count() > 60, "else they show nothing");
}

#[test]
fn the_parser_tells_when_something_changed() {
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n";
    assert_eq!(parsed(playlist), parsed(&playlist.replace("a.ts", &format!("a.ts?spbhid={ID}"))));
    assert_ne!(parsed(playlist), parsed(&playlist.replace("a.ts", &format!("b.ts?spbhid={ID}"))));
}
