//! The dtab that weir has without being told.

use super::{Bounds, Dtab, Origin};

/// The base dtab: files in linkerd's format before Services before names outside.
pub const BASE: &str = "\
/svc => /$/weir.dns ;       # names outside, by DNS
/svc => /$/weir.host ;      # Services of the catalog
/svc => /#/io.l5d.fs ;      # files in linkerd's format
";

impl Dtab {
    /// [`BASE`], read.
    pub fn base() -> Self {
        Self::parse(BASE, Origin::Base, &Bounds::CONFIGURATION).expect("a test reads the base dtab")
    }
}
