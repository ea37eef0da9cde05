//! Finding the steps that decided.

use super::step::{Role, Step, Verdict, What};

/// Assigns a role to every step, and a share to members of unions.
pub(super) fn assign(root: &mut Step) {
    let role = if is_neg(root) || is_wrong(root) { Role::Passed } else { Role::Won };
    spread(root, role);
}

fn spread(step: &mut Step, role: Role) {
    step.role = role;
    if matches!(step.what, What::Union) {
        shares(&mut step.steps);
        for member in &mut step.steps {
            let out = is_neg(member) || is_wrong(member) || member.verdict == Verdict::Fail;
            spread(member, if out { Role::Passed } else { role });
        }
        return;
    }
    // All other steps are alternatives, possibly only one.
    let mut next = role;
    for step in &mut step.steps {
        let own = match step.verdict {
            Verdict::Untried => Role::Untried,
            _ if is_neg(step) || is_wrong(step) => Role::Passed,
            _ => std::mem::replace(&mut next, if role == Role::Passed { role } else { Role::Fallback }),
        };
        spread(step, own);
    }
}

fn shares(members: &mut [Step]) {
    let out = |step: &Step| is_neg(step) || is_wrong(step) || step.verdict == Verdict::Fail;
    let there = || members.iter().filter(|step| !out(step));
    let total: f64 = there().map(weight).sum();
    let count = there().count() as f64;
    for step in members.iter_mut().filter(|step| !out(step)) {
        // Members of weight zero get equal shares if only they are left.
        let own = if total > 0.0 { weight(step) / total } else { 1.0 / count };
        if let What::Member { share, .. } = &mut step.what {
            *share = Some(own);
        }
    }
}

fn weight(step: &Step) -> f64 {
    if let What::Member { weight, .. } = step.what { weight } else { 0.0 }
}

fn is_neg(step: &Step) -> bool {
    matches!(step.verdict, Verdict::Neg { .. } | Verdict::Unknown { .. })
}

fn is_wrong(step: &Step) -> bool {
    matches!(step.verdict, Verdict::Error { .. })
}
