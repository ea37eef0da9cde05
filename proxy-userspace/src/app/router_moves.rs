//! Which listener is whose after a reload, and on which sockets.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::routers::RouterListener;
use crate::config::Outgoing;
use crate::proxy::listener::sockets::Socket;
use crate::transport::bind;

/// What a reload does to the routers. Nothing is done before all of it is known.
pub(super) struct Move {
    /// Which router each of the written ones was before.
    pub(super) which: Vec<Option<usize>>,
    /// The sockets of each written router; none of one that stays as it was.
    pub(super) plans: Vec<Option<Plan>>,
    /// Why routers that would change stay as they were.
    pub(super) failed: Vec<String>,
}

/// A router's addresses, in order, each with its socket.
pub(super) type Plan = Vec<(SocketAddr, Place)>;

/// Where a socket comes from.
pub(super) enum Place {
    /// The router's own, by its number.
    Kept(usize),
    /// Another router's.
    Handed {
        /// The number of that router.
        owner: usize,
        /// Its socket.
        from: Arc<Socket>,
        /// A duplicate.
        tcp: TcpListener,
    },
    /// It is new.
    New(TcpListener),
}

impl Move {
    /// Makes `to` of `before`. A router that cannot have all its addresses stays as it was, and keeps its own.
    pub(super) fn plan(before: &[RouterListener], to: &[&Outgoing]) -> Self {
        let which = same(before, to);
        let mut failed = Vec::new();
        let mut fail = |router: &Outgoing, why: String| match router.is_labelled() {
            true => failed.push(format!("{}: {why}", router.label)),
            false => failed.push(why),
        };
        let mut plans = Vec::new();
        // Those that stay as they were though another place is written.
        let mut stuck: Vec<usize> = Vec::new();
        for (at, router) in to.iter().enumerate() {
            let now = which[at].map(|known| before[known].configured()).unwrap_or_default();
            let plan = (now != router.listen).then(|| plan(before, which[at], &router.listen));
            plans.push(match plan.transpose() {
                Ok(plan) => plan,
                Err(why) => {
                    fail(router, why);
                    stuck.extend(which[at]);
                    None
                }
            });
        }
        // A router may wait for a socket of one that waits in vain.
        while let Some((at, address, owner)) = waits_for(&plans, &stuck) {
            plans[at] = None;
            stuck.extend(which[at]);
            let owner = &before[owner].label;
            fail(
                to[at],
                format!(
                    "cannot listen on {address}: the router {owner} keeps that address, since it cannot move"
                ),
            );
        }
        Self { which, plans, failed }
    }
}

/// A router that would get a socket of one that is stuck: its number, the address, and the other's number.
fn waits_for(plans: &[Option<Plan>], stuck: &[usize]) -> Option<(usize, SocketAddr, usize)> {
    plans.iter().enumerate().find_map(|(at, plan)| {
        plan.iter().flatten().find_map(|(address, place)| match place {
            Place::Handed { owner, .. } if stuck.contains(owner) => Some((at, *address, *owner)),
            _ => None,
        })
    })
}

/// The sockets for a router that was `known` and is to listen at `to`.
fn plan(before: &[RouterListener], known: Option<usize>, to: &[SocketAddr]) -> Result<Plan, String> {
    let own = known.map_or(&[][..], |known| &before[known].sockets);
    let mut kept = vec![false; own.len()];
    let mut plan = Plan::new();
    for at in to {
        if let Some(number) = (0..own.len()).find(|&number| !kept[number] && own[number].0 == *at) {
            kept[number] = true;
            plan.push((*at, Place::Kept(number)));
            continue;
        }
        plan.push((*at, elsewhere(before, known, *at)?));
    }
    Ok(plan)
}

/// A socket at `at` that is not the router's own: another one's, or else a new one.
fn elsewhere(before: &[RouterListener], known: Option<usize>, at: SocketAddr) -> Result<Place, String> {
    // Any free port is not the port that another one got.
    let others = before.iter().enumerate().filter(|(number, _)| at.port() != 0 && Some(*number) != known);
    let mut sockets = others.flat_map(|(owner, it)| it.sockets.iter().map(move |it| (owner, it)));
    match sockets.find(|(_, (other, _))| *other == at) {
        Some((owner, (_, from))) => {
            let tcp = from.tcp.try_clone().map_err(|cause| format!("cannot listen on {at}: {cause}"))?;
            Ok(Place::Handed { owner, from: from.clone(), tcp })
        }
        None => bind(at).map(Place::New).map_err(|error| error.to_string()),
    }
}

/// Which of `before` each router of `to` is. A label is a router's name: one that was there before is the same router,
/// wherever it listens now. A new one at an address of one that is not written any more is that one, renamed, unless others
/// have some of its addresses, too. So no connection gets the rules of a router of another name that is still there.
fn same(before: &[RouterListener], to: &[&Outgoing]) -> Vec<Option<usize>> {
    let called = |router: &&Outgoing| before.iter().position(|it| it.label == router.label);
    let mut which: Vec<_> = to.iter().map(called).collect();
    let shares = |it: &RouterListener, router: &Outgoing| {
        it.sockets.iter().any(|(address, _)| address.port() != 0 && router.listen.contains(address))
    };
    let is_renamed = |it: &RouterListener, router: &Outgoing| {
        shares(it, router) && to.iter().filter(|other| shares(it, other)).count() == 1
    };
    for (at, router) in to.iter().enumerate() {
        if which[at].is_none() {
            let free = |number: &usize| !which.contains(&Some(*number));
            which[at] = (0..before.len()).filter(free).find(|number| is_renamed(&before[*number], router));
        }
    }
    which
}
