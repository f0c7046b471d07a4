//! The programs that are compared. Knows no protocol's load.

use super::process::{self, Cpu, STREAM_MODULE, free_ports, local};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that does not listen after this long has failed.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Where its Redis listens, if it has one.
const REDIS: &str = "redis";

/// What the peers pass on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// HTTP.
    Http,
}

/// Who moves the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// Nobody: clients connect to the origin.
    Direct,
    /// The splice floor.
    Splice,
    /// The copy floor.
    Copy,
    /// HAProxy in TCP mode, one thread.
    HaProxy,
    /// HAProxy in HTTP mode, one thread.
    HaProxyHttp,
    /// nginx as a reverse proxy, one process.
    Nginx,
    /// nginx's stream module, one process.
    NginxStream,
    /// `srs-proxy` with this many workers, or as many as it chooses.
    Proxy(Option<usize>),
    /// `srs-proxy` with one worker and a Redis of its own, for what depends on where routes are kept.
    Shared,
}

/// All peers, in the order of the table's columns.
pub const PEERS: [Peer; 10] = [
    Peer::Direct,
    Peer::Splice,
    Peer::Copy,
    Peer::HaProxy,
    Peer::HaProxyHttp,
    Peer::NginxStream,
    Peer::Nginx,
    Peer::Proxy(Some(1)),
    Peer::Proxy(None),
    Peer::Shared,
];

impl Peer {
    /// The column's title.
    pub fn title(self) -> String {
        match self {
            Self::Direct => "direct".into(),
            Self::Splice => "splice relay".into(),
            Self::Copy => "copy relay".into(),
            Self::HaProxy => "HAProxy TCP".into(),
            Self::HaProxyHttp => "HAProxy HTTP".into(),
            Self::Nginx => "nginx HTTP".into(),
            Self::NginxStream => "nginx stream".into(),
            Self::Proxy(Some(workers)) => format!("srs-proxy, {workers} worker"),
            Self::Proxy(None) => "srs-proxy, default".into(),
            Self::Shared => "srs-proxy, 1 worker, Redis".into(),
        }
    }

    /// Whether it is one of the peers for `protocol`.
    pub fn passes(self, protocol: Protocol) -> bool {
        match self {
            Self::HaProxyHttp | Self::Nginx | Self::NginxStream => protocol == Protocol::Http,
            Self::Shared => protocol == Protocol::Rtmp,
            _ => true,
        }
    }

    /// Whether its program is installed, `proxy` being that of srs-proxy.
    pub fn is_there(self, proxy: &Path) -> bool {
        let runs = |program, argument| {
            let status =
                Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        match self {
            Self::Direct | Self::Splice | Self::Copy => true,
            Self::HaProxy | Self::HaProxyHttp => runs("haproxy", "-v"),
            Self::Nginx => runs("nginx", "-v"),
            Self::NginxStream => runs("nginx", "-v") && Path::new(STREAM_MODULE).is_file(),
            Self::Proxy(_) => proxy.is_file(),
            Self::Shared => proxy.is_file() && runs("redis-server", "--version"),
        }
    }
}

/// A running peer; it ends with this value.
pub struct Process {
    process: process::Process,
    /// The Redis it has, which ends with it.
    redis: Option<Child>,
    listen: SocketAddr,
    /// From start to the first accepted connection.
    pub startup: Duration,
}

impl Process {
    /// Starts a peer in front of `origin`; `None` for [`Peer::Direct`]. Its log and configuration
    /// are in `dir`, which must be there.
    ///
    /// # Errors
    /// It cannot be started, or does not listen in time; the error names its log.
    pub fn start(
        peer: Peer,
        protocol: Protocol,
        proxy: &Path,
        origin: SocketAddr,
        dir: &Path,
    ) -> io::Result<Option<Self>> {
        let ports = free_ports::<6>()?;
        let listen = match (peer, protocol) {
            (Peer::Proxy(_) | Peer::Shared, Protocol::Http) => local(ports[1]),
            _ => local(ports[0]),
        };
        let redis = if peer == Peer::Shared { Some(redis(dir)?) } else { None };
        let command = match peer {
            Peer::Direct => return Ok(None),
            Peer::Splice => process::relay("splice", listen, origin)?,
            Peer::Copy => process::relay("copy", listen, origin)?,
            Peer::HaProxy => haproxy(haproxy_tcp(listen, origin), dir)?,
            Peer::HaProxyHttp => haproxy(haproxy_http(listen, origin), dir)?,
            Peer::Nginx => nginx(&nginx_http(listen, origin, dir), dir)?,
            Peer::NginxStream => nginx(&nginx_stream(listen, origin), dir)?,
            Peer::Proxy(workers) => srs_proxy(proxy, workers, ports, protocol, origin),
            Peer::Shared => {
                let mut command = srs_proxy(proxy, Some(1), ports, protocol, origin);
                command.env("PROXY_LOAD_BALANCER_TYPE", "redis");
                command.env("PROXY_REDIS_URL", format!("redis+unix://{}", dir.join(REDIS).display()));
                command
            }
        };
        let began = Instant::now();
        let mut process = process::Process::start(command, dir)?;
        while TcpStream::connect(listen).is_err() {
            let ended = process.ended()?;
            if ended.is_some() || began.elapsed() > START_LIMIT {
                let ended = ended.map_or("it runs".into(), |status| status.to_string());
                return Err(io::Error::other(format!("does not listen ({ended}): {}", process.log().trim())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Some(Self { process, redis, listen, startup: began.elapsed() }))
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The last line of its log, if it wrote any.
    pub fn last_words(&self) -> Option<String> {
        self.process.log().lines().last().map(str::to_owned)
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> io::Result<Cpu> {
        self.process.cpu()
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> io::Result<u64> {
        self.process.memory()
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// The process is gone.
    pub fn descriptors(&self) -> io::Result<usize> {
        self.process.descriptors()
    }

    /// Threads.
    ///
    /// # Errors
    /// The process is gone.
    pub fn threads(&self) -> io::Result<usize> {
        self.process.threads()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(redis) = &mut self.redis {
            // Nothing can be done about either failing.
            let _ = redis.kill();
            let _ = redis.wait();
        }
    }
}

fn haproxy(config: String, dir: &Path) -> io::Result<Command> {
    let file = dir.join("haproxy.cfg");
    fs::write(&file, config)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn haproxy_tcp(listen: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "global\n nbthread 1\n maxconn 9000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n \
         timeout server 1h\nlisten media\n bind {listen}\n server origin {origin}\n"
    )
}

fn haproxy_http(listen: SocketAddr, origin: SocketAddr) -> String {
    // Buffers as large as the relays'. Live media is not to wait for more; for all else that only costs.
    format!(
        "global\n nbthread 1\n maxconn 9000\n tune.bufsize 65536\ndefaults\n mode http\n timeout connect 5s\n \
         timeout client 1h\n timeout server 1h\n timeout http-request 10s\n http-reuse safe\n\
         frontend media\n bind {listen}\n use_backend live if {{ path_end .flv }}\n default_backend files\n\
         backend live\n option http-no-delay\n server origin {origin}\n\
         backend files\n server origin {origin}\n"
    )
}

/// With a configuration of its own only, and in one process, whose CPU time is all of its.
fn nginx(part: &str, dir: &Path) -> io::Result<Command> {
    let file = dir.join("nginx.conf");
    let pid = dir.join("nginx.pid");
    let text = format!(
        "{part}\ndaemon off;\nmaster_process off;\nerror_log stderr;\npid {};\n\
         events {{ worker_connections 9000; }}\n",
        pid.display()
    );
    fs::write(&file, text)?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(file);
    Ok(command)
}

fn nginx_http(listen: SocketAddr, origin: SocketAddr, dir: &Path) -> String {
    let dir = dir.display();
    // Buffers as large as the relays', nothing in files, connections kept.
    format!(
        "http {{\n access_log off;\n client_body_temp_path {dir}/body;\n proxy_temp_path {dir}/proxy;\n \
         fastcgi_temp_path {dir}/fastcgi;\n uwsgi_temp_path {dir}/uwsgi;\n scgi_temp_path {dir}/scgi;\n \
         keepalive_timeout 1h;\n keepalive_requests 1000000000;\n \
         upstream origin {{ server {origin}; keepalive 64; keepalive_timeout 1h; keepalive_requests 1000000000; }}\n \
         proxy_http_version 1.1;\n proxy_set_header Connection \"\";\n proxy_set_header Host $http_host;\n \
         proxy_read_timeout 1h;\n proxy_buffer_size 64k;\n proxy_buffers 8 64k;\n \
         proxy_busy_buffers_size 128k;\n proxy_max_temp_file_size 0;\n server {{\n  listen {listen};\n  \
         location / {{ proxy_pass http://origin; }}\n  \
         location ~ \\.flv$ {{ proxy_pass http://origin; proxy_buffering off; }}\n }}\n}}"
    )
}

fn nginx_stream(listen: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "load_module {STREAM_MODULE};\nstream {{\n server {{ listen {listen}; proxy_pass {origin}; \
         proxy_timeout 1h; proxy_buffer_size 64k; }}\n}}"
    )
}

/// A Redis whose data is nowhere but in memory. Whoever needs it waits until it is there.
fn redis(dir: &Path) -> io::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(dir.join(REDIS));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(dir).spawn()
}

fn srs_proxy(
    binary: &Path,
    workers: Option<usize>,
    ports: [u16; 6],
    protocol: Protocol,
    origin: SocketAddr,
) -> Command {
    let names = ["RTMP_SERVER", "HTTP_SERVER", "HTTP_API", "SYSTEM_API", "WEBRTC_SERVER", "SRT_SERVER"];
    let servers: Vec<_> = names.into_iter().zip(ports.map(local)).collect();
    let mut command = process::srs_proxy(binary, &servers, origin);
    let of = match protocol {
        Protocol::Rtmp => "PROXY_DEFAULT_BACKEND_RTMP",
        Protocol::Http => "PROXY_DEFAULT_BACKEND_HTTP",
    };
    command.env(of, origin.port().to_string());
    if let Some(workers) = workers {
        command.env("PROXY_WORKERS", workers.to_string());
    }
    command
}
