//! What the load balancer needs of Redis, and no more: a handful of commands, each atomic, sent together.
//! Knows no policy and no socket.

use srs_proxy_core::origin::Protocol;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a proxy's loads count after its last census: many seconds of silence, so that a slow store does not
/// make them flicker.
pub const LOADS_LIFE: Duration = Duration::from_secs(10);

/// The longest life, so that no sum of times overflows: a hundred years. A longer one is this.
pub const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Something asked of Redis. Keys are whole, with the prefix.
///
/// A life is how long the entry lives from now on, in whole milliseconds and at least one; `None`: until it is
/// deleted.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// The value of `key`. → [`Reply::Value`]
    Get {
        /// The key.
        key: String,
    },
    /// The registration of an origin, whether it is on the list or not. → [`Reply::Met`]
    Meet {
        /// The origin's id.
        id: String,
    },
    /// The value of `key`, whose life is lengthened as by [`Claim`](Self::Claim): it is in use. If it is a session in JSON
    /// and stands just so at the key `of_stream`, of which the rest is its `stream_url`, it is in use there, too.
    /// → [`Reply::Value`]
    Find {
        /// The key.
        key: String,
        /// What the key of its stream begins with.
        of_stream: Option<String>,
        /// How long it lives at least.
        life: Duration,
    },
    /// Puts a session at `key`, whatever was there, and at its stream's: there whatever was there, or as
    /// [`Claim`](Self::Claim) does. → [`Reply::Value`]: what is at its stream's then.
    Store {
        /// The key of its stream.
        of_stream: String,
        /// The key of its name.
        key: String,
        /// The session.
        value: String,
        /// Whether another one of the stream stays.
        keeps: bool,
        /// How long it lives.
        life: Duration,
    },
    /// Puts `value` there, whatever was there. → [`Reply::Done`]
    Set {
        /// The key.
        key: String,
        /// The new value.
        value: String,
        /// How long it lives.
        life: Option<Duration>,
    },
    /// Puts `value` there if nothing is there; if it is there already, lengthens its life to `life`, but never shortens
    /// it, and gives none to what lives without one. → [`Reply::Value`]: what is there then.
    Claim {
        /// The key.
        key: String,
        /// The new value.
        value: String,
        /// How long it lives.
        life: Option<Duration>,
    },
    /// Maps a stream to an origin as [`Claim`](Self::Claim) puts a value there, or instead of just `instead_of`: unless
    /// that is where the stream is published, by an origin that is not [`Mark::Gone`], and the client that asks does not
    /// publish itself. What is replaced is the stream's publisher no more, and what stays lives on as if it had been
    /// claimed. → [`Reply::Mapped`]
    Map {
        /// The stream.
        stream: String,
        /// The origin's id.
        origin: String,
        /// The old mapping that it may replace, as it was found.
        instead_of: Option<String>,
        /// Whether the client publishes.
        publishes: bool,
        /// How long the mapping lives.
        life: Option<Duration>,
    },
    /// A stream is published at an origin: it is its publisher if it has none, or just `not_at`; and then it is mapped
    /// there, if it is not mapped yet or if it `moves`. Lives are lengthened as by [`Claim`](Self::Claim).
    /// → [`Reply::Published`]
    Publish {
        /// The stream.
        stream: String,
        /// The origin's id.
        origin: String,
        /// The publisher that it may replace.
        not_at: Option<String>,
        /// Whether another mapping yields.
        moves: bool,
        /// How long it counts as the publisher.
        fresh: Duration,
        /// How long the mapping lives.
        life: Option<Duration>,
    },
    /// Removes `value`, if it is what is there. → [`Reply::Done`]
    Delete {
        /// The key.
        key: String,
        /// The old value.
        value: String,
    },
    /// Stores an origin's registration and puts it on the list of all. One that is not on the list yet takes the place of
    /// those that have the same `server_id` in their registrations, which are removed and marked as [`Mark::Gone`], and
    /// of those whose registrations are gone. What is no list counts as an empty one, and is replaced; what is on it and no server's key is dropped
    /// when it is written again. Who registers is not [`Mark::Gone`] any more. → [`Reply::Done`]
    Register {
        /// The origin's id.
        id: String,
        /// Its `server_id`.
        server: String,
        /// Its registration.
        json: String,
        /// How long it lives.
        life: Duration,
    },
    /// Gives registrations back to a store that may have lost them, all in one go: unless one is marked as
    /// [`Mark::Gone`], or another life of its server lives for as long at least. Of what is there the one that lives
    /// longer stays, since its heartbeat is the younger. As with [`Register`](Self::Register), other lives of its
    /// server end, and it is put on the list if that has lost it. → [`Reply::Done`]
    GiveBack {
        /// The registrations.
        origins: Vec<Returned>,
    },
    /// Removes a registration, also from the list. → [`Reply::Done`]
    Deregister {
        /// The origin's id.
        id: String,
    },
    /// Says something of an origin to all proxies. Each kind of mark stands for itself; another of the same kind takes
    /// its place. → [`Reply::Done`]
    Mark {
        /// The origin's id.
        id: String,
        /// What is said.
        mark: Mark,
        /// For how long. Zero takes it back.
        life: Duration,
    },
    /// All origins and what is said of them, and how many streams other proxies have at them. What the asking proxy
    /// has is told to the others for [`LOADS_LIFE`]. Never fails for what is in the store. → [`Reply::Census`]
    Census {
        /// Who asks: a name no other proxy has.
        proxy: Arc<str>,
        /// How many streams it has at which origin.
        loads: Vec<(String, u32)>,
    },
}

/// A registration that is given back.
#[derive(Clone, PartialEq, Debug)]
pub struct Returned {
    /// The origin's id.
    pub id: String,
    /// Its `server_id`.
    pub server: String,
    /// Its registration.
    pub json: String,
    /// How long it lives on.
    pub life: Duration,
}

/// A life in the unit of the store.
pub(super) fn millis(life: Duration) -> u64 {
    u64::try_from(life.min(FOREVER).as_millis()).unwrap_or(u64::MAX).max(1)
}

/// What proxies say of an origin to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// So many connects of this protocol in a row have failed; the mark's life is the quarantine.
    Trouble(Protocol, u32),
    /// It shall get no new streams.
    Draining,
    /// It was deregistered, or its server lives another life.
    Gone,
}

/// What Redis says to a [`Command`]. `C` is a census, as it is told or as it is read.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply<C = Census> {
    /// It is done.
    Done,
    /// What is there.
    Value(Option<String>),
    /// A registration, if it is there, and how long it lives on; [`FOREVER`] without an end.
    Met(Option<(String, Duration)>),
    /// The mapping of a stream.
    Mapped {
        /// The key of a registration.
        held: String,
        /// Whether it is so by this command.
        is_new: bool,
        /// Whether it has no end.
        stays: bool,
    },
    /// Who is the publisher of a stream, and its mapping.
    Published {
        /// The id of an origin.
        publisher: String,
        /// The key of a registration.
        held: String,
    },
    /// Who is there.
    Census(C),
    /// The command failed, and others did not.
    Failed(String),
}

impl<C> Reply<C> {
    /// The same, with what `read` makes of a census.
    pub(super) fn map_census<D>(self, read: impl FnOnce(C) -> D) -> Reply<D> {
        match self {
            Self::Done => Reply::Done,
            Self::Value(value) => Reply::Value(value),
            Self::Met(met) => Reply::Met(met),
            Self::Mapped { held, is_new, stays } => Reply::Mapped { held, is_new, stays },
            Self::Published { publisher, held } => Reply::Published { publisher, held },
            Self::Census(census) => Reply::Census(read(census)),
            Self::Failed(why) => Reply::Failed(why),
        }
    }

    /// Why the command failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(why) => Some(why),
            _ => None,
        }
    }
}

/// All origins of the store.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Census {
    /// Whether there is a list at all; if there is none, or no JSON array, the store is new or has lost it.
    pub has_list: bool,
    /// Whether the store remembers this proxy's last census; if not, that was long ago or it has lost everything since.
    pub knows_us: bool,
    /// Whether it takes no more, so that heartbeats may be lost.
    pub is_full: bool,
    /// The registrations of the list that are alive, and for how long they are; [`FOREVER`] without an end. In the
    /// list's order, as they are: whether one can be read is for the reader to find out.
    pub registrations: Vec<(String, Duration)>,
    /// What is said of which origin, and for how long. In order of the origins.
    pub marks: Vec<(String, Mark, Duration)>,
    /// How many streams the other proxies have at which origin, all together. In order of the origins.
    pub loads: Vec<(String, u32)>,
}

/// The connection is lost, or never was: what became of the commands is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost(pub String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connection to Redis that makes itself, and makes itself anew.
pub trait RedisClient: Send {
    /// Sends all commands in one go; as many replies, in the same order. Connects first if need be. Takes no longer
    /// than a bounded time, and blocks meanwhile.
    ///
    /// # Errors
    /// The connection is lost. The next call makes another one.
    fn run(&mut self, commands: &[Command]) -> Result<Vec<Reply>, Lost>;
}
