//! Which pods can reach an endpoint, where weir connects from the client's own pod.
//!
//! A network policy may forbid an endpoint to one pod and not to others. So a connect that fails says something about the
//! endpoint only if the pod has reached it before, or if two pods failed and none succeeded since.

/// How many pods are remembered. A node has some 110; beyond that, the oldest is forgotten.
const MOST: usize = 128;

/// The pods, by any numbers of theirs.
#[derive(Debug, Default)]
pub struct Reach {
    reached: Vec<u64>,
    /// The last pod that failed since one succeeded, and had never reached it.
    failed: Option<u64>,
}

impl Reach {
    /// `pod` has connected.
    pub fn connected(&mut self, pod: u64) {
        self.failed = None;
        if self.reached.contains(&pod) {
            return;
        }
        if self.reached.len() >= MOST {
            self.reached.remove(0);
        }
        self.reached.push(pod);
    }

    /// `pod` could not connect. Returns whether that says something about the endpoint.
    pub fn failed(&mut self, pod: u64) -> bool {
        if self.reached.contains(&pod) {
            return true;
        }
        self.failed.replace(pod).is_some_and(|before| before != pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_pod_cannot_reach_is_not_held_against_the_endpoint() {
        let mut reach = Reach::default();
        for _ in 0..100 {
            assert!(!reach.failed(1), "nobody else has tried");
        }
        reach.connected(2);
        for _ in 0..100 {
            assert!(!reach.failed(1));
        }
        assert!(reach.failed(2), "it was reached from there before");
    }

    #[test]
    fn what_two_pods_cannot_reach_is() {
        let mut reach = Reach::default();
        assert!(!reach.failed(1));
        assert!(reach.failed(2));
        assert!(reach.failed(1));
        reach.connected(3);
        assert!(!reach.failed(1), "a third one can");
    }

    #[test]
    fn memory_is_bounded() {
        let mut reach = Reach::default();
        (0..10_000).for_each(|pod| reach.connected(pod));
        assert_eq!(reach.reached.len(), MOST);
        assert!(reach.failed(9_999) && !reach.failed(0));
    }
}
