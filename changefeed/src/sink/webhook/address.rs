//! Which addresses a webhook may reach: a server must not be made to call into its own network.
//!
//! A feed's URL is chosen by whoever may create feeds, and the request is sent by the server, from
//! where the server stands. So by default only public addresses are reached, and only by TLS.
//! What is judged is the address itself, after the name was resolved, and the connection is made
//! to the very address that was judged: a name whose address changes in between gains nothing.
//!
//! Addresses that carry another one (IPv4-mapped, NAT64, 6to4) are judged by the one they carry.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the server's configuration lets webhooks reach beyond public addresses over TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Whether `http://`, without TLS, may be used.
    pub allow_http: bool,
    /// Whether loopback, link-local, private and otherwise local addresses may be reached.
    pub allow_private: bool,
}

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Anybody's, on the internet.
    Public,
    /// This host's or its network's.
    Local(&'static str),
    /// Nobody's: no request can mean it.
    Nowhere(&'static str),
}

impl AddressPolicy {
    /// Refuses an address with the reason, or lets it pass.
    pub fn judge(self, address: IpAddr) -> Result<(), &'static str> {
        match reach(address) {
            Reach::Public => Ok(()),
            Reach::Local(_) if self.allow_private => Ok(()),
            Reach::Local(kind) | Reach::Nowhere(kind) => Err(kind),
        }
    }
}

/// Classifies an address.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_of_v4(address),
        IpAddr::V6(address) => reach_of_v6(address),
    }
}

/// After the IANA registry of special-purpose addresses.
fn reach_of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [0, ..] => Reach::Nowhere("an unspecified address"),
        [127, ..] => Reach::Local("a loopback address"),
        [169, 254, ..] => Reach::Local("a link-local address"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] => Reach::Local("a private address"),
        [100, 64..=127, ..] => Reach::Local("a shared address of a provider"),
        [192, 0, 0, _] | [198, 18..=19, ..] => Reach::Local("an address for special use"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Reach::Nowhere("an address of documentation")
        }
        [224..=239, ..] => Reach::Nowhere("a multicast address"),
        [240..=255, ..] => Reach::Nowhere("a reserved address"),
        _ => Reach::Public,
    }
}

fn reach_of_v6(address: Ipv6Addr) -> Reach {
    if let Some(carried) = carried_v4(address) {
        return reach_of_v4(carried);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Nowhere("an unspecified address"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Local("a loopback address"),
        [0xfe80..=0xfebf, ..] => Reach::Local("a link-local address"),
        [0xfec0..=0xfeff, ..] => Reach::Local("a site-local address"),
        [0xfc00..=0xfdff, ..] => Reach::Local("a private address"),
        [0x64, 0xff9b, 1, ..] => Reach::Local("an address of a local translator"),
        [0x100, 0, 0, 0, ..] => Reach::Nowhere("a discarding address"),
        [0x2001, 0..=0x1ff, ..] => Reach::Local("an address for special use"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            Reach::Nowhere("an address of documentation")
        }
        [0xff00..=0xffff, ..] => Reach::Nowhere("a multicast address"),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Nowhere("a reserved address"),
    }
}

/// The IPv4 address that a packet to this IPv6 address may end at.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        // Unspecified and loopback lie among the IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(of(high, low)),
        // Translation: ::ffff:0:a.b.c.d, and 64:ff9b::a.b.c.d.
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(of(high, low))
        }
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressPolicy, Reach, reach};

    fn kind(address: &str) -> &'static str {
        match reach(address.parse().expect("an address")) {
            Reach::Public => "public",
            Reach::Local(kind) | Reach::Nowhere(kind) => kind,
        }
    }

    #[test]
    fn addresses_are_told_apart() {
        for (expected, addresses) in [
            ("public", "1.1.1.1 172.15.0.1 172.32.0.1 100.128.0.1 192.169.0.1 2606:4700::1111"),
            ("public", "::ffff:1.1.1.1 64:ff9b::808:808 2002:808:808::1 2400::1"),
            ("a loopback address", "127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::127.0.0.1"),
            ("a loopback address", "64:ff9b::7f00:1 2002:7f00:1:: ::ffff:0:127.0.0.1"),
            ("an unspecified address", "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0"),
            ("a link-local address", "169.254.169.254 fe80::1 febf::1 ::ffff:169.254.169.254"),
            ("a private address", "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 fc00::1 fd00::1"),
            ("a private address", "::ffff:192.168.0.1 64:ff9b::a00:1"),
            ("a site-local address", "fec0::1"),
            ("a shared address of a provider", "100.64.0.1 100.127.255.255"),
            ("an address for special use", "192.0.0.8 198.18.0.1 198.19.9.9 2001::1"),
            ("an address of documentation", "192.0.2.1 198.51.100.7 203.0.113.9 2001:db8::1"),
            ("a multicast address", "224.0.0.1 239.1.1.1 ff02::1"),
            ("a reserved address", "240.0.0.1 255.255.255.255 4000::1"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(kind(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn a_configuration_may_open_the_own_network_but_not_nowhere() {
        let judge = |allow_private, address: &str| {
            let policy = AddressPolicy { allow_http: false, allow_private };
            policy.judge(address.parse().expect("an address"))
        };
        assert_eq!(judge(false, "10.1.2.3"), Err("a private address"));
        assert_eq!(judge(true, "10.1.2.3"), Ok(()));
        assert_eq!(judge(true, "::ffff:127.0.0.1"), Ok(()));
        assert_eq!(judge(true, "0.0.0.0"), Err("an unspecified address"));
        assert_eq!(judge(true, "224.0.0.1"), Err("a multicast address"));
    }
}
