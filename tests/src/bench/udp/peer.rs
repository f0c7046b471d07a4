//! The programs that are compared, as processes. Knows nothing of the load.

use super::relay::Method;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
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
}

/// All peers, in the order of the table's columns.
pub const PEERS: [Peer; 6] = [
    Peer::Direct,
    Peer::Floor(Method::Simple),
    Peer::Floor(Method::Mmsg),
    Peer::Floor(Method::Gso),
    Peer::Nginx,
    Peer::Hub,
];

impl Peer {
    /// The column's title.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor(method) => method.name(),
            Self::Nginx => "nginx",
            Self::Hub => "hub",
        }
    }

    /// Whether its program is there, `hub` being our own.
    pub fn is_there(self, hub: &Path) -> bool {
        match self {
            Self::Direct | Self::Floor(_) => true,
            Self::Nginx => Path::new(STREAM_MODULE).is_file(),
            Self::Hub => hub.is_file(),
        }
    }
}

/// A running peer; it ends with this value.
pub struct Process {
    child: Child,
    /// Where clients send to.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a peer in front of `origin`; `None` for [`Peer::Direct`]. It may not listen yet. Its log and
    /// configuration are in `dir`, which must be there.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(peer: Peer, hub: &Path, origin: SocketAddr, dir: &Path) -> io::Result<Option<Self>> {
        // Free a moment ago.
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = match peer {
            Peer::Direct => return Ok(None),
            Peer::Floor(method) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["relay", method.name()]);
                command.args([address.to_string(), origin.to_string()]);
                command
            }
            Peer::Hub => {
                let mut command = Command::new(hub);
                command.args([address.to_string(), origin.to_string()]);
                command
            }
            Peer::Nginx => nginx(address, origin, dir)?,
        };
        let output = File::create(dir.join("log"))?;
        command.current_dir(dir).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Some(Self { child: command.spawn()?, address }))
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
