//! Whatever happens to the API server, and whatever happens in the cluster meanwhile: afterwards the catalog is right.

use std::time::Duration;

use e2e::Clock;

use super::history::History;
use super::{model, stage::Stage};

/// How many histories there are at once, and how many rounds each has.
const HISTORIES: u64 = 4;
const ROUNDS: usize = 3;

/// What the catalog is followed by.
const FOLLOWED: [&str; 2] = ["services", "endpointslices"];

/// The longest that weir may leave a server alone which is well again. Its watches return within 2 s; lists that failed, and
/// what was answered 429 or 403, wait up to 30 s, and are then to be read.
const RETURN: Duration = Duration::from_secs(45);

/// The catalog, as `/api/state.json` has it, equals the server's state within one second of quiet.
///
/// Quiet begins when objects do not change any more, nothing is wrong with the server any more, and the server has written
/// all that it has to say to a watch for Services and to one for EndpointSlices, neither of which was ended or fed garbage
/// meanwhile. How long that may take after the last fault is another promise: see [`RETURN`].
///
/// `WEIR_E2E_SEED` repeats the history of a failure, as far as the order of events is not the scheduler's.
#[test]
fn after_any_sequence_of_faults_the_catalog_is_the_servers_within_a_second_of_quiet() {
    let seeds: Vec<u64> = match std::env::var("WEIR_E2E_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number in WEIR_E2E_SEED")],
        Err(_) => (0..HISTORIES).map(|_| fastrand::u64(..)).collect(),
    };
    std::thread::scope(|scope| {
        for seed in seeds {
            scope.spawn(move || live_through(seed));
        }
    });
}

fn live_through(seed: u64) {
    let Some(stage) = Stage::with(0) else { return };
    let mut history = History::new(&stage.server, &stage.weir, seed);
    for round in 0..ROUNDS {
        history.round();
        let healed = Clock::start();
        while !stage.server.has_told(&FOLLOWED) {
            let told = || format!("{}\n{}", history.lines.join("\n"), stage.weir.log());
            assert!(
                !healed.is_past(RETURN),
                "seed {seed}, round {round}: not followed again after\n{}",
                told()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let should = model::of_server(&stage.server);
        let (back, quiet) = (healed.elapsed(), Clock::start());
        loop {
            let differences = model::differences(&should, &model::of_weir(&stage.weir));
            if differences.is_empty() {
                break;
            }
            if quiet.is_past(Duration::from_secs(1)) {
                let (differences, lines) = (differences.join("\n"), history.lines.join("\n"));
                panic!("seed {seed}, round {round}: a second after quiet\n{differences}\nafter\n{lines}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let right = quiet.elapsed();
        eprintln!("seed {seed}, round {round}: followed after {back:?}, right after {right:?}");
    }
}
