//! `transformers` of a namer, in linkerd's kinds and keys.

use std::net::IpAddr;

use serde::Deserialize;

use super::Mistake;
use super::identifier::name;
use crate::domain::name::Path;
use crate::domain::route::{Transform, Transformer, When};

/// One transformer. `prefix` is its name in bound names, after `/%`.
#[derive(Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub(super) enum WrittenTransformer {
    #[serde(rename = "io.l5d.port")]
    Port { port: u64, prefix: Option<String> },
    #[serde(rename = "io.l5d.localhost")]
    Localhost { prefix: Option<String> },
    #[serde(rename = "io.l5d.specificHost")]
    SpecificHost { host: String, prefix: Option<String> },
    #[serde(rename = "io.l5d.replace")]
    Replace { path: String, prefix: Option<String> },
    #[serde(rename = "io.l5d.const")]
    Const { path: String, prefix: Option<String> },
}

/// All transformers of a namer, in order.
pub(super) fn read(written: Vec<WrittenTransformer>) -> Result<Transform, Mistake> {
    let mut transform = Transform::default();
    for one in written {
        if transform.is_final() {
            return Err(Mistake::new(
                "a transformer after io.l5d.replace or io.l5d.const has nothing to work on",
            )
            .hint("let that be the last one, and write the address in its path"));
        }
        add(&mut transform, one)?;
    }
    Ok(transform)
}

fn add(transform: &mut Transform, written: WrittenTransformer) -> Result<(), Mistake> {
    let called = |prefix: Option<String>, default: String| name(&prefix.unwrap_or(default));
    let (step, prefix) = match written {
        WrittenTransformer::Port { port, prefix } => {
            let port = u16::try_from(port).ok().filter(|&port| port > 0);
            let port = port.ok_or_else(|| Mistake::new("a port is a number from 1 to 65535"))?;
            (Transformer::Port(port), called(prefix, format!("/io.l5d.port/{port}"))?)
        }
        WrittenTransformer::Localhost { prefix } => {
            (Transformer::Localhost, called(prefix, "/io.l5d.localhost".to_owned())?)
        }
        WrittenTransformer::SpecificHost { host, prefix } => {
            let host: IpAddr = host.parse().map_err(|_| {
                Mistake::new(format!("{host:?} is no address"))
                    .hint("weir looks no name up for io.l5d.specificHost")
            })?;
            (Transformer::Host(host), called(prefix, "/io.l5d.specificHost".to_owned())?)
        }
        WrittenTransformer::Replace { path, prefix } => {
            return instead(transform, When::Found, &path, &called(prefix, "/io.l5d.replace".to_owned())?);
        }
        WrittenTransformer::Const { path, prefix } => {
            return instead(transform, When::Always, &path, &called(prefix, "/io.l5d.const".to_owned())?);
        }
    };
    transform.then(step, &prefix);
    Ok(())
}

fn instead(transform: &mut Transform, when: When, path: &str, prefix: &Path) -> Result<(), Mistake> {
    transform.instead(when, &name(path)?, prefix).map_err(|why| Mistake::new(format!("{path:?}: {why}")))
}
