//! A scripted RTMP origin: answers one client's commands, or refuses them. No I/O.

use super::amf0::Value;
use super::command::{self, COMMAND_CSID, Command, control};
use super::{Error, Event, Message, Wire, kind};
use std::collections::VecDeque;

/// The chunk stream by which `onStatus` is sent, as SRS does.
const STATUS_CSID: u32 = 5;

/// What an origin says no to, with the code and description of its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refuse {
    /// `connect`, with `_error`.
    Connect(String, String),
    /// `publish`, with `onStatus`.
    Publish(String, String),
    /// `play`, with `onStatus`.
    Play(String, String),
}

/// How an origin behaves.
#[derive(Clone, Debug)]
pub struct OriginScript {
    /// The chunk size it announces and sends with.
    pub chunk_size: u32,
    /// The acknowledgement window it asks for, in bytes.
    pub window: u32,
    /// The stream id it answers `createStream` with.
    pub stream_id: u32,
    /// What it refuses, if anything.
    pub refuse: Option<Refuse>,
    /// Determines the handshake's bytes.
    pub seed: u64,
}

impl Default for OriginScript {
    /// As SRS: chunks of 60,000 bytes, a window of 2,500,000 bytes, stream id 1.
    fn default() -> Self {
        Self { chunk_size: 60_000, window: 2_500_000, stream_id: 1, refuse: None, seed: 2 }
    }
}

/// A scripted origin's end of one connection. [`Self::feed`] it what arrives, send what is in
/// [`Self::output`], see its [`Self::event`]s.
#[derive(Clone, Debug)]
pub struct Origin {
    script: OriginScript,
    wire: Wire,
    events: VecDeque<Event>,
}

impl Origin {
    /// An origin that waits for a client's C0.
    pub fn new(script: OriginScript) -> Self {
        let wire = Wire::server(script.seed);
        Self { script, wire, events: VecDeque::new() }
    }

    /// Takes what arrived.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.wire.feed(bytes)?;
        while let Some(message) = self.wire.next_message() {
            match Command::decode(&message)? {
                Some(command) => self.answer(command),
                None if message.type_id < kind::AUDIO => self.events.push_back(Event::Control(message)),
                None => self.events.push_back(Event::Message(message)),
            }
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

    /// Sends any message.
    pub fn send(&mut self, message: &Message) {
        self.wire.send(message);
    }

    /// Sends a media or data message on the created stream, as SRS does: all by one chunk stream.
    pub fn send_media(&mut self, type_id: u8, timestamp: u32, payload: impl Into<bytes::Bytes>) {
        let (stream_id, payload) = (self.script.stream_id, payload.into());
        self.wire.send(&Message { csid: 6, timestamp, type_id, stream_id, payload });
    }

    fn reply(&mut self, command: &Command) {
        self.wire.send(&command.message(COMMAND_CSID, 0));
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let message =
            command::on_status(level, code, description).message(STATUS_CSID, self.script.stream_id);
        self.wire.send(&message);
    }

    fn answer(&mut self, command: Command) {
        let transaction = command.transaction;
        match (&*command.name, self.script.refuse.clone()) {
            ("connect", refuse) => {
                self.wire.send(&control::window_ack_size(self.script.window));
                self.wire.send(&control::peer_bandwidth(self.script.window));
                self.wire.send(&control::set_chunk_size(self.script.chunk_size));
                match refuse {
                    Some(Refuse::Connect(code, text)) => {
                        self.reply(&command::error(transaction, &code, &text))
                    }
                    _ => self.accept(transaction),
                }
                self.events.push_back(Event::Connected(command.object));
            }
            ("createStream", _) => {
                let id = self.script.stream_id;
                self.reply(&command::result(transaction, Value::Null, [Value::Number(id.into())]));
                self.events.push_back(Event::StreamCreated(id));
            }
            ("publish", Some(Refuse::Publish(code, text))) | ("play", Some(Refuse::Play(code, text))) => {
                self.status("error", &code, &text);
            }
            ("publish", _) => {
                self.status("status", "NetStream.Publish.Start", "Started publishing stream.");
                self.events.push_back(Event::PublishStarted { stream: command.text(0).into() });
            }
            ("play", _) => {
                self.wire.send(&control::stream_begin(self.script.stream_id));
                self.status("status", "NetStream.Play.Reset", "Playing and resetting stream.");
                self.status("status", "NetStream.Play.Start", "Started playing stream.");
                self.events.push_back(Event::PlayStarted { stream: command.text(0).into() });
            }
            ("releaseStream" | "FCPublish" | "getStreamLength", _) => {
                self.reply(&command::result(transaction, Value::Null, [Value::Undefined]));
                self.events.push_back(Event::Command(command));
            }
            _ => self.events.push_back(Event::Command(command)),
        }
    }

    fn accept(&mut self, transaction: f64) {
        let server = Value::object([
            ("fmsVer", Value::string("FMS/3,5,3,888")),
            ("capabilities", Value::Number(127.0)),
        ]);
        let info = command::information("status", "NetConnection.Connect.Success", "Connection succeeded");
        self.reply(&command::result(transaction, server, [info]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::{ChunkSizeAt, Client, ClientScript};

    /// Passes bytes, in pieces, until both are silent; all events of the client and of the origin.
    fn converse(client: &mut Client, origin: &mut Origin, piece: usize) -> (Vec<Event>, Vec<Event>) {
        loop {
            let (up, down) = (client.take_output(), origin.take_output());
            if up.is_empty() && down.is_empty() {
                break;
            }
            up.chunks(piece).for_each(|bytes| origin.feed(bytes).unwrap());
            down.chunks(piece).for_each(|bytes| client.feed(bytes).unwrap());
        }
        (std::iter::from_fn(|| client.event()).collect(), std::iter::from_fn(|| origin.event()).collect())
    }

    #[test]
    fn a_publisher_gets_through_and_its_media_arrives() {
        for (piece, pipelined, at) in [
            (1, false, ChunkSizeAt::Connect),
            (1500, true, ChunkSizeAt::Start),
            (99_999, false, ChunkSizeAt::Start),
        ] {
            let script = ClientScript::publish("live", "s?token=t");
            let chunk_size = Some((4096, at));
            let mut client = Client::new(ClientScript { pipelined, chunk_size, ..script });
            let mut origin = Origin::new(OriginScript::default());
            let (at_client, at_origin) = converse(&mut client, &mut origin, piece);
            let started = Event::PublishStarted { stream: "s?token=t".into() };
            assert_eq!(at_client.last(), Some(&started));
            assert!(at_origin.contains(&started));
            client.send_media(kind::VIDEO, 40, vec![7; 10_000]);
            let (_, media) = converse(&mut client, &mut origin, piece);
            assert!(
                matches!(&media[..], [Event::Message(m)] if m.payload == vec![7; 10_000] && m.timestamp == 40)
            );
        }
    }

    #[test]
    fn the_origin_sees_the_connect_object_with_all_its_properties() {
        let extra = vec![("fourCcList".to_owned(), Value::StrictArray(vec![Value::string("av01")]))];
        let mut client =
            Client::new(ClientScript { extra: extra.clone(), ..ClientScript::play("live", "s") });
        let mut origin = Origin::new(OriginScript { stream_id: 7, ..OriginScript::default() });
        let (at_client, at_origin) = converse(&mut client, &mut origin, 1000);
        let object = command::connect_object("live", "rtmp://127.0.0.1/live", &extra);
        assert!(at_origin.contains(&Event::Connected(object)));
        assert!(at_client.contains(&Event::StreamCreated(7)));
        assert_eq!(at_client.last(), Some(&Event::PlayStarted { stream: "s".into() }));
    }

    #[test]
    fn a_refusal_reaches_the_client() {
        let refuse = Refuse::Publish("NetStream.Publish.BadName".into(), "busy".into());
        let mut client = Client::new(ClientScript::publish("live", "s"));
        let mut origin = Origin::new(OriginScript { refuse: Some(refuse), ..OriginScript::default() });
        let (at_client, _) = converse(&mut client, &mut origin, 1000);
        let [level, code, description] = ["error", "NetStream.Publish.BadName", "busy"].map(str::to_owned);
        assert_eq!(at_client.last(), Some(&Event::Status { level, code, description }));
        let refuse = Refuse::Connect("NetConnection.Connect.Rejected".into(), "no".into());
        let mut client = Client::new(ClientScript::publish("live", "s"));
        let mut origin = Origin::new(OriginScript { refuse: Some(refuse), ..OriginScript::default() });
        let (at_client, _) = converse(&mut client, &mut origin, 1000);
        assert!(matches!(at_client.last(), Some(Event::Command(c)) if c.name == "_error"));
    }
}
