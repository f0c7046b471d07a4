//! Which stream an SRT caller means, and what it wants there: the stream id in all its dialects. The id itself is passed
//! on unchanged.
//!
//! | form | whose | stream |
//! |---|---|---|
//! | `#!::r=app/stream,m=publish,h=vhost,…` | SRT's access control, SRS | keys in any order, others ignored |
//! | `#!::h=vhost/app/stream,m=…`, `#!::h=app/stream,…` | SRS's older form, without `r` | what `h` says |
//! | `#!::r=app/stream?secret=…` | SRS | the query is no part of the key, but for `vhost` |
//! | `app/stream`, `/app/stream` | SRS, encoders without `#` | the path |
//! | `stream`, `#!::r=stream` | SRS | of its default app, `live` |
//! | `publish:path[:user:pass]`, `read:…`, `play:…` | MediaMTX | the path |

use super::handshake::MAX_STREAM_ID;
use crate::key::{KeyError, StreamKey, parameter, path_of};

/// The app of a name that stands alone, as SRS has it for SRT.
const APP: &str = "live";

/// What a caller wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To play the stream; what is meant if nothing is said.
    Request,
    /// To publish it.
    Publish,
    /// Both.
    Bidirectional,
}

/// A stream, and what is wanted there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamId {
    /// The stream.
    pub key: StreamKey,
    /// What is wanted.
    pub mode: Mode,
}

/// Why a stream id names no stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamIdError {
    /// There is none.
    Missing,
    /// It is longer than [`MAX_STREAM_ID`].
    TooLong,
    /// It is not UTF-8.
    NotText,
    /// It has no form that is known.
    UnknownForm,
    /// It wants what nobody knows.
    UnknownMode,
    /// What it names is no stream.
    Key(KeyError),
}

impl StreamIdError {
    /// The error in words, for the refusal's fault.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "no stream id",
            Self::TooLong => "stream id too long",
            Self::NotText => "stream id is not UTF-8",
            Self::UnknownForm => "stream id of an unknown form",
            Self::UnknownMode => "stream id with an unknown mode",
            Self::Key(error) => error.as_str(),
        }
    }
}

impl StreamId {
    /// Reads a stream id, as [`super::handshake::stream_id`] finds it.
    ///
    /// # Errors
    /// If it names no stream.
    pub fn parse(text: &[u8]) -> Result<Self, StreamIdError> {
        if text.len() > MAX_STREAM_ID {
            return Err(StreamIdError::TooLong);
        }
        let text = core::str::from_utf8(text).map_err(|_| StreamIdError::NotText)?;
        if text.is_empty() {
            return Err(StreamIdError::Missing);
        }
        if let Some(pairs) = text.strip_prefix("#!::") {
            return Self::access_control(pairs);
        }
        // `#!{…}`, and whatever else may be invented.
        if text.starts_with('#') {
            return Err(StreamIdError::UnknownForm);
        }
        match text.split_once(':') {
            // A colon in a path is one, and so is one in a query.
            Some((action, rest)) if !action.contains(['/', '?']) => Self::action(action, rest),
            _ => Self::of_path(None, text, None),
        }
    }

    /// `r=app/stream,m=publish,h=vhost`
    fn access_control(pairs: &str) -> Result<Self, StreamIdError> {
        let (mut host, mut resource, mut mode) = (None, None, None);
        for (key, value) in pairs.split(',').filter_map(|pair| pair.split_once('=')) {
            match key.trim() {
                "h" => host = Some(value),
                "r" => resource = Some(value),
                "m" => mode = Some(value),
                _ => {}
            }
        }
        let (host, resource) = match (host, resource) {
            (host, Some(resource)) => (host, resource),
            (Some(host), None) => match path_of(host).matches('/').count() {
                0 => return Err(StreamIdError::Key(KeyError::NoStream)),
                1 => (None, host),
                _ => host.split_once('/').map(|(host, resource)| (Some(host), resource)).unwrap_or_default(),
            },
            (None, None) => return Err(StreamIdError::UnknownForm),
        };
        Self::of_path(host.filter(|host| !host.is_empty()), resource, mode)
    }

    /// `publish:path[:user:pass]`. What the path names is what it names in every other protocol.
    fn action(action: &str, rest: &str) -> Result<Self, StreamIdError> {
        let mode = match action {
            "publish" => Mode::Publish,
            "read" | "play" | "request" => Mode::Request,
            _ => return Err(StreamIdError::UnknownForm),
        };
        let path = rest.split(':').next().unwrap_or(rest);
        let key = StreamKey::from_path("", path, path_of(path)).map_err(StreamIdError::Key)?;
        Ok(Self { key, mode })
    }

    /// `app/stream?query`
    fn of_path(host: Option<&str>, target: &str, mode: Option<&str>) -> Result<Self, StreamIdError> {
        let path = path_of(target);
        let (app, stream) = path.trim_start_matches('/').rsplit_once('/').unwrap_or((APP, path));
        let key = match host.or_else(|| parameter(target, "vhost")).or_else(|| parameter(target, "domain")) {
            Some(vhost) => StreamKey::new(vhost, app, stream),
            None => StreamKey::new("", app, stream),
        };
        // SRS takes what follows a `?` for a key like all others.
        let mode = match mode.or_else(|| parameter(target, "m")) {
            Some(mode) => Mode::of(mode).ok_or(StreamIdError::UnknownMode)?,
            None => Mode::Request,
        };
        Ok(Self { key: key.map_err(StreamIdError::Key)?, mode })
    }
}

impl Mode {
    fn of(text: &str) -> Option<Self> {
        let all =
            [("request", Self::Request), ("publish", Self::Publish), ("bidirectional", Self::Bidirectional)];
        all.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, mode)| mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};

    fn parse(text: &str) -> Result<(String, Mode), StreamIdError> {
        StreamId::parse(text.as_bytes()).map(|id| (id.key.to_string(), id.mode))
    }

    #[test]
    fn all_spellings_of_a_stream_have_one_key() {
        use Mode::{Bidirectional, Publish, Request};
        for (text, mode) in [
            ("#!::r=live/cam", Request),
            ("#!::r=live/cam,m=request", Request),
            ("#!::m=publish,r=live/cam", Publish),
            ("#!::m=PUBLISH,r=/live/cam", Publish),
            ("#!::m=bidirectional,r=live/cam", Bidirectional),
            ("#!::u=joe,s=abc,r=live/cam,t=stream,m=publish,x=1,flag", Publish),
            ("#!::h=10.0.0.1,r=live/cam,m=publish", Publish),
            ("#!::h=,r=live/cam,m=publish", Publish),
            ("#!::h=live/cam,m=publish", Publish),
            ("#!::h=live/cam?secret=x,m=publish", Publish),
            ("#!::h=10.0.0.1/live/cam,m=publish", Publish),
            ("#!::r=live/cam?secret=a/b&c=d,m=publish", Publish),
            ("#!::r=live/cam?m=publish", Publish),
            ("#!::r=cam,m=publish", Publish),
            ("#!::r=live/%63am,m=publish", Publish),
            ("#!::r=live/other,r=live/cam", Request),
            ("live/cam", Request),
            ("/live/cam", Request),
            ("live/cam?key=a:b/c", Request),
            ("live/cam?m=publish", Publish),
            ("cam", Request),
            ("/cam", Request),
            ("publish:live/cam", Publish),
            ("publish:/live/cam", Publish),
            ("publish:live/cam:joe:secret", Publish),
            ("publish:live/cam:joe:secret:a=b", Publish),
            ("publish:live/cam?a=b", Publish),
            ("read:live/cam", Request),
            ("play:live/cam", Request),
            ("request:live/cam", Request),
        ] {
            assert_eq!(parse(text), Ok(("__defaultVhost__/live/cam".into(), mode)), "{text}");
        }
    }

    #[test]
    fn the_vhost_is_what_is_named() {
        for text in [
            "#!::h=example.com,r=live/cam",
            "#!::h=Example.COM:10080,r=live/cam",
            "#!::h=example.com/live/cam",
            "#!::r=live/cam?vhost=example.com",
            "#!::r=live/cam?token=1&domain=example.com",
            "#!::h=example.com,r=live/cam?vhost=other.com",
            "live/cam?vhost=example.com",
            "publish:live/cam?vhost=example.com",
        ] {
            assert_eq!(parse(text).unwrap().0, "example.com/live/cam", "{text}");
        }
        assert_eq!(parse("#!::h=tenant,r=live/cam").unwrap().0, "tenant/live/cam");
    }

    #[test]
    fn names_may_hold_whatever_names_hold() {
        for (text, key) in [
            ("#!::r=live/caméra", "__defaultVhost__/live/caméra"),
            ("#!::r=live/%E6%B5%81", "__defaultVhost__/live/流"),
            ("#!::r=live/100%", "__defaultVhost__/live/100%"),
            ("#!::r=live/a=b", "__defaultVhost__/live/a=b"),
            ("#!::r=a/b/c", "__defaultVhost__/a/b/c"),
            ("live/12:30", "__defaultVhost__/live/12:30"),
            ("publish:cam", "__defaultVhost__/__defaultApp__/cam"),
        ] {
            assert_eq!(parse(text).unwrap().0, key, "{text}");
        }
        let longest = format!("live/{}", "x".repeat(MAX_STREAM_ID - 5));
        assert_eq!(parse(&longest).unwrap().0, format!("__defaultVhost__/{longest}"));
    }

    #[test]
    fn what_names_no_stream_is_refused() {
        for (text, error) in [
            ("", StreamIdError::Missing),
            ("#!::", StreamIdError::UnknownForm),
            ("#!::m=publish", StreamIdError::UnknownForm),
            ("#!::u=joe", StreamIdError::UnknownForm),
            ("#!{r=live/cam}", StreamIdError::UnknownForm),
            ("#!:r=live/cam", StreamIdError::UnknownForm),
            ("!::r=live/cam", StreamIdError::UnknownForm),
            ("steal:live/cam", StreamIdError::UnknownForm),
            ("srt://host/live/cam", StreamIdError::UnknownForm),
            ("#!::r=live/cam,m=nonsense", StreamIdError::UnknownMode),
            ("#!::r=live/cam,m=", StreamIdError::UnknownMode),
            ("#!::r=,m=publish", StreamIdError::Key(KeyError::NoStream)),
            ("#!::r=live/,m=publish", StreamIdError::Key(KeyError::NoStream)),
            ("#!::h=example.com,m=publish", StreamIdError::Key(KeyError::NoStream)),
            ("/", StreamIdError::Key(KeyError::NoStream)),
            ("publish:", StreamIdError::Key(KeyError::NoStream)),
            ("live/a\u{7}b", StreamIdError::Key(KeyError::ControlCharacter)),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(parse(&"x".repeat(MAX_STREAM_ID + 1)), Err(StreamIdError::TooLong));
        assert_eq!(StreamId::parse(b"live/\xff"), Err(StreamIdError::NotText));
    }
}
