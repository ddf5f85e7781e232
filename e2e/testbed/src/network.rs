//! The wires: a bridge inside the hub machine, one port per machine on it, and one veth from the host into it. All of it vanishes
//! with the machines, as an interface goes with its network namespace and a veth with its peer.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::machine::{Machine, host_ip};

/// Last octets in 10.123.x.0/24.
const HUB: u8 = 1;
const HOST: u8 = 2;
const FIRST_NODE: u8 = 10;
const STORE: u8 = 250;

/// Name of the host's interface into a testbed.
pub(crate) fn uplink(subnet: u8) -> String {
    format!("lbt{subnet}")
}

/// The addresses of one testbed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    subnet: u8,
}

impl Network {
    pub(crate) const fn new(subnet: u8) -> Self {
        Self { subnet }
    }

    const fn address(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 123, self.subnet, host)
    }

    pub(crate) const fn hub(self) -> Ipv4Addr {
        self.address(HUB)
    }

    /// The host's own end: what the test's process listens on to be reached by the machines.
    pub(crate) const fn host(self) -> Ipv4Addr {
        self.address(HOST)
    }

    pub(crate) const fn store(self) -> Ipv4Addr {
        self.address(STORE)
    }

    /// Address of the n-th master, from 0.
    pub(crate) const fn node(self, ordinal: u8) -> Ipv4Addr {
        self.address(FIRST_NODE + ordinal)
    }

    /// Makes the bridge in the hub and the host's way to it.
    pub(crate) fn connect_hub(self, hub: &Machine) -> Result<()> {
        let (uplink, hub_address, host_address) = (uplink(self.subnet), self.hub(), self.host());
        host_ip(&format!(
            "link add {uplink} type veth peer name uplink netns {pid}\n\
             address add {host_address}/24 dev {uplink}\nlink set {uplink} up\n",
            pid = hub.init().pid,
        ))?;
        hub.ip(&format!(
            "link add bridge type bridge\naddress add {hub_address}/24 dev bridge\nlink set bridge up\n\
             link set uplink master bridge\nlink set uplink up\n"
        ))
    }

    /// Takes the host's interface away at once. It would vanish with the hub too, but only when the kernel gets round to it, a moment
    /// after the hub's last process.
    pub(crate) fn disconnect_hub(self) {
        // Gone already is fine.
        let _ = host_ip(&format!("link delete {}\n", uplink(self.subnet)));
    }

    /// Plugs a machine in, under a port name that the hub knows it by.
    pub(crate) fn plug(self, hub: &Machine, machine: &Machine, port: &str, address: Ipv4Addr) -> Result<()> {
        let pid = machine.init().pid;
        hub.ip(&format!(
            "link add {port} type veth peer name eth0 netns {pid}\nlink set {port} master bridge\nlink set {port} up\n"
        ))?;
        machine.ip(&format!(
            "address add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {hub}\n",
            hub = self.hub()
        ))
    }
}

/// Cuts (or mends) a machine's cable at the hub's side; it keeps its address and talks to itself on.
pub(crate) fn set_port(hub: &Machine, port: &str, up: bool) -> Result<()> {
    hub.ip(&format!("link set {port} {}\n", if up { "up" } else { "down" }))
}
