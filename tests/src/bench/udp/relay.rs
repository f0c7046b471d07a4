//! The floors: relays that understand nothing. One thread, epoll, one socket towards the target for each client
//! address, for ever.

use super::super::load::Poll;
use super::{Receiver, send, send_segments, socket, tune};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use rustix::event::epoll::EventFlags;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

const LISTENER: u64 = u64::MAX;
/// Datagrams taken from one socket before the others have their turn.
const BUDGET: usize = 64;

/// How datagrams are moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Method {
    /// One call for each datagram received and one for each sent.
    Simple,
    /// `recvmmsg` and `sendmmsg`.
    Mmsg,
    /// `recvmmsg` with GRO; what came as one message is sent as one, with GSO.
    Gso,
}

impl Method {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Simple, Self::Mmsg, Self::Gso].into_iter().find(|method| method.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Mmsg => "mmsg",
            Self::Gso => "gso",
        }
    }
}

struct Relay {
    method: Method,
    poll: Poll,
    listener: UdpSocket,
    target: SocketAddr,
    flows: Vec<(UdpSocket, SocketAddr)>,
    clients: HashMap<SocketAddr, usize>,
    receiver: Receiver,
    headers: MultiHeaders<SockaddrStorage>,
}

/// Relays every client of `listener` to `target`, for ever.
///
/// # Errors
/// The system's; datagrams that cannot be sent are lost.
pub fn run(method: Method, listener: UdpSocket, target: SocketAddr) -> io::Result<()> {
    let gro = method == Method::Gso;
    tune(&listener, gro)?;
    let poll = Poll::new()?;
    poll.add(&listener, LISTENER, EventFlags::IN)?;
    let mut relay = Relay {
        method,
        poll,
        listener,
        target,
        flows: Vec::new(),
        clients: HashMap::new(),
        receiver: Receiver::new()?,
        headers: MultiHeaders::preallocate(super::SLOTS, None),
    };
    let mut ready = Vec::new();
    loop {
        relay.poll.wait(None, &mut ready)?;
        for &(token, _) in &ready {
            match method {
                Method::Simple => relay.one_by_one(token)?,
                Method::Mmsg | Method::Gso => relay.batch(token)?,
            }
        }
    }
}

impl Relay {
    fn flow(&mut self, client: SocketAddr) -> io::Result<usize> {
        if let Some(flow) = self.clients.get(&client) {
            return Ok(*flow);
        }
        let flow = self.flows.len();
        let socket = socket(self.method == Method::Gso)?;
        socket.connect(self.target)?;
        self.poll.add(&socket, flow as u64, EventFlags::IN)?;
        self.flows.push((socket, client));
        self.clients.insert(client, flow);
        Ok(flow)
    }

    fn one_by_one(&mut self, token: u64) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.receiver.buffer);
        for _ in 0..BUDGET {
            if token == LISTENER {
                let Ok((length, client)) = self.listener.recv_from(&mut buffer) else { break };
                let flow = self.flow(client)?;
                let _ = self.flows[flow].0.send(&buffer[..length]);
            } else {
                let (socket, client) = &self.flows[token as usize];
                let Ok(length) = socket.recv(&mut buffer) else { break };
                let _ = self.listener.send_to(&buffer[..length], client);
            }
        }
        self.receiver.buffer = buffer;
        Ok(())
    }

    fn batch(&mut self, token: u64) -> io::Result<()> {
        let got = match token {
            LISTENER => self.receiver.receive(&self.listener)?,
            flow => self.receiver.receive(&self.flows[flow as usize].0).unwrap_or(0),
        };
        let mut first = 0;
        while first < got {
            let (from, _, _) = self.receiver.message(first);
            // What follows from the same client goes with it.
            let end = (first + 1..got).find(|&at| self.receiver.message(at).0 != from).unwrap_or(got);
            let flow = if token == LISTENER { self.flow(from)? } else { token as usize };
            let (socket, client) = &self.flows[flow];
            let (socket, to) =
                if token == LISTENER { (socket, None) } else { (&self.listener, Some(*client)) };
            let messages = (first..end).map(|at| self.receiver.message(at));
            if self.method == Method::Mmsg && end > first + 1 {
                let slices: Vec<[IoSlice<'_>; 1]> =
                    messages.map(|(_, range, _)| [IoSlice::new(&self.receiver.buffer[range])]).collect();
                let to = vec![to.map(SockaddrStorage::from); slices.len()];
                let _ =
                    sendmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter(), to, [], MsgFlags::empty());
            } else {
                for (_, range, size) in messages {
                    let datagrams = &self.receiver.buffer[range];
                    let _ = if datagrams.len() > size {
                        send_segments(socket, to, datagrams, size)
                    } else {
                        send(socket, to, datagrams)
                    };
                }
            }
            first = end;
        }
        Ok(())
    }
}
