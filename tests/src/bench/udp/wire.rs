//! What the flows send: a STUN binding request and its answer, then datagrams shaped like RTP that prove their own
//! arrival. No I/O.
//!
//! ```text
//! | RTP: 0x80, type 96, sequence u16, timestamp u32, SSRC = flow u32 | sequence u64 | sent at, ns u64 | check u64 |
//! | body: known bytes that depend on the sequence |
//! ```

use std::net::{IpAddr, SocketAddr};

/// Bytes before the body.
pub const HEAD: usize = 36;

/// So many different bodies follow each other.
const VARIANTS: u64 = 16;
/// Bytes by which one body is ahead of the other in the table; odd, so that no two align.
const STEP: u64 = 61;

const COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// The ICE user names of a flow: the origin's, the client's.
pub fn ufrags(flow: u32) -> (String, String) {
    (format!("s{flow:07}"), format!("c{flow:07}"))
}

/// A binding request (RFC 8489) of a flow: its number is in the USERNAME and in the transaction id.
pub fn binding_request(flow: u32) -> Vec<u8> {
    let (server, client) = ufrags(flow);
    let mut value = format!("{server}:{client}").into_bytes();
    let length = value.len();
    value.resize(length.next_multiple_of(4), 0);
    stun(BINDING_REQUEST, flow, &[USERNAME.to_be_bytes(), (length as u16).to_be_bytes()].concat(), &value)
}

/// The flow of a binding request.
pub fn requested(datagram: &[u8]) -> Option<u32> {
    if !is_stun(datagram, BINDING_REQUEST) {
        return None;
    }
    let name = datagram.get(24..)?;
    std::str::from_utf8(name.get(1..8)?).ok()?.parse().ok()
}

/// The answer to a binding request: its transaction id, and the address it came from.
pub fn binding_success(flow: u32, from: SocketAddr) -> Vec<u8> {
    let port = from.port() ^ (COOKIE >> 16) as u16;
    let mut value = vec![0, if from.is_ipv4() { 1 } else { 2 }];
    value.extend(port.to_be_bytes());
    let mask = [&COOKIE.to_be_bytes()[..], &transaction(flow)].concat();
    let octets = match from.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    value.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    let head = [XOR_MAPPED_ADDRESS.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
    stun(BINDING_SUCCESS, flow, &head, &value)
}

/// Whether this answers the flow's binding request.
pub fn is_answer(datagram: &[u8], flow: u32) -> bool {
    is_stun(datagram, BINDING_SUCCESS) && datagram.get(8..20) == Some(&transaction(flow)[..])
}

fn is_stun(datagram: &[u8], kind: u16) -> bool {
    datagram.starts_with(&kind.to_be_bytes()) && datagram.get(4..8) == Some(&COOKIE.to_be_bytes()[..])
}

fn transaction(flow: u32) -> [u8; 12] {
    let mut id = *b"transact0000";
    id[8..].copy_from_slice(&flow.to_be_bytes());
    id
}

fn stun(kind: u16, flow: u32, head: &[u8], value: &[u8]) -> Vec<u8> {
    let length = (head.len() + value.len()) as u16;
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), &COOKIE.to_be_bytes(), &transaction(flow), head, value]
        .concat()
}

/// Datagrams of one size.
#[derive(Clone, Debug)]
pub struct Media {
    table: Vec<u8>,
    size: usize,
}

impl Media {
    /// Datagrams of `size` bytes.
    pub fn new(size: usize) -> Self {
        assert!(size >= HEAD);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let table = std::iter::repeat_with(|| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 56) as u8
        });
        Self { table: table.take(size + (VARIANTS * STEP) as usize).collect(), size }
    }

    fn body(&self, sequence: u64) -> &[u8] {
        let from = (sequence % VARIANTS * STEP) as usize;
        &self.table[from..from + self.size - HEAD]
    }

    /// Adds a flow's datagram number `sequence` to `out`.
    pub fn write(&self, flow: u32, sequence: u64, now: u64, out: &mut Vec<u8>) {
        out.extend([0x80, 96]);
        out.extend((sequence as u16).to_be_bytes());
        out.extend((sequence as u32).wrapping_mul(3000).to_be_bytes());
        out.extend(flow.to_be_bytes());
        for word in [sequence, now, check(flow, sequence, now)] {
            out.extend(word.to_le_bytes());
        }
        out.extend_from_slice(self.body(sequence));
    }

    /// The datagram's sequence and when it was sent, if it is whole and of this flow.
    pub fn read(&self, flow: u32, datagram: &[u8]) -> Option<(u64, u64)> {
        let word = |at: usize| datagram.get(at..at + 8)?.first_chunk().map(|word| u64::from_le_bytes(*word));
        let (sequence, sent) = (word(12)?, word(20)?);
        let whole = flow_of(datagram) == Some(flow)
            && word(28) == Some(check(flow, sequence, sent))
            && datagram[HEAD..] == *self.body(sequence);
        whole.then_some((sequence, sent))
    }
}

/// The flow a media datagram says it is of.
pub fn flow_of(datagram: &[u8]) -> Option<u32> {
    let ssrc = datagram.get(8..12).filter(|_| datagram.starts_with(&[0x80]))?;
    ssrc.first_chunk().map(|ssrc| u32::from_be_bytes(*ssrc))
}

fn check(flow: u32, sequence: u64, sent: u64) -> u64 {
    [u64::from(flow), sequence, sent].iter().fold(0x2545_F491_4F6C_DD1D_u64, |sum, word| {
        (sum.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_seen() {
        let media = Media::new(1200);
        let mut datagram = Vec::new();
        media.write(7, 70_000, 5, &mut datagram);
        assert_eq!(datagram.len(), 1200);
        assert_eq!(media.read(7, &datagram), Some((70_000, 5)));
        assert_eq!(media.read(8, &datagram), None);
        for place in [8, 13, 21, 30, 36, 1199] {
            let mut damaged = datagram.clone();
            damaged[place] ^= 1;
            assert_eq!(media.read(7, &damaged), None);
        }
    }

    #[test]
    fn a_binding_request_names_its_flow_and_its_answer_the_request() {
        let request = binding_request(123);
        assert_eq!(requested(&request), Some(123));
        assert_eq!(request.len() % 4, 0);
        let answer = binding_success(123, "127.0.0.1:5000".parse().unwrap());
        assert_eq!(answer.len(), 32);
        assert!(is_answer(&answer, 123) && !is_answer(&answer, 124) && !is_answer(&request, 123));
    }
}
