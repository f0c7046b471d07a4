//! What ends a worker's waiting for events when a deadline is due: a timer of the kernel that makes an event.

use crate::clock::Clock;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use srs_proxy_core::time::{Duration, Time};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// It rings at whole multiples of this, in microseconds, so that sessions that began together do not wake a worker one by
/// one: no deadline is shorter than a hundred milliseconds.
const GRAIN: u64 = 5_000;

#[derive(Debug)]
pub(crate) struct Alarm {
    timer: OwnedFd,
    /// When it will ring.
    at: Option<Time>,
}

impl Alarm {
    /// One that is not set, and whose events have this token.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, at: None })
    }

    /// Lets it ring when `at` is past, within [`GRAIN`], or earlier: one that is set for an earlier time stays so.
    pub(crate) fn set(&mut self, at: Time, clock: Clock) {
        let at = Time::from_micros(at.as_micros().next_multiple_of(GRAIN));
        if self.at.is_some_and(|set| set <= at) {
            return;
        }
        // Zero would unset it.
        let wait = at.since(clock.now()).max(Duration::from_micros(1));
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        // It cannot fail: the descriptor is a timer's, and the time a sound one.
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
        self.at = set.is_ok().then_some(at);
    }

    /// It has rung. What can be read of it need not be: each ringing is an event.
    pub(crate) fn rang(&mut self) {
        self.at = None;
    }
}
