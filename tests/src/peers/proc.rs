//! What the kernel says of a running process. Reads `/proc` only.

use std::collections::BTreeSet;
use std::fs;

/// The state of a listener in `/proc/net/tcp`.
const LISTENING: &str = "0A";

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

/// TCP connections that a process holds, in whatever state; its listeners do not count.
#[track_caller]
pub fn connections(pid: u32) -> usize {
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors can be listed")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/{pid}/net/{name}")));
    let lines = tables.iter().flatten().flat_map(|table| table.lines());
    lines.filter(|line| is_connection_of(line, &sockets)).count()
}

/// Whether somebody listens at this TCP port; asked of the kernel, for programs that take one connection only.
pub fn is_listening(port: u16) -> bool {
    let tables = ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    let address = format!(":{port:04X}");
    tables.iter().flatten().flat_map(|table| table.lines()).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&address)) && fields.nth(1) == Some(LISTENING)
    })
}

/// Whether a line of `/proc/net/tcp` is a connection by one of these sockets.
fn is_connection_of(line: &str, sockets: &BTreeSet<String>) -> bool {
    let mut fields = line.split_whitespace().skip(3);
    let (state, inode) = (fields.next(), fields.nth(5));
    state.is_some_and(|state| state != LISTENING) && inode.is_some_and(|inode| sockets.contains(inode))
}
