//! Services without an endpoint: the programs refuse connections to them, as the node would without weir.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use aya::maps::{HashMap, MapData};

use super::error::InterceptError;
use super::wire;

/// The programs' table, and its contents.
#[derive(Debug)]
pub(super) struct Table {
    map: HashMap<MapData, [u64; 3], u8>,
    current: BTreeSet<SocketAddr>,
    room: usize,
}

impl Table {
    pub(super) fn new(map: HashMap<MapData, [u64; 3], u8>, room: u32) -> Self {
        Self { map, current: BTreeSet::new(), room: room as usize }
    }

    /// Makes the table hold `wanted`, as far as there is room. What is left out is diverted, and reset there.
    pub(super) fn set(&mut self, wanted: &BTreeSet<SocketAddr>) -> Result<(), InterceptError> {
        let stale: Vec<_> = self.current.difference(wanted).copied().collect();
        self.amend(&stale, wanted.iter().copied())
    }

    /// Removes `gone` and adds `come`.
    pub(super) fn amend(
        &mut self,
        gone: &[SocketAddr],
        come: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), InterceptError> {
        for address in gone.iter().filter(|it| self.current.contains(it)).copied().collect::<Vec<_>>() {
            self.map.remove(&key(address)).map_err(InterceptError::map("REFUSED"))?;
            self.current.remove(&address);
        }
        for address in come {
            if self.current.len() < self.room && !self.current.contains(&address) {
                self.map.insert(key(address), 1, 0).map_err(InterceptError::map("REFUSED"))?;
                self.current.insert(address);
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }
}

fn key(at: SocketAddr) -> [u64; 3] {
    wire::address(at.ip()).with_port(at.port().to_be())
}
