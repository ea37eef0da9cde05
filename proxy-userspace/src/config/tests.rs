//! Whole files in, settings or positions out.
