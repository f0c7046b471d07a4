//! A load balancer with a shared store, as a subject of the tests that all load balancers must pass: in a time that
//! its store keeps with it.

use super::{Keys, Mappings, Redis, RedisClient};
use crate::conformance::Subject;
use crate::{Asker, Mailbox, Notify, OriginLoadBalancer, Outcome, ReplyTo, RtcService, Setup};
use srs_proxy_core::machine::Ticket;
use srs_proxy_core::time::{Duration, Time};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A load balancer to be tested, and what lets time pass at its store.
pub struct RedisSubject {
    redis: Arc<Redis>,
    now: Arc<AtomicU64>,
    settled: u64,
    pass: Box<dyn Fn(Duration)>,
}

impl fmt::Debug for RedisSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSubject").finish_non_exhaustive()
    }
}

impl RedisSubject {
    /// A load balancer at a store in which `pass` lets time pass.
    ///
    /// # Panics
    /// If the store is not there.
    pub fn new(
        setup: &Setup,
        keys: Keys,
        client: Box<dyn RedisClient>,
        pass: impl Fn(Duration) + 'static,
    ) -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        let clock = Box::new(move || Time::from_micros(clock.load(Ordering::SeqCst)));
        let redis = Redis::start(setup, Mappings::End, keys, client, clock).expect("a store");
        Self { redis: Arc::new(redis), now, settled: 0, pass: Box::new(pass) }
    }

    /// Waits until all that was asked and told has come to the store, and what is new there has come back: all goes one
    /// way, in order.
    fn settle(&mut self) {
        self.settled += 1;
        let (ring, bell) = channel();
        let asker = Asker {
            now: self.now(),
            mailbox: Arc::new(Mailbox::new(Box::new(Bell(Mutex::new(ring))))),
            reply_to: ReplyTo { session: 0, ticket: Ticket(0) },
        };
        let nobody = format!("nobody:{}", self.settled);
        assert_eq!(self.redis.load_rtc(&asker, &nobody), Outcome::Later);
        bell.recv_timeout(PATIENCE).expect("the store's answer");
    }
}

struct Bell(Mutex<Sender<()>>);

impl Notify for Bell {
    fn notify(&self) {
        // Nobody listens any more when a test has failed already.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(());
    }
}

impl Subject for RedisSubject {
    fn balancer(&self) -> Arc<dyn OriginLoadBalancer> {
        Arc::clone(&self.redis) as _
    }

    fn now(&self) -> Time {
        Time::from_micros(self.now.load(Ordering::SeqCst))
    }

    fn advance(&mut self, by: Duration) {
        self.settle();
        (self.pass)(by);
        let later = self.now() + by;
        self.now.store(later.as_micros(), Ordering::SeqCst);
        self.settle();
    }
}
