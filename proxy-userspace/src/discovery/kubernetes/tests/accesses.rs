//! Access to the server, and when it is set up again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

use crate::config::Kubernetes;
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::call;
use crate::discovery::kubernetes::failure::Failure;
use crate::discovery::kubernetes::resource::{Focus, Resource};

/// Writes a kubeconfig that is identified by its namespace.
fn write(path: &Path, namespace: &str) {
    write_for(path, "http://127.0.0.1:9", namespace);
}

/// Writes a kubeconfig for `server`.
fn write_for(path: &Path, server: &str, namespace: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters: [{{ name: it, cluster: {{ server: \"{server}\" }} }}]\n\
         contexts: [{{ name: it, context: {{ cluster: it, user: it, namespace: {namespace} }} }}]\nusers: [{{ name: it, user: {{}} }}]\n"
    );
    std::fs::write(path, text).unwrap();
}

/// Writes a kubeconfig whose user is the output of `command`, with `more` keys in its cluster.
fn write_exec(path: &Path, command: &str, more: &str) {
    let exec = format!(
        "{{ apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, {command:?}], interactiveMode: Never }}"
    );
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters: [{{ name: it, cluster: {{ server: \"http://127.0.0.1:9\"{more} }} }}]\n\
         contexts: [{{ name: it, context: {{ cluster: it, user: it }} }}]\nusers: [{{ name: it, user: {{ exec: {exec} }} }}]\n"
    );
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_plugin_that_takes_its_time_holds_up_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (path, go) = (folder.path().join("kubeconfig"), folder.path().join("go"));
    let credential =
        r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"it"}}"#;
    // It waits about 10 s for something that only this thread does.
    let wait = format!("for i in $(seq 200); do [ -e {} ] && break; sleep 0.05; done", go.display());
    write_exec(&path, &format!("{wait}; [ -e {} ] && echo '{credential}'", go.display()), "");
    let access = Access::new(Kubernetes { kubeconfig: Some(path), ..Kubernetes::default() }, Arc::default());
    let work = async {
        tokio::task::yield_now().await;
        std::fs::write(&go, "").unwrap();
    };
    let (client, ()) = tokio::join!(access.client(), work);
    assert!(client.is_ok(), "{:?}", client.err());
}

#[tokio::test]
async fn a_proxy_that_the_kubeconfig_names_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    write_exec(&path, "exit 1", ", proxy-url: \"http://127.0.0.1:3128\"");
    let access = Access::new(Kubernetes { kubeconfig: Some(path), ..Kubernetes::default() }, Arc::default());
    let Err(Failure::Misconfigured(why)) = access.client().await else { panic!("a client") };
    assert!(why.contains("proxy-url"), "{why}");
}

/// The client's namespace after these failures, when the kubeconfig changed before them.
async fn after(failures: &[Failure]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    write(&path, "old");
    let access =
        Access::new(Kubernetes { kubeconfig: Some(path.clone()), ..Kubernetes::default() }, Arc::default());
    assert_eq!(access.client().await.unwrap().default_namespace(), "old");
    write(&path, "new");
    for failure in failures {
        access.failed(failure).await;
    }
    access.client().await.unwrap().default_namespace().to_owned()
}

#[tokio::test]
async fn a_kubeconfig_is_read_anew_once_it_leads_nowhere() {
    let unreachable = || Failure::Unreachable("refused".to_owned());
    assert_eq!(after(&[]).await, "old");
    assert_eq!(after(&[unreachable()]).await, "old");
    assert_eq!(after(&vec![Failure::Refused(String::new()); 20]).await, "old");
    assert_eq!(after(&vec![unreachable(); 10]).await, "new");
    assert_eq!(after(&vec![Failure::Silent(Duration::ZERO); 10]).await, "new");
    assert_eq!(after(&[Failure::Unauthorized(String::new())]).await, "new");
}

#[tokio::test]
async fn a_server_that_was_reached_in_between_is_not_looked_up_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    write(&path, "old");
    let access =
        Access::new(Kubernetes { kubeconfig: Some(path.clone()), ..Kubernetes::default() }, Arc::default());
    access.client().await.unwrap();
    write(&path, "new");
    for _ in 0..50 {
        access.failed(&Failure::Unreachable(String::new())).await;
        access.reached();
    }
    assert_eq!(access.client().await.unwrap().default_namespace(), "old");
}

/// The result of a list at `server`.
async fn listed_at(server: &str) -> Failure {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    write_for(&path, server, "it");
    let access = Access::new(Kubernetes { kubeconfig: Some(path), ..Kubernetes::default() }, Arc::default());
    let request = Resource::Services.list(&Focus::default(), None);
    call::page(&access.client().await.unwrap(), request, Duration::from_secs(10)).await.unwrap_err()
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_hangs_up() {
    // A port that is bound but not listened on.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let nobody = listed_at(&format!("http://{}", taken.local_addr().unwrap())).await;
    assert!(matches!(nobody, Failure::Absent(_)), "{nobody:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs_up = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    for scheme in ["http", "https"] {
        let failure = listed_at(&format!("{scheme}://{hangs_up}")).await;
        assert!(matches!(failure, Failure::Unreachable(_)), "{scheme}: {failure:?}");
        assert!(failure.to_string().starts_with("the API server cannot be reached: "), "{failure}");
    }
}
