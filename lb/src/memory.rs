//! The load balancer of a proxy that stands alone: all state in this process, every answer at once. One lock guards
//! all of it.

use crate::rtc::Holder;
use crate::view::View;
use crate::{Asker, HlsService, OriginLoadBalancer, OriginService, Outcome, RtcService, Setup, in_order};
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{HlsSession, Need, OriginStatus, Picked, RtcSession};
use srs_proxy_core::time::Time;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The load balancer in memory.
pub struct Memory {
    view: Mutex<View>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// An empty load balancer.
    pub fn new(setup: &Setup) -> Self {
        Self { view: Mutex::new(View::new(setup)) }
    }

    /// Every change is whole when the lock is let go, so that a panic elsewhere spoils nothing.
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OriginService for Memory {
    fn update(&self, asker: &Asker, origin: Origin) -> Outcome<()> {
        self.view().update(asker.now, origin).into()
    }

    fn pick(&self, asker: &Asker, key: &StreamKey, need: Need) -> Outcome<Picked> {
        self.view().pick(asker.now, key, need).into()
    }

    fn unreachable(&self, now: Time, origin: &OriginId, protocol: Protocol) {
        self.view().unreachable(now, origin, protocol);
    }

    fn playing(&self, now: Time, key: &StreamKey) {
        self.view().home(now, key);
    }

    fn publishing(&self, now: Time, key: &StreamKey, origin: &OriginId) {
        self.view().publishing(now, now, key, origin);
    }

    fn ended(&self, _: Time, key: &StreamKey, origin: &OriginId) {
        self.view().ended(key, origin);
    }

    fn origins(&self, asker: &Asker) -> Outcome<Vec<OriginStatus>> {
        let origins = self.view().origins(asker.now);
        Outcome::Now(in_order(origins))
    }

    fn drain(&self, _: &Asker, origin: &OriginId, on: bool) -> Outcome<bool> {
        Outcome::Now(self.view().drain(origin, on))
    }

    fn deregister(&self, _: &Asker, origin: &OriginId) -> Outcome<bool> {
        Outcome::Now(self.view().deregister(origin))
    }
}

impl HlsService for Memory {
    fn load_or_store_hls(&self, asker: &Asker, new: HlsSession) -> Outcome<HlsSession> {
        self.view().load_or_store_hls(asker.now, new).into()
    }

    fn load_hls(&self, asker: &Asker, spbhid: &str) -> Outcome<Option<HlsSession>> {
        Outcome::Now(self.view().load_hls(asker.now, spbhid))
    }
}

impl RtcService for Memory {
    fn store_rtc(&self, asker: &Asker, session: RtcSession) -> Outcome<()> {
        self.view().store_rtc(asker.now, session).into()
    }

    fn load_rtc(&self, asker: &Asker, username: &str) -> Outcome<Option<RtcSession>> {
        Outcome::Now(self.view().rtc.load(asker.now, username))
    }

    fn end_of_rtc(&self, asker: &Asker, username: &str) -> Outcome<()> {
        let is_held = self.view().rtc.hold(asker.now, username, Holder::from(asker));
        if is_held { Outcome::Later } else { Outcome::Now(()) }
    }

    fn leave(&self, now: Time, key: &StreamKey, resource: &Arc<str>) {
        let left = self.view().rtc.leave(now, key, resource);
        // Nobody holds the lock any more.
        for Holder { mailbox, reply_to } in left.into_iter().flat_map(|left| left.holders) {
            mailbox.put(reply_to, Holder::END);
        }
    }

    fn flowing(&self, now: Time, session: &RtcSession) {
        self.view().flowing(now, session);
    }
}

impl OriginLoadBalancer for Memory {
    fn tick(&self, now: Time) {
        self.view().expire(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Subject};
    use srs_proxy_core::time::Duration;

    /// A load balancer in memory, in virtual time.
    struct InMemory {
        memory: Arc<Memory>,
        now: Time,
    }

    impl Subject for InMemory {
        fn balancer(&self) -> Arc<dyn OriginLoadBalancer> {
            Arc::clone(&self.memory) as _
        }

        fn now(&self) -> Time {
            self.now
        }

        fn advance(&mut self, by: Duration) {
            self.now = self.now + by;
        }
    }

    fn subject(setup: Setup) -> Box<dyn Subject> {
        let memory = Arc::new(Memory::new(&setup));
        Box::new(InMemory { memory, now: Time::ZERO })
    }

    #[test]
    fn it_behaves_as_every_load_balancer_must() {
        conformance::run(&subject);
        conformance::run_full(&subject);
    }
}
