//! The outcome of a byte tunnel for its endpoint.
//!
//! A tunnel has no status. A database that is full or starting accepts the connection, sends an error, and closes, all
//! within a millisecond: `FATAL: sorry, too many clients already` (PostgreSQL), `ERROR 1040: Too many connections`
//! (MariaDB, before the client has sent a byte). By load alone it would look like the best endpoint.
//!
//! Who closes first does not tell: a client that has read the error closes as well, and psql is faster than the server;
//! if a client says that it is done, MariaDB closes first. Who sent the **last bytes** before that does tell: clients
//! that are done say so (`Terminate`, `COM_QUIT`, `close_notify`), and nothing follows the server's error.
//!
//! This is a heuristic, since in some protocols servers send little, send the last bytes and close (`whois`, a `GET` of
//! a cache). So early ends count only as far as an endpoint has more of them than is normal in its cluster; see
//! [`health`](super::health). Not here: the content of the bytes.

use std::time::Duration;

use super::outcome::Outcome;

/// A tunnel that lived this long works; one that its endpoint ended earlier was refused.
pub const MOMENT: Duration = Duration::from_secs(1);

/// An endpoint that sent more than this served the client: an error is shorter, also within TLS.
const LITTLE: u64 = 16 * 1024;

/// The two sides of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer that connected to weir.
    Client,
    /// The peer that weir connected to.
    Server,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides had sent everything.
    Closed,
    /// Neither side sent a byte for the idle time.
    Idle,
    /// The connection of this side broke.
    Broken(Side),
}

/// A tunnel that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// How it ended.
    pub end: End,
    /// Who closed first, without an error; none if a connection broke before.
    pub first: Option<Side>,
    /// Who had sent the last byte by then.
    pub last_word: Option<Side>,
    /// Bytes from the client to the server.
    pub up: u64,
    /// Bytes from the server to the client.
    pub down: u64,
    /// The time since the attempt to connect.
    pub lasted: Duration,
}

impl Tunnel {
    /// The outcome for the endpoint.
    pub fn outcome(&self) -> Outcome {
        let in_silence = self.down == 0;
        match (self.end, self.first) {
            (End::Idle, _) => Outcome::Carried,
            (End::Broken(Side::Server), None | Some(Side::Client)) if in_silence => Outcome::Reset,
            // A port check does this.
            (_, Some(Side::Client)) if self.up == 0 && in_silence => Outcome::Abandoned,
            (_, Some(Side::Server)) if in_silence && self.lasted < MOMENT => Outcome::EndedEarly,
            _ if self.was_turned_away() => Outcome::EndedEarly,
            (End::Broken(Side::Client), None) => Outcome::Abandoned,
            _ => Outcome::Carried,
        }
    }

    fn was_turned_away(&self) -> bool {
        self.lasted < MOMENT && self.down <= LITTLE && self.last_word == Some(Side::Server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use End::{Broken, Closed, Idle};
    use Side::{Client, Server};

    type Bytes = (u64, u64);

    fn outcome(
        ends: (End, Option<Side>),
        (up, down): Bytes,
        last_word: Option<Side>,
        millis: u64,
    ) -> Outcome {
        let (end, first) = ends;
        Tunnel { end, first, last_word, up, down, lasted: Duration::from_millis(millis) }.outcome()
    }

    /// All ways in which a tunnel can end after the server's last bytes.
    const ENDS: [(End, Option<Side>); 7] = [
        (Closed, Some(Server)),
        (Closed, Some(Client)),
        (Broken(Server), None),
        (Broken(Server), Some(Server)),
        (Broken(Client), None),
        (Broken(Client), Some(Client)),
        (Broken(Client), Some(Server)),
    ];

    #[test]
    fn what_databases_do_when_they_are_full_is_an_early_end_whoever_closes_first() {
        for ends in ENDS {
            for (what, bytes, millis) in [
                ("PostgreSQL 15, too many clients", (64, 151), 3),
                ("PostgreSQL 15 within TLS", (785, 1644), 64),
                ("MariaDB 10.11, too many connections", (0, 27), 1),
                ("slow to say so", (64, 151), 900),
            ] {
                assert_eq!(
                    outcome(ends, bytes, Some(Server), millis),
                    Outcome::EndedEarly,
                    "{what}, {ends:?}"
                );
            }
        }
        for (bytes, last_word) in [((0, 0), None), ((41, 0), Some(Client))] {
            let ends = (Closed, Some(Server));
            assert_eq!(outcome(ends, bytes, last_word, 1), Outcome::EndedEarly, "no word of it: {bytes:?}");
        }
    }

    #[test]
    fn what_was_served_is_not() {
        let closed = |first| (Closed, Some(first));
        for (what, ends, bytes, last_word, millis) in [
            ("psql, a query", closed(Client), (75, 474), Client, 12),
            (
                "psql within TLS, whose server answers the end",
                (Broken(Client), Some(Client)),
                (854, 1990),
                Client,
                75,
            ),
            ("mariadb, a query, whose server closes first", closed(Server), (209, 173), Client, 14),
            ("an answer that ends with the connection", closed(Server), (80, 40_000), Server, 20),
            ("a session that the server ends", closed(Server), (80, 400), Server, 60_000),
            ("a session that the client ends", closed(Client), (80, 400), Server, 60_000),
            ("one that breaks", (Broken(Server), None), (80, 400), Server, 60_000),
            ("lines for a log, which says nothing", closed(Client), (500, 0), Client, 3),
            ("nobody says anything more", (Idle, None), (80, 400), Server, 3_600_000),
        ] {
            assert_eq!(outcome(ends, bytes, Some(last_word), millis), Outcome::Carried, "{what}");
        }
    }

    #[test]
    fn a_client_that_goes_says_nothing_and_a_server_that_breaks_in_silence_fails() {
        assert_eq!(outcome((Closed, Some(Client)), (0, 0), None, 1), Outcome::Abandoned);
        assert_eq!(outcome((Broken(Client), None), (10, 500), Some(Client), 10), Outcome::Abandoned);
        assert_eq!(outcome((Broken(Server), None), (10, 0), Some(Client), 10), Outcome::Reset);
        assert_eq!(outcome((Broken(Server), Some(Client)), (10, 0), Some(Client), 10), Outcome::Reset);
        assert_eq!(outcome((Broken(Server), None), (0, 0), None, 10_000), Outcome::Reset);
    }
}
