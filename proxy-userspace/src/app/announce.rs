//! The one line on standard output: where weir listens.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Prints `line` on standard output, or logs it if standard output is closed or full. Not both: a container's log contains
/// both outputs.
pub(super) fn say(line: String) {
    if !takes_a_line(&std::io::stdout()) {
        return tracing::info!("{}", &line["weir: ".len()..]);
    }
    // The output may be full by now: wait for it on a separate thread.
    let written = thread::Builder::new().name("weir-announce".to_owned()).spawn(move || {
        let _ = writeln!(std::io::stdout(), "{line}");
    });
    if let Err(cause) = written {
        tracing::warn!(%cause, "no thread to say on standard output where weir listens");
    }
}

/// Whether the output has a reader and a line can be written without blocking.
fn takes_a_line(output: &impl AsFd) -> bool {
    let mut polled = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
    let has_room = poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && polled[0].revents().is_some_and(|it| {
            it.contains(PollFlags::POLLOUT) && !it.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
        });
    has_room && !is_null(output)
}

/// Whether the output is /dev/null.
fn is_null(output: &impl AsFd) -> bool {
    let device = |file: File| file.metadata().map(|it| (it.file_type().is_char_device(), it.rdev())).ok();
    let (Ok(output), Ok(null)) = (output.as_fd().try_clone_to_owned(), File::open("/dev/null")) else {
        return false;
    };
    device(output.into()) == device(null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_line_is_for_whoever_reads_it_and_waits_for_nobody() {
        assert!(takes_a_line(&tempfile::tempfile().unwrap()));
        assert!(!takes_a_line(&File::options().write(true).open("/dev/null").unwrap()));
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(takes_a_line(&writer));
        drop(reader);
        assert!(!takes_a_line(&writer), "nobody reads any more");
        let (full, other) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while (&full).write(&[0; 4096]).is_ok() {}
        assert!(!takes_a_line(&full));
        drop(other);
    }
}
