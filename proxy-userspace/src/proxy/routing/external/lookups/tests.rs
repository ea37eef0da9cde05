use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::proxy::holders::Holders;

fn client(holders: &Holders, last: u8) -> Asker {
    Asker::new(holders.of([10, 1, 0, last].into(), None), None, 100_000)
}

/// How many names that never answer `asker` gets in progress, and why not more.
fn fill(look_ups: &Arc<LookUps>, asker: &mut Asker, most: usize, prefix: &str) -> (usize, Busy) {
    let mut begun = 0;
    loop {
        let name = format!("{prefix}{begun}.test");
        match look_ups.join(&name, asker, most, &Handle::current(), &|_| pending()) {
            Ok(_) => begun += 1,
            Err(why) => return (begun, why),
        }
    }
}

fn used(look_ups: &Arc<LookUps>, asker: &Asker) -> usize {
    look_ups.state.lock().ledger.used_by(&asker.holder.group, asker.holder.id).own
}

#[tokio::test]
async fn whatever_some_clients_ask_another_one_gets_its_share() {
    let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
    let mut greedy = client(&holders, 1);
    assert_eq!(fill(&look_ups, &mut greedy, 256, "a-"), (256, Busy::Client), "alone it may have all");
    let mut second = client(&holders, 2);
    assert_eq!(fill(&look_ups, &mut second, 256, "b-"), (128, Busy::Client));
    assert_eq!((used(&look_ups, &greedy), look_ups.under_way()), (128, 256));
    // Nobody takes the others' any more: they have their shares.
    assert_eq!(fill(&look_ups, &mut greedy, 256, "c-"), (0, Busy::Client));
}

#[tokio::test]
async fn a_hundred_clients_of_one_namespace_take_nothing_from_another_one() {
    use crate::domain::pods::{Clients, NodePods, Pod};
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
    let pods = (0..=100).map(|number| (number.to_string().into(), Arc::new(pod(number)))).collect();
    let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
    holders.tell(Arc::new(Clients::new(&NodePods { pods, known: true, ..NodePods::default() })));
    let mut mob: Vec<Asker> = (1..=100).map(|number| client(&holders, number)).collect();
    for (number, asker) in mob.iter_mut().enumerate() {
        fill(&look_ups, asker, 256, &format!("m{number}-"));
    }
    assert_eq!(look_ups.under_way(), 256);
    let mut honest = client(&holders, 0);
    assert_eq!(fill(&look_ups, &mut honest, 256, "h-").0, 128);
    for (number, asker) in mob.iter_mut().enumerate() {
        fill(&look_ups, asker, 256, &format!("n{number}-"));
    }
    assert_eq!(used(&look_ups, &honest), 128);
}

#[tokio::test]
async fn the_oldest_look_up_is_given_up_and_who_waited_for_it_asks_again() {
    let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
    let (mut greedy, mut other, control) = (client(&holders, 1), client(&holders, 2), Handle::current());
    let asked = Arc::new(AtomicUsize::new(0));
    let (own, second) = (asked.clone(), asked.clone());
    // The first one never answers, and whoever asks again is told something.
    let ask = move |_: Box<str>| {
        let is_first = own.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if is_first {
                pending::<()>().await;
            }
            Err(DnsError::NoSuchName)
        }
    };
    let all = look_ups.clone();
    let first =
        tokio::spawn(async move { all.answer("a.test", &mut greedy, 2, &Handle::current(), ask).await });
    while look_ups.under_way() == 0 {
        tokio::task::yield_now().await;
    }
    let (all, mut waits) = (look_ups.clone(), client(&holders, 3));
    let joined = tokio::spawn(async move {
        let ask = |_: Box<str>| async { Err(DnsError::NoAddress) };
        all.answer("a.test", &mut waits, 2, &Handle::current(), ask).await
    });
    tokio::task::yield_now().await;
    let mut again = client(&holders, 1);
    assert!(look_ups.join("b.test", &mut again, 2, &control, &|_| pending()).is_ok());
    assert!(look_ups.join("c.test", &mut other, 2, &control, &|_| pending()).is_ok());
    assert_eq!(first.await.unwrap(), Err(Busy::Client));
    assert_eq!(second.load(Ordering::SeqCst), 1);
    // It has none yet, but neither has any other one more than one.
    assert!(matches!(joined.await.unwrap(), Err(Busy::Node) | Ok(Err(DnsError::NoAddress))));
    assert_eq!(look_ups.refused[Busy::Client as usize].value(), 1);
}

#[tokio::test]
async fn the_bound_on_all_holds_and_what_is_over_makes_room() {
    let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
    let client = |last| client(&holders, last);
    let (told, wait) = watch::channel(false);
    let ask = |_: Box<str>| {
        let mut wait = wait.clone();
        async move {
            let _ = wait.wait_for(|is_told| *is_told).await;
            Err(DnsError::NoSuchName)
        }
    };
    let control = Handle::current();
    let (mut first, _) = look_ups.join("a.test", &mut client(1), 1, &control, &ask).unwrap();
    let second = look_ups.join("a.test", &mut client(2), 1, &control, &|_| pending());
    assert!(second.is_ok(), "it waits for the same");
    let third = look_ups.join("b.test", &mut client(2), 1, &control, &|_| pending());
    assert_eq!(third.unwrap_err(), Busy::Node);
    told.send(true).unwrap();
    let answer = first.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(answer, Some(Err(DnsError::NoSuchName)));
    assert_eq!(second.unwrap().0.borrow().clone(), Some(Err(DnsError::NoSuchName)));
    assert_eq!((look_ups.under_way(), look_ups.state.lock().ledger.used()), (0, 0));
}

#[tokio::test]
async fn a_request_may_ask_only_so_much_and_waits_for_others_as_it_likes() {
    let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
    fill(&look_ups, &mut client(&holders, 1), 16, "other");
    let mut asker = Asker::new(holders.of([10, 1, 0, 2].into(), None), None, 3);
    let control = Handle::current();
    let mut join = |name: &str| look_ups.join(name, &mut asker, 256, &control, &|_| pending()).map(drop);
    assert_eq!(join("a.test"), Ok(()));
    assert_eq!(join("b.test"), Err(Busy::Request));
    assert_eq!(join("other0.test"), Ok(()));
    assert!(asker.is_spent());
}

#[tokio::test]
async fn an_answer_reaches_everybody_who_waits_for_it() {
    let (look_ups, holders) = (Arc::new(LookUps::default()), Holders::default());
    let answer = Answer { addresses: vec![[10, 1, 0, 9].into()], valid_until: Instant::now() };
    let slow = |_: Box<str>| {
        let given = answer.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(given)
        }
    };
    let control = Handle::current();
    let (mut one, mut two) = (client(&holders, 1), client(&holders, 2));
    let (first, second) = tokio::join!(
        look_ups.answer("a.test", &mut one, 1, &control, slow),
        look_ups.answer("a.test", &mut two, 1, &control, |_| pending()),
    );
    assert_eq!((first, second), (Ok(Ok(answer.clone())), Ok(Ok(answer))));
}
