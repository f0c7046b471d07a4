//! One end of an RTMP connection below the commands: handshake, chunks, acknowledgements. No I/O.

use super::command::control;
use super::{Dechunker, Encoder, Error, Message, handshake, kind};

/// What must arrive before chunks do.
#[derive(Clone, Debug)]
enum Shake {
    /// The client waits for S0, S1 and S2, which must answer this C0 and C1.
    Client(Vec<u8>),
    /// The server waits for C0 and C1 and will then send these S0 and S1.
    Server(Vec<u8>),
    /// The server waits for C2, which must answer this S0 and S1.
    ServerSent(Vec<u8>),
    Done,
}

/// One end of a connection: bytes in, messages out, and the other way round.
#[derive(Clone, Debug)]
pub struct Wire {
    shake: Shake,
    /// The handshake as far as it has arrived.
    early: Vec<u8>,
    incoming: Dechunker,
    /// How messages are cut; set its compression as the test needs.
    pub encoder: Encoder,
    output: Vec<u8>,
    /// The peer wants an acknowledgement each time so many bytes have arrived.
    window: Option<u32>,
    received: u64,
    acknowledged: u64,
}

impl Wire {
    /// The connecting end. C0 and C1 are ready to be sent; `seed` determines their bytes.
    pub fn client(seed: u64) -> Self {
        let hello = handshake::hello(seed);
        let output = hello.clone();
        Self { output, ..Self::new(Shake::Client(hello)) }
    }

    /// The accepting end.
    pub fn server(seed: u64) -> Self {
        Self::new(Shake::Server(handshake::hello(seed)))
    }

    fn new(shake: Shake) -> Self {
        Self {
            shake,
            early: Vec::new(),
            incoming: Dechunker::new(),
            encoder: Encoder::new(),
            output: Vec::new(),
            window: None,
            received: 0,
            acknowledged: 0,
        }
    }

    /// Whether messages may be sent: the handshake is through, as far as this end has to wait for it.
    pub fn is_established(&self) -> bool {
        matches!(self.shake, Shake::Done)
    }

    /// Takes what arrived.
    ///
    /// # Errors
    /// The peer broke the protocol.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.received += bytes.len() as u64;
        if self.is_established() {
            self.incoming.feed(bytes)?;
        } else {
            self.early.extend(bytes);
            while self.shake_on()? {}
            if self.is_established() {
                let chunks = std::mem::take(&mut self.early);
                self.incoming.feed(&chunks)?;
            }
        }
        if let Some(window) = self.window
            && self.received - self.acknowledged >= window.into()
        {
            self.acknowledged = self.received;
            self.send(&control::acknowledgement(self.received as u32));
        }
        Ok(())
    }

    /// One step of the handshake; false if more bytes are needed or nothing is left to do.
    fn shake_on(&mut self) -> Result<bool, Error> {
        let need = match self.shake {
            Shake::Client(_) => 1 + 2 * handshake::PART,
            Shake::Server(_) => 1 + handshake::PART,
            Shake::ServerSent(_) => handshake::PART,
            Shake::Done => return Ok(false),
        };
        if self.early.len() < need {
            return Ok(false);
        }
        let rest = self.early.split_off(need);
        let part = std::mem::replace(&mut self.early, rest);
        self.shake = match std::mem::replace(&mut self.shake, Shake::Done) {
            Shake::Client(_) | Shake::Server(_) if part[0] != handshake::VERSION => {
                return Err(Error("another RTMP version"));
            }
            Shake::Client(hello) => {
                let (s1, s2) = part[1..].split_at(handshake::PART);
                if !handshake::answers(s2, &hello) {
                    return Err(Error("S2 does not answer C1"));
                }
                self.output.extend(s1);
                Shake::Done
            }
            Shake::Server(hello) => {
                self.output.extend(&hello);
                self.output.extend(&part[1..]);
                Shake::ServerSent(hello)
            }
            Shake::ServerSent(hello) if !handshake::answers(&part, &hello) => {
                return Err(Error("C2 does not answer S1"));
            }
            Shake::ServerSent(_) | Shake::Done => Shake::Done,
        };
        Ok(true)
    }

    /// The next message. Chunk sizes, the acknowledgement window and pings have been dealt with.
    pub fn next_message(&mut self) -> Option<Message> {
        let message = self.incoming.next_message()?;
        match (message.type_id, &message.payload[..]) {
            (kind::WINDOW_ACK_SIZE, &[a, b, c, d]) => {
                self.window = Some(u32::from_be_bytes([a, b, c, d]).max(1));
            }
            (kind::USER_CONTROL, &[0, 6, a, b, c, d]) => {
                self.send(&control::ping_response(u32::from_be_bytes([a, b, c, d])));
            }
            _ => {}
        }
        Some(message)
    }

    /// Cuts a message into chunks, to be sent.
    pub fn send(&mut self, message: &Message) {
        self.encoder.write(message, &mut self.output);
    }

    /// Adds bytes to be sent as they are: chunks made by other means, or nonsense.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.output.extend(bytes);
    }

    /// What is to be sent; take it, or drain what could be sent.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether all that arrived was whole messages.
    pub fn is_idle(&self) -> bool {
        self.early.is_empty() && self.incoming.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(from: &mut Wire, to: &mut Wire, piece: usize) {
        let bytes = std::mem::take(from.output());
        bytes.chunks(piece).for_each(|bytes| to.feed(bytes).unwrap());
    }

    #[test]
    fn the_handshake_ends_however_its_bytes_are_split() {
        for piece in [1, 7, 1536, 10_000] {
            let (mut client, mut server) = (Wire::client(1), Wire::server(2));
            pass(&mut client, &mut server, piece);
            assert!(!server.is_established());
            pass(&mut server, &mut client, piece);
            assert!(client.is_established());
            client.send(&control::ping_request(9));
            pass(&mut client, &mut server, piece);
            assert!(server.is_established());
            assert_eq!(server.next_message(), Some(control::ping_request(9)));
            pass(&mut server, &mut client, piece);
            assert_eq!(client.next_message(), Some(control::ping_response(9)));
        }
    }

    #[test]
    fn an_answer_to_another_hello_is_an_error() {
        let mut client = Wire::client(1);
        let wrong = [handshake::hello(2), handshake::hello(3)[1..].to_vec()].concat();
        assert!(client.feed(&wrong).is_err());
    }

    #[test]
    fn each_window_of_bytes_is_acknowledged() {
        let (mut client, mut server) = (Wire::client(1), Wire::server(2));
        pass(&mut client, &mut server, 4096);
        pass(&mut server, &mut client, 4096);
        client.send(&control::window_ack_size(5000));
        pass(&mut client, &mut server, 4096);
        server.next_message();
        client.send(&Message { payload: vec![0; 5000].into(), type_id: kind::VIDEO, ..control::abort(0) });
        pass(&mut client, &mut server, 4096);
        pass(&mut server, &mut client, 4096);
        assert_eq!(client.next_message().unwrap().type_id, kind::ACKNOWLEDGEMENT);
    }
}
