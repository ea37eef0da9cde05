//! Counts the weirs that a tunnel has passed, to end tunnels that run in a loop.
//!
//! The bytes in a tunnel are the client's: a CONNECT inside it carries no `Via` of the weirs outside. But weir opens
//! the connection behind each CONNECT, and sets the hop limit of its packets (TTL, RFC 791 §3.2; Hop Limit, RFC 8200
//! §3) to 255 less the number of weirs passed. The next weir reads it from the packet that completes the handshake. No
//! other property of a connection reaches another node through the address translation of a Service: neither addresses
//! and ports, by which weir could recognize its own connection, nor a mark.
//!
//! What it can and cannot do:
//!
//! - Inside a chain a weir sets the limit, not the client. Routers only decrement it, so the count may be too high by
//!   their number but never too low: every chain ends after 21 weirs at the latest.
//! - At the start of a chain the client sets it. Linux starts at 64, Windows at 128, others 32, 60 or 255: zero weirs
//!   (255 with up to 20 routers in between). A client that sets another value between 192 and 234 only gets its own
//!   CONNECTs refused: the count belongs to one connection, is compared with nothing else, and connections behind a
//!   CONNECT are never shared.
//! - It permits nothing: it only refuses connections that all other rules allow.
//! - A client's relay between two weirs that opens its own connection, or that rewrites the limit, restarts the count.
//!   That costs the relay as much as it costs weir, and each pass is a connection under `limits.connections`.

/// The most weirs (and routers between them) that a tunnel may have passed: the same as the limit for `Via`.
pub const MOST: u8 = 20;

/// A lower limit was not set by weir: the range from here to 255 has room for every count, and for routers.
const LOWEST: u8 = 192;

/// The number of weirs that a connection with this hop limit has passed.
pub fn passed(hop_limit: u8) -> u8 {
    if hop_limit < LOWEST { 0 } else { u8::MAX - hop_limit }
}

/// The hop limit for the onward connection of one that has passed `passed` weirs.
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
            // With two routers between any two weirs, there are still seven weirs.
            assert!(begins_at >= LOWEST || weirs >= u32::from(MOST / (routers + 1)), "{routers}: {weirs}");
        }
    }
}
