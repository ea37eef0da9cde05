//! Requests that go on while something happens, from inside a pod of the example.

use std::io::Read;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use super::kubectl::Kubectl;

/// One connection per request, so that each is diverted or not anew; it ends when the file appears, or by itself.
const SCRIPT: &str = "rm -f /tmp/stop; ok=0; bad=0; end=$(($(date +%s) + 600)); \
    while [ ! -e /tmp/stop ] && [ $(date +%s) -lt $end ]; do \
    if curl -sf -m 10 -o /dev/null http://world/hostname; then ok=$((ok + 1)); else bad=$((bad + 1)); fi; done; \
    echo \"ok=$ok bad=$bad\"";

/// Requests from the diverted client, one after another.
pub(crate) struct Load<'a> {
    kubectl: &'a Kubectl,
    child: Child,
}

/// What became of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ok: u64,
    pub(crate) bad: u64,
}

impl<'a> Load<'a> {
    pub(crate) fn start(kubectl: &'a Kubectl) -> Result<Self> {
        let arguments = ["--namespace", "hello", "exec", "deployment/diverted", "--", "sh", "-c", SCRIPT];
        let child =
            kubectl.command(&arguments).stdout(Stdio::piped()).spawn().context("cannot start kubectl")?;
        Ok(Self { kubectl, child })
    }

    /// Ends it; an error if a request has failed, or none was made.
    pub(crate) fn stop(mut self) -> Result<Tally> {
        self.kubectl.inside("diverted", "touch /tmp/stop")?;
        let mut said = String::new();
        self.child.stdout.take().context("its standard output is piped")?.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        let tally =
            parse(&said).with_context(|| format!("the load ended with {status} and said {said:?}"))?;
        if tally.bad > 0 || tally.ok == 0 {
            bail!("{} requests failed, {} did not", tally.bad, tally.ok);
        }
        println!("    {} requests, none failed", tally.ok);
        Ok(tally)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(said: &str) -> Option<Tally> {
    let of = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
    Some(Tally { ok: of("ok=")?, bad: of("bad=")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_does_not_say_how_it_went_is_none() {
        assert_eq!(parse("ok=7 bad=1\n"), Some(Tally { ok: 7, bad: 1 }));
        assert_eq!(parse("error: unable to upgrade connection"), None);
    }
}
