use std::task::Waker;
use std::time::Duration;

use super::admission::KEPT;
use super::rounds::ROUND;
use super::*;
use crate::domain::pods::{Clients, NodePods, Pod};
use crate::proxy::holders::Holders;
use crate::transport::Phase;

struct Hall {
    room: Arc<Room>,
    holders: Holders,
}

impl Hall {
    fn new(limit: usize) -> Self {
        let room = Room::new();
        room.set(limit, 8);
        Self { room, holders: Holders::default() }
    }

    fn holder(&self, client: &str) -> Arc<Holder> {
        self.holders.of(client.parse().unwrap(), None)
    }

    fn enter_at(&self, client: &str, now: Instant) -> Entry {
        let holder = self.holder(client);
        let stranger = Stranger::of(&holder, client.parse().unwrap(), None);
        self.room.enter(&holder, stranger, now)
    }

    fn enter(&self, client: &str) -> Entry {
        self.enter_at(client, Instant::now())
    }

    /// From now on these pods are known: their namespaces and addresses.
    fn tell(&self, pods: &[(&str, &str)]) {
        let pods = pods.iter().map(|(namespace, address)| {
            let pod = Pod {
                namespace: (*namespace).into(),
                name: (*address).into(),
                host_network: false,
                finished: false,
                cgroup_uid: (*address).into(),
                addresses: vec![address.parse().unwrap()],
                wishes: Default::default(),
                sidecar: None,
                runtime_class: None,
            };
            ((*address).into(), Arc::new(pod))
        });
        let pods = NodePods { pods: pods.collect(), known: true, ..NodePods::default() };
        self.holders.tell(Arc::new(Clients::new(&pods)));
        self.room.recharge(&self.holders);
    }

    /// A connection that is idle for so many seconds. Nobody may have to give way for it.
    #[track_caller]
    fn idle(&self, client: &str, seconds: u64) -> Place {
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let Entry::In(place) = self.enter_at(client, since) else { panic!("no room for {client}") };
        assert!(!place.has_displaced);
        place.activity.enter(Phase::Idle, since);
        place.activity.may_make_room(Waker::noop());
        place
    }

    /// One that takes the place of another one.
    #[track_caller]
    fn takes(&self, client: &str) -> Place {
        let Entry::In(place) = self.enter(client) else { panic!("no room for {client}") };
        assert!(place.has_displaced);
        place
    }

    /// One that has to wait.
    #[track_caller]
    fn waits(&self, client: &str) -> Waiting {
        match self.enter(client) {
            Entry::Wait(waiting) => waiting,
            Entry::In(place) => panic!("{client} has room, displaced: {}", place.has_displaced),
            Entry::Full => panic!("{client} may not even wait"),
        }
    }

    fn open(&self, client: &str) -> usize {
        let holder = self.holder(client);
        self.room.0.lock().ledger.used_by(&holder.group, holder.id).own
    }
}

fn asked(all: &[&Place]) -> Vec<bool> {
    all.iter().map(|it| it.activity.is_asked_for_room()).collect()
}

/// Its place, if that has come.
fn has_place(mut waiting: Waiting) -> Option<Place> {
    waiting.told.try_recv().ok()
}

#[test]
fn a_newcomer_below_its_share_has_room_at_once_at_the_cost_of_who_has_the_most() {
    let hall = Hall::new(4);
    let of_few = hall.idle("10.0.0.1", 500);
    let of_many = [30, 60, 1].map(|seconds| hall.idle("10.0.0.2", seconds));
    let _new = hall.takes("10.0.0.3");
    let displaced = |places: &[Place]| places.iter().map(|it| it.activity.is_displaced()).collect::<Vec<_>>();
    assert_eq!(displaced(&of_many), [false, true, false], "the longest idle one");
    assert!(!of_few.activity.is_displaced());
    assert_eq!((hall.open("10.0.0.2"), hall.room.is_full()), (2, true));
    // It ends later: its place is not free by that.
    drop(of_many);
    assert_eq!((hall.open("10.0.0.2"), hall.room.is_full()), (0, false));
}

#[test]
fn a_connection_in_use_gives_way_only_after_those_that_are_not() {
    let hall = Hall::new(3);
    let in_use = hall.idle("10.0.0.2", 9);
    in_use.activity.begin(Instant::now());
    let carries = hall.idle("10.0.0.2", 9);
    carries.activity.carries_bytes(Instant::now().checked_sub(Duration::from_secs(5)).unwrap());
    let idle = hall.idle("10.0.0.2", 1);
    let mut new = Vec::new();
    let order = |places: [&Place; 3]| places.map(|it| it.activity.is_displaced());
    for expected in [[false, false, true], [false, false, true]] {
        new.push(hall.enter("10.0.0.1"));
        assert_eq!(order([&in_use, &carries, &idle]), expected);
    }
    // The second one had its share already, 1 beside 2.
    assert!(matches!(&new[..], [Entry::In(place), Entry::Wait(_)] if place.has_displaced));
    new.push(hall.enter("10.0.0.3"));
    assert_eq!(
        order([&in_use, &carries, &idle]),
        [false, true, true],
        "the one on which nothing passed for longer"
    );
}

#[test]
fn who_has_its_share_waits_and_takes_nothing_from_others() {
    let hall = Hall::new(4);
    let of_few = hall.idle("10.0.0.1", 500);
    let of_many = [3, 2, 1].map(|seconds| hall.idle("10.0.0.2", seconds));
    let _waits = hall.waits("10.0.0.2");
    hall.room.make_room(Instant::now());
    assert_eq!(asked(&[&of_few, &of_many[0], &of_many[1], &of_many[2]]), [false, true, false, false]);
    assert!(!of_few.is_short_of_room() && of_many[1].is_short_of_room());
}

#[test]
fn idle_connections_take_turns_among_equals() {
    let hall = Hall::new(2);
    let (old, new) = (hall.idle("10.0.0.1", 50), hall.idle("10.0.0.2", 5));
    // Each has one: a third client waits until somebody has more than it.
    let waits = hall.waits("10.0.0.3");
    hall.room.make_room(Instant::now());
    let asked = asked(&[&old, &new]);
    assert_eq!(asked.iter().filter(|it| **it).count(), 1, "{asked:?}");
    drop(if asked[0] { old } else { new });
    assert!(has_place(waits).is_some());
}

#[test]
fn not_twice_within_a_moment_and_not_soon_after_a_round_in_vain() {
    let hall = Hall::new(2);
    let (old, new) = (hall.idle("10.0.0.1", 9), hall.idle("10.0.0.1", 1));
    let _waits = hall.waits("10.0.0.1");
    let mut now = Instant::now();
    for (after, expected) in [
        (Duration::ZERO, [true, false]),
        (Duration::ZERO, [true, false]),
        (ROUND, [true, true]),
        (ROUND, [true, true]),
    ] {
        now += after;
        hall.room.make_room(now);
        assert_eq!(asked(&[&old, &new]), expected);
    }
    // The last one found nobody.
    old.activity.begin(Instant::now());
    old.activity.end(Instant::now());
    assert!(!old.activity.is_asked_for_room());
    hall.room.make_room(now + ROUND);
    assert!(!old.activity.is_asked_for_room());
    hall.room.make_room(now + IN_VAIN);
    assert!(old.activity.is_asked_for_room());
}

#[test]
fn what_becomes_free_goes_to_who_has_the_least() {
    let hall = Hall::new(2);
    let (first, second) = (hall.idle("10.0.0.1", 9), hall.idle("10.0.0.1", 9));
    second.activity.begin(Instant::now());
    let (many, other) = (hall.waits("10.0.0.1"), hall.waits("10.0.0.1"));
    drop(other);
    assert_eq!(hall.room.waiting(), 1, "it has left");
    let third = hall.takes("10.0.0.2");
    let few = hall.waits("10.0.0.3");
    assert!(first.activity.is_displaced());
    drop(third);
    assert!(has_place(few).is_some(), "the last one that came");
    drop((first, second));
    assert!(has_place(many).is_some());
    assert_eq!((hall.room.waiting(), hall.room.is_full()), (0, false));
    assert!(hall.room.0.lock().held.is_empty());
}

#[test]
fn a_pod_within_its_share_loses_nothing_that_it_opened_before_it_was_known() {
    // Two machines of one IPv6 network among them.
    let pods = [("a", "10.0.0.1"), ("b", "fd00::1"), ("c", "fd00::2"), ("evil", "10.0.0.9")];
    let hall = Hall::new(16);
    let honest: Vec<Place> =
        pods[..3].iter().flat_map(|it| [4, 3, 2, 1].map(|age| hall.idle(it.1, age))).collect();
    hall.tell(&pods);
    assert_eq!(pods.map(|it| hall.open(it.1)), [4, 4, 4, 0]);
    let evil: Vec<Entry> = (0..8).map(|_| hall.enter("10.0.0.9")).collect();
    assert_eq!(evil.iter().filter(|it| matches!(it, Entry::In(_))).count(), 4);
    assert!(!honest.iter().any(|it| it.activity.is_displaced()));
    let a = Share { holder: "a/10.0.0.1".into(), open: 4, waiting: 0, share: 4 };
    assert!(hall.room.shares(9).contains(&a), "{:?}", hall.room.shares(9));
    hall.room.make_room(Instant::now());
    assert!(!honest.iter().any(Place::is_short_of_room));
    drop((evil, honest));
    assert!(hall.room.0.lock().held.is_empty() && hall.room.0.lock().ledger.used() == 0);
}

#[test]
fn one_that_waits_gets_room_once_its_pod_is_known_to_be_below_its_share() {
    let hall = Hall::new(4);
    let _open = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"].map(|client| hall.idle(client, 1));
    let (_new, waits) = (hall.takes("10.0.0.3"), hall.waits("10.0.0.3"));
    hall.tell(&[("a", "10.0.0.3")]);
    assert_eq!(hall.open("10.0.0.3"), 2);
    let place = has_place(waits).unwrap();
    assert!(place.has_displaced, "it is counted");
    assert_eq!(&*place.holder().name, "a/10.0.0.3");
    let left = hall.waits("10.0.0.3");
    drop(left);
    assert_eq!(hall.room.waiting(), 0);
}

#[test]
fn a_small_pod_makes_no_room_for_others_as_long_as_its_namespace_has_a_larger_one() {
    let hall = Hall::new(23);
    hall.tell(&[("shop", "10.0.0.1"), ("shop", "10.0.0.2"), ("x", "10.0.0.3")]);
    let hog: Vec<Place> = (0..12).map(|_| hall.idle("10.0.0.1", 1)).collect();
    let small = [5, 6].map(|age| hall.idle("10.0.0.2", age));
    let in_use: Vec<Place> = (0..9).map(|_| hall.idle("10.0.0.3", 1)).collect();
    for it in &in_use {
        it.activity.begin(Instant::now());
    }
    let _taken = [hall.takes("10.0.0.3"), hall.takes("10.0.0.3")];
    // Now it waits, beside a namespace with one more.
    let _wait = [(); 4].map(|()| hall.waits("10.0.0.3"));
    hall.room.make_room(Instant::now());
    assert_eq!(hog.iter().filter(|it| it.activity.is_asked_for_room()).count(), 2 + 4, "two were displaced");
    assert!(!small.iter().any(|it| it.activity.is_asked_for_room() || it.is_short_of_room()));
}

#[test]
fn who_comes_and_goes_costs_others_one_connection_and_not_one_each_time() {
    // One large pod, or two in turn.
    for others in [["10.0.0.1", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"]] {
        let hall = Hall::new(8);
        let mut open: Vec<Place> = (0..8).map(|turn| hall.idle(others[turn % 2], 1)).collect();
        let mut waiting = Vec::new();
        for turn in 0..20 {
            let Entry::In(short) = hall.enter("10.0.0.3") else { panic!("no room") };
            assert_eq!(short.has_displaced, turn == 0, "time {turn}");
            drop(short);
            match hall.enter(others[turn % 2]) {
                Entry::In(place) => open.push(place),
                Entry::Wait(waits) => waiting.push(waits),
                Entry::Full => {}
            }
        }
        // It stays away: then its place is everybody's.
        hall.room.make_room(Instant::now() + KEPT);
        let given: Vec<Place> = waiting.into_iter().filter_map(has_place).collect();
        assert_eq!(given.len(), 1);
    }
}

#[test]
fn those_that_may_not_even_wait_are_turned_away_and_leave_some_room_to_wait() {
    let hall = Hall::new(1);
    let _open = hall.idle("10.0.0.1", 1);
    let of_one: Vec<Entry> = (0..20).map(|_| hall.enter("10.0.0.1")).collect();
    let waiting = of_one.iter().filter(|it| matches!(it, Entry::Wait(_))).count();
    assert!((4..8).contains(&waiting), "{waiting} of 8");
    assert!(matches!(of_one.last(), Some(Entry::Full)));
    let _others = [hall.waits("10.0.0.2"), hall.waits("10.0.0.3")];
}

#[test]
fn a_bound_that_changes_holds_once_enough_have_left() {
    let hall = Hall::new(4);
    let mut open: Vec<Place> = (0..3).map(|_| hall.idle("10.0.0.1", 1)).collect();
    hall.room.set(2, 8);
    let (one, two) = (hall.waits("10.0.0.1"), hall.waits("10.0.0.1"));
    open.pop();
    assert!(hall.room.is_full());
    open.pop();
    hall.room.set(3, 8);
    let places = [has_place(one), has_place(two)];
    assert!(places.iter().all(Option::is_some) && hall.room.is_full());
}

#[test]
fn shares_list_who_has_the_most() {
    let hall = Hall::new(9);
    let _open = ["10.0.0.1", "10.0.0.2", "10.0.0.2"].map(|client| hall.idle(client, 1));
    let share = |holder: &str, open, share| Share { holder: holder.into(), open, waiting: 0, share };
    assert_eq!(hall.room.shares(5), [share("10.0.0.2", 2, 8), share("10.0.0.1", 1, 7)]);
    assert_eq!(hall.room.shares(1).len(), 1);
}

#[test]
fn a_connection_is_charged_to_whom_it_has_turned_out_to_be_of() {
    let hall = Hall::new(2);
    let (thief, victim) = (hall.idle("10.0.0.1", 1), hall.idle("10.0.0.1", 2));
    let waiting = hall.waits("10.0.0.1");
    thief.charge_to(&hall.holder("10.0.0.9"));
    assert_eq!((hall.open("10.0.0.1"), hall.open("10.0.0.9")), (1, 1));
    assert_eq!(&*thief.holder().name, "10.0.0.9");
    thief.charge_to(&hall.holder("10.0.0.9"));
    drop(thief);
    assert_eq!((hall.open("10.0.0.9"), &*victim.holder().name), (0, "10.0.0.1"));
    assert!(has_place(waiting).is_some());
}
