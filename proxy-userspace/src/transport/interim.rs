//! Limits what an endpoint sends before its answer: interim answers (1xx, RFC 9110 §15.2), in any number.
//!
//! hyper skips them itself, in one poll of its task and without a limit: an endpoint that sends nothing else would keep
//! a worker busy indefinitely. So they are counted here, below hyper, and what exceeds the bounds is never parsed. An
//! answer without interim answers costs the comparison of one byte.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// The bytes of a status line up to its status code: `HTTP/1.1 100`.
const START: usize = 12;

/// Bounds on the interim answers of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum number.
    pub answers: usize,
    /// Maximum bytes of all of them together.
    pub bytes: usize,
}

/// Counts the interim answers on a connection to an endpoint.
#[derive(Debug)]
pub(super) struct Interim {
    bounds: Bounds,
    stage: AtomicU8,
    /// Used only in [`Stage::Begun`], so the lock is never contended, and most requests never take it.
    count: Mutex<Count>,
    /// Whether some of them wait to be passed on.
    waiting: AtomicBool,
    /// Who passes them on.
    waiter: Mutex<Option<Waker>>,
}

/// The progress of an answer.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// None is awaited, or its head has begun: hyper limits that.
    Final = 0,
    /// It is awaited, and nothing has arrived.
    Due = 1,
    /// Something has arrived that is not, or not yet, the head of an answer.
    Begun = 2,
    /// Too much arrived.
    Exceeded = 3,
}

/// What arrived before the answer.
#[derive(Debug, Default)]
struct Count {
    answers: usize,
    bytes: usize,
    /// The first bytes of the current head, and how many of them have arrived.
    start: [u8; START],
    started: usize,
    /// The line has nothing but a CR so far.
    line_is_empty: bool,
    /// What has arrived of the current head.
    head: Vec<u8>,
    /// Whole heads that were not passed on yet.
    heads: Vec<u8>,
}

impl Interim {
    pub(super) fn new(bounds: Bounds) -> Self {
        let (count, waiting, waiter) = Default::default();
        Self { bounds, stage: AtomicU8::new(Stage::Final as u8), count, waiting, waiter }
    }

    /// A request is sent: an answer is awaited.
    pub(super) fn is_due(&self) {
        self.stage.store(Stage::Due as u8, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Takes the heads of interim answers that have come (any but 100, which hyper passes on), whole and as they came.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        if !self.waiting.load(Ordering::Relaxed) {
            return None;
        }
        self.waiting.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut self.count.lock().heads))
    }

    /// The task of `cx` is woken for each that comes, and for those that have come and were not taken.
    pub(super) fn wake_for_each(&self, cx: &Context<'_>) {
        let mut waiter = self.waiter.lock();
        if !waiter.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waiter = Some(cx.waker().clone());
        }
        if self.waiting.load(Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
    }

    /// The answer is complete. Whoever waited is forgotten: a waker keeps the memory of its task, which may have ended.
    pub(super) fn is_over(&self) {
        let waiter = self.waiter.lock().take();
        drop(waiter);
    }

    /// Whether more arrived before an answer than the bounds allow.
    pub(super) fn is_exceeded(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Exceeded as u8
    }

    /// These bytes arrived. Returns whether they may be parsed.
    pub(super) fn came(&self, bytes: &[u8]) -> bool {
        const DUE: u8 = Stage::Due as u8;
        const BEGUN: u8 = Stage::Begun as u8;
        match self.stage.load(Ordering::Relaxed) {
            // The usual case: the answer itself.
            DUE if bytes.len() >= START && bytes.starts_with(b"HTTP/1.") && bytes[9] != b'1' => {
                self.stage.store(Stage::Final as u8, Ordering::Relaxed);
                true
            }
            stage @ (DUE | BEGUN) => self.count(stage == DUE, bytes),
            stage => stage == Stage::Final as u8,
        }
    }

    #[cold]
    fn count(&self, first: bool, bytes: &[u8]) -> bool {
        let count = &mut *self.count.lock();
        if first {
            *count = Count::default();
        }
        let stage = count.count(bytes, self.bounds);
        self.stage.store(stage as u8, Ordering::Relaxed);
        if !count.heads.is_empty() {
            self.waiting.store(true, Ordering::Relaxed);
            if let Some(waiter) = &*self.waiter.lock() {
                waiter.wake_by_ref();
            }
        }
        !matches!(stage, Stage::Exceeded)
    }
}

impl Count {
    fn count(&mut self, bytes: &[u8], bounds: Bounds) -> Stage {
        for byte in bytes {
            self.bytes += 1;
            if self.started > 0 || !matches!(byte, b'\r' | b'\n') {
                self.head.push(*byte);
            }
            if self.started < START {
                // Empty lines before a head are skipped (RFC 9112 §2.2). They are counted, so that they are bounded.
                if self.started > 0 || !matches!(byte, b'\r' | b'\n') {
                    self.start[self.started] = *byte;
                    self.started += 1;
                    self.line_is_empty = false;
                }
                if self.started == START && !self.is_interim() {
                    self.head = Vec::new();
                    return Stage::Final;
                }
            } else if *byte == b'\n' && self.line_is_empty {
                self.answers += 1;
                self.started = 0;
                if self.start[9..] != *b"100" {
                    self.heads.extend_from_slice(&self.head);
                }
                self.head.clear();
            } else if *byte != b'\r' {
                self.line_is_empty = *byte == b'\n';
            }
            if self.answers > bounds.answers || self.bytes > bounds.bytes {
                return Stage::Exceeded;
            }
        }
        Stage::Begun
    }

    /// Whether the current head is one that hyper skips. An answer of 101 is not (RFC 9110 §15.2.2).
    fn is_interim(&self) -> bool {
        self.start[9] == b'1' && self.start[9..] != *b"101"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    const BOUNDS: Bounds = Bounds { answers: 3, bytes: 200 };
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";

    /// Whether `text` may be parsed when it arrives in pieces of this size; later bytes are not checked.
    fn passes(text: &str, size: usize) -> bool {
        let interim = Interim::new(BOUNDS);
        interim.is_due();
        let passes = text.as_bytes().chunks(size).all(|piece| interim.came(piece));
        assert_eq!(passes, !interim.is_exceeded());
        passes
    }

    #[test]
    fn a_few_interim_answers_pass_and_more_do_not_however_they_are_cut() {
        let hints = |n: usize| HINT.repeat(n);
        let lf = |text: &str| text.replace("\r\n", "\n");
        let cases = [
            (OK.to_owned(), true),
            (hints(3) + OK, true),
            (hints(4) + OK, false),
            (lf(&hints(3)) + OK, true),
            (lf(&hints(4)) + OK, false),
            // Their fields, reason phrases and the empty lines between them are bounded only in bytes.
            ("HTTP/1.1 102\r\n\r\n".repeat(3) + OK, true),
            ("HTTP/1.1 102\r\n\r\n".repeat(4), false),
            ("\r\n".repeat(40) + OK, true),
            ("\r\n".repeat(101), false),
            ("\n".repeat(201), false),
            (format!("HTTP/1.1 100 Go on\r\nX: {}", "x".repeat(200)), false),
            ("H".repeat(2000), true),
            // What follows the head of an answer is not bounded here.
            (format!("{OK}{}", hints(20)), true),
            (format!("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n{}", hints(20)), true),
            (format!("{HINT}HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n{}", hints(20)), true),
            (format!("{HINT}HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2000)), true),
            (format!("{HINT}HTTP/1.0 200 OK\r\n\r\n{}", "\r\n\r\n".repeat(100)), true),
        ];
        for (text, expected) in cases {
            for size in [1, 2, 3, 7, 11, 12, 13, 64, 100_000] {
                assert_eq!(passes(&text, size), expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn whole_heads_are_passed_on_however_they_are_cut_and_no_other_byte_is() {
        let text = format!("HTTP/1.1 100 Continue\r\n\r\n{HINT}\r\nHTTP/1.1 102\r\n\r\n{OK}");
        for size in [1, 2, 7, 13, 64, 1000] {
            let interim = Interim::new(BOUNDS);
            interim.is_due();
            let mut passed = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                assert!(interim.came(piece));
                passed.extend(interim.take().into_iter().flatten());
            }
            assert_eq!(String::from_utf8(passed).unwrap(), format!("{HINT}HTTP/1.1 102\r\n\r\n"), "{size}");
        }
    }

    #[test]
    fn nothing_of_a_task_is_kept_when_its_answer_is_complete() {
        struct Task;
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let (interim, task) = (Interim::new(BOUNDS), Arc::new(Task));
        interim.is_due();
        interim.wake_for_each(&Context::from_waker(&task.clone().into()));
        assert_eq!(Arc::strong_count(&task), 2, "it is to be woken");
        interim.is_over();
        assert_eq!(Arc::strong_count(&task), 1);
    }

    #[test]
    fn who_asks_to_be_woken_after_one_has_come_is_woken_too() {
        struct Task(AtomicBool);
        impl Wake for Task {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        for comes_first in [true, false] {
            let (interim, task) = (Interim::new(BOUNDS), Arc::new(Task(AtomicBool::new(false))));
            let waker = task.clone().into();
            let ask = || interim.wake_for_each(&Context::from_waker(&waker));
            interim.is_due();
            if !comes_first {
                ask();
            }
            assert!(!task.0.load(Ordering::Relaxed) && interim.came(HINT.as_bytes()));
            if comes_first {
                ask();
            }
            assert!(task.0.load(Ordering::Relaxed), "{comes_first}");
            assert_eq!(interim.take().as_deref(), Some(HINT.as_bytes()));
            assert_eq!(interim.take(), None);
        }
    }

    #[test]
    fn each_request_has_its_own_count() {
        let interim = Interim::new(BOUNDS);
        for _ in 0..20 {
            interim.is_due();
            assert!(
                interim.came(HINT.as_bytes()) && interim.came(HINT.as_bytes()) && interim.came(OK.as_bytes())
            );
            assert!(interim.came("a body".repeat(1000).as_bytes()));
        }
    }

    #[test]
    fn what_comes_after_too_much_does_not_pass_either() {
        let interim = Interim::new(BOUNDS);
        interim.is_due();
        assert!(!interim.came(HINT.repeat(9).as_bytes()));
        assert!(!interim.came(OK.as_bytes()));
    }
}
