//! `/etc/hosts`: names with addresses configured on this node.

use std::collections::HashMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use crate::config;

const HOSTS: &str = "/etc/hosts";

/// Bytes beyond this size are not read.
const LARGEST: u64 = 1 << 20;

/// The names of the file, lower case and without a trailing dot.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<Box<str>, Vec<IpAddr>>);

impl Hosts {
    /// The current entries of this machine; empty if the file cannot be read.
    pub(super) fn of_machine() -> Self {
        let mut text = Vec::new();
        let read =
            config::open_regular(Path::new(HOSTS)).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
        match read {
            Ok(_) => Self::parse(&String::from_utf8_lossy(&text)),
            Err(_) => Self::default(),
        }
    }

    /// hosts(5): an address and its names on each line; `#` starts a comment. Other lines are ignored.
    fn parse(text: &str) -> Self {
        let mut names: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
            for name in words {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let addresses = names.entry(name.into()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Self(names)
    }

    /// The addresses of `name`, which must be canonical.
    pub(super) fn get(&self, name: &str) -> Option<&[IpAddr]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_line_has_its_address() {
        let hosts = Hosts::parse(
            "# 10.0.0.9 not.test\n127.0.0.1 localhost\n10.0.0.1\tOne.Test. vote_api.test # two.test\n\
             fd00::1 one.test\n10.0.0.1 one.test\nnonsense one.test\n10.0.0.2\n\n",
        );
        let of =
            |name: &str| hosts.get(name).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of("one.test"), Some(vec!["10.0.0.1".into(), "fd00::1".into()]));
        assert_eq!(of("vote_api.test"), Some(vec!["10.0.0.1".into()]));
        assert_eq!((of("two.test"), of("not.test")), (None, None));
    }
}
