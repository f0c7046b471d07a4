//! The runtime with a hub that understands nothing, to measure what the runtime costs: `udp_hub LISTEN ORIGIN`.

#[path = "../tests/toy/mod.rs"]
mod toy;

use srs_proxy_core::time::Duration;
use srs_proxy_lb::{Memory, OriginLoadBalancer, Setup};
use srs_proxy_runtime_mio::{
    BoxMachine, Clock, Config, Ended, Listener, Observer, Runtime, SessionId, bind_udp,
};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use toy::Toy;

struct Log;

impl Observer for Log {
    fn accepted(&self, _: SessionId, _: &'static str, _: SocketAddr) {}
    fn note(&self, _: SessionId, _: &srs_proxy_core::machine::Note) {}
    fn lost(&self, _: SessionId, lost: &srs_proxy_runtime_mio::Lost) {
        eprintln!("{lost:?}");
    }
    fn ended(&self, _: SessionId, _: &Ended<'_>) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<SocketAddr> =
        std::env::args().skip(1).map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let [listen, origin] = arguments[..] else { return Err("usage: udp_hub LISTEN ORIGIN".into()) };
    let new = move |_| Box::new(Toy::new(Some(origin))) as BoxMachine;
    let listener = Listener::Udp("toy", bind_udp(listen, 1)?, Arc::new(new));
    let config = Config {
        idle: Duration::from_secs(60),
        stall: Duration::from_secs(30),
        max_sessions: 1000,
        max_sessions_per_network: 1000,
        files: None,
    };
    let lb: Arc<dyn OriginLoadBalancer> = Arc::new(Memory::new(&Setup::default()));
    let observer: Arc<dyn Observer> = Arc::new(Log);
    let clock = Clock::start();
    let _runtime = Runtime::start(1, config, vec![listener], &lb, &observer, clock, [0; 32])?;
    loop {
        std::thread::park();
    }
}
