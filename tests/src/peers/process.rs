//! A program under test: started with its output kept, stopped by its process id. Knows no program.

use super::{wait_for, wait_until};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Lines of output shown when a test fails: the end tells why.
const LINES_SHOWN: usize = 60;

/// What fits into a pipe that nobody reads, in bytes: the least there is.
const UNREAD: usize = 4096;

/// How long a killed program may take to be gone.
const DEATH: Duration = Duration::from_secs(10);

/// Where a line was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pipe {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

type Lines = Arc<Mutex<Vec<(Pipe, String)>>>;

/// A running program. Dropping it kills it; a failing test then shows the end of its output.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Lines,
    readers: Vec<JoinHandle<()>>,
    /// The pipe of its standard error, if nobody reads that.
    _unread: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A command that dies with the thread that starts it, so that an aborted test run leaves nothing behind.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
    command
}

impl Process {
    /// Starts `command`; `name` is what it is called in messages.
    #[track_caller]
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        Self::start_with(name.into(), command, Stdio::piped(), None)
    }

    /// Starts `command` with a standard error that takes a little and then no more, since nobody reads it.
    #[track_caller]
    pub fn start_unread(name: impl Into<String>, command: &mut Command) -> Self {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        fcntl_setpipe_size(&write, UNREAD).expect("a small pipe");
        Self::start_with(name.into(), command, write.into(), Some(read))
    }

    #[track_caller]
    fn start_with(name: String, command: &mut Command, stderr: Stdio, unread: Option<OwnedFd>) -> Self {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn();
        let mut child = started.unwrap_or_else(|why| panic!("{name} does not start: {why} ({command:?})"));
        let lines = Lines::default();
        let readers = [
            child.stdout.take().map(|pipe| keep(Pipe::Out, pipe, &lines)),
            child.stderr.take().map(|pipe| keep(Pipe::Err, pipe, &lines)),
        ];
        let readers = readers.into_iter().flatten().collect();
        Self { name, child, lines, readers, _unread: unread, status: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, the last lines only.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        let skipped = lines.len().saturating_sub(LINES_SHOWN);
        lines.iter().skip(skipped).fold(String::new(), |mut text, (_, line)| {
            let _ = writeln!(text, "  {}: {line}", self.name);
            text
        })
    }

    /// What it has written to one pipe so far.
    pub fn text(&self, from: Pipe) -> String {
        let lines = self.lines();
        let of_pipe = lines.iter().filter(|(pipe, _)| *pipe == from).map(|(_, line)| line.as_str());
        of_pipe.fold(String::new(), |text, line| text + line + "\n")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits for a line that contains `text` and gives it.
    #[track_caller]
    pub fn wait_line(&mut self, text: &str, deadline: Duration) -> String {
        wait_for(&format!("{} writes {text:?}", self.name), deadline, || {
            let running = self.is_running();
            if !running {
                // What it has written last may be in the pipe still.
                self.join_readers();
            }
            let found =
                self.lines().iter().find(|(_, line)| line.contains(text)).map(|(_, line)| line.clone());
            assert!(
                found.is_some() || running,
                "{} ended without writing {text:?}\n{}",
                self.name,
                self.tail()
            );
            found
        })
    }

    /// Waits until `ready` holds, or ends the test at once when the program ends before.
    #[track_caller]
    pub fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut() -> bool) {
        wait_until(&format!("{} is ready", self.name), deadline, || {
            assert!(self.is_running(), "{} ended before it was ready\n{}", self.name, self.tail());
            ready()
        });
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            // It may have ended by itself a moment ago; then there is nobody left to tell.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// Kills it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        wait_until(&format!("{} is gone", self.name), DEATH, || self.poll().is_some());
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_end(&mut self, deadline: Duration) -> Ended {
        let status = wait_for(&format!("{} ends", self.name), deadline, || self.poll());
        self.join_readers();
        Ended { status, stdout: self.text(Pipe::Out), stderr: self.text(Pipe::Err) }
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child can be waited for");
        }
        self.status
    }

    /// Waits until all is kept that an ended program has written.
    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    fn lines(&self) -> MutexGuard<'_, Vec<(Pipe, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.poll().is_none() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("--- {} (pid {}), {:?}:\n{}", self.name, self.child.id(), self.status, self.tail());
        }
    }
}

impl Ended {
    /// Ends the test if the program did not succeed.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(name: &str, command: &mut Command, deadline: Duration) -> Ended {
    Process::start(name, command).wait_end(deadline)
}

fn keep(pipe: Pipe, from: impl Read + Send + 'static, lines: &Lines) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            lines.lock().unwrap_or_else(PoisonError::into_inner).push((pipe, line));
        }
    })
}
