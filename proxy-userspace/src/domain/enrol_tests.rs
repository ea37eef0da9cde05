//! The decision as tables.

use super::*;

fn wishes(pairs: &[(&str, &str)]) -> DivertAnnotations {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn pod(namespace: &str, annotations: &[(&str, &str)]) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: "web-0".into(),
        host_network: false,
        finished: false,
        cgroup_uid: "0b7f1c1e-0000-4000-8000-000000000001".into(),
        addresses: Vec::new(),
        wishes: wishes(annotations),
        sidecar: None,
        runtime_class: None,
    }
}

fn of(pod: &Pod, namespace: &[(&str, &str)]) -> Decision {
    let exclude = ["kube-system".to_owned()];
    decide(pod, Some(&wishes(namespace)), Terms { exclude: &exclude, own: Some("weir") })
}

#[test]
fn the_pods_annotation_beats_its_namespaces_which_beats_the_default() {
    let (on, off) = (("divert", "enabled"), ("divert", "disabled"));
    for (namespace, on_pod, on_namespace, diverted, why) in [
        ("shop", None, None, true, "by default"),
        ("shop", Some(on), None, true, "enabled by annotation on the pod"),
        ("shop", Some(off), None, false, "disabled by annotation on the pod"),
        ("shop", None, Some(on), true, "enabled by annotation on namespace shop"),
        ("shop", None, Some(off), false, "disabled by annotation on namespace shop"),
        ("shop", Some(on), Some(off), true, "enabled by annotation on the pod"),
        ("shop", Some(off), Some(on), false, "disabled by annotation on the pod"),
        ("kube-system", None, None, false, "namespace kube-system is in transparent.excludeNamespaces"),
        ("kube-system", Some(on), None, true, "enabled by annotation on the pod"),
        ("kube-system", None, Some(on), true, "enabled by annotation on namespace kube-system"),
        ("weir", None, None, false, "it is in weir's own namespace"),
        ("weir", None, Some(on), true, "enabled by annotation on namespace weir"),
    ] {
        let pod = pod(namespace, on_pod.as_slice());
        let decision = of(&pod, on_namespace.as_slice());
        assert_eq!((decision.why.diverts(), &*decision.why.to_string()), (diverted, why));
        assert!(decision.mistakes.is_empty(), "{decision:?}");
    }
}

#[test]
fn every_plain_word_for_yes_and_no_is_taken_as_what_it_means_in_any_case() {
    let yes = ["enabled", "true", "True", "TRUE", "yes", "Yes", "on", "ON", " true "];
    let no = ["disabled", "Disabled", "false", "False", "no", "NO", "off", "oFF", "false\n"];
    for (word, diverted) in yes.map(|word| (word, true)).into_iter().chain(no.map(|word| (word, false))) {
        let (on_pod, on_namespace) = if diverted {
            (Why::EnabledOnPod, Why::EnabledOnNamespace("kube-system".into()))
        } else {
            (Why::DisabledOnPod, Why::DisabledOnNamespace("kube-system".into()))
        };
        let against = if diverted { "disabled" } else { "enabled" };
        let decision = of(&pod("shop", &[("divert", word)]), &[("divert", against)]);
        assert_eq!((decision.why, decision.mistakes.len()), (on_pod, 0), "{word:?} on the pod");
        let decision = of(&pod("kube-system", &[]), &[("divert", word)]);
        assert_eq!((decision.why, decision.mistakes.len()), (on_namespace, 0), "{word:?} on the namespace");
    }
}

#[test]
fn pods_in_the_nodes_network_and_finished_ones_are_never_diverted() {
    let asked = pod("shop", &[("divert", "enabled")]);
    let host = Pod { host_network: true, ..asked.clone() };
    assert_eq!(of(&host, &[("divert", "enabled")]).why, Why::HostNetwork);
    assert!(of(&host, &[]).why.to_string().contains("hostNetwork"));
    assert_eq!(of(&Pod { finished: true, ..asked }, &[]).why, Why::Finished);
}

#[test]
fn a_pod_with_a_meshs_sidecar_is_left_to_it_unless_its_own_annotation_says_otherwise() {
    let (on, off) = (("divert", "enabled"), ("divert", "disabled"));
    for (namespace, on_pod, on_namespace, sidecar, why) in [
        ("shop", None, None, Sidecar::Istio, "it has Istio's sidecar, which catches its connections"),
        (
            "shop",
            None,
            None,
            Sidecar::Ambient,
            "it is in Istio's ambient mesh, which catches its connections",
        ),
        ("shop", None, Some(on), Sidecar::Linkerd, "it has Linkerd's sidecar, which catches its connections"),
        ("shop", Some(on), Some(off), Sidecar::Linkerd, "enabled by annotation on the pod"),
        ("shop", Some(off), None, Sidecar::Istio, "disabled by annotation on the pod"),
        ("shop", None, Some(off), Sidecar::Istio, "disabled by annotation on namespace shop"),
        (
            "kube-system",
            None,
            None,
            Sidecar::Istio,
            "namespace kube-system is in transparent.excludeNamespaces",
        ),
    ] {
        let pod = Pod { sidecar: Some(sidecar), ..pod(namespace, on_pod.as_slice()) };
        let decision = of(&pod, on_namespace.as_slice());
        assert_eq!(&*decision.why.to_string(), why, "{on_pod:?} {on_namespace:?}");
        assert_eq!(decision.why.diverts(), on_pod == Some(on), "{why}");
    }
}

#[test]
fn a_bad_value_is_as_good_as_none_and_is_shown() {
    for (value, mistake) in [
        ("maybe", "`maybe`"),
        ("", "``"),
        ("truely", "neither of enabled, true, yes, on nor of disabled"),
        ("0", "`0`"),
    ] {
        let decision = of(&pod("shop", &[("divert", value)]), &[("divert", "disabled")]);
        assert_eq!(decision.why, Why::DisabledOnNamespace("shop".into()));
        assert!(decision.mistakes[0].contains(mistake), "{:?}", decision.mistakes);
    }
    let decision = of(&pod("shop", &[]), &[("divert", "never"), ("skip-ports", "80")]);
    assert_eq!(decision.why, Why::Default);
    assert!(decision.mistakes[0].starts_with("weir.dev/divert on the namespace is `never`"));
    assert!(decision.mistakes[1].starts_with("`weir.dev/skip-ports` means nothing on the namespace"));
    let long = "x".repeat(100_000);
    let decision = of(&pod("shop", &[("divert", &long), ("skip-ports", &long), (&long, "")]), &[]);
    assert_eq!((decision.why, decision.mistakes.len()), (Why::Default, 3));
    assert!(decision.mistakes.iter().all(|mistake| mistake.len() < 200));
}

#[test]
fn the_lists_of_ports_are_the_pods() {
    let decision = of(&pod("shop", &[("skip-ports", "3306,9000-9010"), ("opaque-ports", "25,x")]), &[]);
    assert_eq!(
        (&*decision.ports.skip.to_string(), &*decision.ports.opaque.to_string()),
        ("3306,9000-9010", "25")
    );
    assert_eq!(decision.mistakes.len(), 1);
    assert!(decision.mistakes[0].starts_with("weir.dev/opaque-ports: `x`"));
}

#[test]
fn whoever_should_be_diverted_is_not_found_until_the_cgroup_is() {
    let mut node_pods = NodePods::default();
    node_pods.pods.insert("1".into(), Arc::new(pod("shop", &[])));
    node_pods.pods.insert("2".into(), Arc::new(pod("blog", &[])));
    node_pods.namespaces.insert("blog".into(), Arc::new(wishes(&[("divert", "disabled")])));
    let enrolment = Enrolment::decide(&node_pods, Terms { exclude: &[], own: None });
    assert_eq!(State::ALL.map(|state| enrolment.count(state)), [1, 0, 1, 0]);
    assert_eq!(enrolment.pods["2"].decision.why, Why::DisabledOnNamespace("blog".into()));
    assert_eq!(enrolment.mistaken(), 0);
}
