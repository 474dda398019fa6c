//! Which addresses a plugin may talk to, whatever way they are spelt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that lead back to this machine or to what only this machine should reach: its own services, its neighbours'
/// configuration, the cloud's metadata with the node's credentials. Only a literal entry in a grant opens one.
pub(crate) fn is_guarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_guarded_v4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => is_guarded_v4(v4),
            None => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    // fd00:ec2::254 and its like: metadata of clouds in the unique local range.
                    || v6.segments()[..2] == [0xfd00, 0x0ec2]
            }
        },
    }
}

fn is_guarded_v4(v4: Ipv4Addr) -> bool {
    v4.is_loopback()
        || v4.is_unspecified()
        || v4.is_broadcast()
        || v4.is_multicast()
        || v4.is_link_local()
        || v4.octets()[0] == 0
        // Metadata outside of the link-local range: Alibaba, Oracle.
        || v4 == Ipv4Addr::new(100, 100, 100, 200)
        || v4 == Ipv4Addr::new(192, 0, 0, 192)
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 one.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn guarded_in_every_spelling() {
        for text in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "169.254.169.254",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "ff02::1",
            "224.0.0.1",
            "fd00:ec2::254",
            "100.100.100.200",
            "255.255.255.255",
        ] {
            assert!(is_guarded(text.parse().unwrap()), "{text}");
        }
        for text in [
            "10.0.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "fd12::1",
        ] {
            assert!(!is_guarded(text.parse().unwrap()), "{text}");
        }
    }
}
