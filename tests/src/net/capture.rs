//! Everything that passes a node, as it is on the wire.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use super::Pod;

/// `ETH_P_ALL` of linux/if_ether.h.
const ALL: u16 = 3;

/// How often it is seen that the capture is over.
const LOOK: Duration = Duration::from_millis(50);

/// The frames that the node's interfaces have sent and received since it began.
pub struct Capture {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// On all interfaces of this namespace. Needs root.
    #[track_caller]
    pub fn of(pod: &Pod) -> Self {
        let namespace = File::open(pod.namespace()).expect("the node's namespace");
        let open = move || -> io::Result<Socket> {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let protocol = Protocol::from(i32::from(ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            socket.set_recv_buffer_size(16 << 20)?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(socket)
        };
        // A thread of its own enters the namespace, and ends there.
        let mut socket = std::thread::spawn(open).join().unwrap().expect("a packet socket: it needs root");
        let (frames, over) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let (kept, ended) = (frames.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            let mut frame = vec![0; 1 << 16];
            while !ended.load(Ordering::Relaxed) {
                if let Ok(length) = socket.read(&mut frame) {
                    kept.lock().unwrap().push(frame[..length].to_vec());
                }
            }
        });
        Self { frames, over, thread: Some(thread) }
    }

    /// How many frames have these bytes in them.
    pub fn with(&self, bytes: &[u8]) -> usize {
        let frames = self.frames.lock().unwrap();
        frames.iter().filter(|frame| frame.windows(bytes.len()).any(|it| it == bytes)).count()
    }

    /// How many frames there are of either address and with this TCP port on either side.
    pub fn of_port(&self, address: IpAddr, port: u16) -> usize {
        let address = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let frames = self.frames.lock().unwrap();
        let has = |frame: &[u8]| {
            // Ethernet has 14 bytes, and here no header has options.
            let ip = frame.get(12..14)?;
            let (addresses, tcp) = match ip {
                [0x08, 0x00] => (frame.get(26..34)?, 34),
                [0x86, 0xdd] => (frame.get(22..54)?, 54),
                _ => return None,
            };
            let ports = frame.get(tcp..tcp + 4)?;
            let is_port = ports.chunks(2).any(|it| it == port.to_be_bytes());
            Some(is_port && addresses.chunks(address.len()).any(|it| it == address))
        };
        frames.iter().filter(|frame| has(frame) == Some(true)).count()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
