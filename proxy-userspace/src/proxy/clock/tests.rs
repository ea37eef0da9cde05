use super::*;
use crate::transport::Phase;

fn begun() -> (Clocks, Activity, Clock, Instant) {
    let now = Instant::now();
    let (clocks, activity) = (Clocks::default(), Activity::new(now));
    let clock = clocks.begin(&activity, now);
    (clocks, activity, clock, now)
}

#[test]
fn an_exchange_is_over_when_its_answer_and_its_body_are_whole_in_either_order() {
    for upload_first in [true, false] {
        let (_clocks, activity, clock, now) = begun();
        let upload = clock.upload();
        if upload_first {
            drop(upload);
            assert_eq!(activity.phase(), Phase::Busy);
            clock.answered(now);
        } else {
            clock.answered(now);
            clock.answered(now);
            assert_eq!(activity.phase(), Phase::Busy, "more of the body is due");
            drop(upload);
        }
        assert_eq!(activity.phase(), Phase::Idle);
    }
}

#[test]
fn the_end_of_one_upload_is_no_concern_of_the_next_request() {
    let (clocks, activity, first, now) = begun();
    let upload = first.upload();
    first.answered(now);
    let second = clocks.begin(&activity, now);
    drop(upload);
    assert_eq!(activity.phase(), Phase::Busy, "the second runs");
    assert!(clocks.left(&Limits::default(), Duration::ZERO).is_some());
    second.answered(now);
    assert_eq!(activity.phase(), Phase::Idle);
    assert!(clocks.left(&Limits::default(), Duration::ZERO).is_none());
}

#[test]
fn a_clock_that_nobody_holds_is_set_anew() {
    let (clocks, activity, first, now) = begun();
    let at = Arc::as_ptr(&first.0);
    first.set_wait(Wait::TooLong);
    first.answered(now);
    drop(first);
    let second = clocks.begin(&activity, now);
    assert_eq!((Arc::as_ptr(&second.0), second.wait()), (at, Wait::None));
}

#[test]
fn whoever_waits_too_long_is_told_once_and_a_slow_client_is_not_waited_for() {
    let limits = Limits::default();
    let (clocks, _activity, clock, now) = begun();
    let late = now + limits.response;
    clock.set_wait(Wait::Waiting);
    assert!(clock.left(&limits, Duration::ZERO, now) > Duration::ZERO);
    assert_eq!(clock.left(&limits, Duration::ZERO, late), limits.response);
    assert_eq!(clock.wait(), Wait::TooLong);
    let upload = clock.upload();
    upload.flows(Flow::Waits);
    assert!(clock.silent_for(late).is_none());
    assert!(clocks.left(&limits, Duration::ZERO).is_some_and(|left| left <= limits.body));
}

#[test]
fn a_client_may_be_silent_for_longer_once_the_answer_has_begun() {
    let limits = Limits::default();
    let (_clocks, _activity, clock, now) = begun();
    let upload = clock.upload();
    upload.flows(Flow::Waits);
    let late = Instant::now() + limits.body;
    for (wait, is_over) in [(Wait::Waiting, true), (Wait::TooLong, true), (Wait::None, false)] {
        clock.set_wait(wait);
        assert_eq!(clock.left(&limits, Duration::ZERO, late).is_zero(), is_over, "{wait:?}");
    }
    assert!(clock.left(&limits, Duration::ZERO, late + limits.tunnel_idle).is_zero());
    // What is still due when the answer is complete, has its own time.
    clock.answered(now);
    assert!(clock.left(&limits, Duration::ZERO, late).is_zero());
}

#[test]
fn what_a_client_sends_opens_no_window() {
    let limits = Limits::default();
    let (_clocks, activity, clock, now) = begun();
    clock.set_wait(Wait::Window);
    let late = now + limits.http2.window_wait + Duration::from_millis(1);
    activity.enter(Phase::Busy, late);
    assert!(clock.left(&limits, Duration::ZERO, late).is_zero());
}

#[test]
fn streams_that_are_cut_leave_neither_a_clock_nor_a_waker() {
    struct Task;
    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let now = Instant::now();
    let (clocks, limits, task) = (Clocks::default(), Limits::default(), Arc::new(Task));
    let waker = Waker::from(task.clone());
    let begin = || clocks.begin_stream(&Activity::new(now), now);
    let open = begin();
    let mut held = Vec::new();
    for _ in 0..1000 {
        let clock = begin();
        let upload = clock.upload();
        clock.wake_when_too_long(&Context::from_waker(&waker));
        clock.abandon();
        assert_eq!(clock.activity().phase(), Phase::Idle);
        assert!(clocks.clocks.borrow().len() <= FEW + 1);
        drop(upload);
        held.push(clock);
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 1, "no clock keeps its task");
    assert!(clocks.expire(&limits, Duration::ZERO).is_some());
    assert_eq!(clocks.clocks.borrow().len(), 1);
    open.abandon();
    assert_eq!((clocks.expire(&limits, Duration::ZERO), clocks.clocks.borrow().len()), (None, 0));
}
