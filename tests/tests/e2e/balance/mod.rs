//! Who gets the next request: equal endpoints their equal shares, and whoever refuses or is slow less.

mod databases;
mod equals;
mod refusals;

use e2e::{Answer, Backend, Weir};

/// A started server that answers `name`.
fn named(name: &str) -> Backend {
    Backend::http().answers(name).start()
}

/// How many of `requests` sequential GETs over one connection each of these bodies answers.
fn answers(weir: &Weir, requests: usize, bodies: &[&str]) -> Vec<usize> {
    let mut counts = vec![0; bodies.len()];
    let mut client = weir.client();
    for _ in 0..requests {
        let text = client.get("http://hello/").text();
        counts[bodies.iter().position(|body| *body == text).unwrap_or_else(|| panic!("{text:?}"))] += 1;
    }
    counts
}

/// An answer of 429.
fn too_many() -> Answer {
    Answer::status(429)
}
