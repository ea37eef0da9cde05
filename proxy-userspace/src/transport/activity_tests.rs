use super::*;

#[test]
fn an_answer_is_owed_until_it_is_whole_and_then_flushed() {
    let now = Instant::now();
    let activity = Activity::new(now);
    assert!(!activity.owes_answer());
    activity.begin(now);
    activity.flushed();
    assert!(activity.owes_answer(), "its head, say, was flushed");
    activity.answered();
    assert!(activity.owes_answer());
    activity.flushed();
    assert!(!activity.owes_answer());
}

#[test]
fn the_time_of_a_head_begins_when_the_last_answer_has_been_written() {
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let activity = Activity::new(long_ago);
    activity.begin(long_ago);
    activity.answered();
    activity.end(long_ago);
    activity.enter(Phase::Head, long_ago); // The next request came before the answer was taken.
    activity.bytes_went();
    assert_eq!(activity.phase(), Phase::Head);
    assert!(activity.lasted() < Duration::from_secs(30), "{:?}", activity.lasted());
    activity.flushed();
    activity.enter(Phase::Head, long_ago);
    activity.bytes_went();
    assert!(activity.lasted() >= Duration::from_mins(1), "nothing else prolongs it");
}

#[test]
fn the_time_of_a_head_begins_at_the_poll_that_left_it_incomplete() {
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let minute = Duration::from_mins(1);
    for stamps_later in [false, true] {
        let activity = Activity::new(long_ago);
        activity.begin(long_ago);
        activity.answered();
        activity.end(long_ago);
        activity.stamp();
        assert!(activity.phase() == Phase::Idle && activity.lasted() >= minute, "nothing has come");
        activity.bytes_came(b"G", stamps_later);
        assert!(activity.phase() == Phase::Head && activity.lasted() < minute, "{:?}", activity.lasted());
        activity.stamp();
        let since = activity.since();
        assert!(activity.phase() == Phase::Head && (60_000..90_000).contains(&since), "{since}");
        // What follows, and further polls, do not extend it.
        activity.enter(Phase::Head, long_ago);
        activity.bytes_came(b"ET", stamps_later);
        activity.stamp();
        assert!(activity.lasted() >= minute);
        activity.begin(Instant::now());
        activity.stamp();
        assert!(activity.phase() == Phase::Busy && activity.lasted() < minute);
    }
}

#[test]
fn a_connection_is_idle_only_when_its_last_exchange_has_ended() {
    let now = Instant::now();
    let activity = Activity::new(now);
    assert_eq!(activity.phase(), Phase::Head);
    activity.begin(now);
    activity.begin(now);
    activity.end(now);
    activity.bytes_came(b"x", false);
    assert_eq!(activity.phase(), Phase::Busy);
    activity.end(now);
    assert_eq!(activity.phase(), Phase::Idle);
    activity.bytes_went();
    assert_eq!(activity.phase(), Phase::Idle);
    activity.bytes_came(b"G", false);
    assert_eq!(activity.phase(), Phase::Head);
}

#[test]
fn what_was_not_written_of_an_exchange_is_not_written_in_the_next_one() {
    let now = Instant::now();
    let activity = Activity::new(now);
    activity.begin(now);
    activity.interject(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    activity.end(now);
    activity.begin(now);
    assert_eq!(activity.take_interjected(), None);
}

#[test]
fn a_half_closed_exchange_makes_room_when_it_is_silent_or_must() {
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let activity = Activity::new(long_ago);
    let half_closed = |activity: &Activity| {
        activity.begin(long_ago);
        activity.set_sending(Sending::Ended);
    };
    half_closed(&activity);
    assert!(!activity.is_likely_left(), "its end has just come");
    activity.enter(Phase::Busy, long_ago);
    assert!(activity.is_likely_left() && !activity.makes_room(), "it was not asked");
    activity.ask_for_room();
    assert!(activity.makes_room());
    activity.bytes_went();
    assert!(!activity.makes_room() && !activity.is_asked_for_room(), "it is used again");
    activity.ask_for_room_in_use();
    assert!(activity.makes_room());
}
