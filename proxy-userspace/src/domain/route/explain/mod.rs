//! Explanations of a delegation: every step, as data.
//!
//! The engine reports its steps to a [`Recorder`] as it takes them, so an explanation cannot differ from what happened.
//! [`Silent`] records nothing and compiles to nothing.
//!
//! Not here: endpoints and their health. The caller that shows an explanation looks them up by its
//! [`result`](Explanation::result).

mod record;
mod render;
mod roles;
mod step;

pub(super) use record::{Recorder, Recording, Silent};
pub use step::{Explanation, Role, Step, Verdict, What};
