//! Why a name leads where it leads: every step of a delegation, as data.
//!
//! The engine tells a [`Recorder`] what it does as it does it, so that an explanation is what happened and not a
//! second opinion. [`Silent`] listens to nothing and compiles to nothing.
//!
//! Deliberately absent: endpoints and their health. Whoever shows an explanation looks them up by its
//! [`result`](Explanation::result).

mod record;
mod render;
mod roles;
mod step;

pub(super) use record::{Recorder, Recording, Silent};
pub use step::{Explanation, Role, Step, Verdict, What};
