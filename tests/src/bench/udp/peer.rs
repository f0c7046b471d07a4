//! The programs that are compared, as processes. Knows nothing of the load.

use super::relay::Method;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// nginx's module that relays datagrams; Debian has it in a package of its own.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Who moves the datagrams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// Nobody: clients send to the origin.
    Direct,
    /// A floor.
    Floor(Method),
    /// nginx's stream module, one process.
    Nginx,
    /// Our runtime with a hub that understands nothing, one worker.
    Hub,
    /// `srs-proxy`, one worker.
    Proxy,
}

/// Where the programs are that are ours.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The runtime's example.
    pub hub: PathBuf,
    /// The proxy.
    pub proxy: PathBuf,
}

/// All peers, in the order of the table's columns.
pub const PEERS: [Peer; 7] = [
    Peer::Direct,
    Peer::Floor(Method::Simple),
    Peer::Floor(Method::Mmsg),
    Peer::Floor(Method::Gso),
    Peer::Nginx,
    Peer::Hub,
    Peer::Proxy,
];

impl Peer {
    /// The column's title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor(method) => method.name(),
            Self::Nginx => "nginx",
            Self::Hub => "hub",
            Self::Proxy => "srs-proxy",
        }
    }

    /// Whether its program is there.
    pub fn is_there(self, programs: &Programs) -> bool {
        match self {
            Self::Direct | Self::Floor(_) => true,
            Self::Nginx => Path::new(STREAM_MODULE).is_file(),
            Self::Hub => programs.hub.is_file(),
            Self::Proxy => programs.proxy.is_file(),
        }
    }
}

/// A running peer; it ends with this value.
pub struct Process {
    child: Child,
    /// Where clients send to.
    pub address: SocketAddr,
    /// Where they signal, if they have to.
    pub api: Option<SocketAddr>,
}

impl Process {
    /// Starts a peer in front of `origin`, of SRT or of WebRTC, whose HTTP API is at `signalling`; `None` for [`Peer::Direct`]. It may not
    /// listen yet. Its log and configuration are in `dir`, which must be there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        peer: Peer,
        programs: &Programs,
        origin: SocketAddr,
        signalling: SocketAddr,
        is_srt: bool,
        dir: &Path,
    ) -> io::Result<Option<Self>> {
        // Free a moment ago.
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut api = None;
        let mut command = match peer {
            Peer::Direct => return Ok(None),
            Peer::Floor(method) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["relay", method.name()]);
                command.args([address.to_string(), origin.to_string()]);
                command
            }
            Peer::Hub => {
                let mut command = Command::new(&programs.hub);
                command.args([address.to_string(), origin.to_string()]);
                command
            }
            Peer::Proxy => {
                let ports: [u16; 5] = free_ports()?;
                api = Some((Ipv4Addr::LOCALHOST, ports[2]).into());
                srs_proxy(&programs.proxy, address, ports, origin, signalling, is_srt)
            }
            Peer::Nginx => nginx(address, origin, dir)?,
        };
        let output = File::create(dir.join("log"))?;
        command.current_dir(dir).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Some(Self { child: command.spawn()?, address, api }))
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// CPU seconds of all threads so far; none of them ends.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> io::Result<f64> {
        let mut sum = 0;
        for task in fs::read_dir(self.proc("task"))? {
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = stat.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            sum += nanos.ok_or_else(|| io::Error::other("no schedstat"))?;
        }
        Ok(sum as f64 / 1e9)
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(self.proc("smaps_rollup"))?;
        let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
        kilobytes.map(|number| number * 1024).ok_or_else(|| io::Error::other("no Rss"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about either failing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nginx(listen: SocketAddr, origin: SocketAddr, dir: &Path) -> io::Result<Command> {
    let text = format!(
        "load_module {STREAM_MODULE};\ndaemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n\
         events {{ worker_connections 20000; }}\n\
         stream {{ server {{ listen {listen} udp rcvbuf=4m sndbuf=4m; proxy_pass {origin}; proxy_timeout 60s; }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), text)?;
    let mut command = Command::new("nginx");
    command.arg("-e").arg("error.log").arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
    Ok(command)
}

/// Ports that were free for TCP a moment ago.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn srs_proxy(
    binary: &Path,
    media: SocketAddr,
    ports: [u16; 5],
    origin: SocketAddr,
    signalling: SocketAddr,
    is_srt: bool,
) -> Command {
    let mut command = Command::new(binary);
    let (measured, other) = if is_srt { ("SRT", "WEBRTC") } else { ("WEBRTC", "SRT") };
    let other = format!("{other}_SERVER");
    let servers = ["RTMP_SERVER", "HTTP_SERVER", "HTTP_API", "SYSTEM_API", &other];
    for (server, port) in servers.iter().zip(ports) {
        command.env(format!("PROXY_{server}"), SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string());
    }
    command.env(format!("PROXY_{measured}_SERVER"), media.to_string());
    command.env("PROXY_DEFAULT_BACKEND_ENABLED", "on");
    command.env("PROXY_DEFAULT_BACKEND_IP", origin.ip().to_string());
    command.env("PROXY_DEFAULT_BACKEND_API", signalling.port().to_string());
    command.env("PROXY_DEFAULT_BACKEND_RTC", origin.port().to_string());
    command.env("PROXY_DEFAULT_BACKEND_SRT", origin.port().to_string());
    command.env("PROXY_WORKERS", "1");
    command
}
