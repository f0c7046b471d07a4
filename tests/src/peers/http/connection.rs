//! A client's connection: one request after the other, or whatever bytes a test wants to send.

use super::STEP;
use super::message::{Body, Fields, Request, Response};
use super::wire::{Framing, Left, Wire, framing, invalid};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    wire: Wire<TcpStream>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the other side does not answer.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        Self::on(TcpStream::connect_timeout(&addr, STEP)?)
    }

    /// Connects with a receive buffer as small as the kernel allows: what is not read soon stays with the sender.
    ///
    /// # Errors
    /// When the other side does not answer.
    pub fn open_narrow(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_recv_buffer_size(1)?;
        socket.connect_timeout(&addr.into(), STEP)?;
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
        Ok(Self { wire: Wire::new(stream) })
    }

    /// How long to wait for anything from now on.
    #[track_caller]
    pub fn set_patience(&self, patience: Duration) {
        self.stream().set_read_timeout(Some(patience)).expect("a read timeout");
    }

    /// Ends being narrow. With the smallest buffer the kernel's timers for closed windows, not the other side, would
    /// decide when anything comes again.
    #[track_caller]
    pub fn widen(&self) {
        SockRef::from(self.stream()).set_recv_buffer_size(4 << 20).expect("a large receive buffer");
    }

    /// Sends these very bytes.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream().write_all(bytes)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send_request(&mut self, request: &Request) -> io::Result<()> {
        self.send(&request.bytes())
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub fn ask(&mut self, request: &Request) -> io::Result<Response> {
        self.send_request(request)?;
        self.response(&request.method)
    }

    /// Reads the whole answer to a request of this method.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub fn response(&mut self, method: &str) -> io::Result<Response> {
        let (mut response, framing) = self.head(method)?;
        self.body(&mut response, framing)?;
        Ok(response)
    }

    /// Reads one interim answer, and gives its status.
    ///
    /// # Errors
    /// When there is no head in time, or another one.
    pub fn interim(&mut self) -> io::Result<u16> {
        let head = self.wire.head()?;
        let status = head.start.split(' ').nth(1).and_then(|code| code.parse().ok());
        match status.filter(|status| (100..200).contains(status)) {
            Some(status) => Ok(status),
            None => Err(invalid(&format!("no interim answer: {:?}", head.start))),
        }
    }

    /// Reads an answer up to its body.
    ///
    /// # Errors
    /// When there is no head in time.
    pub fn head(&mut self, method: &str) -> io::Result<(Response, Framing)> {
        let mut interim = Vec::new();
        loop {
            let head = self.wire.head()?;
            let mut parts = head.start.splitn(3, ' ');
            let version = parts.next().unwrap_or_default().to_owned();
            let status = parts.next().filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
            let (Some(status), Some(reason)) = (status, parts.next()) else {
                return Err(invalid(&format!("status line {:?}", head.start)));
            };
            if !matches!(&version[..], "HTTP/1.1" | "HTTP/1.0") {
                return Err(invalid(&format!("version {version:?}")));
            }
            let says = framing(&head.fields)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push((status, head.fields));
                continue;
            }
            let without_body = method == "HEAD" || matches!(status, 204 | 304);
            let framing = if without_body { Framing::None } else { says.unwrap_or(Framing::UntilClose) };
            let response = Response {
                version,
                status,
                reason: reason.to_owned(),
                fields: head.fields,
                interim,
                body: Body::default(),
                trailers: Fields::default(),
            };
            return Ok((response, framing));
        }
    }

    /// Reads the body of an answer whose head was read. What came of it is in the answer even when it is cut short.
    ///
    /// # Errors
    /// When the body is cut short (`UnexpectedEof`, or a reset), wrong, or late.
    pub fn body(&mut self, response: &mut Response, framing: Framing) -> io::Result<()> {
        let mut left = Left::from(framing);
        while let Some(piece) = self.wire.piece(&mut left, &mut response.trailers)? {
            response.body.0.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Reads at least so many bytes of a body.
    ///
    /// # Errors
    /// When it is shorter, wrong, or late.
    pub fn body_start(&mut self, left: &mut Left, least: usize) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        while start.len() < least {
            match self.wire.piece(left, &mut Fields::default())? {
                Some(piece) => start.extend_from_slice(&piece),
                None => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(start)
    }

    /// Reads whatever comes until the other side closes, and gives it.
    ///
    /// # Errors
    /// When it does not close in time. A reset counts as closed.
    pub fn rest(&mut self, deadline: Duration) -> io::Result<Vec<u8>> {
        let start = Instant::now();
        let mut rest = Vec::new();
        loop {
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream().set_read_timeout(Some(left))?;
            match self.wire.any() {
                Ok(piece) if piece.is_empty() => return Ok(rest),
                Ok(piece) => rest.extend_from_slice(&piece),
                Err(why) if matches!(why.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(rest);
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// Ends the test unless the other side closes in time, and sends nothing more before it does.
    #[track_caller]
    pub fn assert_closed(&mut self, what: &str, deadline: Duration) {
        let rest = self.rest(deadline).unwrap_or_else(|why| panic!("{what}: not closed: {why}"));
        assert!(rest.is_empty(), "{what}: more came: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn end_sending(&mut self) -> io::Result<()> {
        self.stream().shutdown(Shutdown::Write)
    }

    fn stream(&self) -> &TcpStream {
        self.wire.get_ref()
    }
}
