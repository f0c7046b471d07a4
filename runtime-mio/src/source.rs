//! Where bytes come from that are moved untouched, a connection or a file, and what reading finds there.

use crate::outbox::Pipe;

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
    /// The end, in good order or not.
    End,
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
