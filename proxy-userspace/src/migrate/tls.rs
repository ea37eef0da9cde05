//! TLS settings of linkerd that weir does not support yet: encryption, and certificates required from clients.
//!
//! Ignoring them would send in plain text what was encrypted, so the default is safe: such a destination is refused by
//! the dtab, and such a listener is not opened. `weir import --plain-text` imports the destinations, and the listeners
//! that required no certificates, without TLS.

use super::Options;
use super::carried::{Refused, Router};
use super::notes::Notes;
use super::part::{Field, Part};
use crate::config::tree::Node;

/// Handles `tls` and `forwardClientCert` of a `client` section for the clients that begin with `prefix`.
pub(super) fn read_client(
    client: &mut Part<'_>,
    prefix: &str,
    options: Options<'_>,
    carried: &mut Router,
    notes: &mut Notes<'_>,
) {
    if let Some(tls) = client.take("tls") {
        refuse(&tls, prefix, options, carried, notes);
    }
    if let Some(forward) = client.take("forwardClientCert")
        && forward.boolean() != Some(false)
    {
        notes.unprotected(
            &forward,
            "weir reads no client certificates and sets no x-forwarded-client-cert, and takes out none that a client sends: \
             an application must not believe one",
        );
    }
}

/// Refuses the destinations that `tls` encrypted, or notes that they are reached in plain text.
pub(super) fn refuse(
    tls: &Field<'_>,
    prefix: &str,
    options: Options<'_>,
    carried: &mut Router,
    notes: &mut Notes<'_>,
) {
    if options.plain_text {
        notes.unprotected(
            tls,
            format!(
                "requests to {prefix} were encrypted; weir sends them in plain text, as --plain-text says"
            ),
        );
        return;
    }
    let refused = Refused { prefix: refused_prefix(prefix), because: tls.path.clone() };
    notes.unprotected(
        tls,
        format!(
            "requests to {prefix} were encrypted, and weir makes no TLS: they are refused (`dtab`, {} => !); --plain-text sends \
             them in plain text",
            refused.prefix
        ),
    );
    if !carried.refused.iter().any(|it| it.prefix == refused.prefix) {
        carried.refused.push(refused);
    }
}

/// Whether a server with this `tls` may be opened without it; notes the reason if not.
pub(super) fn opens_without(tls: &Field<'_>, options: Options<'_>, notes: &mut Notes<'_>) -> bool {
    let asks = |node: &Node| Field { node, ..tls.clone() }.boolean() != Some(false);
    if tls.node.get("requireClientAuth").is_some_and(asks) {
        notes.unprotected(
            tls,
            "clients had to show a certificate, and weir asks for none: nothing listens here (`outgoing.listen: none`)",
        );
        return false;
    }
    if options.plain_text {
        notes.unprotected(tls, "clients spoke TLS; weir takes plain text here, as --plain-text says");
        return true;
    }
    notes.unprotected(
        tls,
        "clients spoke TLS, and weir ends none: nothing listens here (`outgoing.listen: none`); --plain-text listens for plain \
         text",
    );
    false
}

/// The left side of the dtab entry for a linkerd client prefix: a capture becomes `*`. Client names changed by a
/// transformer begin with `/%/…`; weir binds the name after that. If it cannot be determined, the entry is for every
/// name.
fn refused_prefix(prefix: &str) -> String {
    let mut labels: Vec<&str> = prefix.split('/').filter(|label| !label.is_empty()).collect();
    if labels.first() == Some(&"%") {
        let namer = labels.iter().position(|label| ["#", "$"].contains(label));
        labels.drain(..namer.unwrap_or(labels.len()));
    }
    let element =
        |label: &&str| if label.contains(['{', '*']) { "*".to_owned() } else { (*label).to_owned() };
    format!("/{}", labels.iter().map(element).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_prefix_is_the_left_side_of_an_entry() {
        for (prefix, expected) in [
            ("/", "/"),
            ("/#/io.l5d.fs/{s}", "/#/io.l5d.fs/*"),
            ("/#/io.l5d.k8s/*/http", "/#/io.l5d.k8s/*/http"),
            ("/$/io.buoyant.rinet/443/{service}", "/$/io.buoyant.rinet/443/*"),
            ("/$/inet/{host}.example.com/443", "/$/inet/*/443"),
            ("/%/io.l5d.k8s.daemonset/mesh/in/l5d/#/io.l5d.k8s/{ns}/{port}/{svc}", "/#/io.l5d.k8s/*/*/*"),
            ("/%/io.l5d.port/4141", "/"),
        ] {
            assert_eq!(refused_prefix(prefix), expected, "{prefix}");
        }
    }
}
