//! Databases of which one is full: its tunnels end within a moment, and by their number it would be the one to ask.

use e2e::database::{Database, Kind, log_in, query_and_quit};
use e2e::{Client, Request, Weir};

/// What a client does that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It stays, as those of a pool do.
    Stays,
    /// It asks something and goes.
    Quits,
}

/// How many of a hundred clients are let in, one after the other. Who is not closes.
fn let_in(weir: &Weir, kind: Kind, then: Then, kept: &mut Vec<Client>) -> usize {
    let mut count = 0;
    for _ in 0..100 {
        let mut client = connect(weir);
        if !log_in(kind, &mut client) {
            continue;
        }
        count += 1;
        match then {
            Then::Stays => kept.push(client),
            Then::Quits => query_and_quit(kind, &mut client),
        }
    }
    count
}

fn connect(weir: &Weir) -> Client {
    let mut client = weir.client();
    client.start(&Request::new("CONNECT", "db:80"));
    assert_eq!(client.head().status(), Some(200));
    client
}

#[test]
fn of_a_hundred_clients_ninety_get_the_database_that_is_not_full_and_soon_the_one_that_has_room_again() {
    for kind in [Kind::Postgres, Kind::Maria] {
        for then in [Then::Stays, Then::Quits] {
            let databases = [Database::start(kind), Database::start(kind)];
            let weir = Weir::serving("db", &databases.each_ref().map(Database::addr));
            let mut kept = Vec::new();
            databases[0].set_full(true);
            let first = let_in(&weir, kind, then, &mut kept);
            assert!(first >= 90, "{first} of 100, {kind:?}, {then:?}");
            let before = databases[0].connected();
            databases[0].set_full(false);
            databases[1].set_full(true);
            let next = let_in(&weir, kind, then, &mut kept);
            let recovered = databases[0].connected() - before;
            assert!(recovered >= 30, "{recovered} of the next 100, {kind:?}, {then:?}");
            assert_eq!(next, recovered, "{kind:?}, {then:?}");
        }
    }
}

#[test]
fn a_database_that_is_full_is_seen_as_that_and_not_as_fast() {
    let databases = [Database::start(Kind::Postgres), Database::start(Kind::Postgres)];
    let weir = Weir::serving("db", &databases.each_ref().map(Database::addr));
    databases[0].set_full(true);
    let let_in = let_in(&weir, Kind::Postgres, Then::Quits, &mut Vec::new());
    let early = || weir.metric("weir_tunnels_ended_total", &[("end", "early")]);
    e2e::eventually("every end", || early() == (100 - let_in) as f64);
    let refusals = |at: usize| weir.endpoint(databases[at].addr())["refusals"].as_u64();
    assert_eq!((refusals(0), refusals(1)), (Some(100 - let_in as u64), Some(0)));
}

#[test]
fn clients_of_databases_that_are_all_well_are_shared_equally() {
    for kind in [Kind::Postgres, Kind::Maria] {
        let databases = [(); 3].map(|()| Database::start(kind));
        let weir = Weir::serving("db", &databases.each_ref().map(Database::addr));
        for _ in 0..2 {
            assert_eq!(let_in(&weir, kind, Then::Quits, &mut Vec::new()), 100);
        }
        let counts = databases.each_ref().map(Database::connected);
        assert!(counts.iter().all(|count| (50..=84).contains(count)), "{kind:?}: {counts:?}");
    }
}
