//! Who may read the metrics at the probes' listener: the metrics name every service of the cluster.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::guard::{bearer, one};
use super::refusal::Refusal;
use super::serve::Asker;
use super::tokens::{Memory, Tokens};
use crate::config;
use crate::discovery::kubernetes::{Failure, Review, Reviews};
use crate::domain::pace::Pace;
use crate::telemetry::Counter;

/// The non-resource URL (Kubernetes authorization) for which a reader needs the `get` permission.
const URL: &str = "/metrics";

/// Maximum number of concurrent reviews.
const REVIEWS: usize = 4;

/// Maximum token size; longer tokens are rejected. Those of service accounts are about 1 KiB.
const TOKEN_BYTES: usize = 16 << 10;

/// How often a client may have unknown tokens reviewed: burst, then interval.
const UNKNOWN: (u32, Duration) = (5, Duration::from_secs(1));

/// Checks the tokens of metrics readers.
pub(super) struct Readers {
    reviews: Option<Reviews>,
    slots: Semaphore,
    tokens: Mutex<Tokens>,
    pace: Mutex<Pace<IpAddr>>,
    /// Why the last review failed; cleared by a success.
    failed: Mutex<Option<String>>,
    /// Number of reviews by result.
    pub(super) reviewed: [Counter; Self::RESULTS.len()],
}

impl Readers {
    /// The label values of results, in order.
    pub(super) const RESULTS: [&'static str; 4] = ["allowed", "forbidden", "unauthenticated", "failed"];

    pub(super) fn new(reviews: Option<Reviews>) -> Self {
        Self {
            reviews,
            slots: Semaphore::new(REVIEWS),
            tokens: Mutex::default(),
            pace: Mutex::new(Pace::new(UNKNOWN.0, UNKNOWN.1)),
            failed: Mutex::default(),
            reviewed: Default::default(),
        }
    }

    /// Checks whether `asker` may read the metrics by `rules`.
    pub(super) async fn check(
        &self,
        headers: &HeaderMap,
        asker: &Asker,
        rules: &config::Readers,
    ) -> Result<(), Refusal> {
        let authorization = one(headers, &AUTHORIZATION)?;
        if rules.tokens && authorization.is_some() && !asker.secured {
            return Err(Refusal::ClearText);
        }
        let client = asker.client.ip();
        if rules.allow.permits(client) {
            return Ok(());
        }
        if !rules.tokens {
            return Err(Refusal::NotAllowed);
        }
        let token = authorization.and_then(bearer).ok_or(Refusal::NoToken)?;
        self.review(token, client).await
    }

    async fn review(&self, token: &str, client: IpAddr) -> Result<(), Refusal> {
        if token.len() > TOKEN_BYTES {
            return Err(Refusal::Unauthenticated);
        }
        let was_allowed = match self.tokens.lock().recall(token, Instant::now()) {
            Memory::Fresh(review) => return meaning(review),
            Memory::WasAllowed => true,
            Memory::None => false,
        };
        // A client that guesses tokens must not affect others behind the same address.
        if !was_allowed && !self.pace.lock().admits(client.to_canonical(), Instant::now()) {
            return Err(Refusal::Often);
        }
        let told = match self.ask(token).await {
            Ok(review) => {
                self.tokens.lock().note(token, review, Instant::now());
                meaning(review)
            }
            Err(refusal) => Err(refusal),
        };
        match told {
            Err(Refusal::Often | Refusal::Unavailable) if was_allowed => Ok(()),
            told => told,
        }
    }

    async fn ask(&self, token: &str) -> Result<Review, Refusal> {
        let reviews = self.reviews.as_ref().ok_or(Refusal::Unavailable)?;
        let _slot = self.slots.try_acquire().map_err(|_| Refusal::Often)?;
        let told = reviews.may_get(token, URL).await;
        let result = match &told {
            Ok(Review::Allowed) => 0,
            Ok(Review::Forbidden) => 1,
            Ok(Review::Unauthenticated) => 2,
            Err(_) => 3,
        };
        self.reviewed[result].inc();
        self.note(told.as_ref().err());
        told.map_err(|_| Refusal::Unavailable)
    }

    /// Logs that tokens cannot be checked, and why; each reason once.
    fn note(&self, failure: Option<&Failure>) {
        let now = failure.map(ToString::to_string);
        let before = std::mem::replace(&mut *self.failed.lock(), now.clone());
        match now {
            Some(why) if before.as_ref() != Some(&why) => {
                tracing::warn!("tokens of those who read /metrics cannot be checked: {why}");
            }
            None if before.is_some() => tracing::info!("tokens can be checked again"),
            Some(_) | None => {}
        }
    }
}

fn meaning(review: Review) -> Result<(), Refusal> {
    match review {
        Review::Allowed => Ok(()),
        Review::Forbidden => Err(Refusal::Forbidden),
        Review::Unauthenticated => Err(Refusal::Unauthenticated),
    }
}
