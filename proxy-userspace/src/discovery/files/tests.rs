//! A real folder, changed in the ways people and kubelet change folders.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::catalog::{Namer, Service, ServiceKey};

/// Nothing here takes this long unless it never happens.
const DEADLINE: Duration = Duration::from_secs(20);

struct Watch {
    folder: TempDir,
    watched: Watched,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn no_names(_: &str) -> io::Result<Vec<IpAddr>> {
    Err(io::Error::other("no names in this test"))
}

/// Watches a folder of `files`, by name and content.
fn watch(files: &[(&str, &str)]) -> Watch {
    watch_with(files, no_names)
}

fn watch_with(files: &[(&str, &str)], look_up: lookup::LookUp) -> Watch {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let shutdown = CancellationToken::new();
    let path = folder.path().to_owned();
    let (watched, run) = run::start(path, look_up, shutdown.clone()).unwrap();
    Watch { folder, watched, shutdown, task: tokio::spawn(run) }
}

impl Watch {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn service(&self, key: &ServiceKey) -> Option<Arc<Service>> {
        self.watched.catalog.borrow().services.get(key).cloned()
    }

    fn fs(&self, name: &str) -> Option<Vec<String>> {
        self.service(&fs_key(name)).map(|service| endpoints(&service))
    }

    fn k8s(&self, name: &str) -> Option<Vec<String>> {
        self.service(&k8s_key(name)).map(|service| endpoints(&service))
    }

    /// Waits until the catalog is as `holds` says.
    async fn until(&mut self, what: &str, holds: impl Fn(&Catalog) -> bool) {
        let waited = timeout(DEADLINE, self.watched.catalog.wait_for(|catalog| holds(catalog))).await;
        waited.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
    }

    /// Waits until the problems are as `holds` says, and shows them, without the folder.
    async fn problems_until(&mut self, holds: impl Fn(&[FileProblem]) -> bool) -> Vec<String> {
        let mut watched = self.watched.problems.clone();
        let waited = timeout(DEADLINE, watched.wait_for(|problems| holds(problems))).await;
        assert!(waited.is_ok(), "never so: {:?}", self.problems());
        self.problems()
    }

    fn problems(&self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        self.watched
            .problems
            .borrow()
            .iter()
            .map(|problem| problem.to_string().replace(&folder, ""))
            .collect()
    }
}

fn fs_key(name: &str) -> ServiceKey {
    ServiceKey { namer: Namer::Fs, namespace: "".into(), name: name.into() }
}

fn k8s_key(name: &str) -> ServiceKey {
    ServiceKey { namer: Namer::K8s, namespace: "default".into(), name: name.into() }
}

/// The endpoints of a service's first port.
fn endpoints(service: &Service) -> Vec<String> {
    service.ports[0].endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn count(catalog: &Catalog, key: &ServiceKey) -> usize {
    catalog.services.get(key).map_or(0, |service| service.ports[0].endpoints.len())
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: { name: world }\nspec:\n  clusterIP: 10.96.0.11\n  \
                       ports: [{ name: http, port: 80 }]\n";

fn slice(name: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels: {{ \
         kubernetes.io/service-name: world }}\naddressType: IPv4\nports: [{{ name: http, port: 8080 }}]\nendpoints:\n\
         - addresses: [{address}]\n"
    )
}

#[tokio::test]
async fn the_first_catalog_is_there_at_once_and_says_that_it_was_written() {
    let all =
        [SERVICE, "---\n", &slice("world-a", "10.1.0.1"), "---\n", &slice("world-b", "10.1.0.2")].concat();
    let watch = watch(&[("hello", "10.0.0.1 8081\n10.0.0.2 8081 * 3\n"), ("world.yaml", &all)]);
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.1:8081", "10.0.0.2:8081"]);
    assert_eq!(watch.k8s("world").unwrap(), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    let hello = watch.service(&fs_key("hello")).unwrap();
    assert!(hello.written && hello.addresses.is_empty());
    assert_eq!((hello.ports[0].number, hello.ports[0].endpoints[1].weight), (0, 3.0));
    let world = watch.service(&k8s_key("world")).unwrap();
    assert!(world.written && world.addresses == [IpAddr::from([10, 96, 0, 11])]);
    assert_eq!(watch.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn an_added_line_is_an_added_endpoint_within_a_second_and_other_services_stay_the_same() {
    let mut watch =
        watch(&[("hello", "10.0.0.1 8081\n"), ("other", "10.0.0.9 80\n"), ("world.yaml", SERVICE)]);
    let before = Arc::clone(&watch.watched.catalog.borrow());
    sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    watch.append("hello", "10.0.0.2 8081\n");
    watch.until("a second endpoint", |catalog| count(catalog, &fs_key("hello")) == 2).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for key in [fs_key("other"), k8s_key("world")] {
        assert!(Arc::ptr_eq(&before.services[&key], &watch.service(&key).unwrap()), "{key}");
    }
    assert!(!Arc::ptr_eq(&before.services[&fs_key("hello")], &watch.service(&fs_key("hello")).unwrap()));
}

#[tokio::test]
async fn a_file_written_again_with_the_same_content_is_no_new_catalog() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n")]);
    watch.watched.catalog.mark_unchanged();
    watch.write("hello", "# the same\n10.0.0.1 80\n");
    watch.write("marker", "10.0.0.3 80\n");
    watch.until("the marker", |catalog| count(catalog, &fs_key("marker")) == 1).await;
    let before = watch.service(&fs_key("hello")).unwrap();
    watch.write("hello", "10.0.0.1 80 # the same again\n");
    watch.write("marker", "10.0.0.3 80\n10.0.0.4 80\n");
    watch.until("the marker again", |catalog| count(catalog, &fs_key("marker")) == 2).await;
    assert!(Arc::ptr_eq(&before, &watch.service(&fs_key("hello")).unwrap()));
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_state_and_is_reported_until_it_is_repaired() {
    let mut watch = watch(&[
        ("hello", "10.0.0.1 8081\n"),
        ("world.yaml", &[SERVICE, "---\n", &slice("a", "10.1.0.1")].concat()),
    ]);
    watch.write("hello", "10.0.0.1 8081\n10.0.0.2 eighty\n");
    watch.write("world.yaml", "kind: Service\n  nonsense: [\n");
    let problems = watch.problems_until(|problems| problems.len() == 2).await;
    assert_eq!(problems[0], "hello:2:10: `eighty` is not a port (a number from 1 to 65535)");
    assert!(problems[1].starts_with("world.yaml:2:"), "{problems:?}");
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.1:8081"]);
    assert_eq!(watch.k8s("world").unwrap(), ["10.1.0.1:8080"]);

    watch.write("hello", "10.0.0.3 8081\n");
    watch.write("world.yaml", &[SERVICE, "---\n", &slice("a", "10.1.0.3")].concat());
    watch.problems_until(<[_]>::is_empty).await;
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.3:8081"]);
    assert_eq!(watch.k8s("world").unwrap(), ["10.1.0.3:8080"]);
}

#[tokio::test]
async fn a_file_that_never_made_sense_is_no_service() {
    let watch = watch(&[("README", "These are the services of this node.\n"), ("empty", "")]);
    assert_eq!(watch.fs("README"), None);
    assert_eq!(
        watch.fs("empty").unwrap(),
        Vec::<String>::new(),
        "an empty file is a service without endpoints"
    );
    assert_eq!(watch.problems().len(), 1);
}

#[tokio::test]
async fn a_removed_file_removes_its_services() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n"), ("world.yaml", SERVICE), ("stays", "10.0.0.2 80\n")]);
    fs::remove_file(watch.path("hello")).unwrap();
    fs::remove_file(watch.path("world.yaml")).unwrap();
    watch.until("only one", |catalog| catalog.services.keys().eq([&fs_key("stays")])).await;
}

#[tokio::test]
async fn a_file_being_written_never_shows_half_a_service() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n10.0.0.2 80\n")]);
    let mut seen = watch.watched.catalog.clone();
    let observer = tokio::spawn(async move {
        let mut fewest = usize::MAX;
        loop {
            fewest = fewest.min(count(&seen.borrow_and_update(), &fs_key("hello")));
            if fewest < 2 || seen.changed().await.is_err() || count(&seen.borrow(), &fs_key("hello")) == 4 {
                return fewest;
            }
        }
    });
    let mut file = fs::File::create(watch.path("hello")).unwrap();
    for line in 1..=4 {
        file.write_all(format!("10.0.0.{line} 80\n").as_bytes()).unwrap();
        // Longer than the debounce and, all together, than two regular looks.
        sleep(Duration::from_millis(700)).await;
    }
    drop(file);
    watch.until("all four", |catalog| count(catalog, &fs_key("hello")) == 4).await;
    assert_eq!(observer.await.unwrap(), 2);
}

#[tokio::test]
async fn a_file_put_in_the_others_place_is_taken_at_once() {
    let mut watch = watch(&[("hello", "10.0.0.1 80\n")]);
    watch.write(".hello.new", "10.0.0.1 80\n10.0.0.2 80\n");
    fs::rename(watch.path(".hello.new"), watch.path("hello")).unwrap();
    watch.until("two", |catalog| count(catalog, &fs_key("hello")) == 2).await;
}

#[tokio::test]
async fn a_config_map_changes_all_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let version = |number: u8| {
        let path = folder.path().join(format!("..version{number}"));
        fs::create_dir(&path).unwrap();
        for name in ["hello", "world"] {
            fs::write(path.join(name), format!("10.0.0.{number} 80\n")).unwrap();
        }
        symlink(format!("..version{number}"), folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    };
    version(1);
    for name in ["hello", "world"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).unwrap();
    }
    let shutdown = CancellationToken::new();
    let (mut watched, run) = run::start(folder.path().to_owned(), no_names, shutdown.clone()).unwrap();
    tokio::spawn(run);
    assert_eq!(watched.catalog.borrow_and_update().services.len(), 2);
    version(2);
    timeout(DEADLINE, watched.catalog.changed()).await.unwrap().unwrap();
    let catalog = watched.catalog.borrow_and_update().clone();
    assert_eq!(catalog.services.len(), 2);
    for service in catalog.services.values() {
        assert_eq!(endpoints(service), ["10.0.0.2:80"]);
    }
    shutdown.cancel();
}

#[tokio::test]
async fn a_change_behind_a_link_is_found_by_looking() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "10.0.0.1 80\n").unwrap();
    let mut watch = watch(&[]);
    symlink(&target, watch.path("hello")).unwrap();
    watch.until("the link", |catalog| count(catalog, &fs_key("hello")) == 1).await;
    fs::write(&target, "10.0.0.1 80\n10.0.0.2 80\n").unwrap();
    watch.until("the change behind it", |catalog| count(catalog, &fs_key("hello")) == 2).await;
}

#[tokio::test]
async fn backups_and_other_strangers_are_no_services() {
    let stranger = "10.0.0.1 80\n";
    let mut files = vec![("hello", stranger)];
    files.extend(
        ["hello~", ".hello.swp", "hello.bak", "#hello#", ".hidden", "notes.txt"].map(|name| (name, stranger)),
    );
    let watch = watch(&files);
    fs::create_dir(watch.path("folder")).unwrap();
    let (catalog, problems) = read_files(watch.folder.path()).unwrap();
    assert!(catalog.services.keys().eq([&fs_key("hello")]), "{:?}", catalog.services.keys());
    assert_eq!(problems, Vec::new());
}

#[tokio::test]
async fn a_service_and_its_slices_may_be_in_different_files() {
    let mut watch = watch(&[("a.yaml", &slice("a", "10.1.0.1")), ("b.yml", SERVICE)]);
    assert_eq!(watch.k8s("world").unwrap(), ["10.1.0.1:8080"]);
    watch.write("c.yaml", &slice("c", "10.1.0.2"));
    watch.until("the other slice", |catalog| count(catalog, &k8s_key("world")) == 2).await;
    fs::remove_file(watch.path("b.yml")).unwrap();
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert_eq!(
        problems,
        [
            "a.yaml:1:1: EndpointSlice default/a: no file has Service default/world (without it, nothing leads here)"
        ]
    );
    assert_eq!(watch.k8s("world"), None);
}

#[tokio::test]
async fn of_two_definitions_the_one_in_the_first_file_counts() {
    let other = SERVICE.replace("10.96.0.11", "10.96.0.99");
    let watch = watch(&[("b.yaml", &other), ("a.yaml", SERVICE)]);
    let world = watch.service(&k8s_key("world")).unwrap();
    assert_eq!(world.addresses, [IpAddr::from([10, 96, 0, 11])]);
    assert_eq!(
        watch.problems(),
        ["b.yaml:1:1: Service default/world: also in a.yaml (the file whose name comes first counts)"]
    );
}

#[tokio::test]
async fn a_bad_object_stays_as_it_was_and_its_neighbours_change() {
    let text = |service: &str, address: &str| [service, "---\n", &slice("a", address)].concat();
    let mut watch = watch(&[("world.yaml", &text(SERVICE, "10.1.0.1"))]);
    watch.write("world.yaml", &text(&SERVICE.replace("port: 80", "port: 0"), "10.1.0.2"));
    watch
        .until("the neighbour", |catalog| {
            catalog
                .services
                .get(&k8s_key("world"))
                .is_some_and(|service| endpoints(service) == ["10.1.0.2:8080"])
        })
        .await;
    assert_eq!(
        watch.problems(),
        [
            "world.yaml:6:31: Service default/world: invalid value: integer `0`, expected a port number from 1 to 65535 \
          (this object is left as it last was)"
        ]
    );
    let alone = read_files(watch.folder.path()).unwrap().0;
    assert!(alone.services.is_empty(), "with no last good state there is nothing to keep");
}

fn answers(name: &str) -> io::Result<Vec<IpAddr>> {
    match name {
        "db.test" => Ok(vec![[10, 0, 0, 2].into(), [10, 0, 0, 1].into()]),
        _ => Err(io::Error::other("no such name")),
    }
}

#[tokio::test]
async fn a_host_name_stands_for_all_its_addresses() {
    let external = "apiVersion: v1\nkind: Service\nmetadata: { name: db }\nspec: { type: ExternalName, externalName: \
                    DB.test, ports: [{ port: 5432 }] }\n";
    let mut watch = watch_with(&[("db", "db.test 80 * 2\n"), ("db.yaml", external)], answers);
    assert_eq!(watch.fs("db").unwrap(), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(watch.k8s("db").unwrap(), ["10.0.0.1:5432", "10.0.0.2:5432"]);
    watch.write("db", "  nowhere.test 80\n10.0.0.3 80\n");
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert_eq!(problems, ["db:1:3: nowhere.test cannot be looked up: no such name"]);
    assert_eq!(watch.fs("db").unwrap(), ["10.0.0.3:80"]);
    watch.write("db", "db.test 81\n");
    watch.until("looked up anew", |catalog| count(catalog, &fs_key("db")) == 2).await;
}

#[tokio::test]
async fn a_folder_that_goes_keeps_its_services_and_one_that_comes_back_is_followed() {
    let mut watch = watch(&[]);
    let outer = watch.folder.path().to_owned();
    let inner = outer.join("services");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("hello"), "10.0.0.1 80\n").unwrap();
    let (watched, run) = run::start(inner.clone(), no_names, watch.shutdown.clone()).unwrap();
    watch.watched = watched;
    tokio::spawn(run);
    fs::rename(&inner, outer.join("gone")).unwrap();
    let problems = watch.problems_until(|problems| !problems.is_empty()).await;
    assert!(problems[0].starts_with("services: cannot be listed: No such file"), "{problems:?}");
    assert_eq!(watch.fs("hello").unwrap(), ["10.0.0.1:80"]);

    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("hello"), "10.0.0.2 80\n").unwrap();
    watch
        .until("the new folder's", |catalog| {
            catalog
                .services
                .get(&fs_key("hello"))
                .is_some_and(|service| endpoints(service) == ["10.0.0.2:80"])
        })
        .await;
    watch.problems_until(<[_]>::is_empty).await;
}

#[tokio::test]
async fn shutdown_ends_the_task() {
    let watch = watch(&[]);
    watch.shutdown.cancel();
    timeout(DEADLINE, watch.task).await.unwrap().unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let missing = Path::new("/nonexistent/services");
    let error = format!("{:#}", read_files(missing).unwrap_err());
    assert!(
        error.starts_with("the folder of service files, /nonexistent/services, cannot be listed: No such"),
        "{error}"
    );
    assert!(watch_files(missing.to_owned(), CancellationToken::new()).is_err());
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
