//! What the kernel says of a running process. Reads `/proc` only.

use super::{PATIENCE, wait_for};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The state of a listener in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// The state of a socket with a peer in `/proc/net/udp`.
const CONNECTED: &str = "01";

/// The kernel's unit of time in `/proc`, milliseconds: 100 Hz wherever Linux runs.
const TICK: u64 = 10;

/// Descriptors, threads and memory of a process at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, KiB.
    pub rss_kib: u64,
}

/// Looks at a process; ends the test if it is gone.
#[track_caller]
pub fn usage(pid: u32) -> Usage {
    let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory is known");
    let rss = rss.trim().trim_end_matches(" kB");
    Usage {
        descriptors: entries("fd").expect("its descriptors can be counted"),
        threads: entries("task").expect("its threads can be counted"),
        rss_kib: rss.parse().expect("memory in KiB"),
    }
}

/// How long a process has kept the processors busy since it began, in the kernel too.
#[track_caller]
pub fn busy(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in parentheses may hold anything.
    let fields = stat.rsplit(") ").next().expect("fields after the name").split(' ');
    let ticks = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number of ticks"));
    Duration::from_millis(ticks.sum::<u64>() * TICK)
}

/// TCP connections that a process holds, in whatever state; its listeners do not count. The kernel's tables have none that
/// both sides have ended, or one has broken off, and that is not closed yet: what is in no table is one, too.
#[track_caller]
pub fn connections(pid: u32) -> usize {
    let listeners = ["tcp", "tcp6"].into_iter().flat_map(table).filter(|entry| entry.state == LISTENING);
    let others = listeners.chain(["udp", "udp6"].into_iter().flat_map(table)).map(|entry| entry.inode);
    let unix = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let unix = unix.lines().filter_map(|line| line.split_whitespace().nth(6).map(str::to_owned));
    let others: BTreeSet<String> = others.chain(unix).collect();
    held_sockets(pid).difference(&others).count()
}

/// A process' UDP sockets over IPv4 that have one peer only: each one's number, which no later socket has, and its peer.
#[track_caller]
pub fn udp_peers(pid: u32) -> Vec<(String, SocketAddr)> {
    let look = || -> Vec<_> {
        let connected = sockets(pid, ["udp"]).into_iter().filter(|entry| entry.state == CONNECTED);
        connected.map(|entry| (entry.inode, entry.remote.expect("an address over IPv4"))).collect()
    };
    // The kernel gives the table in pieces, and finds its place again by counting: one that goes or comes meanwhile, of
    // whatever process, hides or doubles another.
    let mut last = look();
    wait_for("two equal looks at the UDP sockets", PATIENCE, || {
        let before = std::mem::replace(&mut last, look());
        (before == last).then(|| last.clone())
    })
}

/// What waits to be read at a UDP port by whoever has it, in bytes as the kernel counts them.
pub fn udp_unread(port: u16) -> u64 {
    let local = format!(":{port:04X}");
    let entries = table("udp").into_iter().filter(|entry| entry.local.ends_with(&local));
    entries.map(|entry| entry.unread).sum()
}

/// Files that a process holds open in a directory, or in one below.
#[track_caller]
pub fn files_in(pid: u32, directory: &Path) -> usize {
    opened(pid).filter(|path| path.starts_with(directory) && path != directory).count()
}

/// What a process holds open, as the kernel names it.
#[track_caller]
fn opened(pid: u32) -> impl Iterator<Item = PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors can be listed");
    descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
}

/// A line of `/proc/net/tcp` or its likes.
struct Entry {
    local: String,
    /// If it is over IPv4.
    remote: Option<SocketAddr>,
    state: String,
    unread: u64,
    inode: String,
}

fn table(name: &str) -> Vec<Entry> {
    let text = fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    text.lines().skip(1).filter_map(Entry::read).collect()
}

/// The numbers of the sockets that a process holds.
#[track_caller]
fn held_sockets(pid: u32) -> BTreeSet<String> {
    let number =
        |opened: PathBuf| Some(opened.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    opened(pid).filter_map(number).collect()
}

/// A process' own entries of these tables.
#[track_caller]
fn sockets<const N: usize>(pid: u32, tables: [&str; N]) -> Vec<Entry> {
    let held = held_sockets(pid);
    let entries = tables.into_iter().flat_map(table);
    entries.filter(|entry| held.contains(&entry.inode)).collect()
}

impl Entry {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, unread) = fields.next()?.split_once(':')?;
        Some(Self {
            local: local.to_owned(),
            remote: address(remote),
            state: state.to_owned(),
            unread: u64::from_str_radix(unread, 16).ok()?,
            inode: fields.nth(4)?.to_owned(),
        })
    }
}

/// An address over IPv4 as these tables have it: `0100007F:1F90`.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':').filter(|(ip, _)| ip.len() == 8)?;
    let ip = u32::from_str_radix(ip, 16).ok()?;
    let ip = Ipv4Addr::from(ip.to_ne_bytes());
    Some((IpAddr::V4(ip), u16::from_str_radix(port, 16).ok()?).into())
}

/// Whether somebody listens at this TCP port; asked of the kernel, for programs that take one connection only.
pub fn is_listening(port: u16) -> bool {
    let address = format!(":{port:04X}");
    let mut entries = ["tcp", "tcp6"].into_iter().flat_map(table);
    entries.any(|entry| entry.local.ends_with(&address) && entry.state == LISTENING)
}
