//! Load: threads that do the same thing again and again until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Threads under way, each with a state of its own: its connection, what it has seen. They are told to stop when this is
/// dropped.
pub struct Threads<S> {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<S>>,
}

impl<S: Send + 'static> Threads<S> {
    /// Starts so many threads. Each makes its state by `begin` and then calls `once` again and again, with the moment that the
    /// call was due at: once in `every`, the threads one after the other, or as often as it can where `every` is zero. A thread
    /// that is late makes up for it.
    pub fn start(
        threads: u32,
        every: Duration,
        begin: impl Fn() -> S + Clone + Send + 'static,
        once: impl Fn(&mut S, Instant) + Clone + Send + 'static,
    ) -> Self {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let spawn = |number| {
            let (stop, begin, once) = (Arc::clone(&stop), begin.clone(), once.clone());
            std::thread::spawn(move || {
                let mut state = begin();
                let mut due = begun + every * number / threads;
                while !stop.load(Ordering::SeqCst) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    once(&mut state, due);
                    due += every;
                }
                state
            })
        };
        let threads = (0..threads).map(spawn).collect();
        Self { stop, threads }
    }

    /// Ends them, and returns their states. A panic of one is passed on.
    pub fn stop(mut self) -> Vec<S> {
        self.stop.store(true, Ordering::SeqCst);
        let join = |it: JoinHandle<S>| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.threads.drain(..).map(join).collect()
    }
}

impl<S> Drop for Threads<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_keep_to_their_moments_and_give_back_what_they_saw() {
        let every = Duration::from_millis(20);
        let begun = Instant::now();
        let threads = Threads::start(2, every, Vec::new, |seen, due| seen.push((due, Instant::now())));
        std::thread::sleep(every * 5);
        let seen = threads.stop();
        let firsts: Vec<Instant> = seen.iter().map(|moments| moments[0].0).collect();
        assert_eq!(firsts[1] - firsts[0], every / 2);
        for moments in &seen {
            assert!(moments.len() >= 2, "{}", moments.len());
            assert!(moments.iter().all(|(due, at)| at >= due && *due >= begun));
            assert!(moments.windows(2).all(|pair| pair[1].0 - pair[0].0 == every));
        }
    }
}
