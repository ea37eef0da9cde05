//! What can be wrong with an API server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401: the token is not one (any more).
    Unauthorized,
    /// 403: the account may not.
    Forbidden,
    /// 429, with a Retry-After of so many seconds.
    TooMany(u64),
    /// 500, 503 and the like.
    Broken(u16),
    /// 410 as the status of the answer: of watches and lists that name a version.
    Gone,
}

/// What happens to every watch that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It ends as if its time were over.
    End,
    /// Its connection breaks in the middle of a line.
    Cut,
    /// It is told that its version is too old, as an event, and ends.
    Gone,
    /// A line comes that is no JSON.
    Garbage,
    /// An event comes whose object makes no sense.
    Nonsense,
}

/// What is wrong from now on.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Refusals by resource (`services`), or by verb and resource (`update dtabs`); `*` for every one.
    pub refused: BTreeMap<String, Refusal>,
    /// Requests are accepted and never answered, and watches are silent.
    pub hangs: bool,
    /// Requests for these resources are accepted and never answered; watches that are open go on.
    pub hung: BTreeSet<String>,
    /// Watches are silent, and everything else is well.
    pub silent_watches: bool,
    /// What each event of a watch waits.
    pub delay: Duration,
    /// Every event is sent twice.
    pub duplicates: bool,
    /// The only bearer token that is taken.
    pub token: Option<String>,
}

impl Faults {
    /// Whether a request for this resource, or for something else, is not answered.
    pub(super) fn hangs_for(&self, plural: Option<&str>) -> bool {
        self.hangs || plural.is_some_and(|plural| self.hung.contains(plural))
    }

    /// How a request for this resource is refused.
    pub(super) fn refusal(&self, verb: &str, plural: &str) -> Option<Refusal> {
        let one = self.refused.get(&format!("{verb} {plural}"));
        one.or_else(|| self.refused.get(plural)).or_else(|| self.refused.get("*")).copied()
    }
}
