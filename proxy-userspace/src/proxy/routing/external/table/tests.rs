//! Which entries stay, which are dropped, and what happens to dropped ones.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::runtime::Handle;

use super::*;
use crate::proxy::routing::snapshot::tests::config;

const SECOND: Duration = Duration::from_secs(1);

/// A table with this limit.
fn table(limit: usize) -> ExternalClusters {
    let table = ExternalClusters::new(&config(), None, Handle::current());
    table.keep(limit);
    table
}

fn address(number: u32) -> SocketAddr {
    (Ipv4Addr::from(0x0a01_0000 + number), 80).into()
}

fn retired(clusters: &[Arc<Cluster>]) -> Vec<usize> {
    clusters.iter().enumerate().filter(|(_, it)| it.is_retired()).map(|(number, _)| number).collect()
}

#[tokio::test]
async fn ten_thousand_names_make_room_for_ten_thousand_others_in_the_order_of_their_last_use() {
    const MANY: u32 = 10_000;
    let (table, start) = (table(MANY as usize), Instant::now());
    let fixed = |number| table.fixed(address(number), start);
    let old: Vec<_> = (0..MANY).map(fixed).collect();
    // The last 100, used once more in reverse order, are now the last to be dropped.
    (MANY - 100..MANY).rev().for_each(|number| drop(fixed(number)));
    let mut order: Vec<_> = (0..MANY as usize - 100).collect();
    order.extend((MANY as usize - 100..MANY as usize).rev());
    for (new, goes) in order.into_iter().enumerate() {
        assert!(!old[goes].is_retired(), "{goes} went before its turn");
        fixed(MANY + new as u32);
        assert!(old[goes].is_retired(), "{goes} stayed when {new} others had come");
    }
    assert_eq!(table.evicted.value(), u64::from(MANY));
    assert_eq!(table.clusters().len(), MANY as usize);
}

#[tokio::test]
async fn a_lower_limit_leaves_those_that_were_used_last() {
    let (table, start) = (table(10), Instant::now());
    let clusters: Vec<_> = (0..10).map(|number| table.fixed(address(number), start)).collect();
    table.fixed(address(0), start);
    for (limit, gone) in [(20, 0), (10, 0), (7, 3), (3, 7), (3, 7), (1, 9)] {
        table.keep(limit);
        assert_eq!(retired(&clusters), (1..=gone).collect::<Vec<_>>(), "at most {limit}");
        assert_eq!((table.clusters().len(), table.evicted.value()), (10 - gone, gone as u64));
    }
    // The limit also applies to later entries.
    table.fixed(address(10), start);
    assert_eq!((table.clusters().len(), table.evicted.value()), (1, 10));
}

#[tokio::test]
async fn only_what_nobody_used_for_ten_minutes_is_swept_and_is_not_counted_as_evicted() {
    let (table, start) = (table(10), Instant::now());
    let clusters: Vec<_> =
        (0..4).map(|number| table.fixed(address(number), start + SECOND * number)).collect();
    table.fixed(address(1), start + UNUSED);
    table.sweep(start + UNUSED - SECOND);
    assert!(retired(&clusters).is_empty());
    table.sweep(start + UNUSED + SECOND * 2);
    assert_eq!(retired(&clusters), [0, 2]);
    table.sweep(start + UNUSED * 2);
    assert_eq!(retired(&clusters), [0, 1, 2, 3]);
    assert_eq!((table.clusters().len(), table.evicted.value()), (0, 0));
}

#[tokio::test]
async fn clusters_of_one_name_for_which_different_addresses_are_refused_do_not_replace_one_another() {
    let (table, start) = (table(3), Instant::now());
    let insert = |host: &str, exempt| {
        let key = Key { host: host.into(), port: 80, exempt, from: Source::Node };
        table.insert(key, &[Endpoint::at(address(1))].into(), (None, start))
    };
    let [first, other] = ["first", "other"].map(|host| insert(host, Exempt::No));
    assert!(Arc::ptr_eq(&insert("first", Exempt::No), &first), "looked up twice at once");
    let written = insert("first", Exempt::Written);
    assert_eq!([&first, &other, &written].map(|it| it.is_retired()), [false; 3]);
    assert_eq!([&first, &written].map(|it| it.exempt), [Exempt::No, Exempt::Written]);
    assert!(Arc::ptr_eq(&insert("first", Exempt::No), &first));
    assert_eq!((table.evicted.value(), table.clusters().len()), (0, 3));
}
