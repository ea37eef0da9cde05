//! Who chose a name: the operator, or the request.
//!
//! An address that an operator wrote may be one that weir refuses otherwise ([`Outside::written`]). That holds only if
//! the request had no part in it: neither by a label of its own name that became part of the address, nor by an entry
//! of its own dtab on the way there.
//!
//! [`Outside::written`]: crate::domain::route::Outside::written

use crate::domain::dtab::Origin;

/// Who chose a name, and the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Provenance {
    /// How many of the name's first labels an operator wrote.
    written: usize,
    /// Whether an entry of the request decided where the way led.
    by_request: bool,
}

impl Provenance {
    /// Of a name that a request asks for.
    pub(super) const ASKED: Self = Self { written: 0, by_request: false };

    /// After an entry from `origin` has replaced the first `prefix` labels by `leaf` labels.
    pub(super) fn after_entry(self, origin: Origin, prefix: usize, leaf: usize) -> Self {
        if self.by_request || !origin.is_operators() {
            return Self { written: 0, by_request: true };
        }
        Self { written: leaf + self.written.saturating_sub(prefix), by_request: false }
    }

    /// As an alternative to what an entry of the request had a part in: without it, this one might not be reached.
    pub(super) fn as_alternative(self) -> Self {
        Self { written: 0, by_request: true }
    }

    /// After a namer has made a name of `after` labels from one of `before` labels, by rearranging them.
    pub(super) fn after_namer(self, before: usize, after: usize) -> Self {
        // Only a name without labels of the request is certain to give one without.
        Self { written: if self.written >= before { after } else { 0 }, ..self }
    }

    /// After a namer has made a name of `labels` labels that are all in the configuration.
    pub(super) fn after_template(self, labels: usize) -> Self {
        Self { written: if self.by_request { 0 } else { labels }, ..self }
    }

    /// After a name that is in nobody's configuration, such as an ExternalName.
    pub(super) fn after_alias(self) -> Self {
        Self { written: 0, ..self }
    }

    /// Whether an operator wrote the first `labels` labels, and the request had no part in the way to them.
    pub(super) fn is_written(self, labels: usize) -> bool {
        !self.by_request && labels <= self.written
    }

    /// Whether the request's own entries had a part in the way.
    pub(super) fn is_by_request(self) -> bool {
        self.by_request
    }
}
