//! `weir probe`: an exec probe for kubelet. It reads no configuration and starts no runtime.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::telemetry::log;

/// Where weir answers, in the manifests.
pub(super) const SOCKET: &str = "/run/probes/weir.sock";

/// Maximum time for weir's answer; kubelet may be less patient.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum size of its answer.
const MOST: u64 = 64 << 10;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Probe {
    /// Whether weir answers at all.
    Live,
    /// Whether it is ready, and if not, what it waits for.
    Ready,
}

/// Asks the weir whose `probes.socket` is at `socket`, and prints what it says. The exit code is the answer.
pub(super) fn run(probe: Probe, socket: &Path) -> ExitCode {
    let (holds, said) =
        match ask(socket).and_then(|text| judge(probe, &text).map(|it| (it.0, it.1.to_owned()))) {
            Ok(answer) => answer,
            Err(error) => {
                log::say(format_args!("weir: {error:#}"));
                return ExitCode::FAILURE;
            }
        };
    let written = super::write(&said);
    if holds { written } else { ExitCode::FAILURE }
}

fn ask(socket: &Path) -> anyhow::Result<String> {
    let advice = || {
        format!("no weir answers at {}: is it running, and is that its `probes.socket`?", socket.display())
    };
    let stream = UnixStream::connect(socket).with_context(advice)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.take(MOST).read_to_string(&mut text).with_context(advice)?;
    Ok(text)
}

/// Whether what is asked holds, and the text to print.
fn judge(probe: Probe, text: &str) -> anyhow::Result<(bool, &str)> {
    let Some(readiness) = text.strip_prefix("live\n") else { bail!("the answer is not weir's") };
    Ok(match probe {
        Probe::Live => (true, "live\n"),
        Probe::Ready => (readiness.starts_with("ready\n"), readiness),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_yes_only_where_it_says_so() {
        for (text, live, ready) in [
            ("live\nready\nsnapshot: ok\n", Some(true), Some(true)),
            ("live\nready\n", Some(true), Some(true)),
            ("live\nnot ready\nready\n", Some(true), Some(false)),
            ("live\n", Some(true), Some(false)),
            ("live\nreadyish\n", Some(true), Some(false)),
            ("", None, None),
            ("HTTP/1.1 200 OK\r\n\r\nlive\nready\n", None, None),
        ] {
            assert_eq!(judge(Probe::Live, text).ok().map(|it| it.0), live, "{text}");
            assert_eq!(judge(Probe::Ready, text).ok().map(|it| it.0), ready, "{text}");
        }
    }
}
