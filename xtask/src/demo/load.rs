//! A running client process, and the last tally it told.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use super::tally::Tally;
use crate::process::Running;

pub(crate) struct Load {
    process: Running,
    tallies: Receiver<Tally>,
    last: Tally,
}

impl Load {
    /// Starts a command that prints tallies.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::start("the client", command)?;
        let stdout = process.child().stdout.take().context("the client's output is piped")?;
        let (sender, tallies) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for tally in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if sender.send(tally).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, tallies, last: Tally::default() })
    }

    /// What it has seen so far.
    pub(crate) fn tally(&mut self) -> &Tally {
        while let Ok(tally) = self.tallies.try_recv() {
            self.last = tally;
        }
        &self.last
    }

    /// Lets requests under way end, and returns what it saw in all.
    pub(crate) fn finish(mut self) -> Result<Tally> {
        drop(self.process.child().stdin.take());
        // Until it has hung up; an answer takes five seconds at most.
        while let Ok(tally) = self.tallies.recv_timeout(Duration::from_secs(10)) {
            self.last = tally;
        }
        Ok(self.last)
    }
}
