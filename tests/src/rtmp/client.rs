//! A scripted RTMP client: connects, creates a stream, publishes or plays. No I/O.

use super::amf0::Value;
use super::command::{self, COMMAND_CSID, Command, control};
use super::{Error, Event, Message, Wire, kind};
use std::collections::VecDeque;

const CONNECT: f64 = 1.0;
const RELEASE_STREAM: f64 = 2.0;
const FC_PUBLISH: f64 = 3.0;
const CREATE_STREAM: f64 = 4.0;
const START: f64 = 5.0;

/// The chunk streams by which publishers commonly send audio, video and the `publish` command.
const AUDIO_CSID: u32 = 4;
const VIDEO_CSID: u32 = 6;
const STREAM_CSID: u32 = 8;

/// What a client is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// To publish.
    Publish,
    /// To play.
    Play,
}

/// When a client announces its chunk size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkSizeAt {
    /// Before `connect`.
    Connect,
    /// Right behind `publish` or `play`, as GStreamer does.
    Start,
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct ClientScript {
    /// Publish or play.
    pub role: Role,
    /// `app`, with a query if it has one.
    pub app: String,
    /// `tcUrl`.
    pub tc_url: String,
    /// The stream's name, with a query if it has one.
    pub stream: String,
    /// Further properties of the `connect` object.
    pub extra: Vec<(String, Value)>,
    /// The chunk size it sends with, if it announces one, and when.
    pub chunk_size: Option<(u32, ChunkSizeAt)>,
    /// Send all commands in one go, without waiting for answers; the stream id is taken to be 1.
    pub pipelined: bool,
    /// Determines the handshake's bytes.
    pub seed: u64,
}

impl ClientScript {
    /// A publisher of `app/stream` that waits for each answer.
    pub fn publish(app: &str, stream: &str) -> Self {
        Self {
            role: Role::Publish,
            app: app.into(),
            tc_url: format!("rtmp://127.0.0.1/{app}"),
            stream: stream.into(),
            extra: Vec::new(),
            chunk_size: None,
            pipelined: false,
            seed: 1,
        }
    }

    /// The same for a player.
    pub fn play(app: &str, stream: &str) -> Self {
        Self { role: Role::Play, ..Self::publish(app, stream) }
    }
}

/// A scripted client. [`Self::feed`] it what arrives, send what is in [`Self::output`], see its [`Self::event`]s.
#[derive(Clone, Debug)]
pub struct Client {
    script: ClientScript,
    wire: Wire,
    events: VecDeque<Event>,
    /// `connect` has been sent.
    connecting: bool,
    stream_id: u32,
}

impl Client {
    /// A client whose C0 and C1 are ready to be sent.
    pub fn new(script: ClientScript) -> Self {
        let wire = Wire::client(script.seed);
        Self { script, wire, events: VecDeque::new(), connecting: false, stream_id: 1 }
    }

    /// Takes what arrived.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.wire.feed(bytes)?;
        if self.wire.is_established() && !self.connecting {
            self.connecting = true;
            self.connect();
        }
        while let Some(message) = self.wire.next_message() {
            self.take(message)?;
        }
        Ok(())
    }

    /// The next event.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent; drain what could be sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.wire.output()
    }

    /// All that is to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(self.wire.output())
    }

    /// Handshake and chunks, for tests that send what no script would.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// The id of the created stream.
    pub fn stream_id(&self) -> u32 {
        self.stream_id
    }

    /// Sends any message.
    pub fn send(&mut self, message: &Message) {
        self.wire.send(message);
    }

    /// Sends a media or data message on the created stream.
    pub fn send_media(&mut self, type_id: u8, timestamp: u32, payload: impl Into<bytes::Bytes>) {
        let csid = if type_id == kind::AUDIO { AUDIO_CSID } else { VIDEO_CSID };
        let payload = payload.into();
        self.wire.send(&Message { csid, timestamp, type_id, stream_id: self.stream_id, payload });
    }

    /// Sends a command of no stream.
    pub fn send_command(&mut self, command: &Command) {
        self.wire.send(&command.message(COMMAND_CSID, 0));
    }

    /// Leaves as ffmpeg does: `FCUnpublish` (of a publisher), `deleteStream`. The connection is the caller's to close.
    pub fn leave(&mut self) {
        if self.script.role == Role::Publish {
            self.send_command(&command::fc_unpublish(START + 1.0, &self.script.stream.clone()));
        }
        self.send_command(&command::delete_stream(START + 2.0, self.stream_id));
    }

    fn connect(&mut self) {
        self.announce(ChunkSizeAt::Connect);
        let ClientScript { app, tc_url, extra, .. } = &self.script;
        let object = command::connect_object(app, tc_url, extra);
        self.send_command(&command::connect(CONNECT, object));
        if self.script.pipelined {
            self.create();
            self.start();
        }
    }

    fn create(&mut self) {
        if self.script.role == Role::Publish {
            let stream = self.script.stream.clone();
            self.send_command(&command::release_stream(RELEASE_STREAM, &stream));
            self.send_command(&command::fc_publish(FC_PUBLISH, &stream));
        }
        self.send_command(&command::create_stream(CREATE_STREAM));
    }

    fn start(&mut self) {
        let command = match self.script.role {
            Role::Publish => command::publish(START, &self.script.stream),
            Role::Play => {
                self.wire.send(&control::buffer_length(self.stream_id, 3000));
                command::play(START, &self.script.stream)
            }
        };
        self.wire.send(&command.message(STREAM_CSID, self.stream_id));
        self.announce(ChunkSizeAt::Start);
    }

    fn announce(&mut self, now: ChunkSizeAt) {
        if let Some((size, at)) = self.script.chunk_size
            && at == now
        {
            self.wire.send(&control::set_chunk_size(size));
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Error> {
        let Some(command) = Command::decode(&message)? else {
            self.events.push_back(if message.type_id < kind::AUDIO {
                Event::Control(message)
            } else {
                Event::Message(message)
            });
            return Ok(());
        };
        match (&*command.name, command.transaction) {
            ("_result", CONNECT) => {
                self.events
                    .push_back(Event::Connected(command.arguments.first().cloned().unwrap_or(Value::Null)));
                if !self.script.pipelined {
                    self.create();
                }
            }
            ("_result", CREATE_STREAM) => {
                let id = command.arguments.first().and_then(Value::as_number);
                self.stream_id = id.ok_or(Error("createStream without a stream id"))? as u32;
                self.events.push_back(Event::StreamCreated(self.stream_id));
                if !self.script.pipelined {
                    self.start();
                }
            }
            ("onStatus", _) => self.status(&command),
            _ => self.events.push_back(Event::Command(command)),
        }
        Ok(())
    }

    fn status(&mut self, command: &Command) {
        let [level, code, description] =
            ["level", "code", "description"].map(|name| command.info(name).to_owned());
        let stream = self.script.stream.clone();
        let started = match &*code {
            "NetStream.Publish.Start" => Some(Event::PublishStarted { stream }),
            "NetStream.Play.Start" => Some(Event::PlayStarted { stream }),
            _ => None,
        };
        self.events.push_back(Event::Status { level, code, description });
        self.events.extend(started);
    }
}
