//! Files are opened below their directory and nowhere else, and parts of them are sent as fast as the client reads.

mod common;
mod film;

use film::film;
use srs_proxy_core::machine::{Action, Close, Cx, Fault, Input, Leg, Machine, Opened};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, Runtime, bind_tcp};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Answers lines of `path` or `path start end`: what is there, and that part of it.
struct Library {
    file: Leg,
    part: Option<Range<u64>>,
}

impl Machine for Library {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        let mut say = |text: String| cx.actions.write(Leg::CLIENT, text.into_bytes());
        match input {
            Input::Stream { bytes, .. } => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(0) };
                let mut words = std::str::from_utf8(&bytes[..end]).unwrap().split(' ');
                let path = words.next().unwrap().into();
                let mut number = || words.next().map(|word| word.parse().unwrap());
                self.part = number().zip(number()).map(|(start, end)| start..end);
                self.file = Leg::new(1, self.file.generation + 1);
                cx.actions.push(Action::OpenFile { leg: self.file, path });
                return Ok(end + 1);
            }
            Input::Opened { leg, what: Opened::File(info) } => {
                let kind = if info.is_directory { "directory" } else { "file" };
                say(format!("{kind} {} {}\n", info.length, info.modified));
                match self.part.take() {
                    Some(range) => cx.actions.push(Action::SendFile { from: leg, to: Leg::CLIENT, range }),
                    None => cx.actions.close(leg, Close::Flush),
                }
            }
            Input::OpenFailed { why, .. } => say(format!("{why:?}\n")),
            Input::Spliced { leg } => {
                say("sent\n".into());
                cx.actions.close(leg, Close::Flush);
            }
            Input::Eof { leg, .. } => {
                say("short\n".into());
                cx.actions.close(leg, Close::Flush);
            }
            _ => {}
        }
        Ok(0)
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// A directory of one test, below the one that is served.
fn shelf(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _old = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn library() -> (Runtime, BufReader<TcpStream>) {
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let at = sockets[0].local_addr().unwrap();
    let machine = Arc::new(|_| -> BoxMachine { Box::new(Library { file: Leg::new(1, 0), part: None }) });
    let runtime =
        common::serve(Listener::Tcp("library", Class::Session, sockets, machine), at, common::STALL);
    let client = TcpStream::connect(at).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (runtime, BufReader::new(client))
}

fn ask(client: &mut BufReader<TcpStream>, question: &str) -> String {
    client.get_mut().write_all(format!("{question}\n").as_bytes()).unwrap();
    line(client)
}

fn line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn every_part_of_a_file_arrives_even_if_the_reader_is_slow() {
    let (shelf, content) = (shelf("parts"), film(20_000_000, 1));
    fs::write(shelf.join("film"), &content).unwrap();
    let modified = fs::metadata(shelf.join("film")).unwrap().modified().unwrap();
    let modified = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (runtime, mut client) = library();
    for part in [0..20_000_000, 0..1, 19_999_999..20_000_000, 5..5, 7..65_543, 1000..50_152, 100_000..700_000]
    {
        let said = ask(&mut client, &format!("parts/film {} {}", part.start, part.end));
        assert_eq!(said, format!("file 20000000 {modified}"));
        let mut got = vec![0; part.len()];
        for piece in got.chunks_mut(50_000) {
            client.read_exact(piece).unwrap();
            std::thread::yield_now();
        }
        assert!(got == content[part]);
        assert_eq!(line(&mut client), "sent");
    }
    runtime.stop();
}

#[test]
fn a_file_that_became_shorter_ends_early() {
    fs::write(shelf("short").join("film"), [7; 100]).unwrap();
    let (runtime, mut client) = library();
    assert!(ask(&mut client, "short/film 90 200").starts_with("file 100 "));
    let mut got = [0; 10];
    client.read_exact(&mut got).unwrap();
    assert_eq!((got, line(&mut client).as_str()), ([7; 10], "short"));
    assert!(ask(&mut client, "short/film 1000 2000000").starts_with("file 100 "));
    assert_eq!(line(&mut client), "short");
    runtime.stop();
}

#[test]
fn nothing_outside_the_directory_can_be_opened_and_nothing_that_is_no_file() {
    let (shelf, outside) = (shelf("links"), std::env::temp_dir());
    fs::create_dir(shelf.join("inner")).unwrap();
    fs::write(shelf.join("inner/film"), [7; 3]).unwrap();
    symlink("../links/inner/film", shelf.join("inside")).unwrap();
    symlink(&outside, shelf.join("outside")).unwrap();
    symlink("../../..", shelf.join("up")).unwrap();
    symlink("/etc/passwd", shelf.join("absolute")).unwrap();
    symlink("/proc/self/exe", shelf.join("magic")).unwrap();
    symlink("circle", shelf.join("circle")).unwrap();
    let _socket = UnixListener::bind(shelf.join("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, shelf.join("fifo"), 0o600.into()).unwrap();
    let (runtime, mut client) = library();
    assert!(ask(&mut client, "links/inner/film").starts_with("file 3 "));
    assert!(ask(&mut client, "links/inside").starts_with("file 3 "));
    assert!(ask(&mut client, "links/inner").starts_with("directory 0 "));
    assert!(ask(&mut client, ".").starts_with("directory 0 "));
    let long = "x".repeat(5000);
    for path in
        ["outside", "outside/x", "up", "up/etc", "absolute", "magic", "circle", "socket", "fifo", "none"]
    {
        assert_eq!(ask(&mut client, &format!("links/{path}")), "Unreachable", "{path}");
    }
    for path in ["", "/", "/etc/passwd", "..", "links/../..", "links/inner/film/", "links/\0", &long] {
        assert_eq!(ask(&mut client, path), "Unreachable", "{path}");
    }
    runtime.stop();
}

#[test]
fn a_thousand_files_leave_no_descriptor_behind() {
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    fs::write(shelf("many").join("film"), [7; 3]).unwrap();
    let (runtime, mut client) = library();
    for _ in 0..1000 {
        assert!(ask(&mut client, "many/film 0 3").starts_with("file 3 "));
        assert_eq!(line(&mut client), "\u{7}\u{7}\u{7}sent");
    }
    assert!(descriptors() < 100);
    runtime.stop();
}
