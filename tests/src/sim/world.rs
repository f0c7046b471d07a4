//! A world for one machine: virtual time, the driver's side of the machine contract, and the invariants. No threads,
//! no clock, no sockets, no protocol.

use super::balancer::{Balancer, Reply};
use super::bounds::Bounds;
use super::dice::Dice;
use super::files::{File, Files};
use super::net::{Conn, Event, Fates, Host, Net, Opening, Splice};
use super::peer::Peer;
use super::running::Running;
use super::slots::{Slots, State, Target};
use super::trace::Trace;
use super::weather::Weather;
use bytes::Bytes;
use srs_proxy_core::machine::{
    Action, Actions, Close, Cx, Fault, Input, Leg, Machine, Note, OpenError, Opened, Ticket, Transport,
};
use srs_proxy_core::query::{Answer, Query};
use srs_proxy_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::ops::Range;
use std::panic::Location;

/// Inputs of one run after which it is taken for endless.
const MAX_STEPS: u64 = 2_000_000;

/// How long the driver takes between two pieces of a file.
const FILE_TURN: Duration = Duration::from_micros(50);

/// Inputs that are due before time moves on.
enum Soon {
    Answer(Ticket, Answer),
    Offer(Leg),
    Spliced(Leg),
}

/// What one run came to.
#[derive(Debug)]
pub struct Run {
    /// Whether the session is over: no leg is left.
    pub over: bool,
    /// The fault that ended it, if one did.
    pub fault: Option<Fault>,
    /// What the machine noted.
    pub notes: Vec<Note>,
    /// When the last thing happened.
    pub at: Time,
    /// A hash of all inputs and actions.
    pub hash: u64,
}

/// A simulated world.
pub struct World<M> {
    machine: M,
    machine_dice: Dice,
    balancer: Box<dyn Balancer>,
    balancer_dice: Dice,
    net: Net,
    slots: Slots,
    sockets: BTreeMap<SocketAddr, Leg>,
    files: Files,
    session: u32,
    next_port: u16,
    tickets: BTreeSet<Ticket>,
    never_answered: u64,
    soon: VecDeque<Soon>,
    tick_at: Option<Time>,
    actions: Actions,
    over: bool,
    fault: Option<Fault>,
    notes: Vec<Note>,
    running: Running,
    trace: Trace,
    bounds: Bounds,
    ends_with_client: bool,
    check: Box<dyn Fn(&M)>,
}

impl<M: Machine> World<M> {
    /// A world whose client leg is a TCP connection from `client`.
    pub fn tcp(seed: u64, weather: Weather, machine: M, client: Box<dyn Peer>, fates: Fates) -> Self {
        let mut world = Self::new(seed, weather, machine);
        world.client(client, fates);
        world
    }

    /// The next session, after the last is over, with the connections that were kept.
    pub fn again(&mut self, machine: M, client: Box<dyn Peer>, fates: Fates) {
        assert!(self.over, "one session at a time");
        self.machine = machine;
        (self.over, self.fault, self.tick_at) = (false, None, None);
        self.session += 1;
        self.files.forget();
        self.notes.clear();
        self.soon.clear();
        self.client(client, fates);
    }

    fn client(&mut self, client: Box<dyn Peer>, fates: Fates) {
        let conn = self.net.connect(Leg::CLIENT, None, client, fates);
        self.slots.begin(State::Tcp(conn));
        self.reschedule();
    }

    /// A world whose client leg is a UDP socket at `local`.
    pub fn hub(seed: u64, weather: Weather, machine: M, local: SocketAddr) -> Self {
        let mut world = Self::new(seed, weather, machine);
        world.slots.begin(State::Udp(local, None));
        world.sockets.insert(local, Leg::CLIENT);
        world.reschedule();
        world
    }

    fn new(seed: u64, weather: Weather, machine: M) -> Self {
        struct Nobody;
        impl Balancer for Nobody {
            fn ask(&mut self, _: Time, _: &mut Dice, _: Ticket, _: Query) -> Reply {
                Reply::Never
            }
        }
        let mut dice = Dice::new(seed);
        Self {
            machine,
            machine_dice: dice.fork(),
            balancer: Box::new(Nobody),
            balancer_dice: dice.fork(),
            net: Net::new(weather, dice),
            slots: Slots::default(),
            sockets: BTreeMap::new(),
            files: Files::default(),
            session: 0,
            next_port: 1024,
            tickets: BTreeSet::new(),
            never_answered: 0,
            soon: VecDeque::new(),
            tick_at: None,
            actions: Actions::new(),
            over: false,
            fault: None,
            notes: Vec::new(),
            running: Running::default(),
            trace: Trace::default(),
            bounds: Bounds::default(),
            ends_with_client: false,
            check: Box::new(|_| ()),
        }
    }

    /// Who answers questions; until told, nobody.
    pub fn balancer(&mut self, balancer: impl Balancer + 'static) {
        self.balancer = Box::new(balancer);
    }

    /// What is found at an address; elsewhere nothing is.
    pub fn host(&mut self, at: SocketAddr, host: Host) {
        self.net.host(at, host);
    }

    /// What is found at a path; elsewhere nothing is.
    pub fn file(&mut self, path: &str, file: File) {
        self.files.add(path, file);
    }

    /// The process is about to end, after this time.
    pub fn drain(&mut self, after: Duration) {
        self.net.at(self.net.now + after, Event::Drain);
    }

    /// The process ends, after this time: the machine hears nothing any more, its peers what it has said last.
    pub fn stop(&mut self, after: Duration) {
        self.net.at(self.net.now + after, Event::Stop);
    }

    /// Other bounds than the ordinary.
    pub fn bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Asserts that the session is over as soon as it hears that its client has left.
    pub fn ends_with_client(&mut self) {
        self.ends_with_client = true;
    }

    /// Asserts something of the machine after every step.
    pub fn check(&mut self, check: impl Fn(&M) + 'static) {
        self.check = Box::new(check);
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.net.now
    }

    /// Connections that are kept for a later session.
    pub fn kept(&self) -> usize {
        self.net.conns.iter().filter(|conn| conn.pooled.is_some()).count()
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Questions that were never answered.
    pub fn never_answered(&self) -> u64 {
        self.never_answered
    }

    /// Legs that are open, the client's too.
    pub fn open_legs(&self) -> usize {
        self.slots.open_legs().count()
    }

    /// Datagrams that came for a socket that was gone.
    pub fn stray_datagrams(&self) -> u64 {
        self.net.stray
    }

    /// All bytes the driver read from each TCP connection there was, in the order of opening.
    pub fn received(&self) -> impl Iterator<Item = (Leg, &[u8])> {
        self.net.conns.iter().map(|conn| (conn.leg, &conn.received[..]))
    }

    /// Lets things happen until the session is over and all connections are gone, nothing happens any more, or
    /// the time is up.
    #[track_caller]
    pub fn run(&mut self, limit: Duration) -> Run {
        let (limit, caller) = (self.net.now + limit, Location::caller());
        let finished = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while self.step(limit) {}));
        if let Err(panic) = finished {
            eprintln!("{}\nin the run at {caller}, at {} µs", self.trace.tail(), self.net.now.as_micros());
            std::panic::resume_unwind(panic);
        }
        Run {
            over: self.over,
            fault: self.fault,
            notes: self.notes.clone(),
            at: self.net.now,
            hash: self.trace.hash(),
        }
    }

    /// The last inputs and actions.
    pub fn tail(&self) -> String {
        self.trace.tail()
    }

    /// Asserts what holds at the end of every session.
    #[track_caller]
    pub fn assert_ended(&self) {
        let tail = || self.trace.tail();
        assert!(self.over, "the session did not end; {} legs are open\n{}", self.open_legs(), tail());
        assert_eq!(self.open_legs(), 0, "a leg leaked\n{}", tail());
        for (index, conn) in self.net.conns.iter().enumerate() {
            assert!(
                conn.dead || conn.pooled.is_some(),
                "{:?} is closed, its connection is not\n{}",
                conn.leg,
                tail()
            );
            let missing = self.net.missing(index);
            assert_eq!(missing, 0, "{:?}: bytes never reached the peer\n{}", conn.leg, tail());
        }
    }

    fn step(&mut self, limit: Time) -> bool {
        if let Some(soon) = self.soon.pop_front() {
            match soon {
                Soon::Answer(ticket, answer) => self.answer(ticket, answer),
                Soon::Offer(leg) => self.offer(leg),
                Soon::Spliced(leg) => self.spliced(leg),
            }
            return true;
        }
        // The datagrams of a hub that was stopped arrive yet.
        let (is_tcp, mut conns) = (!self.net.conns.is_empty(), self.net.conns.iter());
        if self.over && is_tcp && conns.all(|conn| conn.dead || conn.pooled.is_some() && conn.is_delivered())
        {
            return false;
        }
        let Some(event) = self.net.next(limit) else { return false };
        assert!(self.trace.steps() < MAX_STEPS, "the run does not end");
        match event {
            Event::ArriveIn(conn) => self.net.arrive_in(conn),
            Event::ArriveOut(conn) => self.net.arrive_out(conn),
            Event::Turn(conn) => self.turn(conn),
            Event::PeerTurn(conn) => self.net.peer_turn(conn),
            Event::PeerTimer(peer, tag) => self.net.peer_timer(peer, tag),
            Event::Opened(opening) => self.opened(opening),
            Event::OpenFailed(opening, why) => self.open_failed(opening, why),
            Event::Answer(session, ticket, answer) if session == self.session => self.answer(ticket, answer),
            Event::Answer(..) => {}
            Event::FileTurn(file) => self.file_turn(file),
            Event::Tick => self.tick(),
            Event::Drain => self.feed(Input::Drain, &Bytes::new()),
            Event::Stop => {
                self.feed(Input::Stop, &Bytes::new());
                self.over = true;
            }
            Event::Linger(conn, delivered) => self.linger(conn, delivered),
            Event::Datagram { to, from, bytes } => self.datagram(to, from, &bytes),
        }
        for (ticket, answer) in self.balancer.late() {
            self.answer(ticket, answer);
        }
        true
    }

    // What the driver hands to the machine.

    /// The driver looks at a connection: writes what it can, reads what it may.
    fn turn(&mut self, conn: usize) {
        self.net.turn_taken(conn);
        let was_above = self.net.conns[conn].above_high_water;
        self.net.flush(conn);
        let (leg, read) = (self.net.conns[conn].leg, self.net.weather.read);
        if was_above && !self.net.conns[conn].above_high_water {
            self.wake_feeders(leg);
        }
        let c = &mut self.net.conns[conn];
        if c.pooled.is_some() {
            // A connection that nobody uses is closed as soon as something happens to it.
            if c.inward.unread() > 0 || c.inward.ended() {
                c.pooled = None;
                self.net.part(conn);
            }
            return;
        }
        if !c.owned {
            if c.queue.is_empty() && !c.outward.finished() {
                self.net.finish(conn);
            }
            self.net.read(conn, usize::MAX);
            let c = &mut self.net.conns[conn];
            c.dead |= c.inward.ended() && c.peer_told;
            return;
        }
        // A kept connection is the machine's once it has been told so.
        if c.eof_told || self.slots.tcp(leg) != Some(conn) {
            return;
        }
        let c = &mut self.net.conns[conn];
        if c.inward.hung_up() && !std::mem::replace(&mut c.hang_up_told, true) {
            self.feed(Input::HungUp { leg }, &Bytes::new());
            // It may have been closed for that.
            return self.net.turn(conn);
        }
        let c = &self.net.conns[conn];
        let hangup = self.net.weather.sees_hangup_while_paused
            && c.broken
            && c.kept.is_empty()
            && c.inward.unread() == 0;
        if c.paused && !hangup {
            return;
        }
        if c.is_splice_done() || c.feeds.iter().any(|to| self.is_above(*to)) {
            return;
        }
        let max = self.net.dice.any_size(read);
        let bytes = self.net.read(conn, max);
        let c = &mut self.net.conns[conn];
        let fresh = !bytes.is_empty();
        if fresh {
            c.kept = if c.kept.is_empty() { bytes } else { [&c.kept[..], &bytes].concat().into() };
        }
        if c.inward.unread() > 0 {
            self.net.turn(conn);
        }
        if self.net.conns[conn].splice.is_some() {
            self.move_spliced(conn);
        } else if fresh {
            self.offer(leg);
        }
        let c = &mut self.net.conns[conn];
        if c.is_splice_done() {
            return;
        }
        // The end does not overtake what is about to be offered again; another turn follows that.
        let offers = self.soon.iter().any(|soon| matches!(soon, Soon::Offer(to) if *to == leg));
        if c.owned && !c.eof_told && !offers && (!c.paused || hangup) && c.inward.ended() {
            c.eof_told = true;
            let broken = c.broken;
            self.feed(Input::Eof { leg, broken }, &Bytes::new());
        }
    }

    /// Offers what was kept of a leg's bytes.
    fn offer(&mut self, leg: Leg) {
        let Some(conn) = self.slots.tcp(leg) else { return };
        let c = &self.net.conns[conn];
        if c.paused || c.splice.is_some() || c.eof_told {
            return;
        }
        if !c.kept.is_empty() {
            let bytes = c.kept.clone();
            self.feed(Input::Stream { leg, bytes: &bytes }, &bytes);
        }
        self.net.turn(conn);
    }

    fn move_spliced(&mut self, conn: usize) {
        let c = &mut self.net.conns[conn];
        let Some(splice) = &mut c.splice else { return };
        let most = splice.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = c.kept.split_to(c.kept.len().min(most));
        if let Some(left) = splice.left.as_mut().filter(|_| !bytes.is_empty()) {
            *left -= bytes.len() as u64;
            if *left == 0 {
                self.soon.push_back(Soon::Spliced(c.leg));
            }
        }
        if let Some(to) = self.slots.tcp(self.net.conns[conn].splice.map_or(Leg::CLIENT, |splice| splice.to))
        {
            self.net.enqueue(to, &bytes);
        }
    }

    /// All of a bounded splice, or of a part of a file, is on its way.
    fn spliced(&mut self, leg: Leg) {
        match self.slots.state(leg) {
            State::Tcp(conn) => self.net.conns[conn].splice = None,
            State::File(_) => {}
            _ => return,
        }
        self.feed(Input::Spliced { leg }, &Bytes::new());
        self.offer(leg);
    }

    /// The driver sends a piece of a file, if its receiver has room.
    fn file_turn(&mut self, file: usize) {
        let Some((leg, to)) = self.files.sending(file) else { return };
        if self.slots.state(leg) != State::File(file) || self.is_above(to) {
            return;
        }
        let (most, to) = (self.net.dice.any_size(self.net.weather.read), self.stream(to));
        let (bytes, done) = self.files.read(file, most);
        self.net.enqueue(to, &bytes);
        match done {
            None => self.net.at(self.net.now + FILE_TURN, Event::FileTurn(file)),
            Some(true) => self.soon.push_back(Soon::Spliced(leg)),
            Some(false) => self.feed(Input::Eof { leg, broken: false }, &Bytes::new()),
        }
    }

    fn opened(&mut self, opening: Opening) {
        let Some(target) = self.slots.awaited(opening) else { return };
        let leg = opening.0;
        let mut what = Opened::Fresh;
        let state = match target {
            Target::Tcp(to) => match self.net.accept(leg, to) {
                Some(conn) => State::Tcp(conn),
                None => return self.open_failed(opening, OpenError::Unreachable),
            },
            Target::Kept(conn) => {
                what = Opened::Reused;
                State::Tcp(conn)
            }
            Target::File(file) => {
                what = Opened::File(self.files.info(file));
                State::File(file)
            }
            Target::Udp(to) => {
                // Each socket gets a port of its own, so that what comes late for an old one is seen as such.
                let local = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next_port));
                self.next_port = self.next_port.checked_add(1).expect("a port that was not used");
                self.sockets.insert(local, leg);
                State::Udp(local, Some(to))
            }
        };
        self.slots.set(leg, state);
        self.feed(Input::Opened { leg, what }, &Bytes::new());
        if let State::Tcp(conn) = state {
            self.net.turn(conn);
        }
    }

    fn open_failed(&mut self, opening: Opening, why: OpenError) {
        if self.slots.awaited(opening).is_some() {
            self.slots.set(opening.0, State::Gone);
            self.feed(Input::OpenFailed { leg: opening.0, why }, &Bytes::new());
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if !self.over && self.tickets.remove(&ticket) {
            self.feed(Input::Answer { ticket, answer }, &Bytes::new());
        }
    }

    fn tick(&mut self) {
        self.tick_at = None;
        if !self.over && self.machine.deadline().is_some_and(|at| at <= self.net.now) {
            self.feed(Input::Tick, &Bytes::new());
            let (deadline, now) = (self.machine.deadline(), self.net.now);
            assert!(
                self.over || deadline.is_none_or(|at| at > now),
                "the deadline {deadline:?} has passed, after the Tick at {now:?}"
            );
        }
        self.reschedule();
    }

    fn reschedule(&mut self) {
        if self.over {
            return;
        }
        let Some(deadline) = self.machine.deadline() else { return };
        if self.tick_at.is_none_or(|at| deadline < at) {
            self.tick_at = Some(deadline);
            let late = self.net.dice.range(0..=self.net.weather.late.as_micros() as u64);
            self.net.at(deadline.max(self.net.now) + Duration::from_micros(late), Event::Tick);
        }
    }

    /// A closed connection that delivers nothing any more is given up.
    fn linger(&mut self, conn: usize, delivered: u64) {
        let c = &mut self.net.conns[conn];
        if c.dead {
            return;
        }
        if c.delivered == delivered {
            self.net.reset(conn, false);
            self.net.conns[conn].dead = true;
        } else {
            let (at, delivered) = (self.net.now + self.net.weather.linger, c.delivered);
            self.net.at(at, Event::Linger(conn, delivered));
        }
    }

    fn datagram(&mut self, to: SocketAddr, from: SocketAddr, bytes: &Bytes) {
        let Some(&leg) = self.sockets.get(&to) else { return self.net.deliver(to, from, bytes) };
        match self.slots.state(leg) {
            State::Udp(_, peer) if peer.is_none_or(|peer| peer == from) => {
                self.feed(Input::Datagram { leg, from, bytes }, bytes);
            }
            _ => self.net.stray += 1,
        }
    }

    fn feed(&mut self, input: Input<'_>, given: &Bytes) {
        if self.over {
            return;
        }
        self.trace.input(self.net.now, &input);
        let stream = match input {
            Input::Stream { leg, .. } => Some(leg),
            _ => None,
        };
        let left = matches!(input, Input::Eof { leg: Leg::CLIENT, .. });
        let mut actions = std::mem::take(&mut self.actions);
        let mut cx = Cx { now: self.net.now, rng: self.machine_dice.rng(), actions: &mut actions };
        let result = self.machine.handle(&mut cx, input);
        let consumed = result.unwrap_or(0);
        assert!(consumed <= given.len(), "{consumed} of {} bytes consumed", given.len());
        let forwardable = if result.is_err() { given.len() } else { consumed };
        match stream.and_then(|leg| self.slots.tcp(leg)) {
            Some(conn) => self.net.conns[conn].kept = given.slice(consumed..),
            None => assert_eq!(consumed, 0, "no stream, nothing to consume"),
        }
        for action in actions.drain() {
            self.trace.action(&action, given);
            if let (Action::Forward { range, .. }, Some(_)) = (&action, stream) {
                assert!(range.end <= forwardable, "{range:?} is not consumed, it would be offered again");
            }
            self.perform(action, given, stream);
        }
        self.actions = actions;
        if let Err(fault) = result {
            self.fault = Some(fault);
            for leg in self.slots.open_legs().collect::<Vec<_>>() {
                self.close(leg, Close::Flush);
            }
        }
        self.over = self.open_legs() == 0;
        if self.over {
            self.tickets.clear();
        }
        assert!(self.over || !left || !self.ends_with_client, "the client has left, and something stays");
        self.assert_bounds();
        assert!(self.running.len() <= self.machine.sessions(), "sessions were not said to be over");
        (self.check)(&self.machine);
        self.reschedule();
    }

    // What the machine has the driver do.

    fn perform(&mut self, action: Action, given: &Bytes, source: Option<Leg>) {
        match action {
            Action::Forward { to, peer, range } => {
                assert!(range.end <= given.len(), "Forward {range:?} of {} bytes", given.len());
                self.send(to, peer, &given.slice(range), source);
            }
            Action::Write { to, peer, bytes } => self.send(to, peer, &bytes, source),
            Action::Open { leg, to, transport } => self.open(leg, to, transport),
            Action::Ask { ticket, query } => {
                assert!(self.tickets.insert(ticket), "{ticket:?} is still unanswered");
                match self.balancer.ask(self.net.now, &mut self.balancer_dice, ticket, query) {
                    Reply::Now(answer) => self.soon.push_back(Soon::Answer(ticket, answer)),
                    Reply::After(wait, answer) => {
                        self.net.at(self.net.now + wait, Event::Answer(self.session, ticket, answer));
                    }
                    Reply::Later => {}
                    Reply::Never => {
                        self.never_answered += 1;
                        self.tickets.remove(&ticket);
                    }
                }
            }
            Action::Tell(report) => self.balancer.tell(self.net.now, &report),
            Action::Pause { leg } => {
                let conn = self.stream(leg);
                self.net.conns[conn].paused = true;
            }
            Action::Resume { leg } => {
                let conn = self.stream(leg);
                self.net.conns[conn].paused = false;
                self.soon.push_back(Soon::Offer(leg));
                self.net.turn(conn);
            }
            Action::Splice { from, to, limit } => self.splice(from, to, limit),
            Action::OpenFile { leg, path } => {
                let opening = self.slots.open(leg, Target::File(self.files.next()), self.bounds.legs);
                let wait = self.net.now + Duration::from_micros(self.net.dice.range(0..=100));
                match self.files.open(leg, &path) {
                    true => self.net.at(wait, Event::Opened(opening)),
                    false => self.net.at(wait, Event::OpenFailed(opening, OpenError::Unreachable)),
                }
            }
            Action::SendFile { from, to, range } => self.send_file(from, to, range),
            Action::Close { leg, how } => self.close(leg, how),
            Action::Note { leg, note } => {
                self.running.hear(leg, &note);
                self.notes.push(note);
            }
        }
    }

    fn send(&mut self, to: Leg, peer: Option<SocketAddr>, bytes: &Bytes, source: Option<Leg>) {
        match (self.slots.state(to), peer) {
            (State::Tcp(conn), None) => {
                assert!(!self.is_fed(to), "{to:?} is spliced into; other bytes would get between");
                if let Some(source) = source.and_then(|source| self.slots.tcp(source)) {
                    self.net.conns[source].feeds.insert(to);
                }
                self.net.enqueue(conn, bytes);
            }
            (State::Udp(local, None), Some(peer)) | (State::Udp(local, Some(peer)), None) => {
                self.net.send(local, peer, bytes);
            }
            (state, _) => panic!("bytes for {to:?} {peer:?}, which is {state:?}"),
        }
    }

    fn splice(&mut self, from: Leg, to: Leg, limit: Option<NonZeroU64>) {
        let conn = self.stream(from);
        self.stream(to);
        assert!(!self.is_fed(to), "{to:?} is spliced into from elsewhere");
        let c = &mut self.net.conns[conn];
        assert!(c.splice.is_none() && !c.eof_told, "Splice from {from:?}, which is over");
        c.splice = Some(Splice { to, left: limit.map(NonZeroU64::get) });
        c.feeds = BTreeSet::from([to]);
        self.move_spliced(conn);
        self.net.turn(conn);
    }

    fn send_file(&mut self, from: Leg, to: Leg, range: Range<u64>) {
        let State::File(file) = self.slots.state(from) else { panic!("{from:?} is no open file") };
        self.stream(to);
        assert!(!self.is_fed(to), "{to:?} is spliced into from elsewhere");
        self.files.send(file, to, range);
        self.net.at(self.net.now, Event::FileTurn(file));
    }

    /// Whether the driver moves bytes to this leg by itself.
    fn is_fed(&self, to: Leg) -> bool {
        let into = |c: &Conn| c.owned && !c.eof_told && c.splice.is_some_and(|splice| splice.to == to);
        self.net.conns.iter().any(into) || self.files.feeding(to).any(|(leg, _)| self.slots.is_open(leg))
    }

    fn open(&mut self, leg: Leg, to: SocketAddr, transport: Transport) {
        let kept = if transport == Transport::Kept { self.net.kept(to) } else { None };
        let target = match (transport, kept) {
            (Transport::Udp, _) => Target::Udp(to),
            (_, Some(conn)) => Target::Kept(conn),
            (_, None) => Target::Tcp(to),
        };
        let opening = self.slots.open(leg, target, self.bounds.legs);
        let soon = self.net.now + Duration::from_micros(self.net.dice.range(0..=100));
        match target {
            Target::Kept(conn) => {
                assert!(self.net.is_clean(conn), "{leg:?} was given back in the middle of a message");
                let c = &mut self.net.conns[conn];
                (c.leg, c.owned) = (leg, true);
                self.net.at(soon, Event::Opened(opening));
            }
            Target::Udp(_) if self.net.dice.chance(self.net.weather.exhausted) => {
                self.net.at(self.net.now, Event::OpenFailed(opening, OpenError::Exhausted));
            }
            Target::Udp(_) => self.net.at(soon, Event::Opened(opening)),
            _ => self.net.open(opening, to),
        }
    }

    fn close(&mut self, leg: Leg, how: Close) {
        let state = self.slots.state(leg);
        assert!(state != State::Gone, "{leg:?} is closed twice");
        self.slots.set(leg, State::Gone);
        match state {
            State::Tcp(conn) => {
                if how == Close::Keep {
                    let c = &self.net.conns[conn];
                    let moving = c.splice.is_some() || self.is_fed(leg);
                    assert!(!moving && c.server.is_some(), "{leg:?} cannot be kept");
                }
                let kept = how == Close::Keep && self.net.keep(conn);
                let c = &mut self.net.conns[conn];
                c.owned = false;
                c.kept = Bytes::new();
                c.dead = c.broken;
                match how {
                    Close::Abort => self.net.reset(conn, false),
                    _ if kept => self.net.turn(conn),
                    _ => self.net.part(conn),
                }
                self.wake_feeders(leg);
            }
            State::Udp(local, _) => {
                self.sockets.remove(&local);
            }
            // Nobody has used it, so it is as good as before.
            State::Opening(_, Target::Kept(conn)) => {
                let kept = how == Close::Keep && self.net.keep(conn);
                self.net.conns[conn].owned = false;
                if !kept {
                    self.net.part(conn);
                }
            }
            State::File(_) | State::Opening(..) | State::Gone => {}
        }
    }

    // Small things.

    fn stream(&self, leg: Leg) -> usize {
        self.slots
            .tcp(leg)
            .unwrap_or_else(|| panic!("{leg:?} is no open stream but {:?}", self.slots.state(leg)))
    }

    fn is_above(&self, leg: Leg) -> bool {
        self.slots.tcp(leg).is_some_and(|conn| self.net.conns[conn].above_high_water)
    }

    fn wake_feeders(&mut self, leg: Leg) {
        for conn in 0..self.net.conns.len() {
            if self.net.conns[conn].feeds.contains(&leg) {
                self.net.turn(conn);
            }
        }
        for (_, file) in self.files.feeding(leg) {
            self.net.at(self.net.now, Event::FileTurn(file));
        }
    }

    fn assert_bounds(&self) {
        let legs = self.open_legs();
        assert!(legs <= self.bounds.legs, "{legs} legs are open");
        assert!(self.tickets.len() <= self.bounds.tickets, "{} questions are open", self.tickets.len());
        for conn in self.net.conns.iter().filter(|conn| conn.owned) {
            let kept = conn.kept.len();
            assert!(
                conn.paused || conn.splice.is_some() || kept <= self.bounds.kept,
                "{:?} keeps {kept} bytes",
                conn.leg
            );
            let queued = conn.queue.len();
            let most = self.net.weather.high_water + self.bounds.above_high_water;
            assert!(queued <= most, "{queued} bytes are queued for {:?}", conn.leg);
            let into_gone = conn.splice.is_some_and(|splice| self.slots.tcp(splice.to).is_none());
            assert!(!into_gone || conn.eof_told, "{:?} is spliced into a leg that is gone", conn.leg);
        }
        for (from, to) in self.files.all_sending() {
            assert!(
                !self.slots.is_open(from) || self.slots.is_open(to),
                "{from:?} is sent to a leg that is gone"
            );
        }
    }
}
