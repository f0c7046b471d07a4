//! A toy hub of datagram flows in the simulated world: the proof that the contract carries one machine for many
//! clients, with late answers, legs whose slots are used again, and idle expiry.

use bytes::Bytes;
use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Note, Ticket, Transport};
use srs_proxy_core::origin::{Origin, Protocol};
use srs_proxy_core::query::{Answer, Health, OriginStatus, Query};
use srs_proxy_core::time::{Duration, Time};
use srs_proxy_tests::sim::{Bounds, Dice, Host, Io, Manner, Peer, Scripted, Weather, World, seeds};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

/// Flows at a time.
const MAX_FLOWS: usize = 16;

/// Datagrams a flow parks while its origin is not known.
const MAX_PARKED: usize = 4;

/// How long a flow may take to find its origin.
const SETUP: Duration = Duration::from_secs(3);

/// How long a flow lives without traffic.
const IDLE: Duration = Duration::from_secs(10);

fn dropped(fault: Fault) -> Note {
    Note::Dropped { fault, count: 1 }
}

#[derive(Debug)]
enum Stage {
    Asking(Ticket, Vec<Bytes>),
    Opening(Vec<Bytes>),
    Open,
}

#[derive(Debug)]
struct Flow {
    client: SocketAddr,
    leg: Leg,
    stage: Stage,
    until: Time,
}

/// Each client address has a flow, each flow a leg of its own toward its origin.
#[derive(Default)]
struct Hub {
    flows: Vec<Option<Flow>>,
    generations: Vec<u32>,
    clients: BTreeMap<SocketAddr, usize>,
    tickets: BTreeMap<Ticket, usize>,
    deadlines: BTreeSet<(Time, usize)>,
    asked: u32,
}

impl Hub {
    fn client_datagram(&mut self, cx: &mut Cx<'_>, client: SocketAddr, bytes: &[u8]) {
        let Some(&index) = self.clients.get(&client) else { return self.new_flow(cx, client, bytes) };
        let Some(flow) = &mut self.flows[index] else { return };
        match &mut flow.stage {
            Stage::Open => {
                cx.actions.forward(flow.leg, 0..bytes.len());
                self.touch(index, cx.now + IDLE);
            }
            Stage::Asking(_, parked) | Stage::Opening(parked) if parked.len() < MAX_PARKED => {
                parked.push(Bytes::copy_from_slice(bytes));
            }
            _ => cx.actions.note(dropped(Fault::Client("too much before the origin is known"))),
        }
    }

    fn new_flow(&mut self, cx: &mut Cx<'_>, client: SocketAddr, bytes: &[u8]) {
        let index = match self.flows.iter().position(Option::is_none) {
            Some(free) => free,
            None if self.flows.len() < MAX_FLOWS => {
                self.flows.push(None);
                self.generations.push(0);
                self.flows.len() - 1
            }
            None => return cx.actions.note(dropped(Fault::Proxy("too many flows"))),
        };
        self.generations[index] += 1;
        let leg = Leg::new(index as u32 + 1, self.generations[index]);
        let ticket = Ticket(self.asked);
        self.asked += 1;
        let (stage, until) = (Stage::Asking(ticket, vec![Bytes::copy_from_slice(bytes)]), cx.now + SETUP);
        self.flows[index] = Some(Flow { client, leg, stage, until });
        self.clients.insert(client, index);
        self.tickets.insert(ticket, index);
        self.deadlines.insert((until, index));
        cx.actions.push(Action::Ask { ticket, query: Query::Origins });
    }

    fn answer(&mut self, cx: &mut Cx<'_>, ticket: Ticket, answer: &Answer) {
        let Some(index) = self.tickets.remove(&ticket) else { return };
        let to = match answer {
            Answer::Origins(origins) => origins.first().and_then(|status| status.origin.endpoints.first()),
            _ => None,
        };
        let Some(&(_, to)) = to else { return self.end(cx, index) };
        let Some(flow) = &mut self.flows[index] else { return };
        if let Stage::Asking(_, parked) = &mut flow.stage {
            flow.stage = Stage::Opening(std::mem::take(parked));
            cx.actions.push(Action::Open { leg: flow.leg, to, transport: Transport::Udp });
        }
    }

    fn opened(&mut self, cx: &mut Cx<'_>, leg: Leg) {
        let index = leg.slot as usize - 1;
        let Some(flow) = &mut self.flows[index] else { return };
        if let Stage::Opening(parked) = &mut flow.stage {
            for bytes in std::mem::take(parked) {
                cx.actions.write(leg, bytes);
            }
            flow.stage = Stage::Open;
            self.touch(index, cx.now + IDLE);
        }
    }

    fn origin_datagram(&mut self, cx: &mut Cx<'_>, leg: Leg, len: usize) {
        let index = leg.slot as usize - 1;
        if let Some(flow) = &self.flows[index] {
            cx.actions.push(Action::Forward { to: Leg::CLIENT, peer: Some(flow.client), range: 0..len });
            self.touch(index, cx.now + IDLE);
        }
    }

    fn touch(&mut self, index: usize, until: Time) {
        if let Some(flow) = &mut self.flows[index] {
            self.deadlines.remove(&(flow.until, index));
            flow.until = until;
            self.deadlines.insert((until, index));
        }
    }

    fn forget(&mut self, index: usize) -> Option<Flow> {
        let flow = self.flows[index].take()?;
        self.clients.remove(&flow.client);
        self.deadlines.remove(&(flow.until, index));
        if let Stage::Asking(ticket, _) = flow.stage {
            self.tickets.remove(&ticket);
        }
        Some(flow)
    }

    fn end(&mut self, cx: &mut Cx<'_>, index: usize) {
        if let Some(Flow { leg, stage: Stage::Opening(_) | Stage::Open, .. }) = self.forget(index) {
            cx.actions.close(leg, Close::Abort);
        }
    }

    fn assert_consistent(&self) {
        let flows: Vec<_> =
            self.flows.iter().enumerate().filter_map(|(i, f)| Some((i, f.as_ref()?))).collect();
        assert_eq!(flows.len(), self.clients.len());
        assert_eq!(flows.len(), self.deadlines.len());
        for (index, flow) in &flows {
            assert_eq!(self.clients[&flow.client], *index);
            assert!(self.deadlines.contains(&(flow.until, *index)));
            if let Stage::Asking(ticket, _) = flow.stage {
                assert_eq!(self.tickets[&ticket], *index);
            }
        }
        let asking = flows.iter().filter(|(_, flow)| matches!(flow.stage, Stage::Asking(..))).count();
        assert_eq!(asking, self.tickets.len(), "a ticket leaked");
    }
}

impl Machine for Hub {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Datagram { leg: Leg::CLIENT, from, bytes } => self.client_datagram(cx, from, bytes),
            Input::Datagram { leg, bytes, .. } => self.origin_datagram(cx, leg, bytes.len()),
            Input::Answer { ticket, answer } => self.answer(cx, ticket, &answer),
            Input::Opened { leg, .. } => self.opened(cx, leg),
            Input::OpenFailed { leg, .. } => {
                self.forget(leg.slot as usize - 1);
            }
            Input::Tick => {
                while let Some(&(until, index)) = self.deadlines.first()
                    && until <= cx.now
                {
                    self.end(cx, index);
                }
            }
            Input::Stream { .. }
            | Input::Eof { .. }
            | Input::HungUp { .. }
            | Input::Spliced { .. }
            | Input::Drain
            | Input::Stop => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(until, _)| *until)
    }
}

/// What came back to one client.
type Echoes = Rc<RefCell<Vec<(u32, u32)>>>;

/// Numbered datagrams, some in bursts, with pauses in which the flow expires.
struct Caller {
    id: u32,
    left: u32,
    echoes: Echoes,
}

fn hub_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8000).into()
}

fn datagram(id: u32, number: u32) -> Vec<u8> {
    [id.to_be_bytes(), number.to_be_bytes()].concat()
}

fn fields(bytes: &[u8]) -> (u32, u32) {
    let field = |range: std::ops::Range<usize>| u32::from_be_bytes(bytes[range].try_into().expect("4 bytes"));
    (field(0..4), field(4..8))
}

impl Peer for Caller {
    fn start(&mut self, io: &mut Io<'_>) {
        let wait = io.dice.range(0..=2_000_000);
        io.wake(Duration::from_micros(wait), 0);
    }

    fn timer(&mut self, io: &mut Io<'_>, _tag: u32) {
        if self.left == 0 {
            return;
        }
        for _ in 0..io.dice.range(1..=3) {
            io.send(hub_address(), datagram(self.id, self.left));
            self.left -= 1;
            if self.left == 0 {
                break;
            }
        }
        let pause = if io.dice.chance(100) { 15_000_000 } else { 400_000 };
        let pause = io.dice.range(0..=pause);
        io.wake(Duration::from_micros(pause), 0);
    }

    fn datagram(&mut self, _io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        let (id, number) = fields(bytes);
        assert_eq!((from, id), (hub_address(), self.id), "another client's datagram");
        self.echoes.borrow_mut().push((id, number));
    }
}

/// Sends everything back, and sees that no socket speaks for two clients.
#[derive(Default)]
struct Echo {
    clients: BTreeMap<SocketAddr, u32>,
    last: BTreeMap<SocketAddr, u32>,
    in_order: bool,
    late: Vec<(SocketAddr, Vec<u8>)>,
}

impl Peer for Echo {
    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        let (to, bytes) = &self.late[tag as usize];
        io.send(*to, bytes.clone());
    }

    fn datagram(&mut self, io: &mut Io<'_>, from: SocketAddr, bytes: &[u8]) {
        let (id, number) = fields(bytes);
        assert_eq!(*self.clients.entry(from).or_insert(id), id, "one socket, two clients");
        let last = self.last.insert(from, number);
        assert!(!self.in_order || last.is_none_or(|last| number < last), "out of order");
        io.send(from, bytes);
        // Some come a second time when the flow may be gone and its slot another's.
        if !self.in_order && io.dice.chance(50) {
            let wait = io.dice.range(0..=30_000_000);
            io.wake(Duration::from_micros(wait), self.late.len() as u32);
            self.late.push((from, bytes.to_vec()));
        }
    }
}

struct Scene {
    world: World<Hub>,
    echoes: Vec<Echoes>,
}

fn origin_address(index: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, index), 9000).into()
}

fn hub(seed: u64, weather: Weather, clients: u32, manner: Manner, in_order: bool) -> Scene {
    let mut world = World::hub(seed, weather, Hub::default(), hub_address());
    world.bounds(Bounds { legs: 1 + MAX_FLOWS, tickets: 64, ..Bounds::default() });
    world.check(Hub::assert_consistent);
    world.balancer(Scripted::new(manner, |_, dice| {
        let origin = Origin {
            device_id: "".into(),
            server: "s".into(),
            service: "v".into(),
            pid: "1".into(),
            endpoints: vec![(Protocol::Rtc, origin_address(*dice.pick(&[1, 2])))],
        };
        let status = OriginStatus { origin, health: Health::Alive, heartbeat_age: 0, streams: Vec::new() };
        Answer::Origins(vec![status])
    }));
    for index in [1, 2] {
        let echo = Echo { in_order, ..Echo::default() };
        world.host(origin_address(index), Host::Datagrams(Box::new(echo)));
    }
    let mut echoes = Vec::new();
    for id in 0..clients {
        let seen = Rc::new(RefCell::new(Vec::new()));
        echoes.push(Rc::clone(&seen));
        let caller = Caller { id, left: 20, echoes: seen };
        let at = (Ipv4Addr::new(10, 9, 0, id as u8), 5000).into();
        world.host(at, Host::Datagrams(Box::new(caller)));
    }
    Scene { world, echoes }
}

#[test]
fn flows_never_mix_and_all_end() {
    let (mut strays, mut reused, mut answered) = (0, 0, 0);
    seeds::run("hub", 100, |seed| {
        let weather = Weather::random(&mut Dice::new(seed));
        let mut scene = hub(seed, weather, 24, Manner::Moody, false);
        let run = scene.world.run(Duration::from_secs(3600));
        assert!(!run.over, "a hub outlives its flows");
        assert_eq!(scene.world.open_legs(), 1, "a leg leaked");
        assert_eq!(scene.world.machine().deadline(), None, "the hub still waits for something");
        strays += scene.world.stray_datagrams();
        reused += u32::from(scene.world.machine().generations.iter().any(|&generation| generation > 1));
        answered += scene.echoes.iter().map(|echoes| echoes.borrow().len()).sum::<usize>();
    });
    // The seeds did show what they are for.
    assert!(strays > 0 && reused > 0 && answered > 0, "{strays} {reused} {answered}");
}

#[test]
fn on_a_good_network_every_datagram_comes_back_in_order() {
    let weather = Weather { delay: Duration::from_micros(1), ..Weather::fair() };
    for seed in 0..20 {
        let mut scene = hub(seed, weather.clone(), 8, Manner::Late(Duration::from_micros(100)), true);
        scene.world.run(Duration::from_secs(3600));
        for (id, echoes) in scene.echoes.iter().enumerate() {
            let expected: Vec<_> = (1..=20).rev().map(|number| (id as u32, number)).collect();
            assert_eq!(*echoes.borrow(), expected, "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| {
        let weather = Weather::random(&mut Dice::new(seed));
        hub(seed, weather, 24, Manner::Moody, false).world.run(Duration::from_secs(3600)).hash
    };
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed));
    }
}
