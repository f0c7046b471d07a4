//! SRT packets written by hand, for what no real caller sends (draft-sharabayko-srt-01 §3.2.1, §4.3).

use super::{PATIENCE, wait_for};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

const HEADER: usize = 16;

/// The length of a handshake without extensions, header included.
pub const HANDSHAKE: usize = HEADER + 48;

const HANDSHAKE_TYPE: u32 = 0x8000_0000;
const SHUTDOWN_TYPE: u32 = 0x8005_0000;
/// The kind of a first handshake.
pub const INDUCTION: u32 = 1;
/// The kind of a second one.
pub const CONCLUSION: u32 = 0xFFFF_FFFF;
/// What a listener has as extension in its answer to an induction.
const MAGIC: u32 = 0x4A17;
const EXTENSION_HSREQ: u16 = 1;
const EXTENSION_SID: u16 = 5;
/// That a handshake has HSREQ and configuration extensions.
const FLAGS: u32 = 5;
/// Version 1.5.1, the usual flags, 120 ms each way.
const HSREQ: [u32; 3] = [0x0001_0501, 0xBF, 120 << 16 | 120];

/// After this time callers ask again.
const RETRY: Duration = Duration::from_millis(250);

/// A handshake's fields that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// Whom it is for.
    pub to: u32,
    /// 4 or 5.
    pub version: u32,
    /// The extension field.
    pub extension: u32,
    /// Induction, conclusion, or from 1000 on a rejection.
    pub kind: u32,
    /// The sender's socket id.
    pub socket: u32,
    /// The SYN cookie.
    pub cookie: u32,
    /// The receiver's address, as the sender sees it; its words as the reference library writes them.
    pub peer: [u32; 4],
}

/// The field of the peer's address of a caller that knows only that it is on loopback.
const LOOPBACK: [u32; 4] = [0x0100_007F, 0, 0, 0];

/// The first packet of a caller.
pub fn induction(socket: u32) -> Vec<u8> {
    handshake(Handshake {
        to: 0,
        version: 4,
        extension: 2,
        kind: INDUCTION,
        socket,
        cookie: 0,
        peer: LOOPBACK,
    })
}

/// The second packet of a caller.
pub fn conclusion(socket: u32, cookie: u32, stream_id: &str) -> Vec<u8> {
    let fields =
        Handshake { to: 0, version: 5, extension: FLAGS, kind: CONCLUSION, socket, cookie, peer: LOOPBACK };
    let mut packet = handshake(fields);
    extension(&mut packet, EXTENSION_HSREQ, &HSREQ);
    let words: Vec<u32> = stream_id
        .as_bytes()
        .chunks(4)
        .map(|chunk| {
            // Four bytes each, the last one filled up, in the byte order the reference library has made of it.
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        })
        .collect();
    extension(&mut packet, EXTENSION_SID, &words);
    packet
}

/// What a listener with this socket id and cookie answers to a caller's handshake.
pub fn answer(asked: &Handshake, socket: u32, cookie: u32) -> Vec<u8> {
    let extension = if asked.kind == INDUCTION { MAGIC } else { 0 };
    handshake(Handshake {
        to: asked.socket,
        version: 5,
        extension,
        kind: asked.kind,
        socket,
        cookie,
        peer: LOOPBACK,
    })
}

/// A data packet for a socket id.
pub fn data(to: u32, sequence: u32, payload: &[u8]) -> Vec<u8> {
    [&words(&[sequence, 0xC000_0000 | sequence, 0, to])[..], payload].concat()
}

/// The goodbye to a socket id.
pub fn shutdown(to: u32) -> Vec<u8> {
    words(&[SHUTDOWN_TYPE, 0, 0, to, 0])
}

/// The fields of a handshake, if it is one.
pub fn read(packet: &[u8]) -> Option<Handshake> {
    let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
    (word(0)? == HANDSHAKE_TYPE && packet.len() >= HANDSHAKE).then_some(())?;
    Some(Handshake {
        to: word(12)?,
        version: word(16)?,
        extension: word(20)?,
        kind: word(36)?,
        socket: word(40)?,
        cookie: word(44)?,
        peer: [word(48)?, word(52)?, word(56)?, word(60)?],
    })
}

/// Asks for a cookie as a caller does that is called `socket`: again and again, since a datagram may be lost in a flood.
#[track_caller]
pub fn ask_cookie(caller: &UdpSocket, socket: u32) -> Handshake {
    wait_for("an answer to an induction", PATIENCE, || {
        caller.send(&induction(socket)).expect("it is sent");
        next(caller, RETRY).filter(|answer| answer.kind == INDUCTION)
    })
}

/// The next handshake that is no answer to an induction.
#[track_caller]
pub fn receive(caller: &UdpSocket) -> Handshake {
    wait_for("a handshake", PATIENCE, || next(caller, RETRY).filter(|answer| answer.kind != INDUCTION))
}

/// The next packet, if it comes in time and is a handshake.
fn next(caller: &UdpSocket, within: Duration) -> Option<Handshake> {
    let mut buffer = [0; 2048];
    caller.set_read_timeout(Some(within)).expect("a timeout");
    caller.recv(&mut buffer).ok().and_then(|count| read(&buffer[..count]))
}

/// A caller's UDP socket.
#[track_caller]
pub fn socket(to: SocketAddr) -> UdpSocket {
    socket_of(Ipv4Addr::LOCALHOST.into(), to)
}

/// A caller's UDP socket at an address of this machine.
#[track_caller]
pub fn socket_of(own: IpAddr, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((own, 0)).expect("a free port");
    socket.connect(to).expect("a server on loopback");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

fn handshake(fields: Handshake) -> Vec<u8> {
    let Handshake { to, version, extension, kind, socket, cookie, peer } = fields;
    let header = [HANDSHAKE_TYPE, 0, 0, to];
    // The first sequence number, the largest packet, the flow window.
    let sizes = [0x1234_5678, 1500, 8192];
    words(&[&header[..], &[version, extension], &sizes, &[kind, socket, cookie], &peer].concat())
}

fn extension(packet: &mut Vec<u8>, kind: u16, content: &[u32]) {
    let length = u16::try_from(content.len()).expect("a short extension");
    packet.extend(words(&[u32::from(kind) << 16 | u32::from(length)]));
    packet.extend(words(content));
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
