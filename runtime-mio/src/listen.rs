//! Binding sockets: all of them before anything is served, one per worker on each address.

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

/// UDP sockets on one address, one for each worker; on `[::]` they take IPv4, too.
///
/// # Errors
/// The address can't be bound, or another process has it.
pub fn bind_udp(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    bind_group(address, Type::DGRAM, workers, |socket| Ok(socket.into()))
}

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
