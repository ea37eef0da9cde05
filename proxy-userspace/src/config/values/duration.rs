//! Durations: `250ms`, `10s`, `5m`, `1h`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{number_and_unit, shown};
use crate::config::problem::Mistake;
use crate::config::tree::Node;

/// A duration in `range`. The unit is required: `10` alone could mean seconds or milliseconds.
pub(in crate::config) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Node) -> Result<Duration, Mistake> {
    move |node| {
        let duration = node.text().and_then(parse).ok_or_else(|| {
            Mistake::new(format!("{} is not a duration", shown(node)))
                .hint("a whole number with its unit: 250ms, 10s, 5m or 1h")
        })?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (shortest, longest) = (format(*range.start()), format(*range.end()));
        Err(Mistake::new(format!("{} is not from {shortest} to {longest}", shown(node))))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// The duration in its largest unit without a fraction.
fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0s".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_with_one_unit() {
        for (text, milliseconds) in
            [("0s", 0), ("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "10", "s", "10 s", "-1s", "1.5s", "1d", "10S", "99999999999999999999s", "9999999999999999h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_formatted_duration_parses_to_itself() {
        for ms in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
