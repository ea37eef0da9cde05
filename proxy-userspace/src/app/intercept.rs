//! Interception, as the application wires it: attached at start, told of new destinations, kept alive.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use ipnet::IpNet;

use super::listeners::Listeners;
use crate::admin::Desk;
use crate::config::{Fail, Settings, Transparent};
use crate::domain::catalog::{Catalog, Service};
use crate::intercept::{self, Applied, Destination, Interception, Plan};

/// The SO_MARK of weir's own connections: "weir" in ASCII.
pub(super) const MARK: u32 = 0x7765_6972;

/// Attaches the programs, if interception is configured.
///
/// # Errors
///
/// One sentence that says what is missing. weir then serves explicit clients all the same.
pub(super) fn attach(settings: &Settings, listeners: &Listeners) -> Result<Interception, anyhow::Error> {
    let Some(transparent) = &settings.transparent else {
        return Err(anyhow!("not configured"));
    };
    let attached = plan(transparent, listeners).and_then(|plan| {
        let first = listeners.transparent.first().context("no transparent listener")?;
        Ok(Interception::attach(&plan, first.as_fd())?)
    });
    match &attached {
        Ok(_) => tracing::info!("interception is on"),
        Err(why) => tracing::warn!("interception is off: {why:#}; explicit clients are served all the same"),
    }
    attached
}

fn plan(transparent: &Transparent, listeners: &Listeners) -> anyhow::Result<Plan> {
    let first = listeners.transparent.first().context("no transparent listener")?;
    let addresses = match transparent.addresses.as_slice() {
        [] => intercept::default_addresses()?,
        given => given.to_vec(),
    };
    let cgroup: Option<PathBuf> = transparent.cgroup.clone().or_else(intercept::find_cgroup);
    Ok(Plan {
        addresses,
        first_port: first.local_addr()?.port(),
        ports: transparent.ports,
        cgroup: cgroup.context(
            "no kubepods cgroup is below the cgroup2 mount: name the parent of the pods' cgroups in transparent.cgroup",
        )?,
        host: transparent.host,
        mark: MARK,
        fail: match transparent.fail {
            Fail::Open => intercept::Fail::Open,
            Fail::Closed => intercept::Fail::Closed,
        },
        tuples: Plan::TUPLES,
        destinations: Plan::DESTINATIONS,
    })
}

/// Tells the programs what is to be diverted now.
pub(super) fn divert(desk: &Desk, catalog: &Catalog) {
    let Ok(interception) = &mut *desk.interception.lock() else { return };
    let wanted = destinations(&desk.settings.load(), catalog);
    match interception.divert_except(&wanted, &exceptions(catalog)) {
        Ok(applied) if applied == Applied::default() => {}
        Ok(applied) if applied.left_out > 0 => {
            tracing::error!(?applied, "the table of diverted destinations is full: the rest goes direct");
        }
        Ok(applied) => tracing::info!(?applied, "diverted destinations changed"),
        Err(why) => tracing::error!("diverted destinations could not be changed: {why}"),
    }
}

/// What is to be diverted: what the configuration says, or else the addresses of known services with the ports
/// they own.
fn destinations(settings: &Settings, catalog: &Catalog) -> BTreeSet<Destination> {
    let configured = settings.transparent.as_ref().and_then(|it| it.divert.as_ref());
    match configured {
        Some(networks) => networks.iter().map(|&net| Destination { net, ports: 1..=u16::MAX }).collect(),
        None => {
            catalog.services.values().filter(|it| !is_api_server(it)).flat_map(|it| of_service(it)).collect()
        }
    }
}

/// Never diverted, whatever `divert` says: the `kubernetes` Service in `default`. What the cluster's own API
/// server answers must not depend on weir.
fn exceptions(catalog: &Catalog) -> BTreeSet<IpNet> {
    let api_servers = catalog.services.values().filter(|it| is_api_server(it));
    api_servers.flat_map(|it| it.addresses.iter().map(|&address| IpNet::from(address))).collect()
}

fn is_api_server(service: &Service) -> bool {
    (&*service.key.namespace, &*service.key.name) == ("default", "kubernetes")
}

/// One entry for each address, from the lowest of its ports to the highest.
fn of_service(service: &Service) -> impl Iterator<Item = Destination> {
    let numbers = service.ports.iter().map(|port| port.number).filter(|&number| number != 0);
    let range = numbers.clone().min().zip(numbers.max());
    let addresses = service.addresses.iter().map(|address: &IpAddr| IpNet::from(*address));
    range
        .into_iter()
        .flat_map(move |(low, high)| addresses.clone().map(move |net| Destination { net, ports: low..=high }))
}
