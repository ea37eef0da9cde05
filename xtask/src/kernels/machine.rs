//! An emulated machine: started with a kernel and an initramfs, and what it says on its console.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Running;

/// Longer than a run takes on a busy machine, of 3 to 10 minutes.
const PATIENCE: Duration = Duration::from_mins(45);

/// One processor and one thread, a plain board, no network and no disk: so it starts every time.
const BOARD: [&str; 16] = [
    "-accel",
    "tcg,thread=single",
    "-cpu",
    "max",
    "-smp",
    "1",
    "-M",
    "pc",
    "-m",
    "2048",
    "-nic",
    "none",
    "-no-reboot",
    "-display",
    "none",
    "-nodefaults",
];

/// How lines begin that init.sh writes for us.
const WORD: &str = "== ";

/// A machine to be run.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initramfs: &'a Path,
    /// All that it says is written here.
    pub(super) log: &'a Path,
}

/// What came of a run, by what was said on the console.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The sums of the tests: `64 passed; 0 failed; …`.
    pub(super) tests: Option<String>,
    /// How the tests and the scene with weir ended: 0 is well.
    pub(super) tests_ended: Option<i32>,
    pub(super) deployed_ended: Option<i32>,
    /// What the scene with weir showed.
    pub(super) deployed: Vec<String>,
    /// Tests that were left out, which none may be.
    pub(super) left_out: usize,
}

impl Machine<'_> {
    /// Runs it to its end, and shows on the terminal what is worth it.
    pub(super) fn run(&self, filter: Option<&str>) -> Result<Verdict> {
        let words = format!("console=ttyS0 quiet panic=-1 weir.tests={}", filter.unwrap_or_default());
        let mut command = Command::new(super::QEMU.program);
        command.args(BOARD).arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initramfs);
        command.args(["-append", &words, "-serial", "stdio"]);
        println!("    all it says is in {}", self.log.display());
        let mut running = Running::start("the machine", command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let console = running.child().stdout.take().context("its console is piped")?;
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                if said.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
        let (mut verdict, mut log) = (Verdict::default(), File::create(self.log)?);
        let end = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    if verdict.hear(&line) {
                        println!("    {line}");
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(verdict),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the machine did not come to its end in {PATIENCE:?}")
                }
            }
        }
    }
}

impl Verdict {
    /// Takes a line in; whether it is worth showing.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        if let Some(sums) = line.strip_prefix("test result: ") {
            self.tests = sums.split_once(". ").map(|(_, sums)| sums.to_owned());
        } else if let Some(word) = line.strip_prefix(WORD) {
            match word.split_once(' ') {
                Some(("tests", code)) => self.tests_ended = code.parse().ok(),
                Some(("deployed", code)) => self.deployed_ended = code.parse().ok(),
                Some(("shown", what)) => self.deployed.push(what.to_owned()),
                _ => {}
            }
        } else if line.contains("left out") {
            self.left_out += 1;
        } else {
            return line.contains("FAILED") || line.contains("panicked at") || line.contains("Kernel panic");
        }
        true
    }

    /// Whether all that is run was run, and all of it ended well.
    pub(super) fn is_well(&self) -> bool {
        let some_passed = self.tests.as_ref().is_some_and(|sums| !sums.starts_with("0 passed"));
        some_passed
            && self.tests_ended == Some(0)
            && self.deployed_ended == Some(0)
            && !self.deployed.is_empty()
            && self.left_out == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tests = self.tests.as_deref().unwrap_or("the tests did not come to their end");
        let ended = match self.deployed_ended {
            Some(0) => "works",
            Some(_) => "FAILED",
            None => "did not come to its end",
        };
        write!(f, "{tests}; weir with the DaemonSet's capabilities {ended}: {}", self.deployed.join(", "))?;
        if self.left_out > 0 {
            write!(f, "; {} tests were left out", self.left_out)?;
        }
        Ok(())
    }
}
