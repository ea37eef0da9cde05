//! Which entries stay, which are dropped, and what happens to dropped ones.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::runtime::Handle;

use super::*;
use crate::domain::pods::{Clients, NodePods, Pod};
use crate::proxy::holders::Holders;
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

/// The cluster of the address of this number, for a client that is the same each time.
fn fixed(table: &ExternalClusters, number: u32, now: Instant) -> Arc<Cluster> {
    table.fixed(address(number), now, &Holder::everybody())
}

fn retired(clusters: &[Arc<Cluster>]) -> Vec<usize> {
    clusters.iter().enumerate().filter(|(_, it)| it.is_retired()).map(|(number, _)| number).collect()
}

#[tokio::test]
async fn ten_thousand_names_make_room_for_ten_thousand_others_in_the_order_of_their_last_use() {
    const MANY: u32 = 10_000;
    let (table, start) = (table(MANY as usize), Instant::now());
    let client = Holder::everybody();
    let fixed = |number| table.fixed(address(number), start, &client);
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
    let clusters: Vec<_> = (0..10).map(|number| fixed(&table, number, start)).collect();
    fixed(&table, 0, start);
    for (limit, gone) in [(20, 0), (10, 0), (7, 3), (3, 7), (3, 7), (1, 9)] {
        table.keep(limit);
        assert_eq!(retired(&clusters), (1..=gone).collect::<Vec<_>>(), "at most {limit}");
        assert_eq!((table.clusters().len(), table.evicted.value()), (10 - gone, gone as u64));
    }
    // The limit also applies to later entries.
    fixed(&table, 10, start);
    assert_eq!((table.clusters().len(), table.evicted.value()), (1, 10));
}

#[tokio::test]
async fn only_what_nobody_used_for_ten_minutes_is_swept_and_is_not_counted_as_evicted() {
    let (table, start) = (table(10), Instant::now());
    let clusters: Vec<_> = (0..4).map(|number| fixed(&table, number, start + SECOND * number)).collect();
    fixed(&table, 1, start + UNUSED);
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
        table.insert(key, &[Endpoint::at(address(1))].into(), (None, start), &Holder::everybody())
    };
    let [first, other] = ["first", "other"].map(|host| insert(host, Exempt::No));
    assert!(Arc::ptr_eq(&insert("first", Exempt::No), &first), "looked up twice at once");
    let written = insert("first", Exempt::Written);
    assert_eq!([&first, &other, &written].map(|it| it.is_retired()), [false; 3]);
    assert_eq!([&first, &written].map(|it| it.exempt), [Exempt::No, Exempt::Written]);
    assert!(Arc::ptr_eq(&insert("first", Exempt::No), &first));
    assert_eq!((table.evicted.value(), table.clusters().len()), (0, 3));
}

/// This node's pods: the first one in `shop`, all others in `mob`.
fn pods(others: u8) -> Vec<Arc<Holder>> {
    let pod = |number: u8| Pod {
        namespace: if number == 0 { "shop" } else { "mob" }.into(),
        name: format!("pod-{number}").into(),
        host_network: false,
        finished: false,
        cgroup_uid: "".into(),
        addresses: vec![[10, 1, 0, number].into()],
        wishes: Default::default(),
        sidecar: None,
        runtime_class: None,
    };
    let pods = (0..=others).map(|number| (number.to_string().into(), Arc::new(pod(number)))).collect();
    let holders = Holders::default();
    holders.tell(Arc::new(Clients::new(&NodePods { pods, known: true, ..NodePods::default() })));
    (0..=others).map(|number| holders.of([10, 1, 0, number].into(), None)).collect()
}

#[tokio::test]
async fn who_asks_for_ever_new_names_forgets_its_own_and_nobody_elses() {
    for mob in [1, 50] {
        let (table, start, pods) = (table(1_000), Instant::now(), pods(mob));
        // It has 200 names, and uses none of them meanwhile.
        let honest: Vec<_> = (0..200).map(|number| table.fixed(address(number), start, &pods[0])).collect();
        for number in 0..10_000 {
            table.fixed(address(1_000 + number), start, &pods[1 + number as usize % usize::from(mob)]);
        }
        assert!(retired(&honest).is_empty(), "beside {mob}: {:?}", retired(&honest));
        let left = table.clusters().len();
        // Where they are far from being the oldest, several go at once.
        assert!((900..=1_000).contains(&left), "{left}");
        assert_eq!(table.evicted.value(), 10_200 - left as u64);
        // What it asks for beside them it gets at the others' cost.
        let more: Vec<_> = (200..400).map(|number| table.fixed(address(number), start, &pods[0])).collect();
        assert!(retired(&honest).is_empty() && retired(&more).is_empty());
    }
}

#[tokio::test]
async fn alone_one_may_have_the_whole_table_and_gives_it_back_to_its_fair_share() {
    let (table, start, pods) = (table(100), Instant::now(), pods(2));
    let first: Vec<_> = (0..100).map(|number| table.fixed(address(number), start, &pods[1])).collect();
    assert!(retired(&first).is_empty());
    let other: Vec<_> = (100..200).map(|number| table.fixed(address(number), start, &pods[0])).collect();
    let (of_first, of_other) = (100 - retired(&first).len(), 100 - retired(&other).len());
    assert!((49..=51).contains(&of_first) && (49..=51).contains(&of_other), "{of_first} and {of_other}");
    // Its least recently used ones went.
    assert_eq!(retired(&first), (0..100 - of_first).collect::<Vec<_>>());
    // Another pod of the first one's namespace takes from that one alone.
    let before = retired(&other);
    (200..260).for_each(|number| drop(table.fixed(address(number), start, &pods[2])));
    assert_eq!(retired(&other), before);
}

#[tokio::test]
async fn what_goes_in_any_way_counts_for_nobody_any_more() {
    let (table, start, pods) = (table(100), Instant::now(), pods(1));
    let of = |number: u32| (number % 2) as usize;
    let used = || table.table.lock().ledger.used();
    (0..100).for_each(|number| drop(table.fixed(address(number), start, &pods[of(number)])));
    assert_eq!(used(), 100);
    table.keep(60);
    assert_eq!(used(), 60);
    table.forget(&["10.1.0.0/26".parse().unwrap()], start);
    assert_eq!(used(), table.clusters().len());
    table.sweep(start + UNUSED);
    assert_eq!((used(), table.clusters().len()), (0, 0));
}
