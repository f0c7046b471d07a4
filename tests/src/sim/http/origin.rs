//! An origin that answers requests as planned, by the number in their targets. One for each of its connections.

use super::super::{End, Io, Peer};
use super::plan::{Body, Exchange, Rest, Trouble, number};
use crate::http::{Chunking, Message, Reader, head};
use srs_proxy_core::time::Duration;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What everybody plans by; what a client finds in a playlist is added.
pub type Table = Rc<RefCell<Vec<Exchange>>>;

/// A request as an origin got it.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Its number.
    pub n: usize,
    /// Over which connection it came.
    pub connection: usize,
    /// Other requests had come over that before.
    pub reused: bool,
    /// It, as far as it came.
    pub message: Message,
    /// How many bytes were written in answer.
    pub written: usize,
    /// The answer was cut off by breaking the connection.
    pub broke: bool,
}

/// What an origin saw, over all its connections.
#[derive(Default, Debug)]
pub struct OriginLog {
    /// All requests.
    pub receipts: Vec<Receipt>,
    /// What should not have happened.
    pub errors: Vec<String>,
    /// How many connections there were.
    pub connections: usize,
}

/// The timer by which a connection ends instead of serving a request.
const DOOM: u32 = u32::MAX;

enum Step {
    Wait(Duration),
    Write(Vec<u8>),
    End(End),
    /// Between requests: after so long the connection is ended.
    Rest(Duration),
}

/// One connection of an origin.
pub struct Origin {
    table: Table,
    log: Rc<RefCell<OriginLog>>,
    connection: usize,
    reader: Reader,
    /// The receipts of its requests.
    receipts: Vec<usize>,
    answered: usize,
    script: VecDeque<Step>,
    /// A timer runs for the script.
    waits: bool,
    /// It will not even look at the next request.
    doom: Option<(End, Duration)>,
    /// Its answer will not go on.
    stuck: bool,
    ended: bool,
}

impl Origin {
    /// A new connection.
    pub fn new(table: Table, log: Rc<RefCell<OriginLog>>) -> Self {
        log.borrow_mut().connections += 1;
        let connection = log.borrow().connections;
        Self {
            table,
            log,
            connection,
            reader: Reader::requests(),
            receipts: Vec::new(),
            answered: 0,
            script: VecDeque::new(),
            waits: false,
            doom: None,
            stuck: false,
            ended: false,
        }
    }

    fn error(&self, what: impl Into<String>) {
        self.log.borrow_mut().errors.push(what.into());
    }

    /// Looks at what was read.
    fn look(&mut self, io: &mut Io<'_>) {
        while let Some(message) = self.reader.messages.get(self.receipts.len()) {
            let Some(n) = number(message.target()) else {
                return self.error(format!("{:?} was never asked", message.target()));
            };
            if self.answered < self.receipts.len() || self.script.iter().any(|step| !step.is_rest()) {
                self.error("a request before the last one was answered");
            }
            self.script.clear();
            let reused = !self.receipts.is_empty();
            let (connection, message) = (self.connection, message.clone());
            let receipt = Receipt { n, connection, reused, message, written: 0, broke: false };
            let mut log = self.log.borrow_mut();
            self.receipts.push(log.receipts.len());
            log.receipts.push(receipt);
            drop(log);
            if self.table.borrow()[n].response.interim.contains(&100) && !self.is_bad(n) {
                self.script.push_back(Step::Write(head("HTTP/1.1 100 Continue", &Vec::new())));
            }
        }
        let mut log = self.log.borrow_mut();
        for (message, receipt) in self.reader.messages.iter().zip(&self.receipts) {
            let known = &mut log.receipts[*receipt].message;
            if known.body.len() < message.body.len() || known.complete != message.complete {
                *known = message.clone();
            }
        }
        drop(log);
        if let Some(message) = self.reader.messages.get(self.answered) {
            let n = number(message.target()).expect("it was looked at");
            if message.complete || self.table.borrow()[n].response.early {
                let says_close = message.has("connection", "close");
                self.answer(io, n, says_close);
                self.answered += 1;
            }
        }
        self.go_on(io);
    }

    fn is_bad(&self, n: usize) -> bool {
        use Trouble::{Garbage, HalfHead, Leaves, Oversize, Silent};
        let trouble = self.table.borrow()[n].response.trouble;
        matches!(trouble, Silent | Leaves(_) | HalfHead | Garbage | Oversize)
    }

    fn answer(&mut self, io: &mut Io<'_>, n: usize, says_close: bool) {
        let Exchange { request, response } = self.table.borrow()[n].clone();
        let script = &mut self.script;
        script.push_back(Step::Wait(response.delay));
        match response.trouble {
            Trouble::Silent => {
                self.stuck = true;
                return;
            }
            Trouble::Leaves(end) => return script.push_back(Step::End(end)),
            Trouble::HalfHead => {
                let head = response.head(n, &request);
                script.push_back(Step::Write(head[..head.len() / 2].to_vec()));
                return script.push_back(Step::End(End::Fin));
            }
            Trouble::Garbage => {
                let texts: [&[u8]; 4] = [
                    b"ICY 200 OK\r\n\r\n",
                    b"\x16\x03\x01",
                    b"HTTP/1.1 200 OK\nA: b\n\n",
                    b"HTTP/1.1 20 O\r\n\r\n",
                ];
                script.push_back(Step::Write(io.dice.pick(&texts).to_vec()));
                return script.push_back(Step::End(End::Fin));
            }
            Trouble::Oversize => {
                let line = format!("X-Long: {}\r\n", "x".repeat(1000));
                let text = format!("HTTP/1.1 200 OK\r\n{}", line.repeat(60));
                self.stuck = true;
                return script.push_back(Step::Write(text.into_bytes()));
            }
            _ => {}
        }
        for status in response.interim.iter().filter(|status| **status != 100) {
            let link = vec![("Link".to_owned(), "</a.css>; rel=preload".to_owned())];
            script.push_back(Step::Write(head(&format!("HTTP/1.1 {status} Early"), &link)));
        }
        script.push_back(Step::Write(response.head(n, &request)));
        let bare = request.method == "HEAD" || matches!(response.status, 204 | 304);
        let mut body = if bare { Vec::new() } else { response.body.encode() };
        let mut after = None;
        match response.trouble {
            Trouble::Stops(at, end) if at < body.len() => {
                body.truncate(at);
                after = Some(Step::End(end));
            }
            Trouble::Freezes(at) if at < body.len() => {
                body.truncate(at);
                self.stuck = true;
            }
            Trouble::BrokenChunk if !bare => {
                if let Body::Chunked(content, chunking) = &response.body {
                    // The line that was to say that there are no more is none.
                    body = Chunking { odd: false, trailers: Vec::new(), ..chunking.clone() }.encode(content);
                    body.truncate(body.len() - b"0\r\n\r\n".len());
                    body.extend_from_slice(b"xyz\r\n");
                }
            }
            // What ends with the connection cannot have too many.
            Trouble::Surplus if !matches!(response.body, Body::Close(_)) => {
                let pause = *io.dice.pick(&[0, 0, 300]);
                after = Some(Step::Wait(Duration::from_millis(pause)));
            }
            _ => {}
        }
        let pieces = if response.pause.is_some() { 4 } else { 1 };
        for piece in body.chunks(body.len().div_ceil(pieces).max(1)) {
            script.push_back(Step::Write(piece.to_vec()));
            script.extend(response.pause.map(Step::Wait));
        }
        if self.stuck {
            return;
        }
        if let Some(step) = after {
            let is_end = matches!(step, Step::End(_));
            script.push_back(step);
            if is_end {
                return;
            }
            script.push_back(Step::Write(
                b"HTTP/1.1 200 OK\r\nX-N: surplus\r\nContent-Length: 1\r\n\r\n!".to_vec(),
            ));
        }
        if says_close || !response.persists() {
            return script.push_back(Step::End(End::Fin));
        }
        match response.rest {
            Rest::Keeps => {}
            Rest::Closes(after) => script.push_back(Step::Rest(after)),
            Rest::ClosesAtNext(end, after) => self.doom = Some((end, after)),
        }
    }

    fn go_on(&mut self, io: &mut Io<'_>) {
        while !self.waits && !self.ended {
            match self.script.pop_front() {
                None => return,
                Some(Step::Wait(Duration::ZERO)) => {}
                Some(Step::Wait(time)) => {
                    io.wake(time, 0);
                    self.waits = true;
                }
                Some(Step::Write(bytes)) => {
                    if let Some(receipt) = self.receipts.last() {
                        self.log.borrow_mut().receipts[*receipt].written += bytes.len();
                    }
                    io.write(bytes);
                }
                Some(Step::End(end)) => self.leave(io, end),
                Some(rest @ Step::Rest(time)) => {
                    self.script.push_front(rest);
                    io.wake(time, self.receipts.len() as u32);
                    return;
                }
            }
        }
    }

    fn leave(&mut self, io: &mut Io<'_>, end: End) {
        self.ended = true;
        match end {
            End::Fin => io.close(),
            End::Reset => {
                if let Some(receipt) = self.receipts.last() {
                    self.log.borrow_mut().receipts[*receipt].broke = true;
                }
                io.reset();
            }
        }
    }
}

impl Step {
    fn is_rest(&self) -> bool {
        matches!(self, Self::Rest(_))
    }
}

impl Peer for Origin {
    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        if self.ended {
            return;
        }
        let rests = self.reader.is_between_messages() && self.script.is_empty() && !self.waits;
        if let Some((end, after)) = self.doom.filter(|_| rests) {
            return match after {
                Duration::ZERO => self.leave(io, end),
                _ => io.wake(after, DOOM),
            };
        }
        if let Err(error) = self.reader.feed(bytes) {
            self.error(error);
            return self.leave(io, End::Reset);
        }
        self.look(io);
    }

    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        if tag == 0 {
            self.waits = false;
            self.go_on(io);
        } else if let (DOOM, Some((end, _))) = (tag, self.doom) {
            self.leave(io, end);
        } else if tag as usize == self.receipts.len() && self.script.front().is_some_and(Step::is_rest) {
            self.leave(io, End::Fin);
        }
    }

    fn end(&mut self, io: &mut Io<'_>, _end: End) {
        self.ended = true;
        io.close();
    }

    fn between_messages(&self) -> bool {
        let idle = self.script.iter().all(Step::is_rest) && self.answered == self.receipts.len();
        self.ended || idle && !self.stuck && self.reader.is_between_messages()
    }
}
