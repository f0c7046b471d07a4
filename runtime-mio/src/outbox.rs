//! Bytes on their way to one TCP socket that it did not take yet: in memory, or in a pipe they were spliced into.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Room asked for in a pipe, in bytes: what one wake-up moves at most. The kernel may give less.
const PIPE_SIZE: usize = 512 * 1024;

/// Pieces one `writev` takes: IOV_MAX of Linux.
const MAX_PIECES: usize = 1024;

/// Empty pipes a worker keeps. Only directions that move a lot right now need one.
const SPARE_PIPES: usize = 8;

/// Memory an empty queue may keep, in bytes.
const SPARE_QUEUE: usize = 4 * 1024;

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    filled: usize,
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Without the room it works as well, in smaller steps.
        let _room = fcntl_setpipe_size(&write, PIPE_SIZE);
        Ok(Self { read, write, filled: 0 })
    }

    /// Moves at most `limit` bytes from a socket, or from a position in a file, into the empty pipe; 0 at the end.
    pub(crate) fn fill(
        &mut self,
        from: impl AsFd,
        mut at: Option<u64>,
        limit: usize,
    ) -> Result<usize, Errno> {
        let moved = splice(from, at.as_mut(), &self.write, None, limit.min(PIPE_SIZE), FLAGS)?;
        self.filled += moved;
        Ok(moved)
    }

    fn drain(&mut self, to: impl AsFd) -> io::Result<()> {
        while self.filled > 0 {
            match splice(&self.read, None, &to, None, self.filled, FLAGS)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                moved => self.filled -= moved,
            }
        }
        Ok(())
    }
}

/// The pipes of one worker that are not in use.
#[derive(Default, Debug)]
pub(crate) struct Pipes(Vec<Pipe>);

impl Pipes {
    pub(crate) fn take(&mut self) -> io::Result<Pipe> {
        self.0.pop().map_or_else(Pipe::open, Ok)
    }

    pub(crate) fn put(&mut self, pipe: Pipe) {
        if pipe.filled == 0 && self.0.len() < SPARE_PIPES {
            self.0.push(pipe);
        }
    }
}

/// What waits for one socket, in order: first the queue, then the pipe.
#[derive(Default, Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<u8>,
    pipe: Option<Pipe>,
}

impl Outbox {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.pipe.as_ref().map_or(0, |pipe| pipe.filled)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends the pieces, in one call if the socket takes them; what it does not take waits.
    pub(crate) fn send<S>(&mut self, socket: S, pieces: &[&[u8]]) -> io::Result<()>
    where
        S: Write,
    {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut skip = if self.is_empty() { write_most(socket, pieces)? } else { 0 };
        if skip == total {
            return Ok(());
        }
        if let Some(pipe) = self.pipe.take() {
            // What was spliced comes before what is written now.
            self.unpipe(pipe)?;
        }
        for piece in pieces {
            let rest = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            self.queue.extend(rest);
        }
        Ok(())
    }

    /// Lets a filled pipe wait after the queue, or gives back one that the socket emptied at once.
    pub(crate) fn send_pipe(
        &mut self,
        socket: impl AsFd,
        mut pipe: Pipe,
        pipes: &mut Pipes,
    ) -> io::Result<()> {
        let sent = if self.is_empty() { pipe.drain(socket) } else { Err(io::ErrorKind::WouldBlock.into()) };
        match sent {
            Ok(()) => pipes.put(pipe),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pipe = Some(pipe),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it; whether anything was sent.
    pub(crate) fn flush<S>(&mut self, mut socket: S, pipes: &mut Pipes) -> io::Result<bool>
    where
        S: Write + AsFd,
    {
        let before = self.len();
        while !self.queue.is_empty() {
            let (front, back) = self.queue.as_slices();
            match write_once(&mut socket, &[front, back])? {
                0 => break,
                sent => drop(self.queue.drain(..sent)),
            }
        }
        if self.queue.is_empty() {
            if self.queue.capacity() > SPARE_QUEUE {
                self.queue = VecDeque::new();
            }
            if let Some(pipe) = self.pipe.take() {
                self.send_pipe(&socket, pipe, pipes)?;
            }
        }
        Ok(self.len() < before)
    }

    fn unpipe(&mut self, mut pipe: Pipe) -> io::Result<()> {
        let mut bytes = vec![0; pipe.filled];
        std::fs::File::from(pipe.read).read_exact(&mut bytes)?;
        pipe.filled = 0;
        self.queue.extend(bytes);
        Ok(())
    }
}

/// As many `writev` as it takes until all is sent or the socket is full. A short write means that it is, and that
/// an event will say when it is not; a call that could not name all pieces says nothing of the kind.
fn write_most<S: Write>(mut socket: S, pieces: &[&[u8]]) -> io::Result<usize> {
    let mut sent = 0;
    for group in pieces.chunks(MAX_PIECES) {
        let wanted: usize = group.iter().map(|piece| piece.len()).sum();
        let taken = write_once(&mut socket, group)?;
        sent += taken;
        if taken < wanted {
            break;
        }
    }
    Ok(sent)
}

/// One `writev`; 0 if the socket takes nothing now.
fn write_once<S: Write>(mut socket: S, pieces: &[&[u8]]) -> io::Result<usize> {
    let slices: SmallVec<[IoSlice<'_>; 8]> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    loop {
        let sent = match slices.as_slice() {
            [one] => socket.write(one),
            all => socket.write_vectored(all),
        };
        match sent {
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => {
                return Err(io::ErrorKind::WriteZero.into());
            }
            Ok(sent) => return Ok(sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn pair() -> (UnixStream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        (near, far)
    }

    fn read_available(mut from: &UnixStream, into: &mut Vec<u8>) {
        let mut buffer = [0; 65536];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                return;
            }
            into.extend_from_slice(&buffer[..n]);
        }
    }

    #[test]
    fn nothing_is_lost_or_reordered_when_the_peer_stalls() {
        let (near, far) = pair();
        let (mut outbox, mut pipes, mut got) = (Outbox::default(), Pipes::default(), Vec::new());
        let expected: Vec<u8> = (0..3_000_000u32).map(|i| (i ^ (i >> 8)) as u8).collect();
        for part in expected.chunks(100_000) {
            let (a, b) = part.split_at(1234);
            outbox.send(&near, &[a, b]).unwrap();
        }
        assert!(!outbox.is_empty());
        while got.len() < expected.len() {
            read_available(&far, &mut got);
            outbox.flush(&near, &mut pipes).unwrap();
        }
        assert!(got == expected && outbox.is_empty());
    }

    #[test]
    fn any_number_of_pieces_is_sent_at_once() {
        let (near, far) = pair();
        let (mut outbox, mut got) = (Outbox::default(), Vec::new());
        let expected: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let pieces: Vec<&[u8]> = expected.chunks(1).collect();
        outbox.send(&near, &pieces).unwrap();
        assert!(outbox.is_empty(), "the socket had room, and no event would come");
        read_available(&far, &mut got);
        assert_eq!(got, expected);
    }

    #[test]
    fn what_was_spliced_goes_before_what_is_written_later() {
        let (mut source, inlet) = pair();
        let (near, far) = pair();
        let (mut outbox, mut pipes, mut got) = (Outbox::default(), Pipes::default(), Vec::new());
        let mut expected = Vec::new();
        while outbox.is_empty() {
            outbox.send(&near, &[&[1; 10_000]]).unwrap();
            expected.extend([1; 10_000]);
        }
        // The socket is full and bytes wait: empty the queue first, as the driver does before it splices.
        while !outbox.is_empty() {
            read_available(&far, &mut got);
            outbox.flush(&near, &mut pipes).unwrap();
        }
        while outbox.is_empty() {
            source.write_all(&[2; 10_000]).unwrap();
            let mut pipe = pipes.take().unwrap();
            assert_eq!(pipe.fill(&inlet, None, PIPE_SIZE).unwrap(), 10_000);
            outbox.send_pipe(&near, pipe, &mut pipes).unwrap();
            expected.extend([2; 10_000]);
        }
        outbox.send(&near, &[&[3; 10]]).unwrap();
        expected.extend([3; 10]);
        while got.len() < expected.len() {
            read_available(&far, &mut got);
            outbox.flush(&near, &mut pipes).unwrap();
        }
        assert!(got == expected);
    }
}
