//! The demo's continuous load: plain sockets that dial a service, and know of a proxy only if they are given one.
//!
//! A failure is whatever the application would notice: no connection, no answer, half an answer, not a 200.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::tally::{Kind, Tally};

/// An answer that takes longer counts as none.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two requests of one connection's thread.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two lines of figures.
const TELL: Duration = Duration::from_millis(100);

/// The hidden command that runs in the client's pod, until its standard input is closed.
#[derive(clap::Args)]
pub(crate) struct Client {
    /// The address to dial
    #[arg(long)]
    target: SocketAddr,
    /// Dial this proxy, and ask it for `http://hello/`
    #[arg(long)]
    proxy: Option<SocketAddr>,
    /// The address of the TCP service
    #[arg(long)]
    echo: Option<SocketAddr>,
}

/// What one thread does again and again.
#[derive(Clone, Copy)]
enum Habit {
    /// GETs on one connection.
    Kept,
    /// A GET on a connection of its own.
    Fresh,
    /// POSTs on one connection.
    Post,
    /// A conversation with the TCP service.
    Echo,
}

impl Habit {
    fn kind(self) -> Kind {
        match self {
            Self::Kept | Self::Fresh => Kind::Get,
            Self::Post => Kind::Post,
            Self::Echo => Kind::Echo,
        }
    }
}

const HTTP: [Habit; 9] = {
    use Habit::{Fresh, Kept, Post};
    [Kept, Kept, Kept, Kept, Fresh, Fresh, Fresh, Post, Post]
};

/// Loads the service, and prints a tally as a line of JSON ten times a second.
pub(crate) fn run(options: &Client) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stop.store(true, Ordering::Relaxed);
        }
    });
    let (sender, results) = channel();
    let echo = options.echo.map(|_| Habit::Echo);
    std::thread::scope(|scope| {
        for habit in HTTP.into_iter().chain(echo) {
            let (sender, stop) = (sender.clone(), &stop);
            scope.spawn(move || work(options, habit, stop, &sender));
        }
        drop(sender);
        let mut tally = Tally::default();
        let mut told = std::time::Instant::now();
        // Ends when the last thread has gone and hung up.
        while let Ok((kind, result)) = results.recv() {
            tally.count(kind, result);
            if told.elapsed() >= TELL {
                tell(&tally);
                told = std::time::Instant::now();
            }
        }
        tell(&tally);
    });
    Ok(())
}

fn tell(tally: &Tally) {
    println!("{}", serde_json::to_string(tally).expect("a tally has only strings for keys"));
}

type Answer = (Kind, Result<String, String>);

fn work(options: &Client, habit: Habit, stop: &AtomicBool, results: &Sender<Answer>) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let result = match habit {
            Habit::Echo => converse(options),
            Habit::Kept | Habit::Fresh | Habit::Post => ask(options, habit, &mut connection),
        };
        if result.is_err() || matches!(habit, Habit::Fresh) {
            connection = None;
        }
        let result = result.map_err(|error| format!("{error:#}"));
        if results.send((habit.kind(), result)).is_err() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn dial(address: SocketAddr) -> Result<BufReader<TcpStream>> {
    let stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// One request; the answer's body says which backend it came from.
fn ask(options: &Client, habit: Habit, kept: &mut Option<BufReader<TcpStream>>) -> Result<String> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(dial(options.proxy.unwrap_or(options.target))?),
    };
    let target = if options.proxy.is_some() { "http://hello/" } else { "/" };
    let (method, body) = match habit {
        Habit::Post => ("POST", "content-length: 4\r\n\r\nbody"),
        Habit::Kept | Habit::Fresh | Habit::Echo => ("GET", "\r\n"),
    };
    let request = format!("{method} {target} HTTP/1.1\r\nhost: hello\r\n{body}");
    connection.get_mut().write_all(request.as_bytes()).context("sending a request")?;
    let (status, length) = answer_head(connection)?;
    let mut body = vec![0; length];
    connection.read_exact(&mut body).context("reading a body")?;
    let body = String::from_utf8_lossy(&body);
    if status != 200 {
        bail!("{status}: {}", body.trim());
    }
    Ok(body.trim().trim_start_matches("hello from ").to_owned())
}

fn answer_head(reader: &mut impl BufRead) -> Result<(u16, usize)> {
    let mut line = String::new();
    if reader.read_line(&mut line).context("waiting for an answer")? == 0 {
        bail!("the connection ended without an answer");
    }
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            bail!("the connection ended within a head");
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("a content-length")?;
        }
        if line.trim_end().is_empty() {
            return Ok((status, length));
        }
    }
}

/// The server's name, a line there and back, and a clean end in both directions.
fn converse(options: &Client) -> Result<String> {
    const LINE: &str = "a river\n";
    let mut connection = dial(options.echo.context("no echo service")?)?;
    let mut name = String::new();
    connection.read_line(&mut name).context("waiting for the server's first word")?;
    connection.get_mut().write_all(LINE.as_bytes())?;
    let mut echoed = String::new();
    connection.read_line(&mut echoed).context("waiting for the echo")?;
    if echoed != LINE || name.trim().is_empty() {
        bail!("`{echoed}` is not what was sent");
    }
    connection.get_mut().shutdown(Shutdown::Write)?;
    if connection.read_line(&mut echoed).context("waiting for the end")? != 0 {
        bail!("more came after the end");
    }
    Ok(name.trim().to_owned())
}
