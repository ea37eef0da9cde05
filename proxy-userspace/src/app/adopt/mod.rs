//! Connections that enrolled pods opened while nothing diverted them (`transparent.adopt`): a keep-alive connection stays
//! direct for as long as it lives. They are counted in the pods' network namespaces, and ended when idle where that is wanted.
//!
//! A look costs time in proportion to the node's sockets, so it is done seldom and slowly: one namespace at a time, with a
//! pause many times as long as the look took.

mod look;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::time::sleep;

use self::look::{Found, Member, Question, look};
use super::netns::{Listing, Looks, NoLook};
use super::{destinations, tasks};
use crate::config::{Adopt, Transparent};
use crate::control::{NetnsState, SeenDirect, State};
use crate::domain::enrol;
use crate::intercept::{Enrol, living, open_netns, standing_exclusions};
use crate::transport::NetnsThread;

/// The pause after a look, in multiples of the time that it took: 2 % of a core, unless it is cut to [`LONGEST`].
const PAUSE: u32 = 50;

/// The longest of these pauses.
const LONGEST: Duration = Duration::from_secs(10);

/// The first look comes so soon after the start: what is diverted must be known.
const FIRST: Duration = Duration::from_secs(3);

/// Within this time a change of `transparent.adopt` is noticed.
const NOTICED: Duration = Duration::from_secs(1);

/// Starts the task.
pub(super) fn start(control: &Arc<State>) {
    let kept = control.clone();
    tasks::supervise(control.clone(), "adopt", move || keep(kept.clone()));
}

/// Looks as long as weir runs.
async fn keep(control: Arc<State>) -> anyhow::Result<()> {
    let mut wait = None;
    // At once, and not at the first look: what weir needs is open when it is ready.
    let mut looks = NetnsThread::start().ok().map(Looks::new);
    loop {
        let Some(transparent) = control.settings().transparent.clone() else {
            return std::future::pending().await;
        };
        rest(&control, transparent.adopt, wait.unwrap_or(FIRST.min(transparent.adopt_every))).await;
        if control.programs.is_stopping() {
            return std::future::pending().await;
        }
        let (seen, pause) = match wanted(&control) {
            None => (SeenDirect::default(), Duration::ZERO),
            Some(transparent) => round(&control, &transparent, &mut looks).await,
        };
        wait = Some(transparent.adopt_every.max(pause));
        let before = control.direct.seen.swap(Arc::new(seen.clone()));
        if seen.why.is_some() && before.why != seen.why {
            tracing::info!(
                why = seen.why.as_deref(),
                "connections that were not diverted when they were opened are not all counted"
            );
        }
    }
}

/// The settings in force, if connections are to be looked for: not when that is off, or weir stops.
fn wanted(control: &State) -> Option<Transparent> {
    let transparent = control.settings().transparent.clone()?;
    (transparent.adopt != Adopt::Off && !control.programs.is_stopping()).then_some(transparent)
}

/// Waits for `span`, or until `adopt` is another.
async fn rest(control: &State, adopt: Adopt, span: Duration) {
    let until = Instant::now() + span;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let is_same = control.settings().transparent.as_ref().is_some_and(|it| it.adopt == adopt);
        if left.is_zero() || !is_same {
            return;
        }
        sleep(left.min(NOTICED)).await;
    }
}

/// After how long idle connections of the namespace `name` are ended: only while a new connection there would be diverted.
fn close_after(control: &State, transparent: &Transparent, name: &str) -> Option<Duration> {
    let listens = || {
        let seen = control.netns.seen.load();
        seen.iter().any(|it| &*it.name == name && it.state == NetnsState::Listening)
    };
    let is_diverted = || {
        control.programs.lock().as_ref().is_ok_and(|it| it.status().is_armed())
            && (!control.netns.is_in_pods() || listens())
    };
    (transparent.adopt == Adopt::CloseIdle && is_diverted()).then_some(transparent.adopt_idle)
}

/// Looks into every namespace once; returns what there is, and for how long to pause.
async fn round(
    control: &State,
    transparent: &Transparent,
    looks: &mut Option<Looks>,
) -> (SeenDirect, Duration) {
    let blind = |why: String| (SeenDirect { why: Some(why.into()), ..SeenDirect::default() }, Duration::ZERO);
    let question = match question(control, transparent) {
        Ok(question) => Arc::new(question),
        Err(why) => return blind(why),
    };
    let listing = match Listing::of(&transparent.netns) {
        Ok(listing) => listing,
        Err(cause) => {
            return blind(format!(
                "{} cannot be listed ({cause}): mount the folder of the pods' network namespaces there",
                transparent.netns.display()
            ));
        }
    };
    let looks = match looks {
        Some(looks) => looks,
        None => match NetnsThread::start() {
            Ok(thread) => looks.insert(Looks::new(thread)),
            Err(cause) => {
                let what = "weir may not enter the pods' network namespaces, which needs CAP_SYS_ADMIN";
                return blind(format!("{what} ({cause})"));
            }
        },
    };
    looks.forget_ended();
    let own = fs::metadata("/proc/self/ns/net").map(|it| (it.dev(), it.ino())).ok();
    let mut seen = SeenDirect { unseen: listing.unknown.len(), ..SeenDirect::default() };
    seen.why = listing.unknown.into_values().next();
    let mut pause = Duration::ZERO;
    for (id, path) in listing.present.into_iter().filter(|(id, _)| Some(*id) != own) {
        sleep(pause).await;
        let Some(transparent) = wanted(control) else {
            return (SeenDirect::default(), Duration::ZERO);
        };
        let name: Arc<str> = path.file_name().unwrap_or_default().to_string_lossy().into();
        let close_after = close_after(control, &transparent, &name);
        let (asked, begun) = (question.clone(), Instant::now());
        let opened = move || open_netns(&path).map(|(netns, _)| netns);
        let found = looks.run(id, opened, move || look(&asked, close_after)).await;
        let took = begun.elapsed();
        note(control, &mut seen, &name, found);
        control.direct.looks.inc();
        control.direct.took.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        pause = (took * PAUSE).min(LONGEST);
    }
    (seen, pause)
}

/// Adds what was found in the namespace `name`.
fn note(control: &State, seen: &mut SeenDirect, name: &Arc<str>, found: Result<Found, NoLook>) {
    let why = match found {
        Ok(found) => {
            seen.looked += 1;
            control.direct.closed.add(found.closed);
            for (pod, count) in found.by_pod {
                *seen.by_pod.entry(pod.unwrap_or_else(|| name.clone())).or_default() += count;
            }
            found.why
        }
        Err(NoLook::Busy) => Some("the kernel takes too long there".to_owned()),
        Err(NoLook::Failed(cause)) if cause.raw_os_error() == Some(libc::ENOENT) => {
            Some("this kernel has no sock_diag for TCP (CONFIG_INET_DIAG)".to_owned())
        }
        Err(NoLook::Failed(cause)) => Some(cause.to_string()),
    };
    if let Some(why) = why {
        seen.unseen += 1;
        seen.why.get_or_insert_with(|| format!("{name}: {why}").into());
    }
}

/// What is diverted now, and whose. The error says why nothing is.
fn question(control: &State, transparent: &Transparent) -> Result<Question, String> {
    let catalog = control.catalogs.in_force();
    let mut except: HashSet<IpNet> = standing_exclusions().collect();
    except.extend(destinations::exceptions(&catalog, destinations::told_api_server()));
    let snapshot = control.shared.routing.snapshot.load();
    except.extend(snapshot.config.node.own.iter().copied().map(IpNet::from));
    // The snapshot of the moment, since a round may take minutes: an old one is not kept for it.
    let (divert, shared) = (transparent.divert.clone(), control.shared.clone());
    let diverts = move |at: SocketAddr| {
        destinations::is_wanted(divert.as_deref(), &shared.routing.snapshot.load(), at)
            && !except.iter().any(|net| net.contains(&at.ip()))
    };
    Ok(Question { diverts: Box::new(diverts), members: members(control)? })
}

/// The cgroups of enrolled pods, those of their containers included.
fn members(control: &State) -> Result<HashMap<u64, Arc<Member>>, String> {
    let programs = control.programs.lock();
    let interception = programs.as_ref().map_err(Clone::clone)?;
    let (root, enrols) = (interception.cgroup().to_owned(), interception.enrols());
    let (pods, own) = (interception.pod_members(), interception.own_cgroups().clone());
    drop(programs);
    let pods = pods.map_err(|cause| format!("the pods' cgroups cannot be listed: {cause}"))?;
    let mut members = HashMap::new();
    if enrols == Enrol::All {
        let anyone = Arc::new(Member::default());
        members.extend(living(&root).into_iter().map(|cgroup| (cgroup, anyone.clone())));
        members.retain(|cgroup, _| !own.contains(cgroup));
    }
    let enrolment = control.enrolment.load_full().unwrap_or_default();
    let by_cgroup: HashMap<&str, &enrol::Enrolled> =
        enrolment.pods.values().map(|it| (&*it.pod.cgroup_uid, it)).collect();
    for (uid, cgroups) in pods {
        // A weir's connections are direct because it is one.
        if cgroups.iter().any(|it| own.contains(it)) {
            members.retain(|cgroup, _| !cgroups.contains(cgroup));
            continue;
        }
        let enrolled = by_cgroup.get(&*uid);
        let member = match (enrols, enrolled) {
            (Enrol::All, _) => Member { name: Some(uid.into()), ..Member::default() },
            (Enrol::Pods, Some(it)) if it.state == enrol::State::Enrolled => Member {
                name: Some(format!("{}/{}", it.pod.namespace, it.pod.name).into()),
                skip: it.decision.ports.skip.clone(),
            },
            (Enrol::Pods, _) => continue,
        };
        let member = Arc::new(member);
        members.extend(cgroups.into_iter().map(|cgroup| (cgroup, member.clone())));
    }
    Ok(members)
}
