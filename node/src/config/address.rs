//! Addresses as operators write them: a number, a host's name, or `auto`, which is the address of
//! this host's own name.
//!
//! They are collected from file, environment and flags first and looked up afterwards: what is
//! overridden need not exist.

use super::{Config, ConfigError};
use std::net::{IpAddr, Ipv4Addr};

/// The addresses of a host by its name; the error is a sentence's end.
pub type LookUp<'l> = &'l dyn Fn(&str) -> Result<Vec<IpAddr>, String>;

/// One address, not yet looked up.
#[derive(Clone, Debug)]
struct Setting {
    /// The key, flag or variable that it comes from.
    key: String,
    text: String,
}

/// The addresses of a node; what stands in here later wins.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    address: Option<Setting>,
    broadcast_rpc_address: Option<Setting>,
    listen_address: Option<Setting>,
    broadcast_address: Option<Setting>,
}

/// Which of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Where the node listens for clients.
    Rpc,
    /// Where clients are told to connect.
    BroadcastRpc,
    /// Where the node listens for other nodes.
    Listen,
    /// Where other nodes are told to connect.
    Broadcast,
}

impl Addresses {
    /// Takes an address in place of what was set before.
    pub(super) fn set(&mut self, role: Role, key: &str, text: &str) {
        let setting = Setting { key: key.to_owned(), text: text.to_owned() };
        *match role {
            Role::Rpc => &mut self.address,
            Role::BroadcastRpc => &mut self.broadcast_rpc_address,
            Role::Listen => &mut self.listen_address,
            Role::Broadcast => &mut self.broadcast_address,
        } = Some(setting);
    }

    /// Looks all of them up; `host_name` is this host's. Who listens for clients on all interfaces
    /// and is not told where they reach it tells them where other nodes do.
    pub(super) fn settle(
        &self,
        config: &mut Config,
        host_name: &str,
        look_up: LookUp,
    ) -> Result<(), ConfigError> {
        let find = |setting: &Option<Setting>| {
            let found = setting.as_ref().map(|setting| setting.find(host_name, look_up));
            found.transpose()
        };
        if let Some(address) = find(&self.address)? {
            config.address = address;
        }
        config.broadcast_rpc_address = find(&self.broadcast_rpc_address)?;
        config.listen_address = find(&self.listen_address)?;
        config.broadcast_address = find(&self.broadcast_address)?;
        if config.address.is_unspecified() && config.broadcast_rpc_address.is_none() {
            let listen_address = Some(config.listen_address());
            let others = config.broadcast_address.or(listen_address);
            config.broadcast_rpc_address = others.filter(|address| !address.is_unspecified());
        }
        Ok(())
    }
}

impl Setting {
    fn find(&self, host_name: &str, look_up: LookUp) -> Result<IpAddr, ConfigError> {
        let Setting { key, text } = self;
        let name = if text == "auto" { host_name } else { text.as_str() };
        if let Ok(address) = name.parse() {
            return Ok(address);
        }
        // What cassandra.yaml comes with, also where no name can be looked up.
        if name == "localhost" {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        let error = |why: &str| ConfigError(format!("{key}: `{name}` is no address: {why}"));
        let addresses = look_up(name).map_err(|why| error(&why))?;
        best(&addresses).ok_or_else(|| error("the name has none"))
    }
}

/// Of a host's addresses the one for others: not loopback, and of the old family, if there is one.
fn best(addresses: &[IpAddr]) -> Option<IpAddr> {
    let rank = |address: &&IpAddr| (address.is_loopback(), address.is_ipv6());
    addresses.iter().min_by_key(rank).copied()
}
