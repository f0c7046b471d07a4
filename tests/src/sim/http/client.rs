//! A client that asks what was planned, one by one or all at once, and leaves in its own way.

use super::super::{End, Io, Peer};
use super::origin::Table;
use super::plan::number;
use crate::http::{Message, Reader};
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::rc::Rc;

/// How long a client waits for a word before it sends a body all the same.
const EXPECTS_FOR: Duration = Duration::from_secs(1);

/// How a client leaves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Leave {
    /// When all is answered.
    Done,
    /// When all is sent: it will not read the answer to the last.
    AfterSending,
    /// When the proxy ends the connection.
    Never,
    /// After so many bytes of answers.
    AfterBytes(usize, End),
    /// After so long.
    AfterTime(Duration, End),
}

/// What a client does.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientPlan {
    /// The numbers of its requests.
    pub requests: Vec<usize>,
    /// It does not wait for answers.
    pub pipelines: bool,
    /// It rests for so long after each piece it reads.
    pub slow: Option<Duration>,
    /// It asks for what a playlist names, too.
    pub follows: bool,
    /// How it leaves.
    pub leave: Leave,
    /// Silence of the proxy after which it leaves, whatever was planned.
    pub patience: Duration,
    /// What it sends behind its requests, and the pause between its bytes.
    pub raw: Option<(Vec<u8>, Duration)>,
}

impl ClientPlan {
    /// Asks these, one after the other.
    pub fn asking(requests: Vec<usize>) -> Self {
        Self {
            requests,
            pipelines: false,
            slow: None,
            follows: false,
            leave: Leave::Done,
            patience: Duration::from_secs(200),
            raw: None,
        }
    }
}

/// What a client did and saw.
#[derive(Debug)]
pub struct ClientLog {
    /// The numbers of the requests it sent, in order.
    pub sent: Vec<usize>,
    /// What it read.
    pub reader: Reader,
    /// How its connection ended.
    pub end: Option<End>,
    /// What was not HTTP.
    pub error: Option<String>,
    /// It left before all was answered.
    pub left: bool,
    /// It lost its patience.
    pub gave_up: bool,
    /// When the last bytes came.
    pub heard_at: Time,
    /// When the connection ended.
    pub ended_at: Time,
    bytes: usize,
}

impl ClientLog {
    /// The answers, without interim ones.
    pub fn answers(&self) -> impl Iterator<Item = &Message> {
        self.reader.messages.iter().filter(|message| message.status() >= 200)
    }

    fn complete(&self) -> usize {
        self.answers().filter(|message| message.complete).count()
    }
}

const NEXT: u32 = 0;
const READ: u32 = 1;
const BODY: u32 = 2;
const LEAVE: u32 = 3;
const PATIENCE: u32 = 4;
const RAW: u32 = 5;

/// A scripted client.
pub struct Client {
    plan: ClientPlan,
    table: Table,
    log: Rc<RefCell<ClientLog>>,
    /// A body that waits for a word.
    body: Option<Vec<u8>>,
    followed: usize,
    raw: usize,
    /// The next request is about to be sent.
    pauses: bool,
    ended: bool,
    patient_at: usize,
}

impl Client {
    /// A client with this plan.
    pub fn new(plan: ClientPlan, table: Table) -> (Self, Rc<RefCell<ClientLog>>) {
        let log = ClientLog {
            sent: Vec::new(),
            reader: Reader::responses(),
            end: None,
            error: None,
            left: false,
            gave_up: false,
            heard_at: Time::ZERO,
            ended_at: Time::ZERO,
            bytes: 0,
        };
        let log = Rc::new(RefCell::new(log));
        let (body, followed, raw, patient_at) = (None, 0, 0, usize::MAX);
        let shared = Rc::clone(&log);
        (Self { plan, table, log: shared, body, followed, raw, pauses: false, ended: false, patient_at }, log)
    }

    /// Sends what may be sent now.
    fn ask(&mut self, io: &mut Io<'_>) {
        while self.body.is_none() && !self.ended {
            let mut log = self.log.borrow_mut();
            let Some(&n) = self.plan.requests.get(log.sent.len()) else {
                drop(log);
                return self.ask_raw(io);
            };
            let waits = !self.plan.pipelines && log.complete() < log.sent.len();
            let over = log.answers().last().is_some_and(|message| message.complete && !message.persists());
            if waits || over {
                return;
            }
            let request = self.table.borrow()[n].request.clone();
            log.sent.push(n);
            log.reader.asked(request.method);
            drop(log);
            io.write(request.head());
            let body = request.body.encode();
            if request.expects {
                self.body = Some(body);
                io.wake(EXPECTS_FOR, BODY);
            } else {
                io.write(body);
                self.sent(io);
            }
        }
    }

    /// A request was sent to its last byte.
    fn sent(&mut self, io: &mut Io<'_>) {
        let all = self.log.borrow().sent.len() == self.plan.requests.len();
        if all && self.plan.leave == Leave::AfterSending {
            self.leave_early(io, End::Fin);
        }
    }

    fn ask_raw(&mut self, io: &mut Io<'_>) {
        let Some((bytes, pause)) = &self.plan.raw else { return };
        let log = self.log.borrow();
        if !self.plan.pipelines && log.complete() < log.sent.len() {
            return;
        }
        if *pause == Duration::ZERO {
            io.write(&bytes[self.raw..]);
            self.raw = bytes.len();
        } else if self.raw == 0 {
            io.wake(*pause, RAW);
        }
    }

    fn send_body(&mut self, io: &mut Io<'_>) {
        if let Some(body) = self.body.take() {
            io.write(body);
            self.sent(io);
            self.ask(io);
        }
    }

    /// Finds what a playlist names; the targets as it names them are what is asked.
    fn follow(&mut self) {
        let log = self.log.borrow();
        let answers: Vec<&Message> = log.answers().filter(|message| message.complete).collect();
        for (message, n) in answers.iter().zip(&log.sent).skip(self.followed) {
            let target = self.table.borrow()[*n].request.target.clone();
            let path = target.split('?').next().unwrap_or_default();
            let text = String::from_utf8_lossy(&message.body);
            let (base, uris): (_, Vec<&str>) = if message.status() != 200 {
                continue;
            } else if path.ends_with(".m3u8") {
                (path, text.lines().filter(|line| !line.starts_with('#')).collect())
            } else if path.ends_with(".mpd") {
                let base = text.split("<BaseURL>").nth(1).and_then(|rest| rest.split('<').next());
                let media = text.split("media=\"").skip(1).filter_map(|rest| rest.split('"').next());
                (base.unwrap_or_default(), media.collect())
            } else {
                continue;
            };
            let directory = base.rsplit_once('/').map_or("", |(directory, _)| directory);
            for uri in uris {
                let Some(n) = number(uri) else { continue };
                let is_path = uri.starts_with('/');
                let target = if is_path { uri.to_owned() } else { format!("{directory}/{uri}") };
                self.table.borrow_mut()[n].request.target = target;
                self.plan.requests.push(n);
            }
        }
        self.followed = answers.len();
    }

    fn leave(&mut self, io: &mut Io<'_>, end: End) {
        if self.ended {
            return;
        }
        self.ended = true;
        match end {
            End::Fin => io.close(),
            End::Reset => io.reset(),
        }
    }

    fn leave_early(&mut self, io: &mut Io<'_>, end: End) {
        self.log.borrow_mut().left |= !self.ended;
        self.leave(io, end);
    }
}

impl Peer for Client {
    fn start(&mut self, io: &mut Io<'_>) {
        if let Leave::AfterTime(time, _) = self.plan.leave {
            io.wake(time, LEAVE);
        }
        io.wake(self.plan.patience, PATIENCE);
        self.ask(io);
    }

    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        let mut log = self.log.borrow_mut();
        log.bytes += bytes.len();
        log.heard_at = io.now;
        if log.error.is_none()
            && let Err(error) = log.reader.feed(bytes)
        {
            log.error = Some(error);
        }
        let (got, interim) = (log.bytes, log.reader.messages.last().is_some_and(|last| last.status() == 100));
        let answered = log.complete() == log.sent.len();
        drop(log);
        if let Some(rest) = self.plan.slow {
            io.stop_reading();
            io.wake(rest, READ);
        }
        if let Leave::AfterBytes(after, end) = self.plan.leave
            && got >= after
        {
            return self.leave_early(io, end);
        }
        if self.body.is_some() && (interim || answered) {
            self.send_body(io);
        }
        if self.plan.follows {
            self.follow();
        }
        if !answered || self.pauses {
            return;
        }
        let log = self.log.borrow();
        let all = log.sent.len() == self.plan.requests.len() && self.plan.raw.is_none();
        drop(log);
        if all && self.plan.leave == Leave::Done {
            self.leave(io, End::Fin);
        } else if !all {
            self.pauses = true;
            let pause = io.dice.range(0..=100_000);
            io.wake(Duration::from_micros(pause), NEXT);
        }
    }

    fn end(&mut self, io: &mut Io<'_>, end: End) {
        let mut log = self.log.borrow_mut();
        log.end = Some(end);
        log.ended_at = io.now;
        if end == End::Fin {
            log.reader.end();
        }
        self.ended = true;
        io.close();
    }

    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        if self.ended && tag != READ {
            return;
        }
        match tag {
            NEXT => {
                self.pauses = false;
                self.ask(io);
            }
            READ => io.go_on_reading(),
            BODY => self.send_body(io),
            LEAVE => {
                if let Leave::AfterTime(_, end) = self.plan.leave {
                    self.leave_early(io, end);
                }
            }
            PATIENCE => {
                let bytes = self.log.borrow().bytes;
                if self.patient_at == bytes {
                    self.log.borrow_mut().gave_up = true;
                    return self.leave_early(io, End::Fin);
                }
                self.patient_at = bytes;
                io.wake(self.plan.patience, PATIENCE);
            }
            _ => {
                let Some((bytes, pause)) = &self.plan.raw else { return };
                io.write(&bytes[self.raw..self.raw + 1]);
                self.raw += 1;
                if self.raw < bytes.len() {
                    io.wake(*pause, RAW);
                }
            }
        }
    }
}
