//! The numbers of destinations, by which a diverted connection's address says what was dialled.
//!
//! A destination that is not diverted any more keeps its number for an hour: connections to it may still be open, whose
//! applications ask for their peer. A number is given again as late as possible: there are two million of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use proxy_ebpf::Address;
use proxy_ebpf::pods::{MAX_NUMBER, Numbered, Shown};

use super::super::{sys, wire};

/// How long a number stays reserved after its destination is not diverted any more.
const RESERVED: Duration = Duration::from_hours(1);

/// What each number stands for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Numbers {
    prefix6: Address,
    /// Locked for a look-up per connection, and when destinations change.
    dialled: Arc<RwLock<HashMap<u32, SocketAddr>>>,
}

impl Numbers {
    /// What a connection had dialled, by its local address as getsockname() returns it, and whether its pod wants it
    /// forwarded without protocol detection. `None` if the address stands for nothing.
    pub fn dialled(&self, local: SocketAddr) -> Option<(SocketAddr, bool)> {
        let shown = Shown::of(&wire::address(local.ip()), &self.prefix6)?;
        let dialled = self.dialled.read().get(&shown.number).copied()?;
        Some((dialled, shown.opaque))
    }
}

/// The maps of the programs.
#[derive(Debug)]
pub(super) struct Maps {
    /// Destination to number.
    pub(super) numbers: OwnedFd,
    /// Number to destination.
    pub(super) dialled: OwnedFd,
}

/// The numbers that are given, and the maps with them.
#[derive(Debug)]
pub(in crate::intercept) struct Table {
    maps: Maps,
    shared: Numbers,
    live: HashMap<SocketAddr, u32>,
    reserved: HashMap<SocketAddr, (u32, Instant)>,
    /// In the order of time; some are diverted again since.
    expiring: VecDeque<(Instant, SocketAddr)>,
    /// Destinations without a number, because the table is full.
    left_out: HashSet<SocketAddr>,
    next: u32,
    /// Destinations that the maps have room for.
    room: usize,
}

impl Table {
    pub(super) fn new(maps: Maps, prefix6: Address, room: u32) -> Self {
        let shared = Numbers { prefix6, dialled: Arc::default() };
        Self {
            maps,
            shared,
            live: HashMap::new(),
            reserved: HashMap::new(),
            expiring: VecDeque::new(),
            left_out: HashSet::new(),
            next: 0,
            room: room.min(MAX_NUMBER) as usize,
        }
    }

    pub(super) fn shared(&self) -> Numbers {
        self.shared.clone()
    }

    /// How many destinations have no number, because the table is full.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// Makes `wanted` the destinations with a number.
    pub(super) fn ask(&mut self, wanted: &HashSet<SocketAddr>, now: Instant) -> io::Result<()> {
        let gone: Vec<_> = self.live.keys().filter(|it| !wanted.contains(it)).copied().collect();
        let come: Vec<_> = wanted.iter().filter(|it| !self.live.contains_key(it)).copied().collect();
        self.left_out.retain(|it| wanted.contains(it));
        self.amend(&gone, &come, now)
    }

    /// Removes and adds destinations, and gives those that were left out a number where there is room now.
    pub(super) fn amend(&mut self, gone: &[SocketAddr], come: &[SocketAddr], now: Instant) -> io::Result<()> {
        for destination in gone {
            self.left_out.remove(destination);
            self.retire(*destination, now)?;
        }
        self.forget(now)?;
        let waiting: Vec<_> = self.left_out.drain().collect();
        let mut result = Ok(());
        for destination in waiting.into_iter().chain(come.iter().copied()) {
            // After a failure, the rest waits.
            let given = if result.is_ok() { self.give(destination) } else { Ok(false) };
            if !matches!(given, Ok(true)) {
                self.left_out.insert(destination);
            }
            result = result.and(given.map(drop));
        }
        result
    }

    /// Forgets destinations whose numbers are not reserved any more.
    pub(super) fn forget(&mut self, now: Instant) -> io::Result<()> {
        while let Some((since, destination)) = self.expiring.front().copied() {
            if now.saturating_duration_since(since) < RESERVED {
                break;
            }
            if let Some((number, of)) = self.reserved.get(&destination).copied()
                && of == since
            {
                sys::remove(self.maps.dialled.as_fd(), &u64::from(number))?;
                self.reserved.remove(&destination);
                self.shared.dialled.write().remove(&number);
            }
            self.expiring.pop_front();
        }
        Ok(())
    }

    fn retire(&mut self, destination: SocketAddr, now: Instant) -> io::Result<()> {
        let Some(number) = self.live.get(&destination).copied() else { return Ok(()) };
        sys::remove(self.maps.numbers.as_fd(), &key(destination))?;
        self.live.remove(&destination);
        self.reserved.insert(destination, (number, now));
        self.expiring.push_back((now, destination));
        Ok(())
    }

    /// Gives a destination a number: the one it had, or a new one. Returns whether there is room for it.
    fn give(&mut self, destination: SocketAddr) -> io::Result<bool> {
        if self.live.contains_key(&destination) {
            return Ok(true);
        }
        let number = match self.reserved.get(&destination) {
            Some((number, _)) => *number,
            None if self.live.len() + self.reserved.len() >= self.room => return Ok(false),
            None => {
                let number = self.unused();
                sys::set(self.maps.dialled.as_fd(), &u64::from(number), &numbered(destination))?;
                self.shared.dialled.write().insert(number, destination);
                // Whatever fails from here on, the number is not lost.
                self.reserved.insert(destination, (number, Instant::now()));
                number
            }
        };
        // Last: from here on it is diverted.
        sys::set(self.maps.numbers.as_fd(), &key(destination), &u64::from(number))?;
        self.reserved.remove(&destination);
        self.live.insert(destination, number);
        Ok(true)
    }

    /// The next number that stands for nothing. There is one: the room is smaller than the number of numbers.
    fn unused(&mut self) -> u32 {
        let dialled = self.shared.dialled.read();
        loop {
            self.next = self.next % MAX_NUMBER + 1;
            if !dialled.contains_key(&self.next) {
                return self.next;
            }
        }
    }
}

fn numbered(destination: SocketAddr) -> Numbered {
    Numbered { address: wire::address(destination.ip()), port: destination.port().to_be(), unused: [0; 3] }
}

/// The key of `NUMBERS`: the address, and the port as the kernel has it, in a word of eight bytes.
fn key(destination: SocketAddr) -> [u64; 3] {
    let [a, b, c, d] = wire::address(destination.ip()).words.map(u64::from);
    [a | b << 32, c | d << 32, u64::from(destination.port().to_be())]
}
