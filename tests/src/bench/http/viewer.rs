//! A viewer: what it asks for, and whether what it gets is that. No I/O.

use super::answer::{Answers, Piece};
use super::flv;
use crate::bench::media::{HEAD, Head, Payloads};

/// A playlist longer than this is a mistake.
const PLAYLIST_MAX: usize = 64 * 1024;

/// What a viewer does.
#[derive(Clone, Debug)]
enum Task {
    /// It watches a stream as HTTP-FLV.
    Live(flv::Reader),
    /// It reads a playlist, of which this much has come.
    Playlist(Vec<u8>),
    /// It fetches the segment that the playlist names, again and again.
    Segments { target: String, number: u64, head: Vec<u8>, body: usize },
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// A message or a segment, verified; when it was sent or asked for.
    Received(u64),
    /// What was asked for has come whole; whether the connection is of use for more.
    Done(bool),
}

/// One viewer, and how far it is.
#[derive(Clone, Debug)]
pub struct Viewer {
    stream: u64,
    task: Task,
    answers: Answers,
    asked: u64,
}

impl Viewer {
    /// Watches `stream` live.
    pub fn live(stream: u64) -> Self {
        let task = Task::Live(flv::Reader::new(stream));
        Self { stream, task, answers: Answers::default(), asked: 0 }
    }

    /// Reads `stream`'s playlist and fetches its segments.
    pub fn player(stream: u64) -> Self {
        Self { stream, task: Task::Playlist(Vec::new()), answers: Answers::default(), asked: 0 }
    }

    /// Whether there is more to ask for only when told to.
    pub fn is_player(&self) -> bool {
        !matches!(self.task, Task::Live(_))
    }

    /// Whether media comes: the stream has begun, or the playlist is known.
    pub fn started(&self) -> bool {
        match &self.task {
            Task::Live(reader) => reader.started(),
            Task::Playlist(_) => false,
            Task::Segments { .. } => true,
        }
    }

    /// Live messages that have come.
    pub fn count(&self) -> u64 {
        if let Task::Live(reader) = &self.task { reader.count() } else { 0 }
    }

    /// What it asks next, on a new connection or the one that it has. `number` is its own among viewers.
    pub fn request(&mut self, number: usize, now: u64, host: &str) -> String {
        self.asked = now;
        let stream = self.stream;
        let target = match &mut self.task {
            Task::Live(_) => format!("/live/s{stream}.flv?viewer={number}"),
            Task::Playlist(_) => format!("/live/s{stream}.m3u8"),
            Task::Segments { target, number, .. } => {
                *number += 1;
                let separator = if target.contains('?') { '&' } else { '?' };
                format!("{target}{separator}n={number}")
            }
        };
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
    }

    /// Takes what came on its connection.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn feed(
        &mut self,
        payloads: &Payloads,
        mut bytes: &[u8],
        mut progress: impl FnMut(Progress),
    ) -> Result<(), String> {
        while let Some(piece) = self.answers.next(&mut bytes)? {
            match piece {
                Piece::Head(200) => {}
                Piece::Head(status) => return Err(format!("status {status}")),
                Piece::Body(body) => self.body(payloads, body, &mut progress)?,
                Piece::End(persists) => {
                    if let Some(asked) = self.end(payloads)? {
                        progress(Progress::Received(asked));
                    }
                    progress(Progress::Done(persists));
                }
            }
        }
        Ok(())
    }

    fn body(
        &mut self,
        payloads: &Payloads,
        bytes: &[u8],
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), &'static str> {
        match &mut self.task {
            Task::Live(reader) => reader.feed(payloads, bytes, |sent| progress(Progress::Received(sent))),
            Task::Playlist(text) => {
                text.extend_from_slice(bytes);
                if text.len() > PLAYLIST_MAX { Err("a playlist too long") } else { Ok(()) }
            }
            Task::Segments { number, head, body, .. } => {
                let (first, rest) = bytes.split_at(bytes.len().min(HEAD - head.len()));
                head.extend_from_slice(first);
                let expected = payloads.body(*number).get(*body..*body + rest.len());
                *body += rest.len();
                if expected == Some(rest) { Ok(()) } else { Err("damaged or too long") }
            }
        }
    }

    /// A body has ended. When a segment was asked for, if it was one.
    fn end(&mut self, payloads: &Payloads) -> Result<Option<u64>, &'static str> {
        match &mut self.task {
            Task::Live(_) => Err("a live stream that ended"),
            Task::Playlist(text) => {
                let text = String::from_utf8_lossy(text);
                let uri = text.lines().rfind(|line| !line.is_empty() && !line.starts_with('#'));
                let uri = uri.ok_or("a playlist without a segment")?;
                let target = if uri.starts_with('/') { uri.to_owned() } else { format!("/live/{uri}") };
                self.task = Task::Segments { target, number: 0, head: Vec::new(), body: 0 };
                Ok(None)
            }
            Task::Segments { number, head, body, .. } => {
                let bytes = head.first_chunk().ok_or("too short")?;
                Head::read(bytes)?.verify(self.stream, *number)?;
                if HEAD + *body != payloads.size() {
                    return Err("too short");
                }
                head.clear();
                *body = 0;
                Ok(Some(self.asked))
            }
        }
    }
}
