//! Simulated clusters: the product's own choice of endpoints, and what it learns from them, over endpoints that are not real.
//!
//! Virtual time, one random source, one queue of events: the same seed gives the same run, to the last
//! choice. After every event the [`World`](world::World) checks what must hold in any run; each scenario in
//! [`tests`] then asks of the whole run what a user was promised. Every scenario runs with many seeds. A
//! failure names its seed, and `WEIR_SIM_SEED=n cargo test sim` runs that one alone.
//!
//! Deliberately absent: sockets, pools, concurrency between workers. What two workers may do to one breaker
//! in an unlucky order is in the breaker's own tests.

mod cluster;
mod server;
mod tests;
mod world;

/// How many seeds a scenario runs with.
const SEEDS: u64 = 12;

/// How many a scenario runs with that is a table of scenarios.
const FEW: u64 = 4;

/// Runs a scenario with every seed, or with the one in `WEIR_SIM_SEED`.
fn with_seeds(scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    with(SEEDS, scenario);
}

/// The same for each scenario of a table.
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
