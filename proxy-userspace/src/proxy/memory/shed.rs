//! Which clients' connections end when memory is scarce.
//!
//! Only those of pods that hold more than their fair share (`domain/shares`), and of these the idle ones first, then heads that take long,
//! then tunnels and at last exchanges on which nothing passes; of each kind the one that has been so for longest. When there
//! is little left, those on which something passes follow. How much a connection holds is estimated by what it does; what
//! the kernel holds of it is asked.

#[cfg(test)]
#[path = "shed_tests.rs"]
mod tests;

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::{Memory, Shed};
use crate::domain::memory::{Level, tight, to_free};
use crate::domain::shares::divide;
use crate::intercept::kernel_memory;
use crate::proxy::holders::{Holder, HolderId};
use crate::transport::{Activity, Held};

/// What any connection holds: its task, its timer, and hyper's first buffer.
const CONNECTION: u64 = 12 * 1024;

/// What an exchange holds besides: the endpoint's connection, and the buffers of the bodies.
const EXCHANGE: u64 = 64 * 1024;

/// Whoever holds no more than a few exchanges do is above no share, and as long as memory is only scarce, who holds no more
/// than one of so many parts of the budget: something else uses the memory.
const FEW: u64 = 4 * (CONNECTION + EXCHANGE);
const PART: u64 = 256;

/// What estimates depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Bytes of one direction's buffer of a tunnel.
    pub copy_buffer: usize,
    /// The most that the kernel holds of what one endpoint has sent.
    pub received: u64,
}

/// The connections of all listeners at one moment.
#[derive(Debug)]
pub struct Round {
    level: Level,
    /// The level by which it is decided for how long something must have been idle, slow or silent.
    strict: Level,
    sizes: Sizes,
    /// Bytes in use, and how many of them are too many.
    used: u64,
    excess: u64,
    /// Whoever holds no more than this is above no share.
    least: u64,
    clients: HashMap<HolderId, Holdings>,
}

/// What one holder has.
#[derive(Debug)]
struct Holdings {
    holder: Arc<Holder>,
    bytes: u64,
    /// Of these, what connections hold that were told to end, and have not yet.
    ending: u64,
    /// What may end.
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    /// Whether something passes on it.
    moves: bool,
    kind: Shed,
    lasted: Duration,
    bytes: u64,
    activity: Activity,
}

/// A holder that has more than its fair share.
#[derive(Clone, Debug)]
pub struct Above {
    /// Who it is.
    pub holder: Arc<Holder>,
    /// Bytes that its connections hold, by estimate.
    pub bytes: u64,
    /// Its fair share of what all may hold.
    pub share: u64,
}

/// What a round has decided.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Who has more than a fair share.
    pub above: HashMap<HolderId, Above>,
    /// Connections that are to end, with their kinds and what they hold.
    activities: Vec<(Shed, u64, Activity)>,
}

impl Round {
    /// A round at this `level`, where `used` bytes of `budget` are in use: so many are to be given up that the first level ends.
    /// At [`Level::Normal`] nothing is, and it is foreseen who will be above its share when [`Level::Refuse`] begins.
    pub fn new(level: Level, used: u64, budget: u64, sizes: Sizes) -> Self {
        let used = if level == Level::Normal { Level::Refuse.begins(budget) } else { used };
        let least = match level {
            Level::Normal | Level::Shed => FEW.max(budget / PART),
            Level::Refuse => FEW,
            Level::Full => 0,
        };
        Self {
            level,
            strict: if used >= tight(budget) { Level::Full } else { level },
            sizes,
            used,
            excess: used.saturating_sub(Level::Shed.ends(budget)),
            least,
            clients: HashMap::new(),
        }
    }

    /// A connection of `holder`.
    pub fn add(&mut self, holder: &Arc<Holder>, activity: &Activity) {
        let (held, lasted) = (activity.held(), activity.lasted());
        let bytes = CONNECTION + self.bytes(held) + self.of_kernel(held, activity);
        let new = || Holdings { holder: holder.clone(), bytes: 0, ending: 0, candidates: Vec::new() };
        let of_client = self.clients.entry(holder.id).or_insert_with(new);
        of_client.bytes += bytes;
        let kind = kind(held);
        if activity.is_shed() {
            of_client.ending += bytes;
        } else if self.level > Level::Normal && lasted >= patience(kind, self.strict) {
            let moves = kind >= Shed::Tunnel && lasted < patience(kind, Level::Refuse);
            of_client.candidates.push(Candidate { moves, kind, lasted, bytes, activity: activity.clone() });
        }
    }

    fn bytes(&self, held: Held) -> u64 {
        match held {
            Held::Idle => 0,
            // hyper's buffer grows by doubling.
            Held::Head(bytes) => u64::from(bytes).next_power_of_two(),
            Held::Tunnel => 2 * self.sizes.copy_buffer as u64,
            Held::Exchanges(count) => EXCHANGE * u64::from(count),
        }
    }

    /// What the kernel holds of its sockets. A system call each, so only while memory is scarce.
    fn of_kernel(&self, held: Held, activity: &Activity) -> u64 {
        if self.level == Level::Normal {
            return 0;
        }
        let of = |socket: Option<RawFd>| socket.map_or(0, |it| kernel_memory(it).total());
        let [client, endpoint] = activity.sockets();
        let endpoint = match held {
            Held::Idle | Held::Head(_) => 0,
            // What a stream's endpoint has sent stays there as long as its client opens no window.
            Held::Tunnel | Held::Exchanges(_) => {
                of(endpoint) + self.sizes.received * u64::from(activity.waiting())
            }
        };
        of(client) + endpoint
    }

    /// Who has more than a fair share of what all may hold.
    pub fn above(&self) -> HashMap<HolderId, Above> {
        let demands: Vec<_> = self.clients.values().map(|it| (&it.holder.group, it.bytes)).collect();
        let total: u64 = demands.iter().map(|it| it.1).sum();
        let shares = divide(total - to_free(total, self.excess, self.used), &demands);
        let shares = self.clients.values().zip(shares).map(|(it, share)| (it, share.max(self.least)));
        let above = |(it, share): (&Holdings, u64)| {
            let above = Above { holder: it.holder.clone(), bytes: it.bytes, share };
            (it.bytes > share).then_some((it.holder.id, above))
        };
        shares.filter_map(above).collect()
    }

    /// What ends: what each holds beyond its fair share.
    pub fn choose(mut self) -> Chosen {
        let mut chosen = Chosen { above: self.above(), activities: Vec::new() };
        for (id, above) in &chosen.above {
            let Some(holdings) = self.clients.get_mut(id) else { continue };
            holdings.candidates.sort_by_key(|it| (it.moves, it.kind, std::cmp::Reverse(it.lasted)));
            let mut left = holdings.bytes - holdings.ending;
            for candidate in holdings.candidates.drain(..) {
                if left <= above.share {
                    break;
                }
                left -= candidate.bytes;
                chosen.activities.push((candidate.kind, candidate.bytes, candidate.activity));
            }
        }
        chosen
    }
}

impl Chosen {
    /// Ends the chosen connections, and counts them. Returns how many bytes they hold.
    pub fn end(&self, memory: &Memory) -> u64 {
        let mut bytes = 0;
        for (kind, held, activity) in &self.activities {
            if activity.shed() {
                memory.shed[*kind as usize].inc();
                bytes += held;
            }
        }
        bytes
    }
}

fn kind(held: Held) -> Shed {
    match held {
        Held::Idle => Shed::Idle,
        Held::Head(_) => Shed::Head,
        Held::Tunnel => Shed::Tunnel,
        Held::Exchanges(_) => Shed::Exchange,
    }
}

/// How long a connection must have been idle, slow or silent before it ends.
fn patience(kind: Shed, level: Level) -> Duration {
    const MS: Duration = Duration::from_millis(1);
    match (kind, level) {
        (_, Level::Full) => Duration::ZERO,
        (Shed::Idle, Level::Refuse) => 100 * MS,
        (Shed::Head, Level::Refuse) => 250 * MS,
        (_, Level::Refuse) => 1_000 * MS,
        (Shed::Idle | Shed::Head, _) => 1_000 * MS,
        (_, _) => 5_000 * MS,
    }
}
