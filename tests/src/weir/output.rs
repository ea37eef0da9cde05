//! What a weir says on its standard output and error, and who reads it.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use super::{Bound, Log};
use crate::time::{Clock, PATIENCE};

/// How the line begins that says weir is ready.
const READY: &str = "weir: listening ";

/// Who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// The test collects it.
    Test,
    /// A pipe of one page, the same for both outputs, which nobody reads once weir is ready.
    Nobody,
    /// The test reads the log, and nobody what is said on standard output: a pipe that is full already.
    OnlyOfTheLog,
    /// A disk without room.
    FullDisk,
}

impl Reader {
    /// Has `command` write there, and returns the end of it that is kept open and not read.
    pub(super) fn open(self, command: &mut Command) -> Option<PipeReader> {
        command.stdout(Stdio::piped());
        match self {
            Self::Test => drop(command.stderr(Stdio::piped())),
            Self::Nobody => {
                let (reader, writer) = pipe();
                command.stdout(writer.try_clone().unwrap()).stderr(writer);
                return Some(reader);
            }
            Self::OnlyOfTheLog => {
                let (reader, mut writer) = pipe();
                writer.write_all(&[b'.'; 4096]).unwrap();
                command.stdout(writer).stderr(Stdio::piped());
                return Some(reader);
            }
            Self::FullDisk => drop(command.stderr(File::options().write(true).open("/dev/full").unwrap())),
        }
        None
    }

    /// Collects what is to be read of `child` in `log`, and passes on the lines that may say where it listens.
    pub(super) fn read(self, child: &mut Child, unread: Option<&PipeReader>, log: &Log) -> Receiver<String> {
        let (say, heard) = channel();
        if let (Self::Nobody, Some(unread)) = (self, unread) {
            collect_until_ready(unread.try_clone().unwrap(), log.clone(), say.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, log.clone(), (self == Self::OnlyOfTheLog).then(|| say.clone()));
        }
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, log.clone(), Some(say));
        }
        heard
    }
}

/// A pipe of one page.
fn pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    (reader, writer)
}

fn collect(source: impl Read + Send + 'static, log: Log, say: Option<Sender<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            if let Some(say) = &say {
                let _ = say.send(line);
            }
        }
    });
}

/// Leaves in the pipe what comes after the line that says weir is ready.
fn collect_until_ready(source: PipeReader, log: Log, say: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::with_capacity(1, source).lines().map_while(Result::ok) {
            let is_ready = line.starts_with(READY);
            *log.lock().unwrap() += &format!("{line}\n");
            if say.send(line).is_err() || is_ready {
                return;
            }
        }
    });
}

/// Where weir listens, once it says so.
pub(super) fn ready(lines: &Receiver<String>) -> Result<Bound, &'static str> {
    let clock = Clock::start();
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                // On standard output that is all of a line, and in the log the end of one.
                if let Some((_, rest)) = line.split_once("listening outgoing=") {
                    return Ok(Bound::parse(&format!("outgoing={rest}")));
                }
            }
            Err(RecvTimeoutError::Timeout) if !clock.is_past(PATIENCE) => {}
            Err(RecvTimeoutError::Timeout) => return Err("it said nothing of listening"),
            Err(RecvTimeoutError::Disconnected) => return Err("it ended"),
        }
    }
}
