//! The demo's application: says its name over HTTP, and echoes lines over plain TCP.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use test_support::server;

/// How long an answer takes; so some requests are always under way when a backend is killed.
const THINKING: Duration = Duration::from_millis(3);

/// The hidden command that runs in a backend's pod.
#[derive(clap::Args)]
pub(crate) struct Backend {
    /// What it calls itself in its answers
    #[arg(long)]
    name: String,
    /// Where it answers HTTP
    #[arg(long)]
    http: SocketAddr,
    /// Where it echoes
    #[arg(long)]
    echo: Option<SocketAddr>,
}

/// Serves until killed. A line on standard output says where, once it listens.
pub(crate) fn serve(options: &Backend) -> Result<()> {
    let http = TcpListener::bind(options.http)?;
    let echo = options.echo.map(TcpListener::bind).transpose()?;
    println!("{}", http.local_addr()?);
    if let Some(echo) = echo {
        let name = options.name.clone();
        // A client that goes away ends its own thread only.
        std::thread::spawn(move || server::accept(&echo, move |stream| drop(conversation(stream, &name))));
    }
    let body = format!("hello from {}\n", options.name);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    server::accept(&http, move |stream| drop(server::answer_each(stream, THINKING, answer.as_bytes())));
    Ok(())
}

/// The server speaks first, then sends back each line until the client has no more.
fn conversation(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.write_all(format!("{name}\n").as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        std::thread::sleep(THINKING);
        stream.write_all(line.as_bytes())?;
        line.clear();
    }
    Ok(())
}
