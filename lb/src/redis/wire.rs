//! How each [`Command`] is told to Redis, and what its answer means. Opens no socket.

use super::client::{Census, Command, FOREVER, LOADS_LIFE, Mark, Reply, Returned, millis};
use super::keys::Keys;
use redis::{Cmd, ServerError, Value};
use srs_proxy_core::origin::Protocol;
use std::collections::BTreeMap;
use std::time::Duration;

const CLAIM: &str = concat!(include_str!("scripts/put.lua"), include_str!("scripts/claim.lua"));
const FIND: &str = concat!(include_str!("scripts/put.lua"), include_str!("scripts/find.lua"));
const MEET: &str = include_str!("scripts/meet.lua");
const STORE: &str = concat!(include_str!("scripts/put.lua"), include_str!("scripts/store.lua"));
const MAP: &str = concat!(include_str!("scripts/put.lua"), include_str!("scripts/map.lua"));
const PUBLISH: &str = concat!(include_str!("scripts/put.lua"), include_str!("scripts/publish.lua"));
const DELETE: &str = include_str!("scripts/delete.lua");
const MARK: &str = include_str!("scripts/mark.lua");
const REGISTER: &str = concat!(include_str!("scripts/common.lua"), include_str!("scripts/register.lua"));
const GIVE_BACK: &str = concat!(include_str!("scripts/common.lua"), include_str!("scripts/give_back.lua"));
const DEREGISTER: &str = concat!(include_str!("scripts/common.lua"), include_str!("scripts/deregister.lua"));
const CENSUS: &str = concat!(include_str!("scripts/common.lua"), include_str!("scripts/census.lua"));

/// The life of what has no end, as the scripts take it.
const NO_END: u64 = 0;

/// The command as Redis takes it.
pub(super) fn pack(command: &Command, keys: &Keys) -> Cmd {
    match command {
        Command::Get { key } => words("GET", [key]),
        Command::Meet { id } => script(MEET, [&keys.server(id)]),
        Command::Find { key, of_stream, life } => {
            let mut find = script(FIND, [key]);
            find.arg(millis(*life)).arg(of_stream);
            find
        }
        Command::Store { of_stream, key, value, keeps, life } => {
            let mut store = script(STORE, [of_stream, key]);
            store.arg(value).arg(millis(*life)).arg(u8::from(*keeps));
            store
        }
        Command::Set { key, value, life } => {
            let mut set = words("SET", [key, value]);
            if let Some(life) = life {
                set.arg("PX").arg(millis(*life));
            }
            set
        }
        Command::Claim { key, value, life } => {
            let mut claim = script(CLAIM, [key]);
            claim.arg(value).arg(life.map_or(NO_END, millis));
            claim
        }
        Command::Map { stream, origin, instead_of, publishes, life } => {
            let mut map = script(MAP, [&keys.url(stream), &keys.publisher(stream), &keys.marks()]);
            map.arg(keys.server(origin)).arg(life.map_or(NO_END, millis)).arg(u8::from(*publishes));
            if let Some(old) = instead_of {
                map.arg(old).arg(keys.id_of(old).unwrap_or_default());
            }
            map
        }
        Command::Publish { stream, origin, not_at, moves, fresh, life } => {
            let mut publish = script(PUBLISH, [&keys.url(stream), &keys.publisher(stream)]);
            publish.arg(keys.server(origin)).arg(life.map_or(NO_END, millis));
            publish.arg(origin).arg(millis(*fresh)).arg(u8::from(*moves)).arg(not_at);
            publish
        }
        Command::Delete { key, value } => {
            let mut delete = script(DELETE, [key]);
            delete.arg(value);
            delete
        }
        Command::Register { id, server, json, life } => {
            let mut register = script(REGISTER, [&keys.all_servers(), &keys.server(id), &keys.marks()]);
            register.arg(keys.server("")).arg(id).arg(server).arg(json).arg(millis(*life));
            register
        }
        Command::GiveBack { origins } => {
            let mut give_back = script(GIVE_BACK, [&keys.all_servers(), &keys.marks()]);
            give_back.arg(keys.server(""));
            for Returned { id, server, json, life } in origins {
                give_back.arg(id).arg(server).arg(json).arg(millis(*life));
            }
            give_back
        }
        Command::Deregister { id } => {
            let mut deregister = script(DEREGISTER, [&keys.all_servers(), &keys.server(id)]);
            deregister.arg(keys.server("")).arg(id);
            deregister
        }
        Command::Mark { id, mark, life } => {
            let (field, number) = match mark {
                Mark::Trouble(protocol, failures) => {
                    (format!("trouble:{}:{id}", protocol.as_str()), *failures)
                }
                Mark::Draining => (format!("draining:{id}"), 0),
                Mark::Gone => (format!("gone:{id}"), 0),
            };
            let life = if life.is_zero() { NO_END } else { millis(*life) };
            let mut mark = script(MARK, [&keys.marks()]);
            mark.arg(field).arg(life).arg(number);
            mark
        }
        Command::Census { proxy, loads } => {
            let mut sums = BTreeMap::new();
            for (id, streams) in loads {
                let sum: &mut u32 = sums.entry(id).or_default();
                *sum = sum.saturating_add(*streams);
            }
            let mut census = script(CENSUS, [&keys.all_servers(), &keys.marks(), &keys.loads()]);
            census.arg(keys.server("")).arg(&**proxy).arg(serde_json::json!(sums).to_string());
            census.arg(millis(LOADS_LIFE));
            census
        }
    }
}

fn words<const N: usize>(name: &str, words: [&String; N]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(words.as_slice());
    command
}

fn script<const N: usize>(text: &str, keys: [&String; N]) -> Cmd {
    let mut eval = redis::cmd("EVAL");
    eval.arg(text).arg(N).arg(keys.as_slice());
    eval
}

/// Whether a command looks at keys that it does not name: those that the list does.
pub(super) fn looks_further(command: &Command) -> bool {
    matches!(
        command,
        Command::Find { of_stream: Some(_), .. }
            | Command::Register { .. }
            | Command::GiveBack { .. }
            | Command::Deregister { .. }
            | Command::Census { .. }
    )
}

/// What the answer to `command` means.
pub(super) fn read(command: &Command, answer: Value) -> Reply {
    let reply = match (command, answer) {
        (_, Value::ServerError(error)) => {
            let (code, details) = why(&error);
            Some(Reply::Failed(format!("{code} {details}")))
        }
        (Command::Get { .. } | Command::Find { .. }, Value::Nil) => Some(Reply::Value(None)),
        (
            Command::Get { .. } | Command::Find { .. } | Command::Store { .. } | Command::Claim { .. },
            value,
        ) => text(value).map(|text| Reply::Value(Some(text))),
        (Command::Meet { .. }, Value::Nil) => Some(Reply::Met(None)),
        (Command::Meet { .. }, Value::Array(parts)) => met(parts),
        (Command::Map { .. }, Value::Array(parts)) => mapped(parts),
        (Command::Publish { .. }, Value::Array(parts)) => published(parts),
        (Command::Meet { .. } | Command::Map { .. } | Command::Publish { .. }, _) => None,
        (Command::Census { .. }, Value::Array(parts)) => census(parts).map(Reply::Census),
        (Command::Census { .. }, _) => None,
        _ => Some(Reply::Done),
    };
    reply.unwrap_or_else(|| Reply::Failed("an answer of another form".to_owned()))
}

/// The code of an error, and what it says besides. Servers before Redis 7 put what a script has met into a text of their
/// own: `ERR Error running script (call to f_…): @user_script:11: @user_script: 11: -READONLY You can't write …`, or only the
/// end of that.
pub(super) fn why(error: &ServerError) -> (&str, &str) {
    let (code, details) = (error.code(), error.details().unwrap_or_default());
    let is_of_script = code == "ERR" || code.starts_with("@user_script:");
    let met = details.rsplit_once(": -").filter(|_| is_of_script);
    met.map_or((code, details), |(_, met)| met.split_once(' ').unwrap_or((met, "")))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

fn met(parts: Vec<Value>) -> Option<Reply> {
    let [registration, left] = <[Value; 2]>::try_from(parts).ok()?;
    Some(Reply::Met(Some((text(registration)?, life(&left)?))))
}

fn mapped(parts: Vec<Value>) -> Option<Reply> {
    let [held, Value::Int(is_new), left] = <[Value; 3]>::try_from(parts).ok()? else { return None };
    Some(Reply::Mapped { held: text(held)?, is_new: is_new != 0, stays: life(&left)? == FOREVER })
}

fn published(parts: Vec<Value>) -> Option<Reply> {
    let [publisher, held] = <[Value; 2]>::try_from(parts).ok()?;
    Some(Reply::Published { publisher: text(publisher)?, held: text(held)? })
}

fn census(parts: Vec<Value>) -> Option<Census> {
    let [
        Value::Int(has_list),
        Value::Int(knows_us),
        Value::Int(is_full),
        Value::Array(registrations),
        Value::Array(marks),
        Value::Array(loads),
    ] = <[Value; 6]>::try_from(parts).ok()?
    else {
        return None;
    };
    let registrations = groups(registrations, |[json, left]: [Value; 2]| Some((text(json)?, life(&left)?)));
    let mut marks = groups(marks, |[field, number, left]: [Value; 3]| {
        let field = text(field)?;
        let (kind, mut id) = field.split_once(':')?;
        let mark = match kind {
            "trouble" => {
                let (protocol, of) = id.split_once(':')?;
                id = of;
                Mark::Trouble(Protocol::ALL.into_iter().find(|it| it.as_str() == protocol)?, count(&number)?)
            }
            "draining" => Mark::Draining,
            "gone" => Mark::Gone,
            _ => return None,
        };
        Some((field.clone(), (id.to_owned(), mark, life(&left)?)))
    });
    // Hashes have no order.
    marks.sort_by(|(a, (id_a, ..)), (b, (id_b, ..))| (id_a, a).cmp(&(id_b, b)));
    let marks = marks.into_iter().map(|(_, mark)| mark).collect();
    let mut loads = groups(loads, |[id, streams]: [Value; 2]| Some((text(id)?, count(&streams)?)));
    loads.sort();
    let (has_list, knows_us, is_full) = (has_list != 0, knows_us != 0, is_full != 0);
    Some(Census { has_list, knows_us, is_full, registrations, marks, loads })
}

/// What `read` makes of each group of values; without those that others have written in some other form.
fn groups<T, const N: usize>(values: Vec<Value>, read: impl Fn([Value; N]) -> Option<T>) -> Vec<T> {
    let mut values = values.into_iter();
    let next = || {
        let mut group = [const { Value::Nil }; N];
        for place in &mut group {
            *place = values.next()?;
        }
        Some(group)
    };
    std::iter::from_fn(next).filter_map(read).collect()
}

/// A life as `PTTL` gives it, which is negative where there is no end.
fn life(value: &Value) -> Option<Duration> {
    let Value::Int(left) = value else { return None };
    Some(u64::try_from(*left).map_or(FOREVER, Duration::from_millis))
}

fn count(value: &Value) -> Option<u32> {
    let Value::Int(count) = value else { return None };
    Some(u32::try_from((*count).max(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_has_met_is_read_in_the_words_of_every_server() {
        for (said, code, details) in [
            ("READONLY You can't write.", "READONLY", "You can't write."),
            (
                "ERR Error running script (call to f_0b1): @user_script:11: @user_script: 11: -READONLY You can't write: x.",
                "READONLY",
                "You can't write: x.",
            ),
            ("@user_script: 11: -READONLY You can't write.", "READONLY", "You can't write."),
            ("ERR Error running script (call to f_0b1): @user_script:4: -OOM command", "OOM", "command"),
            ("OOM command not allowed: -x", "OOM", "command not allowed: -x"),
            ("ERR unknown command 'x'", "ERR", "unknown command 'x'"),
            ("ERR", "ERR", ""),
        ] {
            let answer = redis::parse_redis_value(format!("-{said}\r\n").as_bytes()).unwrap();
            let Value::ServerError(error) = answer else { panic!("{answer:?}") };
            assert_eq!(why(&error), (code, details), "{said}");
        }
    }
}
