//! RTMP commands (RTMP 1.0 §7.2): what clients ask, what servers answer. AMF0 in, AMF0 out.

use crate::amf0::{Decoder, Encoder, Error, Value};
use alloc::vec::Vec;

/// The longest app, tcUrl or stream name taken, in bytes: a URL with a signed token is a few hundred.
pub const MAX_NAME: usize = 4096;

/// A command message: its name, its transaction id and what follows.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// `connect`, `publish`, `_result`, …
    pub name: &'a str,
    /// Pairs a question with its `_result` or `_error`; 0 where none is wanted.
    pub transaction: f64,
    /// The command object and the arguments.
    pub arguments: Decoder<'a>,
}

impl<'a> Command<'a> {
    /// Reads name and transaction id; arguments are read when asked for.
    ///
    /// # Errors
    /// The bytes are not AMF0.
    pub fn parse(amf0: &'a [u8]) -> Result<Option<Self>, Error> {
        let mut decoder = Decoder::new(amf0);
        let name = decoder.next_value()?.and_then(|value| value.as_str());
        let transaction = decoder.next_value()?.and_then(|value| value.as_number());
        Ok(name.map(|name| Self { name, transaction: transaction.unwrap_or(0.0), arguments: decoder }))
    }

    /// The `n`-th argument; 0 is the command object.
    pub fn argument(&self, n: usize) -> Option<Value<'a>> {
        let mut arguments = self.arguments;
        for _ in 0..n {
            arguments.next_value().ok()??;
        }
        arguments.next_value().ok()?
    }

    /// The property `name` of the `n`-th argument, if it is a string.
    fn text(&self, n: usize, name: &str) -> Option<&'a str> {
        self.argument(n)?.as_properties()?.get(name)?.as_str()
    }

    /// Whether this is an `onStatus`, and if so, whether it reports an error.
    pub fn status_is_error(&self) -> Option<bool> {
        (self.name == "onStatus").then(|| self.text(1, "level") == Some("error"))
    }
}

/// What the router needs of a `connect`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Connect<'a> {
    /// The application.
    pub app: &'a str,
    /// The URL the client was given, with its query.
    pub tc_url: &'a str,
    /// 0: AMF0; 3: AMF3.
    pub object_encoding: f64,
}

impl<'a> Connect<'a> {
    /// Reads the command object. `None`: it has neither `app` nor `tcUrl`, or they are too long.
    pub fn of(command: &Command<'a>) -> Option<Self> {
        let properties = command.argument(0)?.as_properties()?;
        let text = |name| properties.get(name).and_then(|value| value.as_str()).unwrap_or("");
        let (app, tc_url) = (text("app"), text("tcUrl"));
        let object_encoding = properties.get("objectEncoding").and_then(|v| v.as_number()).unwrap_or(0.0);
        let fits =
            app.len() <= MAX_NAME && tc_url.len() <= MAX_NAME && !(app.is_empty() && tc_url.is_empty());
        fits.then_some(Self { app, tc_url, object_encoding })
    }
}

/// What a client wants of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// To send it.
    Publish,
    /// To receive it.
    Play,
}

impl Verb {
    /// For logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
        }
    }

    /// The status code of a stream that can't be had.
    pub const fn refusal_code(self) -> &'static str {
        match self {
            Self::Publish => "NetStream.Publish.BadName",
            Self::Play => "NetStream.Play.StreamNotFound",
        }
    }
}

/// `_result` to `connect`.
pub fn connect_result(transaction: f64, object_encoding: f64) -> Vec<u8> {
    Encoder::new()
        .string("_result")
        .number(transaction)
        .object(|o| {
            o.key("fmsVer").string("FMS/3,5,3,888").key("capabilities").number(127.0).key("mode").number(1.0)
        })
        .object(|o| {
            o.key("level")
                .string("status")
                .key("code")
                .string("NetConnection.Connect.Success")
                .key("description")
                .string("Connection succeeded.")
                .key("objectEncoding")
                .number(object_encoding)
        })
        .into_bytes()
}

/// `_error` to `connect`.
pub fn connect_error(transaction: f64, description: &str) -> Vec<u8> {
    let info = status_object("NetConnection.Connect.Rejected", description);
    info(Encoder::new().string("_error").number(transaction).null()).into_bytes()
}

/// `_result` to `createStream`: the new message stream id.
pub fn create_stream_result(transaction: f64, stream_id: u32) -> Vec<u8> {
    Encoder::new().string("_result").number(transaction).null().number(f64::from(stream_id)).into_bytes()
}

/// `_result` with no value, to `releaseStream` and whatever else has none.
pub fn empty_result(transaction: f64) -> Vec<u8> {
    Encoder::new().string("_result").number(transaction).null().undefined().into_bytes()
}

/// `onStatus` of level `error`.
pub fn status_error(code: &str, description: &str) -> Vec<u8> {
    status_object(code, description)(Encoder::new().string("onStatus").number(0.0).null()).into_bytes()
}

fn status_object(code: &str, description: &str) -> impl FnOnce(Encoder) -> Encoder {
    move |encoder| {
        encoder.object(|o| {
            o.key("level").string("error").key("code").string(code).key("description").string(description)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_is_read() {
        let bytes = Encoder::new()
            .string("connect")
            .number(1.0)
            .object(|o| o.key("app").string("live?a=b").key("tcUrl").string("rtmp://h/live?a=b"))
            .into_bytes();
        let command = Command::parse(&bytes).unwrap().unwrap();
        let connect = Connect::of(&command).unwrap();
        assert_eq!((command.name, command.transaction), ("connect", 1.0));
        assert_eq!((connect.app, connect.tc_url), ("live?a=b", "rtmp://h/live?a=b"));
    }

    #[test]
    fn a_status_knows_whether_it_is_an_error() {
        let bytes = status_error("NetStream.Publish.BadName", "busy");
        let command = Command::parse(&bytes).unwrap().unwrap();
        assert_eq!(command.status_is_error(), Some(true));
        let bytes = create_stream_result(4.0, 1);
        assert_eq!(bytes.len(), 29);
        assert_eq!(Command::parse(&bytes).unwrap().unwrap().status_is_error(), None);
    }
}
