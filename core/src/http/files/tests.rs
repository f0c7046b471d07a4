use super::super::fields::Version;
use super::super::response::Hearer;
use super::*;
use crate::http::head::HeadReader;
use crate::machine::Parsed;
use proptest::prelude::*;

/// Sun, 06 Nov 1994 08:49:37 GMT
const CHANGED: u64 = 784_111_777;
const FILE: FileInfo = FileInfo { is_directory: false, length: 1000, modified: CHANGED };
const DIRECTORY: FileInfo = FileInfo { is_directory: true, length: 4096, modified: CHANGED };
const TAG: &str = "\"2ebc98a1-3e8\"";

fn try_request(method: &str, target: &str, fields: &[&str]) -> Result<FileRequest, Plan> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let text = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    match HeadReader::default().read(text.as_bytes()) {
        Ok(Parsed::Complete(head, _)) => FileRequest::new(&head),
        other => panic!("{text:?}: {other:?}"),
    }
}

fn request(fields: &[&str]) -> FileRequest {
    try_request("GET", "/a.mp4", fields).unwrap()
}

/// Status and range of the answer to a request with these fields.
fn answer(fields: &[&str]) -> (u16, Range<u64>) {
    let plan = request(fields).opened(&FILE);
    (plan.status.0, plan.range)
}

fn field<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
    plan.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

fn head(plan: &Plan) -> String {
    let hearer = Hearer { version: Version::Http11, to_head: plan.to_head, keep_alive: true };
    String::from_utf8(plan.head(Response::new(plan.status, hearer)).to_vec()).unwrap()
}

#[test]
fn a_path_names_a_file_below_the_directory() {
    for (path, file) in [
        ("/", "index.html"),
        ("//", "index.html"),
        ("/a", "a"),
        ("/a/", "a/index.html"),
        ("/a/b.html", "a/b.html"),
        ("//a//b", "a/b"),
        ("/a%20b/%E7%9B%B4.png", "a b/直.png"),
        ("/直", "直"),
        ("/50%25", "50%"),
        ("/a%252e%252e", "a%2e%2e"),
        ("/%252e%252e/a", "%2e%2e/a"),
        ("/a..b/c.", "a..b/c."),
        ("/.well-known/acme", ".well-known/acme"),
        ("/%2ewell-known/acme", ".well-known/acme"),
        ("/a:b;c=d+e~f", "a:b;c=d+e~f"),
    ] {
        assert_eq!(locate(path).as_deref(), Some(file), "{path}");
    }
}

#[test]
fn a_path_that_escapes_hides_or_tricks_names_nothing() {
    for path in [
        "",
        "*",
        "a",
        "/..",
        "/../etc/passwd",
        "/a/../b",
        "/a/..",
        "/.",
        "/./a",
        "/%2e%2e/a",
        "/%2E./a",
        "/.%2e/a",
        "/a/%2e%2e%2fb",
        "/..%2fa",
        "/a%2Fb",
        "/a%2f..%2fb",
        "/..%5ca",
        "/a\\b",
        "/a%5Cb",
        "/\\evil",
        "/a%00.html",
        "/a%0d%0aSet-Cookie:x",
        "/a%7f",
        "/a%C2%85",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%+1",
        "/%c0%ae%c0%ae/a",
        "/%ff",
        "/.git/config",
        "/.env",
        "/a/.htpasswd",
        "/%2egit/config",
        "/a/.well-known",
        "/.well-knowns",
    ] {
        assert_eq!(locate(path), None, "{path}");
    }
    assert!(locate(&format!("/{}", "a".repeat(MAX_PATH - 1))).is_some());
    assert_eq!(locate(&format!("/{}", "a".repeat(MAX_PATH))), None);
}

#[test]
fn types_are_told_by_the_extension_and_text_says_its_charset() {
    for (path, content_type) in [
        ("index.html", "text/html; charset=utf-8"),
        ("a/b.min.JS", "text/javascript; charset=utf-8"),
        ("a.m3u8", "application/vnd.apple.mpegurl"),
        ("a.mpd", "application/dash+xml"),
        ("a.ts", "video/mp2t"),
        ("a.svg", "image/svg+xml"),
        ("html", "application/octet-stream"),
        ("a.html/b", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
    ] {
        assert_eq!(super::content_type(path), content_type, "{path}");
    }
}

#[test]
fn a_file_is_sent_whole_with_its_validators() {
    let plan = request(&[]).opened(&FILE);
    assert_eq!(plan.range, 0..1000);
    assert_eq!(
        head(&plan),
        format!(
            "HTTP/1.1 200 OK\r\nETag: {TAG}\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Accept-Ranges: bytes\r\nContent-Type: video/mp4\r\nContent-Length: 1000\r\n\r\n"
        )
    );
}

#[test]
fn head_gets_the_same_head_and_no_part() {
    let plan = try_request("HEAD", "/a.mp4", &["Range: bytes=0-9"]).unwrap().opened(&FILE);
    assert_eq!((plan.status, plan.range.clone()), (Status::OK, 0..0));
    assert_eq!(head(&plan), head(&request(&[]).opened(&FILE)));
    let missing = try_request("HEAD", "/.env", &[]).unwrap_err();
    assert!(head(&missing).ends_with("Content-Length: 10\r\n\r\n"));
}

#[test]
fn other_methods_are_refused_with_those_allowed() {
    for method in ["POST", "PUT", "DELETE", "get", "OPTIONS", "M-SEARCH"] {
        let plan = try_request(method, "/a", &[]).unwrap_err();
        assert_eq!((plan.status, field(&plan, "Allow")), (Status::METHOD_NOT_ALLOWED, Some(METHODS)));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let hidden = try_request("GET", "/.env", &[]).unwrap_err();
    assert!(head(&hidden).ends_with("Content-Length: 10\r\n\r\nNot Found\n"));
    assert_eq!(request(&[]).failed(OpenError::Unreachable).status, Status::NOT_FOUND);
    assert_eq!(request(&[]).failed(OpenError::Exhausted).status, Status::UNAVAILABLE);
    // A directory is called `index.html`.
    assert_eq!(try_request("GET", "/a/", &[]).unwrap().opened(&DIRECTORY).status, Status::NOT_FOUND);
}

#[test]
fn a_directory_is_redirected_to_its_path_on_this_host() {
    for (target, location) in [
        ("/a", "/a/"),
        ("/a?b=c&d", "/a/?b=c&d"),
        ("/a/b", "/a/b/"),
        ("//evil.com", "/evil.com/"),
        ("///evil.com/%2e.", ""),
        ("/%5cevil.com", ""),
        ("/%09/evil.com", ""),
        ("/a%20b%3fc%23d%25", "/a%20b%3Fc%23d%25/"),
        ("/%E7%9B%B4", "/%E7%9B%B4/"),
        ("http://other.net/a", "/a/"),
        ("http://other.net//evil.com", "/evil.com/"),
        ("/http://evil.com", "/http:/evil.com/"),
    ] {
        match try_request("GET", target, &["If-None-Match: *", "Range: bytes=0-0"]) {
            Ok(request) => {
                let plan = request.opened(&DIRECTORY);
                assert_eq!(plan.status, Status::MOVED_PERMANENTLY, "{target}");
                assert_eq!(field(&plan, "Location"), Some(location), "{target}");
            }
            Err(plan) => assert_eq!((plan.status, location), (Status::NOT_FOUND, ""), "{target}"),
        }
    }
}

#[test]
fn one_range_is_served_and_what_cannot_be_is_refused_or_ignored() {
    for (value, status, range) in [
        ("bytes=0-0", 206, 0..1),
        ("bytes=0-999", 206, 0..1000),
        ("bytes=0-", 206, 0..1000),
        ("bytes=10-19", 206, 10..20),
        ("bytes=999-5000", 206, 999..1000),
        ("bytes=990-", 206, 990..1000),
        ("bytes=-1", 206, 999..1000),
        ("bytes=-1000", 206, 0..1000),
        ("bytes=-5000", 206, 0..1000),
        ("bytes=0-99999999999999999999999999", 206, 0..1000),
        ("bytes=0-18446744073709551615", 206, 0..1000),
        ("Bytes= ,10-19 ,", 206, 10..20),
        ("bytes=1000-", 416, 0..0),
        ("bytes=1000-2000", 416, 0..0),
        ("bytes=99999999999999999999999999-", 416, 0..0),
        ("bytes=-0", 416, 0..0),
        ("bytes=0-1,3-4", 200, 0..1000),
        ("bytes=0-0,-1", 200, 0..1000),
        ("bytes=2-1", 200, 0..1000),
        ("bytes=-", 200, 0..1000),
        ("bytes=", 200, 0..1000),
        ("bytes", 200, 0..1000),
        ("bytes=a-b", 200, 0..1000),
        ("bytes=+1-2", 200, 0..1000),
        ("bytes=1 - 2", 200, 0..1000),
        ("bytes=--1", 200, 0..1000),
        ("bytes=1-2-3", 200, 0..1000),
        ("bytes =1-2", 200, 0..1000),
        ("seconds=1-2", 200, 0..1000),
    ] {
        assert_eq!(answer(&[&format!("Range: {value}")]), (status, range), "{value}");
    }
    assert_eq!(answer(&["Range: bytes=0-1", "Range: bytes=2-3"]), (200, 0..1000));
}

#[test]
fn a_part_says_which_it_is() {
    let plan = request(&["Range: bytes=10-19"]).opened(&FILE);
    assert_eq!(field(&plan, "Content-Range"), Some("bytes 10-19/1000"));
    assert_eq!(field(&plan, "Content-Length"), Some("10"));
    let plan = request(&["Range: bytes=1000-"]).opened(&FILE);
    assert_eq!(field(&plan, "Content-Range"), Some("bytes */1000"));
    assert!(head(&plan).ends_with("\r\n\r\nRange Not Satisfiable\n"));
}

#[test]
fn an_empty_file_has_no_part_but_can_be_had() {
    let empty = FileInfo { length: 0, ..FILE };
    for (range, status) in [("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-0", 416), ("bytes=-5", 200)] {
        let plan = request(&[&format!("Range: {range}")]).opened(&empty);
        assert_eq!((plan.status.0, plan.range), (status, 0..0), "{range}");
    }
    assert_eq!(field(&request(&[]).opened(&empty), "Content-Length"), Some("0"));
}

#[test]
fn preconditions_are_heeded_in_their_order() {
    for (fields, status) in [
        ("If-None-Match: SAME", 304),
        ("If-None-Match: W/SAME", 304),
        ("If-None-Match: *", 304),
        (r#"If-None-Match: "x", "a,b" ,,W/SAME, "y""#, 304),
        (r#"If-None-Match: "x" | If-None-Match: SAME"#, 304),
        (r#"If-None-Match: "x""#, 200),
        ("If-None-Match: x", 200),
        (r#"If-None-Match: "2ebc98a1-3e8"#, 200),
        ("If-None-Match:", 200),
        ("If-Modified-Since: BEFORE", 200),
        ("If-Modified-Since: AT", 304),
        ("If-Modified-Since: AFTER", 304),
        ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT", 304),
        ("If-Modified-Since: Sun Nov  6 08:49:37 1994", 304),
        ("If-Modified-Since: yesterday", 200),
        ("If-Modified-Since: AT | If-Modified-Since: AT", 200),
        // A tag is worth more than a date.
        (r#"If-None-Match: "x" | If-Modified-Since: AFTER"#, 200),
        ("If-None-Match: SAME | If-Modified-Since: BEFORE", 304),
        ("If-Match: SAME", 200),
        ("If-Match: *", 200),
        (r#"If-Match: "x", SAME"#, 200),
        ("If-Match: W/SAME", 412),
        (r#"If-Match: "x""#, 412),
        ("If-Unmodified-Since: BEFORE", 412),
        ("If-Unmodified-Since: AT", 200),
        ("If-Unmodified-Since: yesterday", 200),
        ("If-Match: SAME | If-Unmodified-Since: BEFORE", 200),
        // What must hold comes before what is known.
        (r#"If-Match: "x" | If-None-Match: SAME"#, 412),
        ("If-Match: SAME | If-None-Match: SAME", 304),
        // And both before the range.
        ("If-None-Match: SAME | Range: bytes=0-9", 304),
        (r#"If-Match: "x" | Range: bytes=5000-"#, 412),
        (r#"If-None-Match: "x" | Range: bytes=5000-"#, 416),
        ("If-Range: SAME | Range: bytes=0-9", 206),
        ("If-Range: AT | Range: bytes=0-9", 206),
        ("If-Range: W/SAME | Range: bytes=0-9", 200),
        (r#"If-Range: "x" | Range: bytes=0-9"#, 200),
        ("If-Range: BEFORE | Range: bytes=0-9", 200),
        ("If-Range: AFTER | Range: bytes=0-9", 200),
        (r#"If-Range: "x" | Range: bytes=5000-"#, 200),
        (r#"If-Range: "x""#, 200),
    ] {
        let fields = fields
            .replace("SAME", TAG)
            .replace("BEFORE", "Sun, 06 Nov 1994 08:49:36 GMT")
            .replace("AT", "Sun, 06 Nov 1994 08:49:37 GMT")
            .replace("AFTER", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(answer(&fields.split(" | ").collect::<Vec<_>>()).0, status, "{fields}");
    }
}

#[test]
fn what_is_known_is_not_sent_again_but_named() {
    let plan = request(&[&format!("If-None-Match: {TAG}")]).opened(&FILE);
    assert_eq!(plan.range, 0..0);
    assert_eq!(
        head(&plan),
        format!(
            "HTTP/1.1 304 Not Modified\r\nETag: {TAG}\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        )
    );
}

#[test]
fn a_page_is_served_from_memory_and_known_by_its_content() {
    let (page, other) = (Page::new("a/b.css", b"body {}"), Page::new("a/b.css", b"body {} "));
    assert_ne!(page.etag, other.etag);
    let request = |fields: &[&str]| try_request("GET", "/a/b.css", fields).unwrap();
    assert_eq!(request(&[]).path(), page.path());
    let plan = request(&[]).page(&page);
    assert_eq!(
        head(&plan),
        format!(
            "HTTP/1.1 200 OK\r\nETag: {}\r\nCache-Control: no-cache\r\nAccept-Ranges: bytes\r\n\
             Content-Type: text/css; charset=utf-8\r\nContent-Length: 7\r\n\r\n",
            page.etag
        )
    );
    assert_eq!(page.part(&plan.range), "body {}");
    assert_eq!(page.part(&request(&["Range: bytes=-2"]).page(&page).range), "{}");
    assert_eq!(request(&[&format!("If-None-Match: {}", page.etag)]).page(&page).status, Status::NOT_MODIFIED);
    // No date is known: one can neither hold nor fail.
    for name in ["If-Modified-Since", "If-Unmodified-Since"] {
        let plan = request(&[&format!("{name}: Sun, 06 Nov 1994 08:49:37 GMT")]).page(&page);
        assert_eq!(plan.status, Status::OK, "{name}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "any range may be asked for")]
    for range in [5..1, 9..20, u64::MAX..u64::MAX] {
        assert_eq!(page.part(&range), "");
    }
}

#[test]
fn dates_are_written_in_the_one_form_and_read_in_three() {
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (CHANGED, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        let date = HttpDate::from_unix(seconds);
        assert_eq!(format!("{date}"), text);
        assert_eq!(text.parse(), Ok(date), "{text}");
    }
    let unix = |text: &str| text.parse::<HttpDate>().ok().map(HttpDate::unix);
    assert_eq!(unix("Sunday, 06-Nov-94 08:49:37 GMT"), Some(CHANGED));
    assert_eq!(unix("Friday, 01-Jan-10 00:00:00 GMT"), Some(1_262_304_000));
    assert_eq!(unix("Sun Nov  6 08:49:37 1994"), Some(CHANGED));
    for text in [
        "",
        "GMT",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 GMT GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT",
        "Sun, 06 Nov 194 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 00 Mar 1994 08:49:37 GMT",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37:00 GMT",
        "Sun, 06 Nov 1994 +8:49:37 GMT",
        "784111777",
    ] {
        assert_eq!(unix(text), None, "{text}");
    }
}

/// What paths are made of when somebody wants out.
const PATH_PIECES: &[&str] = &[
    "/", "..", ".", "%2e", "%2E", "%2f", "%5c", "\\", "%00", "%", "%25", "2e", "a", "直", "%c0%ae", "?", "~",
    ":",
];

const RANGE_PIECES: &[&str] =
    &["bytes", "=", "-", "0", "1", "9", "500", "1000", ",", " ", "18446744073709551615", "x"];

proptest! {
    #[test]
    fn no_path_escapes(pieces in prop::collection::vec(prop::sample::select(PATH_PIECES), 0..16), any in ".*") {
        for path in [pieces.concat(), format!("/{}", pieces.concat()), any] {
            let Some(file) = locate(&path) else { continue };
            prop_assert!(!file.starts_with('/'), "{}", file);
            prop_assert!(!file.contains(['\\', '\0']), "{}", file);
            prop_assert!(file.split('/').all(|part| !matches!(part, "" | "." | "..")), "{}", file);
            prop_assert!(file.split('/').skip(1).all(|part| !part.starts_with('.')), "{}", file);
        }
    }

    #[test]
    fn what_is_located_is_located_again_by_the_redirect(
        pieces in prop::collection::vec(prop::sample::select(PATH_PIECES), 0..16),
    ) {
        let target = format!("/{}a", pieces.concat());
        if let Ok(request) = try_request("GET", &target, &[]) {
            let plan = request.opened(&DIRECTORY);
            // Of a path that ends in a slash, before its query, the index cannot be a directory.
            let Some(location) = field(&plan, "Location") else { return Ok(()) };
            prop_assert!(location.starts_with('/') && !location.starts_with("//"), "{}", location);
            let path = location.split('?').next().unwrap();
            prop_assert_eq!(locate(path).unwrap(), format!("{}/{INDEX}", request.path()).into());
        }
    }

    #[test]
    fn any_range_is_within_the_file(
        pieces in prop::collection::vec(prop::sample::select(RANGE_PIECES), 0..12),
        any in "bytes=[0-9, -]*",
        length in prop_oneof![Just(0), 1..2000u64, Just(u64::MAX)],
    ) {
        for value in [pieces.concat(), format!("bytes={}", pieces.concat()), any] {
            let plan = request(&[&format!("Range: {value}")]).opened(&FileInfo { length, ..FILE });
            prop_assert!(plan.range.start <= plan.range.end && plan.range.end <= length, "{}", value);
            match plan.status {
                Status::PARTIAL_CONTENT => prop_assert!(!plan.range.is_empty()),
                Status::OK => prop_assert_eq!(plan.range, 0..length),
                status => prop_assert_eq!((status, plan.range), (Status::RANGE_NOT_SATISFIABLE, 0..0)),
            }
        }
    }

    #[test]
    fn dates_come_back_as_they_were(seconds in 0..253_402_300_800u64) {
        let date = HttpDate::from_unix(seconds);
        prop_assert_eq!(format!("{date}").parse(), Ok(date));
        prop_assert_eq!(date.unix(), seconds);
    }

    #[test]
    fn a_date_is_read_or_refused_whatever_its_numbers(day: u8, month in "(Jan|Feb|Mar|Dec)", year in 0..10_000u32, time: [u8; 3]) {
        let [hour, minute, second] = time;
        let text = format!("Sun, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
        let is_date = text.parse::<HttpDate>().is_ok();
        let in_range = (1..=31).contains(&day) && year >= 1970 && hour < 24 && minute < 60 && second <= 60;
        prop_assert_eq!(is_date, in_range, "{}", text);
    }

    #[test]
    fn any_text_is_a_date_or_none_and_tags_or_none(text in ".*", tags in "[W/\", a]*") {
        let _ = text.parse::<HttpDate>();
        let _ = format!("Sun, {text} 08:49:37 GMT").parse::<HttpDate>();
        prop_assert!(entity_tags(&text).count() <= text.len());
        for tag in entity_tags(&tags) {
            prop_assert!(tag.ends_with('"') && tags.contains(tag));
        }
    }
}
