//! IPv4 and IPv6 addresses of a name, which are queried separately and answered in any order.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::time::{Instant as At, sleep_until};

use super::{Answer, DnsError, MIN_TTL};

/// After the addresses of one family, how long to wait for the other's (RFC 8305 §3, "Resolution Delay").
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// How long an answer with only one family is cached if the other's answer is missing: then both are queried again.
const INCOMPLETE: Duration = Duration::from_secs(10);

/// DNS's answer for one family of a name's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The addresses, and when they expire.
    Addresses(Vec<IpAddr>, Instant),
    /// The name has no address of that family.
    NoData,
    /// The name does not exist.
    NoName,
    /// The query failed.
    Failed(String),
}

/// The answers so far.
#[derive(Debug, Default)]
struct Pair {
    /// IPv4.
    a: Option<Said>,
    /// IPv6.
    aaaa: Option<Said>,
}

/// The addresses of both families, within `limit`. Only one family if `is_usable` accepts one of its addresses and the
/// other takes more than [`RESOLUTION_DELAY`] longer.
pub(super) async fn both(
    a: impl Future<Output = Said>,
    aaaa: impl Future<Output = Said>,
    limit: Duration,
    is_usable: impl Fn(IpAddr) -> bool,
) -> Result<Answer, DnsError> {
    let (mut a, mut aaaa) = (std::pin::pin!(a), std::pin::pin!(aaaa));
    let mut pair = Pair::default();
    let mut until = At::now() + limit;
    while pair.a.is_none() || pair.aaaa.is_none() {
        tokio::select! {
            said = &mut a, if pair.a.is_none() => pair.a = Some(said),
            said = &mut aaaa, if pair.aaaa.is_none() => pair.aaaa = Some(said),
            () = sleep_until(until) => break,
        }
        if pair.is_enough(&is_usable) {
            until = until.min(At::now() + RESOLUTION_DELAY);
        }
    }
    pair.answer(limit)
}

impl Pair {
    /// Whether waiting longer is unnecessary. NXDOMAIN holds for both families (RFC 8020), but some servers return it
    /// for IPv6 alone (RFC 4074 §4.2).
    fn is_enough(&self, is_usable: impl Fn(IpAddr) -> bool) -> bool {
        let usable = |said: &Option<Said>| matches!(said, Some(Said::Addresses(all, _)) if all.iter().copied().any(&is_usable));
        usable(&self.a) || usable(&self.aaaa) || self.a == Some(Said::NoName)
    }

    fn answer(self, limit: Duration) -> Result<Answer, DnsError> {
        let is_whole = [&self.a, &self.aaaa].iter().all(|said| !matches!(said, None | Some(Said::Failed(_))));
        let now = Instant::now();
        let mut addresses = Vec::new();
        let mut valid_until = None;
        for said in [&self.a, &self.aaaa].into_iter().flatten() {
            if let Said::Addresses(some, until) = said {
                addresses.extend_from_slice(some);
                valid_until = Some(valid_until.map_or(*until, |other: Instant| other.min(*until)));
            }
        }
        let Some(valid_until) = valid_until else { return Err(self.denial(limit)) };
        let valid_until = if is_whole { valid_until } else { valid_until.min(now + INCOMPLETE) };
        addresses.sort_unstable();
        addresses.dedup();
        Ok(Answer { addresses, valid_until: valid_until.max(now + MIN_TTL) })
    }

    /// Why there is no address.
    fn denial(self, limit: Duration) -> DnsError {
        match (self.a, self.aaaa) {
            (Some(Said::Failed(why)), _) | (Some(Said::NoData), Some(Said::Failed(why))) => {
                DnsError::Failed(why)
            }
            (None, _) | (Some(Said::NoData), None) => DnsError::Failed(format!("nothing within {limit:?}")),
            (Some(Said::NoData), Some(_)) => DnsError::NoAddress,
            (Some(_), _) => DnsError::NoSuchName,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    fn addresses(all: &[&str]) -> Said {
        let until = Instant::now() + Duration::from_secs(300);
        Said::Addresses(all.iter().map(|it| it.parse().unwrap()).collect(), until)
    }

    fn failed() -> Said {
        Said::Failed("why".into())
    }

    async fn ask(a: Option<Said>, aaaa: Option<Said>) -> Result<Answer, DnsError> {
        let later = |said: Option<Said>| async move {
            match said {
                Some(said) => ready(said).await,
                None => pending().await,
            }
        };
        both(later(a), later(aaaa), LIMIT, |address| address.is_ipv4()).await
    }

    #[tokio::test]
    async fn what_one_family_has_is_the_answer_whatever_becomes_of_the_other() {
        for other in [None, Some(failed()), Some(Said::NoData), Some(Said::NoName)] {
            let is_whole = matches!(other, Some(Said::NoData | Said::NoName));
            for (a, aaaa) in
                [(Some(addresses(&["10.0.0.1"])), other.clone()), (other, Some(addresses(&["fd00::1"])))]
            {
                let answer = ask(a, aaaa).await.unwrap();
                assert_eq!(answer.addresses.len(), 1);
                let believed = answer.valid_until.saturating_duration_since(Instant::now());
                assert_eq!(believed > INCOMPLETE, is_whole, "{believed:?}");
            }
        }
    }

    #[tokio::test]
    async fn only_an_address_that_can_be_used_cuts_the_wait_for_the_other_family_short() {
        let long = Duration::from_secs(600);
        let usable = both(ready(addresses(&["10.0.0.1"])), pending(), long, |_| true);
        assert_eq!(usable.await.unwrap().addresses.len(), 1);
        let (tell, told) = tokio::sync::oneshot::channel();
        let late = async move { told.await.unwrap() };
        let mut asking = Box::pin(both(late, ready(addresses(&["fd00::1"])), long, |it| it.is_ipv4()));
        let waited = tokio::time::timeout(RESOLUTION_DELAY * 4, &mut asking).await;
        assert!(waited.is_err(), "{waited:?}");
        tell.send(addresses(&["10.0.0.1"])).unwrap();
        assert_eq!(asking.await.unwrap().addresses.len(), 2);
    }

    #[tokio::test]
    async fn a_name_is_denied_only_where_dns_said_so() {
        let no_name = || Some(Said::NoName);
        let no_data = || Some(Said::NoData);
        let (none, empty) = (Some(DnsError::NoSuchName), Some(DnsError::NoAddress));
        for (a, aaaa, denial) in [
            (no_name(), no_name(), none.clone()),
            (no_data(), no_data(), empty.clone()),
            (no_data(), no_name(), empty),
            (no_name(), no_data(), none.clone()),
            (no_name(), None, none.clone()),
            (no_name(), Some(failed()), none),
            (no_data(), None, None),
            (no_data(), Some(failed()), None),
            (None, no_data(), None),
            (None, no_name(), None),
            (Some(failed()), no_name(), None),
            (Some(failed()), no_data(), None),
            (Some(failed()), None, None),
            (None, None, None),
        ] {
            let answer = ask(a.clone(), aaaa.clone()).await.unwrap_err();
            let said = Some(answer.clone()).filter(|it| !matches!(it, DnsError::Failed(_)));
            assert_eq!(said, denial, "{a:?} {aaaa:?}: {answer:?}");
        }
    }
}
