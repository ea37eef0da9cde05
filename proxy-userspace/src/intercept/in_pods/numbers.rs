//! The numbers of destinations, by which a diverted connection's address says what was dialled.
//!
//! A destination that is not diverted any more keeps its number for an hour: connections to it may still be open, whose
//! applications ask for their peer.
//!
//! A number is made from its destination, so that it is the same after a restart: a SYN from before, which the kernel sends
//! again, still reaches what was dialled. Only where two destinations would have the same (there are two million numbers),
//! the later one has another.

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
        let mut waiting: Vec<_> = self.left_out.drain().collect();
        let mut come = come.to_vec();
        // In the same order every time, for those that would have the same number.
        waiting.sort_unstable();
        come.sort_unstable();
        let mut result = Ok(());
        for destination in waiting.into_iter().chain(come) {
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
                let number = unused(destination, &self.shared.dialled.read());
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
}

/// How many numbers are tried that are made from the destination, before the ones that follow.
const TRIES: u64 = 64;

/// The number of a destination, where no other one has it.
pub fn usual_number(destination: SocketAddr) -> u32 {
    candidate(destination, 0)
}

/// The first number for the destination that stands for nothing. There is one: the room is smaller than the number of
/// numbers.
fn unused(destination: SocketAddr, taken: &HashMap<u32, SocketAddr>) -> u32 {
    let is_free = |number: &u32| !taken.contains_key(number);
    if let Some(number) = (0..TRIES).map(|at| candidate(destination, at)).find(is_free) {
        return number;
    }
    let mut number = candidate(destination, TRIES);
    while !is_free(&number) {
        number = number % MAX_NUMBER + 1;
    }
    number
}

/// The number to try at this place: a hash that is the same in all versions of weir (FNV-1a, then the finalizer of
/// MurmurHash3, which makes every bit depend on every byte).
fn candidate(destination: SocketAddr, place: u64) -> u32 {
    let address = wire::address(destination.ip()).octets();
    let bytes = address.into_iter().chain(destination.port().to_be_bytes()).chain(place.to_be_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(factor);
    }
    hash ^= hash >> 33;
    u32::try_from(hash % u64::from(MAX_NUMBER)).unwrap_or_default() + 1
}

fn numbered(destination: SocketAddr) -> Numbered {
    Numbered { address: wire::address(destination.ip()), port: destination.port().to_be(), unused: [0; 3] }
}

/// The key of `NUMBERS`: the address, and the port as the kernel has it, in a word of eight bytes.
fn key(destination: SocketAddr) -> [u64; 3] {
    let [a, b, c, d] = wire::address(destination.ip()).words.map(u64::from);
    [a | b << 32, c | d << 32, u64::from(destination.port().to_be())]
}

#[cfg(test)]
impl Numbers {
    /// None at all.
    pub fn none() -> Self {
        Self { prefix6: Address { words: [0; 4] }, dialled: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u32) -> SocketAddr {
        SocketAddr::from(((0x0a60_0000 + number / 4).to_be_bytes(), 80 + (number % 4) as u16))
    }

    #[test]
    fn a_number_is_the_same_in_every_process_and_version() {
        for (destination, number) in
            [("10.96.0.10:80", 1_805_670), ("10.96.0.10:443", 476_103), ("[fd96::10]:80", 922_435)]
        {
            assert_eq!(usual_number(destination.parse().unwrap()), number, "{destination}");
        }
    }

    #[test]
    fn destinations_have_different_numbers_and_nearly_all_of_them_their_usual_one() {
        const MANY: u32 = 65_536;
        let mut taken = HashMap::new();
        for destination in (0..MANY).map(at) {
            let number = unused(destination, &taken);
            assert!((1..=MAX_NUMBER).contains(&number));
            assert_eq!(taken.insert(number, destination), None);
        }
        let moved =
            taken.iter().filter(|(number, destination)| usual_number(**destination) != **number).count();
        // 65,536^2 / 2 / 2,097,149 of them meet another one.
        assert!((700..1_400).contains(&moved), "{moved}");
    }

    #[test]
    fn a_number_is_found_as_long_as_there_is_one() {
        let mut taken: HashMap<_, _> = (1..=MAX_NUMBER).map(|number| (number, at(0))).collect();
        for left in [1, 77, MAX_NUMBER] {
            taken.remove(&left);
            assert_eq!(unused(at(5), &taken), left);
            taken.insert(left, at(1));
        }
    }
}
