//! `Dns`: a name server that answers as told, by UDP and TCP, and remembers what it was asked.
//!
//! It knows just enough of RFC 1035 for questions about addresses: one question, no compression but the pointer to it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::net::place::Place;
use crate::raw::TcpServer;

const A: u16 = 1;
const AAAA: u16 = 28;
const SOA: u16 = 6;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// What is said of one name.
#[derive(Clone, Debug)]
pub enum Said {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The same, but by UDP only that the answer is too long.
    Truncated(Vec<IpAddr>, u32),
    /// That it does not exist, for so many seconds.
    NoSuchName(u32),
    /// That it cannot be told.
    Failure,
    /// Nothing at all.
    Silence,
    /// Something else about IPv4 addresses than about IPv6 addresses.
    Each(Box<Self>, Box<Self>),
    /// This, but so much later.
    Late(Duration, Box<Self>),
}

impl Said {
    /// The first about IPv4 addresses, the second about IPv6 addresses.
    pub fn each(four: Self, six: Self) -> Self {
        Self::Each(Box::new(four), Box::new(six))
    }

    /// This, `delay` after the question.
    pub fn late(self, delay: Duration) -> Self {
        Self::Late(delay, Box::new(self))
    }

    /// What is said to a question of one kind, and how much later.
    fn about(self, kind: u16) -> (Self, Duration) {
        match self {
            Self::Each(four, six) => if kind == AAAA { *six } else { *four }.about(kind),
            Self::Late(delay, said) => {
                let (said, more) = said.about(kind);
                (said, delay + more)
            }
            said => (said, Duration::ZERO),
        }
    }

    /// These addresses, for `ttl` seconds.
    pub fn addresses(addresses: &[&str], ttl: u32) -> Self {
        Self::Addresses(addresses.iter().map(|it| it.parse().unwrap()).collect(), ttl)
    }
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// A question about one name and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Lower case, without the trailing dot.
    pub name: String,
    /// Whether about IPv6 addresses.
    pub six: bool,
    /// How it came.
    pub by: By,
}

struct Shared {
    names: Mutex<HashMap<String, Said>>,
    others: Mutex<Said>,
    asked: Mutex<Vec<Question>>,
}

/// A running name server. Names it was told nothing of do not exist.
pub struct Dns {
    shared: Arc<Shared>,
    socket: UdpSocket,
    tcp: Option<TcpServer>,
}

impl Dns {
    /// A server in `place`, on a free port of `ip`.
    #[track_caller]
    pub fn start(place: &Place, ip: IpAddr) -> Self {
        let (socket, listener) = both(place, ip);
        let shared = Arc::new(Shared {
            names: Mutex::default(),
            others: Mutex::new(Said::NoSuchName(0)),
            asked: Mutex::default(),
        });
        let serving = shared.clone();
        let tcp = TcpServer::on(listener, move |stream| by_tcp(&serving, stream));
        let (serving, datagrams) = (shared.clone(), socket.try_clone().unwrap());
        std::thread::spawn(move || by_udp(&serving, &datagrams));
        Self { shared, socket, tcp: Some(tcp) }
    }

    /// The same, but connections to it are refused.
    #[track_caller]
    pub fn without_tcp(mut self) -> Self {
        self.tcp = None;
        self
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// The setting that makes weir ask it.
    pub fn setting(&self) -> String {
        setting_of(&[self])
    }

    /// Says this of `name` from now on.
    pub fn says(&self, name: &str, said: Said) {
        self.shared.names.lock().unwrap().insert(name.to_owned(), said);
    }

    /// Says this from now on of every name that it was told nothing of.
    pub fn says_of_others(&self, said: Said) {
        *self.shared.others.lock().unwrap() = said;
    }

    /// Everything it was asked so far.
    pub fn asked(&self) -> Vec<Question> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How often it was asked about `name`.
    pub fn questions(&self, name: &str) -> usize {
        self.asked().iter().filter(|it| it.name == name).count()
    }
}

/// The setting that makes weir ask these, the first one first.
pub fn setting_of(servers: &[&Dns]) -> String {
    let servers: Vec<String> = servers.iter().map(|it| format!("\"{}\"", it.addr())).collect();
    format!("{{ dns: {{ servers: [{}], timeout: 2s }} }}", servers.join(", "))
}

/// A port of `ip` that is free for datagrams and for connections: one that is for the former need not be for the latter.
#[track_caller]
fn both(place: &Place, ip: IpAddr) -> (UdpSocket, TcpListener) {
    let mut tries = 0;
    loop {
        let socket = place.datagrams((ip, 0).into()).expect("a datagram socket");
        let listener = place.listen(socket.local_addr().unwrap());
        tries += 1;
        match listener {
            Ok(listener) => return (socket, listener),
            Err(why) => assert!(tries < 64, "no port for datagrams and connections: {why}"),
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        // The thread looks at it before the next datagram.
        let _ = socket2::SockRef::from(&self.socket).shutdown(std::net::Shutdown::Both);
    }
}

fn by_udp(shared: &Shared, socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    // A socket that was shut down reads as an empty datagram from nowhere.
    while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
        let Some((answer, delay)) = shared.answer(&buffer[..length], By::Udp) else { continue };
        if delay.is_zero() {
            let _ = socket.send_to(&answer, from);
            continue;
        }
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            let _ = socket.send_to(&answer, from);
        });
    }
}

fn by_tcp(shared: &Shared, mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(30)));
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        if let Some((answer, delay)) = shared.answer(&question, By::Tcp) {
            std::thread::sleep(delay);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                return;
            }
        }
    }
}

impl Shared {
    /// The answer to a message with one question and how long it is held back, unless it is to be met with silence.
    fn answer(&self, message: &[u8], by: By) -> Option<(Vec<u8>, Duration)> {
        let (name, end) = name(message)?;
        let kind = u16::from_be_bytes([*message.get(end)?, *message.get(end + 1)?]);
        let question = Question { name: name.clone(), six: kind == AAAA, by };
        self.asked.lock().unwrap().push(question);
        let said = self.names.lock().unwrap().get(&name).cloned();
        let said = said.unwrap_or_else(|| self.others.lock().unwrap().clone());
        let (said, delay) = said.about(kind);
        let reply = Reply { message, question_end: end + 4 };
        let answer = match (said, by) {
            (Said::Silence | Said::Each(..) | Said::Late(..), _) => return None,
            (Said::Failure, _) => reply.with(SERVFAIL, false, &[]),
            (Said::NoSuchName(ttl), _) => reply.nothing(NXDOMAIN, ttl),
            (Said::Truncated(..), By::Udp) => reply.with(0, true, &[]),
            (Said::Addresses(addresses, ttl) | Said::Truncated(addresses, ttl), _) => {
                let records: Vec<_> = addresses.iter().filter_map(|it| record(*it, kind, ttl)).collect();
                if records.is_empty() { reply.nothing(0, ttl) } else { reply.with(0, false, &records) }
            }
        };
        Some((answer, delay))
    }
}

/// The parts of an answer to one message.
struct Reply<'a> {
    message: &'a [u8],
    question_end: usize,
}

impl Reply<'_> {
    /// A code, whether it is truncated, and answer records.
    fn with(&self, code: u8, truncated: bool, records: &[Vec<u8>]) -> Vec<u8> {
        self.head(code, truncated, records.len(), 0).into_iter().chain(records.concat()).collect()
    }

    /// A code and no record, believed for `ttl` seconds (RFC 2308 §3).
    fn nothing(&self, code: u8, ttl: u32) -> Vec<u8> {
        let mut answer = self.head(code, false, 0, 1);
        // Owner: the root. Then its kind and class, and the data: two names, the root, and five numbers.
        let numbers = [1, 60, 60, 60, ttl];
        answer.push(0);
        answer.extend(fields(SOA, ttl, 22));
        answer.extend([0, 0]);
        answer.extend(numbers.iter().flat_map(|number: &u32| number.to_be_bytes()));
        answer
    }

    fn head(&self, code: u8, truncated: bool, answers: usize, authorities: u16) -> Vec<u8> {
        let mut head = self.message[..2].to_vec();
        // An answer, from an authority, recursion wanted and available.
        head.extend([0b1000_0101 | u8::from(truncated) << 1, 0b1000_0000 | code]);
        head.extend(1u16.to_be_bytes());
        head.extend(u16::try_from(answers).unwrap().to_be_bytes());
        head.extend(authorities.to_be_bytes());
        head.extend(0u16.to_be_bytes());
        head.extend(&self.message[12..self.question_end]);
        head
    }
}

/// An address record of the kind that is asked for, whose owner is the name in the question.
fn record(address: IpAddr, kind: u16, ttl: u32) -> Option<Vec<u8>> {
    let data = match address {
        IpAddr::V4(address) if kind == A => address.octets().to_vec(),
        IpAddr::V6(address) if kind == AAAA => address.octets().to_vec(),
        _ => return None,
    };
    let mut record = vec![0xc0, 12];
    record.extend(fields(kind, ttl, u16::try_from(data.len()).unwrap()));
    record.extend(data);
    Some(record)
}

/// Kind, class, time to live and the data's length.
fn fields(kind: u16, ttl: u32, length: u16) -> Vec<u8> {
    let [kind, class, length] = [kind, 1, length].map(u16::to_be_bytes);
    [&kind[..], &class, &ttl.to_be_bytes(), &length].concat()
}

/// The name in the question, and where it ends.
fn name(message: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
        at += length;
    }
}
