//! A real folder, changed in the ways people and kubelet change folders.

mod changes;
mod folders;
mod names;
mod objects;

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::catalog::{Namer, Service, ServiceKey};

/// Only exceeded if something never happens.
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
    let (watched, run) = run::start(Files::at(path), look_up, shutdown.clone()).unwrap();
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

    /// Waits until the catalog satisfies `holds`.
    async fn until(&mut self, what: &str, holds: impl Fn(&Catalog) -> bool) {
        let waited = timeout(DEADLINE, self.watched.catalog.wait_for(|catalog| holds(catalog))).await;
        waited.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
    }

    /// Waits until the problems satisfy `holds`, and returns them without the folder.
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
async fn backups_and_other_strangers_are_no_services() {
    let stranger = "10.0.0.1 80\n";
    let mut files = vec![("hello", stranger)];
    files.extend(
        ["hello~", ".hello.swp", "hello.bak", "#hello#", ".hidden", "notes.txt"].map(|name| (name, stranger)),
    );
    let watch = watch(&files);
    fs::create_dir(watch.path("folder")).unwrap();
    let (catalog, problems) = read_files(&Files::at(watch.folder.path().to_owned())).unwrap();
    assert!(catalog.services.keys().eq([&fs_key("hello")]), "{:?}", catalog.services);
    assert_eq!(problems, Vec::new());
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
    let error = format!("{:#}", read_files(&Files::at(missing.to_owned())).unwrap_err());
    assert!(
        error.starts_with("the folder of service files, /nonexistent/services, cannot be listed: No such"),
        "{error}"
    );
    assert!(watch_files(Files::at(missing.to_owned()), CancellationToken::new()).is_err());
}
