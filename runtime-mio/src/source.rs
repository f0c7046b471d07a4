//! Where bytes come from that are moved untouched, a connection or a file, and what reading finds there.

use crate::outbox::Pipe;
use rustix::io::Errno;

/// Bytes that must be worth it for the kernel to move them through a pipe; below, one read and one write are cheaper
/// than two splices and the one that finds the socket empty.
pub(crate) const HEAVY: usize = 48 * 1024;

/// What a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Got {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The end, in good order.
    End,
    /// The end, with an error: what has come need not be all that was sent.
    Broken,
    /// Of a pipe only: the kernel does not move these bytes, and they are to be read.
    Refused,
}

impl Got {
    /// What an error of the kernel means that is told instead of bytes for a pipe.
    pub(crate) fn instead_of_a_pipe(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::Nothing,
            // A file system or a sandbox that knows no splice.
            Errno::INVAL | Errno::PERM | Errno::NOSYS => Self::Refused,
            _ => Self::Broken,
        }
    }
}

/// A leg whose bytes go to a connection, up to a limit.
pub(crate) trait Source {
    /// Bytes up to the limit.
    fn left(&self) -> usize;

    /// Whether they come in such amounts that the kernel should move them.
    fn is_heavy(&self) -> bool;

    /// Reads once into `buffer`, which has no more room than is left.
    fn read(&mut self, buffer: &mut [u8]) -> Got;

    /// Reads at most `limit` bytes, no more than are left, into an empty pipe.
    fn read_into(&mut self, pipe: &mut Pipe, limit: usize) -> Got;

    /// Counts bytes that were moved. Whether those were all.
    fn moved_on(&mut self, moved: usize) -> bool;

    /// There will be no more.
    fn end(&mut self);
}
