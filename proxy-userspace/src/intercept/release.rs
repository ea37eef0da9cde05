//! The Linux release, for messages: it helps to understand which feature a kernel lacks.

use std::fmt;

/// The oldest Linux that supports interception.
const OLDEST: (u32, u32) = (5, 15);

/// A kernel release, from uname(2).
pub(super) struct Release(String);

impl Release {
    /// The running kernel's; empty without /proc.
    pub(super) fn running() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self(release.trim().to_owned())
    }

    /// Whether it is too old for interception; `None` if unknown.
    pub(super) fn is_too_old(&self) -> Option<bool> {
        let mut numbers = self.0.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some((major, minor) < OLDEST)
    }
}

/// "this kernel", with its release if known.
impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "" => write!(f, "this kernel"),
            release => write!(f, "this kernel ({release})"),
        }
    }
}

#[cfg(test)]
impl From<&str> for Release {
    fn from(release: &str) -> Self {
        Self(release.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number_whatever_follows() {
        for (release, too_old) in [
            ("5.10.0-30-amd64", Some(true)),
            ("5.14.21-150500.55.7-default", Some(true)),
            ("5.15.0-generic", Some(false)),
            ("5.15", Some(false)),
            ("6.1.0-50-cloud-amd64", Some(false)),
            ("7.3.4+deb13-amd64", Some(false)),
            ("4.19.0", Some(true)),
            ("10.0.1", Some(false)),
            ("", None),
            ("next", None),
            ("6.", None),
        ] {
            assert_eq!(Release::from(release).is_too_old(), too_old, "{release}");
        }
    }
}
