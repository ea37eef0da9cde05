//! Floor 2: bytes and sockets. It listens, connects, and copies; it makes no decisions.

mod activity;
mod ahead;
mod bad_head;
mod connect;
mod copy;
mod displacement;
mod ended;
mod frame_meter;
mod hops;
mod interim;
mod interjected;
mod io;
mod listen;
mod message_body;
mod netns;
mod peer;
mod reader;
mod route;
mod specific;
mod stream_io;
mod tcp_info;

pub use activity::{Activity, Phase, Sending};
pub use bad_head::MakeAnswer;
pub use connect::{ConnectError, Connector, set_keepalive};
pub use copy::{Copied, copy};
pub use frame_meter::{Flood, FrameBounds, FrameMeter, Metered};
pub use hops::{hop_limit, set_hop_limit};
pub use interim::Bounds;
pub use io::Io;
pub use listen::{BindError, bind, bind_range, refuse_new};
pub use message_body::{BodyError, MessageBody};
pub use netns::{NetnsStats, NetnsThread, PodNetns};
pub use peer::{Patience, Peer, Watch};
pub use route::{KernelRoutes, Way};
pub use specific::remove_specific;
pub use stream_io::{Carrier, StreamIo};
