//! nginx with its RTMP module: the first real origin, of RTMP, of HLS, and of files over HTTP.

use super::ports::free_port;
use super::process::{Process, command};
use super::temp::TempDir;
use super::{PATIENCE, http};
use rustix::process::Signal;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

const CONFIG: &str = include_str!("../../peers/nginx-rtmp.conf");

/// The chunk size the module uses when it is not told one.
pub const CHUNK_SIZE: u32 = 4096;

/// A running nginx. Its applications: `live`; `guarded`, which refuses whoever says `token=wrong`; `hls` and `keyed`,
/// whose streams are HLS as well, at the same path. What lies in [`files`](Nginx::files) it serves as it is; below
/// `/ingest/` it takes files, too.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    dir: TempDir,
    rtmp: SocketAddr,
    http: SocketAddr,
}

/// A stream as `/stat` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    /// Its name, without application and query.
    pub name: String,
    /// Whether somebody publishes it.
    pub published: bool,
    /// How many clients it has, its publisher among them.
    pub clients: usize,
}

impl Nginx {
    /// Starts one that sends chunks of [`CHUNK_SIZE`].
    #[track_caller]
    pub fn start() -> Self {
        Self::with_chunk_size(CHUNK_SIZE)
    }

    /// Starts one that sends chunks of this size.
    #[track_caller]
    pub fn with_chunk_size(chunk_size: u32) -> Self {
        Self::at(free_port(), chunk_size)
    }

    /// Starts one at this RTMP port, as a restarted origin would.
    #[track_caller]
    pub fn at(rtmp_port: u16, chunk_size: u32) -> Self {
        let dir = TempDir::new("nginx");
        for folder in ["www/hls", "www/keyed"] {
            fs::create_dir_all(dir.path().join(folder)).expect("a folder for files");
        }
        let http_port = free_port();
        let config = CONFIG
            .replace("DIR", &dir.path().display().to_string())
            .replace("RTMP_PORT", &rtmp_port.to_string())
            .replace("HTTP_PORT", &http_port.to_string())
            .replace("CHUNK_SIZE", &chunk_size.to_string());
        let config = dir.write("nginx.conf", &config);
        let mut start = command("nginx");
        start.arg("-p").arg(dir.path()).arg("-c").arg(config).arg("-e").arg(dir.path().join("error.log"));
        let mut process = Process::start(format!("nginx:{rtmp_port}"), &mut start);
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http_port));
        process.wait_ready(PATIENCE, || http::get(http, "/stat").is_ok_and(|answer| answer.status == 200));
        Self { process, dir, rtmp: SocketAddr::from((Ipv4Addr::LOCALHOST, rtmp_port)), http }
    }

    /// Its RTMP address.
    pub fn rtmp(&self) -> SocketAddr {
        self.rtmp
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The folder whose files it serves.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// All streams it knows.
    #[track_caller]
    pub fn streams(&self) -> Vec<Stream> {
        let stat = http::get(self.http, "/stat").expect("nginx answers /stat");
        let text = stat.body.text();
        let blocks = text.split("<stream>").skip(1);
        blocks.filter_map(|block| Stream::parse(block.split("</stream>").next()?)).collect()
    }

    /// The stream with this name, if it knows it.
    #[track_caller]
    pub fn stream(&self, name: &str) -> Option<Stream> {
        self.streams().into_iter().find(|stream| stream.name == name)
    }

    /// Whether somebody publishes a stream of this name.
    #[track_caller]
    pub fn has_publisher(&self, name: &str) -> bool {
        self.stream(name).is_some_and(|stream| stream.published)
    }

    /// What the hooks of `guarded` were asked: one query string for each publisher and player.
    pub fn hook_calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("hook.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Stream {
    fn parse(block: &str) -> Option<Self> {
        // A client's block can hold the same words; the stream's own come before the first and after the last.
        let name = between(block, "<name>", "</name>")?;
        let tail = block.rsplit_once("</client>").map_or(block, |(_, tail)| tail);
        Some(Self {
            name: name.to_owned(),
            published: tail.contains("<publishing/>"),
            clients: between(tail, "<nclients>", "</nclients>")?.parse().ok()?,
        })
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inside, _)| inside)
}
