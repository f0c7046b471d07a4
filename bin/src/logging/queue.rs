//! Lines on their way to a file, a terminal or a pipe that may take its time. Whoever adds one never waits for that.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What waits at most, in bytes: some ten thousand lines. Above, lines are dropped.
const MAX_WAITING: usize = 1024 * 1024;

/// Memory that is kept for the next lines, in bytes.
const SPARE: usize = 64 * 1024;

/// After the first line, more are waited for so long: a busy second is written in a few dozen pieces.
const GATHER: Duration = Duration::from_millis(20);

#[derive(Default, Debug)]
pub(super) struct Queue {
    lines: Mutex<Lines>,
    /// There are lines, or an end to waiting for more.
    added: Condvar,
    /// There are none.
    written: Condvar,
}

#[derive(Default, Debug)]
struct Lines {
    text: Vec<u8>,
    /// How many found no room.
    dropped: u64,
    /// Some are being written.
    is_writing: bool,
    /// Somebody waits for what there is.
    is_urgent: bool,
}

impl Lines {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.dropped == 0
    }
}

impl Queue {
    /// Adds a line, with its end, if there is room.
    fn add(&self, line: &[u8]) {
        let mut lines = self.lock();
        let is_first = lines.is_empty();
        if lines.text.len() + line.len() <= MAX_WAITING {
            lines.text.extend_from_slice(line);
        } else {
            lines.dropped += 1;
        }
        // One that comes later is written with the first.
        if is_first && !lines.is_writing {
            self.added.notify_one();
        }
    }

    /// Writes what is added, for ever. `dropped` is the line that tells of so many that were.
    pub(super) fn write_to(&self, mut out: impl Write, dropped: impl Fn(u64) -> String) {
        let mut text = Vec::new();
        loop {
            let mut lines = self.lock();
            lines.is_writing = false;
            if lines.is_empty() {
                lines.is_urgent = false;
                self.written.notify_all();
            }
            let nothing = |lines: &mut Lines| lines.is_empty();
            lines = self.added.wait_while(lines, nothing).unwrap_or_else(PoisonError::into_inner);
            let more = |lines: &mut Lines| !lines.is_urgent;
            let (mut lines, _) =
                self.added.wait_timeout_while(lines, GATHER, more).unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut text, &mut lines.text);
            let missing = std::mem::take(&mut lines.dropped);
            lines.is_writing = true;
            drop(lines);
            if missing > 0 {
                text.extend(dropped(missing).into_bytes());
            }
            // Where logs cannot be written there is nobody to tell.
            let _ = out.write_all(&text);
            text.clear();
            // The room that a flood has left.
            text.shrink_to(SPARE);
        }
    }

    /// Waits until all is written, but no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let mut lines = self.lock();
        lines.is_urgent = true;
        self.added.notify_one();
        let busy = |lines: &mut Lines| lines.is_writing || !lines.is_empty();
        drop(self.written.wait_timeout_while(lines, patience, busy));
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines go in: each write is one.
#[derive(Debug)]
pub(super) struct End(pub(super) Arc<Queue>);

impl Write for End {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::thread;
    use std::time::Instant;

    /// Takes a piece when somebody asks for it.
    struct Reluctant(SyncSender<String>);

    impl Write for Reluctant {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(piece.to_vec()).expect("text");
            self.0.send(text).map_err(io::Error::other)?;
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn queue() -> (Arc<Queue>, Receiver<String>) {
        let (queue, (send, receive)) = (Arc::new(Queue::default()), sync_channel(0));
        let writer = Arc::clone(&queue);
        thread::spawn(move || writer.write_to(Reluctant(send), |count| format!("{count} dropped\n")));
        (queue, receive)
    }

    #[test]
    fn lines_are_written_in_order_and_many_at_once() {
        let (queue, written) = queue();
        let mut end = End(Arc::clone(&queue));
        let expected: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        for number in 0..1000 {
            writeln!(end, "line {number}").unwrap();
        }
        let (mut got, mut pieces) = (String::new(), 0);
        while got.len() < expected.len() {
            got += &written.recv().unwrap();
            pieces += 1;
        }
        assert_eq!(got, expected);
        assert!(pieces < 100, "{pieces} pieces");
    }

    #[test]
    fn who_logs_never_waits_and_what_finds_no_room_is_counted() {
        let (queue, written) = queue();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        // Nobody reads: some are with the writer, as many as may wait, and the others are dropped.
        for _ in 0..4 * MAX_WAITING / line.len() {
            queue.add(&line);
        }
        let (mut got, mut dropped) = (0, 0);
        while got + dropped < 4 * MAX_WAITING / line.len() {
            for line in written.recv().unwrap().lines() {
                match line.strip_suffix(" dropped") {
                    Some(count) => dropped += count.parse::<usize>().unwrap(),
                    None => got += 1,
                }
            }
        }
        assert!(dropped >= 2 * MAX_WAITING / line.len(), "{dropped}");
    }

    #[test]
    fn the_last_lines_are_waited_for_but_not_for_ever() {
        let (queue, written) = queue();
        queue.add(b"last\n");
        let began = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50), "nobody has read it");
        let reader = thread::spawn(move || (written.recv().unwrap(), written));
        queue.flush(Duration::from_secs(60));
        assert!(began.elapsed() < Duration::from_secs(30), "it is written");
        assert_eq!(reader.join().unwrap().0, "last\n");
    }
}
