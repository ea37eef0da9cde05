//! The form that a client wants objects in: whole, or their metadata alone.

use hyper::Response;

use super::status::{self, Body};

/// What the first clause of `Accept` says; a real server takes that, whatever was asked for, and then finds that a list is no
/// object, and an object no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `PartialObjectMetadataList`.
    MetadataList,
}

impl Form {
    pub(super) fn of(accept: &str) -> Self {
        let first = accept.split(',').next().unwrap_or_default();
        match first.split(';').find_map(|it| it.trim().strip_prefix("as=")) {
            Some("PartialObjectMetadata") => Self::Metadata,
            Some("PartialObjectMetadataList") => Self::MetadataList,
            _ => Self::Whole,
        }
    }

    /// The refusal of a form that what was asked for cannot have.
    pub(super) fn not_acceptable(wanted: &str, is: &str) -> Response<Body> {
        let message = format!("you requested {wanted}, but the requested object is {is}");
        status::failure(406, "NotAcceptable", &message, None)
    }
}
