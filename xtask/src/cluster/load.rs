//! Requests that go on while something happens, from inside pods of the example: one client that is diverted and one that
//! names weir as its proxy. An answer counts as a success only where weir's Via says that it went through weir.

use std::io::Read;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::kubectl::Kubectl;
use crate::process::Running;

/// What both ask for; the name is good in any namespace.
pub(crate) const URL: &str = "http://world.hello/hostname";

/// One connection per request, so that each is diverted or not anew; it ends when the file appears, or by itself. Prints what
/// the first failures said, and the sums. curl's 7 is a connect that was refused; `gap` is the longest time, in seconds, for
/// which every connect was.
const LOOP: &str = r#"rm -f /tmp/stop; weir=0; direct=0; refused=0; failed=0; gap=0; since=; end=$(($(date +%s) + 900))
while [ ! -e /tmp/stop ] && [ $(date +%s) -lt $end ]; do
  said=$(curl -sSf -m 10 -D- -o /dev/null "$0" 2>&1); code=$?
  if [ $code = 7 ]; then
    refused=$((refused + 1)); now=$(date +%s); since=${since:-$now}
    [ $((now - since)) -le $gap ] || gap=$((now - since))
    sleep 0.1; continue
  fi
  since=
  case "$code $said" in
  "0 "*"1.1 weir"*) weir=$((weir + 1));;
  "0 "*) direct=$((direct + 1));;
  *) failed=$((failed + 1)); [ $failed -gt 5 ] || echo "failed: $(date +%T) curl $code:" $said;;
  esac
done
echo "weir=$weir direct=$direct refused=$refused failed=$failed gap=$gap""#;

/// A connection that stays open all the time, as a database's would: a drain then lasts until its grace is over.
/// It has none of the script's own streams, which would keep `kubectl exec` waiting.
const STAYS_OPEN: &str =
    "(sleep 900 | nc -X connect -x \"$NODE_IP:4140\" world.hello 80) </dev/null >/dev/null 2>&1 &\n";

/// Who sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// It dials the Service and knows of nothing.
    Diverted,
    /// Its `http_proxy` is the node's weir, and a tunnel of its own through that stays open.
    Explicit,
}

/// What may happen to a request beside an answer through weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Besides {
    /// Nothing.
    Nothing,
    /// weir is away for a while: diverted clients get direct answers, and explicit ones find nobody at its port.
    WeirIsAway,
}

impl Client {
    /// Its Deployment.
    pub(crate) fn deployment(self) -> &'static str {
        match self {
            Self::Diverted => "diverted",
            Self::Explicit => "explicit",
        }
    }

    fn script(self) -> String {
        match self {
            Self::Diverted => LOOP.to_owned(),
            Self::Explicit => format!("{STAYS_OPEN}{LOOP}"),
        }
    }
}

/// The requests of both clients, each client's one after another.
pub(crate) struct Loads<'a>([Load<'a>; 2]);

struct Load<'a> {
    kubectl: &'a Kubectl,
    client: Client,
    process: Running,
}

/// What became of one client's requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    weir: u64,
    direct: u64,
    refused: u64,
    failed: u64,
    gap: u64,
}

impl<'a> Loads<'a> {
    pub(crate) fn start(kubectl: &'a Kubectl) -> Result<Self> {
        Ok(Self([Load::start(kubectl, Client::Diverted)?, Load::start(kubectl, Client::Explicit)?]))
    }

    /// Ends them; an error if a request failed, or none went through weir.
    pub(crate) fn stop(self, besides: Besides) -> Result<()> {
        // Both are asked to stop and heard before either is judged: what the other one saw may say why.
        let [diverted, explicit] = self.0.map(Load::stop);
        diverted
            .and_then(|(client, tally)| tally.judge(client, besides))
            .and(explicit.and_then(|(client, tally)| tally.judge(client, besides)))
    }
}

impl<'a> Load<'a> {
    fn start(kubectl: &'a Kubectl, client: Client) -> Result<Self> {
        let pod = format!("deployment/{}", client.deployment());
        let script = client.script();
        let arguments = ["--namespace", "hello", "exec", &pod, "--", "sh", "-c", &script, URL];
        let process = Running::spawn("kubectl", kubectl.command(&arguments).stdout(Stdio::piped()))?;
        Ok(Self { kubectl, client, process })
    }

    fn stop(mut self) -> Result<(Client, Tally)> {
        let who = self.client.deployment();
        self.kubectl.inside(who, "touch /tmp/stop")?;
        let mut said = String::new();
        let child = self.process.child();
        child.stdout.take().context("its standard output is piped")?.read_to_string(&mut said)?;
        let status = child.wait()?;
        for line in said.lines().filter(|line| line.starts_with("failed: ")) {
            println!("    {who}: {line}");
        }
        let tally = parse(&said)
            .with_context(|| format!("the load of {who} ended with {status} and said {said:?}"))?;
        let Tally { weir, direct, refused, failed, gap } = tally;
        println!(
            "    {who}: {weir} requests through weir, {direct} direct, {refused} refused (for {gap} s at most), {failed} failed"
        );
        Ok((self.client, tally))
    }
}

impl Tally {
    fn judge(&self, client: Client, besides: Besides) -> Result<()> {
        let who = client.deployment();
        let away = |wanted: Client| besides == Besides::WeirIsAway && client == wanted;
        if self.failed > 0 {
            bail!("{who}: {} requests failed", self.failed);
        }
        if self.refused > 0 && !away(Client::Explicit) {
            bail!("{who}: {} connects were refused", self.refused);
        }
        if self.direct > 0 && !away(Client::Diverted) {
            bail!("{who}: {} answers came, but not through weir", self.direct);
        }
        if self.weir == 0 {
            bail!("{who}: no request went through weir");
        }
        Ok(())
    }
}

fn parse(said: &str) -> Option<Tally> {
    let last = said.lines().last()?;
    let of = |name: &str| last.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok());
    Some(Tally {
        weir: of("weir=")?,
        direct: of("direct=")?,
        refused: of("refused=")?,
        failed: of("failed=")?,
        gap: of("gap=")?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_load_that_does_not_say_how_it_went_is_none() {
        let tally = Tally { weir: 7, direct: 1, refused: 2, failed: 3, gap: 4 };
        assert_eq!(parse("failed: curl 22\nweir=7 direct=1 refused=2 failed=3 gap=4\n"), Some(tally));
        assert_eq!(parse("error: unable to upgrade connection"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn only_what_went_through_weir_is_a_success() {
        use Besides::{Nothing, WeirIsAway};
        use Client::{Diverted, Explicit};
        let none = || Tally { weir: 1, ..Tally::default() };
        let (direct, refused) = (Tally { direct: 1, ..none() }, Tally { refused: 1, ..none() });
        let failed = Tally { failed: 1, ..none() };
        for (tally, client, besides, is_right) in [
            (&none(), Diverted, Nothing, true),
            (&Tally::default(), Diverted, WeirIsAway, false),
            (&Tally { direct: 500, ..Tally::default() }, Diverted, WeirIsAway, false),
            (&direct, Diverted, Nothing, false),
            (&direct, Diverted, WeirIsAway, true),
            (&direct, Explicit, WeirIsAway, false),
            (&refused, Explicit, Nothing, false),
            (&refused, Explicit, WeirIsAway, true),
            (&refused, Diverted, WeirIsAway, false),
            (&failed, Explicit, WeirIsAway, false),
            (&failed, Diverted, WeirIsAway, false),
        ] {
            assert_eq!(
                tally.judge(client, besides).is_ok(),
                is_right,
                "{tally:?} of {client:?}, {besides:?}"
            );
        }
    }

    /// The script itself, with a `curl` that answers what the test wrote down, one line each.
    #[test]
    fn the_script_tells_answers_through_weir_from_direct_refused_and_failed_ones() {
        let folder = std::env::temp_dir().join(format!("weir-xtask-{}-load", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let curl = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cluster/curl.sh");
        std::os::unix::fs::symlink(curl, folder.join("curl")).expect("a link to the script");
        let stop = folder.join("stop");
        let lines = "0 Via: 1.1 weir\n0 via: 1.1 weir\n7 refused\n0 Server: x\n22 error: 503\n7 refused\n7 refused\n0 Via: 1.1 weir\n";
        std::fs::write(folder.join("answers"), lines).expect("its answers");
        let script = LOOP.replace("/tmp/stop", stop.to_str().expect("UTF-8"));
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("a path"));
        let mut command = Command::new("sh");
        let output = command.args(["-c", &script, URL]).env("PATH", path).output().expect("a shell");
        let said = String::from_utf8(output.stdout).expect("text");
        let _ = std::fs::remove_dir_all(Path::new(&folder));
        let tally = parse(&said).unwrap_or_else(|| panic!("{said}"));
        assert_eq!((tally.weir, tally.direct, tally.refused, tally.failed), (3, 1, 3, 1), "{said}");
        assert!(said.lines().any(|line| line.contains("curl 22: error: 503")), "{said}");
    }
}
