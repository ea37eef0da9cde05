//! Simulated clusters: the product's own balancing and health code with simulated endpoints.
//!
//! Virtual time, one random source, one event queue: the same seed gives exactly the same run. After every event the
//! [`World`](world::World) checks the invariants; each scenario in [`tests`] then checks what users were promised for
//! the whole run. Every scenario runs with many seeds. A failure names its seed, and `WEIR_SIM_SEED=n cargo test sim`
//! runs only that one.
//!
//! Not here: sockets, pools, concurrency between workers. Races of two workers on one breaker are in the breaker's own
//! tests.

mod cluster;
mod server;
mod tests;
mod world;

/// The number of seeds for a scenario.
const SEEDS: u64 = 12;

/// The number of seeds for a table of scenarios.
const FEW: u64 = 4;

/// Runs a scenario with every seed, or with the one in `WEIR_SIM_SEED`.
fn with_seeds(scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    with(SEEDS, scenario);
}

/// As [`with_seeds`], for each scenario of a table.
fn with_few_seeds(scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    with(FEW, scenario);
}

fn with(seeds: u64, scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let one = std::env::var("WEIR_SIM_SEED").ok();
    let seeds = match one.as_deref().map(str::parse::<u64>) {
        None => 0..seeds,
        Some(Ok(seed)) => seed..seed + 1,
        Some(Err(error)) => panic!("WEIR_SIM_SEED is not a number: {error}"),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| scenario(seed)) {
            eprintln!("failed with seed {seed}: WEIR_SIM_SEED={seed} runs it alone");
            std::panic::resume_unwind(panic);
        }
    }
}
