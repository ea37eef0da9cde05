//! Expressions that only say how a path begins, such as `/foo/.*`: found by comparing bytes, without a regular expression.

use regex_automata::util::syntax;
use regex_syntax::hir::{Dot, Hir, HirKind, Look, Repetition};

/// How expressions are read.
pub(super) fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false).nest_limit(32)
}

/// What such an expression says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// What a path begins with.
    pub(super) start: Box<str>,
    /// What may come then.
    pub(super) rest: Rest,
}

/// What may come behind the start of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing, or a slash and anything: `/foo(/.*)?`, and `/foo(/|$)(.*)`, which other controllers' users write.
    Below,
    /// Anything that is not empty: `/foo/.+`.
    Something,
    /// Anything: `/foo/.*`.
    Anything,
    /// Nothing: `/v1\.0`.
    Nothing,
}

impl Rest {
    /// Whether this may come.
    pub(super) fn fits(self, rest: &str) -> bool {
        match self {
            Self::Below => rest.is_empty() || rest.starts_with('/'),
            Self::Something => !rest.is_empty(),
            Self::Anything => true,
            Self::Nothing => rest.is_empty(),
        }
    }
}

impl Literal {
    /// What `expression` says, if it is such a one.
    pub(super) fn read(expression: &str) -> Option<Self> {
        // Flags may change how the rest is read.
        if expression.replace("(?:", "").contains("(?") {
            return None;
        }
        let hir = syntax::parse_with(expression, &syntax()).ok()?;
        let mut parts = Vec::new();
        flatten(&hir, &mut parts);
        // The whole path is compared in any case.
        parts.pop_if(|last| is_end(last));
        let (mut start, mut rest) = (Vec::new(), &*parts);
        while let [HirKind::Literal(literal), more @ ..] = rest {
            start.extend_from_slice(&literal.0);
            rest = more;
        }
        let rest = match rest {
            [] => Rest::Nothing,
            [all] if is_all(all, 0) => Rest::Anything,
            [all] if is_all(all, 1) => Rest::Something,
            [slash, all] if is_all(all, 0) && is_slash_or_nothing(slash) => Rest::Anything,
            [either, all] if is_all(all, 0) && is_slash_or_end(either) => Rest::Below,
            [more] if is_more_or_nothing(more) => Rest::Below,
            _ => return None,
        };
        Some(Self { start: String::from_utf8(start).ok()?.into(), rest })
    }
}

/// The parts, one after the other, without the groups around them.
fn flatten<'h>(hir: &'h Hir, parts: &mut Vec<&'h HirKind>) {
    match hir.kind() {
        HirKind::Concat(all) => all.iter().for_each(|part| flatten(part, parts)),
        HirKind::Capture(group) => flatten(&group.sub, parts),
        kind => parts.push(kind),
    }
}

fn parts(hir: &Hir) -> Vec<&HirKind> {
    let mut all = Vec::new();
    flatten(hir, &mut all);
    all
}

/// `.*`, or `.+` where `min` is 1. A path has no line feed, which alone a dot does not stand for.
fn is_all(part: &HirKind, min: u32) -> bool {
    match part {
        HirKind::Repetition(Repetition { min: own, max: None, sub, .. }) => {
            *own == min && parts(sub) == [Hir::dot(Dot::AnyByteExceptLF).kind()]
        }
        _ => false,
    }
}

fn is_slash(part: &HirKind) -> bool {
    matches!(part, HirKind::Literal(literal) if *literal.0 == *b"/")
}

fn is_end(part: &HirKind) -> bool {
    matches!(part, HirKind::Look(Look::End))
}

/// `/?`
fn is_slash_or_nothing(part: &HirKind) -> bool {
    match part {
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            matches!(*parts(sub), [slash] if is_slash(slash))
        }
        _ => false,
    }
}

/// `(/|$)`
fn is_slash_or_end(part: &HirKind) -> bool {
    let HirKind::Alternation(all) = part else { return false };
    let all: Vec<_> = all.iter().map(parts).collect();
    match &*all {
        [one, other] => match (&**one, &**other) {
            ([one], [other]) => (is_slash(one) && is_end(other)) || (is_end(one) && is_slash(other)),
            _ => false,
        },
        _ => false,
    }
}

/// `(/.*)?`
fn is_more_or_nothing(part: &HirKind) -> bool {
    match part {
        HirKind::Repetition(Repetition { min: 0, max: Some(1), sub, .. }) => {
            matches!(*parts(sub), [slash, all] if is_slash(slash) && is_all(all, 0))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use regex_automata::meta::Regex;

    use super::*;

    #[test]
    fn what_only_says_how_a_path_begins_needs_no_expression_and_fits_the_same_paths() {
        let paths = [
            "/", "/foo", "/foo/", "/foo/bar", "/foobar", "/foo.x/", "/foo.x", "/fooXx", "/FOO/", "/fo",
            "/foo//x",
        ];
        for (text, rest) in [
            ("/foo/.*", Some(Rest::Anything)),
            ("/foo.*", Some(Rest::Anything)),
            ("/foo/(.*)", Some(Rest::Anything)),
            ("/foo/.*$", Some(Rest::Anything)),
            ("/foo/?.*", Some(Rest::Anything)),
            ("/foo/?(.*)", Some(Rest::Anything)),
            ("/foo/.*?", Some(Rest::Anything)),
            ("/foo\\.x/?.*", Some(Rest::Anything)),
            ("/(foo)/.+", Some(Rest::Something)),
            ("/foo(/.*)?", Some(Rest::Below)),
            ("/foo(/|$)(.*)", Some(Rest::Below)),
            ("/foo($|/).*", Some(Rest::Below)),
            ("/foo(?:/.*)?", Some(Rest::Below)),
            ("/foo\\.x", Some(Rest::Nothing)),
            ("/foo$", Some(Rest::Nothing)),
            ("/foo.x/.*", None),
            ("/foo|/bar", None),
            ("/(?i)foo/.*", None),
            ("/(?x)foo # all", None),
            ("/foo/[a-z]*", None),
            ("/.*/foo", None),
            ("/foo/?", None),
            ("/foo/.{2,}", None),
            ("/foo/.*.*", None),
            ("/foo(/|x)(.*)", None),
            ("/foo(/.*)*", None),
            ("/foo/\\d+", None),
            ("/\\xff.*", None),
        ] {
            let read = Literal::read(text);
            assert_eq!(read.as_ref().map(|it| it.rest), rest, "{text}");
            let Some(Literal { start, rest }) = read else { continue };
            let regex = Regex::builder().syntax(syntax()).build(&format!("^(?:{text})$")).unwrap();
            for path in paths {
                let fits = path.strip_prefix(&*start).is_some_and(|more| rest.fits(more));
                assert_eq!(fits, regex.is_match(path), "{text} {path}");
            }
        }
    }
}
