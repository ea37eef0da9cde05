//! How soon an edit of an object is in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Weir, eventually};

/// How soon an edit is in force on every weir.
const SOON: Duration = Duration::from_secs(1);

/// How often a thread has to be woken from an edit to a request that goes by it: the server's, weir's for its control plane
/// (to read, and to build), a worker's, and the test's.
const WAKES: u32 = 5;

/// Makes the edit, and waits until it `is_in_force` on each weir: all of that within a second. A busy machine lets everybody
/// wait. How long is measured meanwhile, by questions to the same weirs that no edit changes; they take next to no time
/// where the machine is idle.
#[track_caller]
pub(super) fn is_soon_in_force<T>(
    weirs: &[Weir],
    edit: impl FnOnce() -> T,
    is_in_force: impl Fn(&Weir) -> bool,
) {
    let is_over = AtomicBool::new(false);
    let (took, slowest) = std::thread::scope(|scope| {
        let control = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                for weir in weirs {
                    let asked = Instant::now();
                    weir.admin_get("/ready");
                    slowest = slowest.max(asked.elapsed());
                }
            }
            slowest
        });
        edit();
        let edited = Instant::now();
        for weir in weirs {
            eventually("the edit", || is_in_force(weir));
        }
        let took = edited.elapsed();
        is_over.store(true, Ordering::SeqCst);
        (took, control.join().expect("weir answers"))
    });
    assert!(took < SOON + slowest * WAKES, "{took:?}, while others waited for up to {slowest:?}");
}
