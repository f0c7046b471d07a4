//! What happens in the workers, as log lines: each with the session, the stream where known, and at a rate that
//! no stranger can raise.

use log::{debug, info, warn};
use srs_proxy_core::machine::{Fault, Note};
use srs_proxy_runtime_mio::{Ended, Observer, SessionId};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Lines per second about sessions that were not served: enough to see what goes on, not enough to fill a disk.
const REFUSALS_PER_SECOND: u64 = 100;

/// Writes the log.
#[derive(Debug)]
pub(crate) struct Log {
    begin: Instant,
    /// The current second, and the lines it has seen: both in one number, so that no lock is needed.
    window: AtomicU64,
}

impl Log {
    /// A log with nothing in it.
    pub(crate) fn new() -> Self {
        Self { begin: Instant::now(), window: AtomicU64::new(0) }
    }

    /// Whether one more line about a refused session may be written in the second `now`; and how many were not
    /// in the last one that had any.
    fn admit(&self, now: u64) -> (bool, u64) {
        const LINES: u64 = (1 << 32) - 1;
        let mut suppressed = 0;
        let before = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            Some(if window >> 32 == now & LINES { window.saturating_add(1) } else { (now & LINES) << 32 | 1 })
        });
        let before = before.unwrap_or_default();
        let lines = if before >> 32 == now & LINES {
            before & LINES
        } else {
            suppressed = (before & LINES).saturating_sub(REFUSALS_PER_SECOND);
            0
        };
        (lines < REFUSALS_PER_SECOND, suppressed)
    }

    fn refusal(&self, session: SessionId, line: std::fmt::Arguments<'_>, ours: bool) {
        let (admitted, suppressed) = self.admit(self.begin.elapsed().as_secs());
        if suppressed > 0 {
            warn!("{suppressed} more sessions were refused or failed within a second");
        }
        match (admitted, ours) {
            (false, _) => {}
            (true, true) => warn!(conn = session.to_string().as_str(); "{line}"),
            (true, false) => info!(conn = session.to_string().as_str(); "{line}"),
        }
    }
}

/// Whether whoever runs the proxy can do something about it.
const fn is_ours(fault: Fault) -> bool {
    !matches!(fault, Fault::Client(_))
}

impl Observer for Log {
    fn accepted(&self, session: SessionId, listener: &'static str, peer: SocketAddr) {
        debug!(conn = session.to_string().as_str(); "{listener} connection from {peer}");
    }

    fn note(&self, session: SessionId, note: &Note) {
        match note {
            Note::Routed { verb, key, origin, to } => {
                info!(conn = session.to_string().as_str(); "{verb} {key} at origin {origin}, {to}");
            }
            Note::OriginFailed { origin, fault } => {
                self.refusal(session, format_args!("origin {origin} failed, {fault}"), true);
            }
            Note::Refused { key: Some(key), fault } => {
                self.refusal(session, format_args!("refused {key}, {fault}"), is_ours(*fault));
            }
            Note::Refused { key: None, fault } => {
                self.refusal(session, format_args!("refused, {fault}"), is_ours(*fault));
            }
            Note::Dropped(fault) => self.refusal(session, format_args!("dropped, {fault}"), is_ours(*fault)),
        }
    }

    fn ended(&self, session: SessionId, ended: &Ended<'_>) {
        let Ended { key, fault, received, from_origin, lasted } = ended;
        let seconds = lasted.as_secs_f64();
        let bytes =
            format_args!("{received} bytes from the client, {from_origin} from the origin, {seconds:.3} s");
        match (key, fault) {
            (Some(key), Some(fault)) => {
                self.refusal(session, format_args!("cut {key}, {fault}; {bytes}"), is_ours(*fault))
            }
            (None, Some(fault)) => {
                self.refusal(session, format_args!("cut, {fault}; {bytes}"), is_ours(*fault))
            }
            (Some(key), None) => info!(conn = session.to_string().as_str(); "ended {key}; {bytes}"),
            (None, None) => debug!(conn = session.to_string().as_str(); "ended; {bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let log = Log::new();
        let admitted = (0..1000).filter(|_| log.admit(7).0).count() as u64;
        assert_eq!(admitted, REFUSALS_PER_SECOND);
        assert_eq!(log.admit(8), (true, 1000 - REFUSALS_PER_SECOND));
        assert_eq!(log.admit(8), (true, 0));
    }
}
