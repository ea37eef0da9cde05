//! Legacy spellings of an IPv4 address.
//!
//! The C library's `inet_aton` reads `2130706433`, `0x7f.1` and `0177.0.0.1` as 127.0.0.1, and so do many clients and
//! resolvers. weir reads them too, so that a refused address is refused in every spelling.

use std::net::Ipv4Addr;

/// The address that `inet_aton` would read from `host`: one to four numbers, decimal, octal (`0…`) or hexadecimal
/// (`0x…`); the last one fills all remaining bytes.
pub fn legacy_ipv4(host: &str) -> Option<Ipv4Addr> {
    let mut numbers = [0_u64; 4];
    let mut count = 0;
    for part in host.split('.') {
        *numbers.get_mut(count)? = number(part)?;
        count += 1;
    }
    let (last, leading) = numbers[..count].split_last()?;
    let mut address = 0_u64;
    for &byte in leading {
        address = (address << 8) | Some(byte).filter(|&byte| byte <= 0xff)?;
    }
    let room = 8 * (4 - leading.len() as u32);
    let last = Some(*last).filter(|&last| last < 1 << room)?;
    u32::try_from((address << room) | last).ok().map(Ipv4Addr::from)
}

fn number(part: &str) -> Option<u64> {
    let digits = part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if part.is_empty() || part.len() > 16 || !digits {
        return None;
    }
    match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some("") => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if part.len() > 1 && part.starts_with('0') => u64::from_str_radix(part, 8).ok(),
        None => part.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_old_spelling_of_loopback_is_read() {
        for host in
            ["2130706433", "0x7f000001", "017700000001", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.0x1"]
        {
            assert_eq!(legacy_ipv4(host), Some(Ipv4Addr::LOCALHOST), "{host}");
        }
    }

    #[test]
    fn names_are_not_addresses() {
        for host in [
            "",
            ".",
            "hello",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3.256",
            "4294967296",
            "08.1.1.1",
            "1..2",
            "+1",
            "example.com",
        ] {
            assert_eq!(legacy_ipv4(host), None, "{host}");
        }
    }
}
