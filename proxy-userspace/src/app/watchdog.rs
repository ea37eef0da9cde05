//! A periodic check for changes that cause no event: this node's addresses and the state of the programs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::intercept;
use crate::allocator;
use crate::control::State;
use crate::intercept::{InterceptError, Status, node_addresses};
use crate::proxy::routing::snapshot::RoutingConfig;

/// Interval between checks.
const LOOK: Duration = Duration::from_secs(3);

/// How long a check waits for the list of this node's addresses; the next one waits again.
const LISTED: Duration = Duration::from_secs(1);

/// Checks as long as weir runs.
pub(super) async fn watch(control: Arc<State>, config: watch::Sender<RoutingConfig>) -> anyhow::Result<()> {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut own, mut unknown, mut off) = (Own::default(), None, None);
    loop {
        ticks.tick().await;
        // The control plane works in bursts (catalogs, DNS answers, metrics pages) and should not keep that memory.
        allocator::give_back();
        match own.list().await {
            Ok(own) => {
                unknown = None;
                if let Some(original_dsts) = &control.shared.original_dsts {
                    original_dsts.owners().tell_node(&own);
                }
                follow(&config, own);
            }
            Err(error) => {
                if unknown.as_ref() != Some(&error) {
                    tracing::warn!("this node's own addresses cannot be listed; the last ones stay: {error}");
                }
                unknown = Some(error);
            }
        }
        let known = config.borrow().node.own.clone();
        let now = interception(&control, &known);
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

/// The list of this node's own addresses. The kernel lets whoever asks for it wait for its one lock of all networks, for many
/// seconds where a busy node makes and ends pods: so a thread asks that nothing else needs.
#[derive(Default)]
struct Own(Option<JoinHandle<Result<Vec<IpAddr>, InterceptError>>>);

impl Own {
    /// # Errors
    ///
    /// What the kernel says, or that it has not answered yet.
    async fn list(&mut self) -> Result<Vec<IpAddr>, String> {
        self.list_by(node_addresses, LISTED).await
    }

    async fn list_by(
        &mut self,
        list: impl FnOnce() -> Result<Vec<IpAddr>, InterceptError> + Send + 'static,
        wait: Duration,
    ) -> Result<Vec<IpAddr>, String> {
        let asked = self.0.get_or_insert_with(|| spawn_blocking(list));
        let Ok(listed) = timeout(wait, asked).await else {
            return Err(format!("the kernel has not answered within {wait:?}"));
        };
        self.0 = None;
        listed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
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
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_kernel_that_does_not_answer_is_asked_once_and_stops_nothing() {
        let (answer, answers) = mpsc::channel::<()>();
        let own = vec!["10.0.0.7".parse::<IpAddr>().unwrap()];
        let (mut asked, known) = (Own::default(), own.clone());
        let hangs = move || {
            let _ = answers.recv();
            Ok(known)
        };
        let busy = asked.list_by(hangs, Duration::from_millis(1)).await;
        assert_eq!(busy.unwrap_err(), "the kernel has not answered within 1ms");
        let again = || -> Result<_, InterceptError> { panic!("asked again while it has not answered") };
        assert!(asked.list_by(again, Duration::from_millis(1)).await.is_err());
        answer.send(()).unwrap();
        assert_eq!(asked.list_by(again, Duration::from_secs(60)).await, Ok(own));
        assert!(asked.list_by(|| Ok(Vec::new()), Duration::from_secs(60)).await.unwrap().is_empty());
    }

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
