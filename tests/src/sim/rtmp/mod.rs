//! RTMP clients and origins for the simulated world, as unlike each other as the specification lets them be. They speak by
//! the tests' own RTMP; nothing here knows the proxy's.

mod client;
mod origin;

pub use client::{Client, ClientPlan, Eager};
pub use origin::{Moment, Origin, OriginPlan, Temper};

use super::dice::Dice;
use super::peer::{Deed, End, Io};
use crate::rtmp::amf0::Value;
use crate::rtmp::command::{COMMAND_CSID, control};
use crate::rtmp::{Command, Error, Message, Wire, kind};
use bytes::Bytes;
use srs_proxy_core::time::{Duration, Time};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// The timer by which a peer goes on with what it does.
const NEXT: u32 = 0;
/// The timer by which a slow reader reads again.
const READ: u32 = 1;

/// What a peer did and saw.
#[derive(Default, Debug)]
pub struct Log {
    /// The `connect` command's object, as sent or received.
    pub connect: Option<Value>,
    /// The stream's name, as sent or received with `publish` or `play`.
    pub name: Option<String>,
    /// The message stream used.
    pub stream_id: u32,
    /// When `publish` or `play` was sent.
    pub asked: Option<Time>,
    /// Each `onStatus`, as sent or received: level, code, description, and when.
    pub statuses: Vec<(String, String, String, Time)>,
    /// Other commands received.
    pub commands: Vec<Command>,
    /// Media, data and everything else above protocol control, sent once the stream was there.
    pub sent: Vec<Message>,
    /// The same, received.
    pub got: Vec<Message>,
    /// User control messages received, type and values.
    pub user: Vec<Bytes>,
    /// How the connection ended.
    pub end: Option<End>,
    /// The other side broke the protocol.
    pub error: Option<Error>,
}

impl Log {
    /// How often each of the calls beside a stream's setup was answered.
    pub fn answers_to_calls(&self) -> [usize; 2] {
        client::CALLS.map(|(_, call)| {
            let is_answer = |command: &&Command| command.name.starts_with('_') && command.transaction == call;
            self.commands.iter().filter(is_answer).count()
        })
    }
}

/// A log that the test and the peer hold.
pub type SharedLog = Rc<RefCell<Log>>;

/// One thing to do with a stream that is there.
#[derive(Clone, Debug)]
pub enum Op {
    /// Send a message.
    Send(Message),
    /// Send several at once, in chunks of mixed order.
    Mixed(Vec<Message>),
    /// Change the chunk size.
    ChunkSize(u32),
    /// Change the chunk size after the first chunk of this message.
    ChunkSizeWithin(Message, u32),
    /// Begin a message and abort it.
    Abort(Message),
    /// The highest chunk type for a chunk stream from now on.
    Compress(u32, u8),
    /// Any other message: it is not counted.
    Control(Message),
    /// Wait.
    Wait(Duration),
}

impl Op {
    /// Whether it sends messages of the stream.
    pub fn is_media(&self) -> bool {
        matches!(self, Self::Send(_) | Self::Mixed(_) | Self::ChunkSizeWithin(..) | Self::Abort(_))
    }
}

/// How a peer writes.
#[derive(Clone, Debug)]
pub struct Style {
    /// The chunk stream of commands.
    pub command_csid: u32,
    /// The chunk stream of `publish`, `play` and `onStatus`.
    pub stream_csid: u32,
    /// Commands are of type 17.
    pub amf3: bool,
    /// The timestamp of commands.
    pub time: u32,
    /// The chunk size announced, and at which of the moments 0 to 3 of the setup.
    pub chunk_size: Option<(u32, u8)>,
    /// The highest chunk type used.
    pub compression: u8,
    /// Reads slowly.
    pub slow: bool,
    /// What to do with the stream.
    pub ops: VecDeque<Op>,
    /// What to do after all that.
    pub leave: Leave,
}

/// How a peer leaves when it is through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// It stays until the other side goes.
    Never,
    /// It ends its connection.
    Close,
    /// It says so first, as ffmpeg does.
    Politely,
}

/// Chunk sizes at the ends and corners of what is allowed.
pub const CHUNK_SIZES: [u32; 7] = [1, 2, 128, 129, 4096, 60_000, 0x7FFF_FFFF];

impl Style {
    /// The plainest.
    pub fn plain() -> Self {
        Self {
            command_csid: COMMAND_CSID,
            stream_csid: 5,
            amf3: false,
            time: 0,
            chunk_size: None,
            compression: 3,
            slow: false,
            ops: VecDeque::new(),
            leave: Leave::Never,
        }
    }

    /// Anything.
    pub fn random(dice: &mut Dice) -> Self {
        let csid = |dice: &mut Dice| match dice.range(0..=3) {
            0 => COMMAND_CSID,
            1 => dice.range(3..=63) as u32,
            2 => dice.range(64..=319) as u32,
            _ => dice.range(320..=65_599) as u32,
        };
        let (command_csid, mut stream_csid) = (csid(dice), csid(dice));
        if dice.chance(300) {
            stream_csid = command_csid;
        }
        let chunk_size = dice.chance(700).then(|| (*dice.pick(&CHUNK_SIZES), dice.range(0..=3) as u8));
        Self {
            command_csid,
            stream_csid,
            amf3: dice.chance(200),
            time: *dice.pick(&[0, 0, 0, 7, 0x00FF_FFF0, 0x0100_0000]),
            chunk_size,
            compression: dice.range(0..=3) as u8,
            slow: dice.chance(150),
            ops: VecDeque::new(),
            leave: Leave::Never,
        }
        .with_ops(dice)
    }
}

impl Style {
    /// A command of no stream that nobody answers.
    pub fn aside(csid: u32, timestamp: u32) -> Op {
        Op::Send(aside(csid, timestamp))
    }

    fn with_ops(mut self, dice: &mut Dice) -> Self {
        self.ops = random_ops(dice, self.command_csid, self.stream_csid, self.time);
        self
    }

    /// So many video messages of one size, as fast as they are taken.
    pub fn flood(dice: &mut Dice, count: u32, size: usize) -> VecDeque<Op> {
        let message = |timestamp| Message {
            csid: 6,
            timestamp,
            type_id: kind::VIDEO,
            stream_id: 0,
            payload: dice.bytes(size).into(),
        };
        (0..count).map(message).map(Op::Send).collect()
    }
}

/// A message of no stream, in the midst of those of one.
const NO_STREAM: u32 = u32::MAX;

/// The time between equal messages, in milliseconds.
const STEP: u32 = 40;

/// How often the words of equally long statuses are said: longer than some chunks.
const EVEN: usize = 40;

/// The name of a command that nobody answers.
const ASIDE: &str = "aside";

/// A command of no stream. Of the same number of bytes each time, and as long as a talkative origin's answer to
/// `createStream`, so that its header can be compressed away.
fn aside(csid: u32, timestamp: u32) -> Message {
    let values = [Value::Number(timestamp.into()), Value::Null, Value::Null, Value::Null];
    let command = Command::new(ASIDE, 0.0, values);
    Message { timestamp, stream_id: NO_STREAM, ..command.message(csid, 0) }
}

/// Media and what goes with it. Some of it is sent by the chunk streams of the commands.
fn random_ops(dice: &mut Dice, command_csid: u32, stream_csid: u32, mut time: u32) -> VecDeque<Op> {
    let mut csids = vec![4, 6, dice.range(2..=65_599) as u32, dice.range(64..=319) as u32];
    csids.extend([command_csid, stream_csid]);
    csids.sort_unstable();
    csids.dedup();
    if dice.chance(500) {
        time = *dice.pick(&[0, 1000, 0x00FF_FFF0, 0x0100_0000, 0xFFFF_FFD0]);
    }
    let mut message = |dice: &mut Dice| {
        let step = *dice.pick(&[0, 10, 23, 40, 40, 40, 40, 40, 40, 0x00FF_FFFF, 0x0120_0000, 0xFFFF_FFEC]);
        time = u32::wrapping_add(time, step);
        if dice.chance(100) {
            return aside(command_csid, time);
        }
        let longest = *dice.pick(&[20, 200, 200, 2000, 2000, 20_000]);
        let size = if dice.chance(30) { 0 } else { dice.any_size(longest) };
        let types = [kind::AUDIO, kind::VIDEO, kind::VIDEO, kind::DATA, kind::AGGREGATE, 15];
        Message {
            csid: *dice.pick(&csids),
            timestamp: time,
            type_id: *dice.pick(&types),
            // Set when it is sent: the stream is not known yet.
            stream_id: if dice.chance(50) { NO_STREAM } else { 0 },
            payload: dice.bytes(size).into(),
        }
    };
    let count = dice.size(0..=25);
    let mut ops = VecDeque::new();
    for _ in 0..count {
        ops.push_back(match dice.range(0..=20) {
            0 => Op::ChunkSize(*dice.pick(&CHUNK_SIZES)),
            1 => Op::ChunkSizeWithin(message(dice), *dice.pick(&CHUNK_SIZES)),
            2 => Op::Abort(message(dice)),
            3 => {
                let message = message(dice);
                Op::Compress(message.csid, dice.range(0..=3) as u8)
            }
            4 => Op::Control(control::acknowledgement(dice.range(0..=1 << 30) as u32)),
            5 => Op::Control(control::ping_request(dice.range(0..=1 << 30) as u32)),
            6 => Op::Wait(Duration::from_millis(dice.range(0..=800))),
            7..=9 => {
                let mut mixed: Vec<_> = (0..dice.size(2..=4)).map(|_| message(dice)).collect();
                mixed.sort_by_key(|message| message.csid);
                mixed.dedup_by_key(|message| message.csid);
                Op::Mixed(mixed)
            }
            10 => {
                // Equal steps and lengths: nothing is left of most headers.
                let first = message(dice);
                let step = dice.range(0..=50) as u32;
                for n in 1..dice.range(2..=5) as u32 {
                    let timestamp = first.timestamp.wrapping_add(n * step);
                    ops.push_back(Op::Send(Message { timestamp, ..first.clone() }));
                }
                continue;
            }
            _ => Op::Send(message(dice)),
        });
    }
    ops
}

/// The chunk stream of a peer that does anything the specification allows, from its first chunk on.
pub fn random_messages(dice: &mut Dice) -> Vec<u8> {
    let style = Style::random(dice);
    let (mut talk, _log) = Talk::new(Wire::client(0), style);
    talk.wire.output().clear();
    let mut deeds = Vec::new();
    let mut io = Io { now: Time::ZERO, dice, backlog: 0, deeds: &mut deeds };
    while talk.next_op(&mut io) {
        io.backlog = 0;
    }
    let written = deeds.into_iter().filter_map(|deed| match deed {
        Deed::Write(bytes) => Some(bytes),
        _ => None,
    });
    written.flatten().collect()
}

/// What both kinds of peers do alike.
struct Talk {
    wire: Wire,
    style: Style,
    log: SharedLog,
    /// The stream is there: the ops may be done.
    streaming: bool,
    left: bool,
}

impl Talk {
    fn new(mut wire: Wire, style: Style) -> (Self, SharedLog) {
        wire.encoder.set_compression(style.compression);
        let log = SharedLog::default();
        (Self { wire, style, log: Rc::clone(&log), streaming: false, left: false }, log)
    }

    fn feed(&mut self, io: &mut Io<'_>, bytes: &[u8]) {
        if self.style.slow && self.streaming {
            io.stop_reading();
            let pause = io.dice.range(1..=30);
            io.wake(Duration::from_millis(pause), READ);
        }
        if let Err(error) = self.wire.feed(bytes) {
            self.fail(io, error);
        }
    }

    fn fail(&mut self, io: &mut Io<'_>, error: Error) {
        self.log.borrow_mut().error.get_or_insert(error);
        io.reset();
    }

    fn command(&mut self, command: &Command, csid: u32, stream_id: u32) {
        let message = self.command_message(command, csid, stream_id);
        self.wire.send(&message);
    }

    fn command_message(&self, command: &Command, csid: u32, stream_id: u32) -> Message {
        let mut message = Message { timestamp: self.style.time, ..command.message(csid, stream_id) };
        if self.style.amf3 {
            message.type_id = kind::COMMAND_AMF3;
            message.payload = [&[0], &message.payload[..]].concat().into();
        }
        message
    }

    /// The chunk size is announced at this moment, or not.
    fn moment(&mut self, moment: u8) {
        if let Some((size, at)) = self.style.chunk_size
            && at == moment
        {
            self.wire.send(&control::set_chunk_size(size));
        }
    }

    fn write(&mut self, io: &mut Io<'_>) {
        let bytes = std::mem::take(self.wire.output());
        if !bytes.is_empty() && !self.left {
            io.write(bytes);
        }
    }

    /// Begins to do the ops.
    fn stream(&mut self, io: &mut Io<'_>) {
        if !std::mem::replace(&mut self.streaming, true) {
            io.wake(Duration::ZERO, NEXT);
        }
    }

    /// Does the next op. False when none is left.
    fn next_op(&mut self, io: &mut Io<'_>) -> bool {
        /// A peer waits when so much has not been taken.
        const BACKLOG: usize = 64 * 1024;
        if io.backlog > BACKLOG {
            io.wake(Duration::from_millis(5), NEXT);
            return true;
        }
        let Some(op) = self.style.ops.pop_front() else { return false };
        let mut pause = Duration::from_micros(io.dice.range(0..=20_000));
        let stream_id = self.log.borrow().stream_id;
        let on_stream = |message: Message| match message.stream_id {
            NO_STREAM => Message { stream_id: 0, ..message },
            _ => Message { stream_id, ..message },
        };
        match op {
            Op::Send(message) => {
                let message = on_stream(message);
                self.wire.send(&message);
                self.sent(message);
            }
            Op::Mixed(messages) => {
                let messages: Vec<_> = messages.into_iter().map(on_stream).collect();
                self.mixed(io, messages);
            }
            Op::ChunkSize(size) => self.wire.send(&control::set_chunk_size(size)),
            Op::ChunkSizeWithin(message, size) => self.chunk_size_within(on_stream(message), size),
            Op::Abort(message) => {
                let message = on_stream(message);
                let mut chunks = self.wire.encoder.chunks(&message);
                // The control messages have a chunk stream of their own.
                if chunks.len() < 2 || message.csid == 2 {
                    chunks.iter().for_each(|chunk| self.wire.send_raw(chunk));
                    self.sent(message);
                } else {
                    let keep = io.dice.size(1..=chunks.len() - 1);
                    chunks.truncate(keep);
                    chunks.iter().for_each(|chunk| self.wire.send_raw(chunk));
                    self.wire.send(&control::abort(message.csid));
                }
            }
            Op::Compress(csid, highest) => self.wire.encoder.set_compression_of(csid, highest),
            Op::Control(message) => self.wire.send(&message),
            Op::Wait(wait) => pause = wait,
        }
        self.write(io);
        io.wake(pause, NEXT);
        true
    }

    fn sent(&mut self, message: Message) {
        self.log.borrow_mut().sent.push(message);
    }

    /// Chunks in random order; messages count as sent in the order in which they are complete.
    fn mixed(&mut self, io: &mut Io<'_>, messages: Vec<Message>) {
        let mut open: Vec<_> =
            messages.into_iter().map(|message| (self.wire.encoder.chunks(&message), message)).collect();
        while !open.is_empty() {
            let turn = io.dice.size(0..=open.len() - 1);
            if let Some(chunk) = open[turn].0.pop_front() {
                self.wire.send_raw(&chunk);
            }
            if open[turn].0.is_empty() {
                let (_, message) = open.swap_remove(turn);
                self.sent(message);
            }
        }
    }

    fn chunk_size_within(&mut self, message: Message, size: u32) {
        let old = self.wire.encoder.chunk_size();
        let mut chunks = self.wire.encoder.chunks(&message);
        let first = chunks.pop_front().unwrap_or_default();
        self.wire.send_raw(&first);
        let Some(second) = chunks.pop_front().filter(|_| message.csid != 2) else {
            // It has one chunk, or the control messages' chunk stream is not free.
            chunks.iter().for_each(|chunk| self.wire.send_raw(chunk));
            return self.sent(message);
        };
        self.wire.send(&control::set_chunk_size(size));
        let rest = &message.payload[old..];
        let header = &second[..second.len() - rest.len().min(old)];
        for piece in rest.chunks(size as usize) {
            self.wire.send_raw(header);
            self.wire.send_raw(piece);
        }
        self.sent(message);
    }

    /// A message that is no command.
    fn take(&mut self, message: Message) {
        let mut log = self.log.borrow_mut();
        match message.type_id {
            kind::USER_CONTROL => log.user.push(message.payload),
            0..kind::AUDIO => {}
            _ => log.got.push(message),
        }
    }

    fn timer(&mut self, io: &mut Io<'_>, tag: u32) -> bool {
        if tag == READ {
            io.go_on_reading();
        }
        tag == NEXT && !self.left && !self.next_op(io)
    }
}
