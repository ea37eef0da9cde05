//! The live view: one bar per endpoint. On a terminal it is redrawn in place, elsewhere it is a line a second.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::tally::{Kind, Score, Tally};

const WIDTH: usize = 40;

pub(crate) struct View {
    names: Vec<String>,
    terminal: bool,
    drawn: usize,
    last: Tally,
    last_at: Instant,
}

impl View {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { names, terminal, drawn: 0, last: Tally::default(), last_at: Instant::now() }
    }

    /// Begins a new picture below what was printed meanwhile; rates count from this tally on.
    pub(crate) fn begin(&mut self, tally: &Tally) {
        self.drawn = 0;
        self.last = tally.clone();
        self.last_at = Instant::now();
    }

    /// Shows the rates since the last picture, if it is time for another.
    pub(crate) fn show(&mut self, tally: &Tally, dead: Option<usize>) {
        let every = Duration::from_millis(if self.terminal { 250 } else { 1000 });
        let elapsed = self.last_at.elapsed();
        if elapsed < every {
            return;
        }
        let rates: Vec<f64> = self
            .names
            .iter()
            .map(|name| {
                tally.answers_of(name).saturating_sub(self.last.answers_of(name)) as f64
                    / elapsed.as_secs_f64()
            })
            .collect();
        let mut out = std::io::stdout().lock();
        // A closed pipe is no reason to stop: the summary's exit code still counts.
        let _ = if self.terminal {
            self.redraw(&mut out, &rates, tally, dead)
        } else {
            self.line(&mut out, &rates, tally, dead)
        };
        self.last = tally.clone();
        self.last_at = Instant::now();
    }

    fn redraw(
        &mut self,
        out: &mut impl Write,
        rates: &[f64],
        tally: &Tally,
        dead: Option<usize>,
    ) -> std::io::Result<()> {
        if self.drawn > 0 {
            write!(out, "\x1b[{}A", self.drawn)?;
        }
        let most = rates.iter().copied().fold(1.0, f64::max);
        for (index, (name, rate)) in self.names.iter().zip(rates).enumerate() {
            let bar = "█".repeat((rate / most * WIDTH as f64).round() as usize);
            let mark = if dead == Some(index) { "  killed" } else { "" };
            writeln!(out, "\x1b[2K    {name}  {bar:<WIDTH$} {rate:>5.0}/s{mark}")?;
        }
        writeln!(out, "\x1b[2K    {}", totals(tally))?;
        self.drawn = rates.len() + 1;
        out.flush()
    }

    fn line(
        &self,
        out: &mut impl Write,
        rates: &[f64],
        tally: &Tally,
        dead: Option<usize>,
    ) -> std::io::Result<()> {
        write!(out, "   ")?;
        for (index, (name, rate)) in self.names.iter().zip(rates).enumerate() {
            let mark = if dead == Some(index) { " (killed)" } else { "" };
            write!(out, " {name} {rate:>4.0}/s{mark}  ")?;
        }
        writeln!(out, "{}", totals(tally))
    }
}

fn totals(tally: &Tally) -> String {
    let (gets, posts, echoes) = (tally.score(Kind::Get), tally.score(Kind::Post), tally.score(Kind::Echo));
    let mut line = format!(
        "{} answered; failed: {} GETs, {} POSTs",
        gets.answered + posts.answered,
        gets.failed,
        posts.failed
    );
    if echoes != Score::default() {
        line.push_str(&format!("; TCP conversations: {}, cut: {}", echoes.answered, echoes.failed));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let mut view = View::new(vec!["a".to_owned(), "b".to_owned()]);
        let mut out = Vec::new();
        view.redraw(&mut out, &[100.0, 50.0], &Tally::default(), Some(1)).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].matches('█').count(), WIDTH);
        assert_eq!(lines[1].matches('█').count(), WIDTH / 2);
        assert!(lines[1].ends_with("killed"));
        assert_eq!(view.drawn, 3);
    }
}
