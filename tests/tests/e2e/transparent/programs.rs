//! Real servers and their own clients, unmodified, of protocols that weir does not know: diverted and balanced. In two of
//! them the client speaks first, in the other two the server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use e2e::python::{postgres, python};
use e2e::{Pod, Weir, eventually, folder};

use super::{Stage, TARGET, V4, address};

/// A server, and how its client asks it for its name.
struct Program {
    name: &'static str,
    /// The server in this pod, with a folder of its own.
    server: fn(&Pod, &Path) -> Command,
    /// A client in this pod that prints the name of the server that it reached.
    client: fn(&Pod, SocketAddr) -> Command,
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "PostgreSQL and psql",
        server: |pod, folder| {
            // It refuses to run as root: in a user namespace it is somebody else.
            let mut server = pod.command("unshare");
            server.args(["--user", "--map-user=1000", "setpriv", "--pdeathsig", "KILL"]);
            server.arg(postgres("postgres")).arg("-D").arg(cluster(folder));
            server.args(["-h", &pod.v4().to_string(), "-p", &TARGET.to_string()]);
            for setting in ["fsync=off", "shared_buffers=1MB", "unix_socket_directories="] {
                server.args(["-c", setting]);
            }
            server.args(["-c", &format!("cluster_name={}", pod.name())]);
            server
        },
        client: |pod, to| {
            let mut psql = pod.command(postgres("psql"));
            psql.env("PGCONNECT_TIMEOUT", "30").args([
                "-h",
                &to.ip().to_string(),
                "-p",
                &to.port().to_string(),
            ]);
            psql.args(["-U", "weir", "-d", "postgres", "-At", "-c", "show cluster_name"]);
            psql
        },
    },
    Program {
        name: "Redis and redis-cli",
        server: |pod, folder| {
            // The server's own program, which does what its name says; the package of the server would start one.
            let mut server = pod.command("redis-check-rdb");
            server.arg0("redis-server").arg("--dir").arg(folder).args(["--bind", &pod.v4().to_string()]);
            server.args(["--port", &TARGET.to_string(), "--protected-mode", "no", "--save", ""]);
            server.args(["--logfile", &format!("{}.log", pod.name())]);
            server
        },
        client: |pod, to| {
            let mut client = pod.command("sh");
            client.arg("-c").arg(format!(
                "redis-cli --raw -h {} -p {} CONFIG GET logfile | sed -n 's/[.]log$//p'",
                to.ip(),
                to.port()
            ));
            client
        },
    },
    Program {
        name: "MariaDB and its client",
        server: |pod, folder| {
            let mut server = pod.command("mariadbd");
            server.args(["--no-defaults", "--user=root", "--skip-grant-tables", "--skip-name-resolve"]);
            server.args(["--innodb=OFF", "--default-storage-engine=MyISAM"]);
            server.arg(format!("--datadir={}", folder.display()));
            server.arg(format!("--socket={}", folder.join("socket").display()));
            server.arg(format!("--bind-address={}", pod.v4())).arg(format!("--port={TARGET}"));
            server.arg(format!("--report-host={}", pod.name()));
            server
        },
        client: |pod, to| {
            let mut client = pod.command("mariadb");
            client.args(["--no-defaults", "--skip-ssl", "--user=weir", "--skip-column-names", "--batch"]);
            client.args(["--connect-timeout=30", "--host", &to.ip().to_string()]);
            client.args(["--port", &to.port().to_string(), "--execute", "select @@report_host"]);
            client
        },
    },
    Program {
        name: "an SMTP server and Python's smtplib",
        server: |pod, _| {
            let script = "import asyncio, sys\n\
                from aiosmtpd.smtp import SMTP\n\
                class Keeps:\n    async def handle_DATA(self, server, session, envelope):\n\
                \x20       return '250 kept %d' % len(envelope.content)\n\
                async def main():\n    loop = asyncio.get_running_loop()\n\
                \x20   await loop.create_server(lambda: SMTP(Keeps(), hostname=sys.argv[1]), sys.argv[2], int(sys.argv[3]))\n\
                \x20   await asyncio.Future()\n\
                asyncio.run(main())";
            let mut server = pod.command(python());
            server.args(["-c", script, pod.name(), &pod.v4().to_string(), &TARGET.to_string()]);
            server
        },
        client: |pod, to| {
            let script = "import smtplib, sys\n\
                with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), local_hostname='me', timeout=30) as smtp:\n\
                \x20   smtp.ehlo()\n\
                \x20   smtp.sendmail('a@example.com', ['b@example.com'], b'Subject: x\\r\\n\\r\\n' + (b'y' * 70 + b'\\r\\n') * 1400)\n\
                \x20   print(smtp.ehlo_resp.split()[0].decode())";
            let mut client = pod.command(python());
            client.args(["-c", script, &to.ip().to_string(), &to.port().to_string()]);
            client
        },
    },
];

/// A new cluster of PostgreSQL's in `folder`, which lets everybody in.
fn cluster(folder: &Path) -> PathBuf {
    let cluster = folder.join("cluster");
    let mut initdb = Command::new("unshare");
    initdb.args(["--user", "--map-user=1000"]).arg(postgres("initdb")).arg("-D").arg(&cluster);
    initdb.args(["-U", "weir", "-A", "trust", "--no-sync", "--locale=C", "--encoding=UTF8"]);
    let made = initdb.output().expect("unshare");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut rules = OpenOptions::new().append(true).open(cluster.join("pg_hba.conf")).unwrap();
    rules.write_all(b"host all all all trust\n").unwrap();
    cluster
}

/// A server; ended when dropped.
struct Server(Child);

impl Server {
    /// Starts it, and waits until it listens.
    fn start(program: &Program, pod: &Pod, folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = (program.server)(pod, folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|why| panic!("{}: {why}", program.name));
        let mut server = Self(child);
        eventually(program.name, || {
            let ended = server.0.try_wait().unwrap();
            let said = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", program.name, said());
            pod.connect(pod.at(TARGET)).is_ok()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The name of the server that the client of `program` reaches.
fn asked(program: &Program, stage: &Stage) -> String {
    let output = (program.client)(&stage.client, address(V4)).stdin(Stdio::null()).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {said}{error}", program.name);
    said.trim().to_owned()
}

fn all_are_served_and_balanced(mut stage: Stage) {
    let folder = tempfile::tempdir().unwrap();
    for (at, program) in PROGRAMS.iter().enumerate() {
        let began = Instant::now();
        let folder = |pod: &Pod| folder.path().join(format!("{at}{}", pod.name()));
        let _servers = [&stage.a, &stage.b].map(|pod| Server::start(program, pod, &folder(pod)));
        let before = stage.diverted();
        let names: Vec<_> = (0..12).map(|_| asked(program, &stage)).collect();
        let count = |name: &str| names.iter().filter(|it| *it == name).count();
        let shares = [count(stage.a.name()), count(stage.b.name())];
        assert_eq!(shares.iter().sum::<usize>(), names.len(), "{}: {names:?}", program.name);
        assert!(shares.iter().all(|count| *count >= 2), "{}: {names:?}", program.name);
        assert!(stage.diverted() >= before + 12.0, "{}", program.name);
        eprintln!("{}: {shares:?}, {:?}", program.name, began.elapsed());
    }
    assert_eq!(stage.weir().metric("weir_faults_total", &[]), 0.0);
}

/// The client, and service `hello` in pods `a` and `b`, by IPv4.
fn hello(stage: &Stage) -> folder::Service {
    let hello = folder::service("hello", &["10.96.0.10"]).port("tcp", 80, TARGET);
    hello.endpoints(&[stage.a.v4(), stage.b.v4()])
}

#[test]
fn databases_and_mail_are_diverted_and_balanced_unmodified() {
    let Some(mut stage) = Stage::set() else { return };
    let builder = Weir::new().on_node(&stage.net).kubernetes(&hello(&stage));
    stage.start(builder);
    all_are_served_and_balanced(stage);
}

#[test]
fn databases_and_mail_are_diverted_and_balanced_with_the_sockets_in_the_pods() {
    let Some(mut stage) = Stage::set() else { return };
    let builder = Weir::new().in_pods(&stage.net).kubernetes(&hello(&stage));
    stage.start(builder);
    stage.until_listening(4);
    all_are_served_and_balanced(stage);
}
