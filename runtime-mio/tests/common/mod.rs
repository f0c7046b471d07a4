//! A load balancer that always answers late, from another thread, and a runtime around one machine.

#![allow(dead_code, reason = "each test uses a part of it")]

use srs_proxy_core::key::StreamKey;
use srs_proxy_core::machine::Note;
use srs_proxy_core::origin::{Origin, OriginId, Protocol};
use srs_proxy_core::query::{Answer, HlsSession, Need, OriginStatus, Picked, Refusal, RtcSession};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::{Asker, HlsService, OriginLoadBalancer, OriginService, Outcome, RtcService};
use srs_proxy_runtime_mio::{Clock, Config, Ended, Files, Listener, Observer, Runtime, SessionId};
use std::net::SocketAddr;
use std::sync::Arc;

struct Late(SocketAddr);

impl OriginService for Late {
    fn update(&self, _: &Asker, _: Origin) -> Outcome<()> {
        Outcome::Refused(Refusal::Full)
    }

    fn pick(&self, asker: &Asker, _: &StreamKey, _: Need) -> Outcome<Picked> {
        let picked = Picked { origin: OriginId::new("server", "service", "pid"), to: self.0 };
        let (mailbox, reply_to) = (Arc::clone(&asker.mailbox), asker.reply_to);
        std::thread::spawn(move || mailbox.put(reply_to, Answer::Picked(picked)));
        Outcome::Later
    }

    fn unreachable(&self, _: Time, _: &OriginId, _: Protocol) {}

    fn playing(&self, _: Time, _: &StreamKey) {}

    fn publishing(&self, _: Time, _: &StreamKey, _: &OriginId) {}

    fn ended(&self, _: Time, _: &StreamKey, _: &OriginId) {}

    fn origins(&self, _: &Asker) -> Outcome<Vec<OriginStatus>> {
        Outcome::Now(Vec::new())
    }

    fn drain(&self, _: &Asker, _: &OriginId, _: bool) -> Outcome<bool> {
        Outcome::Now(false)
    }

    fn deregister(&self, _: &Asker, _: &OriginId) -> Outcome<bool> {
        Outcome::Now(false)
    }
}

impl HlsService for Late {
    fn load_or_store_hls(&self, _: &Asker, new: HlsSession) -> Outcome<HlsSession> {
        Outcome::Now(new)
    }

    fn load_hls(&self, _: &Asker, _: &str) -> Outcome<Option<HlsSession>> {
        Outcome::Now(None)
    }
}

impl RtcService for Late {
    fn store_rtc(&self, _: &Asker, _: RtcSession) -> Outcome<()> {
        Outcome::Now(())
    }

    fn load_rtc(&self, _: &Asker, _: &str) -> Outcome<Option<RtcSession>> {
        Outcome::Now(None)
    }

    fn end_of_rtc(&self, _: &Asker, _: &str) -> Outcome<()> {
        Outcome::Later
    }

    fn leave(&self, _: Time, _: &StreamKey, _: &Arc<str>) {}

    fn flowing(&self, _: Time, _: &RtcSession) {}
}

impl OriginLoadBalancer for Late {
    fn tick(&self, _: Time) {}
}

struct Silent;

impl Observer for Silent {
    fn accepted(&self, _: SessionId, _: &'static str, _: SocketAddr) {}
    fn note(&self, _: SessionId, _: &Note) {}
    fn ended(&self, _: SessionId, _: &Ended<'_>) {}
}

/// For tests in which no peer tries the proxy's patience.
pub(crate) const STALL: Duration = Duration::from_secs(30);

/// As many workers as the listener has sockets; every stream's origin is at `origin`; a peer that takes nothing for `stall`
/// is cut off.
pub(crate) fn serve(listener: Listener, origin: SocketAddr, stall: Duration) -> Runtime {
    serve_observed(listener, origin, stall, &(Arc::new(Silent) as Arc<dyn Observer>))
}

/// The same, with somebody who watches.
pub(crate) fn serve_observed(
    listener: Listener,
    origin: SocketAddr,
    stall: Duration,
    observer: &Arc<dyn Observer>,
) -> Runtime {
    start(vec![listener], 1000, origin, stall, observer)
}

/// Several listeners, that have room for so many sessions together.
pub(crate) fn serve_within(listeners: Vec<Listener>, max_sessions: usize, origin: SocketAddr) -> Runtime {
    start(listeners, max_sessions, origin, STALL, &(Arc::new(Silent) as Arc<dyn Observer>))
}

fn start(
    listeners: Vec<Listener>,
    max_sessions: usize,
    origin: SocketAddr,
    stall: Duration,
    observer: &Arc<dyn Observer>,
) -> Runtime {
    let files = Some(Files::below(env!("CARGO_TARGET_TMPDIR").as_ref()).unwrap());
    let max_sessions_per_network = max_sessions;
    let config =
        Config { idle: Duration::from_secs(60), stall, max_sessions, max_sessions_per_network, files };
    let lb: Arc<dyn OriginLoadBalancer> = Arc::new(Late(origin));
    let workers = match &listeners[0] {
        Listener::Tcp(_, _, sockets, _) => sockets.len(),
        Listener::Udp(_, sockets, _) => sockets.len(),
    };
    Runtime::start(workers, config, listeners, &lb, observer, Clock::start(), [1; 32]).unwrap()
}
