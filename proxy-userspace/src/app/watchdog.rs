//! A periodic check for changes that cause no event: this node's addresses and the state of the programs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::intercept;
use crate::allocator;
use crate::control::State;
use crate::intercept::{Status, node_addresses};
use crate::proxy::routing::snapshot::RoutingConfig;

/// Interval between checks.
const LOOK: Duration = Duration::from_secs(3);

/// Checks as long as weir runs.
pub(super) async fn watch(control: Arc<State>, config: watch::Sender<RoutingConfig>) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut unknown, mut off) = (None, None);
    loop {
        ticks.tick().await;
        // The control plane works in bursts (catalogs, DNS answers, metrics pages) and should not keep that memory.
        allocator::give_back();
        match node_addresses() {
            Ok(own) => {
                unknown = None;
                if let Some(original_dsts) = &control.shared.original_dsts {
                    original_dsts.owners().tell_node(&own);
                }
                follow(&config, own);
            }
            Err(error) => {
                let why = error.to_string();
                if unknown.as_ref() != Some(&why) {
                    tracing::warn!("this node's own addresses cannot be listed; the last ones stay: {why}");
                }
                unknown = Some(why);
            }
        }
        let own = config.borrow().node.own.clone();
        let now = interception(&control, &own);
        // When weir stops, it has disarmed the programs on purpose.
        if control.programs.is_stopping() {
            continue;
        }
        if now != off {
            match &now {
                Some(why) => tracing::error!("interception does not work: {why}"),
                None => tracing::info!("interception works again"),
            }
            off = now;
        }
    }
}

/// Updates the addresses that the snapshot refuses to the node's current ones.
fn follow(config: &watch::Sender<RoutingConfig>, own: Vec<IpAddr>) {
    config.send_if_modified(|config| {
        let differs = config.node.own != own;
        if differs {
            tracing::info!(?own, "this node's addresses changed");
            config.node.own = own;
        }
        differs
    });
}

/// Retries what failed. Returns why interception does not work; `None` when it works or is not configured.
fn interception(control: &State, own: &[IpAddr]) -> Option<String> {
    if control.programs.diverted.lock().failed.is_some() {
        intercept::divert(control, &control.catalogs.in_force());
    }
    let failed = control.programs.diverted.lock().failed.clone();
    let why = match &mut *control.programs.lock() {
        Ok(interception) => match gone(interception.addresses(), own) {
            Some(address) => {
                interception.disarm();
                Some(format!("{address} is not this node's any more, so nothing is diverted there"))
            }
            None => {
                match interception.follow_cgroup() {
                    Ok(true) => {
                        tracing::warn!("the pods' cgroup was made anew: the programs are attached to it")
                    }
                    Ok(false) => {}
                    // Reported below, as long as it lasts.
                    Err(why) => tracing::debug!("{why}"),
                }
                control.programs.arm(interception);
                off(&interception.status()).map(str::to_owned).or(failed)
            }
        },
        Err(why) => {
            if control.settings().transparent.is_some() {
                tell(control, Some(why.clone()));
            }
            // Logged at start, and nothing has changed since.
            return None;
        }
    };
    tell(control, why.clone());
    why
}

/// Whether weir has to divert in order to be ready may change with a reload.
fn tell(control: &State, why: Option<String>) {
    let why = why.filter(|_| control.interception_is_due());
    control.ready.set("interception", why.map_or(Ok(()), Err));
}

/// An address that connections are diverted to but that this node no longer has.
fn gone(diverted_to: &[IpAddr], own: &[IpAddr]) -> Option<IpAddr> {
    diverted_to.iter().copied().find(|address| !own.contains(&address.to_canonical()))
}

/// Why nothing is diverted; `None` when connections are diverted.
fn off(status: &Status) -> Option<&'static str> {
    match status {
        armed if armed.is_armed() => None,
        Status { attached: false, .. } => Some("the programs are not attached to the pods' cgroup any more"),
        Status { slot, listener, .. } if slot.is_none() || slot != listener => {
            Some("weir's listener is not in its slot")
        }
        _ => Some("weir's heart does not beat"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_left_the_node_is_noticed() {
        let of = |text: &str| text.parse::<IpAddr>().unwrap();
        let own = [of("10.0.0.7"), of("fd00::7")];
        assert_eq!(gone(&own, &own), None);
        assert_eq!(gone(&own, &own[..1]), Some(of("fd00::7")));
    }

    #[test]
    fn what_keeps_connections_from_being_diverted_has_a_name() {
        let well = Status {
            attached: true,
            slot: Some(1),
            listener: Some(1),
            heart_age: Some(Duration::ZERO),
            destinations: 0,
            refused: 0,
            waiting: 0,
        };
        assert_eq!(off(&well), None);
        assert!(off(&Status { attached: false, ..well }).is_some_and(|why| why.contains("not attached")));
        assert!(off(&Status { slot: None, ..well }).is_some_and(|why| why.contains("slot")));
        let still = Status { heart_age: Some(Duration::from_secs(9)), ..well };
        assert!(off(&still).is_some_and(|why| why.contains("heart")));
    }
}
