//! A client that sends every frame as it is told, and shows every frame that comes (RFC 9113 §4, §6).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::time::PATIENCE;

/// What a client of HTTP/2 sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// One connection.
pub struct Frames {
    stream: TcpStream,
}

/// How a stream ended, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By an answer of this status, and END_STREAM.
    Answered(u16),
    /// By RST_STREAM with this code.
    Reset(u32),
    /// With the connection, by GOAWAY with this code.
    GoAway(u32),
    /// With the connection.
    Closed,
}

impl Frames {
    /// Connects, and sends the preface and SETTINGS: no dynamic table, so that fields can be read.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE).expect("a connection"))
    }

    /// The same, over a connection that is there already.
    pub fn over(stream: TcpStream) -> Self {
        let mut frames = Self::bare(stream);
        frames.send(PREFACE).frame(4, 0, 0, &[0, 1, 0, 0, 0, 0]);
        frames
    }

    /// Sends nothing by itself.
    pub fn bare(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends bytes as they are. An error is left for the read that follows.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends a frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
        self.send(encode(kind, flags, stream, payload))
    }

    /// Sends the head of a request in one HEADERS frame, and the request's end where it `ends`.
    pub fn request(&mut self, stream: u32, fields: &[(&str, &[u8])], ends: bool) -> &mut Self {
        let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
        self.frame(1, 0x4 | u8::from(ends), stream, &block)
    }

    /// Sends a GET.
    pub fn get(&mut self, stream: u32, authority: &str, path: &str) -> &mut Self {
        let fields: [(&str, &[u8]); 4] = [
            (":method", b"GET"),
            (":scheme", b"http"),
            (":authority", authority.as_bytes()),
            (":path", path.as_bytes()),
        ];
        self.request(stream, &fields, true)
    }

    /// The next frame; `None` at the connection's end.
    #[track_caller]
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.exactly(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.exactly(&mut payload)?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    #[track_caller]
    fn exactly(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("no frame in time")
            }
            Err(_) => None,
        }
    }

    /// The first frame of this type that comes, whatever comes before.
    #[track_caller]
    pub fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.read().unwrap_or_else(|| panic!("the end instead of a frame of type {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// How `stream` ends.
    #[track_caller]
    pub fn ended(&mut self, stream: u32) -> Ended {
        self.all_ended(&[stream])[0]
    }

    /// How each of these streams ends, in whatever order they do.
    #[track_caller]
    pub fn all_ended(&mut self, streams: &[u32]) -> Vec<Ended> {
        let mut ended: Vec<Option<Ended>> = vec![None; streams.len()];
        let mut status = vec![0; streams.len()];
        while ended.contains(&None) {
            let end = match self.read() {
                None => Ended::Closed,
                Some(frame) if frame.kind == 7 => Ended::GoAway(code(&frame.payload[4..])),
                Some(frame) => {
                    let Some(at) = streams.iter().position(|it| *it == frame.stream) else { continue };
                    if frame.kind == 1 {
                        status[at] = frame.status().unwrap_or(status[at]);
                    }
                    if frame.kind == 3 {
                        ended[at].get_or_insert(Ended::Reset(code(&frame.payload)));
                    } else if matches!(frame.kind, 0 | 1) && frame.flags & 1 != 0 {
                        ended[at].get_or_insert(Ended::Answered(status[at]));
                    }
                    continue;
                }
            };
            return ended.into_iter().map(|it| it.unwrap_or(end)).collect();
        }
        ended.into_iter().flatten().collect()
    }

    /// How the connection ends, by the last GOAWAY before its end.
    #[track_caller]
    pub fn goodbye(&mut self) -> Ended {
        let mut last = Ended::Closed;
        while let Some(frame) = self.read() {
            if frame.kind == 7 {
                last = Ended::GoAway(code(&frame.payload[4..]));
            }
        }
        last
    }
}

impl Frame {
    /// The status in a head that begins with one.
    pub fn status(&self) -> Option<u16> {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        // The first head says that there is no table any more (RFC 7541 §6.3).
        let payload = self.payload.strip_prefix(&[0x20]).unwrap_or(&self.payload);
        match *payload.first()? {
            at @ 0x88..=0x8e => Some(INDEXED[usize::from(at - 0x88)]),
            0x48 | 0x08 => {
                let length = payload.get(1)?;
                let value = payload.get(2..2 + usize::from(length & 0x7f))?;
                match length & 0x80 {
                    0 => std::str::from_utf8(value).ok()?.parse().ok(),
                    _ => digits(value),
                }
            }
            _ => None,
        }
    }
}

/// A number in the Huffman code of RFC 7541, appendix B.
fn digits(value: &[u8]) -> Option<u16> {
    let bits = value.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let (mut left, mut number) = (value.len() * 8, 0_u16);
    while left >= 5 {
        let five = (bits >> (left - 5)) & 0x1f;
        if five < 3 {
            number = number * 10 + u16::try_from(five).ok()?;
            left -= 5;
            continue;
        }
        if left < 6 {
            break;
        }
        let six = (bits >> (left - 6)) & 0x3f;
        let Some(digit @ 0..=6) = six.checked_sub(0x19) else { break };
        number = number * 10 + 3 + u16::try_from(digit).ok()?;
        left -= 6;
    }
    Some(number)
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("an error code"))
}

/// A frame's bytes.
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field as HPACK has it literally, without Huffman code and without a place in the table (RFC 7541 §6.2.2).
pub fn field(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name.as_bytes(), value] {
        let length = text.len();
        if length < 127 {
            bytes.push(u8::try_from(length).expect("a short length"));
        } else {
            bytes.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).expect("seven bits") | 0x80);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).expect("seven bits"));
        }
        bytes.extend(text);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_in_each_of_its_codes() {
        let status =
            |payload: &[u8]| Frame { kind: 1, flags: 4, stream: 1, payload: payload.to_vec() }.status();
        assert_eq!(status(&[0x88]), Some(200));
        assert_eq!(status(&[0x8c, 0x00]), Some(400));
        assert_eq!(status(b"\x08\x03503"), Some(503));
        // RFC 7541, appendix C.6.1: 302.
        assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        // C.6.2: 307.
        assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(field("a", &[b'x'; 127]).len(), 1 + 2 + 2 + 127);
    }
}
