//! The rules of all Ingresses that a router follows, to be looked up by host and path.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::object::{Ingress, IngressRule};
use super::paths::{EXPRESSIONS, NotAdded, Paths};
use super::shares::Shares;
use super::{IngressSource, PathType};
use crate::domain::identify::path_of;
use crate::domain::name::Path;

/// Most rules that are left out and named; more are only counted.
const NAMED: usize = 20;
/// Most regular expressions of all hosts: each takes memory.
const ALL_EXPRESSIONS: usize = 500;

/// The rules of one source.
#[derive(Debug, Default)]
pub struct IngressRules {
    /// The Ingresses whose rules they are, the oldest first.
    ingresses: Vec<Arc<Ingress>>,
    hosts: HashMap<Arc<str>, Paths>,
    /// By what follows the first label: `example.com` of `*.example.com`.
    wildcards: HashMap<Arc<str>, Paths>,
    any: Paths,
    default: Option<Target>,
    count: usize,
    left_out: LeftOut,
}

/// What namespaces share.
struct Room {
    rules: Shares,
    /// Regular expressions of all hosts.
    expressions: Shares,
    /// Those without a host, which every request is compared with. At a host the oldest count.
    anywhere: Shares,
}

impl Room {
    fn new(all: &[Arc<Ingress>], most: usize) -> Self {
        let count = |ingress: &Ingress, is_counted: &dyn Fn(&IngressRule) -> bool| {
            ingress.rules.iter().filter(|rule| is_counted(rule)).count()
        };
        let shares = |room: usize, is_counted: &dyn Fn(&IngressRule) -> bool| {
            Shares::new(room, all.iter().map(|it| (&it.namespace, count(it, is_counted))))
        };
        Self {
            rules: shares(most, &|_| true),
            expressions: shares(ALL_EXPRESSIONS, &|rule| rule.path.is_expression()),
            anywhere: shares(EXPRESSIONS, &|rule| rule.path.is_expression() && rule.host.is_none()),
        }
    }

    /// The limit that leaves no room for `rule`, and what it limits; `None` if there is room.
    fn lacks(&self, namespace: &str, rule: &IngressRule) -> Option<(&Shares, &'static str)> {
        let is_expression = rule.path.is_expression();
        let lacks = |shares: &Shares| is_expression && !shares.has(namespace, 1);
        if lacks(&self.expressions) {
            return Some((&self.expressions, "regular expressions"));
        }
        let is_anywhere = rule.host.is_none();
        (is_anywhere && lacks(&self.anywhere))
            .then_some((&self.anywhere, "regular expressions without a host"))
    }

    /// Takes the place of `rule`, which is there.
    fn take(&mut self, namespace: &str, rule: &IngressRule) {
        self.rules.take(namespace, 1);
        if rule.path.is_expression() {
            self.expressions.take(namespace, 1);
            if rule.host.is_none() {
                self.anywhere.take(namespace, 1);
            }
        }
    }
}

/// What is not in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Rules whose host and path an older Ingress has.
    pub taken: usize,
    /// Rules beyond a bound.
    pub too_many: usize,
    /// Rules beyond the share of their namespace.
    pub share: usize,
    /// The first of them, with the reason.
    pub reasons: Vec<String>,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `/namespace/port/service`.
    pub name: Path,
    /// The number of the Ingress.
    pub(super) ingress: usize,
    /// `None` means the default backend.
    rule: Option<usize>,
}

impl Target {
    /// Which target counts of those whose paths say the same of a request in different ways, given with the most special
    /// kind first: the first one of the namespace that has the oldest Ingress of them.
    pub(super) fn of_oldest<'a>(mut all: impl Iterator<Item = &'a Self> + Clone) -> Option<&'a Self> {
        let oldest = all.clone().min_by_key(|it| it.ingress)?;
        let namespace = |it: &'a Self| it.name.labels().get(0);
        all.find(|it| namespace(it) == namespace(oldest))
    }
}

impl IngressRules {
    /// The rules that `source` selects from `all`, at most `most`, which namespaces share: of one that wants more than its
    /// share, the newest Ingresses' rules are left out, and of the one at the bound its last ones.
    pub fn new<'a>(
        source: &IngressSource,
        all: impl IntoIterator<Item = &'a Arc<Ingress>>,
        most: usize,
    ) -> Self {
        let is_ours = |it: &&Arc<Ingress>| {
            source.namespace.as_ref().is_none_or(|namespace| *namespace == it.namespace)
                && it.class.as_deref().is_none_or(|class| *class == *source.class)
        };
        let mut ingresses: Vec<_> = all.into_iter().filter(is_ours).cloned().collect();
        ingresses.sort_by(|one, other| one.age().cmp(&other.age()));
        let mut room = Room::new(&ingresses, most);
        let mut rules = Self { ingresses, ..Self::default() };
        for at in 0..rules.ingresses.len() {
            rules.add(at, source, &mut room);
        }
        rules.hosts.values_mut().chain(rules.wildcards.values_mut()).for_each(Paths::finish);
        rules.any.finish();
        rules
    }

    fn add(&mut self, at: usize, source: &IngressSource, room: &mut Room) {
        let ingress = self.ingresses[at].clone();
        let (count, mut beyond) = (ingress.rules.len(), 0);
        for number in 0..count {
            if room.rules.has(&ingress.namespace, 1) {
                self.add_rule(at, number, room);
            } else {
                beyond += 1;
            }
        }
        if beyond > 0 {
            let which =
                if beyond < count { format!("{beyond} of its {count} rules: ") } else { String::new() };
            self.left_out.beyond(&room.rules, &ingress.namespace, beyond, |bound| {
                format!("{}: {which}{bound} rules", shown(&ingress))
            });
        }
        if let (Some(backend), None, false) =
            (&ingress.default, &self.default, source.ignore_default_backends)
        {
            self.default = Some(Target { name: ingress.name_of(backend), ingress: at, rule: None });
        }
    }

    fn add_rule(&mut self, at: usize, number: usize, room: &mut Room) {
        let ingress = self.ingresses[at].clone();
        let rule = &ingress.rules[number];
        let target = Target { name: ingress.name_of(&rule.backend), ingress: at, rule: Some(number) };
        if let Some((shares, what)) = room.lacks(&ingress.namespace, rule) {
            self.left_out.beyond(shares, &ingress.namespace, 1, |bound| {
                format!("{}: {bound} {what}", said(&ingress, number))
            });
            return;
        }
        let paths = match rule.host.as_deref().map(|host| host.strip_prefix("*.").ok_or(host)) {
            None => &mut self.any,
            Some(Ok(suffix)) => self.wildcards.entry(suffix.into()).or_default(),
            Some(Err(host)) => self.hosts.entry(host.into()).or_default(),
        };
        match paths.add(&rule.path, target) {
            Ok(()) => {
                self.count += 1;
                room.take(&ingress.namespace, rule);
            }
            Err(NotAdded::Taken(earlier)) => {
                self.left_out.taken += 1;
                let by = &self.ingresses[earlier];
                let what = || format!("{}: {} has its host and path", said(&ingress, number), shown(by));
                self.left_out.say(what);
            }
            Err(NotAdded::Full) => {
                self.left_out.too_many += 1;
                let what = || {
                    let bound = format!("beyond {EXPRESSIONS} regular expressions of its host");
                    format!("{}: {bound}", said(&ingress, number))
                };
                self.left_out.say(what);
            }
        }
    }

    /// The target of the rule for a request with this Host and this target in origin-form: of an exact host before a
    /// wildcard before none; of these the longest path; or else the oldest default backend.
    pub fn find(&self, host: &str, target: &str) -> Option<&Target> {
        let (host, path) = (plain(host), path_of(target));
        let exact = || self.hosts.get(&*host)?.find(path);
        let wildcard =
            || self.wildcards.get(host.split_once('.').filter(|it| !it.0.is_empty())?.1)?.find(path);
        exact().or_else(wildcard).or_else(|| self.any.find(path)).or(self.default.as_ref())
    }

    /// The rule, for an operator.
    pub fn describe(&self, target: &Target) -> String {
        let ingress = &self.ingresses[target.ingress];
        match target.rule {
            Some(rule) => said(ingress, rule),
            None => format!("{}, its default backend", shown(ingress)),
        }
    }

    /// How many rules are in force.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no rule is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What is not in force.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }
}

/// All that makes the rules what they are.
impl PartialEq for IngressRules {
    fn eq(&self, other: &Self) -> bool {
        self.ingresses == other.ingresses && self.left_out == other.left_out && self.default == other.default
    }
}

impl Eq for IngressRules {}

impl LeftOut {
    /// `count` rules of `namespace` are beyond its part of `shares`.
    fn beyond(
        &mut self,
        shares: &Shares,
        namespace: &str,
        count: usize,
        what: impl FnOnce(String) -> String,
    ) {
        let room = shares.room();
        match shares.share(namespace) {
            Some(share) => {
                self.share += count;
                self.say(|| what(format!("beyond {share}, the share of its namespace of {room}")));
            }
            None => {
                self.too_many += count;
                self.say(|| what(format!("beyond {room}")));
            }
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if self.reasons.len() < NAMED {
            self.reasons.push(what());
        }
    }
}

/// The host without its port and a last dot, in lower case.
fn plain(host: &str) -> Cow<'_, str> {
    let end = match host.find(']') {
        Some(end) => end + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let host = host.get(..end).unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

fn shown(ingress: &Ingress) -> String {
    format!("Ingress {}/{}", ingress.namespace, ingress.name)
}

fn said(ingress: &Ingress, rule: usize) -> String {
    let rule = &ingress.rules[rule];
    let mut text = shown(ingress);
    let _ = match &rule.host {
        Some(host) => write!(text, ", host {host}"),
        None => write!(text, ", any host"),
    };
    let kind = match rule.path.kind {
        PathType::Exact => "Exact",
        PathType::Prefix => "Prefix",
        PathType::ImplementationSpecific => "ImplementationSpecific",
    };
    let _ = match &*rule.path.text {
        "" => write!(text, ", any path"),
        path => write!(text, ", path {path} ({kind})"),
    };
    text
}
