//! Inside the pod: dials addresses in turns.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::figures::Spread;
use crate::os::cpu;

/// What it asks for. The endpoint answers it whether weir reads it or not.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// The hidden command.
#[derive(clap::Args)]
pub(crate) struct Dials {
    count: usize,
    core: usize,
    addresses: Vec<SocketAddr>,
}

/// Prints for each address the median of connect(), and that of connect() with the first answer, in microseconds.
pub(crate) fn dials(options: &Dials) -> Result<()> {
    cpu::pin_thread(options.core)?;
    let mut all = vec![(Vec::new(), Vec::new()); options.addresses.len()];
    for _ in 0..options.count {
        for (address, (connects, answers)) in options.addresses.iter().zip(&mut all) {
            let begun = Instant::now();
            let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
            let connected = begun.elapsed();
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(REQUEST)?;
            let read = stream.read(&mut [0; 1024]).with_context(|| format!("an answer of {address}"))?;
            let answered = begun.elapsed();
            anyhow::ensure!(read > 0, "{address} closed without an answer");
            connects.push(connected.as_secs_f64() * 1e6);
            answers.push(answered.as_secs_f64() * 1e6);
        }
    }
    let median = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
    for (connects, answers) in &all {
        println!("{:.3} {:.3}", median(connects), median(answers));
    }
    Ok(())
}
