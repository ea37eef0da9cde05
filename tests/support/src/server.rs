//! Servers with a thread for each connection: an echo, and an application that answers every request alike.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// Serves each connection to `listener` in a thread of its own, until the listener is shut down.
pub fn accept(listener: &TcpListener, serve: impl Fn(TcpStream) + Clone + Send + 'static) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream));
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

/// Sends everything back, and half-closes when the client does.
///
/// # Errors
///
/// Those of the connection.
pub fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece)? {
            0 => return stream.shutdown(Shutdown::Write),
            count => stream.write_all(&piece[..count])?,
        }
    }
}

/// Answers every request of a connection with the bytes of `answer`, each after its whole body has come and `thinking` has
/// passed. Bodies have a Content-Length.
///
/// # Errors
///
/// Those of the connection.
pub fn answer_each(mut stream: TcpStream, thinking: Duration, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(length) = head(&mut reader)? {
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        std::thread::sleep(thinking);
        stream.write_all(answer)?;
    }
    Ok(())
}

/// Reads one head; returns the body's length, or nothing at the end of the stream.
fn head(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim_end().is_empty() {
            return Ok(Some(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_answered_once_its_body_has_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            accept(&listener, |stream| drop(answer_each(stream, Duration::ZERO, b"answer")));
        });
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = [0; 6];
        for part in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"] {
            let (first, rest) = part.split_at(part.len() - 1);
            stream.write_all(first.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            assert!(stream.read(&mut answer).is_err(), "an answer before the request's end");
            stream.write_all(rest.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answer");
        }
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut answer).unwrap(), 0);
    }
}
