//! ffmpeg as an origin of HTTP-TS. It serves the first who comes, and nobody after.

use super::PATIENCE;
use super::ffmpeg::ffmpeg;
use super::film::film;
use super::ports::free_port;
use super::proc::is_listening;
use super::process::Process;
use std::net::{Ipv4Addr, SocketAddr};

/// A running ffmpeg that waits for its one viewer.
#[derive(Debug)]
pub struct TsOrigin {
    process: Process,
    http: SocketAddr,
}

impl TsOrigin {
    /// Starts one. Whatever it is asked for, it serves the film as MPEG-TS in real time, over and over.
    #[track_caller]
    pub fn start() -> Self {
        let port = free_port();
        let mut serve = ffmpeg();
        serve.args(["-re", "-stream_loop", "-1", "-i"]).arg(film()).args(["-c", "copy", "-f", "mpegts"]);
        serve.args(["-listen", "1", &format!("http://127.0.0.1:{port}/live/x.ts")]);
        let mut process = Process::start(format!("ffmpeg serving {port}"), &mut serve);
        process.wait_ready(PATIENCE, || is_listening(port));
        Self { process, http: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    /// Its address.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Whether it still serves its viewer.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }
}
