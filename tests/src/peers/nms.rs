//! node-media-server: the second real origin, of another make. It sends media on message stream id 0, and serves
//! HTTP-FLV.

use super::ports::free_port;
use super::process::{Process, command};
use super::temp::TempDir;
use super::{PATIENCE, cache_dir};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const CONFIG: &str = include_str!("../../peers/node-media-server.json");

/// A running node-media-server; any application, no authentication.
#[derive(Debug)]
pub struct NodeMediaServer {
    process: Process,
    rtmp: SocketAddr,
    http: SocketAddr,
    // It writes its configuration back: each instance has a copy of its own. Dropped after the process.
    _dir: TempDir,
}

impl NodeMediaServer {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        let app = cache_dir().join("node_modules/node-media-server/bin/app.js");
        assert!(app.exists(), "{} is missing: run scripts/setup", app.display());
        let dir = TempDir::new("nms");
        let (port, http_port) = (free_port(), free_port());
        let config = CONFIG
            .replace("DIR", &dir.path().display().to_string())
            .replace("RTMP_PORT", &port.to_string())
            .replace("HTTP_PORT", &http_port.to_string());
        let config = dir.write("config.json", &config);
        let mut start = command("node");
        start.arg(app).arg("-c").arg(config).current_dir(dir.path());
        let mut process = Process::start(format!("nms:{port}"), &mut start);
        let rtmp = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http_port));
        process.wait_ready(PATIENCE, || [rtmp, http].iter().all(|addr| TcpStream::connect(addr).is_ok()));
        Self { process, rtmp, http, _dir: dir }
    }

    /// Its RTMP address.
    pub fn rtmp(&self) -> SocketAddr {
        self.rtmp
    }

    /// Where it serves HTTP-FLV.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
