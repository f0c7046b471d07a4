//! The RTMP benchmark: one load, sent through several proxies in turn, and what it cost each of them.
//!
//! The primary figure is the CPU time of the proxy's process per unit of work. Clients and origin live in this
//! process, in one thread ([`driver`]); each peer is a process of its own ([`peer`]), the floors too ([`relay`]).
//! A row counts only if every media message arrived once, whole and in order ([`media`]).

pub mod case;
pub mod driver;
pub mod media;
pub mod peer;
pub mod relay;
pub mod report;
pub mod udp;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::io;

/// Readiness, level-triggered: whoever has work is told so until the work is done.
struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(1024) })
    }

    fn add(&self, source: &impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    fn modify(&self, source: &impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Waits, at most `millis`, and fills `ready` with tokens and what they are ready for.
    fn wait(&mut self, millis: Option<i64>, ready: &mut Vec<(u64, EventFlags)>) -> io::Result<()> {
        let timeout = millis.map(|millis| rustix::event::Timespec {
            tv_sec: millis / 1000,
            tv_nsec: millis % 1000 * 1_000_000,
        });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| (event.data.u64(), event.flags)));
        Ok(())
    }
}

/// Allows as many descriptors as the system lets us; child processes inherit it.
///
/// # Errors
/// The system's.
pub fn raise_descriptor_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
