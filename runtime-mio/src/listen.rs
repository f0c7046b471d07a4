//! Binding sockets: all of them before anything is served, one per worker on each address.

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A peer that vanished without a word is noticed after this silence and three unanswered probes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Options of every TCP connection; a listener's are inherited by what it accepts.
pub(crate) fn tune(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// TCP listeners on one address, one for each worker; on `[::]` they take IPv4, too.
///
/// # Errors
/// The address can't be bound, or another process listens there.
pub fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    bind_group(address, Type::STREAM, workers, |socket| {
        tune(&SockRef::from(&socket))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    })
}

/// What the kernel shall hold of a hub's socket in each direction, in bytes, as far as `net.core.rmem_max` and `wmem_max`
/// let it: 10 ms of 2 Gbit/s, while the worker does something else.
pub const HUB_BUFFER: usize = 4 * 1024 * 1024;

/// What the kernel holds of what comes in, in bytes.
///
/// # Errors
/// It does not tell.
pub fn receive_buffer(socket: &UdpSocket) -> io::Result<usize> {
    // It doubles what is asked for, for its own overhead, and says so.
    Ok(SockRef::from(socket).recv_buffer_size()? / 2)
}

/// UDP sockets on one address, one for each worker; on `[::]` they take IPv4, too.
///
/// # Errors
/// The address can't be bound, or another process has it.
pub fn bind_udp(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    bind_group(address, Type::DGRAM, workers, |socket| {
        ask_for_buffers(&SockRef::from(&socket), HUB_BUFFER);
        Ok(socket.into())
    })
}

/// Asks for so much room in each direction; what the system gives is as much of it as it lets anybody have.
pub(crate) fn ask_for_buffers(socket: &SockRef<'_>, bytes: usize) {
    let _ = socket.set_recv_buffer_size(bytes);
    let _ = socket.set_send_buffer_size(bytes);
}

/// Lets all datagrams of one client network (an IPv4 address, or an IPv6 /64) come to the same of these sockets, whatever
/// port they come from: a client behind a NAT that changes its port stays with its worker.
///
/// # Errors
/// The kernel can't be told so; it goes on choosing by address and port.
pub fn keep_networks_together(sockets: &[UdpSocket]) -> io::Result<()> {
    let Some(first) = sockets.first().filter(|_| sockets.len() > 1) else { return Ok(()) };
    let count = u32::try_from(sockets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let step = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    // Classic BPF; it sees the payload, and the IP header below this offset.
    let header = |at: u32| 0xFFF0_0000 + at;
    let mut program = [
        step(LOAD_BYTE, 0, 0, header(0)),
        step(SHIFT_RIGHT, 0, 0, 4),
        step(JUMP_UNLESS, 0, 2, 4),
        // IPv4: the source address.
        step(LOAD_WORD, 0, 0, header(12)),
        step(JUMP, 0, 0, 4),
        // IPv6: the upper half of it.
        step(LOAD_WORD, 0, 0, header(8)),
        step(TO_X, 0, 0, 0),
        step(LOAD_WORD, 0, 0, header(12)),
        step(XOR_X, 0, 0, 0),
        // Neighbours are spread, too (Knuth's multiplicative hash).
        step(MULTIPLY, 0, 0, 0x9E37_79B1),
        step(SHIFT_RIGHT, 0, 0, 16),
        step(MODULO, 0, 0, count),
        step(RETURN, 0, 0, 0),
    ];
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    Ok(setsockopt(first, AttachReusePortCbpf, &program)?)
}

// Operations of classic BPF (`linux/bpf_common.h`).
const LOAD_BYTE: u16 = 0x30;
const LOAD_WORD: u16 = 0x20;
const TO_X: u16 = 0x07;
const XOR_X: u16 = 0xac;
const MULTIPLY: u16 = 0x24;
const SHIFT_RIGHT: u16 = 0x74;
const MODULO: u16 = 0x94;
const JUMP: u16 = 0x05;
const JUMP_UNLESS: u16 = 0x15;
const RETURN: u16 = 0x16;

fn bind_group<S>(
    mut address: SocketAddr,
    kind: Type,
    workers: usize,
    finish: impl Fn(Socket) -> io::Result<S>,
) -> io::Result<Vec<S>> {
    // Sockets with SO_REUSEPORT would quietly share the port with another proxy of the same user. One without it
    // does not; it is gone again before the group comes.
    let probe = match bind(address, kind, false) {
        // A host without IPv6.
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&error) => {
            address.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            bind(address, kind, false)?
        }
        other => other?,
    };
    if kind == Type::STREAM {
        probe.listen(1)?;
    }
    // Port 0 lets the system choose, but only once.
    if let Some(chosen) = probe.local_addr()?.as_socket() {
        address.set_port(chosen.port());
    }
    drop(probe);
    (0..workers).map(|_| finish(bind(address, kind, true)?)).collect()
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];
    absent.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn bind(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn all_ports_of_one_address_come_to_one_socket_and_addresses_are_spread() {
        let sockets = bind_udp(LOOPBACK, 4).unwrap();
        keep_networks_together(&sockets).unwrap();
        let to = sockets[0].local_addr().unwrap();
        let mut buffer = [0; 16];
        let mut used = [false; 4];
        for client in 1..=32 {
            for _ in 0..8 {
                let from = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, client), 0)).unwrap();
                from.send_to(&[client], to).unwrap();
            }
            // What is sent on loopback is there when the call returns.
            let mut got = sockets
                .iter()
                .map(|socket| std::iter::from_fn(|| socket.recv_from(&mut buffer).ok()).count());
            let at = got.position(|count| count == 8).expect("all came to one");
            used[at] = true;
        }
        assert_eq!(used, [true; 4]);
    }

    #[test]
    fn a_port_of_another_process_is_refused_even_if_it_shares() {
        let group = bind_tcp(LOOPBACK, 1).unwrap();
        let taken = group[0].local_addr().unwrap();
        assert_eq!(bind_tcp(taken, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(group);
        assert_eq!(bind_tcp(taken, 3).unwrap().len(), 3);
    }

    #[test]
    fn a_port_that_the_system_chose_is_the_same_for_all_workers() {
        let group = bind_tcp(LOOPBACK, 3).unwrap();
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port();
        assert!(group.iter().all(|socket| port(socket) == port(&group[0]) && port(socket) != 0));
    }

    #[test]
    fn a_udp_port_is_taken_once() {
        let group = bind_udp(LOOPBACK, 1).unwrap();
        let taken = group[0].local_addr().unwrap();
        assert_eq!(bind_udp(taken, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
