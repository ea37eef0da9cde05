//! What a simulated endpoint does with a request.

use std::time::Duration;

/// How an endpoint behaves until told otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) enum Server {
    /// Answers.
    Up(Latency),
    /// Answers, but so many requests of a thousand with an error, and those at once.
    Erring(Latency, u32),
    /// Refuses connections at once: no process, but a machine.
    Refusing,
    /// Answers nothing: no machine.
    Hanging,
}

/// How long an endpoint takes to answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// The mean of an endpoint that is not overloaded.
    pub(super) mean: Duration,
    /// How many requests it works on at a time; with more, all of them take longer in proportion.
    pub(super) capacity: usize,
}

/// How one request ended, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Answer,
    Failure,
}

/// How long a refused connection or an immediate error takes.
const AT_ONCE: Duration = Duration::from_micros(50);

/// How long the proxy waits for an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

impl Latency {
    pub(super) fn millis(mean: u64) -> Self {
        Self { mean: Duration::from_millis(mean), capacity: 16 }
    }

    /// Half of the mean fixed, half exponential: a long tail above a floor, as services have.
    fn draw(self, in_flight: usize, rng: &mut fastrand::Rng) -> Duration {
        let exponential = -(1.0 - rng.f64()).ln();
        let crowd = (in_flight as f64 / self.capacity as f64).max(1.0);
        self.mean.mul_f64((0.5 + 0.5 * exponential) * crowd)
    }
}

impl Server {
    /// How and after what time a request ends that begins with `in_flight` others.
    pub(super) fn serve(self, in_flight: usize, rng: &mut fastrand::Rng) -> (Reply, Duration) {
        let latency = match self {
            Self::Refusing => return (Reply::Failure, AT_ONCE),
            Self::Hanging => return (Reply::Failure, TIMEOUT),
            Self::Erring(_, permille) if rng.u32(..1000) < permille => return (Reply::Failure, AT_ONCE),
            Self::Erring(latency, _) | Self::Up(latency) => latency.draw(in_flight, rng),
        };
        if latency < TIMEOUT { (Reply::Answer, latency) } else { (Reply::Failure, TIMEOUT) }
    }
}
