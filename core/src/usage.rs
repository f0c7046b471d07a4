//! That a stream is in use: what the load balancer is told of it, again and again until it is over. Knows no protocol.

use crate::machine::{Action, Cx};
use crate::query::Report;
use crate::time::{Duration, Time};

/// How often the load balancer is told that something is in use.
pub const USE_INTERVAL: Duration = Duration::from_secs(20);

/// A stream that is published or played.
#[derive(Debug)]
pub(crate) struct Usage {
    report: Report,
    next: Time,
    /// The load balancer has heard of it.
    is_told: bool,
}

impl Usage {
    /// It begins, and the load balancer hears of it at once.
    pub(crate) fn begin(cx: &mut Cx<'_>, report: Report) -> Self {
        let mut usage = Self::from(cx.now, report);
        usage.tell(cx);
        usage
    }

    /// It may have begun, and the load balancer hears of it if it lasts until then.
    pub(crate) const fn from(next: Time, report: Report) -> Self {
        Self { report, next, is_told: false }
    }

    /// When to [`tell`](Self::tell) of it.
    pub(crate) const fn next(&self) -> Time {
        self.next
    }

    /// Tells of it, if it is time to.
    pub(crate) fn tell(&mut self, cx: &mut Cx<'_>) {
        if cx.now >= self.next {
            self.next = cx.now + USE_INTERVAL;
            self.is_told = true;
            cx.actions.push(Action::Tell(self.report.clone()));
        }
    }

    /// Nothing was heard of it lately, so that nothing is told until the next time.
    pub(crate) fn rest(&mut self, now: Time) {
        self.next = now + USE_INTERVAL;
    }

    /// It is over. Of a publisher that is worth knowing at once: the stream may come back elsewhere. One that nobody has
    /// heard of may have failed where another one is.
    pub(crate) fn end(self, cx: &mut Cx<'_>) {
        if self.is_told
            && let Report::Publishing(key, origin) = self.report
        {
            cx.actions.push(Action::Tell(Report::Ended(key, origin)));
        }
    }
}
