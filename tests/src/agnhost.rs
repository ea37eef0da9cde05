//! A double of agnhost, the image of Kubernetes' own tests that the examples run: its subcommands `netexec` and `pause`, of
//! version 2.53 (kubernetes/kubernetes, test/images/agnhost), as far as the pods of the examples and their probes can tell.
//!
//! It reads its arguments as agnhost does (Go's pflag), so that one that agnhost does not know ends it. `/healthz` and
//! `/readyz` answer 412 until its UDP server runs, which it never does with `--udp-port=-1`.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::backend::{Answer, Backend, Received};

/// What it is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agnhost {
    /// Does nothing until it is told to end.
    Pause {
        /// How long it stays after that.
        delay_shutdown: Duration,
    },
    /// Serves HTTP and UDP.
    Netexec(Netexec),
}

/// What `netexec` serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netexec {
    /// The HTTP server's port.
    pub http_port: u16,
    /// The UDP server's port; none with `-1`, and then it is never ready.
    pub udp_port: Option<u16>,
    /// How long it serves on after SIGTERM.
    pub delay_shutdown: Duration,
}

/// A `netexec` that serves.
pub struct Serving {
    backend: Backend,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Its UDP server runs.
    ready: AtomicBool,
    /// SIGTERM has come.
    terminating: AtomicBool,
}

impl Agnhost {
    /// Reads the arguments of the image's container.
    ///
    /// # Errors
    ///
    /// What agnhost says before it exits with 1.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let Some((command, rest)) = arguments.split_first() else {
            return Ok(Self::Pause { delay_shutdown: Duration::ZERO }); // The image's own CMD.
        };
        let known: &[&str] = match command.as_str() {
            "pause" => &["delay-shutdown"],
            "netexec" => &["http-port", "udp-port", "delay-shutdown"],
            other => return Err(format!("unknown command \"{other}\" for \"app\"")),
        };
        let flags = flags(rest, known)?;
        let of =
            |name: &str, default: i64| flags.iter().rfind(|(it, _)| it == name).map_or(default, |it| it.1);
        let port = |number: i64| u16::try_from(number).map_err(|_| format!("listen: invalid port {number}"));
        let delay_shutdown = Duration::from_secs(u64::try_from(of("delay-shutdown", 0)).unwrap_or(0));
        if command == "pause" {
            return Ok(Self::Pause { delay_shutdown });
        }
        let udp_port = match of("udp-port", 8081) {
            -1 => None,
            number => Some(port(number)?),
        };
        Ok(Self::Netexec(Netexec { http_port: port(of("http-port", 8080))?, udp_port, delay_shutdown }))
    }

    /// Runs until SIGTERM as the process of a container, whose name is in `HOSTNAME`; its exit code. SIGTERM has to be
    /// blocked in every thread.
    pub fn run(&self) -> i32 {
        match self {
            Self::Pause { delay_shutdown } => {
                wait_for_sigterm();
                std::thread::sleep(*delay_shutdown);
                2
            }
            Self::Netexec(netexec) => {
                let serving = netexec.serve(&std::env::var("HOSTNAME").unwrap_or_default());
                wait_for_sigterm();
                serving.terminate();
                std::thread::sleep(netexec.delay_shutdown);
                0
            }
        }
    }
}

impl Netexec {
    /// Serves under this host's name, on every IPv4 address.
    #[track_caller]
    pub fn serve(&self, hostname: &str) -> Serving {
        let state = Arc::new(State::default());
        if let Some(port) = self.udp_port {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the UDP server's port");
            state.ready.store(true, Ordering::SeqCst);
            let hostname = hostname.to_owned();
            std::thread::spawn(move || answer_datagrams(&socket, &hostname));
        }
        let (told, hostname) = (state.clone(), hostname.to_owned());
        let script = move |request: &Received| answer(&told, &hostname, request.head.target());
        let backend =
            Backend::http().script(script).on((Ipv4Addr::UNSPECIFIED, self.http_port).into()).start();
        Serving { backend, state }
    }
}

impl Serving {
    /// The HTTP server's port.
    pub fn http_port(&self) -> u16 {
        self.backend.addr().port()
    }

    /// What SIGTERM does at once: it serves on, and is not ready any more.
    pub fn terminate(&self) {
        self.state.terminating.store(true, Ordering::SeqCst);
    }
}

/// The answer to a GET.
fn answer(state: &State, hostname: &str, target: &str) -> Answer {
    let (ready, terminating) = (&state.ready, state.terminating.load(Ordering::SeqCst));
    let ready = || if ready.load(Ordering::SeqCst) { Answer::ok("ok") } else { Answer::status(412) };
    match target.split('?').next().unwrap_or_default() {
        "/healthz" => ready(),
        "/readyz" if terminating => Answer::status(503),
        "/readyz" => ready(),
        "/hostname" | "/hostName" => Answer::ok(hostname),
        _ => Answer::ok("NOW: 1970-01-01 00:00:00 +0000 UTC"),
    }
}

fn answer_datagrams(socket: &UdpSocket, hostname: &str) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if buffer[..length].eq_ignore_ascii_case(b"hostname") {
            let _ = socket.send_to(hostname.as_bytes(), from);
        }
    }
}

/// Flags with whole numbers as values, `--name=1` or `--name 1`.
fn flags(arguments: &[String], known: &[&str]) -> Result<Vec<(String, i64)>, String> {
    let mut found = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--") else {
            return Err(match argument.strip_prefix('-') {
                Some(short) => format!("unknown shorthand flag: {short:?} in {argument}"),
                None => "accepts at most 0 arg(s), received 1".to_owned(),
            });
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if !known.contains(&name) {
            return Err(format!("unknown flag: --{name}"));
        }
        let value = value.or_else(|| rest.next().map(String::as_str));
        let value = value.ok_or_else(|| format!("flag needs an argument: --{name}"))?;
        let number =
            value.parse().map_err(|_| format!("invalid argument \"{value}\" for \"--{name}\" flag"))?;
        found.push((name.to_owned(), number));
    }
    Ok(found)
}

fn wait_for_sigterm() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.wait().expect("a signal to wait for");
}

/// Blocks SIGTERM in this thread and those that it starts, for [`Agnhost::run`] to take it.
pub fn block_sigterm() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().expect("a signal to block");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    fn parsed(line: &str) -> Result<Agnhost, String> {
        Agnhost::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_as_go_reads_them_and_unknown_ones_end_it() {
        let of = |http_port, udp_port, delay| {
            Ok(Agnhost::Netexec(Netexec { http_port, udp_port, delay_shutdown: Duration::from_secs(delay) }))
        };
        assert_eq!(parsed("netexec"), of(8080, Some(8081), 0));
        assert_eq!(parsed("netexec --http-port=80 --udp-port -1 --delay-shutdown=5"), of(80, None, 5));
        assert_eq!(parsed("pause"), parsed(""));
        for (line, said) in [
            ("netexec --port=80", "unknown flag: --port"),
            ("netexec -p 80", "unknown shorthand flag"),
            ("netexec 80", "accepts at most 0 arg(s)"),
            ("netexec --http-port", "needs an argument"),
            ("netexec --http-port=http", "invalid argument"),
            ("netexec --udp-port=-2", "invalid port"),
            ("pause --http-port=80", "unknown flag"),
            ("serve", "unknown command"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn its_health_is_that_of_its_udp_server() {
        for (udp_port, status) in [(Some(0), 200), (None, 412)] {
            let netexec = Netexec { http_port: 0, udp_port, delay_shutdown: Duration::ZERO };
            let serving = netexec.serve("a");
            let get = |path: &str| Client::to(([127, 0, 0, 1], serving.http_port()).into()).get(path);
            assert_eq!(get("/healthz").status, status);
            assert_eq!(get("/readyz").status, status);
            get("/hostname").expect_status(200).expect_body("a");
            serving.terminate();
            assert_eq!((get("/healthz").status, get("/readyz").status), (status, 503));
        }
    }
}
