use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, nodes: 10_000 };

fn yaml(text: &str) -> Documents {
    parse_documents("f.yaml", text, Syntax::Yaml, BOUNDS).unwrap_or_else(|problem| panic!("{problem}"))
}

fn json(text: &str) -> Documents {
    parse_documents("f.json", text, Syntax::Json, BOUNDS).unwrap_or_else(|problem| panic!("{problem}"))
}

fn ids(documents: &Documents) -> Vec<String> {
    documents.objects.keys().map(ToString::to_string).collect()
}

fn problems(documents: &Documents) -> Vec<String> {
    documents.problems.iter().map(ToString::to_string).collect()
}

const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: a\n  namespace: shop\n  \
                     labels: { kubernetes.io/service-name: a }\naddressType: IPv4\nendpoints: []\nports: null\n";

#[test]
fn a_file_holds_several_documents_and_lists() {
    let text = format!(
        "# comment\n---\n{SLICE}---\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  \
         metadata: {{ name: a, namespace: shop, uid: x }}\n  spec: {{ clusterIP: None, selector: {{ app: a }} }}\n  \
         status: {{ loadBalancer: {{}} }}\n- {{ apiVersion: v1, kind: Endpoints, metadata: {{ name: b }} }}\n"
    );
    let documents = yaml(&text);
    assert_eq!(ids(&documents), ["Service shop/a", "EndpointSlice shop/a", "Endpoints default/b"]);
    assert_eq!(problems(&documents), Vec::<String>::new());
}

#[test]
fn the_lists_of_an_api_server_name_no_kinds_inside() {
    let documents = json(
        r#"{ "kind": "ServiceList", "apiVersion": "v1", "metadata": { "resourceVersion": "1" },
             "items": [ { "metadata": { "name": "a", "namespace": "" }, "spec": { "clusterIPs": null } } ] }"#,
    );
    assert_eq!(ids(&documents), ["Service default/a"]);
    assert_eq!(problems(&documents), Vec::<String>::new());
}

#[test]
fn json_is_read_as_json_is_written() {
    let tabs = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\":\"a\",\
                \"annotations\":{\"note\":\"\\ud83d\\ude00 \\/ \\u003c\"}},\n\t\"spec\": {\"ports\":[{\"port\":80}]}\n}\n";
    assert_eq!(ids(&json(tabs)), ["Service default/a"]);
    assert_eq!(
        ids(&json(&format!("{tabs}{}", tabs.replace("\"a\"", "\"b\"")))).len(),
        2,
        "one after the other"
    );

    let wrong = json(
        "{ \"apiVersion\": \"v1\", \"kind\": \"Service\",\n  \"metadata\": {\"name\": \"a\"},\n  \"spec\": {\"ports\": [{\"port\": 99999}]} }",
    );
    assert!(
        problems(&wrong)[0].starts_with("f.json:3:31: Service default/a: invalid value"),
        "{:?}",
        problems(&wrong)
    );
    let half = parse_documents("f.json", "{ \"kind\": \"Service\",\n", Syntax::Json, BOUNDS).unwrap_err();
    assert_eq!(half.to_string(), "f.json:2:0: EOF while parsing a value");
    assert_eq!(ids(&json("")), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_reported_where_it_is_and_the_rest_is_read() {
    for (text, expected) in [
        ("just text\n", "f.yaml:1:1: expected a Kubernetes object, not a text without a kind"),
        ("- a\n", "f.yaml:1:1: expected a Kubernetes object, not a list without a kind"),
        ("a: 1\n", "f.yaml:1:1: expected a Kubernetes object, not a section without a kind"),
        ("kind: Deployment\napiVersion: apps/v1\n", "f.yaml:1:1: kind `Deployment` is ignored"),
        (
            "kind: Service\nmetadata: { name: a }\n",
            "f.yaml:1:1: Service: no apiVersion is not one of Service",
        ),
        (
            "kind: EndpointSlice\napiVersion: discovery.k8s.io/v1beta1\n",
            "f.yaml:2:13: EndpointSlice: apiVersion `disc",
        ),
        ("apiVersion: v1\nkind: Service\nspec: {}\n", "f.yaml:1:1: Service: missing field `metadata`"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: { name: a }\n",
            "f.yaml:1:1: Service default/a: missing field",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: { name: '' }\nspec: {}",
            "f.yaml:1:1: Service: an empty name",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: { name: 1 }\nspec: {}",
            "f.yaml:3:19: Service: invalid type",
        ),
        ("apiVersion: v1\nkind: List\n", "f.yaml:1:1: List: a list without items"),
        (
            "apiVersion: v1\nkind: Endpoints\nmetadata: { name: a }\nsubsets:\n- addresses: [{ ip: 0.0.0.0 }]\n",
            "f.yaml:5:21: Endpoints default/a: invalid value: string \"0.0.0.0\", expected the IP address of an endp",
        ),
        (
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: { name: a }\n",
            "f.yaml:1:1: EndpointSlice default/a: no label says which service",
        ),
    ] {
        let documents = yaml(&format!("{text}\n---\n{SLICE}"));
        let found = problems(&documents);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{text}\nfound    {found:?}\nexpected {expected}"
        );
        assert_eq!(ids(&documents), ["EndpointSlice shop/a"], "{text}");
    }
}

#[test]
fn the_same_object_twice_counts_once() {
    let documents = yaml(&format!("{SLICE}---\n{SLICE}"));
    assert_eq!(ids(&documents).len(), 1);
    assert!(problems(&documents)[0].starts_with("f.yaml:11:1: EndpointSlice shop/a: here a second time"));
}

#[test]
fn deep_and_endless_texts_are_errors() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "- ".repeat(1000), " ".repeat(2 << 20)] {
        for syntax in [Syntax::Yaml, Syntax::Json] {
            assert!(parse_documents("f", &text, syntax, BOUNDS).is_err());
        }
    }
}

proptest! {
    #[test]
    fn random_text_never_panics(text in any::<String>()) {
        for syntax in [Syntax::Yaml, Syntax::Json] {
            let _ = parse_documents("f", &text, syntax, BOUNDS);
        }
    }

    #[test]
    fn a_file_cut_anywhere_never_panics(cut in 0..SLICE.len()) {
        let _ = parse_documents("f", &SLICE[..cut], Syntax::Yaml, BOUNDS);
    }
}
