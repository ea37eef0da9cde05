//! What of a dtab that is in force can never be bound: the checks of `weir check`, made while weir runs.
//!
//! No request and no edit waits for it. It runs on a thread of its own, one dtab at a time, and rests nine times as long, up to
//! [`LONGEST`]: a large dtab that is edited all the time takes about a tenth of a core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::DtabKeeper;
use crate::config::{Interpreter, Settings, lint_of_readers};
use crate::discovery::kubernetes::failure::text;
use crate::domain::dtab::Dtab;

/// After a dtab was judged, for how many times as long none is.
const REST: u32 = 9;
/// The longest rest. A dtab takes well below a second on a node that has time.
const LONGEST: Duration = Duration::from_secs(10);

/// Judges each dtab of `which` that comes into force, and again by each new configuration.
pub(super) async fn run(which: Interpreter, keeper: Arc<DtabKeeper>) {
    let (mut known, mut settings) = (keeper.known(), keeper.settings.subscribe());
    let mut judged_by: Option<Arc<Settings>> = None;
    loop {
        let by = settings.borrow_and_update().clone();
        let stored = known.borrow_and_update().get(&which).cloned().unwrap_or_default();
        let is_read = by.all_routers().any(|router| router.interpreter.as_ref() == Some(&which));
        let is_judged = stored.is_judged && judged_by.as_ref().is_some_and(|it| Arc::ptr_eq(it, &by));
        if let Some(dtab) = stored.dtab.filter(|_| is_read && !is_judged) {
            judged_by = Some(by.clone());
            judge(&which, &keeper, by, dtab).await;
            // What came meanwhile is seen at once.
            continue;
        }
        let changed = tokio::select! {
            changed = known.changed() => changed,
            changed = settings.changed() => changed,
        };
        if changed.is_err() {
            // The keeper, which has the senders, is gone.
            return;
        }
    }
}

/// Judges `dtab`, and notes what was found if it is still in force then.
async fn judge(which: &Interpreter, keeper: &DtabKeeper, by: Arc<Settings>, dtab: Arc<Dtab>) {
    // It is never closed.
    let Ok(turn) = keeper.judging.clone().acquire_owned().await else { return };
    let begun = Instant::now();
    let (of, judged) = (which.clone(), dtab.clone());
    let judging = spawn_blocking(move || {
        let warnings = lint_of_readers(&by, &of, &judged);
        // With its turn: it goes on even if nobody waits for it any more.
        (warnings.iter().map(|it| text(&it.to_string())).collect::<Arc<[String]>>(), turn)
    });
    let (warnings, _turn) = match judging.await {
        Ok((warnings, turn)) => (warnings, Some(turn)),
        Err(error) => {
            tracing::error!(dtab = %which, %error, "the dtab could not be judged");
            (Arc::default(), None)
        }
    };
    let mut before = None;
    keeper.update(which, |stored| {
        if stored.dtab.as_ref().is_some_and(|now| Arc::ptr_eq(now, &dtab)) {
            before = Some(std::mem::replace(&mut stored.warnings, warnings.clone()));
            stored.is_judged = true;
        }
    });
    if let (Some(before), Some(first)) = (before, warnings.first())
        && before != warnings
    {
        let (router, count) = (keeper.readers(which), warnings.len());
        let router = router.as_deref();
        tracing::warn!(
            dtab = %which, router, count, %first, "the dtab of the cluster is in force, but not all of it can be bound"
        );
    }
    sleep((begun.elapsed() * REST).min(LONGEST)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::domain::dtab::{Bounds, Origin};

    /// A reload ends whoever waits for the judge; the next one would judge beside the first.
    #[tokio::test]
    async fn a_turn_lasts_as_long_as_the_thread_that_judges_also_if_nobody_waits_for_it() {
        let yaml = "discovery: { kubernetes: {} }\noutgoing: { interpreter: { kind: io.l5d.k8s.dtabs, name: web } }\n";
        let settings = parse("weir.yaml", yaml, std::path::Path::new("/etc")).unwrap();
        let which = settings.outgoing.interpreter.clone().unwrap();
        let ring: String =
            (0..10_000).map(|n| format!("/svc/{n} => /svc/{} ;\n", (n + 1) % 10_000)).collect();
        let dtab = Dtab::parse(&ring, Origin::Stored, &Bounds::CONFIGURATION).unwrap();
        let keeper = Arc::new(DtabKeeper::default());
        keeper.judge_by(&settings);
        keeper.want([(which.clone(), String::new())].into());
        keeper.update(&which, |stored| stored.dtab = Some(Arc::new(dtab)));
        let judging = tokio::spawn(run(which, keeper.clone()));
        while keeper.judging.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        judging.abort();
        assert!(judging.await.is_err_and(|it| it.is_cancelled()));
        assert_eq!(keeper.judging.available_permits(), 0, "its thread goes on");
        // It gives the turn back when it ends.
        drop(keeper.judging.acquire().await.expect("it is never closed"));
    }
}
