//! Host names in service files.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn answers(name: &str) -> io::Result<Vec<IpAddr>> {
    match name {
        "db.test" => Ok(vec![[10, 0, 0, 2].into(), [10, 0, 0, 1].into()]),
        _ => Err(io::Error::other("no such name")),
    }
}

#[tokio::test]
async fn a_host_name_stands_for_all_its_addresses() {
    let mut watch = watch_with(&[("db", "db.test 80 * 2\n")], answers);
    assert_eq!(watch.fs("db").unwrap(), ["10.0.0.1:80", "10.0.0.2:80"]);
    watch.write("db", "  nowhere.test 80\n10.0.0.3 80\n");
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert_eq!(problems, ["db:1:3: nowhere.test cannot be looked up: no such name"]);
    assert_eq!(watch.fs("db").unwrap(), ["10.0.0.3:80"]);
    watch.write("db", "db.test 81\n");
    watch.until("looked up anew", |catalog| count(catalog, &fs_key("db")) == 2).await;
}

static HANGING: AtomicBool = AtomicBool::new(false);

fn hangs_once(_: &str) -> io::Result<Vec<IpAddr>> {
    if !HANGING.swap(true, Ordering::SeqCst) {
        std::thread::sleep(Duration::from_secs(3));
    }
    Ok(vec![[10, 0, 0, 1].into()])
}

#[tokio::test]
async fn a_resolver_that_hangs_delays_the_first_catalog_by_a_second_at_most() {
    let started = Instant::now();
    let watch = watch_with(&[("slow", "slow.test 80\n"), ("hello", "10.0.0.1 80\n")], hangs_once);
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    assert_eq!(watch.fs("hello").unwrap().len(), 1);
    assert_eq!(watch.problems(), ["slow:1:1: slow.test cannot be looked up: no answer in time"]);
}
