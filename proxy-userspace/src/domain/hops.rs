//! How many weirs a tunnel has come through, so that one which runs in a circle ends.
//!
//! What passes in a tunnel is the client's: a CONNECT inside it carries no `Via` of the weirs outside. But weir makes the
//! connection behind each CONNECT, and gives its packets a hop limit (TTL, RFC 791 §3.2; Hop Limit, RFC 8200 §3) that says how
//! many weirs there were: 255 less one for each. The next weir reads it from the packet that ended the handshake. Nothing else
//! of a connection arrives at another node, and through the address translation of a Service: not its addresses and ports, by
//! which a weir could know its own, and no mark.
//!
//! What this is good for, and what not:
//!
//! - In the middle of a chain a weir sets the limit, not the client. Routers only take from it, so the count may be too high by
//!   their number and is never too low: 21 weirs end every chain.
//! - At its beginning the client sets it. Linux begins at 64, Windows at 128, others at 32, 60 or 255; all are no weirs, 255 up
//!   to 20 routers away. One that sets something else between 192 and 234 has its own CONNECTs refused and nobody else's: the
//!   count belongs to one connection, is compared with nothing else, and connections behind a CONNECT are never shared.
//! - It allows nothing. Whoever is refused here is refused although all other rules let it pass.
//! - Whatever ends the connection and makes one of its own, or rewrites the limit, begins anew: a relay of the client's between
//!   two weirs. That costs it as much as it costs weir, and each pass is a connection of its own under `limits.connections`.

/// Weirs (and routers between them) that a tunnel may have come through: as many as `Via` may name.
pub const MOST: u8 = 20;

/// What is below was not given by weir: between here and 255 there is room for every count, and for routers.
const LOWEST: u8 = 192;

/// How many a connection has come through that came with this hop limit.
pub fn passed(hop_limit: u8) -> u8 {
    if hop_limit < LOWEST { 0 } else { u8::MAX - hop_limit }
}

/// The hop limit of the connection behind one that has come through `passed`.
pub fn onward(passed: u8) -> u8 {
    (u8::MAX - 1).saturating_sub(passed).max(LOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_every_system_have_passed_no_weir() {
        for begins_at in [32, 60, 64, 100, 128] {
            for routers in 0..begins_at {
                assert_eq!(passed(begins_at - routers), 0, "{begins_at} - {routers}");
            }
        }
        for routers in 0..=MOST {
            assert!(passed(255 - routers) <= MOST);
        }
    }

    #[test]
    fn every_chain_ends_wherever_it_begins_and_whatever_is_between() {
        for (routers, begins_at) in (0..=10).flat_map(|routers| (1..=255).map(move |at| (routers, at))) {
            let (mut hop_limit, mut weirs) = (begins_at, 0);
            while passed(hop_limit) <= MOST {
                hop_limit = onward(passed(hop_limit)) - routers;
                weirs += 1;
                assert!(weirs <= u32::from(MOST) + 1, "{routers} {begins_at}");
            }
            // Two routers between any two weirs, and still seven of them.
            assert!(begins_at >= LOWEST || weirs >= u32::from(MOST / (routers + 1)), "{routers}: {weirs}");
        }
    }
}
