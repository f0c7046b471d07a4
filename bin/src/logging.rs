//! Log lines on standard error, for people or for machines. Decides how a line looks, never what is logged.
//!
//! Context goes into key-values, before the message: `log::info!(conn = id, stream:% = key; "publishes")`.
//!
//! ```text
//! 2026-11-22T09:26:03.123Z INFO conn=12 stream=example.com/live/cam publishes
//! {"time":"2026-11-22T09:26:03.123Z","level":"INFO","conn":12,"stream":"example.com/live/cam","message":"publishes"}
//! ```
//!
//! Nobody who logs waits for whoever reads: lines go into a queue, which one thread writes, many at a time.

mod queue;

use env_logger::Target;
use log::kv::{self, Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};
use queue::Queue;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_millis(100);

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What has been logged and is not written yet.
#[derive(Debug)]
pub(crate) struct Unwritten(Arc<Queue>);

impl Unwritten {
    /// Waits for a moment until it is.
    pub(crate) fn flush(&self) {
        self.0.flush(LAST_LINES);
    }
}

/// Sends log lines of at least this level to standard error from now on. To be called once.
///
/// # Errors
/// There is no thread for it.
pub(crate) fn init(format: Format, level: LevelFilter) -> io::Result<Unwritten> {
    let dropped = move |count: u64| {
        let message = format_args!("{count} log lines were dropped: they are not read as fast as they come");
        line(format, SystemTime::now(), &Record::builder().level(Level::Warn).args(message).build())
    };
    let queue = Arc::new(Queue::default());
    let written = Arc::clone(&queue);
    std::thread::Builder::new().name("log".into()).spawn(move || written.write_to(io::stderr(), dropped))?;
    env_logger::Builder::new()
        .filter_level(level)
        .format(move |out, record| {
            io::Write::write_all(out, line(format, SystemTime::now(), record).as_bytes())
        })
        .target(Target::Pipe(Box::new(queue::End(Arc::clone(&queue)))))
        .init();
    Ok(Unwritten(queue))
}

/// One line with its end. Whatever a stranger brought into it, it stays one line.
fn line(format: Format, time: SystemTime, record: &Record<'_>) -> String {
    let time = humantime::format_rfc3339_millis(time);
    let level = record.level();
    let mut pairs = Pairs { format, out: String::new() };
    // The visitor has no errors of its own, and those of values are not worth a line.
    let _ = record.key_values().visit(&mut pairs);
    let pairs = pairs.out;
    let message = record.args().to_string();
    match format {
        Format::Text => format!("{time} {level} {pairs}{}\n", printable(&message)),
        Format::Json => {
            format!("{{\"time\":\"{time}\",\"level\":\"{level}\",{pairs}\"message\":{}}}\n", json(&message))
        }
    }
}

struct Pairs {
    format: Format,
    out: String,
}

impl<'kvs> VisitSource<'kvs> for Pairs {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let written = match (self.format, value.to_i64()) {
            (Format::Text, _) => write!(self.out, "{key}={} ", printable(&value.to_string())),
            (Format::Json, Some(number)) => write!(self.out, "{}:{number},", json(key.as_str())),
            (Format::Json, None) => write!(self.out, "{}:{},", json(key.as_str()), json(&value.to_string())),
        };
        written.map_err(kv::Error::from)
    }
}

/// The text without control characters, which could begin a line or steer a terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { out.extend(char.escape_default()) } else { out.push(char) }
    }
    out
}

fn json(text: &str) -> String {
    // A string can always be written as JSON.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn logged(format: Format, message: &str, pairs: &[(&str, Value<'_>)]) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_339_563_123);
        line(
            format,
            time,
            &Record::builder().level(Level::Warn).key_values(&pairs).args(format_args!("{message}")).build(),
        )
    }

    #[test]
    fn a_text_line_has_time_level_context_and_message() {
        let pairs = [("conn", Value::from(12)), ("stream", Value::from("v/live/a"))];
        assert_eq!(
            logged(Format::Text, "publishes", &pairs),
            "2026-11-22T09:26:03.123Z WARN conn=12 stream=v/live/a publishes\n"
        );
        assert_eq!(logged(Format::Text, "starts", &[]), "2026-11-22T09:26:03.123Z WARN starts\n");
    }

    #[test]
    fn a_json_line_is_one_object() {
        let pairs = [("conn", Value::from(12)), ("stream", Value::from("v/\"live\"/a"))];
        let text = logged(Format::Json, "say \"x\"\n", &pairs);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            object,
            serde_json::json!({
                "time": "2026-11-22T09:26:03.123Z", "level": "WARN", "conn": 12, "stream": "v/\"live\"/a",
                "message": "say \"x\"\n",
            })
        );
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn nothing_that_is_logged_begins_a_line_of_its_own() {
        let text = logged(Format::Text, "a\r\nERROR b\u{1b}[2J", &[("stream", Value::from("x\ny"))]);
        assert_eq!(text, "2026-11-22T09:26:03.123Z WARN stream=x\\ny a\\r\\nERROR b\\u{1b}[2J\n");
    }
}
