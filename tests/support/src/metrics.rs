//! Reading a page of metrics.

use std::collections::BTreeMap;

/// One line of `/metrics`.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The metric's name, suffix included.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// Whether it is of this name and carries these labels, among others.
    pub fn is(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let carries = |(label, value): &(&str, &str)| self.labels.get(*label).is_some_and(|it| it == value);
        self.name == name && labels.iter().all(carries)
    }
}

/// The samples of an OpenMetrics text.
pub fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

/// The sum of all samples of this name that carry these labels; 0 when there are none.
pub fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    samples.iter().filter(|sample| sample.is(name, labels)).fold(0.0, |sum, sample| sum + sample.value)
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = match line.rfind('}') {
        Some(at) => line.split_at(at + 1),
        None => line.split_once(' ')?,
    };
    let value = value.split_whitespace().next()?.parse().ok()?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    Some(Sample { name: name.into(), labels: read_labels(labels), value })
}

/// Reads `a="b",c="d\"e"}`.
fn read_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                '"' => {
                    end = at + 1;
                    break;
                }
                _ => value.push(c),
            }
        }
        labels.insert(name.trim_start_matches(',').trim().to_owned(), value);
        text = &rest[end..];
    }
    labels
}
