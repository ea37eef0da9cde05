//! What an endpoint does to one caller is no news of it for the others.

use super::*;

#[test]
fn an_endpoint_that_fails_one_caller_is_ejected_for_that_caller_alone() {
    let other = Caller(2);
    for outcome in [
        Outcome::Answered(500),
        Outcome::Grpc(14),
        Outcome::Reset,
        Outcome::Timeout,
        Outcome::ConnectFailed,
        Outcome::ConnectTimeout,
        Outcome::NeverReached,
        Outcome::Silent,
        Outcome::BadFraming,
    ] {
        let mut bench = Bench::new(3);
        for _ in 0..5 {
            let ticket = bench.ticket(0);
            bench.end(0, ticket, MS, outcome);
        }
        let usable = |caller| bench.healths[0].usable(caller, bench.now, &bench.policy.breaker);
        assert_eq!((usable(ME), usable(other)), (Usable::No, Usable::Yes), "{outcome:?}");
        assert_eq!(bench.healths[0].ejected_for(), 1);
    }
}

#[test]
fn the_last_usable_endpoint_of_a_caller_stays_whatever_is_usable_for_others() {
    let other = Caller(2);
    let mut bench = Bench::new(2);
    for at in [0, 1] {
        for _ in 0..10 {
            let ticket = bench.ticket(at);
            bench.end(at, ticket, MS, Outcome::Answered(500));
        }
    }
    let usable = |at: usize, caller| bench.healths[at].usable(caller, bench.now, &bench.policy.breaker);
    assert_eq!((usable(0, ME), usable(1, ME)), (Usable::No, Usable::Spared));
    assert_eq!((usable(0, other), usable(1, other)), (Usable::Yes, Usable::Yes));
}

#[test]
fn what_a_pod_never_reached_is_no_news_of_the_endpoint_for_others() {
    let mut bench = Bench::new(1);
    let ticket = bench.ticket(0);
    bench.end(0, ticket, 10 * MS, OK);
    let before = bench.healths[0].latency();
    for _ in 0..20 {
        let ticket = bench.ticket(0);
        bench.end(0, ticket, SECOND, Outcome::NeverReached);
    }
    assert_eq!(bench.healths[0].latency(), before);
}
