//! The proxy itself, run as people run it: by environment variables, with its output kept.

use super::http::{self, Response};
use super::pion::Pion;
use super::ports::free_port;
use super::proc::{self, Usage};
use super::process::{Ended, Process, command};
use super::temp::TempDir;
use super::{PATIENCE, profile_dir, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// The six servers' variables, in the order of their ports here.
pub const SERVERS: [&str; 6] = [
    "PROXY_RTMP_SERVER",
    "PROXY_HTTP_SERVER",
    "PROXY_HTTP_API",
    "PROXY_WEBRTC_SERVER",
    "PROXY_SRT_SERVER",
    "PROXY_SYSTEM_API",
];

/// Those that take connections.
pub const TCP_SERVERS: [&str; 4] =
    ["PROXY_RTMP_SERVER", "PROXY_HTTP_SERVER", "PROXY_HTTP_API", "PROXY_SYSTEM_API"];

/// The RTMP address of an origin that nobody asks for RTMP: the port of `tcpmux`, which no program here listens on.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A running proxy on free ports.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    ports: [u16; 6],
    _dir: TempDir,
}

/// A proxy's command: in an empty directory, with no setting but those given here.
pub fn proxy_command(dir: &TempDir) -> Command {
    let program = profile_dir().join("srs-proxy");
    assert!(program.exists(), "{} is not built: run cargo build -p srs-proxy first", program.display());
    let mut command = command(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROXY_")) {
        command.env_remove(name);
    }
    command.current_dir(dir.path());
    command
}

impl Proxy {
    /// Starts one with its default settings.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with these settings; they win over the free ports it gets otherwise.
    #[track_caller]
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let mut proxy = Self::run(settings, |start| Process::start("srs-proxy", start));
        // The first worker may have answered before there were the others.
        proxy.process.wait_line("serves with", PATIENCE);
        proxy
    }

    /// The same, of which nobody reads the log.
    #[track_caller]
    pub fn unread(settings: &[(&str, &str)]) -> Self {
        Self::run(settings, |start| Process::start_unread("srs-proxy", start))
    }

    #[track_caller]
    fn run(settings: &[(&str, &str)], run: impl FnOnce(&mut Command) -> Process) -> Self {
        let dir = TempDir::new("proxy");
        let ports = SERVERS.map(|_| free_port());
        let mut start = proxy_command(&dir);
        for (server, port) in SERVERS.iter().zip(&ports) {
            start.env(server, format!("127.0.0.1:{port}"));
        }
        start.envs(settings.iter().copied());
        let mut proxy = Self { process: run(&mut start), ports, _dir: dir };
        let system = proxy.system_api();
        proxy.process.wait_ready(PATIENCE, || {
            http::get(system, "/api/v1/versions").is_ok_and(|answer| answer.status == 200)
        });
        proxy
    }

    /// Starts one that shares its routes with others through the Redis at this port.
    #[track_caller]
    pub fn on_redis(port: u16, settings: &[(&str, &str)]) -> Self {
        Self::sharing(("PROXY_REDIS_PORT", &port.to_string()), settings)
    }

    /// Starts one that shares its routes with others through the Redis of this URL.
    #[track_caller]
    pub fn on_redis_url(url: &str, settings: &[(&str, &str)]) -> Self {
        Self::sharing(("PROXY_REDIS_URL", url), settings)
    }

    #[track_caller]
    fn sharing(through: (&str, &str), settings: &[(&str, &str)]) -> Self {
        let shared = [("PROXY_LOAD_BALANCER_TYPE", "redis"), through, ("PROXY_WORKERS", "2")];
        Self::with(&[&shared, settings].concat())
    }

    /// Starts one with these settings and one origin, of which only HTTP is of interest.
    #[track_caller]
    pub fn before(http: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let proxy = Self::with(settings);
        proxy.register_http("origin", http);
        proxy
    }

    /// Starts one with these settings and one origin, of which only WebRTC is of interest.
    #[track_caller]
    pub fn before_rtc(origin: &Pion, settings: &[(&str, &str)]) -> Self {
        let proxy = Self::with(settings);
        proxy.register_rtc("origin", origin.api(), origin.media());
        proxy
    }

    /// Starts one with these settings and one origin, of which only SRT is of interest.
    #[track_caller]
    pub fn before_srt(srt: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let proxy = Self::with(settings);
        proxy.register_srt("origin", srt);
        proxy
    }

    /// The address of one of [`SERVERS`].
    pub fn addr(&self, server: &str) -> SocketAddr {
        let index = SERVERS.iter().position(|known| *known == server).expect("one of the six servers");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[index]))
    }

    /// The RTMP server's address.
    pub fn rtmp(&self) -> SocketAddr {
        self.addr("PROXY_RTMP_SERVER")
    }

    /// The HTTP server's address.
    pub fn http(&self) -> SocketAddr {
        self.addr("PROXY_HTTP_SERVER")
    }

    /// The HTTP API's address.
    pub fn http_api(&self) -> SocketAddr {
        self.addr("PROXY_HTTP_API")
    }

    /// Where it takes WebRTC media.
    pub fn rtc(&self) -> SocketAddr {
        self.addr("PROXY_WEBRTC_SERVER")
    }

    /// The URL of a WHIP or WHEP endpoint, or of SRS's JSON: `role` is the last part of its path.
    pub fn rtc_url(&self, role: &str, app: &str, stream: &str) -> String {
        format!("http://{}/rtc/v1/{role}/?app={app}&stream={stream}", self.http_api())
    }

    /// The origins that its WebRTC sessions lead to: one entry for each socket.
    #[track_caller]
    pub fn rtc_sessions(&self) -> Vec<SocketAddr> {
        proc::udp_peers(self.pid()).into_iter().map(|(_, origin)| origin).collect()
    }

    /// The sockets of its WebRTC sessions, by numbers that no later ones have.
    #[track_caller]
    pub fn rtc_sockets(&self) -> BTreeSet<String> {
        proc::udp_peers(self.pid()).into_iter().map(|(number, _)| number).collect()
    }

    /// Waits until all is read that has been sent to one of its UDP servers.
    #[track_caller]
    pub fn wait_read(&self, server: SocketAddr) {
        wait_until("the datagrams are read", PATIENCE, || proc::udp_unread(server.port()) == 0);
    }

    /// The system API's address.
    pub fn system_api(&self) -> SocketAddr {
        self.addr("PROXY_SYSTEM_API")
    }

    /// The SRT server's address.
    pub fn srt(&self) -> SocketAddr {
        self.addr("PROXY_SRT_SERVER")
    }

    /// The RTMP URL of `app/stream?query`.
    pub fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.rtmp())
    }

    /// The HTTP URL of `app/stream.ext?query`.
    pub fn http_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.http())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it costs now.
    #[track_caller]
    pub fn usage(&self) -> Usage {
        proc::usage(self.pid())
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.tail()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_end(&mut self, deadline: Duration) -> Ended {
        self.process.wait_end(deadline)
    }

    /// Registers an origin: `server` names it, `life` is its service and pid, new at each start.
    #[track_caller]
    pub fn register(&self, server: &str, life: &str, rtmp: SocketAddr) {
        self.register_serving(server, life, rtmp, &[]);
    }

    /// Registers an origin that serves more than RTMP: `http`, `api`, `rtc`, `srt`.
    #[track_caller]
    pub fn register_serving(&self, server: &str, life: &str, rtmp: SocketAddr, more: &[(&str, SocketAddr)]) {
        let mut registration = registration(server, life, rtmp);
        for (protocol, addr) in more {
            let scheme = if matches!(*protocol, "rtc" | "srt") { "udp" } else { "tcp" };
            registration[protocol] = json!([format!("{scheme}://{addr}")]);
        }
        let answer = self.post_registration(&registration, &[]);
        assert_eq!((answer.status, &answer.json()["code"]), (200, &json!(0)), "{}", answer.body);
    }

    /// Registers an origin of which only HTTP is of interest.
    #[track_caller]
    pub fn register_http(&self, server: &str, http: SocketAddr) {
        self.register_serving(server, "1", NOWHERE, &[("http", http)]);
    }

    /// Registers an origin of which only WebRTC is of interest: where it takes signalling and media.
    #[track_caller]
    pub fn register_rtc(&self, server: &str, api: SocketAddr, media: SocketAddr) {
        self.register_serving(server, "1", NOWHERE, &[("api", api), ("rtc", media)]);
    }

    /// Registers an origin of which only SRT is of interest.
    #[track_caller]
    pub fn register_srt(&self, server: &str, srt: SocketAddr) {
        self.register_serving(server, "1", NOWHERE, &[("srt", srt)]);
    }

    /// Posts a registration with extra headers, and gives the answer.
    #[track_caller]
    pub fn post_registration(&self, registration: &Value, headers: &[(&str, &str)]) -> Response {
        self.post_text(&registration.to_string(), headers)
    }

    /// Posts any text as a registration, and gives the answer.
    #[track_caller]
    pub fn post_text(&self, body: &str, headers: &[(&str, &str)]) -> Response {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        http::request(self.system_api(), "POST", "/api/v1/srs/register", &all, body)
            .expect("the registration API answers")
    }

    /// Calls the API below an origin's resource, which must go well: `""` with `DELETE`, `/drain`. `life` is as it
    /// was registered.
    #[track_caller]
    pub fn manage(&self, method: &str, server: &str, life: &str, below: &str) {
        let path = format!("/api/v1/origins/{server}-service-{life}-{life}{below}");
        let answer =
            http::request(self.system_api(), method, &path, &[], "").expect("the origins API answers");
        assert_eq!((answer.status, &answer.json()["code"]), (200, &json!(0)), "{}", answer.body);
    }

    /// The origins as its own API lists them.
    #[track_caller]
    pub fn origins(&self) -> Vec<Value> {
        let answer = http::get(self.system_api(), "/api/v1/origins").expect("the origins API answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["data"]["origins"].as_array().cloned().expect("a list of origins")
    }

    /// The `server` names of the origins that hold this stream.
    #[track_caller]
    pub fn holders(&self, key: &str) -> Vec<String> {
        let origins = self.origins();
        let holders = origins.iter().filter(|origin| {
            origin["streams"].as_array().is_some_and(|streams| streams.iter().any(|stream| stream == key))
        });
        holders.filter_map(|origin| origin["server"].as_str().map(str::to_owned)).collect()
    }

    /// The health of the origin registered under `server`.
    #[track_caller]
    pub fn health(&self, server: &str) -> Option<String> {
        let origins = self.origins();
        let origin = origins.iter().find(|origin| origin["server"] == server)?;
        origin["health"].as_str().map(str::to_owned)
    }

    /// Waits until no session is left: a TCP socket that is connected is one.
    #[track_caller]
    pub fn wait_quiet(&self) {
        wait_until("the proxy has no connection left", PATIENCE, || proc::connections(self.pid()) == 0);
    }
}

/// A registration as an origin sends it.
pub fn registration(server: &str, life: &str, rtmp: SocketAddr) -> Value {
    json!({
        "device_id": format!("device-{server}"),
        "ip": rtmp.ip().to_string(),
        "server": server,
        "service": format!("service-{life}"),
        "pid": life,
        "rtmp": [rtmp.port().to_string()],
    })
}
