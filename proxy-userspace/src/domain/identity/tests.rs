use proptest::prelude::*;

use super::*;

#[test]
fn an_id_is_its_trust_domain_and_its_service_account() {
    let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/front.end".parse().unwrap();
    assert_eq!(id.trust_domain, TrustDomain::default());
    assert_eq!((id.account.namespace(), id.account.name()), ("shop", "front.end"));
    assert_eq!(id, TrustDomain::default().id_of(&"shop/front.end".parse().unwrap()));
}

#[test]
fn what_is_no_id_of_a_service_account_is_named() {
    let long = |count: usize| "a".repeat(count);
    for (text, expected) in [
        ("", IdError::Scheme),
        ("https://cluster.local/ns/a/sa/b", IdError::Scheme),
        ("SPIFFE://cluster.local/ns/a/sa/b", IdError::Scheme),
        ("spiffe:/cluster.local/ns/a/sa/b", IdError::Scheme),
        ("spiffe://cluster.local", IdError::Path),
        ("spiffe://cluster.local/", IdError::Path),
        ("spiffe://cluster.local/ns/a", IdError::Path),
        ("spiffe://cluster.local/ns/a/b", IdError::Path),
        ("spiffe://cluster.local//ns/a/sa/b", IdError::Path),
        ("spiffe://cluster.local/agent/x", IdError::Path),
        ("spiffe:///ns/a/sa/b", IdError::TrustDomain),
        ("spiffe://Cluster.local/ns/a/sa/b", IdError::TrustDomain),
        ("spiffe://cluster.local:80/ns/a/sa/b", IdError::TrustDomain),
        ("spiffe://me@cluster.local/ns/a/sa/b", IdError::TrustDomain),
        ("spiffe://cluster%2elocal/ns/a/sa/b", IdError::TrustDomain),
        ("spiffe://cluster.local/ns//sa/b", IdError::Namespace),
        ("spiffe://cluster.local/ns/a.b/sa/b", IdError::Namespace),
        ("spiffe://cluster.local/ns/-a/sa/b", IdError::Namespace),
        ("spiffe://cluster.local/ns/../sa/b", IdError::Namespace),
        ("spiffe://cluster.local/ns/a/sa/", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/B", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/b/", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/b/sa/c", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/b?x", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/b#x", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/b\0", IdError::Account),
        ("spiffe://cluster.local/ns/a/sa/b ", IdError::Account),
        (&format!("spiffe://{}/ns/a/sa/b", long(256)), IdError::TrustDomain),
        (&format!("spiffe://a/ns/{}/sa/b", long(64)), IdError::Namespace),
        (&format!("spiffe://a/ns/b/sa/{}", long(64)), IdError::Account),
        (
            &format!("spiffe://a/ns/b/sa/{}", [long(63), long(63), long(63), long(62)].join(".")),
            IdError::Account,
        ),
        (&format!("spiffe://a/ns/b/sa/{}", long(2048)), IdError::TooLong),
    ] {
        assert_eq!(text.parse::<SpiffeId>(), Err(expected), "{text}");
    }
}

#[test]
fn a_service_account_is_written_with_its_namespace() {
    for text in ["", "shop", "/", "shop/", "/frontend", "shop/frontend/x", "Shop/frontend"] {
        assert!(text.parse::<ServiceAccount>().is_err(), "{text}");
    }
    assert_eq!("shop/frontend".parse::<ServiceAccount>().unwrap().to_string(), "shop/frontend");
}

proptest! {
    #[test]
    fn an_id_prints_as_what_it_was_parsed_from(
        domain in "[a-z0-9._-]{1,255}",
        namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        account in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?){0,3}",
    ) {
        let text = format!("spiffe://{domain}/ns/{namespace}/sa/{account}");
        let id: SpiffeId = text.parse().unwrap();
        prop_assert_eq!(id.to_string(), text);
        prop_assert_eq!(id.account.to_string(), format!("{namespace}/{account}"));
    }

    #[test]
    fn whatever_parses_prints_as_itself(text in "(spiffe://)?[a-z./_ns%A-]{0,40}(/ns/)?[a-z.-]{0,9}(/sa/)?[a-z.-]{0,9}") {
        if let Ok(id) = text.parse::<SpiffeId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = text.parse::<SpiffeId>();
        let _ = text.parse::<ServiceAccount>();
        let _ = text.parse::<TrustDomain>();
    }
}
