//! Databases that are full, as far as a connection shows it: what PostgreSQL 15 and MariaDB 10.11 were seen to send, and who
//! closes then. Real ones would be a hundred megabytes of packages for some hundred bytes of protocol.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Client;
use crate::raw::{TcpServer, listen, loopback};

/// `R` (AuthenticationOk): both the first thing that is sent, and all that precedes a FATAL.
pub(crate) const POSTGRES_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// The fields of the FATAL that follows where `max_connections` are in use.
const POSTGRES_FULL: &[u8] =
    b"SFATAL\0VFATAL\0C53300\0Mremaining connection slots are reserved for non-replication \
    superuser connections\0Fpostinit.c\0L815\0RInitPostgres\0\0";

/// One of the parameters, and `Z` (ReadyForQuery).
pub(crate) const POSTGRES_READY: &[u8] = b"S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";

/// The answer to `SELECT 1`, ready for the next query.
const POSTGRES_ROW: &[u8] = b"T\0\0\0!\0\x01?column?\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
    D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\rSELECT 1\0Z\0\0\0\x05I";

/// Error 1040, sent as the first thing.
const MARIA_FULL: &[u8] = b"\x17\0\0\0\xff\x10\x04Too many connections";

/// A greeting, cut to what a client of this file looks at.
const MARIA_GREETING: &[u8] = b"\x16\0\0\0\n5.5.5-10.11.19-MariaDB";

/// OK.
const MARIA_OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";

/// COM_QUIT.
const MARIA_QUIT: &[u8] = b"\x01\0\0\0\x01";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The client speaks first, and on an error closes first.
    Postgres,
    /// The server speaks first, and closes first.
    Maria,
}

/// A database that serves, or is full.
pub struct Database {
    server: TcpServer,
    full: Arc<AtomicBool>,
}

impl Database {
    /// Starts one on a free loopback port.
    pub fn start(kind: Kind) -> Self {
        let full = Arc::new(AtomicBool::new(false));
        let is_full = full.clone();
        let server = TcpServer::on(listen(loopback()).unwrap(), move |stream| {
            // Its client may go at any time.
            let _ = match kind {
                Kind::Postgres => postgres(stream, is_full.load(Ordering::SeqCst)),
                Kind::Maria => maria(stream, is_full.load(Ordering::SeqCst)),
            };
        });
        Self { server, full }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Whether `max_connections` are in use from now on. Those that are connected stay.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// How many have connected.
    pub fn connected(&self) -> usize {
        self.server.accepted()
    }
}

fn postgres(mut stream: TcpStream, full: bool) -> io::Result<()> {
    // libpq asks for TLS first; without it the answer is N.
    stream.read_exact(&mut [0; 8])?;
    stream.write_all(b"N")?;
    let _ = message(&mut stream)?;
    stream.write_all(POSTGRES_OK)?;
    if full {
        let length = u32::try_from(POSTGRES_FULL.len() + 4).unwrap().to_be_bytes();
        stream.write_all(&[b"E", &length[..], POSTGRES_FULL].concat())?;
        // The backend takes a moment to exit, and its client does not wait for it.
        std::thread::sleep(Duration::from_millis(2));
        return Ok(());
    }
    stream.write_all(POSTGRES_READY)?;
    loop {
        let mut kind = [0];
        stream.read_exact(&mut kind)?;
        let _ = message(&mut stream)?;
        match kind[0] {
            b'X' => return Ok(()),
            _ => stream.write_all(POSTGRES_ROW)?,
        }
    }
}

/// The rest of a message, whose first four bytes are its length.
fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut rest = vec![0; u32::from_be_bytes(length).saturating_sub(4).min(1024) as usize];
    stream.read_exact(&mut rest)?;
    Ok(rest)
}

fn maria(mut stream: TcpStream, full: bool) -> io::Result<()> {
    if full {
        return stream.write_all(MARIA_FULL);
    }
    stream.write_all(MARIA_GREETING)?;
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        let mut rest = vec![0; usize::from(head[0])];
        stream.read_exact(&mut rest)?;
        if [&head[..], &rest].concat() == MARIA_QUIT {
            return Ok(());
        }
        stream.write_all(MARIA_OK)?;
    }
}

/// Whether the database at the other end of `client` lets it in. Who is not let in has read why.
pub fn log_in(kind: Kind, client: &mut Client) -> bool {
    match kind {
        Kind::Postgres => {
            client.send(b"\0\0\0\x08\x04\xd2\x16/").expect("N");
            client.send(b"\0\0\0\x10\0\x03\0\0user\0v\0\0").expect(POSTGRES_OK);
            if client.read(1) == b"E" {
                client.read(POSTGRES_FULL.len() + 4);
                return false;
            }
            client.expect(&POSTGRES_READY[1..]);
        }
        Kind::Maria => {
            if client.read(5)[4] == 0xff {
                client.expect(&MARIA_FULL[5..]);
                return false;
            }
            client.expect(&MARIA_GREETING[5..]);
        }
    }
    true
}

/// Asks something and says good-bye.
pub fn query_and_quit(kind: Kind, client: &mut Client) {
    match kind {
        Kind::Postgres => {
            client.send(b"Q\0\0\0\rselect 1\0").expect(POSTGRES_ROW).send(b"X\0\0\0\x04").half_close();
        }
        Kind::Maria => {
            client.send(b"\t\0\0\0\x03select 1").expect(MARIA_OK).send(MARIA_QUIT).half_close();
        }
    }
    client.rest();
}
