//! What WebRTC peers send, with the standards beside it and not with the proxy's reader: checks whose integrity is a
//! toy, media that say whose they are, and a reader of STUN to compare with.

/// STUN's magic cookie (RFC 8489 §5).
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// A message as an independent reader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stun {
    /// Its first two bytes.
    pub kind: u16,
    /// Its transaction.
    pub transaction: [u8; 12],
    /// Its first USERNAME before the integrity.
    pub username: Option<Vec<u8>>,
    /// Its integrity.
    pub integrity: Option<Vec<u8>>,
}

/// A Binding request.
pub const REQUEST: u16 = 0x0001;
/// A Binding success response.
pub const SUCCESS: u16 = 0x0101;
/// A Binding error response.
pub const ERROR: u16 = 0x0111;

/// A message with these attributes.
pub fn stun(kind: u16, transaction: [u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().div_ceil(4) * 4, 0);
    }
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), &COOKIE, &transaction, &body].concat()
}

/// What only who knows the password can write: a stand-in for HMAC-SHA1.
fn integrity(transaction: [u8; 12], password: u64) -> [u8; 20] {
    let mut tag = [0; 20];
    tag[..12].copy_from_slice(&transaction);
    tag[12..].copy_from_slice(&password.to_be_bytes());
    let key = password.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    tag.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= key[at % 8]);
    tag
}

/// A check as an ICE client sends it (RFC 8445 §7.2.2).
pub fn check(transaction: [u8; 12], name: &str, password: u64) -> Vec<u8> {
    let (priority, tag) = ([0x6e, 0, 0x1e, 0xff], integrity(transaction, password));
    stun(REQUEST, transaction, &[(0x0006, name.as_bytes()), (0x0024, &priority), (0x0008, &tag)])
}

/// An origin's success response.
pub fn success(transaction: [u8; 12]) -> Vec<u8> {
    stun(SUCCESS, transaction, &[(0x0020, &[0, 1, 0, 0, 0, 0, 0, 0])])
}

/// An origin's error response, 401.
pub fn refusal(transaction: [u8; 12]) -> Vec<u8> {
    stun(ERROR, transaction, &[(0x0009, &[0, 0, 4, 1])])
}

/// Whether a check was written by who knows the password.
pub fn is_genuine(check: &Stun, password: u64) -> bool {
    check.integrity.as_deref() == Some(&integrity(check.transaction, password))
}

/// Reads a message; `None` if it is none.
pub fn read(bytes: &[u8]) -> Option<Stun> {
    let field = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (kind, length) = (field(0)?, usize::from(field(2)?));
    let is_stun = kind < 0x4000 && bytes.get(4..8)? == COOKIE;
    if !is_stun || bytes.len() != 20 + length || !length.is_multiple_of(4) {
        return None;
    }
    let (mut username, mut integrity, mut at) = (None, None, 20);
    let mut covered = true;
    while at < bytes.len() {
        let (kind, length) = (field(at)?, usize::from(field(at + 2)?));
        let value = bytes.get(at + 4..at + 4 + length)?;
        at += 4 + length.div_ceil(4) * 4;
        if kind == 0x0006 && covered && username.is_none() {
            username = Some(value.to_vec());
        }
        covered &= kind != 0x0008 && kind != 0x001c;
        if kind == 0x0008 && integrity.is_none() {
            integrity = Some(value.to_vec());
        }
    }
    let transaction = bytes[8..20].try_into().ok()?;
    (at == bytes.len()).then_some(Stun { kind, transaction, username, integrity })
}

/// An RTP packet, as far as its first byte, that says whose it is and the how many-th.
pub fn media(session: u32, number: u32) -> Vec<u8> {
    tagged(0x80, session, number)
}

/// What says of media how they arrive: RTCP of this type (RFC 3550 §6), encrypted or not.
pub fn rtcp(kind: u8) -> Vec<u8> {
    vec![0x81, kind, 0, 1, 0, 0, 0, 7]
}

/// The same as a DTLS record.
pub fn dtls(session: u32, number: u32) -> Vec<u8> {
    tagged(22, session, number)
}

fn tagged(first: u8, session: u32, number: u32) -> Vec<u8> {
    [&[first][..], &session.to_be_bytes(), &number.to_be_bytes()].concat()
}

/// Whose a packet of [`media`] or [`dtls`] is.
pub fn owner(bytes: &[u8]) -> Option<(u32, u32)> {
    let [20..=63 | 128..=191, rest @ ..] = bytes else { return None };
    let (session, number) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*session), u32::from_be_bytes(number.try_into().ok()?)))
}
