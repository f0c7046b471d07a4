//! A scripted RTMP origin of the simulated world, of whatever temper. Speaks by the tests' own RTMP.

use super::{ASIDE, EVEN, Leave, Op, STEP, SharedLog, Style, Talk, aside};
use crate::rtmp::amf0::Value;
use crate::rtmp::command::{self, control};
use crate::rtmp::{Command, Message, Wire, kind};
use crate::sim::dice::Dice;
use crate::sim::peer::{End, Io, Peer};

/// What an origin does instead of serving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Temper {
    /// It serves.
    Serves,
    /// It serves, and sends media without any `onStatus`.
    ServesSilently,
    /// It says no to `connect`, by `_error`.
    RefusesConnect,
    /// It says no to `createStream`, by `_error`.
    RefusesCreate,
    /// It says no to `publish` or `play`, by `onStatus`.
    RefusesStream,
    /// It closes without a word when this moment comes.
    Closes(Moment),
    /// It breaks the connection then.
    Resets(Moment),
    /// It says nothing more then.
    FallsSilent(Moment),
    /// It sends nonsense then.
    Babbles(Moment),
}

/// The moments of an origin's setup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Moment {
    /// The connection stands.
    Accept,
    /// `connect` came.
    Connect,
    /// `createStream` came.
    Create,
    /// `publish` or `play` came.
    Start,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Connect, Self::Create, Self::Start];
}

/// How an origin serves.
#[derive(Clone, Debug)]
pub struct OriginPlan {
    /// Whether it does.
    pub temper: Temper,
    /// The id of the first stream created; the next ones count on.
    pub stream_id: u32,
    /// The acknowledgement window it announces, if it does.
    pub window: Option<u32>,
    /// Sends what nobody asked for: `onBWDone`, pings.
    pub talkative: bool,
    /// What it says to a player when the stream begins is equally long and in equal steps of time.
    pub even: bool,
    /// Its last status comes in between the chunks of a media message.
    pub mixed: bool,
}

impl OriginPlan {
    /// The plainest.
    pub fn plain() -> Self {
        Self {
            temper: Temper::Serves,
            stream_id: 1,
            window: Some(2_500_000),
            talkative: false,
            even: false,
            mixed: false,
        }
    }

    /// Any that serves.
    pub fn random(dice: &mut Dice) -> Self {
        Self {
            temper: Temper::Serves,
            stream_id: *dice.pick(&[1, 1, 1, 2, 5, 0x1234_5678]),
            window: *dice.pick(&[None, Some(2_500_000), Some(5000)]),
            talkative: dice.chance(300),
            even: dice.chance(200),
            mixed: dice.chance(200),
        }
    }
}

/// A scripted origin's end of one connection.
pub struct Origin {
    talk: Talk,
    plan: OriginPlan,
    created: u32,
    /// Takes no more notice of anything.
    mute: bool,
    closes_after_refusal: bool,
}

impl Origin {
    /// An origin, and what will be seen of it.
    pub fn new(plan: OriginPlan, style: Style) -> (Self, SharedLog) {
        let (talk, log) = Talk::new(Wire::server(12), style);
        (Self { talk, plan, created: 0, mute: false, closes_after_refusal: false }, log)
    }

    /// Whether it ends the connection after it refused a stream.
    pub fn closing_after_refusal(mut self, closes: bool) -> Self {
        self.closes_after_refusal = closes;
        self
    }

    /// At a moment of the setup: whether it goes on.
    fn goes_on(&mut self, io: &mut Io<'_>, moment: Moment) -> bool {
        match self.plan.temper {
            Temper::Closes(at) if at == moment => {
                self.talk.write(io);
                io.close();
            }
            Temper::Resets(at) if at == moment => io.reset(),
            Temper::FallsSilent(at) if at == moment => {}
            Temper::Babbles(at) if at == moment => {
                self.talk.write(io);
                // No version, no chunk stream: type 3 headers of what was never begun.
                io.write(vec![0xFF; 4000]);
            }
            _ => return true,
        }
        self.mute = true;
        false
    }

    fn reply(&mut self, command: &Command) {
        self.talk.command(command, self.talk.style.command_csid, 0);
    }

    fn status(&mut self, io: &mut Io<'_>, level: &str, code: &str, text: &str, stream_id: u32) {
        // Some are longer than a chunk.
        let text = &text.repeat(if self.plan.even { EVEN } else { io.dice.any_size(80) });
        let status = (level.to_owned(), code.to_owned(), text.to_owned(), io.now);
        self.talk.log.borrow_mut().statuses.push(status);
        let (status, csid) = (command::on_status(level, code, text), self.talk.style.stream_csid);
        if self.plan.mixed && code.ends_with(".Start") {
            let status = self.talk.command_message(&status, csid, stream_id);
            let (type_id, payload) = (kind::VIDEO, io.dice.bytes(500).into());
            let csid = if csid == 6 { 7 } else { 6 };
            let media = Message { csid, timestamp: self.talk.style.time, type_id, stream_id, payload };
            self.talk.mixed(io, vec![status.clone(), media]);
            self.talk.log.borrow_mut().sent.retain(|sent| *sent != status);
        } else {
            self.talk.command(&status, csid, stream_id);
        }
    }

    /// A message before the status that differs from it only by its time.
    fn begin_evenly(&mut self, stream_id: u32) {
        let Style { stream_csid: csid, time, .. } = self.talk.style;
        let status = command::on_status("status", "NetStream.Play.Reset", &"again".repeat(EVEN));
        let length = status.message(csid, stream_id).payload.len();
        let aside = |text: &str| Command::new(ASIDE, 0.0, [Value::string(text)]).message(csid, stream_id);
        let filled = Message { timestamp: time, ..aside(&"x".repeat(length - aside("").payload.len())) };
        self.talk.wire.send(&filled);
        self.talk.sent(filled);
        self.talk.style.time = time.wrapping_add(STEP);
    }

    fn connected(&mut self, io: &mut Io<'_>, command: Command) {
        self.talk.log.borrow_mut().connect = Some(command.object);
        if !self.goes_on(io, Moment::Connect) {
            return;
        }
        if let Some(window) = self.plan.window {
            self.talk.wire.send(&control::window_ack_size(window));
            self.talk.wire.send(&control::peer_bandwidth(window));
        }
        self.talk.moment(0);
        if self.plan.temper == Temper::RefusesConnect {
            let no = command::error(command.transaction, "NetConnection.Connect.Rejected", "go away");
            return self.reply(&no);
        }
        let info = command::information("status", "NetConnection.Connect.Success", "yes");
        self.reply(&command::result(command.transaction, Value::Null, [info]));
        if self.plan.talkative {
            self.reply(&Command::new("onBWDone", 0.0, []));
            self.talk.wire.send(&control::ping_request(1));
            // The client never sees these, only what they made of the headers of those to come. The last is of
            // the time of what the proxy says itself, if commands have no time.
            let (csid, time) = (self.talk.style.command_csid, self.talk.style.time);
            let time = time.wrapping_sub(3 * STEP);
            for n in 0..=3 {
                self.talk.wire.send(&Message { stream_id: 0, ..aside(csid, time.wrapping_add(STEP * n)) });
            }
            let more = (4..=7).map(|n| Op::Send(aside(csid, time.wrapping_add(STEP * n))));
            self.talk.style.ops.extend(more);
        }
        self.talk.moment(1);
    }

    fn create(&mut self, io: &mut Io<'_>, transaction: f64) {
        if !self.goes_on(io, Moment::Create) {
            return;
        }
        if self.plan.temper == Temper::RefusesCreate {
            return self.reply(&command::error(transaction, "NetConnection.Call.Failed", "no more streams"));
        }
        let id = self.plan.stream_id + self.created;
        self.created += 1;
        // Longer than the proxy's answer to the same question, from some.
        let more = self.plan.talkative.then_some(Value::Null);
        let values: Vec<_> = [Value::Number(id.into())].into_iter().chain(more).collect();
        self.reply(&command::result(transaction, Value::Null, values));
        self.talk.moment(2);
    }

    fn begin(&mut self, io: &mut Io<'_>, command: &Command, stream_id: u32) {
        {
            let mut log = self.talk.log.borrow_mut();
            log.name = Some(command.text(0).to_owned());
            log.stream_id = stream_id;
        }
        if !self.goes_on(io, Moment::Start) {
            return;
        }
        let publishes = command.name == "publish";
        if self.plan.temper == Temper::RefusesStream {
            let code = if publishes { "NetStream.Publish.BadName" } else { "NetStream.Play.StreamNotFound" };
            self.status(io, "error", code, "busy", stream_id);
            self.talk.write(io);
            if self.closes_after_refusal {
                io.close();
            }
            return;
        }
        self.talk.moment(3);
        if self.plan.temper == Temper::ServesSilently {
        } else if publishes {
            self.status(io, "status", "NetStream.Publish.Start", "go", stream_id);
        } else {
            self.talk.wire.send(&control::stream_begin(stream_id));
            if self.plan.even {
                self.begin_evenly(stream_id);
            }
            self.status(io, "status", "NetStream.Play.Reset", "again", stream_id);
            if self.plan.even {
                self.talk.style.time = self.talk.style.time.wrapping_add(STEP);
            }
            self.status(io, "status", "NetStream.Play.Start", "begin", stream_id);
        }
        self.talk.stream(io);
    }
}

impl Peer for Origin {
    fn start(&mut self, io: &mut Io<'_>) {
        self.goes_on(io, Moment::Accept);
    }

    fn bytes(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        if self.mute {
            return;
        }
        self.talk.feed(io, bytes);
        while let Some(message) = self.talk.wire.next_message() {
            match Command::decode(&message) {
                Ok(Some(command)) if command.name == ASIDE => self.talk.take(message),
                Ok(Some(command)) => match &*command.name {
                    "connect" => self.connected(io, command),
                    "createStream" => self.create(io, command.transaction),
                    "publish" | "play" => self.begin(io, &command, message.stream_id),
                    "releaseStream" | "FCPublish" | "getStreamLength" | "FCSubscribe" => {
                        self.reply(&command::result(command.transaction, Value::Null, [Value::Undefined]));
                        self.talk.log.borrow_mut().commands.push(command);
                    }
                    _ => self.talk.log.borrow_mut().commands.push(command),
                },
                Ok(None) => self.talk.take(message),
                Err(error) => return self.talk.fail(io, error),
            }
            if self.mute {
                return;
            }
        }
        self.talk.write(io);
    }

    fn end(&mut self, io: &mut Io<'_>, end: End) {
        self.talk.log.borrow_mut().end = Some(end);
        self.talk.left = true;
        io.close();
    }

    fn timer(&mut self, io: &mut Io<'_>, tag: u32) {
        if self.talk.timer(io, tag) && self.talk.style.leave != Leave::Never {
            self.talk.left = true;
            io.close();
        }
    }
}
