//! Files below one directory, and nothing outside it, wherever links lead. A leg that is a file sends parts of it.

use crate::outbox::Pipe;
use crate::source::{Got, Source};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::{Errno, pread};
use srs_proxy_core::machine::{FileInfo, Leg};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// Not even a FIFO makes the worker wait, and no terminal becomes its own.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// A directory whose files machines may open.
#[derive(Clone, Debug)]
pub struct Files(Arc<OwnedFd>);

impl Files {
    /// The files below `directory`, which stays the same one if it is renamed.
    ///
    /// # Errors
    /// It can't be opened, or the kernel (before Linux 5.6) can't confine paths to it.
    pub fn below(directory: &Path) -> io::Result<Self> {
        let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        openat2(&directory, ".", FLAGS, Mode::empty(), RESOLVE)?;
        Ok(Self(Arc::new(directory)))
    }

    /// Opens a file or a directory; anything else is treated as if it was not there.
    pub(crate) fn open(&self, path: &str) -> io::Result<(FileLeg, FileInfo)> {
        let file = openat2(&*self.0, path, FLAGS, Mode::empty(), RESOLVE)?;
        let stat = fstat(&file)?;
        let is_directory = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => false,
            FileType::Directory => true,
            _ => return Err(Errno::NOENT.into()),
        };
        let length = if is_directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
        let modified = u64::try_from(stat.st_mtime).unwrap_or(0);
        Ok((
            FileLeg { file, sending: None, unspliceable: false },
            FileInfo { is_directory, length, modified },
        ))
    }
}

/// An open file, and which part of it is on its way where.
#[derive(Debug)]
pub(crate) struct FileLeg {
    file: OwnedFd,
    sending: Option<(Leg, Range<u64>)>,
    /// The kernel moves none of its bytes by itself.
    unspliceable: bool,
}

impl FileLeg {
    /// Begins to send a part that is not empty.
    pub(crate) fn send(&mut self, to: Leg, part: Range<u64>) {
        self.sending = Some((to, part));
    }

    /// Where it is being sent.
    pub(crate) fn goes_to(&self) -> Option<Leg> {
        self.sending.as_ref().map(|(to, _)| *to)
    }

    fn part(&self) -> Range<u64> {
        self.sending.as_ref().map_or(0..0, |(_, part)| part.clone())
    }
}

impl Source for FileLeg {
    fn left(&self) -> usize {
        let Range { start, end } = self.part();
        usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)
    }

    fn is_heavy(&self) -> bool {
        !self.unspliceable
    }

    fn read(&mut self, buffer: &mut [u8]) -> Got {
        match pread(&self.file, buffer, self.part().start) {
            // Nothing where something should be means that the file has become shorter.
            Ok(0) => Got::End,
            Ok(bytes) => Got::Bytes(bytes),
            Err(_) => Got::Broken,
        }
    }

    fn read_into(&mut self, pipe: &mut Pipe, limit: usize) -> Got {
        match pipe.fill(&self.file, Some(self.part().start), limit) {
            Ok(0) => Got::End,
            Ok(bytes) => Got::Bytes(bytes),
            Err(error) => {
                let got = Got::instead_of_a_pipe(error);
                self.unspliceable |= got == Got::Refused;
                got
            }
        }
    }

    fn moved_on(&mut self, moved: usize) -> bool {
        let Some((_, part)) = &mut self.sending else { return false };
        part.start += moved as u64;
        let done = part.is_empty();
        if done {
            self.sending = None;
        }
        done
    }

    fn end(&mut self) {
        self.sending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Pipes;

    #[test]
    fn what_the_kernel_does_not_move_is_read() {
        let files = Files::below("/proc/self".as_ref()).unwrap();
        let (mut file, _) = files.open("environ").unwrap();
        let mut pipe = Pipes::default().take().unwrap();
        file.send(Leg::CLIENT, 0..4);
        assert!(file.is_heavy());
        assert_eq!(file.read_into(&mut pipe, 4), Got::Refused);
        assert!(!file.is_heavy());
        assert_eq!(file.read(&mut [0; 4]), Got::Bytes(4));
    }
}
