//! The built-in base dtab.

use super::{Bounds, Dtab, Origin};

/// The base dtab: first files in linkerd's format, then Services, then DNS names outside the cluster.
pub const BASE: &str = "\
/svc => /$/weir.dns ;       # names outside, by DNS
/svc => /$/weir.host ;      # Services of the catalog
/svc => /#/io.l5d.fs ;      # files in linkerd's format
";

impl Dtab {
    /// [`BASE`], parsed.
    pub fn base() -> Self {
        Self::parse(BASE, Origin::Base, &Bounds::CONFIGURATION).expect("a test reads the base dtab")
    }
}
