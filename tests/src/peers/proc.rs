//! What the kernel says of a running process. Reads `/proc` only.

use std::fs;

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
