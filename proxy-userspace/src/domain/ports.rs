//! Lists of ports as in annotations: `3306,5432,9000-9010`.
//!
//! A list is written to the eBPF programs, which have room for [`MAX_RANGES`] ranges per pod. Each mistake is shown
//! with the pod or the service; the valid parts of the list still apply.

use std::fmt;

use super::pods::ANNOTATIONS;

/// The most ranges of a list, after adjacent ones are joined.
pub const MAX_RANGES: usize = 8;

/// The longest list, in bytes.
const MAX_TEXT: usize = 1024;

/// The ports of `weir.dev/skip-ports` and `weir.dev/opaque-ports` on a pod (ports it connects to) or on a Service (its
/// own ports).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortWishes {
    /// Connections to these are not diverted.
    pub skip: PortSet,
    /// Connections to these are forwarded without protocol detection.
    pub opaque: PortSet,
}

impl PortWishes {
    /// The annotation for [`Self::skip`], below `weir.dev/`.
    pub const SKIP: &str = "skip-ports";
    /// The annotation for [`Self::opaque`], below `weir.dev/`.
    pub const OPAQUE: &str = "opaque-ports";

    /// Parses the annotations, and reports their mistakes.
    pub fn read(skip: Option<&str>, opaque: Option<&str>) -> (Self, Vec<String>) {
        let mut mistakes = Vec::new();
        let mut read = |key: &str, text: Option<&str>| {
            let (ports, mistake) = PortSet::parse(text.unwrap_or_default());
            mistakes.extend(mistake.map(|mistake| format!("{ANNOTATIONS}{key}: {mistake}")));
            ports
        };
        let wishes = Self { skip: read(Self::SKIP, skip), opaque: read(Self::OPAQUE, opaque) };
        (wishes, mistakes)
    }
}

/// A set of ports: sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet {
    ranges: Vec<(u16, u16)>,
}

impl PortSet {
    /// The set of one port.
    pub fn single(port: u16) -> Self {
        Self { ranges: vec![(port, port)] }
    }

    /// Parses a list, and reports its mistakes; invalid parts are left out.
    pub fn parse(text: &str) -> (Self, Option<String>) {
        if text.len() > MAX_TEXT {
            return (
                Self::default(),
                Some(format!("{} bytes are too long for a list of ports: ignored", text.len())),
            );
        }
        let (mut set, mut mistakes) = (Self::default(), Vec::new());
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match range(item) {
                Some(range) if set.with(range).ranges.len() <= MAX_RANGES => set = set.with(range),
                Some(_) => mistakes.push(format!("{item} would be more than {MAX_RANGES} ranges: ignored")),
                None => mistakes.push(format!(
                    "{} is neither a port (1 to 65535) nor a range as in 9000-9010: ignored",
                    quoted(item)
                )),
            }
        }
        let others = mistakes.len().saturating_sub(1);
        let first = mistakes.into_iter().next();
        (set, first.map(|first| if others > 0 { format!("{first} (and {others} more)") } else { first }))
    }

    /// Whether it contains the port.
    pub fn contains(&self, port: u16) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&port))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, both ends included: at most [`MAX_RANGES`].
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    fn with(&self, range: (u16, u16)) -> Self {
        let mut ranges = self.ranges.clone();
        ranges.push(range);
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self { ranges: merged }
    }
}

fn range(item: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&port: &u16| digits && port > 0)
    };
    match item.split_once('-') {
        Some((low, high)) => {
            let range = (port(low.trim())?, port(high.trim())?);
            (range.0 <= range.1).then_some(range)
        }
        None => port(item).map(|port| (port, port)),
    }
}

/// The start of a text of any length, escaped for a log.
pub(super) fn quoted(text: &str) -> String {
    let start: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    format!("`{start}`")
}

/// In the syntax of the annotations.
impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.ranges.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match low == high {
                true => write!(f, "{comma}{low}")?,
                false => write!(f, "{comma}{low}-{high}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_right_in_a_list_counts_and_what_is_wrong_is_named() {
        for (text, ports, mistake) in [
            ("3306,5432,9000-9010", "3306,5432,9000-9010", None),
            (" 80 , 81,79 ", "79-81", None),
            ("", "", None),
            (",", "", None),
            ("1-65535", "1-65535", None),
            ("65535,1-2", "1-2,65535", None),
            ("0,80", "80", Some("`0` is neither")),
            ("http", "", Some("`http` is neither")),
            ("90-80", "", Some("`90-80`")),
            ("65536", "", Some("`65536`")),
            ("+80,-1,1-,--", "", Some("(and 3 more)")),
            ("1,3,5,7,9,11,13,15,17,80", "1,3,5,7,9,11,13,15", Some("17 would be more than 8")),
            ("1,3,5,7,9,11,13,15,2,14", "1-3,5,7,9,11,13-15", None),
        ] {
            let (set, said) = PortSet::parse(text);
            assert_eq!(set.to_string(), ports, "{text}");
            match mistake {
                None => assert_eq!(said, None, "{text}"),
                Some(part) => {
                    assert!(said.as_ref().is_some_and(|said| said.contains(part)), "{text}: {said:?}")
                }
            }
        }
        let (set, said) = PortSet::parse(&"80,".repeat(1000));
        assert!(set.is_empty() && said.is_some_and(|said| said.contains("3000 bytes")));
    }

    proptest! {
        #[test]
        fn no_text_at_all_makes_more_ranges_than_there_is_room_for(text in "[0-9,\\- a\u{e9}]{0,200}") {
            let (set, _) = PortSet::parse(&text);
            prop_assert!(set.ranges().len() <= MAX_RANGES);
            prop_assert!(set.ranges().windows(2).all(|two| two[0].1 < two[1].0 - 1));
            prop_assert_eq!(PortSet::parse(&set.to_string()), (set, None));
        }

        #[test]
        fn a_set_has_what_its_parts_have(parts in prop::collection::vec((1_u16..60, 0_u16..9), 0..9), port in 0_u16..70) {
            let text: Vec<String> = parts.iter().map(|(low, more)| format!("{low}-{}", low + more)).collect();
            let (set, mistake) = PortSet::parse(&text.join(","));
            prop_assume!(mistake.is_none());
            let expected = parts.iter().any(|(low, more)| (*low..=low + more).contains(&port));
            prop_assert_eq!(set.contains(port), expected);
        }
    }
}
