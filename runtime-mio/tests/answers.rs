//! A client that asks on and on is heard only as long as it takes its answers.

mod common;

use srs_proxy_core::machine::{Close, Cx, Fault, Input, Leg, Machine};
use srs_proxy_core::time::Time;
use srs_proxy_runtime_mio::{BoxMachine, Class, Listener, Runtime, bind_tcp};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one byte is answered with.
const ANSWER: [u8; 10] = [7; 10];

/// More than sockets and queues hold of questions whose answers nobody takes, in bytes.
const QUESTIONS: usize = 64 * 1024 * 1024;

/// Answers every byte with ten.
struct Generous;

impl Machine for Generous {
    fn handle(&mut self, cx: &mut Cx<'_>, input: Input<'_>) -> Result<usize, Fault> {
        match input {
            Input::Stream { bytes, .. } => {
                cx.actions.write(Leg::CLIENT, ANSWER.repeat(bytes.len()));
                Ok(bytes.len())
            }
            Input::Eof { leg, .. } => {
                cx.actions.close(leg, Close::Flush);
                Ok(0)
            }
            _ => Ok(0),
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

fn serve(stall: Duration) -> (Runtime, TcpStream) {
    let sockets = bind_tcp((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
    let at = sockets[0].local_addr().unwrap();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let machine = Arc::new(|_| -> BoxMachine { Box::new(Generous) });
    let listener = Listener::Tcp("answers", Class::Session, sockets, machine);
    let runtime = common::serve(listener, nowhere, stall);
    (runtime, TcpStream::connect(at).unwrap())
}

#[test]
fn a_client_that_takes_no_answers_is_not_read_until_it_does() {
    let (runtime, mut client) = serve(common::STALL);
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut asked = 0;
    while asked < QUESTIONS {
        match client.write(&[0; 64 * 1024]) {
            Ok(n) => asked += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(asked < QUESTIONS, "{asked} questions were taken, and no answer");
    client.shutdown(Shutdown::Write).unwrap();
    let mut answered = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            n => answered += n,
        }
    }
    assert_eq!(answered, asked * ANSWER.len());
    runtime.stop();
}

#[test]
fn a_client_that_reads_slowly_is_not_taken_for_one_that_does_not_read() {
    // More than both sockets hold, and what a client takes of it in a while: too little for the kernel to tell that
    // there is room in the socket again.
    const ASKED: usize = 2_000_000;
    const PIECE: usize = 16 * 1024;
    let stall = Duration::from_secs(2);
    let (runtime, mut client) = serve(stall);
    let mut writer = client.try_clone().unwrap();
    let asking = std::thread::spawn(move || writer.write_all(&[0; ASKED]).unwrap());
    let begin = Instant::now();
    let mut answered = 0;
    let mut buffer = [0; PIECE];
    while begin.elapsed() < 4 * stall {
        answered += client.read(&mut buffer).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    while answered < ASKED * ANSWER.len() {
        match client.read(&mut buffer).unwrap() {
            0 => panic!("cut off after {answered} bytes"),
            n => answered += n,
        }
    }
    asking.join().unwrap();
    runtime.stop();
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (runtime, mut client) = serve(Duration::from_secs(1));
    client.write_all(&[0; 2_000_000]).unwrap();
    let begin = Instant::now();
    while runtime.sessions() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    runtime.stop();
}
