//! A path to a TCP server that counts who comes, and can be made slow or closed. Moves bytes untouched.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Read at once.
const BUFFER: usize = 64 * 1024;

/// A running path.
#[derive(Debug)]
pub struct Slow {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    /// How late each piece of an answer is, milliseconds.
    delay: AtomicU64,
    came: AtomicUsize,
    closed: AtomicBool,
    stopped: AtomicBool,
    /// Both ends of every connection so far, to end them.
    streams: Mutex<Vec<TcpStream>>,
}

impl Slow {
    /// A path to `target`, at first without delay. Who comes while the target is not there is let in and sent away.
    #[track_caller]
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            target,
            delay: AtomicU64::new(0),
            came: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &accepting));
        Self { addr, shared, acceptor: Some(acceptor) }
    }

    /// Where it begins.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on each piece of an answer is so late. Pieces do not wait for one another: they come as far apart as they
    /// were sent.
    pub fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).expect("a short delay");
        self.shared.delay.store(millis, Ordering::Relaxed);
    }

    /// From now on nobody gets through, and who was through is cut off; or the path is open again.
    pub fn set_closed(&self, closed: bool) {
        self.shared.closed.store(closed, Ordering::Relaxed);
        if closed {
            self.shared.cut();
        }
    }

    /// How many connections have come so far, those among them that were sent away.
    pub fn came(&self) -> usize {
        self.shared.came.load(Ordering::Relaxed)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // The acceptor looks at the flag when somebody comes.
        if TcpStream::connect(self.addr).is_ok()
            && let Some(acceptor) = self.acceptor.take()
        {
            let _ = acceptor.join();
        }
        self.shared.cut();
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for stream in self.streams().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        shared.came.fetch_add(1, Ordering::Relaxed);
        // Nobody there, or the path is closed: the client is sent away by being dropped.
        if !shared.closed.load(Ordering::Relaxed) {
            let _ = connect(client, shared);
        }
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(shared.target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ends = [client.try_clone()?, server.try_clone()?];
    shared.streams().extend(ends);
    // Closed since it was looked at, the path may not have found these.
    if shared.closed.load(Ordering::Relaxed) {
        shared.cut();
    }
    let (questions, answers) = ((client.try_clone()?, server.try_clone()?), (server, client));
    thread::spawn(move || pass(questions.0, questions.1, || Duration::ZERO));
    let shared = Arc::clone(shared);
    let delay = move || Duration::from_millis(shared.delay.load(Ordering::Relaxed));
    thread::spawn(move || pass(answers.0, answers.1, delay));
    Ok(())
}

/// Passes on what comes, each piece so late, until one side has enough; then both are closed.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: impl Fn() -> Duration) {
    let (pieces, late) = mpsc::channel::<(Instant, Vec<u8>)>();
    let writer = thread::spawn(move || {
        while let Ok((due, piece)) = late.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut buffer = vec![0; BUFFER];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if pieces.send((Instant::now() + delay(), buffer[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(pieces);
    let _ = writer.join();
    let _ = from.shutdown(Shutdown::Both);
}
