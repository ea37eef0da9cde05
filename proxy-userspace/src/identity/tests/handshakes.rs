//! Handshakes in memory: who gets in, and what the other side is told.

use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, NamedGroup, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection, version,
};

use crate::domain::identity::SpiffeId;
use crate::identity::bundle::Bundle;
use crate::identity::testing::{Authority, FUTURE, Files, ID, NOW, PAST, now};
use crate::identity::tls::{client, provider, server};
use crate::identity::{Own, id_of};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/db";

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

/// A certificate as weir would never load it from files, with which it has to be told from others nonetheless.
fn forced((certificate, key): &(String, String)) -> Own {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider()).unwrap());
    Own { id: id(ID), until: 0, certified }
}

fn bundle(pem: &str) -> Bundle {
    let files = Files::new(pem, &(String::new(), String::new()));
    Bundle::read(&files.path("ca.crt"), now()).unwrap()
}

/// The first error of the client and of the server; with neither, what each knows of the other.
struct End {
    client: Result<(), Error>,
    server: Result<(), Error>,
    connections: (ClientConnection, ServerConnection),
}

fn shake(client: ClientConfig, server: ServerConfig) -> End {
    // The name is neither sent nor looked at.
    let name = ServerName::IpAddress(std::net::IpAddr::from([10, 0, 0, 1]).into());
    let client = ClientConnection::new(Arc::new(client), name).unwrap();
    let server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut client, mut server) = (Connection::from(client), Connection::from(server));
    let (mut of_client, mut of_server) = (Ok(()), Ok(()));
    for _ in 0..10 {
        pass(&mut client, &mut server, &mut of_server);
        pass(&mut server, &mut client, &mut of_client);
    }
    let (Connection::Client(client), Connection::Server(server)) = (client, server) else { unreachable!() };
    End { client: of_client, server: of_server, connections: (client, server) }
}

/// Passes on what one side has to say, also when it has failed: an alert.
fn pass(from: &mut Connection, to: &mut Connection, result: &mut Result<(), Error>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() && to.read_tls(&mut bytes).is_ok_and(|count| count > 0) {
        let processed = to.process_new_packets();
        if let (Err(error), Ok(())) = (processed, &*result) {
            *result = Err(error);
        }
    }
}

/// The alert that a side was sent.
fn alert(result: &Result<(), Error>) -> Option<AlertDescription> {
    match result {
        Err(Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

#[test]
fn two_workloads_of_a_trust_domain_know_each_other_and_nobody_else_listens() {
    let root = Authority::new("root", NOW);
    let (web, db) = (forced(&root.signs(&[ID], NOW)), forced(&root.signs(&[SERVER], NOW)));
    let (bundle, provider) = (bundle(&root.pem()), provider());
    let end = shake(
        client(&web, &bundle, id(SERVER), &provider).unwrap(),
        server(&db, &bundle, &provider).unwrap(),
    );
    assert_eq!((&end.client, &end.server), (&Ok(()), &Ok(())));
    let (client, server) = end.connections;
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(server.peer_certificates().and_then(id_of), Some(id(ID)));
    assert_eq!(client.peer_certificates().and_then(id_of), Some(id(SERVER)));
    for (version, group) in [
        (client.protocol_version(), client.negotiated_key_exchange_group()),
        (server.protocol_version(), server.negotiated_key_exchange_group()),
    ] {
        assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
    assert_eq!(server.server_name(), None);
}

/// Certificates that must not get in, and what their owner is told.
fn bad(root: &Authority) -> Vec<(&'static str, (String, String), AlertDescription)> {
    use AlertDescription::{
        AccessDenied, CertificateExpired, CertificateUnknown, DecryptError, UnknownCA, UnsupportedCertificate,
    };
    let (foreign, namesake) = (Authority::new("foreign", NOW), Authority::new("root", NOW));
    let middle = root.below("middle", PAST);
    let (mut between, key) = middle.signs(&[SERVER], NOW);
    between.push_str(&middle.pem());
    let below = root.below("middle", NOW);
    let uses = |usage| root.signs_for(&[SERVER], NOW, &[usage]);
    vec![
        ("expired", root.signs(&[SERVER], PAST), CertificateExpired),
        ("not yet valid", root.signs(&[SERVER], FUTURE), CertificateExpired),
        ("expired between", (between, key), CertificateExpired),
        ("unknown authority", foreign.signs(&[SERVER], NOW), UnknownCA),
        // Its name is known, and its signature does not fit.
        ("unknown authority of a known one's name", namesake.signs(&[SERVER], NOW), DecryptError),
        ("without the one between", below.signs(&[SERVER], NOW), UnknownCA),
        ("another trust domain", root.signs(&["spiffe://other/ns/shop/sa/db"], NOW), AccessDenied),
        ("no workload", root.signs(&["spiffe://cluster.local/node/1"], NOW), AccessDenied),
        ("no ID", root.signs(&[], NOW), AccessDenied),
        ("two IDs", root.signs(&[SERVER, SERVER], NOW), AccessDenied),
        ("an authority's", root.signs_authority(SERVER), CertificateUnknown),
        ("for signing code", uses(ExtendedKeyUsagePurpose::CodeSigning), UnsupportedCertificate),
    ]
}

#[test]
fn a_client_with_a_bad_certificate_gets_nothing_and_the_right_alert() {
    let root = Authority::new("root", NOW);
    let db = forced(&root.signs(&[SERVER], NOW));
    let (bundle, provider) = (bundle(&root.pem()), provider());
    let mut wrong = Vec::new();
    let only_servers = root.signs_for(&[SERVER], NOW, &[ExtendedKeyUsagePurpose::ServerAuth]);
    let mut all = bad(&root);
    all.push(("for servers only", only_servers, AlertDescription::UnsupportedCertificate));
    for (what, own, expected) in all {
        let end = shake(
            client(&forced(&own), &bundle, id(SERVER), &provider).unwrap(),
            server(&db, &bundle, &provider).unwrap(),
        );
        assert!(end.server.is_err() && end.connections.1.is_handshaking(), "{what} got in");
        if alert(&end.client) != Some(expected) {
            wrong.push(format!("{what}: {:?} for {:?}", end.client, end.server));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_server_with_a_bad_certificate_is_left_and_told_the_right_alert() {
    let root = Authority::new("root", NOW);
    let web = forced(&root.signs(&[ID], NOW));
    let (bundle, provider) = (bundle(&root.pem()), provider());
    let mut all = bad(&root);
    let wrong = |uri: &str| root.signs(&[uri], NOW);
    all.push(("another account", wrong(ID), AlertDescription::AccessDenied));
    all.push((
        "another namespace",
        wrong("spiffe://cluster.local/ns/bank/sa/db"),
        AlertDescription::AccessDenied,
    ));
    let mut wrong = Vec::new();
    let only_clients = root.signs_for(&[SERVER], NOW, &[ExtendedKeyUsagePurpose::ClientAuth]);
    all.push(("for clients only", only_clients, AlertDescription::UnsupportedCertificate));
    for (what, own, expected) in all {
        let end = shake(
            client(&web, &bundle, id(SERVER), &provider).unwrap(),
            server(&forced(&own), &bundle, &provider).unwrap(),
        );
        assert!(end.client.is_err() && end.connections.0.is_handshaking(), "{what} was believed");
        if alert(&end.server) != Some(expected) {
            wrong.push(format!("{what}: {:?} for {:?}", end.server, end.client));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn a_client_without_a_certificate_or_with_tls_12_gets_nothing() {
    let root = Authority::new("root", NOW);
    let db = forced(&root.signs(&[SERVER], NOW));
    let bundle = bundle(&root.pem());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root.pem().as_bytes()).unwrap()).unwrap();
    for (version, expected) in [
        (&version::TLS13, AlertDescription::CertificateRequired),
        (&version::TLS12, AlertDescription::ProtocolVersion),
    ] {
        let all = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let mut anonymous = ClientConfig::builder_with_provider(all)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        anonymous.dangerous().set_certificate_verifier(Arc::new(crate::identity::verify::Server::new(
            Arc::new(roots.clone()),
            &provider(),
            id(SERVER),
        )));
        let end = shake(anonymous, server(&db, &bundle, &provider()).unwrap());
        assert!(end.server.is_err() && end.connections.1.is_handshaking(), "{version:?}");
        assert_eq!(alert(&end.client), Some(expected), "{:?}", end.server);
    }
}

#[test]
fn no_session_is_resumed() {
    let root = Authority::new("root", NOW);
    let (web, db) = (forced(&root.signs(&[ID], NOW)), forced(&root.signs(&[SERVER], NOW)));
    let (bundle, provider) = (bundle(&root.pem()), provider());
    let to = client(&web, &bundle, id(SERVER), &provider).unwrap();
    let at = server(&db, &bundle, &provider).unwrap();
    for _ in 0..2 {
        let end = shake(to.clone(), at.clone());
        assert_eq!((end.client, end.server), (Ok(()), Ok(())));
        let kind = end.connections.0.handshake_kind().unwrap();
        assert_eq!(kind, tokio_rustls::rustls::HandshakeKind::Full);
    }
}
