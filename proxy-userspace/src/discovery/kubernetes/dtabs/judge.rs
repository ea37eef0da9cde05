//! What of a dtab that is in force can never be bound: the checks of `weir check`, made while weir runs.
//!
//! No request and no edit waits for it. It runs on a thread of its own, one dtab at a time, and rests nine times as long, up to
//! [`LONGEST`]: a large dtab that is edited all the time takes about a tenth of a core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::DtabKeeper;
use crate::config::{Interpreter, Settings, Warning, lint_of_readers};
use crate::discovery::kubernetes::failure::text;
use crate::domain::dtab::Dtab;

/// After a dtab was judged, for how many times as long none is.
const REST: u32 = 9;
/// The longest rest. A dtab takes well below a second on a node that has time.
const LONGEST: Duration = Duration::from_secs(10);
/// The warning about a dtab whose check panicked: without one it would look as if all of it could be bound.
const NOT_CHECKED: &str = "not checked: what of it can never be bound is not known (a fault of weir; its log says which, please report it)";

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
            let (of, judged) = (which.clone(), dtab.clone());
            judge(&which, &keeper, dtab, move || lint_of_readers(&by, &of, &judged)).await;
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

/// Judges `dtab` by `lint`, and notes what that finds if the dtab is still in force then.
async fn judge(
    which: &Interpreter,
    keeper: &DtabKeeper,
    dtab: Arc<Dtab>,
    lint: impl FnOnce() -> Vec<Warning> + Send + 'static,
) {
    // It is never closed.
    let Ok(turn) = keeper.judging.clone().acquire_owned().await else { return };
    let begun = Instant::now();
    let judging = spawn_blocking(move || {
        let warnings = lint();
        // With its turn: it goes on even if nobody waits for it any more.
        (warnings.iter().map(|it| text(&it.to_string())).collect::<Arc<[String]>>(), turn)
    });
    let (warnings, _turn) = match judging.await {
        Ok((warnings, turn)) => (warnings, Some(turn)),
        Err(error) => {
            tracing::error!(dtab = %which, %error, "the dtab could not be judged");
            ([NOT_CHECKED.to_owned()].into(), None)
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
        && first != NOT_CHECKED
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
    use std::sync::mpsc;

    use super::*;
    use crate::config::DtabStore;

    /// A keeper with a dtab in force.
    fn kept() -> (Interpreter, Arc<DtabKeeper>, Arc<Dtab>) {
        let which = Interpreter { store: DtabStore::Dtab, namespace: "l5d".into(), name: "web".into() };
        let (keeper, dtab) = (Arc::new(DtabKeeper::default()), Arc::new(Dtab::default()));
        keeper.want([(which.clone(), String::new())].into());
        keeper.update(&which, |stored| stored.dtab = Some(dtab.clone()));
        (which, keeper, dtab)
    }

    /// A reload ends whoever waits for the judge; the next one would judge beside the first.
    #[tokio::test]
    async fn a_turn_lasts_as_long_as_the_thread_that_judges_also_if_nobody_waits_for_it() {
        let (which, keeper, dtab) = kept();
        let ((begins, mut begun), (end, ends)) = (tokio::sync::mpsc::channel(1), mpsc::channel::<()>());
        let lint = move || {
            begins.blocking_send(()).expect("somebody waits for it");
            // Until the other side is gone.
            let _ = ends.recv();
            Vec::new()
        };
        let by = keeper.clone();
        let judging = tokio::spawn(async move { judge(&which, &by, dtab, lint).await });
        begun.recv().await.expect("the judge");
        judging.abort();
        assert!(judging.await.is_err_and(|it| it.is_cancelled()));
        assert_eq!(keeper.judging.available_permits(), 0, "its thread goes on");
        drop(end);
        // It gives the turn back when it ends.
        drop(keeper.judging.acquire().await.expect("it is never closed"));
    }

    #[tokio::test]
    async fn a_dtab_whose_check_panics_does_not_look_right_and_keeps_nobody_waiting() {
        let (which, keeper, dtab) = kept();
        judge(&which, &keeper, dtab, || panic!("a fault of weir")).await;
        let stored = keeper.known().borrow()[&which].clone();
        assert!(stored.is_judged && *stored.warnings == [NOT_CHECKED.to_owned()], "{:?}", stored.warnings);
        assert_eq!(keeper.judging.available_permits(), 1);
    }
}
