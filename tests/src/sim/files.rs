//! The files of a simulated world: found by path, read piece by piece, and shrinking while they are. Knows no machine.

use srs_proxy_core::machine::{FileInfo, Leg};
use std::collections::BTreeMap;
use std::ops::Range;

/// What is found at a path.
#[derive(Clone, Debug)]
pub struct File {
    info: FileInfo,
    bytes: Vec<u8>,
}

impl File {
    /// A file with these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let info = FileInfo { is_directory: false, length: bytes.len() as u64, modified: 1_700_000_000 };
        Self { info, bytes }
    }

    /// A directory.
    pub fn directory() -> Self {
        let info = FileInfo { is_directory: true, length: 4096, modified: 1_700_000_000 };
        Self { info, bytes: Vec::new() }
    }

    /// Becomes this short as soon as it has been opened.
    pub fn shrinking_to(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }
}

/// A file that was opened, perhaps by a machine of an earlier session.
#[derive(Debug)]
struct Open {
    leg: Leg,
    file: File,
    sending: Option<(Leg, Range<u64>)>,
}

/// All files, and those that are open.
#[derive(Default, Debug)]
pub(crate) struct Files {
    found: BTreeMap<String, File>,
    open: Vec<Open>,
}

impl Files {
    pub(crate) fn add(&mut self, path: &str, file: File) {
        self.found.insert(path.to_owned(), file);
    }

    /// The number of the file that is opened next.
    pub(crate) fn next(&self) -> usize {
        self.open.len()
    }

    /// Whether there is one; it is open then.
    pub(crate) fn open(&mut self, leg: Leg, path: &str) -> bool {
        let file = self.found.get(path).cloned();
        self.open.extend(file.map(|file| Open { leg, file, sending: None }));
        self.found.contains_key(path)
    }

    pub(crate) fn info(&self, file: usize) -> FileInfo {
        self.open[file].file.info.clone()
    }

    pub(crate) fn send(&mut self, file: usize, to: Leg, range: Range<u64>) {
        let Open { leg, file, sending } = &mut self.open[file];
        let FileInfo { is_directory, length, .. } = file.info;
        assert!(!is_directory && range.end <= length, "{range:?} of a file of {length} bytes at {leg:?}");
        assert!(range.start <= range.end && sending.is_none(), "{leg:?}: {range:?} beside {sending:?}");
        *sending = Some((to, range));
    }

    /// The file's leg, and the one it is being sent to.
    pub(crate) fn sending(&self, file: usize) -> Option<(Leg, Leg)> {
        let Open { leg, sending, .. } = &self.open[file];
        sending.as_ref().map(|(to, _)| (*leg, *to))
    }

    /// The next bytes; and whether all there were to send have been, or the file is over too early.
    pub(crate) fn read(&mut self, file: usize, most: usize) -> (Vec<u8>, Option<bool>) {
        let Open { file, sending, .. } = &mut self.open[file];
        let Some((_, range)) = sending else { return (Vec::new(), None) };
        let there = range.start as usize..(range.end as usize).min(file.bytes.len());
        let bytes: Vec<u8> = file.bytes.get(there).unwrap_or_default().iter().take(most).copied().collect();
        range.start += bytes.len() as u64;
        let done = match (range.is_empty(), bytes.is_empty()) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        };
        if done.is_some() {
            *sending = None;
        }
        (bytes, done)
    }

    /// What an earlier session had sent is of no interest any more.
    pub(crate) fn forget(&mut self) {
        self.open.iter_mut().for_each(|open| open.sending = None);
    }

    /// Legs and numbers of the files that are being sent to this leg.
    pub(crate) fn feeding(&self, to: Leg) -> impl Iterator<Item = (Leg, usize)> {
        let open = self.open.iter().enumerate();
        open.filter(move |(_, open)| open.sending.as_ref().is_some_and(|(other, _)| *other == to))
            .map(|(file, open)| (open.leg, file))
    }

    /// From where to where files are being sent.
    pub(crate) fn all_sending(&self) -> impl Iterator<Item = (Leg, Leg)> {
        self.open.iter().filter_map(|open| open.sending.as_ref().map(|(to, _)| (open.leg, *to)))
    }
}
