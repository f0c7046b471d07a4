//! A program that is measured, as a process: how it is started, and what the system says of it. Knows no program but ours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// nginx's module that relays; Debian has it in a package of its own.
pub const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Where a process's output goes.
const LOG: &str = "log";

/// Nanoseconds in one tick of `/proc/PID/stat`; fixed by the kernel's interface.
const TICK: u64 = 10_000_000;

/// A running process; it ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    dir: PathBuf,
}

impl Process {
    /// Starts it in `dir`, which must be there; its log is there, too.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, dir: &Path) -> io::Result<Self> {
        let output = File::create(dir.join(LOG))?;
        command.current_dir(dir).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: command.spawn()?, dir: dir.into() })
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join(LOG)).unwrap_or_default()
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// CPU time so far.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu(&self) -> io::Result<Cpu> {
        let mut tasks = BTreeMap::new();
        for task in fs::read_dir(self.proc("task"))? {
            let task = task?;
            let stat = fs::read_to_string(task.path().join("schedstat"))?;
            let nanos = stat.split(' ').next().and_then(|field| field.parse().ok());
            tasks.insert(task.file_name(), nanos.ok_or_else(|| io::Error::other("no schedstat"))?);
        }
        let stat = fs::read_to_string(self.proc("stat"))?;
        // The name may hold spaces; after its bracket come state and fields 4 and following: utime is field 14.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
        let ticks: u64 = fields.into_iter().flatten().filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Cpu { tasks, coarse: ticks * TICK })
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn memory(&self) -> io::Result<u64> {
        // Counted exactly, unlike the figure in `status`, which lags by some pages for each thread.
        let rollup = fs::read_to_string(self.proc("smaps_rollup"))?;
        let kilobytes = rollup.lines().find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
        kilobytes.map(|number| number * 1024).ok_or_else(|| io::Error::other("no Rss"))
    }

    /// Open descriptors.
    ///
    /// # Errors
    /// The process is gone.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.proc("fd"))?.count())
    }

    /// Threads.
    ///
    /// # Errors
    /// The process is gone.
    pub fn threads(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.proc("task"))?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about either failing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process's CPU time at a moment.
#[derive(Clone, Debug)]
pub struct Cpu {
    tasks: BTreeMap<std::ffi::OsString, u64>,
    coarse: u64,
}

impl Cpu {
    /// Seconds used since `earlier`: to the nanosecond while the same threads live; threads that ended in
    /// between leave only the process's sum, which counts in ticks.
    pub fn since(&self, earlier: &Self) -> f64 {
        let lived = earlier.tasks.keys().all(|task| self.tasks.contains_key(task));
        let nanos = if lived {
            self.tasks.values().sum::<u64>() - earlier.tasks.values().sum::<u64>()
        } else {
            self.coarse - earlier.coarse
        };
        nanos as f64 / 1e9
    }
}

/// An address of this host.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Ports that were free for TCP a moment ago.
///
/// # Errors
/// There are none.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let listeners: Vec<_> = (0..N).map(|_| TcpListener::bind(local(0))).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// A relay of this program's own.
///
/// # Errors
/// The system does not say which program this is.
pub fn relay(method: &str, listen: SocketAddr, origin: SocketAddr) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["relay", method, &listen.to_string(), &origin.to_string()]);
    Ok(command)
}

/// `srs-proxy` with these servers, one origin, and no other setting, whatever is in the environment here.
pub fn srs_proxy(binary: &Path, servers: &[(&str, SocketAddr)], origin: SocketAddr) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PROXY_")) {
        command.env_remove(name);
    }
    for (server, address) in servers {
        command.env(format!("PROXY_{server}"), address.to_string());
    }
    command.env("PROXY_DEFAULT_BACKEND_ENABLED", "on");
    command.env("PROXY_DEFAULT_BACKEND_IP", origin.ip().to_string());
    command
}
