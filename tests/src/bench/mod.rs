//! The benchmark: one load, sent through several proxies in turn, and what it cost each of them.
//!
//! The primary figure is the CPU time of the proxy's process per unit of work. Clients and origin live in this
//! process, in one thread ([`load`]; [`rtmp`] and [`http`] have one each); each peer is a process of its own
//! ([`peer`], [`process`]), the floors too ([`relay`]). A row counts only if every media message and every segment arrived
//! once, whole and in order ([`media`]).

pub mod case;
pub mod http;
pub mod load;
pub mod measure;
pub mod media;
pub mod peer;
pub mod process;
pub mod relay;
pub mod report;
pub mod rtmp;
pub mod udp;

use std::io;

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
