//! Writes a page in pieces, each of which waits until the client has taken those before it.

use std::fmt;
use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Pieces that wait for the client.
pub(super) const AHEAD: usize = 2;

/// Where a page is written to.
pub(super) enum Chunks {
    /// Kept, up to so many bytes.
    Kept(Vec<u8>, usize),
    /// Passed on in pieces.
    Passed(Vec<u8>, mpsc::Sender<Bytes>, usize),
}

/// The page is larger than what may be kept, or its client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended;

impl Chunks {
    /// A page that is kept, if it has no more than `most` bytes.
    pub(super) fn kept(most: usize) -> Self {
        Self::Kept(Vec::new(), most)
    }

    /// A page that is passed on to `told`.
    pub(super) fn passed(told: mpsc::Sender<Bytes>) -> Self {
        Self::Passed(Vec::with_capacity(PIECE), told, 0)
    }

    /// How many bytes were written, and what was kept of them.
    pub(super) fn end(mut self) -> (usize, Bytes) {
        // Whoever has left does not need the end.
        let _ = self.pass_on();
        match self {
            Self::Kept(text, _) => (text.len(), text.into()),
            Self::Passed(_, _, written) => (written, Bytes::new()),
        }
    }

    fn push(&mut self, mut text: &[u8]) -> Result<(), Ended> {
        match self {
            Self::Kept(kept, most) => {
                if kept.len() + text.len() > *most {
                    return Err(Ended);
                }
                kept.extend_from_slice(text);
            }
            Self::Passed(..) => {
                while let Self::Passed(piece, _, _) = self
                    && piece.len() + text.len() >= PIECE
                {
                    let (now, later) = text.split_at(PIECE - piece.len());
                    piece.extend_from_slice(now);
                    text = later;
                    self.pass_on()?;
                }
                if let Self::Passed(piece, _, _) = self {
                    piece.extend_from_slice(text);
                }
            }
        }
        Ok(())
    }

    /// Passes on what there is, as soon as there is room for it.
    fn pass_on(&mut self) -> Result<(), Ended> {
        let Self::Passed(piece, told, written) = self else { return Ok(()) };
        if piece.is_empty() {
            return Ok(());
        }
        *written += piece.len();
        let piece = std::mem::replace(piece, Vec::with_capacity(PIECE));
        told.blocking_send(piece.into()).map_err(|_| Ended)
    }
}

impl fmt::Write for Chunks {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|Ended| fmt::Error)
    }
}

impl io::Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(|Ended| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn a_page_that_is_kept_has_a_bound() {
        let mut chunks = Chunks::kept(10);
        chunks.write_str("12345").unwrap();
        assert!(chunks.write_str("678901").is_err());
        chunks.write_str("67890").unwrap();
        assert_eq!(chunks.end(), (10, Bytes::from_static(b"1234567890")));
    }

    #[test]
    fn pieces_wait_for_their_reader_and_nothing_is_lost() {
        let (told, mut pieces) = mpsc::channel(AHEAD);
        let text: String = (0..100_000).map(|it| format!("{it} ")).collect();
        let whole = text.clone();
        let writing = std::thread::spawn(move || {
            let mut chunks = Chunks::passed(told);
            text.as_bytes().chunks(1_000).for_each(|it| {
                chunks.write_str(std::str::from_utf8(it).unwrap()).unwrap();
            });
            chunks.end().0
        });
        let mut read = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            assert!(piece.len() <= PIECE);
            read.extend_from_slice(&piece);
        }
        assert_eq!((writing.join().unwrap(), read), (whole.len(), whole.into_bytes()));
    }

    #[test]
    fn a_page_whose_reader_has_left_ends() {
        let (told, pieces) = mpsc::channel(AHEAD);
        drop(pieces);
        let mut chunks = Chunks::passed(told);
        let ended = (0..10_000).find(|_| chunks.write_str(&"x".repeat(100)).is_err());
        assert!(ended.is_some_and(|at| at < 700), "{ended:?}");
    }
}
