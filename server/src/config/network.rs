//! Addresses and hosts.

use std::net::{IpAddr, Ipv4Addr};

use crate::document::Shown;
use crate::document::reader::integer;

/// Where the admin listener listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AdminAddress {
    /// The address; none stands for all interfaces, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// Longest DNS name, in bytes: RFC 1035, section 2.3.4, without the root's label.
const DNS_NAME_MAX_BYTES: usize = 253;

/// Reads an address to listen on, an IPv6 one with or without brackets.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if text == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    bare.parse().map_err(|_| format!("expected an IP address such as 127.0.0.1 or 0.0.0.0, found {}", Shown(text)))
}

/// Reads `address:port` or, for all interfaces, `:port`.
pub(super) fn admin_address(text: &str) -> Result<AdminAddress, String> {
    let parsed = text.rsplit_once(':').and_then(|(ip, port)| {
        let ip = match ip {
            "" => None,
            _ if ip.contains(':') && !ip.starts_with('[') => return None,
            _ => Some(address(ip).ok()?),
        };
        Some(AdminAddress { ip, port: integer(0..=u16::MAX)(port).ok()? })
    });
    parsed.ok_or_else(|| format!("expected address:port, such as 127.0.0.1:21363 or :21363, found {}", Shown(text)))
}

/// Reads a host name or an address: what may stand in a certificate and in a URL.
pub(super) fn hostname(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() || is_dns_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected a host name or an IP address, found {}", Shown(text)))
}

fn is_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= DNS_NAME_MAX_BYTES && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_to_listen_on() {
        assert_eq!(address("0.0.0.0").map(|ip| ip.to_string()).as_deref(), Ok("0.0.0.0"));
        assert_eq!(address("[::]"), address("::"));
        assert_eq!(address("localhost"), address("127.0.0.1"));
        assert!(address("example.com").is_err());
        assert_eq!(admin_address(":21363"), Ok(AdminAddress { ip: None, port: 21363 }));
        assert_eq!(admin_address("[::1]:0"), Ok(AdminAddress { ip: "::1".parse().ok(), port: 0 }));
        for text in ["", "21363", "127.0.0.1", "::1:21363", "a:1", "127.0.0.1:x", "[::1]"] {
            assert!(admin_address(text).is_err(), "{text}");
        }
        assert!(hostname("my_host.example.com").is_ok() && hostname("fe80::1").is_ok());
        assert!(["", "a/b", "a b", "a:1", "a\"", "é"].iter().all(|text| hostname(text).is_err()));
    }
}
