//! RTMP commands and control messages (RTMP 1.0 §5.4, §7). Builders and one parser; no state.

use super::amf0::{self, Value};
use super::{Error, Message, kind};

/// The chunk stream of protocol and user control messages.
pub const CONTROL_CSID: u32 = 2;
/// The chunk stream that most implementations send commands by.
pub const COMMAND_CSID: u32 = 3;

/// A command: `name transaction object arguments…`.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// 0 where no answer is wanted.
    pub transaction: f64,
    /// The command object, `Null` for most.
    pub object: Value,
    /// All that follows.
    pub arguments: Vec<Value>,
}

impl Command {
    /// A command without a command object.
    pub fn new(name: &str, transaction: f64, arguments: impl Into<Vec<Value>>) -> Self {
        Self { name: name.into(), transaction, object: Value::Null, arguments: arguments.into() }
    }

    /// Reads a command message, AMF0 or AMF3-typed. `None`: the message is not a command.
    ///
    /// # Errors
    /// Its payload is not one.
    pub fn decode(message: &Message) -> Result<Option<Self>, Error> {
        let payload = match message.type_id {
            kind::COMMAND => &message.payload[..],
            kind::COMMAND_AMF3 => message.payload.split_first().ok_or(Error("an empty command"))?.1,
            _ => return Ok(None),
        };
        let mut values = amf0::decode_all(payload)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(Error("a command without a name")) };
        let Some(Value::Number(transaction)) = values.next() else {
            return Err(Error("a command without a transaction id"));
        };
        let object = values.next().unwrap_or(Value::Null);
        Ok(Some(Self { name, transaction, object, arguments: values.collect() }))
    }

    /// The command as a message.
    pub fn message(&self, csid: u32, stream_id: u32) -> Message {
        let mut payload = Vec::new();
        Value::string(&*self.name).encode(&mut payload);
        Value::Number(self.transaction).encode(&mut payload);
        self.object.encode(&mut payload);
        self.arguments.iter().for_each(|value| value.encode(&mut payload));
        Message { csid, timestamp: 0, type_id: kind::COMMAND, stream_id, payload: payload.into() }
    }

    /// Argument `n` as text, or nothing.
    pub fn text(&self, n: usize) -> &str {
        self.arguments.get(n).and_then(Value::as_str).unwrap_or_default()
    }

    /// A property of the first argument as text, or nothing: an information object's `code`.
    pub fn info(&self, name: &str) -> &str {
        self.arguments.first().and_then(|info| info.get(name)).and_then(Value::as_str).unwrap_or_default()
    }
}

/// `connect` with this command object.
pub fn connect(transaction: f64, object: Value) -> Command {
    Command { object, ..Command::new("connect", transaction, []) }
}

/// A command object as ffmpeg sends it, with `extra` properties behind.
pub fn connect_object(app: &str, tc_url: &str, extra: &[(String, Value)]) -> Value {
    let mut object = vec![
        ("app".to_owned(), Value::string(app)),
        ("type".to_owned(), Value::string("nonprivate")),
        ("flashVer".to_owned(), Value::string("FMLE/3.0 (compatible; srs-proxy-tests)")),
        ("tcUrl".to_owned(), Value::string(tc_url)),
    ];
    object.extend_from_slice(extra);
    Value::Object(object)
}

/// `releaseStream`.
pub fn release_stream(transaction: f64, stream: &str) -> Command {
    Command::new("releaseStream", transaction, [Value::string(stream)])
}

/// `FCPublish`.
pub fn fc_publish(transaction: f64, stream: &str) -> Command {
    Command::new("FCPublish", transaction, [Value::string(stream)])
}

/// `FCUnpublish`.
pub fn fc_unpublish(transaction: f64, stream: &str) -> Command {
    Command::new("FCUnpublish", transaction, [Value::string(stream)])
}

/// `createStream`.
pub fn create_stream(transaction: f64) -> Command {
    Command::new("createStream", transaction, [])
}

/// `deleteStream`.
pub fn delete_stream(transaction: f64, stream_id: u32) -> Command {
    Command::new("deleteStream", transaction, [Value::Number(stream_id.into())])
}

/// `getStreamLength`.
pub fn get_stream_length(transaction: f64, stream: &str) -> Command {
    Command::new("getStreamLength", transaction, [Value::string(stream)])
}

/// `publish` of kind `live`.
pub fn publish(transaction: f64, stream: &str) -> Command {
    Command::new("publish", transaction, [Value::string(stream), Value::string("live")])
}

/// `play`, from the live end.
pub fn play(transaction: f64, stream: &str) -> Command {
    Command::new("play", transaction, [Value::string(stream), Value::Number(-2000.0)])
}

/// `_result` with a command object and further values.
pub fn result(transaction: f64, object: Value, arguments: impl Into<Vec<Value>>) -> Command {
    Command { object, ..Command::new("_result", transaction, arguments) }
}

/// `_error` with an information object.
pub fn error(transaction: f64, code: &str, description: &str) -> Command {
    Command::new("_error", transaction, [information("error", code, description)])
}

/// `onStatus` with an information object.
pub fn on_status(level: &str, code: &str, description: &str) -> Command {
    Command::new("onStatus", 0.0, [information(level, code, description)])
}

/// `{level, code, description}`.
pub fn information(level: &str, code: &str, description: &str) -> Value {
    let properties = [("level", level), ("code", code), ("description", description)];
    Value::object(properties.map(|(name, text)| (name, Value::string(text))))
}

/// Protocol and user control messages.
pub mod control {
    use super::{CONTROL_CSID, Message, kind};

    fn message(type_id: u8, payload: Vec<u8>) -> Message {
        Message { csid: CONTROL_CSID, timestamp: 0, type_id, stream_id: 0, payload: payload.into() }
    }

    /// Set Chunk Size.
    pub fn set_chunk_size(bytes: u32) -> Message {
        message(kind::SET_CHUNK_SIZE, bytes.to_be_bytes().into())
    }

    /// Abort Message.
    pub fn abort(csid: u32) -> Message {
        message(kind::ABORT, csid.to_be_bytes().into())
    }

    /// Acknowledgement: so many bytes received so far, modulo 2³².
    pub fn acknowledgement(bytes: u32) -> Message {
        message(kind::ACKNOWLEDGEMENT, bytes.to_be_bytes().into())
    }

    /// Window Acknowledgement Size.
    pub fn window_ack_size(bytes: u32) -> Message {
        message(kind::WINDOW_ACK_SIZE, bytes.to_be_bytes().into())
    }

    /// Set Peer Bandwidth, limit type 2 (dynamic).
    pub fn peer_bandwidth(bytes: u32) -> Message {
        message(kind::PEER_BANDWIDTH, [&bytes.to_be_bytes()[..], &[2]].concat())
    }

    /// A user control message: event type and values of four bytes.
    pub fn user(event: u16, values: &[u32]) -> Message {
        let mut payload = event.to_be_bytes().to_vec();
        payload.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        message(kind::USER_CONTROL, payload)
    }

    /// Stream Begin.
    pub fn stream_begin(stream_id: u32) -> Message {
        user(0, &[stream_id])
    }

    /// Set Buffer Length, in milliseconds.
    pub fn buffer_length(stream_id: u32, millis: u32) -> Message {
        user(3, &[stream_id, millis])
    }

    /// Ping Request.
    pub fn ping_request(timestamp: u32) -> Message {
        user(6, &[timestamp])
    }

    /// Ping Response.
    pub fn ping_response(timestamp: u32) -> Message {
        user(7, &[timestamp])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_round_trip() {
        let extra = [("fourCcList".to_owned(), Value::StrictArray(vec![Value::string("hvc1")]))];
        for command in [
            connect(1.0, connect_object("live", "rtmp://h/live?token=x", &extra)),
            publish(5.0, "s?token=x"),
            play(4.0, "s"),
            result(4.0, Value::Null, [Value::Number(1.0)]),
            on_status("error", "NetStream.Publish.BadName", "busy"),
        ] {
            let mut message = command.message(COMMAND_CSID, 0);
            assert_eq!(Command::decode(&message).unwrap().as_ref(), Some(&command));
            message.type_id = kind::COMMAND_AMF3;
            message.payload = [&[0], &message.payload[..]].concat().into();
            assert_eq!(Command::decode(&message).unwrap(), Some(command));
        }
    }
}
