//! HLS and DASH through the proxy: players play, everything that a playlist names comes from its origin, and playlists
//! keep what they say.

use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin, Step};
use srs_proxy_tests::peers::nginx::Nginx;
use srs_proxy_tests::peers::playlist::{fetch_all, resolve, uris};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::{PATIENCE, ffmpeg, packaged, wait_until};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What an origin calls a playlist.
const TYPE: &str = "application/vnd.apple.mpegurl";

/// How long an origin may hold back the answer to a blocking reload; longer than any other answer may take.
const LONG_POLL: Duration = Duration::from_secs(20);

/// Packets of the film: a player that got less did not play it.
const FILM_PACKETS: usize = 1500;

type Make = fn(&Path);

/// The film as files: what it is called, who makes it, where it begins.
const FILMS: [(&str, Make, &str); 5] = [
    ("hls", packaged::hls, "x.m3u8"),
    ("fmp4", packaged::fragmented_mp4, "x.m3u8"),
    ("encrypted", packaged::encrypted, "x.m3u8"),
    ("variants", packaged::variants, "x.m3u8"),
    ("dash", packaged::dash, "x.mpd"),
];

/// A proxy before three origins, of which only the one picked for the film has it.
struct Cinema {
    proxy: Proxy,
    origins: [Nginx; 3],
    picked: usize,
    target: String,
}

impl Cinema {
    #[track_caller]
    fn with(name: &str, make: Make, start: &str) -> Self {
        let origins = [Nginx::start(), Nginx::start(), Nginx::start()];
        let proxy = Proxy::with(&[("PROXY_WORKERS", "2")]);
        for (number, origin) in origins.iter().enumerate() {
            proxy.register_http(&number.to_string(), origin.http());
        }
        let target = format!("/vod/{name}/{start}");
        assert_eq!(ask(&proxy, &target).status, 404);
        let holders = proxy.holders(&format!("__defaultVhost__/vod/{name}/x"));
        let picked = holders[0].parse().expect("its number");
        make(&folder(&origins, picked, name));
        Self { proxy, origins, picked, target }
    }

    fn file(&self, target: &str) -> Vec<u8> {
        let path = target.split('?').next().unwrap_or(target).trim_start_matches('/');
        fs::read(self.origins[self.picked].files().join(path)).unwrap_or_else(|why| panic!("{target}: {why}"))
    }
}

fn folder(origins: &[Nginx; 3], picked: usize, name: &str) -> std::path::PathBuf {
    origins[picked].files().join("vod").join(name)
}

#[track_caller]
fn ask(proxy: &Proxy, target: &str) -> Response {
    ask_for(proxy, &Request::get(target))
}

#[track_caller]
fn ask_for(proxy: &Proxy, request: &Request) -> Response {
    Connection::open(proxy.http()).expect("a connection").ask(request).expect("an answer")
}

#[test]
fn films_in_every_packaging_play_as_they_do_from_their_origin() {
    for (name, make, start) in FILMS {
        let cinema = Cinema::with(name, make, start);
        let direct = format!("http://{}{}", cinema.origins[cinema.picked].http(), cinema.target);
        let expected = ffmpeg::file_packets(&direct);
        assert!(expected.len() > FILM_PACKETS, "{name}: {} packets", expected.len());
        let played = ffmpeg::file_packets(&cinema.proxy.http_url(&cinema.target[1..]));
        assert!(played == expected, "{name}: {} packets instead of {}", played.len(), expected.len());
    }
}

#[test]
fn everything_a_playlist_names_comes_with_its_origins_bytes() {
    for (name, make, start) in FILMS.into_iter().filter(|(_, _, start)| start.ends_with("m3u8")) {
        let cinema = Cinema::with(name, make, start);
        let mut connection = Connection::open(cinema.proxy.http()).expect("a connection");
        let all = fetch_all(&mut connection, &cinema.target);
        assert!(all.len() > 15, "{name}: {} files", all.len());
        for (target, answer) in all {
            assert_eq!(answer.status, 200, "{name}: {target}");
            let path = target.split('?').next().unwrap_or_default();
            if !path.ends_with(".m3u8") {
                assert!(answer.body.0 == cinema.file(path), "{name}: {target}");
                assert!(target.contains("spbhid="), "{name}: {target}");
            }
        }
    }
}

#[test]
fn a_live_stream_of_nginx_plays_plain_and_encrypted() {
    let origins = [Nginx::start(), Nginx::start(), Nginx::start()];
    let proxy = Proxy::with(&[("PROXY_WORKERS", "2")]);
    for (number, origin) in origins.iter().enumerate() {
        proxy.register_serving(&number.to_string(), "1", origin.rtmp(), &[("http", origin.http())]);
    }
    for app in ["hls", "keyed"] {
        let _publisher = ffmpeg::Publisher::start(&proxy.url(&format!("{app}/x")));
        let target = format!("/{app}/x.m3u8?token=t");
        wait_until("there is a playlist", PATIENCE, || {
            let answer = ask(&proxy, &target);
            answer.status == 200 && uris(&answer.body.text()).len() >= 3
        });
        let url = proxy.http_url(&target[1..]);
        let ended = ffmpeg::decode_for(&url, 5, PATIENCE).success();
        assert!(ffmpeg::frames(&ended.stdout) >= 120, "{app}: {}", ended.stdout);
        assert_eq!(ffmpeg::codecs(&url), ["aac", "h264"], "{app}");
    }
}

/// The playlist that an origin's answers become.
#[track_caller]
fn rewritten(playlist: &str) -> (String, Response) {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, playlist.as_bytes()));
    let proxy = Proxy::before(origin.addr(), &[]);
    let answer = ask(&proxy, "/live/x.m3u8?token=t");
    assert_eq!(answer.status, 200);
    (answer.body.text(), answer)
}

#[test]
fn every_uri_of_the_session_carries_it_and_nothing_else_changes() {
    let playlist = "#EXTM3U\r\n#EXT-X-VERSION:9\r\n#EXT-X-TARGETDURATION:4\r\n\
        #EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"100@0\"\r\n\
        #EXT-X-KEY:METHOD=AES-128,URI=\"k.key?id=1\",IV=0x01\r\n\
        #EXTINF:4.0,a title, with URI=\"this\" in it\r\nx-0.ts\r\n\
        #EXTINF:4.0,\r\nx-1.ts?hls_ctx=abc\r\n\
        #EXTINF:4.0,\r\n/live/x-2.m4s\r\n\
        #EXTINF:4.0,\r\nhttp://elsewhere.test/x-3.ts\r\n\
        #EXT-X-PART:DURATION=1,URI=\"x-4.0.m4s\",INDEPENDENT=YES\r\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x-4.1.m4s\"\r\n# a comment\r\n\r\n#EXT-X-ENDLIST\r\n";
    let (text, answer) = rewritten(playlist);
    let named = uris(&text);
    let id = named[0].split_once("?spbhid=").expect("a session").1;
    let expected = playlist
        .replace("init.mp4", &format!("init.mp4?spbhid={id}"))
        .replace("k.key?id=1", &format!("k.key?id=1&spbhid={id}"))
        .replace("x-0.ts", &format!("x-0.ts?spbhid={id}"))
        .replace("hls_ctx=abc", &format!("hls_ctx=abc&spbhid={id}"))
        .replace("x-2.m4s", &format!("x-2.m4s?spbhid={id}"))
        .replace("x-4.0.m4s", &format!("x-4.0.m4s?spbhid={id}"))
        .replace("x-4.1.m4s", &format!("x-4.1.m4s?spbhid={id}"));
    assert_eq!(text, expected);
    assert_eq!(answer.header("content-type"), Some(TYPE));
    assert_eq!(answer.header("content-length"), Some(&text.len().to_string()[..]));
}

#[test]
fn a_playlist_is_rewritten_whatever_frames_it() {
    let playlist = b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n";
    let answers = [
        Answer::ok(TYPE, playlist),
        Answer::new(200, "OK").chunks(&[&playlist[..9], &playlist[9..]], &[("X-Sum", "7")]),
        Answer::new(200, "OK").until_close(playlist),
    ];
    for answer in answers {
        let origin = HttpOrigin::answering(answer);
        let proxy = Proxy::before(origin.addr(), &[]);
        let mut connection = Connection::open(proxy.http()).expect("a connection");
        for old in [false, true] {
            let request = Request::get("/live/x.m3u8");
            let request = if old { request.version_10() } else { request };
            let answer = connection.ask(&request).expect("an answer");
            assert!(answer.body.text().starts_with("#EXTM3U\n#EXTINF:1,\nx-0.ts?spbhid="), "{answer:?}");
            assert_eq!(answer.header("content-length"), Some(&answer.body.len().to_string()[..]));
        }
    }
}

#[test]
fn what_is_said_about_the_old_text_of_a_playlist_is_not_said_of_the_new() {
    let answer = Answer::new(200, "OK")
        .field("ETag", "\"old\"")
        .field("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        .field("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ==")
        .field("Accept-Ranges", "bytes")
        .field("Cache-Control", "no-cache")
        .body(b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n");
    let origin = HttpOrigin::answering(answer);
    let proxy = Proxy::before(origin.addr(), &[]);
    let answer = ask(&proxy, "/live/x.m3u8");
    for name in ["etag", "last-modified", "content-md5", "accept-ranges"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
}

#[test]
fn a_playlist_is_asked_for_whole_and_plain() {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, b"#EXTM3U\n"));
    let proxy = Proxy::before(origin.addr(), &[]);
    for target in ["/live/x.m3u8?a=b", "/live/x.mpd"] {
        origin.forget();
        let request = Request::get(target)
            .field("Accept-Encoding", "gzip, br")
            .field("Range", "bytes=0-9")
            .field("If-None-Match", "\"e\"")
            .field("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")
            .field("X-Kept", "1");
        assert_eq!(ask_for(&proxy, &request).status, 200);
        let seen = origin.only_request();
        assert_eq!(seen.target, target);
        assert_eq!(seen.fields.all("accept-encoding"), ["identity"]);
        for name in ["range", "if-none-match", "if-modified-since"] {
            assert_eq!(seen.fields.get(name), None, "{name}");
        }
        assert_eq!(seen.fields.get("x-kept"), Some("1"));
    }
}

#[test]
fn a_playlist_behind_gzip_is_rewritten() {
    let cinema = Cinema::with("hls", packaged::hls, "x.m3u8");
    let request = Request::get(&cinema.target).field("Accept-Encoding", "gzip");
    let answer = ask_for(&cinema.proxy, &request);
    assert_eq!(answer.header("content-encoding"), None);
    assert!(answer.body.contains("x-0.ts?spbhid="), "{answer:?}");
}

#[test]
fn only_a_playlist_that_is_there_is_rewritten() {
    let playlist = "#EXTM3U\nx-0.ts\n";
    let origin = HttpOrigin::start(move |seen| match &seen.target[..] {
        "/live/302.m3u8" => {
            Answer::new(302, "Found").field("Location", "/live/x.m3u8").body(playlist.as_bytes())
        }
        "/live/404.m3u8" => Answer::new(404, "Not Found").body(playlist.as_bytes()),
        "/live/text.ts" => Answer::ok(TYPE, playlist.as_bytes()),
        _ => Answer::ok("text/html", b"<html>x-0.ts</html>"),
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    for (target, status, body) in [
        ("/live/302.m3u8", 302, playlist),
        ("/live/404.m3u8", 404, playlist),
        ("/live/text.ts", 200, playlist),
        ("/live/html.m3u8", 200, "<html>x-0.ts</html>"),
    ] {
        let answer = ask(&proxy, target);
        assert_eq!((answer.status, &answer.body.text()[..]), (status, body), "{target}");
    }
}

#[test]
fn an_empty_playlist_is_told_to_be_empty() {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, b""));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    for _ in 0..2 {
        let answer = connection.ask(&Request::get("/live/x.m3u8")).expect("an answer");
        assert_eq!((answer.header("content-length"), answer.body.len()), (Some("0"), 0));
    }
}

#[test]
fn head_of_a_playlist_has_no_body_and_the_connection_goes_on() {
    let origin = HttpOrigin::answering(Answer::ok(TYPE, b"#EXTM3U\n#EXTINF:1,\nx-0.ts\n"));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    for _ in 0..3 {
        let head = connection.ask(&Request::new("HEAD", "/live/x.m3u8")).expect("an answer");
        assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some(TYPE), 0));
        // A length, if one is told, is that of what GET gets.
        let whole = connection.ask(&Request::get("/live/x.m3u8")).expect("an answer");
        let length = whole.body.len().to_string();
        assert!(head.header("content-length").is_none_or(|told| told == length), "{head:?}");
    }
}

/// An origin that does as SRS with `hls_ctx`: a master playlist for whoever comes without a context.
fn srs() -> HttpOrigin {
    HttpOrigin::start(|seen| {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let context = query.split('&').find_map(|pair| pair.strip_prefix("hls_ctx="));
        match (path.ends_with(".m3u8"), context) {
            (true, None) => {
                let uri = format!("{path}?hls_ctx=qs4d5f&token=t");
                let text = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1\n{uri}\n");
                Answer::ok(TYPE, text.as_bytes())
            }
            (true, Some("qs4d5f")) => {
                let text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1.0, no desc\nx-0.ts?hls_ctx=qs4d5f\n";
                Answer::ok(TYPE, text.as_bytes())
            }
            (false, Some("qs4d5f")) => Answer::ok("video/mp2t", b"media"),
            _ => Answer::new(403, "Forbidden"),
        }
    })
}

#[test]
fn a_master_playlist_with_a_context_as_of_srs_works() {
    let origin = srs();
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    let all = fetch_all(&mut connection, "/live/x.m3u8?token=t");
    let [master, media, segment] = &all[..] else { panic!("{all:?}") };
    assert!(all.iter().all(|(_, answer)| answer.status == 200), "{all:?}");
    assert_eq!(segment.1.body.text(), "media");
    let id = media.0.split_once("spbhid=").expect("a session").1;
    assert_eq!(media.0, format!("/live/x.m3u8?hls_ctx=qs4d5f&token=t&spbhid={id}"));
    assert_eq!(segment.0, format!("/live/x-0.ts?hls_ctx=qs4d5f&spbhid={id}"));
    // A reload of either is of the same session.
    for (target, answer) in [master, media] {
        assert_eq!(connection.ask(&Request::get(target)).expect("an answer").body, answer.body);
    }
}

#[test]
fn a_blocking_reload_may_take_its_time() {
    let origin = HttpOrigin::answering(Answer::raw(b"").then(Step::After(LONG_POLL)).then(Step::Send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n#EXTM3U\n#EXTINF:1,\nx-7.m4s\n".to_vec(),
    )));
    let proxy = Proxy::before(origin.addr(), &[]);
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    connection.set_patience(LONG_POLL + PATIENCE);
    let start = Instant::now();
    let target = "/live/x.m3u8?_HLS_msn=7&_HLS_part=2";
    let answer = connection.ask(&Request::get(target)).expect("an answer");
    assert!(start.elapsed() >= LONG_POLL);
    assert!(answer.status == 200 && answer.body.contains("x-7.m4s?spbhid="), "{answer:?}");
    assert_eq!(origin.only_request().target, target);
}

#[test]
fn a_manifest_of_dash_leads_its_relative_uris_through_the_session() {
    let manifest = "<?xml version=\"1.0\"?>\n<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"><Period>\
        <AdaptationSet><SegmentTemplate media=\"chunk-$Number$.m4s\" initialization=\"init.m4s\"/>\
        </AdaptationSet></Period></MPD>\n";
    let origin = HttpOrigin::start(move |seen| match &seen.target[..] {
        "/live/x.mpd?token=t" => Answer::ok("application/dash+xml", manifest.as_bytes()),
        "/live/chunk-1.m4s?a=b%2F" => Answer::ok("video/mp4", b"media"),
        _ => Answer::new(404, "Not Found"),
    });
    let proxy = Proxy::before(origin.addr(), &[]);
    let answer = ask(&proxy, "/live/x.mpd?token=t");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/dash+xml")));
    let text = answer.body.text();
    assert_eq!(answer.header("content-length"), Some(&text.len().to_string()[..]));
    let base =
        text.split_once("<BaseURL>").and_then(|(_, rest)| rest.split_once("</BaseURL>")).expect("a base").0;
    assert!(base.starts_with("/spbhid/") && base.ends_with("/live/"), "{text}");
    assert_eq!(text.replace(&format!("<BaseURL>{base}</BaseURL>"), ""), manifest);
    let segment = resolve("/live/x.mpd", &format!("{base}chunk-1.m4s?a=b%2F"));
    let answer = ask(&proxy, &segment);
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "media"));
    let again = ask(&proxy, "/live/x.mpd?token=t");
    assert_eq!(again.body.text(), text, "the session stays");
}
