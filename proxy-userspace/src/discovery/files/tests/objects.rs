//! Kubernetes objects over several files.

use super::*;

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
    let alone = read_files(&Files::at(watch.folder.path().to_owned())).unwrap().0;
    assert!(alone.services.is_empty(), "with no last good state there is nothing to keep");
}

#[tokio::test]
async fn an_object_of_a_wrong_version_and_a_slice_without_its_label_stay_as_they_were() {
    let good = slice("a", "10.1.0.1");
    let mut watch = watch(&[("world.yaml", SERVICE), ("a.yaml", &good), ("marker", "10.0.0.9 80\n")]);
    assert_eq!(watch.k8s("world").unwrap(), ["10.1.0.1:8080"]);
    watch.write("world.yaml", &SERVICE.replace("apiVersion: v1", "apiVersion: v2"));
    watch.write("a.yaml", &good.replace("kubernetes.io/service-name", "service-name"));
    let problems = watch.problems_until(|problems| problems.len() == 2).await;
    assert!(problems[0].contains("no label says"), "{problems:?}");
    assert!(problems[1].contains("apiVersion `v2`"), "{problems:?}");
    assert_eq!(watch.k8s("world").unwrap(), ["10.1.0.1:8080"]);
}

#[tokio::test]
async fn pods_and_namespaces_are_told_of_as_they_change() {
    let pod = |uid: &str, divert: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web, namespace: shop, uid: {uid}, annotations: {{ weir.dev/divert: \
             {divert}, other: x }} }}\nspec: {{ containers: [] }}\n"
        )
    };
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { weir.dev/divert: disabled } }\n";
    let mut watch = watch(&[("pod.yaml", &pod("one", "enabled")), ("shop.yaml", namespace)]);
    assert_eq!(watch.problems(), [""; 0]);
    let told = watch.watched.node_pods.borrow_and_update().clone();
    assert_eq!(&*told.pods["one"].wishes["divert"], "enabled");
    assert_eq!(&*told.namespaces["shop"]["divert"], "disabled");
    // A file may write it without quotes, which YAML reads as a boolean.
    for (bare, text) in
        [("false", "false"), ("no", "no"), ("Off", "Off"), ("True", "true"), ("80", "80"), ("-1", "-1")]
    {
        watch.write("pod.yaml", &pod("one", bare));
        let said =
            |told: &Arc<NodePods>| told.pods.get("one").is_some_and(|it| &*it.wishes["divert"] == text);
        timeout(DEADLINE, watch.watched.node_pods.wait_for(said)).await.expect(bare).unwrap();
    }
    watch.write("pod.yaml", &pod("two", "disabled"));
    watch.write("shop.yaml", "");
    let gone = |told: &Arc<NodePods>| told.namespaces.is_empty() && !told.pods.contains_key("one");
    let told = timeout(DEADLINE, watch.watched.node_pods.wait_for(gone)).await.unwrap().unwrap().clone();
    assert_eq!(&*told.pods["two"].wishes["divert"], "disabled");
}
