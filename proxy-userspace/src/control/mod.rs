//! Floor 4: the state of the control plane and its reports.
//!
//! `app` creates and changes it; `admin` shows it. Nothing here listens, speaks HTTP or depends on the client.

mod catalogs;
mod configuration;
mod direct;
mod files;
mod handover;
mod metrics;
mod netns;
mod programs;
mod readiness;
pub mod report;
mod state;

pub use catalogs::Catalogs;
pub use configuration::{Configuration, Reload};
pub use direct::{Direct, SeenDirect};
pub use files::FileDiscovery;
pub use handover::{Before, Handover, HandoverResult, Stage};
pub use netns::{Netns, NetnsState, SeenNetns, SocketPlace, WithoutListener};
pub use programs::{Diverted, Programs, Reading};
pub use readiness::Readiness;
pub use state::State;
