//! Which pods can reach an endpoint, where weir connects from the client's own pod.
//!
//! A network policy may forbid an endpoint to some pods and not to others. So a connect that fails says something about the
//! endpoint only if the pod has reached it before. Otherwise it counts for that pod alone.

/// How many pods are remembered. A node has some 110; beyond that, the oldest is forgotten.
const MOST: usize = 128;

/// The pods that have reached it, by any numbers of theirs.
#[derive(Debug, Default)]
pub struct Reach(Vec<u64>);

impl Reach {
    /// `pod` has connected.
    pub fn connected(&mut self, pod: u64) {
        if self.has_reached(pod) {
            return;
        }
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(pod);
    }

    /// Whether `pod` has connected before, so that a connect of it that fails says something about the endpoint.
    pub fn has_reached(&self, pod: u64) -> bool {
        self.0.contains(&pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_never_reached_is_not_held_against_the_endpoint() {
        let mut reach = Reach::default();
        assert!(!reach.has_reached(1));
        reach.connected(2);
        assert!(!reach.has_reached(1), "another one can");
        assert!(reach.has_reached(2));
    }

    #[test]
    fn memory_is_bounded() {
        let mut reach = Reach::default();
        (0..10_000).for_each(|pod| reach.connected(pod));
        assert_eq!(reach.0.len(), MOST);
        assert!(reach.has_reached(9_999) && !reach.has_reached(0));
    }
}
