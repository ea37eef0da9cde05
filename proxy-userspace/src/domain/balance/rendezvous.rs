//! Session affinity (`sessionAffinity: ClientIP`): each client stays at the endpoint with its highest score.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): a
//! score depends only on the two addresses, so every worker, every weir, and weir after a restart compute the same
//! ranking, without a table that could be full. When an endpoint leaves, only its clients move, each to the next in its
//! own ranking; a new endpoint takes its share from each of the others.
//!
//! A client stays at one pod over all ports of a Service: an endpoint that does not share its IP address is identified
//! by that address alone ([`identity`]), so each port computes the same ranking of pods. The pods differ only while a
//! breaker has ejected the first one on one of the ports.
//!
//! Not here: one identity over several ports for pods that share an address, as on the node's network; the timeout of
//! the affinity in Kubernetes. Nothing is stored, so a client returns to its endpoint after any time.

use std::net::{IpAddr, SocketAddr};

use super::{Choice, Picked, Usable, View, Weights};

/// The usable candidate of the highest `score`, `avoid` last; the highest of all if none is usable. Does not allocate;
/// computes every score and views few candidates.
pub(super) fn pick(
    shares: &Weights,
    avoid: Option<usize>,
    score: impl Fn(usize) -> f64,
    view: impl Fn(usize) -> View,
) -> Option<Picked> {
    let usable = |index: &usize| view(*index).usable == Usable::Yes;
    let others = || (0..shares.len()).filter(|&index| Some(index) != avoid);
    let mut best: Option<(usize, f64)> = None;
    for index in others() {
        let score = score(index);
        if best.is_none_or(|(_, highest)| score > highest) && usable(&index) {
            best = Some((index, score));
        }
    }
    if let Some((index, _)) = best {
        return Some(Picked::alone(index, Choice::Usable));
    }
    if let Some(index) = avoid.filter(|&index| index < shares.len()).filter(usable) {
        return Some(Picked::alone(index, Choice::Usable));
    }
    let highest = others().max_by(|&one, &other| score(one).total_cmp(&score(other)));
    let index = highest.or(avoid.filter(|&index| index < shares.len()))?;
    Some(Picked::alone(index, Choice::Forced))
}

/// The identity of `endpoint` within its service port: its IP address with port 0, unless another one `shares` the
/// address.
pub fn identity(endpoint: SocketAddr, shares: bool) -> SocketAddr {
    let port = if shares { endpoint.port() } else { 0 };
    SocketAddr::new(endpoint.ip().to_canonical(), port)
}

/// The score of the endpoint with this [`identity`] for a client, whose port does not matter. Over many clients, each
/// endpoint has the highest score for a share of them in proportion to its `weight`.
pub fn score(client: IpAddr, endpoint: SocketAddr, weight: f64) -> f64 {
    let drawn =
        mix(mix(number(client)) ^ mix(number(endpoint.ip()).wrapping_add(u64::from(endpoint.port()))));
    // Strictly between 0 and 1: 53 random bits plus a half.
    let unit = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -weight / unit.ln()
}

/// An address as a number; an IPv4-mapped address is the same as its IPv4 address.
fn number(address: IpAddr) -> u64 {
    let bits = match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    mix((bits >> 64) as u64).wrapping_add(bits as u64)
}

/// The finalizer of MurmurHash3 as improved by David Stafford ("Mix13"): every output bit depends on every input bit.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn endpoint(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0a01_0000 + n).into()), 80)
    }

    fn view(usable: bool) -> View {
        View {
            usable: if usable { Usable::Yes } else { Usable::No },
            load: 1.0,
            latency: 1.0,
            due: true,
            waited: 0.0,
        }
    }

    fn choice(
        of: u32,
        endpoints: &[u32],
        usable: impl Fn(u32) -> bool,
        avoid: Option<usize>,
    ) -> (u32, Choice) {
        let score = |at: usize| score(client(of), endpoint(endpoints[at]), 1.0);
        let shares = Weights::equal(endpoints.len());
        let picked = pick(&shares, avoid, score, |at| view(usable(endpoints[at]))).unwrap();
        (endpoints[picked.index], picked.choice)
    }

    #[test]
    fn a_client_moves_only_when_its_endpoint_goes_and_then_to_the_next_in_its_ranking() {
        let all: Vec<u32> = (0..10).collect();
        let mut moved_to = std::collections::BTreeSet::new();
        for of in 0..1000 {
            let (kept, _) = choice(of, &all, |_| true, None);
            let others: Vec<u32> = all.iter().copied().filter(|&it| it != 3).collect();
            let (after, _) = choice(of, &others, |_| true, None);
            if kept == 3 {
                moved_to.insert(after);
                assert_eq!(
                    choice(of, &all, |it| it != 3, None),
                    (after, Choice::Usable),
                    "ejected is as gone"
                );
                assert_eq!(choice(of, &all, |_| true, Some(3)).0, after, "and so is tried");
            } else {
                assert_eq!(after, kept);
            }
        }
        assert_eq!(moved_to.len(), 9, "the clients of one endpoint are spread over all others");
    }

    #[test]
    fn with_nothing_usable_the_highest_is_taken_all_the_same() {
        let (kept, _) = choice(7, &[0, 1, 2], |_| true, None);
        assert_eq!(choice(7, &[0, 1, 2], |_| false, None), (kept, Choice::Forced));
        assert_eq!(choice(7, &[0], |_| true, Some(0)), (0, Choice::Usable));
        assert_eq!(choice(7, &[0], |_| false, Some(0)), (0, Choice::Forced));
        assert_eq!(pick(&Weights::equal(0), None, |_| 0.0, |_| view(true)), None);
    }

    #[test]
    fn endpoints_have_clients_as_their_weights_say() {
        let weights = [1.0, 2.0, 5.0];
        let mut counts = [0_u32; 3];
        for of in 0..8000 {
            let score = |at: usize| score(client(of), endpoint(at as u32), weights[at]);
            counts[(0..3).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            assert!((f64::from(*count) / (1000.0 * weight) - 1.0).abs() < 0.1, "{counts:?}");
        }
    }

    #[test]
    fn an_endpoint_with_an_address_of_its_own_is_the_same_on_every_port() {
        let at = |address: &str| -> SocketAddr { address.parse().unwrap() };
        assert_eq!(identity(at("10.1.0.1:80"), false), identity(at("10.1.0.1:9090"), false));
        assert_eq!(identity(at("[::ffff:10.1.0.1]:80"), false), identity(at("10.1.0.1:9090"), false));
        assert_ne!(identity(at("10.1.0.1:80"), false), identity(at("10.1.0.2:80"), false));
        assert_ne!(identity(at("10.1.0.1:80"), true), identity(at("10.1.0.1:81"), true));
    }

    #[test]
    fn a_client_is_the_same_in_both_spellings_of_its_address() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(score(mapped, endpoint(1), 1.0), score(client(1), endpoint(1), 1.0));
        assert!(score(client(2), endpoint(1), 1.0) != score(client(1), endpoint(1), 1.0));
    }
}
