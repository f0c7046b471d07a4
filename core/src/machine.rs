//! The contract between a protocol machine and the event loop that drives it. No protocol, no I/O.
//!
//! A [`Machine`] owns one client's session (RTMP, HTTP) or all flows of one datagram socket (a *hub*). The
//! driver owns sockets, buffers, queues and timers. It calls [`Machine::handle`] with one [`Input`], then
//! executes every [`Action`] in order **before it touches the input's buffer again**, then looks at
//! [`Machine::deadline`]. That is all.
//!
//! ```text
//!            Input: Stream, Datagram, Opened, OpenFailed, HungUp, Spliced, Eof, Answer, Tick, Drain, Stop
//!   driver ───────────────────────────────────────────────────────────────────────────────────▶ machine
//!          ◀───────────────────────────────────────────────────────────────────────────────────
//!            Action: Forward, Write, Open, Ask, Tell, Pause, Resume, Splice, Close, Note
//! ```
//!
//! Rules both sides keep:
//! - A machine names connections by [`Leg`]. It allots legs itself; a slot that is used again gets a new
//!   generation, so an input for a leg that is gone can be told apart and is dropped.
//! - `Stream` input may be consumed in part. The driver keeps the rest and offers it again, with what came
//!   after it, at the next bytes or at once after `Resume`. Zero bytes consumed means: I need more.
//! - After `Splice` the driver moves that direction's bytes itself, the unconsumed rest first, and reports
//!   only its `Eof`; of a bounded splice also that it is done (`Spliced`), and then `Stream` input goes on.
//! - A connection can outlive its session: `Close::Keep` gives it back, and an `Open` of [`Transport::Kept`]
//!   to the same peer may get it again, from whichever session of the same driver.
//! - Everything asked is answered once, or never (then the machine's deadline ends the waiting).
//! - The session is over when no leg is left. A [`Fault`] ends it at once: what was written is flushed, then
//!   every leg is closed.

use crate::origin::OriginId;
use crate::query::{Answer, Query, Report};
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::net::SocketAddr;
use core::num::NonZeroU64;
use core::ops::Range;

/// A connection or socket of one machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Leg {
    /// Dense index, so that a driver can hold its legs in a vector.
    pub slot: u32,
    /// Grows each time the slot is used for a new connection.
    pub generation: u32,
}

impl Leg {
    /// The leg that exists from the start: the accepted client, or a hub's listening socket.
    pub const CLIENT: Self = Self { slot: 0, generation: 0 };

    /// A leg in `slot`, used for the `generation`-th time.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }
}

/// What a machine calls a question while it waits for the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u32);

/// What kind of connection to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A TCP connection that was kept ([`Close::Keep`]), or a new one if there is none.
    Kept,
    /// A UDP socket of its own, connected to the peer.
    Udp,
}

/// Why a leg could not be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// The peer refused or reset, or there is no way to it: it is not there.
    Unreachable,
    /// This host has no descriptor, port or memory left for it; nothing is known about the peer.
    Exhausted,
}

/// How to close a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// Deliver what is queued, then end the stream in good order.
    Flush,
    /// Now; what is queued is lost, and the peer sees a connection that broke.
    Abort,
    /// Not at all: both sides are between messages, and the connection is of use to a later session. One
    /// that has anything unread or unsent, or that the peer has ended, is closed.
    Keep,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// Bytes of a stream, in order: first whatever was not consumed last time.
    Stream {
        /// Where they came from.
        leg: Leg,
        /// The bytes; borrowed until the actions are executed.
        bytes: &'a [u8],
    },
    /// One whole datagram.
    Datagram {
        /// The socket it arrived at.
        leg: Leg,
        /// Who sent it.
        from: SocketAddr,
        /// Its payload; borrowed until the actions are executed.
        bytes: &'a [u8],
    },
    /// A leg asked for by [`Action::Open`] or [`Action::OpenFile`] is there.
    Opened {
        /// That leg.
        leg: Leg,
        /// What is at its other end.
        what: Opened,
    },
    /// A leg asked for by [`Action::Open`] will not be; it is gone.
    OpenFailed {
        /// That leg.
        leg: Leg,
        /// Why.
        why: OpenError,
    },
    /// The peer ended the stream or the connection broke; no more input comes from this leg. Everything
    /// that was received has been handed over (or moved on, after a `Splice`). Of a datagram leg it is what ICMP says:
    /// nobody is there now; the leg stays, and it may be told again.
    Eof {
        /// That leg.
        leg: Leg,
        /// The connection broke: what has come need not be all that was sent.
        broken: bool,
    },
    /// The peer of a connection sends no more, or is gone, whatever of its bytes is still to be handed over. `Eof`
    /// follows after the last of them. Told once, so that it is known even while the leg is paused or spliced.
    HungUp {
        /// That leg.
        leg: Leg,
    },
    /// All bytes of a bounded [`Action::Splice`], or of an [`Action::SendFile`], have been moved.
    Spliced {
        /// The leg they came from.
        leg: Leg,
    },
    /// The answer to [`Action::Ask`].
    Answer {
        /// The question's ticket.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// The deadline has passed.
    Tick,
    /// The process is about to end: finish what runs, begin nothing new.
    Drain,
    /// It ends now, and this is the last input: the process does, or the driver has no more patience with a peer. The
    /// load balancer may be told what ends; a hub tells its peers, too, which see no connection's end.
    Stop,
}

/// What is at the other end of a leg that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opened {
    /// A peer that heard nothing yet.
    Fresh,
    /// A peer that served before, and may be about to end the connection.
    Reused,
    /// A file.
    File(FileInfo),
}

/// What is known of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileInfo {
    /// It is a directory, with nothing to read.
    pub is_directory: bool,
    /// Its size, in bytes.
    pub length: u64,
    /// When it was changed, in seconds since 1970.
    pub modified: u64,
}

/// What the driver shall do.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Send a part of *this* input's bytes.
    Forward {
        /// To this leg.
        to: Leg,
        /// To this address, on a socket that is not connected.
        peer: Option<SocketAddr>,
        /// The part.
        range: Range<usize>,
    },
    /// Send bytes of the machine's own.
    Write {
        /// To this leg.
        to: Leg,
        /// To this address, on a socket that is not connected.
        peer: Option<SocketAddr>,
        /// The bytes.
        bytes: Bytes,
    },
    /// Open a leg; `Opened` or `OpenFailed` follows.
    Open {
        /// The new leg.
        leg: Leg,
        /// Its peer.
        to: SocketAddr,
        /// Its kind.
        transport: Transport,
    },
    /// Open a file below the driver's directory of files, and nowhere else, wherever links lead; `Opened` or
    /// `OpenFailed` follows.
    OpenFile {
        /// The new leg.
        leg: Leg,
        /// Its path, relative to that directory.
        path: Box<str>,
    },
    /// Send a part of a file's bytes; `Spliced` follows, or `Eof` if the file has become shorter.
    SendFile {
        /// The file.
        from: Leg,
        /// To this leg.
        to: Leg,
        /// The part.
        range: Range<u64>,
    },
    /// Ask the load balancer; `Answer` follows, unless it is lost.
    Ask {
        /// What to call the question.
        ticket: Ticket,
        /// The question.
        query: Query,
    },
    /// Tell the load balancer something that needs no answer.
    Tell(Report),
    /// Read no more from this leg; keep what was not consumed.
    Pause {
        /// That leg.
        leg: Leg,
    },
    /// Read again, after offering what was kept.
    Resume {
        /// That leg.
        leg: Leg,
    },
    /// The machine has no use for this direction's bytes: move them untouched.
    Splice {
        /// From this leg, beginning with what was not consumed.
        from: Leg,
        /// To this one.
        to: Leg,
        /// So many, then `Spliced` follows; or all, until `Eof`.
        limit: Option<NonZeroU64>,
    },
    /// Close a leg. It is gone for the machine at once.
    Close {
        /// That leg.
        leg: Leg,
        /// How.
        how: Close,
    },
    /// Something worth a log line or a counter.
    Note {
        /// Whose it is, of a hub's sessions: the first leg that session was allotted. `CLIENT` is the machine itself.
        leg: Leg,
        /// What it is.
        note: Note,
    },
}

/// Something worth a log line or a counter.
#[derive(Clone, PartialEq, Debug)]
pub enum Note {
    /// The session knows its origin.
    Routed {
        /// `publish`, `play` or the protocol's own word.
        verb: &'static str,
        /// The stream.
        key: crate::key::StreamKey,
        /// Its origin.
        origin: OriginId,
        /// The origin's address.
        to: SocketAddr,
    },
    /// An origin could not be used; another may be tried.
    OriginFailed {
        /// The stream it was asked for, where known.
        key: Option<crate::key::StreamKey>,
        /// That origin.
        origin: OriginId,
        /// Why.
        fault: Fault,
    },
    /// The client was refused, and told so.
    Refused {
        /// The stream it asked for, where known.
        key: Option<crate::key::StreamKey>,
        /// Why.
        fault: Fault,
    },
    /// A session of a hub that was routed is over. Of a connection's the driver knows.
    Ended {
        /// The stream.
        key: crate::key::StreamKey,
        /// Where the client was last, where known.
        client: Option<SocketAddr>,
        /// Why, unless one side said goodbye.
        fault: Option<Fault>,
        /// How long it lasted.
        lasted: Duration,
    },
    /// Inputs were dropped.
    Dropped {
        /// Why.
        fault: Fault,
        /// How many, since the last note of this reason.
        count: u64,
    },
}

/// Why something ended, sorted by who is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The client broke its protocol or a limit.
    Client(&'static str),
    /// The origin broke its protocol, refused, or did not answer.
    Origin(&'static str),
    /// The load balancer has no origin to offer or did not answer.
    Balancer(&'static str),
    /// We are at a limit of our own.
    Proxy(&'static str),
}

impl Fault {
    /// The end of whatever still runs when the process ends.
    pub const STOP: Self = Self::Proxy("the process ends");

    /// What happened, without who is to blame.
    pub const fn what(&self) -> &'static str {
        let (Self::Client(what) | Self::Origin(what) | Self::Balancer(what) | Self::Proxy(what)) = self;
        what
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self {
            Self::Client(_) => "client",
            Self::Origin(_) => "origin",
            Self::Balancer(_) => "load balancer",
            Self::Proxy(_) => "proxy",
        };
        write!(f, "{who}: {}", self.what())
    }
}

impl core::error::Error for Fault {}

/// The actions of one call, in the order they are to be executed.
#[derive(Default, Debug)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// An empty list; the driver keeps one and uses it again and again.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an action.
    pub fn push(&mut self, action: Action) {
        self.0.push(action);
    }

    /// Sends `range` of this input's bytes to a connected leg.
    pub fn forward(&mut self, to: Leg, range: Range<usize>) {
        if !range.is_empty() {
            self.push(Action::Forward { to, peer: None, range });
        }
    }

    /// Sends bytes of the machine's own to a connected leg.
    pub fn write(&mut self, to: Leg, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.push(Action::Write { to, peer: None, bytes });
        }
    }

    /// Closes a leg.
    pub fn close(&mut self, leg: Leg, how: Close) {
        self.push(Action::Close { leg, how });
    }

    /// Adds a note of a machine that has one session, or of the whole hub.
    pub fn note(&mut self, note: Note) {
        self.note_of(Leg::CLIENT, note);
    }

    /// Adds a note of a hub's session; `leg` is the first it was allotted.
    pub fn note_of(&mut self, leg: Leg, note: Note) {
        self.push(Action::Note { leg, note });
    }

    /// Takes the actions out, in order; the room is kept.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.0.drain(..)
    }
}

/// What a machine is handed with each input.
pub struct Cx<'a> {
    /// Now.
    pub now: Time,
    /// The only source of randomness.
    pub rng: &'a mut dyn rand_core::Rng,
    /// Where the actions go.
    pub actions: &'a mut Actions,
}

impl fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("now", &self.now).field("actions", &self.actions).finish_non_exhaustive()
    }
}

/// A protocol session, or a hub of flows.
pub trait Machine {
    /// Takes one input and adds the actions that follow from it. Returns how many bytes of a `Stream` input
    /// were consumed (0 for all others).
    ///
    /// # Errors
    /// A [`Fault`] ends the session: the actions added so far are executed, then every leg is flushed and
    /// closed.
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault>;

    /// How many sessions a hub has, for which a process that drains waits.
    fn sessions(&self) -> usize {
        0
    }

    /// When to send the next `Tick`, if nothing else happens. O(1); asked after every input.
    fn deadline(&self) -> Option<Time>;
}

/// What a total parser says of bytes that may not be all there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<T> {
    /// The value, and how many bytes it took.
    Complete(T, usize),
    /// More bytes are needed; no error so far.
    Partial,
}
