//! SRT packets as peers write and read them, independent of the code under test.

/// The handshake types of the first two phases.
pub const INDUCTION: u32 = 1;
/// See above.
pub const CONCLUSION: u32 = 0xffff_ffff;

/// A handshake, as far as peers look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// Whose socket it is for.
    pub to: u32,
    /// The sender's clock.
    pub timestamp: u32,
    /// 4 or 5.
    pub version: u32,
    /// The cipher's key length.
    pub encryption: u16,
    /// Flags of the extensions, or the magic number.
    pub field: u16,
    /// First sequence number, MTU, flow window.
    pub terms: [u32; 3],
    /// Phase or refusal.
    pub kind: u32,
    /// The sender's socket.
    pub from: u32,
    /// The cookie.
    pub cookie: u32,
    /// The address, as it is on the wire.
    pub peer: [u8; 16],
    /// Extensions, whole.
    pub extensions: Vec<u8>,
}

impl Handshake {
    /// A caller's first words. Its first sequence number is that of its id; see [`begun_with`](Self::begun_with).
    pub fn induction(from: u32) -> Self {
        Self {
            to: 0,
            timestamp: 100,
            version: 4,
            encryption: 0,
            field: 2,
            terms: [from & 0x7fff_ffff, 1500, 8192],
            kind: INDUCTION,
            from,
            cookie: 0,
            peer: [0; 16],
            extensions: Vec::new(),
        }
    }

    /// A caller's second, with what a stream id is.
    pub fn conclusion(from: u32, cookie: u32, stream_id: &[u8]) -> Self {
        let mut extensions = vec![0, 1, 0, 3, 0, 1, 5, 1, 0, 0, 0, 0xbf, 0, 120, 0, 120];
        let words = stream_id.len().div_ceil(4);
        extensions.extend([0, 5, 0, words as u8]);
        for chunk in stream_id.chunks(4) {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            word.reverse();
            extensions.extend(word);
        }
        Self { version: 5, field: 5, kind: CONCLUSION, cookie, extensions, ..Self::induction(from) }
    }

    /// The same of a socket whose first packet has this number.
    #[must_use]
    pub fn begun_with(mut self, sequence: u32) -> Self {
        self.terms[0] = sequence;
        self
    }

    /// A listener's answer to an induction.
    pub fn welcome(&self, cookie: u32) -> Self {
        Self { to: self.from, version: 5, field: 0x4a17, cookie, ..self.clone() }
    }

    /// A listener's answer to a conclusion.
    pub fn accepted(&self, socket: u32) -> Self {
        let extensions = vec![0, 2, 0, 3, 0, 1, 5, 3, 0, 0, 0, 0xb5, 0, 0, 0, 120];
        Self { to: self.from, from: socket, field: 1, extensions, ..self.clone() }
    }

    /// Its other answer.
    pub fn refused(&self, kind: u32) -> Self {
        Self { to: self.from, kind, extensions: Vec::new(), ..self.clone() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.to.to_be_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(self.encryption.to_be_bytes());
        bytes.extend(self.field.to_be_bytes());
        let [sequence, mtu, window] = self.terms;
        for word in [sequence, mtu, window, self.kind, self.from, self.cookie] {
            bytes.extend(u32::to_be_bytes(word));
        }
        bytes.extend(self.peer);
        bytes.extend(&self.extensions);
        bytes
    }

    /// Reads one; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 64 || bytes[..2] != [0x80, 0] {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        Some(Self {
            to: word(12),
            timestamp: word(8),
            version: word(16),
            encryption: (word(20) >> 16) as u16,
            field: word(20) as u16,
            terms: [word(24), word(28), word(32)],
            kind: word(36),
            from: word(40),
            cookie: word(44),
            peer: bytes[48..64].try_into().expect("16 bytes"),
            extensions: bytes[64..].to_vec(),
        })
    }
}

/// The field of an IPv4 address.
pub fn peer(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
    [d, c, b, a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A data packet with a word of payload.
pub fn data(to: u32, sequence: u32, payload: u32) -> Vec<u8> {
    media(to, sequence, &payload.to_be_bytes())
}

/// A data packet: a whole message, with the number of its packet.
pub fn media(to: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let sequence = sequence & 0x7fff_ffff;
    let header = [sequence, 0xc000_0000 | sequence, 0, to];
    [&header.map(u32::to_be_bytes).concat()[..], payload].concat()
}

/// A keep-alive.
pub fn keep_alive(to: u32) -> Vec<u8> {
    control(0x8001_0000, to)
}

/// The end.
pub fn shutdown(to: u32) -> Vec<u8> {
    control(0x8005_0000, to)
}

fn control(first: u32, to: u32) -> Vec<u8> {
    [first, 0, 0, to, 0].map(u32::to_be_bytes).concat()
}

/// What a packet that is no handshake says: its first word, whom it is for, and the payload's first word.
pub fn read(bytes: &[u8]) -> Option<(u32, u32, u32)> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, word(12)?, word(16)?))
}
