use super::*;

const BOUNDS: FrameBounds = FrameBounds { idle: 10, resets: 4 };

/// The frames of one connection, after its preface.
#[derive(Clone, Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn begin() -> Self {
        Self(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec())
    }

    fn add(mut self, kind: u8, flags: u8, length: usize) -> Self {
        self.0.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes()[1..]);
        self.0.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        // Bytes that would be a head of PING, were they read as one.
        self.0.extend((0..length).map(|at| [0, 0, 8, 6, 0, 0, 0, 0, 0][at % 9]));
        self
    }

    fn times(self, n: usize, kind: u8, flags: u8, length: usize) -> Self {
        (0..n).fold(self, |frames, _| frames.add(kind, flags, length))
    }

    /// What the meter says of them when they arrive in pieces of this `size`.
    fn flood(&self, size: usize) -> Option<Flood> {
        let now = Instant::now();
        let meter = FrameMeter::new(BOUNDS, now);
        self.0.chunks(size).for_each(|piece| meter.came(piece, now));
        meter.flood()
    }
}

#[test]
fn frames_without_work_are_bounded_each_by_its_name_however_they_are_cut() {
    let cases = [
        (6, 0, 8, Flood::Ping),
        (6, 1, 8, Flood::Ping),
        (4, 0, 0, Flood::Settings),
        (4, 0, 6, Flood::Settings),
        (4, 1, 0, Flood::Settings),
        (2, 0, 5, Flood::Priority),
        (8, 0, 4, Flood::WindowUpdate),
        (0x10, 0, 3, Flood::Other),
        (7, 0, 8, Flood::Other),
    ];
    for (kind, flags, length, flood) in cases {
        for size in [1, 2, 9, 10, 100_000] {
            assert_eq!(Frames::begin().times(10, kind, flags, length).flood(size), None, "{flood:?}");
            let more = Frames::begin().times(11, kind, flags, length);
            assert_eq!(more.flood(size), Some(flood), "{flood:?} in pieces of {size}");
        }
    }
}

#[test]
fn work_allows_more_of_them() {
    let streams = Frames::begin().times(5, 1, 5, 30);
    assert_eq!(streams.clone().times(50, 8, 0, 4).flood(7), None);
    assert_eq!(streams.times(51, 8, 0, 4).flood(7), Some(Flood::WindowUpdate));
    let data = Frames::begin().times(100, 0, 0, 1000).times(110, 6, 0, 8);
    assert_eq!(data.flood(7), None);
    let now = Instant::now();
    let meter = FrameMeter::new(BOUNDS, now);
    meter.sent(100_000);
    meter.came(&Frames::begin().times(10 + 7 * 4, 8, 0, 4).0, now);
    assert_eq!(meter.flood(), None);
    meter.came(&Frames::default().add(8, 0, 4).0, now);
    assert_eq!(meter.flood(), Some(Flood::WindowUpdate));
}

#[test]
fn resets_are_bounded_where_they_are_most_of_what_the_client_does() {
    for (streams, resets, flood) in [
        (4, 4, None),
        (0, 4, None),
        (5, 5, Some(Flood::Reset)),
        (100, 50, None),
        (100, 51, Some(Flood::Reset)),
        (0, 5, Some(Flood::Reset)),
    ] {
        let frames = Frames::begin().times(streams, 1, 5, 12).times(resets, 3, 0, 4);
        assert_eq!(frames.flood(5), flood, "{resets} of {streams}");
    }
}

#[test]
fn each_interval_has_its_own_bound_and_work_of_the_last_one_does_not_count() {
    let (began, pings) = (Instant::now(), Frames::default().times(10, 6, 0, 8));
    let meter = FrameMeter::new(BOUNDS, began);
    meter.came(&Frames::begin().times(1000, 1, 5, 0).0, began);
    for round in 1..5 {
        let at = began + INTERVAL * round;
        meter.came(&pings.0, at);
        assert_eq!(meter.flood(), None, "{round}");
    }
    meter.came(&Frames::default().add(6, 0, 8).0, began + INTERVAL * 5 - Duration::from_millis(1));
    assert_eq!(meter.flood(), Some(Flood::Ping));
}

#[test]
fn a_header_block_is_open_from_its_first_frame_to_the_last_byte_of_its_last() {
    let now = Instant::now();
    let meter = FrameMeter::new(BOUNDS, now);
    let came = |frames: &Frames, bytes: usize| meter.came(&frames.0[..bytes], now);
    let whole = Frames::begin();
    came(&whole, whole.0.len());
    let headers = Frames::default().add(1, 1, 10);
    came(&headers, 9);
    assert!(meter.block_since().is_some(), "its head alone");
    meter.came(&headers.0[9..], now);
    assert!(meter.block_since().is_some(), "without END_HEADERS");
    let last = Frames::default().add(9, 4, 3);
    came(&last, 11);
    assert!(meter.block_since().is_some(), "all but a byte");
    meter.came(&last.0[11..], now);
    assert!(meter.block_since().is_none());
    let one = Frames::default().add(1, 5, 0).add(0, 0, 100);
    came(&one, one.0.len());
    assert!(meter.block_since().is_none());
}
