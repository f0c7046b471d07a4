//! The RTMP session before its stream is known: the proxy as a server, up to `publish` or `play`. Keeps what the client
//! says, so that its origin can be told the same; knows nothing of origins.

use super::chunk::{ChunkReader, ChunkWriter};
use super::command::{self, Command, Connect, Verb};
use super::handshake;
use super::message::{Assembled, Assembler, CONTROL_CSID, Message, kind};
use crate::key::StreamKey;
use crate::machine::{Actions, Close, Cx, Fault, Input, Leg, Note, Parsed};
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// From the connection to C2. Slow links take three round trips; whoever takes longer never will.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From C2 to `publish` or `play`. Encoders send it at once; a person may be asked for a password in between.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes a client may send before `publish` or `play`: they are kept to be replayed.
const MAX_REPLAY: usize = 128 * 1024;

/// Streams a client may create before it uses one. Real clients create one.
const MAX_STREAMS: usize = 8;

/// Calls that the proxy answers between two of `connect`, `createStream` and what names the stream. Real clients make
/// two or three.
const MAX_CALLS: usize = 32;

/// Bytes after which the client shall acknowledge, until its origin says otherwise; as SRS does.
const WINDOW: u32 = 2_500_000;

/// Chunk stream of the proxy's answers to `connect` and `createStream`: as of most origins', so that the client knows its
/// headers as an origin does that has answered the same.
const COMMAND_CSID: u32 = 3;

/// Chunk stream of its answers to other calls, which not every origin answers: one that origins do not use.
const CALL_CSID: u32 = 40;

/// Chunk stream of the proxy's `onStatus`.
const STATUS_CSID: u32 = 5;

/// The proxy as a server, up to `publish` or `play`.
#[derive(Debug)]
pub(super) struct ClientSide {
    hello: Hello,
    deadline: Time,
    from_client: Assembler,
    to_client: ChunkWriter,
    /// `app` and `tcUrl`.
    connect: Option<(String, String)>,
    replay: Replay,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hello {
    AwaitC1,
    AwaitC2,
    Done,
}

/// What an input leads to.
pub(super) enum Next {
    /// The client has not named its stream.
    Stay,
    /// It has.
    Asked(Box<Asked>),
    /// The session is over.
    Over,
}

/// All that the origin's side needs of the client's.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) verb: Verb,
    pub(super) key: StreamKey,
    /// The message stream the client named it on.
    pub(super) stream_id: u32,
    /// What the client has been sent.
    pub(super) to_client: ChunkWriter,
    /// The client's bytes from its `connect` on.
    pub(super) replay: Replay,
}

/// The client's bytes, to be sent to the origin in three parts: each waits for the answer to the one before.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) wire: Vec<u8>,
    /// Where `connect` ends.
    pub(super) connect_end: usize,
    /// The transaction of `connect`.
    pub(super) connect: f64,
    /// Where the last `createStream` ends.
    pub(super) create_end: usize,
    /// The state of the client's chunk stream there.
    pub(super) reader: ChunkReader,
    /// Each `createStream`'s transaction and the id the client was told.
    pub(super) streams: Vec<(f64, u32)>,
    /// The transactions of later calls that the client has had an answer to.
    pub(super) answered: Vec<f64>,
}

impl ClientSide {
    /// The side of a client that connected just now.
    pub(super) fn new(now: Time) -> Self {
        Self {
            hello: Hello::AwaitC1,
            deadline: now + HANDSHAKE_TIMEOUT,
            from_client: Assembler::default(),
            to_client: ChunkWriter::default(),
            connect: None,
            replay: Replay::default(),
        }
    }

    pub(super) const fn deadline(&self) -> Time {
        self.deadline
    }

    pub(super) fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<(usize, Next), Fault> {
        match input {
            Input::Stream { bytes, .. } => self.bytes(cx, bytes),
            Input::Eof { leg, .. } => {
                cx.actions.close(leg, Close::Abort);
                Ok((0, Next::Over))
            }
            // It has named no stream: it is as well served elsewhere.
            Input::Drain => {
                cx.actions.close(Leg::CLIENT, Close::Flush);
                Ok((0, Next::Over))
            }
            Input::Tick if cx.now >= self.deadline => Err(Fault::Client(match self.hello {
                Hello::Done => "no publish or play in time",
                _ => "no handshake in time",
            })),
            _ => Ok((0, Next::Stay)),
        }
    }

    fn bytes(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> Result<(usize, Next), Fault> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let used = match self.hello {
                Hello::AwaitC1 => {
                    // A stranger is known by the first byte; no need to wait for the others.
                    if rest.first().is_some_and(|version| !(3..=31).contains(version)) {
                        return Err(Fault::Client("not RTMP"));
                    }
                    let Some(hello) = rest.first_chunk::<{ handshake::HELLO }>() else {
                        return Ok((at, Next::Stay));
                    };
                    let reply = handshake::reply(hello, cx.rng).map_err(|_| Fault::Client("not RTMP"))?;
                    cx.actions.write(Leg::CLIENT, reply);
                    self.hello = Hello::AwaitC2;
                    handshake::HELLO
                }
                Hello::AwaitC2 if rest.len() < handshake::PACKET => return Ok((at, Next::Stay)),
                // What C2 echoes is of no use to anyone.
                Hello::AwaitC2 => {
                    self.hello = Hello::Done;
                    self.deadline = cx.now + COMMAND_TIMEOUT;
                    handshake::PACKET
                }
                Hello::Done => {
                    let Parsed::Complete(found, used) = self.from_client.step(rest).map_err(Fault::Client)?
                    else {
                        return Ok((at, Next::Stay));
                    };
                    self.replay.wire.extend_from_slice(rest.get(..used).unwrap_or_default());
                    if self.replay.wire.len() > MAX_REPLAY {
                        return Err(Fault::Client("too much before publish or play"));
                    }
                    if let Assembled::Message(message) = found
                        && let Some(next) = self.message(cx.actions, &message)?
                    {
                        return Ok((at + used, next));
                    }
                    used
                }
            };
            at += used;
        }
    }

    fn message(&mut self, actions: &mut Actions, message: &Message) -> Result<Option<Next>, Fault> {
        let Some(amf0) = message.command() else { return Ok(None) };
        let command = match Command::parse(amf0) {
            Ok(Some(command)) => command,
            Ok(None) => return Ok(None),
            Err(_) => return Err(Fault::Client("broken command")),
        };
        let mut out = Vec::new();
        match (command.name, &self.connect) {
            ("connect", None) => self.connect(&mut out, &command),
            (_, None) => return Err(Fault::Client("a command before connect")),
            ("createStream", _) => self.create_stream(&mut out, &command)?,
            ("publish", _) => {
                return self.request(actions, Verb::Publish, &command, message.header.stream_id);
            }
            // A player may wait for the length before it plays, and only the origin knows it.
            ("play" | "getStreamLength", _) => {
                return self.request(actions, Verb::Play, &command, message.header.stream_id);
            }
            // A client may wait for the answer to whatever it calls before it goes on, and there is no origin yet that
            // could give it; that gets the call all the same. To these two servers answer even where none is wanted.
            ("releaseStream" | "FCPublish", _) => self.call(&mut out, command.transaction)?,
            _ if command.transaction > 0.0 => self.call(&mut out, command.transaction)?,
            _ => {}
        }
        actions.write(Leg::CLIENT, out);
        if self.connect.is_none() {
            actions.note(Note::Refused { key: None, fault: Fault::Client("connect without app and tcUrl") });
            actions.close(Leg::CLIENT, Close::Flush);
            return Ok(Some(Next::Over));
        }
        Ok(None)
    }

    fn answer(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        self.to_client.put(out, COMMAND_CSID, 0, kind::COMMAND, 0, payload);
    }

    fn call(&mut self, out: &mut Vec<u8>, transaction: f64) -> Result<(), Fault> {
        if self.replay.answered.len() == MAX_CALLS {
            return Err(Fault::Client("too many calls before publish or play"));
        }
        self.replay.answered.push(transaction);
        self.to_client.put(out, CALL_CSID, 0, kind::COMMAND, 0, &command::empty_result(transaction));
        Ok(())
    }

    fn connect(&mut self, out: &mut Vec<u8>, command: &Command<'_>) {
        let Some(connect) = Connect::of(command) else {
            let payload = command::connect_error(command.transaction, "app or tcUrl is missing or too long");
            return self.answer(out, &payload);
        };
        self.connect = Some((connect.app.into(), connect.tc_url.into()));
        self.replay.connect = command.transaction;
        self.replay.connect_end = self.replay.wire.len();
        self.replay.create_end = self.replay.connect_end;
        let window = WINDOW.to_be_bytes();
        let bandwidth = [&window[..], &[2]].concat();
        self.to_client.put(out, CONTROL_CSID, 0, kind::WINDOW_ACK_SIZE, 0, &window);
        self.to_client.put(out, CONTROL_CSID, 0, kind::SET_PEER_BANDWIDTH, 0, &bandwidth);
        self.answer(out, &command::connect_result(command.transaction, connect.object_encoding));
    }

    fn create_stream(&mut self, out: &mut Vec<u8>, command: &Command<'_>) -> Result<(), Fault> {
        if self.replay.streams.len() == MAX_STREAMS {
            return Err(Fault::Client("too many streams created"));
        }
        // Ids count from 1, as in every server we know, so the origin will most likely give the same.
        let stream_id = u32::try_from(self.replay.streams.len()).unwrap_or(u32::MAX).saturating_add(1);
        self.replay.streams.push((command.transaction, stream_id));
        self.replay.create_end = self.replay.wire.len();
        // What the origin answers to those before is dropped anyway.
        self.replay.answered.clear();
        self.replay.reader = self.from_client.reader().clone();
        self.answer(out, &command::create_stream_result(command.transaction, stream_id));
        Ok(())
    }

    fn request(
        &mut self,
        actions: &mut Actions,
        verb: Verb,
        command: &Command<'_>,
        stream_id: u32,
    ) -> Result<Option<Next>, Fault> {
        let (app, tc_url) = self.connect.take().unwrap_or_default();
        let name = command
            .argument(1)
            .and_then(|value| value.as_str())
            .filter(|name| name.len() <= command::MAX_NAME);
        let key = name.and_then(|name| StreamKey::from_rtmp(&tc_url, &app, name).ok());
        let Some(key) = key else {
            let fault = Fault::Client("bad stream name");
            refuse(
                actions,
                &mut self.to_client,
                verb,
                stream_id,
                None,
                fault,
                "the stream's name is not valid",
            );
            return Ok(Some(Next::Over));
        };
        Ok(Some(Next::Asked(Box::new(Asked {
            verb,
            key,
            stream_id,
            to_client: core::mem::take(&mut self.to_client),
            replay: core::mem::take(&mut self.replay),
        }))))
    }
}

/// Tells the client that it can't have the stream, and why, and ends its connection.
pub(super) fn refuse(
    actions: &mut Actions,
    to_client: &mut ChunkWriter,
    verb: Verb,
    stream_id: u32,
    key: Option<StreamKey>,
    fault: Fault,
    description: &str,
) {
    let mut out = Vec::new();
    let payload = command::status_error(verb.refusal_code(), description);
    to_client.put(&mut out, STATUS_CSID, 0, kind::COMMAND, stream_id, &payload);
    actions.write(Leg::CLIENT, out);
    actions.note(Note::Refused { key, fault });
    actions.close(Leg::CLIENT, Close::Flush);
}
