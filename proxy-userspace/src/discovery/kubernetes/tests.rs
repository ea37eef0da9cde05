//! Discovery against a server of a few lines.
