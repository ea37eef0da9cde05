//! Child processes that do not outlive who started them.
#![allow(unsafe_code, reason = "prctl between fork and exec")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut line =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs to the end and returns what it printed.
///
/// # Errors
///
/// It cannot be started, or fails: with what it said on standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", shown(command), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Has the kernel kill what this command becomes when the thread that starts it ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only prctl and getppid are called, system calls that allocate nothing.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the call above.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    };
}

/// Memory of a process in bytes, by the name of a line in /proc/PID/status (proc_pid_status(5)): `VmRSS`, `RssAnon`, `VmHWM`.
///
/// # Errors
///
/// The process is gone, or has ended.
pub fn memory(pid: u32, line: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':'));
    let value = value.with_context(|| format!("no line {line} of process {pid}"))?;
    let kilobytes: u64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// A child that is killed and reaped when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts the command in its own process group, so that a Ctrl-C at the terminal reaches only us. Should we be
    /// killed outright, the kernel kills the child too; for that it has to be started by the main thread.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.process_group(0);
        die_with_parent(command);
        Self::spawn(name, command)
    }

    /// Starts the command as it is.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}: `{}`", shown(command)))?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's pipes, where it was given some.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The first line that it prints: it is ready. Nothing more is read of its standard output, which has to be a pipe.
    ///
    /// # Errors
    ///
    /// It has ended, or has closed its output, without a whole line.
    pub fn first_line(&mut self) -> Result<String> {
        let mut line = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let line = line.strip_suffix('\n').with_context(|| format!("{} said {line:?}", self.name))?;
        Ok(line.to_owned())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // Not yet reaped, so the pid is still its own; and a child that has ended minds no signal.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }

    /// SIGKILL, and waits for the end. Returns how it ended: maybe before that.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().ok()
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Looks whether it is still there.
    ///
    /// # Errors
    ///
    /// It has ended already.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            Some(status) => bail!("{} ended by itself: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Tries `probe` again and again, with a `pause` between, until it succeeds: the process does what it was started for.
    ///
    /// # Errors
    ///
    /// The process has ended, or `patience` is over: the last error of `probe` is the cause. Or `pause` fails.
    pub fn wait_until<T>(
        &mut self,
        patience: Duration,
        mut probe: impl FnMut() -> Result<T>,
        mut pause: impl FnMut() -> Result<()>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            let error = match probe() {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            if let Some(status) = self.ended()? {
                return Err(error.context(format!("{} ended by itself: {status}", self.name)));
            }
            if Instant::now() > deadline {
                return Err(error.context(format!("{} did not get ready within {patience:?}", self.name)));
            }
            pause()?;
        }
    }

    /// SIGTERM, and SIGKILL after `patience`. Returns how it ended by itself, if it did.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn stop(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        let mut command = Command::new("sh");
        Running::start("the shell", command.args(["-c", script]).stdin(Stdio::null())).unwrap()
    }

    fn pause() -> Result<()> {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    #[test]
    fn a_process_that_ends_before_it_is_ready_is_not_waited_for() {
        let never = || -> Result<()> { bail!("nobody listens") };
        let error = shell("exit 3").wait_until(Duration::from_mins(5), never, pause).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("ended by itself: exit status: 3: nobody listens"), "{said}");
        let error = shell("exec sleep 600").wait_until(Duration::from_millis(20), never, pause).unwrap_err();
        assert!(format!("{error:#}").contains("the shell did not get ready within 20ms"), "{error:#}");
        let interrupted = || -> Result<()> { bail!("interrupted") };
        let error =
            shell("exec sleep 600").wait_until(Duration::from_mins(5), never, interrupted).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        let mut asked = 0;
        let third = || -> Result<i32> {
            asked += 1;
            if asked == 3 { Ok(asked) } else { bail!("not yet") }
        };
        assert_eq!(shell("exec sleep 600").wait_until(Duration::from_mins(5), third, pause).unwrap(), 3);
    }

    #[test]
    fn a_process_that_ends_without_a_word_is_not_taken_for_ready() {
        let mut speaks = Command::new("sh");
        speaks.args(["-c", "echo here; exec sleep 600"]).stdout(Stdio::piped());
        assert_eq!(Running::spawn("it", &mut speaks).unwrap().first_line().unwrap(), "here");
        for script in ["exit 1", "printf half"] {
            let mut ends = Command::new("sh");
            let mut ends = Running::spawn("it", ends.args(["-c", script]).stdout(Stdio::piped())).unwrap();
            assert!(ends.first_line().is_err(), "{script}");
        }
    }

    #[test]
    fn a_child_is_gone_once_it_is_dropped() {
        let child = shell("exec sleep 600");
        let pid = child.pid();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn memory_is_read_by_the_whole_name_of_its_line() {
        let own = std::process::id();
        let (resident, anonymous, most) =
            (memory(own, "VmRSS").unwrap(), memory(own, "RssAnon").unwrap(), memory(own, "VmHWM").unwrap());
        assert!(anonymous > 0 && anonymous <= most && resident > 0, "{resident} {anonymous} {most}");
        assert!(memory(own, "Rss").is_err());
    }
}
