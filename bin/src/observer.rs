//! What happens in the workers, as log lines: each with the session, the stream where known, and at a rate that
//! no stranger can raise.

use log::Level;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::{Fault, Note};
use srs_proxy_runtime_mio::{Ended, Lost, Observer, SessionId};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines per second about sessions that were not served: enough to see what goes on, not enough to fill a disk.
const REFUSALS_PER_SECOND: u64 = 100;

/// Lines per second about sessions that were: each has two.
const SESSIONS_PER_SECOND: u64 = 1000;

/// Writes the log.
#[derive(Debug)]
pub(crate) struct Log {
    begin: Instant,
    refusals: Limit,
    sessions: Limit,
}

/// Lets so many lines through in a second, and counts the others.
#[derive(Debug)]
struct Limit {
    what: &'static str,
    lines: u64,
    /// The current second and the lines it has seen: both in one number, so that no lock is needed.
    window: AtomicU64,
}

impl Limit {
    const fn new(what: &'static str, lines: u64) -> Self {
        Self { what, lines, window: AtomicU64::new(0) }
    }

    /// Whether one more line may be written in the second `now`; and how many were not in the last one that had
    /// any.
    fn admit(&self, now: u64) -> (bool, u64) {
        const SEEN: u64 = (1 << 32) - 1;
        let second = now & SEEN;
        let next = |window: u64| Some(if window >> 32 == second { window + 1 } else { second << 32 | 1 });
        let before = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        let seen = before & SEEN;
        if before >> 32 == second { (seen < self.lines, 0) } else { (true, seen.saturating_sub(self.lines)) }
    }
}

impl Log {
    /// A log with nothing in it.
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            refusals: Limit::new("refused or failed sessions", REFUSALS_PER_SECOND),
            sessions: Limit::new("served sessions", SESSIONS_PER_SECOND),
        }
    }

    /// Whether one more line may be written; says how many were not.
    fn admits(&self, limit: &Limit) -> bool {
        let (admitted, suppressed) = limit.admit(self.begin.elapsed().as_secs());
        if suppressed > 0 {
            log::warn!("{suppressed} more lines about {} within a second", limit.what);
        }
        admitted
    }

    fn line(
        &self,
        limit: &Limit,
        level: Level,
        session: SessionId,
        stream: Option<&StreamKey>,
        line: fmt::Arguments<'_>,
    ) {
        if !self.admits(limit) {
            return;
        }
        match stream {
            Some(stream) => log::log!(level, conn:% = session, stream:% = stream; "{line}"),
            None => log::log!(level, conn:% = session; "{line}"),
        }
    }

    fn refusal(
        &self,
        session: SessionId,
        stream: Option<&StreamKey>,
        fault: Fault,
        line: fmt::Arguments<'_>,
    ) {
        self.line(&self.refusals, level(fault), session, stream, line);
    }
}

/// Whoever runs the proxy can do something about all but clients, and about its end.
fn level(fault: Fault) -> Level {
    if matches!(fault, Fault::Client(_) | Fault::STOP) { Level::Info } else { Level::Warn }
}

/// What may be missing.
struct Shown<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| value.fmt(f))
    }
}

impl Observer for Log {
    fn accepted(&self, session: SessionId, listener: &'static str, peer: SocketAddr) {
        log::debug!(conn:% = session; "{listener} connection from {peer}");
    }

    fn turned_away(&self, listener: &'static str, peer: SocketAddr) {
        if self.admits(&self.refusals) {
            log::warn!(
                "{listener} refused {peer}: its network has as many sessions as it may (PROXY_SESSIONS_PER_NETWORK)"
            );
        }
    }

    fn note(&self, session: SessionId, note: &Note) {
        match note {
            Note::Routed { verb, key, origin, to } => {
                let line = format_args!("{verb} at origin {origin}, {to}");
                self.line(&self.sessions, Level::Info, session, Some(key), line);
            }
            Note::OriginFailed { key, origin, fault } => {
                self.refusal(session, key.as_ref(), *fault, format_args!("origin {origin} failed, {fault}"));
            }
            Note::Refused { key, fault } => {
                self.refusal(session, key.as_ref(), *fault, format_args!("refused, {fault}"));
            }
            Note::Ended { key, client, fault, lasted } => {
                let seconds = lasted.as_secs_f64();
                let (cut, why) = (if fault.is_some() { "cut, " } else { "ended" }, Shown(*fault));
                let client = Shown(*client);
                let line = format_args!("{cut}{why}; client {client}, {seconds:.3} s");
                let level = fault.map_or(Level::Info, level);
                self.line(&self.sessions, level, session, Some(key), line);
            }
            Note::Dropped { fault, count } => {
                self.refusal(session, None, *fault, format_args!("{count} dropped, {fault}"));
            }
        }
    }

    fn lost(&self, session: SessionId, lost: &Lost) {
        let Lost { blocked, failed, unreachable } = lost;
        let line = format_args!(
            "datagrams lost: {blocked} blocked, {failed} could not be sent; {unreachable} times nobody was there"
        );
        self.line(&self.refusals, Level::Warn, session, None, line);
    }

    fn ended(&self, session: SessionId, ended: &Ended<'_>) {
        let Ended { peer, key, fault, received, from_origin, lost: _, lasted } = ended;
        let seconds = lasted.as_secs_f64();
        let line = format_args!(
            "client {peer}, {received} bytes from it, {from_origin} from the origin, {seconds:.3} s"
        );
        match (key, fault) {
            (_, Some(fault)) => self.refusal(session, *key, *fault, format_args!("cut, {fault}; {line}")),
            (Some(_), None) => {
                self.line(&self.sessions, Level::Info, session, *key, format_args!("ended; {line}"));
            }
            (None, None) => log::debug!(conn:% = session; "ended; {line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let limit = Limit::new("lines", 100);
        assert_eq!((0..1000).filter(|_| limit.admit(7).0).count(), 100);
        assert_eq!(limit.admit(8), (true, 900));
        assert_eq!(limit.admit(8), (true, 0));
    }
}
