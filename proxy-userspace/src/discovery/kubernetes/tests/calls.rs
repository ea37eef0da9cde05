//! Responses and events, and their meaning.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::discovery::kubernetes::call::Page;
use crate::discovery::kubernetes::failure::Failure;
use crate::discovery::kubernetes::resource::{Focus, Object, Resource};

fn status(code: u16, extra: Value) -> Value {
    let mut status = json!({ "kind": "Status", "status": "Failure", "message": "why", "code": code });
    status.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    status
}

#[test]
fn an_answer_that_is_no_success_says_whose_fault_it_is() {
    let why = || "why".to_owned();
    let too_large =
        json!({ "details": { "causes": [{ "reason": "ResourceVersionTooLarge" }], "retryAfterSeconds": 1 } });
    for (code, body, expected) in [
        (401, status(401, json!({})), Failure::Unauthorized(why())),
        (403, status(403, json!({})), Failure::Forbidden(why())),
        (410, status(410, json!({ "reason": "Expired" })), Failure::Gone),
        (410, json!("no Status"), Failure::Gone),
        (429, status(429, json!({})), Failure::Throttled(None)),
        (
            429,
            status(429, json!({ "details": { "retryAfterSeconds": 3 } })),
            Failure::Throttled(Some(Duration::from_secs(3))),
        ),
        (500, status(500, json!({})), Failure::Refused("500: why".to_owned())),
        (503, Value::Null, Failure::Refused("503: status 503".to_owned())),
        (504, status(504, too_large), Failure::Gone),
    ] {
        let of = Failure::of_answer(
            StatusCode::from_u16(code).unwrap(),
            &HeaderMap::new(),
            body.to_string().as_bytes(),
        );
        assert_eq!(of, expected, "{body}");
        assert!(!of.to_string().is_empty() && of.kind() < Failure::KINDS.len());
    }
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, "7".parse().unwrap())]);
    let of = Failure::of_answer(StatusCode::TOO_MANY_REQUESTS, &headers, b"");
    assert_eq!(of, Failure::Throttled(Some(Duration::from_secs(7))));
    let of = Failure::of_answer(StatusCode::SERVICE_UNAVAILABLE, &headers, b"");
    assert_eq!(of, Failure::Throttled(Some(Duration::from_secs(7))));
    assert_eq!(Failure::of_event(status(410, json!({}))), Failure::Gone);
    assert_eq!(Failure::of_event(json!(7)), Failure::Refused("500: status 500".to_owned()));
}

#[test]
fn what_is_asked_for_names_the_node_and_no_more_than_is_needed() {
    let target = |request: http::Request<kube::client::Body>| request.uri().to_string();
    assert_eq!(target(Resource::Services.list(&n1(), None)), "/api/v1/services?limit=500");
    assert_eq!(
        target(Resource::Pods.list(&n1(), Some("a/b="))),
        "/api/v1/pods?limit=500&continue=a%2Fb%3D&fieldSelector=spec.nodeName%3Dn1"
    );
    assert_eq!(
        target(Resource::Node.watch(&n1(), "7", 300)),
        "/api/v1/nodes?watch=true&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=7\
         &fieldSelector=metadata.name%3Dn1"
    );
    assert_eq!(target(Resource::Nodes.list(&n1(), None)), "/api/v1/nodes?limit=1", "to count them");
    assert_eq!(target(Resource::Nodes.list(&n1(), Some("a"))), "/api/v1/nodes?limit=50&continue=a");
    let slices = target(Resource::Slices.watch(&n1(), "7", 300));
    assert!(slices.starts_with("/apis/discovery.k8s.io/v1/endpointslices?watch=true"), "{slices}");
    for resource in Resource::ALL {
        let first = |request: http::Request<kube::client::Body>| {
            let accept = request.headers()[http::header::ACCEPT].to_str().unwrap().to_owned();
            accept.split(',').next().unwrap().to_owned()
        };
        let of = |form| format!("application/json;as={form};g=meta.k8s.io;v=v1");
        let (list, event) = match resource {
            Resource::Namespaces | Resource::Node => {
                (of("PartialObjectMetadataList"), of("PartialObjectMetadata"))
            }
            _ => ("application/json".to_owned(), "application/json".to_owned()),
        };
        let agent = resource.list(&n1(), None).headers()[http::header::USER_AGENT].clone();
        assert!(agent.to_str().unwrap().starts_with("weir/"), "who asks, for the server's audit: {agent:?}");
        assert_eq!(first(resource.list(&n1(), None)), list, "{resource}");
        assert_eq!(first(resource.watch(&n1(), "7", 300)), event, "{resource}");
    }
}

fn n1() -> Focus {
    Focus { node: "n1".into(), ..Focus::default() }
}

#[test]
fn ingresses_are_asked_for_in_the_one_namespace_that_is_wanted() {
    let target = |request: http::Request<kube::client::Body>| request.uri().to_string();
    let all = "/apis/networking.k8s.io/v1/ingresses?limit=500";
    assert_eq!(target(Resource::Ingresses.list(&n1(), None)), all);
    let shop = Focus { namespace: Some("shop".into()), ..Focus::default() };
    let of_one = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses?limit=500";
    assert_eq!(target(Resource::Ingresses.list(&shop, None)), of_one);
}

#[test]
fn real_objects_are_read_for_what_matters_in_them() {
    let object = json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": { "name": "kubernetes", "namespace": "default", "resourceVersion": "7",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
            "managedFields": [{ "manager": "kube-apiserver", "fieldsV1": { "f:metadata": {} } }] },
        "spec": { "ports": [{ "name": "https", "protocol": "TCP", "port": 443, "targetPort": 6443 }],
            "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"], "type": "ClusterIP", "sessionAffinity": "None",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster" },
        "status": { "loadBalancer": {} },
    });
    assert!(matches!(Resource::Services.decode(object.clone()), Ok(Object::Service(_))));
    assert!(
        Resource::Slices.decode(object.clone()).is_ok_and(|it| it.mistakes().is_empty()),
        "a slice of nothing"
    );
    let Ok(Object::Node(node)) = Resource::Node.decode(json!({
        "kind": "PartialObjectMetadata",
        "metadata": { "name": "n1", "labels": { "topology.kubernetes.io/zone": "a", "x": "y" } },
    })) else {
        panic!("no node")
    };
    assert_eq!(node.zone(), Some("a"));
    for absurd in [json!(7), json!({}), json!({ "metadata": 7 }), json!({ "metadata": { "name": 7 } })] {
        for resource in Resource::ALL {
            assert!(resource.decode(absurd.clone()).is_err(), "{resource} {absurd}");
        }
    }
    let mut wished = object;
    wished["metadata"]["annotations"] = json!({ "weir.dev/skip-ports": "http" });
    assert_eq!(Resource::Services.decode(wished).unwrap().mistakes().len(), 1);
}

#[test]
fn a_page_takes_no_more_memory_than_its_text() {
    let slice =
        json!({ "metadata": { "name": "a", "labels": {} }, "endpoints": [{ "addresses": ["10.1.0.1"] }] });
    let body = json!({ "metadata": { "resourceVersion": "7" }, "items": [slice, 7, null] }).to_string();
    let page = Page::from_body(body.as_bytes()).unwrap();
    let items = page.items.unwrap();
    assert_eq!(items.len(), 3);
    for item in items {
        assert!(body.as_bytes().as_ptr_range().contains(&item.get().as_ptr()), "a copy of {item}");
    }
    for absent in
        [r#"{"metadata":{"resourceVersion":"7"},"items":null}"#, r#"{"metadata":{"resourceVersion":"7"}}"#]
    {
        assert!(Page::from_body(absent.as_bytes()).unwrap().items.is_none());
    }
    for garbage in ["", "{}", r#"{"metadata":{"resourceVersion":"7"},"items":[{]}"#] {
        assert!(matches!(Page::from_body(garbage.as_bytes()), Err(Failure::Garbage(_))), "{garbage}");
    }
}

#[test]
fn an_endpoint_that_makes_no_sense_takes_no_other_of_its_slice_along() {
    let slice =
        |endpoints: Value| json!({ "metadata": { "name": "a", "namespace": "x" }, "endpoints": endpoints });
    let endpoints = json!([{ "addresses": ["10.1.0.1"] }, { "addresses": ["10.1.0"] }, { "addresses": ["10.1.0.2"] },
                           { "addresses": ["10.1.0.3"], "nodeName": 7 }, 7]);
    let sensible = Resource::Slices.read(slice(endpoints)).unwrap();
    let Object::Slice(read) = sensible.object else { panic!("no slice") };
    let addresses: Vec<_> =
        read.endpoints.iter().flatten().filter_map(|it| Some(it.address?.0.to_string())).collect();
    assert_eq!(addresses, ["10.1.0.1", "10.1.0.2"]);
    assert_eq!((sensible.left_out, sensible.mistakes.len()), (3, 1));
    assert!(sensible.mistakes[0].starts_with("ignored 3 of its endpoints: "), "{:?}", sensible.mistakes);
    let sound = Resource::Slices.read(slice(json!([{ "addresses": ["10.1.0.1"] }]))).unwrap();
    assert_eq!((sound.left_out, sound.mistakes), (0, Vec::new()));
    assert!(Resource::Slices.read(slice(json!(7))).is_err());
}
