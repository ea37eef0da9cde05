//! What the end of a byte tunnel says of its endpoint.
//!
//! A tunnel has no status. A database that is full or starting takes the connection, says why it will not serve, and
//! closes, all within a millisecond: `FATAL: sorry, too many clients already` (PostgreSQL), `ERROR 1040: Too many
//! connections` (MariaDB, before the client has said a word). By load alone it would be the best endpoint there is.
//!
//! Who closes first does not tell: a client that has read why closes as well, and may be the quicker one. Who had the
//! **last word** does: clients that are done say so (`QUIT`, `Terminate`, `close_notify`) and close, and the
//! server's error is followed by nothing.
//!
//! This is a guess, since there are protocols in which servers say little, have the last word and close (`whois`, a `GET` of a
//! cache). So an early end counts by how much more an endpoint does it than is normal in its cluster; see
//! [`refusals`](super::health). Deliberately absent: a look at what is said.

use std::time::Duration;

use super::outcome::Outcome;

/// A tunnel that has lived for so long works; one that its endpoint ended before was turned away.
pub const MOMENT: Duration = Duration::from_secs(1);

/// Whoever sent more than this did what it was asked: a reason not to is shorter, also within TLS.
const LITTLE: u64 = 16 * 1024;

/// The two sides of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that connected to weir.
    Client,
    /// The one that weir connected to.
    Server,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides had sent all they wanted; this one was the first.
    Closed(Side),
    /// Neither side sent a byte for the idle time.
    Idle,
    /// This side's connection broke.
    Broken(Side),
}

/// A tunnel that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// How.
    pub end: End,
    /// Bytes from the client to the server.
    pub up: u64,
    /// Bytes from the server to the client.
    pub down: u64,
    /// Who sent the last of them.
    pub last_word: Option<Side>,
    /// From the attempt to connect on.
    pub lasted: Duration,
}

impl Tunnel {
    /// What that says of the endpoint.
    pub fn outcome(&self) -> Outcome {
        match self.end {
            End::Idle => Outcome::Carried,
            // Without a word it says nothing either: a port is checked so.
            End::Closed(Side::Client) if self.up + self.down == 0 => Outcome::Abandoned,
            End::Closed(Side::Server) if self.is_early() => Outcome::EndedEarly,
            // A client that closes or breaks off, having heard why.
            End::Closed(Side::Client) | End::Broken(Side::Client)
                if self.is_early() && self.last_word == Some(Side::Server) =>
            {
                Outcome::EndedEarly
            }
            End::Closed(_) => Outcome::Carried,
            End::Broken(Side::Client) => Outcome::Abandoned,
            End::Broken(Side::Server) if self.down == 0 => Outcome::Reset,
            // To close with something unread is a reset, too.
            End::Broken(Side::Server) if self.is_early() => Outcome::EndedEarly,
            End::Broken(Side::Server) => Outcome::Carried,
        }
    }

    fn is_early(&self) -> bool {
        self.lasted < MOMENT && self.down <= LITTLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use End::{Broken, Closed, Idle};
    use Side::{Client, Server};

    fn outcome(end: End, (up, down): (u64, u64), last_word: Option<Side>, millis: u64) -> Outcome {
        Tunnel { end, up, down, last_word, lasted: Duration::from_millis(millis) }.outcome()
    }

    #[test]
    fn what_databases_do_when_they_are_full_is_an_early_end_whoever_closes_first() {
        for end in [Closed(Server), Closed(Client), Broken(Server), Broken(Client)] {
            for (what, bytes, millis) in [
                ("PostgreSQL, too many clients", (41, 108), 3),
                ("PostgreSQL, asked for TLS first", (49, 109), 5),
                ("PostgreSQL, starting up", (41, 94), 2),
                ("MariaDB, too many connections", (0, 30), 1),
                ("slow to say so", (41, 108), 900),
            ] {
                assert_eq!(outcome(end, bytes, Some(Server), millis), Outcome::EndedEarly, "{what}, {end:?}");
            }
        }
        assert_eq!(outcome(Closed(Server), (0, 0), None, 1), Outcome::EndedEarly, "not a word");
        assert_eq!(outcome(Closed(Server), (41, 0), Some(Client), 1), Outcome::EndedEarly, "no answer");
    }

    #[test]
    fn what_was_served_is_not() {
        for (what, end, bytes, last, millis) in [
            ("a query, and the client says that it is done", Closed(Client), (120, 900), Client, 4),
            ("the same, broken off", Broken(Server), (120, 900), Client, 5000),
            ("an answer that ends with the connection", Closed(Server), (80, 40_000), Server, 20),
            ("a session that the server ends", Closed(Server), (80, 400), Server, 60_000),
            ("a session that the client ends", Closed(Client), (80, 400), Server, 60_000),
            ("nobody says anything more", Idle, (80, 400), Server, 3_600_000),
        ] {
            assert_eq!(outcome(end, bytes, Some(last), millis), Outcome::Carried, "{what}");
        }
    }

    #[test]
    fn a_client_that_goes_says_nothing_and_a_server_that_breaks_in_silence_fails() {
        assert_eq!(outcome(Closed(Client), (0, 0), None, 1), Outcome::Abandoned);
        assert_eq!(outcome(Broken(Client), (10, 500), Some(Client), 10), Outcome::Abandoned);
        assert_eq!(outcome(Broken(Server), (10, 0), Some(Client), 10), Outcome::Reset);
        assert_eq!(outcome(Broken(Server), (0, 0), None, 10_000), Outcome::Reset);
    }
}
