//! Placeholder.
use std::net::SocketAddr;
/// .
#[derive(Clone, Debug)]
pub struct Originals;
/// .
#[derive(Clone, Debug)]
pub struct Original {
    /// .
    pub dialled: SocketAddr,
    /// .
    pub cgroup: u64,
    /// .
    pub netns_cookie: u64,
}
impl Originals {
    /// .
    pub fn take(&self, _: SocketAddr, _: SocketAddr) -> Option<Original> {
        None
    }
}
