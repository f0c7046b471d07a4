//! Machines with the real load balancer in memory, in the simulated world.

use srs_proxy_core::endpoint;
use srs_proxy_core::http::{Connection, HttpConfig, Server};
use srs_proxy_core::machine::{Note, Ticket};
use srs_proxy_core::origin::{Origin, Protocol};
use srs_proxy_core::query::{Answer, Query};
use srs_proxy_core::rtmp::RtmpSession;
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_lb::{Memory, OriginLoadBalancer, Setup};
use srs_proxy_tests::sim::rtmp::{self, ClientPlan, Leave, OriginPlan, Style};
use srs_proxy_tests::sim::scene::origin_address;
use srs_proxy_tests::sim::{Balancer, Dice, End, Fates, Host, Io, Peer, Real, Reply, Weather, World, seeds};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

const TTL: Duration = Duration::from_secs(300);

fn memory(origins: usize, seed: u64) -> Arc<dyn OriginLoadBalancer> {
    let lb: Arc<dyn OriginLoadBalancer> =
        Arc::new(Memory::new(&Setup { ttl: TTL, seed, ..Setup::default() }));
    let mut real = Real::new(Arc::clone(&lb));
    for index in 0..origins {
        let origin = Origin {
            device_id: "".into(),
            server: format!("origin{index}").into(),
            service: "s".into(),
            pid: "1".into(),
            endpoints: vec![(Protocol::Rtmp, origin_address(index))],
        };
        let reply = real.ask(Time::ZERO, &mut Dice::new(0), Ticket(0), Query::Register(origin));
        assert!(matches!(reply, Reply::Now(Answer::Registered)), "{reply:?}");
    }
    lb
}

/// A publisher comes, and leaves; which origin it came to.
fn publish(
    seed: u64,
    lb: &Arc<dyn OriginLoadBalancer>,
    hosts: impl IntoIterator<Item = Host>,
) -> Option<usize> {
    let mut dice = Dice::new(seed);
    let weather = Weather { stalls: 0, delay: Duration::from_millis(5), ..Weather::random(&mut dice) };
    let style = Style { leave: Leave::Politely, ..Style::random(&mut dice) };
    let (client, log) = rtmp::Client::new(ClientPlan::random(&mut dice, true), style);
    let machine = RtmpSession::new(Time::ZERO);
    let mut world = World::tcp(seed, weather, machine, Box::new(client), Fates::default());
    for (index, host) in hosts.into_iter().enumerate() {
        world.host(origin_address(index), host);
    }
    world.balancer(Real::new(Arc::clone(lb)));
    let run = world.run(Duration::from_secs(1200));
    world.assert_ended();
    assert_eq!(log.borrow().error, None);
    run.notes.iter().find_map(|note| match note {
        Note::Routed { to, .. } => (0..9).find(|index| origin_address(*index) == *to),
        _ => None,
    })
}

fn serves() -> Host {
    let serve = |_| -> Box<dyn Peer> { Box::new(rtmp::Origin::new(OriginPlan::plain(), Style::plain()).0) };
    Host::Serves(Box::new(serve), Fates::default())
}

#[test]
fn a_stream_stays_with_its_origin() {
    seeds::run("stickiness", 20, |seed| {
        let lb = memory(3, seed);
        let first = publish(seed, &lb, [serves(), serves(), serves()]);
        assert!(first.is_some());
        for again in 1..4 {
            assert_eq!(publish(seed + again, &lb, [serves(), serves(), serves()]), first);
        }
    });
}

#[test]
fn a_dead_origin_is_left_at_once_and_not_asked_by_the_next_client() {
    seeds::run("dead_origin", 20, |seed| {
        let lb = memory(2, seed);
        let hosts =
            |dead: usize| (0..2).map(move |index| if index == dead { Host::Refuses } else { serves() });
        let dead = publish(seed, &lb, [serves(), serves()]).expect("an origin");
        let other = publish(seed + 1, &lb, hosts(dead));
        assert_eq!(other, Some(1 - dead), "the client was taken to another origin");
        assert_eq!(publish(seed + 2, &lb, [serves(), serves()]), other, "the stream has moved for good");
    });
}

#[test]
fn without_any_origin_the_client_is_told_so() {
    for seed in 0..10 {
        assert_eq!(publish(seed, &memory(0, seed), []), None);
        assert_eq!(publish(seed, &memory(2, seed), [Host::Refuses, Host::Refuses]), None);
    }
}

// The API.

/// Says what it has to say, perhaps in pieces, and listens until the end.
struct Browser {
    says: Vec<u8>,
    heard: Rc<RefCell<(Vec<u8>, Option<End>)>>,
}

impl Peer for Browser {
    fn start(&mut self, io: &mut Io<'_>) {
        io.write(std::mem::take(&mut self.says));
        io.close();
    }

    fn bytes(&mut self, _io: &mut Io<'_>, bytes: &[u8]) {
        self.heard.borrow_mut().0.extend_from_slice(bytes);
    }

    fn end(&mut self, _io: &mut Io<'_>, end: End) {
        self.heard.borrow_mut().1 = Some(end);
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: proxy\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[test]
fn pipelined_requests_to_the_api_are_answered_in_order_in_any_weather() {
    seeds::run("api", 60, |seed| {
        let mut dice = Dice::new(seed);
        let lb = memory(1, seed);
        let ip = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));
        let at = endpoint::resolve("1935", ip).expect("an address");
        let registration = format!(
            r#"{{"ip":"{ip}","server":"late","service":"v","pid":"7","rtmp":["1935"],"summaries":{{"n":[1]}}}}"#
        );
        let says = [
            request("GET", "/api/v1/versions", ""),
            request("POST", "/api/v1/srs/register", "{}"),
            request("POST", "/api/v1/srs/register", &registration),
            request("POST", "/api/v1/origins/late%2Dv-7/drain", ""),
            request("GET", "/api/v1/origins", ""),
            request("DELETE", "/api/v1/origins/late-v-8", ""),
            request("GET", "/nowhere", ""),
        ];
        let heard = Rc::new(RefCell::new((Vec::new(), None)));
        let browser = Browser { says: says.concat().into(), heard: Rc::clone(&heard) };
        let client = SocketAddr::from(([10, 0, 0, 9], 1234));
        let machine = Connection::new(Arc::new(HttpConfig::default()), Server::System, client, Time::ZERO);
        let weather = Weather { stall: Duration::from_millis(200), ..Weather::random(&mut dice) };
        let mut world = World::tcp(seed, weather, machine, Box::new(browser), Fates::default());
        world.balancer(Real::new(Arc::clone(&lb)));
        world.run(Duration::from_secs(300));
        world.assert_ended();
        let (text, end) = &*heard.borrow();
        let text = String::from_utf8_lossy(text);
        let statuses: Vec<_> = text.lines().filter_map(|line| line.split_once("HTTP/1.1 ")).collect();
        let statuses: Vec<_> = statuses.iter().map(|(_, status)| &status[..3]).collect();
        assert_eq!(statuses, ["200", "400", "200", "200", "200", "404", "404"], "{text}");
        assert!(
            text.contains("late-v-7") && text.contains(&at.to_string()) && text.contains("draining"),
            "{text}"
        );
        assert_eq!(*end, Some(End::Fin));
    });
}
