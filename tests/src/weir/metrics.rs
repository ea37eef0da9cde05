//! Reading `/metrics`.

use std::collections::BTreeMap;

use super::Weir;

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

impl Weir {
    /// Every sample of `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> Vec<Sample> {
        let answer = self.admin_get("/metrics");
        answer.expect_status(200);
        parse(&answer.text())
    }

    /// The sum of all samples of this name that carry these labels; 0 when there are none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |s: &Sample| labels.iter().all(|(k, v)| s.labels.get(*k).is_some_and(|have| have == v));
        self.metrics().iter().filter(|s| s.name == name && carries(s)).fold(0.0, |sum, s| sum + s.value)
    }

    /// How many requests weir has answered itself for this reason.
    #[track_caller]
    pub fn faults(&self, kind: &str) -> f64 {
        self.metric("weir_faults_total", &[("kind", kind)])
    }

    /// How many connects the BPF programs have decided so.
    #[track_caller]
    pub fn decisions(&self, decision: &str) -> f64 {
        self.metric("weir_interception_decisions_total", &[("decision", decision)])
    }

    /// How many connections a listener has accepted.
    #[track_caller]
    pub fn accepted(&self, listener: &str) -> f64 {
        self.metric("weir_listener_connections_total", &[("listener", listener)])
    }

    /// How many connections a listener has closed for this reason without serving them.
    #[track_caller]
    pub fn turned_away(&self, listener: &str, reason: &str) -> f64 {
        self.metric("weir_listener_closed_total", &[("listener", listener), ("reason", reason)])
    }
}

/// The samples of an OpenMetrics text.
pub fn parse(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
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
