//! The way to the server, and when it is looked up anew.

use std::path::Path;
use std::time::Duration;

use crate::config::Kubernetes;
use crate::discovery::kubernetes::access::Access;
use crate::discovery::kubernetes::failure::Failure;

/// A kubeconfig, told from others by its namespace.
fn write(path: &Path, namespace: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\nclusters: [{{ name: it, cluster: {{ server: \"http://127.0.0.1:9\" }} }}]\n\
         contexts: [{{ name: it, context: {{ cluster: it, user: it, namespace: {namespace} }} }}]\nusers: [{{ name: it, user: {{}} }}]\n"
    );
    std::fs::write(path, text).unwrap();
}

/// What the client is made of after these failures, the kubeconfig having become another before them.
async fn after(failures: &[Failure]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    write(&path, "old");
    let access = Access::new(Kubernetes { kubeconfig: Some(path.clone()), ..Kubernetes::default() });
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
    let access = Access::new(Kubernetes { kubeconfig: Some(path.clone()), ..Kubernetes::default() });
    access.client().await.unwrap();
    write(&path, "new");
    for _ in 0..50 {
        access.failed(&Failure::Unreachable(String::new())).await;
        access.reached();
    }
    assert_eq!(access.client().await.unwrap().default_namespace(), "old");
}
