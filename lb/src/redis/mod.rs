//! The load balancer of proxies that share their state through Redis: any of them serves any request, and all agree
//! where a stream is.
//!
//! What was asked a moment ago is answered at once, from this proxy's own view; all else waits for one thread, which
//! sends everything that waits in one pipeline through a [`RedisClient`]. While Redis is away, what is known goes on.

mod client;
mod config;
mod desk;
#[cfg(any(test, feature = "conformance"))]
mod fake;
mod keys;
mod link;
mod node;
mod origins;
mod records;
#[cfg(any(test, feature = "conformance"))]
mod rig;
#[cfg(any(test, feature = "conformance"))]
pub mod semantics;
mod server;
mod sessions;
#[cfg(test)]
mod sim;
mod streams;
#[cfg(any(test, feature = "conformance"))]
mod subject;
#[cfg(test)]
mod tests;
mod wire;

pub use client::{Census, Command, FOREVER, LOADS_LIFE, Lost, Mark, RedisClient, Reply, Returned};
pub use config::{BadUrl, MAX_DB, Node, RedisConfig, Topology};
#[cfg(any(test, feature = "conformance"))]
pub use desk::Load;
pub use desk::PATIENCE;
#[cfg(any(test, feature = "conformance"))]
pub use fake::{FakeRedis, Seen, Snapshot};
pub use keys::Keys;
pub use link::Clock;
#[cfg(any(test, feature = "conformance"))]
pub use records::rewrite;
#[cfg(any(test, feature = "conformance"))]
pub use rig::Rig;
pub use server::RealRedis;
#[cfg(any(test, feature = "conformance"))]
pub use subject::RedisSubject;

use crate::{Asker, HlsService, OriginLoadBalancer, OriginService, Outcome, RtcService, Setup, in_order};
use desk::Desk;
use link::SharedDesk;
use srs_proxy_core::key::StreamKey;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{HlsSession, Need, OriginStatus, Picked, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use std::{fmt, thread};

/// How long what Redis said of a stream or an unknown session holds: other proxies change it seldom.
pub const FRESH: Duration = Duration::from_secs(1);

/// How long a start waits for Redis, and for how long between its tries.
const START_PATIENCE: Duration = Duration::from_secs(5);
const START_PAUSE: Duration = Duration::from_millis(200);

/// How mappings of streams to origins are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mappings {
    /// They end when nobody has used them for long: [`CLAIM_LIFE`](crate::CLAIM_LIFE),
    /// [`STREAM_IDLE`](crate::STREAM_IDLE).
    #[default]
    End,
    /// They stay for ever, as the Go proxy writes them: while one is in the fleet, which renews none.
    Stay,
}

/// The load balancer with a shared store.
pub struct Redis {
    desk: Arc<SharedDesk>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    /// A load balancer with the store that `client` reaches. No two proxies may have the same seed. Waits a few seconds
    /// for the store.
    ///
    /// # Errors
    /// The store is not there, or does not let us in.
    pub fn start(
        setup: &Setup,
        mappings: Mappings,
        keys: Keys,
        mut client: Box<dyn RedisClient>,
        clock: Clock,
    ) -> Result<Self, Lost> {
        let mut desk = Desk::new(clock(), setup, keys, mappings);
        desk.epoch = SystemTime::now() - clock().since(Time::ZERO);
        let begin = Instant::now();
        while let Err(why) = link::exchange(&mut desk, &mut *client, &clock) {
            if begin.elapsed() >= START_PATIENCE {
                return Err(why);
            }
            thread::sleep(START_PAUSE);
        }
        let desk = Arc::new(SharedDesk::new(desk));
        link::serve(Arc::clone(&desk), client, clock).map_err(|error| Lost(format!("no thread: {error}")))?;
        Ok(Self { desk })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl OriginService for Redis {
    fn update(&self, asker: &Asker, origin: Origin) -> Outcome<()> {
        self.desk.at(asker.now, |desk| desk.update(asker, origin))
    }

    fn pick(&self, asker: &Asker, key: &StreamKey, need: Need) -> Outcome<Picked> {
        self.desk.at(asker.now, |desk| desk.pick(asker, key, need))
    }

    fn drain(&self, asker: &Asker, origin: &OriginId, on: bool) -> Outcome<bool> {
        self.desk.at(asker.now, |desk| desk.drain(asker, origin, on))
    }

    fn deregister(&self, asker: &Asker, origin: &OriginId) -> Outcome<bool> {
        self.desk.at(asker.now, |desk| desk.deregister(asker, origin))
    }

    fn unreachable(&self, now: Time, origin: &OriginId, protocol: Protocol) {
        self.desk.at(now, |desk| desk.unreachable(now, origin, protocol));
    }

    fn playing(&self, now: Time, key: &StreamKey) {
        self.desk.at(now, |desk| desk.playing(now, key));
    }

    fn publishing(&self, now: Time, key: &StreamKey, origin: &OriginId) {
        self.desk.at(now, |desk| desk.publishing(now, key, origin));
    }

    fn ended(&self, now: Time, key: &StreamKey, origin: &OriginId) {
        self.desk.at(now, |desk| desk.ended(key, origin));
    }

    /// The origins of the fleet; of their streams, those that this proxy has seen lately.
    fn origins(&self, asker: &Asker) -> Outcome<Vec<OriginStatus>> {
        let origins = self.desk.at(asker.now, |desk| desk.view.origins(asker.now));
        Outcome::Now(in_order(origins))
    }
}

impl HlsService for Redis {
    fn load_or_store_hls(&self, asker: &Asker, new: HlsSession) -> Outcome<HlsSession> {
        self.desk.at(asker.now, |desk| desk.load_or_store_hls(asker, new))
    }

    fn load_hls(&self, asker: &Asker, spbhid: &str) -> Outcome<Option<HlsSession>> {
        self.desk.at(asker.now, |desk| desk.load_hls(asker, spbhid))
    }
}

impl RtcService for Redis {
    fn store_rtc(&self, asker: &Asker, session: RtcSession) -> Outcome<()> {
        self.desk.at(asker.now, |desk| desk.store_rtc(asker, session))
    }

    fn load_rtc(&self, asker: &Asker, username: &str) -> Outcome<Option<RtcSession>> {
        self.desk.at(asker.now, |desk| desk.load_rtc(asker, username))
    }

    fn end_of_rtc(&self, asker: &Asker, username: &str) -> Outcome<()> {
        self.desk.at(asker.now, |desk| desk.end_of_rtc(asker, username))
    }

    fn leave(&self, now: Time, key: &StreamKey, resource: &Arc<str>) {
        self.desk.at(now, |desk| desk.leave(now, key, resource));
    }

    fn flowing(&self, now: Time, session: &RtcSession) {
        self.desk.at(now, |desk| desk.flowing(now, session));
    }
}

impl OriginLoadBalancer for Redis {
    fn tick(&self, now: Time) {
        self.desk.at(now, |desk| desk.tick(now));
    }
}
