//! Ten unmodified programs that give up, each in its own way: the endpoint learns of each as soon as it would without weir.
//!
//! Each runs twice in the same test, once directly and once through weir, so that a busy machine delays both.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Between;
use e2e::net::place::Place;
use e2e::python;
use e2e::witness::{Manner, Witness};

/// How a program ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// The program gives up by itself, and exits.
    Exits,
    /// The program gives up by itself, prints `left` and goes on: only its socket tells.
    Prints,
    /// This signal ends it.
    Gets(Signal),
}

/// A program, and what it asks of the endpoint.
struct Program {
    name: &'static str,
    /// Adds its arguments to the command.
    command: fn(&Call<'_>) -> Command,
    endpoint: Manner,
    ends: Ends,
    /// Whether it can be told to use an HTTP proxy, or asks :4140 like a server.
    explicit: bool,
}

/// What a program is to ask.
struct Call<'a> {
    place: Place,
    /// The endpoint, the Service's address, or :4140.
    to: SocketAddr,
    /// Whether `to` is an HTTP proxy.
    is_proxy: bool,
    /// A folder for files that the program needs.
    folder: &'a Path,
}

impl Call<'_> {
    /// The command, with the environment variables that name the proxy.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.place.command(program);
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env_remove("no_proxy").env_remove("NO_PROXY");
        if self.is_proxy {
            let proxy = format!("http://{}", self.to);
            command.env("http_proxy", &proxy).env("HTTP_PROXY", &proxy);
        }
        command
    }

    fn url(&self) -> String {
        if self.is_proxy { "http://hello/".to_owned() } else { format!("http://{}/", self.to) }
    }
}

const PROGRAMS: [Program; 10] = [
    Program {
        name: "curl --max-time",
        command: |call| {
            let mut curl = call.command("curl");
            curl.args(["--silent", "--max-time", "0.7", &call.url()]);
            curl
        },
        endpoint: Manner::Silent,
        ends: Ends::Exits,
        explicit: true,
    },
    Program {
        name: "Python, requests.get(timeout)",
        command: |call| {
            let script = "import requests, sys\n\
                try: requests.get(sys.argv[1], timeout=0.7)\n\
                except requests.exceptions.ReadTimeout: print('left', flush=True)\n\
                sys.stdin.read()";
            let mut python = call.command(python::python());
            python.args(["-c", script, &call.url()]);
            python
        },
        endpoint: Manner::Silent,
        ends: Ends::Prints,
        explicit: true,
    },
    Program {
        name: "Go's net/http, its context's deadline: kubectl --request-timeout",
        command: |call| {
            let mut kubectl = kubectl(call);
            kubectl.args(["--request-timeout", "700ms", "get", "--raw", "/version"]);
            kubectl
        },
        endpoint: Manner::Silent,
        ends: Ends::Exits,
        explicit: true,
    },
    Program {
        name: "Java, a Socket that is closed with SO_LINGER of 0",
        command: |call| {
            let mut java = call.command("java");
            java.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp"]).arg(call.folder).arg("Leaves");
            java.args([call.to.ip().to_string(), call.to.port().to_string()]);
            java
        },
        endpoint: Manner::Silent,
        ends: Ends::Prints,
        explicit: true,
    },
    Program {
        name: "EventSource.close() in Node.js",
        command: |call| {
            let script = "const source = new EventSource(process.argv[1]);\n\
                source.onmessage = () => { source.close(); console.log('left'); };\n\
                process.stdin.resume().on('end', () => process.exit(0));";
            let mut node = call.command(python::node());
            node.args(["--no-warnings", "--experimental-eventsource", "-e", script, &call.url()]);
            node.env("NODE_USE_ENV_PROXY", "1");
            node
        },
        endpoint: Manner::Streams,
        ends: Ends::Prints,
        explicit: true,
    },
    Program {
        name: "timeout sh -c 'cat | curl -T -'",
        command: |call| {
            let mut timeout = call.command("timeout");
            let script = format!("cat | curl --silent --header Expect: --upload-file - {}", call.url());
            timeout.args(["0.7", "sh", "-c", &script]);
            timeout
        },
        endpoint: Manner::Silent,
        ends: Ends::Exits,
        explicit: true,
    },
    Program {
        name: "pgbench, killed within a query",
        command: |call| {
            let script = call.folder.join("query.sql");
            std::fs::write(&script, "select pg_sleep(1000);\n").unwrap();
            let mut pgbench = call.command(python::postgres("pgbench"));
            pgbench.env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
            pgbench.args(["--no-vacuum", "--time", "600", "--username", "weir", "--file"]).arg(script);
            pgbench.args([
                "--host",
                &call.to.ip().to_string(),
                "--port",
                &call.to.port().to_string(),
                "weir",
            ]);
            pgbench
        },
        endpoint: Manner::Postgres,
        ends: Ends::Gets(Signal::SIGKILL),
        explicit: false,
    },
    Program {
        name: "redis-cli, killed in BLPOP",
        command: |call| {
            let mut redis = call.command("redis-cli");
            redis.args(["-h", &call.to.ip().to_string(), "-p", &call.to.port().to_string()]);
            redis.args(["BLPOP", "a", "0"]);
            redis
        },
        endpoint: Manner::Silent,
        ends: Ends::Gets(Signal::SIGKILL),
        explicit: false,
    },
    Program {
        name: "wrk, at its end",
        command: |call| {
            let mut wrk = call.command("wrk");
            wrk.args(["--threads", "1", "--connections", "1", "--duration", "1s", "--header", "Host: hello"]);
            wrk.arg(format!("http://{}/", call.to));
            wrk
        },
        endpoint: Manner::Floods,
        ends: Ends::Exits,
        explicit: true,
    },
    Program {
        name: "a watch of kubectl's, ended with ^C",
        command: |call| {
            let mut kubectl = kubectl(call);
            kubectl.args(["get", "--raw", "/api/v1/pods?watch=true"]);
            kubectl
        },
        endpoint: Manner::Streams,
        ends: Ends::Gets(Signal::SIGINT),
        explicit: true,
    },
];

/// kubectl with the endpoint as its API server.
fn kubectl(call: &Call<'_>) -> Command {
    // What a shell has started in the background ignores ^C, and so does what that starts.
    let mut kubectl = call.command("env");
    kubectl.arg("--default-signal=INT").arg(python::kubectl());
    kubectl.env("HOME", call.folder).env("KUBECONFIG", call.folder.join("none"));
    kubectl.args(["--server", &call.url()]);
    kubectl
}

/// A client in Java that resets its connection.
const JAVA: &str = r#"
import java.io.*;
import java.net.*;
import java.nio.charset.StandardCharsets;

class Leaves {
    public static void main(String[] args) throws Exception {
        Socket socket = new Socket(args[0], Integer.parseInt(args[1]));
        socket.setSoLinger(true, 0);
        socket.setSoTimeout(700);
        String request = "GET / HTTP/1.1\r\nHost: hello\r\n\r\n";
        socket.getOutputStream().write(request.getBytes(StandardCharsets.US_ASCII));
        try {
            socket.getInputStream().read();
        } catch (SocketTimeoutException late) {
            socket.close();
            System.out.println("left");
        }
        System.in.read();
    }
}
"#;

fn compile(folder: &Path) {
    let source = folder.join("Leaves.java");
    std::fs::write(&source, JAVA).unwrap();
    let compiled = Command::new("javac").arg("-d").args([folder, &source]).output();
    let compiled = compiled.expect("javac (Debian: apt-get install openjdk-17-jdk-headless)");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}

impl Program {
    /// Runs it until it has given up: how long after that the endpoint learnt of it.
    fn run(&self, call: &Call<'_>, witness: &Witness) -> Duration {
        let mut command = (self.command)(call);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|why| panic!("{}: {why}", self.name));
        let mut running = Running(child);
        // Upload of the pipe; the others do not read it. One that does not run any more will be missed by the endpoint.
        let _ = running.0.stdin.as_mut().unwrap().write_all(b"body");
        witness.wait_for(1);
        let left = match self.ends {
            Ends::Exits => {
                let mut printed = Vec::new();
                running.0.stdout.take().unwrap().read_to_end(&mut printed).unwrap();
                running.0.wait().unwrap();
                Instant::now()
            }
            Ends::Prints => {
                let mut said = [0; 4];
                running.0.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
                assert_eq!(&said, b"left", "{}", self.name);
                Instant::now()
            }
            Ends::Gets(signal) => {
                let left = Instant::now();
                kill(Pid::from_raw(running.0.id().cast_signed()), signal).unwrap();
                left
            }
        };
        // A program that prints still runs now.
        witness.wait_for_end(1).at.saturating_duration_since(left)
    }
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How much later than without weir an endpoint may learn of it.
const IN_TIME: Duration = Duration::from_millis(100);

/// How often a program is tried: a busy machine may make the endpoint late, whatever weir does.
const TRIES: usize = 5;

/// How much later than without weir the endpoint learns that `program` has left.
fn how_late(between: &Between, program: &Program, folder: &Path) -> Duration {
    let (place, to, is_proxy) = match between {
        Between::Explicit(weir, ..) => (Place::Here, weir.outgoing(), true),
        Between::Diverted(stage) => (Place::from(&stage.client), super::address(super::V4), false),
    };
    let control = match between {
        Between::Explicit(..) => e2e::raw::listen(e2e::raw::loopback()),
        // A pod's own address is no Service's: it is not diverted.
        Between::Diverted(stage) => stage.a.listen(stage.a.at(9090)),
    };
    let control = Witness::on(control.unwrap(), program.endpoint);
    let call = Call { place: place.clone(), to: control.addr(), is_proxy: false, folder };
    let directly = program.run(&call, &control);
    drop(control);

    let witness = between.witness(program.endpoint);
    let call = Call { place, to, is_proxy, folder };
    let through = program.run(&call, &witness);
    eprintln!("{:?} {}: {directly:?} directly, {through:?}", between.listener(), program.name);
    through.saturating_sub(directly)
}

#[test]
fn the_endpoint_learns_at_once_of_unmodified_programs_that_give_up() {
    let folder = tempfile::tempdir().unwrap();
    compile(folder.path());
    Between::both("{ halfClosed: 1m, response: 1h, tunnelIdle: 1h }", |between| {
        for program in PROGRAMS.iter().filter(|it| it.explicit || !between.is_explicit()) {
            let mut late = Vec::new();
            while late.len() < TRIES && late.last().is_none_or(|late| *late >= IN_TIME) {
                late.push(how_late(between, program, folder.path()));
            }
            assert!(late.last().is_some_and(|late| *late < IN_TIME), "{}: {late:?} late", program.name);
        }
    });
}
