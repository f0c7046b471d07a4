//! The floors: relays that understand nothing. One thread, epoll, one connection to the target for each accepted.
//! They are the cheapest that can be written with plain calls; a proxy that parses is measured against them.

use super::load::Poll;
use rustix::event::epoll::EventFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use slab::Slab;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// Bytes moved at once: the copy relay's buffer, and what a pipe holds.
const BUFFER: usize = 64 * 1024;

const LISTENER: u64 = u64::MAX;

/// How bytes are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `read`, then `write`, through one buffer that all connections share.
    Copy,
    /// `splice` through a pipe for each direction.
    Splice,
}

/// What was taken from one side and the other has not taken yet.
enum Pending {
    /// Bytes, and how many of them are gone.
    Bytes(Vec<u8>, usize),
    /// A pipe, and how many bytes are in it.
    Pipe { read: OwnedFd, write: OwnedFd, held: usize },
}

impl Pending {
    fn is_empty(&self) -> bool {
        match self {
            Self::Bytes(bytes, gone) => bytes.len() == *gone,
            Self::Pipe { held, .. } => *held == 0,
        }
    }
}

/// One direction of a pair: from socket `i` to socket `1 - i`.
struct Half {
    pending: Pending,
    ended: bool,
    /// The end has been passed on.
    done: bool,
}

struct Pair {
    sockets: [TcpStream; 2],
    halves: [Half; 2],
    interest: [EventFlags; 2],
}

/// Relays every connection to `listener` to `target`, for ever.
///
/// # Errors
/// Only the listener's or epoll's; a connection's own errors end that connection.
pub fn run(method: Method, listener: &TcpListener, target: SocketAddr) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(listener, LISTENER, EventFlags::IN)?;
    let mut pairs: Slab<Pair> = Slab::new();
    let mut ready = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        poll.wait(None, &mut ready)?;
        for &(token, flags) in &ready {
            if token == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    // A target that is away, or no descriptors: the client is dropped.
                    let _ = open(method, &poll, &mut pairs, client, target);
                }
                continue;
            }
            let (key, side) = ((token >> 1) as usize, (token & 1) as usize);
            // The pair may have ended earlier in this turn.
            let Some(pair) = pairs.get_mut(key) else { continue };
            if serve(pair, side, flags, &mut buffer).and_then(|()| watch(&poll, pair, key)).is_err()
                || pair.halves.iter().all(|half| half.done)
            {
                pairs.remove(key);
            }
        }
    }
}

fn open(
    method: Method,
    poll: &Poll,
    pairs: &mut Slab<Pair>,
    client: TcpStream,
    target: SocketAddr,
) -> io::Result<()> {
    // On loopback a connect is over at once; waiting for it is cheaper than being told.
    let sockets = [client, TcpStream::connect(target)?];
    for socket in &sockets {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
    }
    let half = || -> io::Result<Half> {
        let pending = match method {
            Method::Copy => Pending::Bytes(Vec::new(), 0),
            Method::Splice => {
                let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
                Pending::Pipe { read, write, held: 0 }
            }
        };
        Ok(Half { pending, ended: false, done: false })
    };
    let pair = Pair { sockets, halves: [half()?, half()?], interest: [EventFlags::IN; 2] };
    let entry = pairs.vacant_entry();
    for (side, socket) in pair.sockets.iter().enumerate() {
        poll.add(socket, (entry.key() << 1 | side) as u64, EventFlags::IN)?;
    }
    entry.insert(pair);
    Ok(())
}

/// Moves bytes from `side` if it has any, and what waits for `side` if it takes any.
fn serve(pair: &mut Pair, side: usize, flags: EventFlags, buffer: &mut [u8]) -> io::Result<()> {
    let sockets = &pair.sockets;
    let other = 1 - side;
    if flags.intersects(EventFlags::OUT) {
        push(&mut pair.halves[other], &sockets[side])?;
    }
    let half = &mut pair.halves[side];
    if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR)
        && half.pending.is_empty()
        && !half.ended
    {
        pull(half, &sockets[side], &sockets[other], buffer)?;
    }
    Ok(())
}

/// Reads once and passes on what came.
fn pull(half: &mut Half, mut from: &TcpStream, mut to: &TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    match &mut half.pending {
        Pending::Bytes(bytes, gone) => {
            let Some(read) = unless_blocked(from.read(buffer))? else { return Ok(()) };
            half.ended = read == 0;
            let written = if read > 0 { unless_blocked(to.write(&buffer[..read]))?.unwrap_or(0) } else { 0 };
            if written < read {
                *bytes = buffer[written..read].to_vec();
                *gone = 0;
            }
            finish(half, to)
        }
        Pending::Pipe { write, held, .. } => {
            let Some(read) = unless_blocked(splice_once(from, write))? else { return Ok(()) };
            half.ended = read == 0;
            *held = read;
            push(half, to)
        }
    }
}

/// Passes on what waits.
fn push(half: &mut Half, mut to: &TcpStream) -> io::Result<()> {
    match &mut half.pending {
        Pending::Bytes(bytes, gone) => {
            if *gone < bytes.len() {
                *gone += unless_blocked(to.write(&bytes[*gone..]))?.unwrap_or(0);
            }
            if *gone == bytes.len() {
                (*bytes, *gone) = (Vec::new(), 0);
            }
        }
        Pending::Pipe { read, held, .. } => {
            while *held > 0 {
                let Some(written) = unless_blocked(splice_once(read, to))? else { break };
                *held -= written;
            }
        }
    }
    finish(half, to)
}

/// Passes the end on, once all bytes are.
fn finish(half: &mut Half, to: &TcpStream) -> io::Result<()> {
    if half.ended && !half.done && half.pending.is_empty() {
        half.done = true;
        to.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

fn splice_once(from: &impl rustix::fd::AsFd, to: &impl rustix::fd::AsFd) -> io::Result<usize> {
    Ok(splice(from, None, to, None, BUFFER, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for input only from a side whose last bytes are gone, for room only where bytes wait.
fn watch(poll: &Poll, pair: &mut Pair, key: usize) -> io::Result<()> {
    for side in 0..2 {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, !pair.halves[side].ended && pair.halves[side].pending.is_empty());
        wanted.set(EventFlags::OUT, !pair.halves[1 - side].pending.is_empty());
        if wanted != pair.interest[side] {
            pair.interest[side] = wanted;
            poll.modify(&pair.sockets[side], (key << 1 | side) as u64, wanted)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::{Drive, Flow};
    use crate::bench::rtmp::chunks::Media;
    use crate::bench::rtmp::driver::World;
    use crate::rtmp::{OriginScript, Role};
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    fn world() -> World {
        World::new(OriginScript::default(), Media::new(16_384, 60_000, 1)).unwrap()
    }

    /// Publishes and plays flat out through `target`; all that was sent must arrive, and nothing be left open.
    fn load(mut world: World, target: SocketAddr) {
        for number in 0..6 {
            let role = if number % 2 == 0 { Role::Publish } else { Role::Play };
            world.open(role, &format!("s{number}"), 60_000, target).unwrap();
        }
        world.run_until(LIMIT, World::all_started).unwrap();
        world.set_flow(Flow::FlatOut).unwrap();
        world.run_until(LIMIT, |world| world.received > 2000).unwrap();
        world.set_flow(Flow::Paced(Duration::from_micros(100))).unwrap();
        world.run_until(LIMIT, |world| world.received > 2500).unwrap();
        world.set_flow(Flow::Silent).unwrap();
        world.run_until(LIMIT, World::all_received).unwrap();
        world.close_all();
        world.run_until(LIMIT, |world| world.open_connections() == 0).unwrap();
        assert_eq!(world.faults(), <[String; 0]>::default());
    }

    fn relayed(method: Method) {
        let world = world();
        let origin = world.origin().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let target = listener.local_addr().unwrap();
        // It runs for ever: it ends with the test's process.
        std::thread::spawn(move || run(method, &listener, origin));
        load(world, target);
    }

    #[test]
    fn the_load_arrives_without_a_relay() {
        let world = world();
        let origin = world.origin().unwrap();
        load(world, origin);
    }

    #[test]
    fn the_copy_relay_passes_everything() {
        relayed(Method::Copy);
    }

    #[test]
    fn the_splice_relay_passes_everything() {
        relayed(Method::Splice);
    }
}
