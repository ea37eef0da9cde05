//! Explanations as text, for a terminal or a response body.

use std::fmt::{Display, Formatter, Result, Write};

use super::step::{Explanation, Role, Step, Verdict, What};
use crate::domain::dtab::NameTree;
use crate::domain::route::{Bound, Failure};

const LOOPS: &str = "the same name as above: the dtab goes in a circle";

impl<P> Display for Explanation<P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write_step(f, &self.root, &mut Vec::new())?;
        if self.omitted > 0 {
            writeln!(f, "({} more steps)", self.omitted)?;
        }
        write!(f, "=> {}", Outcome(&self.result, &self.root))
    }
}

impl<P> Explanation<P> {
    /// The result in one line.
    pub fn outcome(&self) -> String {
        Outcome(&self.result, &self.root).to_string()
    }
}

struct Outcome<'a, P>(&'a std::result::Result<NameTree<Bound<P>>, Failure>, &'a Step);

impl<P> Display for Outcome<'_, P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Ok(NameTree::Neg) if self.1.is_unknown() => {
                f.write_str("nothing yet: whether there is such a name is not known")
            }
            Ok(NameTree::Neg) => f.write_str("nothing: no such name (neg)"),
            Ok(NameTree::Fail) => f.write_str("nothing: an entry says so (fail)"),
            Ok(NameTree::Empty) => f.write_str("nothing: the name exists, but is empty"),
            Ok(NameTree::Leaf(bound)) if bound.residual.is_empty() => write!(f, "{bound}"),
            Ok(NameTree::Leaf(bound)) => write!(f, "{bound} (left over: {})", bound.residual),
            Ok(several) => write!(f, "{several}"),
            Err(failure) => write!(f, "error: {failure}"),
        }
    }
}

/// Writes `step` and its inner steps; `above` holds the enclosing steps.
fn write_step<'a>(f: &mut Formatter<'_>, step: &'a Step, above: &mut Vec<&'a Step>) -> Result {
    let depth = above.len();
    if depth == Step::DEEPEST {
        return line(f, depth, "…");
    }
    line(f, depth, &headline(step))?;
    if step.is_among(above) {
        return line(f, depth + 1, LOOPS);
    }
    if let Some(verdict) = verdict(step) {
        line(f, depth + 1, &verdict)?;
    }
    above.push(step);
    step.steps.iter().try_for_each(|step| write_step(f, step, above))?;
    above.pop();
    Ok(())
}

fn line(f: &mut Formatter<'_>, depth: usize, text: &str) -> Result {
    (0..depth).try_for_each(|_| f.write_str("  "))?;
    f.write_str(text)?;
    f.write_char('\n')
}

/// What a step did, and whether it decided.
fn headline(step: &Step) -> String {
    let what = match &step.what {
        What::Name(name) => name.clone(),
        What::Entry { index, origin, at, text } => {
            format!("{origin}, entry {} (line {}, column {}): {text}", index + 1, at.line, at.column)
        }
        What::Namer(prefix) => format!("namer {prefix}"),
        What::Nobody => "nobody knows it".to_owned(),
        What::Alternatives => "the first of these that exists".to_owned(),
        What::Union => "a share of the requests to each of these".to_owned(),
        What::Member { weight, share: Some(share) } => {
            format!("weight {weight}: {:.1} %", share * 100.0)
        }
        What::Member { weight, share: None } => format!("weight {weight}: none"),
        What::Sign(sign) => (*sign).to_owned(),
        What::Tree(text) => text.clone(),
    };
    let decides = matches!(step.what, What::Entry { .. } | What::Namer(_) | What::Name(_) | What::Sign(_));
    match step.role {
        Role::Won if decides => format!("{what}   <- taken"),
        Role::Fallback if decides => format!("{what}   <- if DNS denies what comes before"),
        _ => what,
    }
}

/// The result of a step, unless its inner steps show it.
fn verdict(step: &Step) -> Option<String> {
    let said = match &step.verdict {
        Verdict::Neg { why: Some(why) } => format!("neg: {why}"),
        Verdict::Empty { why: Some(why) } => format!("empty: {why}"),
        Verdict::Unknown { why: Some(why) } => format!("not known: {why}"),
        Verdict::Untried => "not tried: something before it has decided".to_owned(),
        _ if !step.steps.is_empty() => return None,
        Verdict::Bound { id, residual, uncertain } => {
            let left = if residual == "/" { String::new() } else { format!(", left over: {residual}") };
            let dns = if *uncertain { ", if DNS knows it" } else { "" };
            format!("found: {id}{left}{dns}")
        }
        Verdict::Several | Verdict::Unknown { why: None } | Verdict::Error { why: None } => return None,
        Verdict::Neg { why: None } => "neg: no such name".to_owned(),
        Verdict::Fail => "fail: no alternative is tried".to_owned(),
        Verdict::Empty { why: None } => "empty: it exists, but nothing is there".to_owned(),
        Verdict::Error { why: Some(why) } => format!("error: {why}"),
    };
    Some(said)
}
