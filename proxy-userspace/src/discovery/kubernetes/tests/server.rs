//! A complete follower against a scripted server, byte by byte.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Kubernetes;
use crate::discovery::kubernetes::{Cluster, Health, Resource};
use crate::domain::catalog::Catalog;

/// The response for a request: by its request line and the number of earlier requests for its path.
type Script = fn(&str, usize) -> Answer;

enum Answer {
    /// A complete response.
    Whole(&'static str, String),
    /// Lines of a watch, which stays open.
    Open(Vec<String>),
    /// Nothing at all.
    Hang,
}

fn serve(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lists: Arc<AtomicUsize> = Arc::default();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lists = lists.clone();
            std::thread::spawn(move || answer(stream, script, &lists));
        }
    });
    address
}

fn answer(stream: TcpStream, script: Script, slices: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let is_slices = request.contains("endpointslices");
        let before = if is_slices { slices.fetch_add(1, Ordering::SeqCst) } else { 0 };
        match script(&request, before) {
            Answer::Whole(status, body) => {
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
            }
            Answer::Open(lines) => {
                write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
                for line in lines {
                    // In two writes: a line may span several reads.
                    let (one, two) = line.split_at(line.len() / 2);
                    write!(stream, "{:x}\r\n{one}\r\n", one.len()).ok()?;
                    stream.flush().ok()?;
                    write!(stream, "{:x}\r\n{two}\n\r\n", two.len() + 1).ok()?;
                }
                let _ = reader.read_line(&mut String::new());
                return None;
            }
            Answer::Hang => {
                let _ = reader.read_line(&mut String::new());
                return None;
            }
        }
    }
}

/// Follows `script` until the catalog is as expected, and everything else has settled.
async fn follow(script: Script, expected: fn(&Catalog) -> bool, settled: fn(&Health) -> bool) -> Arc<Health> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let address = serve(script);
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters: [{{ name: it, cluster: {{ server: \"http://{address}\" }} }}]\n\
         contexts: [{{ name: it, context: {{ cluster: it, user: it }} }}]\nusers: [{{ name: it, user: {{}} }}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let settings = Kubernetes {
        kubeconfig: Some(path),
        node: Some("n1".to_owned()),
        jitter: Duration::ZERO,
        read_timeout: Duration::from_millis(300),
        ..Kubernetes::default()
    };
    let shutdown = CancellationToken::new();
    let cluster = Cluster::new(settings, shutdown.clone());
    let mut catalogs = cluster.catalog();
    let following = tokio::spawn(cluster.follow());
    let found = timeout(Duration::from_secs(10), catalogs.wait_for(|catalog| expected(catalog))).await;
    // The value borrows from the channel and blocks further updates.
    let found = found.map(drop);
    assert!(found.is_ok(), "{:?}", cluster.health().waits_for());
    let (health, mut changes) = (cluster.health(), cluster.health().changes());
    let all = async {
        while !settled(&health) {
            changes.changed().await.unwrap();
        }
    };
    assert!(timeout(Duration::from_secs(10), all).await.is_ok(), "{:?}", health.off());
    shutdown.cancel();
    following.await.unwrap().unwrap();
    cluster.health()
}

fn list(version: u64, next: &str, items: &[&str]) -> Answer {
    let items = items.join(",");
    let body = format!(
        "{{\"metadata\":{{\"resourceVersion\":\"{version}\",\"continue\":\"{next}\"}},\"items\":[{items}]}}"
    );
    Answer::Whole("200 OK", body)
}

/// A cluster with only this node.
fn empty(request: &str) -> Answer {
    match request {
        it if it.contains("watch=true") => Answer::Open(Vec::new()),
        it if it.contains("/nodes") => list(5, "", &[r#"{"metadata":{"name":"n1"}}"#]),
        _ => list(5, "", &[]),
    }
}

const SERVICE: &str = r#"{"metadata":{"name":"a","resourceVersion":"3"},"spec":{"ports":[{"port":80}]}}"#;
const BAD: &str =
    r#"{"metadata":{"name":"bad","namespace":"x","resourceVersion":"3"},"spec":{"ports":[{"port":0}]}}"#;

fn slice(version: u64, address: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"a-1","resourceVersion":"{version}","labels":{{"kubernetes.io/service-name":"a"}}}},"endpoints":[{{"addresses":["{address}"]}}],"ports":[{{"port":80}}]}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}")
}

fn services(request: &str) -> Answer {
    if request.contains("watch=true") { Answer::Open(Vec::new()) } else { list(5, "", &[BAD, SERVICE]) }
}

fn has(catalog: &Catalog, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    let ports = catalog.services.values().flat_map(|it| &it.ports);
    ports.flat_map(|it| it.endpoints.iter()).any(|it| it.address == address)
}

#[tokio::test]
async fn pages_make_a_list_and_an_event_comes_after_it() {
    let health = follow(
        |request, _| match request {
            it if it.contains("/services") => services(it),
            it if it.contains("endpointslices") && it.contains("watch=true") => Answer::Open(vec![
                event("BOOKMARK", r#"{"metadata":{"resourceVersion":"6"}}"#),
                event("MODIFIED", &slice(7, "10.1.0.2")),
            ]),
            it if it.contains("endpointslices") && it.contains("continue=more") => {
                list(5, "", &[&slice(4, "10.1.0.1")])
            }
            it if it.contains("endpointslices") => list(5, "more", &[]),
            it => empty(it),
        },
        |catalog| has(catalog, "10.1.0.2:80"),
        |_| true,
    )
    .await;
    assert_eq!(health.problems().len(), 1, "{:?}", health.problems());
    assert!(health.problems()[0].starts_with("services x/bad: ignored: "), "{:?}", health.problems());
    assert_eq!((health.waits_for(), health.off()), (None, None));
}

#[tokio::test]
async fn events_out_of_order_are_a_reason_to_list() {
    let health = follow(
        |request, before| match request {
            it if it.contains("/services") => services(it),
            it if it.contains("endpointslices") && it.contains("watch=true") => Answer::Open(vec![
                event("MODIFIED", &slice(9, "10.1.0.1")),
                event("MODIFIED", &slice(8, "10.1.0.9")),
            ]),
            it if it.contains("endpointslices") => match before {
                0 => list(5, "", &[]),
                _ => list(9, "", &[&slice(9, "10.1.0.2")]),
            },
            it => empty(it),
        },
        |catalog| has(catalog, "10.1.0.2:80"),
        |_| true,
    )
    .await;
    assert!(health.counts[Resource::Slices.index()].lists.value() >= 2);
}

#[tokio::test]
async fn a_continuation_that_expired_begins_the_list_anew_and_a_hang_is_noticed() {
    let health = follow(
        |request, before| match request {
            it if it.contains("/services") => services(it),
            it if it.contains("endpointslices") && it.contains("watch=true") => Answer::Open(Vec::new()),
            it if it.contains("continue=old") => {
                Answer::Whole("410 Gone", "{\"kind\":\"Status\",\"code\":410}".to_owned())
            }
            it if it.contains("endpointslices") => match before {
                0 => list(5, "old", &[&slice(4, "10.1.0.1")]),
                2 => Answer::Hang,
                _ => list(6, "", &[&slice(4, "10.1.0.1")]),
            },
            it => empty(it),
        },
        |catalog| has(catalog, "10.1.0.1:80"),
        |_| true,
    )
    .await;
    let failures = &health.counts[Resource::Slices.index()].failures;
    assert_eq!((failures[0].value(), failures[6].value()), (1, 1), "gone and silent");
}

#[tokio::test]
async fn without_permission_for_pods_services_are_known_and_it_is_said() {
    let health = follow(
        |request, _| match request {
            it if it.contains("/services") => services(it),
            it if it.contains("/pods") => Answer::Whole(
                "403 Forbidden",
                "{\"kind\":\"Status\",\"code\":403,\"message\":\"no\"}".to_owned(),
            ),
            it if it.contains("endpointslices") && !it.contains("watch=true") => {
                list(6, "", &[&slice(4, "10.1.0.1")])
            }
            it => empty(it),
        },
        |catalog| has(catalog, "10.1.0.1:80"),
        |health| health.off().is_some(),
    )
    .await;
    assert_eq!(health.waits_for(), None);
    let off = health.off().unwrap_or_default();
    assert!(off.contains("the enrolment of pods is off"), "{off}");
}

#[tokio::test]
async fn without_permission_for_namespaces_pods_are_told_of_all_the_same() {
    let health = follow(
        |request, _| match request {
            it if it.contains("/namespaces") => {
                Answer::Whole("403 Forbidden", "{\"kind\":\"Status\",\"code\":403}".to_owned())
            }
            it if it.contains("/pods") && !it.contains("watch=true") => {
                list(5, "", &[r#"{"metadata":{"name":"web-0","uid":"1"}}"#])
            }
            it => empty(it),
        },
        |_| true,
        |health| health.status(Resource::Pods).known,
    )
    .await;
    assert!(!health.status(Resource::Namespaces).known);
}

#[tokio::test]
async fn a_list_whose_second_page_fails_is_not_told_of() {
    let health = follow(
        |request, before| match request {
            it if it.contains("/services") => services(it),
            it if it.contains("endpointslices") && it.contains("watch=true") => match before {
                1 => Answer::Open(vec![event("ERROR", r#"{"kind":"Status","code":410}"#)]),
                _ => Answer::Open(Vec::new()),
            },
            it if it.contains("continue=more") => Answer::Whole("500 Internal Server Error", String::new()),
            it if it.contains("endpointslices") => match before {
                0 => list(5, "", &[&slice(4, "10.1.0.1")]),
                // A page of a list that never completes is out of date.
                2 => list(6, "more", &[&slice(3, "10.1.0.66")]),
                _ => list(7, "", &[&slice(7, "10.1.0.2")]),
            },
            it => empty(it),
        },
        |catalog| {
            assert!(!has(catalog, "10.1.0.66:80"), "half a list was told of");
            has(catalog, "10.1.0.2:80")
        },
        |_| true,
    )
    .await;
    assert_eq!(health.waits_for(), None);
}
