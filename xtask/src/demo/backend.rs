//! The demo's application: says its name over HTTP, and echoes lines over plain TCP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;

/// How long an answer takes; so some requests are always under way when a backend is killed.
const THINKING: Duration = Duration::from_millis(3);

/// A body longer than this is not read: nobody here sends one.
const MOST_BODY: usize = 64 * 1024;

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
    std::thread::scope(|scope| {
        if let Some(echo) = &echo {
            scope.spawn(|| accept(echo, &options.name, conversation));
        }
        accept(&http, &options.name, requests);
    });
    Ok(())
}

fn accept(listener: &TcpListener, name: &str, serve: fn(TcpStream, &str) -> std::io::Result<()>) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        // A client that goes away ends its own thread only.
        std::thread::spawn(move || serve(stream, &name));
    }
}

/// Requests of one connection, one after the other.
fn requests(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(length) = head(&mut reader)? {
        std::io::copy(&mut reader.by_ref().take(length as u64), &mut std::io::sink())?;
        std::thread::sleep(THINKING);
        let body = format!("hello from {name}\n");
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// Reads one head; returns the body's length, or nothing at the end of the stream.
fn head(reader: &mut impl BufRead) -> std::io::Result<Option<usize>> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0).min(MOST_BODY);
        }
        if line.trim_end().is_empty() {
            return Ok(Some(length));
        }
    }
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
