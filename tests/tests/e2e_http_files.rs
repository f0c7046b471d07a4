//! Files of a directory, and what is built in where there is none.

use srs_proxy_tests::peers::http::{Connection, Request, Response};
use srs_proxy_tests::peers::http_origin::{Answer, HttpOrigin};
use srs_proxy_tests::peers::process::{command, run};
use srs_proxy_tests::peers::proxy::Proxy;
use srs_proxy_tests::peers::temp::TempDir;
use srs_proxy_tests::peers::{PATIENCE, http, proc, wait_until};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

/// A long file, bytes.
const LONG: usize = 10 * 1024 * 1024;

/// For what must not take the time of a deadline.
const SOON: Duration = Duration::from_secs(5);

/// What lies outside of the directory of files.
const SECRET: &str = "nobody's business";

/// A proxy with a directory of files, and something beside it.
struct Site {
    proxy: Proxy,
    dir: TempDir,
}

impl Site {
    #[track_caller]
    fn with(files: &[(&str, &[u8])]) -> Self {
        let dir = TempDir::new("files");
        for (path, content) in files {
            let path = dir.path().join("public").join(path);
            fs::create_dir_all(path.parent().expect("a file lies in a directory")).expect("a directory");
            fs::write(path, content).expect("a file");
        }
        fs::create_dir_all(dir.path().join("public")).expect("a directory");
        fs::create_dir_all(dir.path().join("private")).expect("a directory");
        fs::write(dir.path().join("private/secret.txt"), SECRET).expect("a file");
        fs::write(dir.path().join("secret.txt"), SECRET).expect("a file");
        let files = dir.path().join("public").display().to_string();
        Self { proxy: Proxy::with(&[("PROXY_STATIC_FILES", &files)]), dir }
    }

    #[track_caller]
    fn ask(&self, request: &Request) -> Response {
        Connection::open(self.proxy.http()).expect("a connection").ask(request).expect("an answer")
    }

    #[track_caller]
    fn get(&self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

#[test]
fn a_file_comes_with_its_bytes_and_type() {
    let cases = [
        ("/page.html", "text/html"),
        ("/player.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/data.json", "application/json"),
        ("/icon.svg", "image/svg+xml"),
        ("/picture.png", "image/png"),
        ("/notes.txt", "text/plain"),
        ("/film.mp4", "video/mp4"),
        ("/films/film.mp4", "video/mp4"),
        ("/module.wasm", "application/wasm"),
        ("/what.ever", "application/octet-stream"),
        ("/no-extension", "application/octet-stream"),
        ("/deep/in/here/x.html", "text/html"),
        ("/with%20blank.txt", "text/plain"),
        ("/%e4%bd%a0.txt", "text/plain"),
        ("/notes.txt?v=1", "text/plain"),
    ];
    let names: Vec<_> = cases
        .iter()
        .map(|(target, _)| target[1..].replace("%20", " ").replace("%e4%bd%a0", "你").replace("?v=1", ""))
        .collect();
    let files: Vec<_> = names.iter().map(|name| (&name[..], name.as_bytes())).collect();
    let site = Site::with(&files);
    for ((target, kind), name) in cases.iter().zip(&names) {
        let answer = site.get(target);
        assert_eq!((answer.status, &answer.body.text()), (200, name), "{target}");
        let told = answer.header("content-type").unwrap_or_default();
        assert_eq!(told.split(';').next(), Some(*kind), "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{target}");
    }
}

#[test]
fn a_long_file_comes_whole_and_in_parts() {
    let bytes = noise(LONG);
    let site = Site::with(&[("x.bin", &bytes)]);
    let whole = site.get("/x.bin");
    assert!(whole.body.0 == bytes);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=10-19", 10..20),
        ("bytes=-100", LONG - 100..LONG),
        ("bytes=10485759-", LONG - 1..LONG),
        ("bytes=5000000-99999999", 5_000_000..LONG),
        ("bytes=0-", 0..LONG),
    ] {
        let answer = site.ask(&Request::get("/x.bin").field("Range", range));
        assert_eq!(answer.status, 206, "{range}");
        let told = format!("bytes {}-{}/{LONG}", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), Some(&told[..]), "{range}");
        assert!(answer.body.0 == bytes[part], "{range}");
    }
    let beyond = site.ask(&Request::get("/x.bin").field("Range", "bytes=10485760-"));
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */10485760")));
    // What is not understood is not heeded.
    for range in ["bytes=abc", "lines=1-2", "bytes=9-5", "bytes=1"] {
        let answer = site.ask(&Request::get("/x.bin").field("Range", range));
        assert!(answer.status == 200 && answer.body.len() == LONG, "{range}: {}", answer.status);
    }
}

#[test]
fn a_file_that_is_known_is_not_sent_again() {
    let site = Site::with(&[("x.js", b"code")]);
    let first = site.get("/x.js");
    let etag = first.header("etag").expect("a tag").to_owned();
    let modified = first.header("last-modified").expect("a date").to_owned();
    let get = |name: &str, value: &str| site.ask(&Request::get("/x.js").field(name, value));
    for (name, value) in [
        ("If-None-Match", &etag[..]),
        ("If-None-Match", "*"),
        ("If-None-Match", &format!("\"other\", {etag}")),
        ("If-Modified-Since", &modified),
        ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"),
    ] {
        let answer = get(name, value);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{name}: {value}");
        assert_eq!(answer.header("etag"), Some(&etag[..]), "{name}: {value}");
    }
    for (name, value) in [
        ("If-None-Match", "\"other\""),
        ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("If-Modified-Since", "nonsense"),
    ] {
        assert_eq!(get(name, value).status, 200, "{name}: {value}");
    }
    assert_eq!(get("If-Match", "\"other\"").status, 412);
    let part = |tag: &str| {
        let request = Request::get("/x.js").field("Range", "bytes=0-1").field("If-Range", tag);
        site.ask(&request).status
    };
    assert_eq!(part("\"other\""), 200);
}

#[test]
fn a_changed_file_is_sent_again() {
    let site = Site::with(&[("x.js", b"code")]);
    let etag = site.get("/x.js").header("etag").expect("a tag").to_owned();
    fs::write(site.dir.path().join("public/x.js"), "other code").expect("a file");
    let answer = site.ask(&Request::get("/x.js").field("If-None-Match", &etag));
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "other code"));
}

#[test]
fn a_directory_is_its_index() {
    let site = Site::with(&[("index.html", b"home"), ("sub/index.html", b"sub"), ("empty/x.txt", b"x")]);
    for (target, body) in [("/", "home"), ("/?a=b", "home"), ("/sub/", "sub"), ("/index.html", "home")] {
        let answer = site.get(target);
        assert_eq!((answer.status, &answer.body.text()[..]), (200, body), "{target}");
        assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{target}");
    }
    let answer = site.get("/sub?a=b");
    assert!(matches!(answer.status, 301 | 302 | 307 | 308), "{}", answer.status);
    let location = answer.header("location").expect("a place to go");
    assert!(location.ends_with("/sub/?a=b") || location == "sub/?a=b", "{location}");
    // Nothing is listed.
    assert_eq!(site.get("/empty/").status, 404);
}

#[test]
fn a_redirect_never_leads_to_another_host() {
    let site = Site::with(&[("elsewhere.test/index.html", b"x")]);
    for target in ["//elsewhere.test", "///elsewhere.test", "/%2Felsewhere.test", "/\\elsewhere.test"] {
        let answer = site.get(target);
        let location = answer.header("location").unwrap_or("/");
        assert!(!location.starts_with("//") && !location.contains('\\'), "{target}: {location}");
    }
}

#[test]
fn nothing_outside_the_directory_is_reached() {
    let site = Site::with(&[("sub/x.txt", b"x")]);
    let public = site.dir.path().join("public");
    symlink("../secret.txt", public.join("link.txt")).expect("a link");
    symlink(site.dir.path().join("secret.txt"), public.join("absolute.txt")).expect("a link");
    symlink("../private", public.join("folder")).expect("a link");
    symlink("../public-beside", public.join("beside")).expect("a link");
    fs::create_dir(site.dir.path().join("public-beside")).expect("a directory");
    fs::write(site.dir.path().join("public-beside/secret.txt"), SECRET).expect("a file");
    let escapes = [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/.%2E/secret.txt",
        "/..%2fsecret.txt",
        "/sub/..%2f..%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/..;/secret.txt",
        "//../secret.txt",
        "/sub//..//../secret.txt",
        "/./../secret.txt",
        "/%2e%2e%00/secret.txt",
        "/sub/x.txt%00.html",
        "/%c0%ae%c0%ae/secret.txt",
        "/link.txt",
        "/absolute.txt",
        "/folder/secret.txt",
        "/beside/secret.txt",
        "/../private/secret.txt",
        "/../public-beside/secret.txt",
        "/sub/x.txt/",
        "/sub/x.txt/../../../secret.txt",
    ];
    let mut all: Vec<_> = escapes.map(str::to_owned).to_vec();
    all.push(format!("/{}", site.dir.path().join("secret.txt").display()));
    all.push(format!("{}", site.dir.path().join("secret.txt").display()));
    all.push(format!("//{}", site.dir.path().join("secret.txt").display()));
    for target in all {
        let answer = site.get(&target);
        assert_eq!(answer.status, 404, "{target}: {}", answer.body);
        assert!(!answer.body.contains(SECRET), "{target}");
    }
}

#[test]
fn a_link_within_the_directory_is_followed() {
    let site = Site::with(&[("sub/x.txt", b"x")]);
    let public = site.dir.path().join("public");
    symlink("sub/x.txt", public.join("link.txt")).expect("a link");
    symlink("sub", public.join("folder")).expect("a link");
    symlink("../sub/x.txt", public.join("sub/back.txt")).expect("a link");
    for target in ["/link.txt", "/folder/x.txt", "/sub/back.txt"] {
        let answer = site.get(target);
        assert_eq!((answer.status, &answer.body.text()[..]), (200, "x"), "{target}");
    }
}

#[test]
fn what_is_no_file_is_not_found_and_holds_nobody_up() {
    let site = Site::with(&[("x.txt", b"x"), (".hidden", b"hidden")]);
    let public = site.dir.path().join("public");
    run("mkfifo", command("mkfifo").arg(public.join("pipe.txt")), PATIENCE).success();
    symlink("loop.txt", public.join("loop.txt")).expect("a link");
    symlink("/dev/zero", public.join("zero.txt")).expect("a link");
    symlink("nowhere.txt", public.join("broken.txt")).expect("a link");
    for target in
        ["/pipe.txt", "/loop.txt", "/zero.txt", "/broken.txt", "/nothing.txt", "/x.txt/y", "/.hidden"]
    {
        assert_eq!(site.get(target).status, 404, "{target}");
        assert_eq!(site.get("/x.txt").status, 200, "after {target}");
    }
}

#[test]
fn one_connection_serves_many_files() {
    let bytes = noise(300_000);
    let site = Site::with(&[("x.bin", &bytes), ("empty.txt", b"")]);
    let mut connection = Connection::open(site.proxy.http()).expect("a connection");
    for n in 0..100 {
        let target = ["/x.bin", "/empty.txt", "/nothing.txt"][n % 3];
        let method = if n % 5 == 0 { "HEAD" } else { "GET" };
        let answer = connection.ask(&Request::new(method, target)).expect("an answer");
        let length = [bytes.len(), 0, answer.body.len()][n % 3];
        assert_eq!(answer.status, [200, 200, 404][n % 3], "{target}");
        if n % 3 < 2 {
            assert_eq!(answer.header("content-length"), Some(&length.to_string()[..]), "{method} {target}");
        }
        let expected = if method == "HEAD" { 0 } else { length };
        assert_eq!(answer.body.len(), expected, "{method} {target}");
    }
    let requests: Vec<u8> = (0..20).flat_map(|_| Request::get("/x.bin").bytes()).collect();
    connection.send(&requests).expect("it is sent");
    for _ in 0..20 {
        assert!(connection.response("GET").expect("an answer").body.0 == bytes);
    }
}

#[test]
fn files_take_no_other_method() {
    let site = Site::with(&[("x.txt", b"x")]);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let answer = site.ask(&Request::new(method, "/x.txt").body(b"new"));
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.fields.lists("allow", "GET"), "{method}: {:?}", answer.fields);
    }
    assert_eq!(fs::read(site.dir.path().join("public/x.txt")).expect("the file"), b"x");
}

#[test]
fn an_old_client_gets_files_too() {
    let site = Site::with(&[("x.txt", b"x")]);
    let mut connection = Connection::open(site.proxy.http()).expect("a connection");
    let answer = connection.ask(&Request::get("/x.txt").version_10()).expect("an answer");
    assert_eq!((answer.status, &answer.body.text()[..]), (200, "x"));
    connection.assert_closed("without keep-alive", SOON);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_file_leaves_nothing_behind() {
    let bytes = noise(LONG);
    let site = Site::with(&[("x.bin", &bytes)]);
    let held = || {
        let (pid, directory) = (site.proxy.pid(), site.dir.path().join("public"));
        [proc::connections(pid), proc::files_in(pid, &directory)]
    };
    let begin = |_| {
        let mut connection = Connection::open_narrow(site.proxy.http()).expect("a connection");
        connection.send_request(&Request::get("/x.bin")).expect("it is sent");
        connection.head("GET").expect("a head");
        connection
    };
    let connections: Vec<_> = (0..20).map(begin).collect();
    wait_until("each has its connection and file", PATIENCE, || held() == [20, 20]);
    drop(connections);
    wait_until("its connections and files are closed", PATIENCE, || held() == [0, 0]);
    assert_eq!(site.get("/x.bin").body.len(), LONG);
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_sent_never_ends_well() {
    let site = Site::with(&[("x.bin", &noise(LONG))]);
    let mut connection = Connection::open_narrow(site.proxy.http()).expect("a connection");
    connection.send_request(&Request::get("/x.bin")).expect("it is sent");
    let (mut response, framing) = connection.head("GET").expect("a head");
    fs::File::options()
        .write(true)
        .open(site.dir.path().join("public/x.bin"))
        .and_then(|file| file.set_len(10))
        .expect("a shorter file");
    connection.widen();
    connection.body(&mut response, framing).expect_err("it is cut short");
    assert_eq!(site.get("/x.bin").body.len(), 10);
}

#[test]
fn streams_are_served_beside_files() {
    let origin = HttpOrigin::answering(Answer::ok("video/x-flv", b"media"));
    let site = Site::with(&[("index.html", b"home")]);
    site.proxy.register_http("origin", origin.addr());
    assert_eq!(site.get("/live/x.flv").body.text(), "media");
    assert_eq!(site.get("/").body.text(), "home");
    assert!(site.get("/api/v1/versions").body.contains("version"));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_page_that_plays_is_built_in() {
    let proxy = Proxy::start();
    let answer = http::get(proxy.http(), "/").expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    let page = answer.body.text();
    let mut connection = Connection::open(proxy.http()).expect("a connection");
    // All that it needs comes from here.
    let mut needed = 0;
    for attribute in ["src=\"", "href=\""] {
        for part in page.split(attribute).skip(1) {
            let uri = part.split('"').next().unwrap_or_default();
            assert!(!uri.contains("//"), "{uri}");
            if uri.is_empty() || uri.starts_with('#') || uri.starts_with("data:") {
                continue;
            }
            let target = format!("/{}", uri.trim_start_matches("./").trim_start_matches('/'));
            let answer = connection.ask(&Request::get(&target)).expect("an answer");
            assert!(answer.status == 200 && !answer.body.is_empty(), "{target}: {}", answer.status);
            assert!(answer.header("etag").is_some(), "{target}");
            needed += 1;
        }
    }
    assert!(needed >= 2, "{page}");
    assert_eq!(http::get(proxy.http(), "/nothing.html").expect("an answer").status, 404);
}
