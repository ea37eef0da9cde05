//! weir's admin port as the demo uses it: counters, and a way in from outside the pretend node.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use test_support::metrics::{self, Sample};

/// weir's counters at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Counters(Vec<Sample>);

impl Counters {
    pub(crate) fn parse(page: &str) -> Self {
        Self(metrics::parse(page))
    }

    /// The sum of the rows of `name` that carry this label.
    pub(crate) fn sum(&self, name: &str, label: &str, value: &str) -> u64 {
        metrics::sum(&self.0, name, &[(label, value)]) as u64
    }

    /// The values of one label, with their counts, in those rows of `name` that have a label with a value that ends so.
    pub(crate) fn by(&self, name: &str, label: &str, ending: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for sample in self.0.iter().filter(|sample| sample.name == name) {
            if let Some(value) = sample.labels.get(label)
                && sample.labels.values().any(|value| value.ends_with(ending))
            {
                *sums.entry(value.clone()).or_default() += sample.value as u64;
            }
        }
        sums
    }
}

/// Passes connections from loopback here to the admin port in the pretend node, so that a browser can reach it.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// `enter` moves the relaying thread to where `admin` is; the listener stays where it was made.
    pub(crate) fn start(
        admin: SocketAddr,
        enter: impl Fn() -> std::io::Result<()> + Send + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                if let Err(error) = enter() {
                    eprintln!("the admin port cannot be reached from here: {error}");
                    return;
                }
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        // Threads inherit the namespace of the one that starts them.
                        Ok((client, _)) => drop(std::thread::spawn(move || relay(client, admin))),
                        Err(_) => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            }
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

fn relay(client: TcpStream, admin: SocketAddr) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(admin)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(std::net::Shutdown::Write)
    });
    let (mut from_server, mut to_client) = (server, client);
    std::io::copy(&mut from_server, &mut to_client)?;
    to_client.shutdown(std::net::Shutdown::Both)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn counters_are_read_and_summed_by_label() {
        let page = "# TYPE weir_listener_requests counter\n\
                    weir_listener_requests_total{listener=\"outgoing\"} 7\n\
                    weir_listener_requests_total{listener=\"transparent\",worker=\"0\"} 2\n\
                    weir_listener_requests_total{listener=\"transparent\",worker=\"1\"} 3.0\n# EOF\n";
        let counters = Counters::parse(page);
        assert_eq!(counters.sum("weir_listener_requests_total", "listener", "transparent"), 5);
        assert_eq!(counters.sum("weir_listener_requests_total", "listener", "outgoing"), 7);
        assert_eq!(counters.sum("weir_listener", "listener", "outgoing"), 0);
        assert_eq!(counters.by("weir_listener_requests_total", "worker", "transparent")["1"], 3);
    }

    #[test]
    fn a_relayed_page_arrives_whole() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(server.local_addr().unwrap(), || Ok(())).unwrap();
        let address = relay.address;
        let asking = std::thread::spawn(move || crate::launch::page(address, "/live"));
        let (mut stream, _) = server.accept().unwrap();
        let mut request = [0; 256];
        let count = stream.read(&mut request).unwrap();
        assert!(request[..count].starts_with(b"GET /live"));
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nlive").unwrap();
        drop(stream);
        assert_eq!(asking.join().unwrap().unwrap(), "live");
    }
}
