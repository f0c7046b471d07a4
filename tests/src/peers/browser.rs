//! Chromium with the players that web pages use. Each plays from a page of another origin than its media's.

use super::process::{Process, command};
use super::temp::TempDir;
use super::{PATIENCE, cache_dir};
use serde_json::Value;
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/player.mjs");

/// How long the browser may take beyond playing: to start and to end on a busy machine.
const STARTING: Duration = PATIENCE;

/// Who plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Player {
    /// mpegts.js: HTTP-FLV, and HTTP-TS if the path ends in `.ts`.
    Mpegts,
    /// hls.js, the full build.
    Hls,
    /// The browser alone. Chromium 156 plays a finished HLS playlist so; a live one it gives up when it fetches
    /// it again and finds it unchanged.
    Native,
    /// The page at the URL, such as the proxy's own.
    Page,
}

/// What was seen.
#[derive(Clone, PartialEq, Debug)]
pub struct Played {
    /// Frames that were decoded.
    pub frames: u64,
    /// Frames that were decoded too late to be shown.
    pub dropped: u64,
    /// The picture's width and height.
    pub size: (u64, u64),
    /// From the page's start to the first frame.
    pub first_frame: Option<Duration>,
    /// Bytes of sound that were decoded.
    pub audio_bytes: u64,
    /// What the player complained of, in its words, with the status of a refused request.
    pub errors: Vec<String>,
    /// Errors on the page's console: requests that CORS or the page's own policy forbids, exceptions.
    pub console: Vec<String>,
}

/// A browser that plays.
#[derive(Debug)]
pub struct Browser {
    process: Process,
    deadline: Duration,
    // The browser's profile. Removed after the process has ended.
    _dir: TempDir,
}

impl Browser {
    /// Starts to play `url` until `frames` are decoded, the player gives up, or `patience` is over.
    #[track_caller]
    pub fn start(player: Player, url: &str, frames: u64, patience: Duration) -> Self {
        let packages = cache_dir();
        let missing = !packages.join("node_modules/playwright-core").exists();
        assert!(!missing, "{} lacks playwright-core: run scripts/setup", packages.display());
        let dir = TempDir::new("browser");
        let mut start = command("node");
        start.arg(SCRIPT).args([player.as_str(), url, &frames.to_string(), &patience.as_secs().to_string()]);
        start.current_dir(packages).env("TMPDIR", dir.path()).env("HOME", dir.path());
        let process = Process::start(format!("{} {url}", player.as_str()), &mut start);
        Self { process, deadline: patience + STARTING, _dir: dir }
    }

    /// Waits until it has played.
    #[track_caller]
    pub fn finish(mut self) -> Played {
        let ended = self.process.wait_end(self.deadline).success();
        let seen = ended.stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        Played::read(&seen.unwrap_or_else(|| panic!("no report of the browser: {ended:?}")))
    }
}

/// Plays `url` until `frames` are decoded; ends the test with what was seen if that fails.
#[track_caller]
pub fn play(player: Player, url: &str, frames: u64) -> Played {
    let played = Browser::start(player, url, frames, PATIENCE).finish();
    assert!(played.frames >= frames, "{frames} frames wanted of {url}: {played:?}");
    played
}

impl Player {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Mpegts => "mpegts.js",
            Self::Hls => "hls.js",
            Self::Native => "native",
            Self::Page => "page",
        }
    }
}

impl Played {
    fn read(seen: &Value) -> Self {
        let number = |name: &str| seen[name].as_u64().unwrap_or_default();
        let texts = |name: &str, text: fn(&Value) -> Option<&str>| {
            let list = seen[name].as_array().into_iter().flatten();
            list.filter_map(|item| text(item).map(str::to_owned)).collect()
        };
        Self {
            frames: number("frames"),
            dropped: number("dropped"),
            size: (number("width"), number("height")),
            first_frame: seen["firstFrame"].as_u64().map(Duration::from_millis),
            audio_bytes: number("audioBytes"),
            errors: texts("errors", |error| error["text"].as_str()),
            console: texts("console", Value::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::Path;
    use std::thread;

    #[test]
    fn the_built_in_players_are_those_of_the_packages() {
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/pages/vendor");
        let packages = cache_dir().join("node_modules");
        for (file, package) in [("mpegts.js", "mpegts.js/dist"), ("hls.light.min.js", "hls.js/dist")] {
            let ours = fs::read(built_in.join(file)).expect("a built-in player");
            let theirs = fs::read(packages.join(package).join(file)).expect("an installed package");
            assert!(ours == theirs, "{file} is not that of {package}");
        }
    }

    #[test]
    fn a_server_that_allows_no_other_origin_is_noticed() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = server.local_addr().expect("the server's address");
        thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.expect("a connection");
                // A request of the browser is one segment; what it asks does not matter.
                let _ = stream.read(&mut [0; 4096]);
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let played =
            Browser::start(Player::Hls, &format!("http://{address}/live/x.m3u8"), 1, PATIENCE).finish();
        assert!(played.console.iter().any(|line| line.contains("blocked by CORS policy")), "{played:?}");
        assert_eq!(played.errors, ["networkError manifestLoadError 0"]);
        assert_eq!(played.frames, 0);
    }
}
