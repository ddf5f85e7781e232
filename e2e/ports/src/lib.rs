//! Ports on loopback for servers that take a number and cannot be asked which one they got (etcd, versitygw).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests alone call this, and without a port there is no test"
)]

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where the ports come from: below 32768, where Linux begins to give ports to outgoing connections
/// (`net.ipv4.ip_local_port_range`). A port asked of the system by binding to 0 is one of those, and a connection of
/// another test may have it before the server starts.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A TCP port of 127.0.0.1 on which nobody listens; each is given out once by a process, and processes begin at
/// different places.
///
/// # Panics
/// When all of them are taken.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(u64::from(std::process::id()) * 101 % u64::from(COUNT)).expect("below COUNT");
    (0..COUNT)
        .map(|_| FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a port of 127.0.0.1 that nobody listens on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_or_where_somebody_listens() {
        let first = free_port();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 1)).unwrap();
        let others: Vec<u16> = (0..100).map(|_| free_port()).collect();
        assert!(!others.contains(&first) && !others.contains(&(first + 1)));
        assert!(others.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)));
    }
}
