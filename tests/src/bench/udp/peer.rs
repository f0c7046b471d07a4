//! The programs that are compared. Knows nothing of the load.

use super::relay::Method;
use crate::bench::process::{self, Cpu, STREAM_MODULE, free_ports, local};
use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    process: process::Process,
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
        let address = UdpSocket::bind(local(0))?.local_addr()?;
        let mut api = None;
        let command = match peer {
            Peer::Direct => return Ok(None),
            Peer::Floor(method) => process::relay(method.name(), address, origin)?,
            Peer::Hub => {
                let mut command = Command::new(&programs.hub);
                command.args([address.to_string(), origin.to_string()]);
                command
            }
            Peer::Proxy => {
                let ports: [u16; 5] = free_ports()?;
                api = Some(local(ports[2]));
                srs_proxy(&programs.proxy, address, ports, origin, signalling, is_srt)
            }
            Peer::Nginx => nginx(address, origin, dir)?,
        };
        Ok(Some(Self { process: process::Process::start(command, dir)?, address, api }))
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

fn srs_proxy(
    binary: &Path,
    media: SocketAddr,
    ports: [u16; 5],
    origin: SocketAddr,
    signalling: SocketAddr,
    is_srt: bool,
) -> Command {
    let (measured, other) = if is_srt { ("SRT", "WEBRTC") } else { ("WEBRTC", "SRT") };
    let other = format!("{other}_SERVER");
    let servers = ["RTMP_SERVER", "HTTP_SERVER", "HTTP_API", "SYSTEM_API", &other];
    let servers: Vec<_> = servers.into_iter().zip(ports.map(local)).collect();
    let mut command = process::srs_proxy(binary, &servers, origin);
    command.env(format!("PROXY_{measured}_SERVER"), media.to_string());
    command.env("PROXY_DEFAULT_BACKEND_API", signalling.port().to_string());
    command.env("PROXY_DEFAULT_BACKEND_RTC", origin.port().to_string());
    command.env("PROXY_DEFAULT_BACKEND_SRT", origin.port().to_string());
    command.env("PROXY_WORKERS", "1");
    command
}
