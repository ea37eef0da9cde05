//! `weir status`: a running weir's state as text or JSON.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::describe::describe;
use super::filter::Filter;
use crate::control::report::StateReport;
use crate::telemetry::log;

/// Maximum time for the running weir to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum size of its answer.
const MOST: u64 = 256 << 20;

/// Fetches the state from the weir whose admin listens on `admin`, and prints what matches `filter`: as JSON or as
/// text.
pub(super) fn run(admin: &str, json: bool, filter: &Filter) -> ExitCode {
    print(fetch(admin, "/api/state.json").and_then(|body| show(body, json, filter)))
}

/// Formats `body`, the state of a weir that may be older or newer than this one.
fn show(body: String, json: bool, filter: &Filter) -> anyhow::Result<String> {
    if json && !filter.is_set() {
        return Ok(body);
    }
    let mut state: StateReport = serde_json::from_str(&body).context("the answer is not weir's state")?;
    filter.apply(&mut state).map_err(anyhow::Error::msg)?;
    if json {
        Ok(serde_json::to_string_pretty(&state)? + "\n")
    } else {
        Ok(describe(&state, filter.is_set())?)
    }
}

/// Prints the result, or the error in one sentence.
pub(super) fn print(shown: anyhow::Result<String>) -> ExitCode {
    match shown {
        Ok(text) => super::write(&text),
        Err(error) => {
            log::say(format_args!("weir: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Fetches `path` from the running weir at `admin`.
pub(super) fn fetch(admin: &str, path: &str) -> anyhow::Result<String> {
    let advice = || format!("no weir answers on {admin}; is it running, and is --admin its admin listener?");
    let address = admin.to_socket_addrs().with_context(advice)?.next().with_context(advice)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(advice)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The address, not the name that was resolved to it: weir may not accept that name as Host (`admin.hosts`).
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").with_context(advice)?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).with_context(advice)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!(advice()) };
    if head.split(' ').nth(1) == Some("400") {
        bail!("{}", body.trim_end());
    }
    if head.split(' ').nth(1) != Some("200") {
        bail!("{admin} answers, but not as weir's admin: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &str, json: bool, service: Option<&str>) -> Result<String, String> {
        let filter = Filter { service: service.map(str::to_owned), ..Filter::default() };
        show(body.to_owned(), json, &filter).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn an_answer_that_is_no_state_is_said_with_what_is_wrong_with_it() {
        for (body, why) in [
            ("", "EOF"),
            ("<html>", "expected value"),
            ("[]", "invalid length 0"),
            ("1", "expected struct"),
            ("null", "expected struct"),
            ("{}", "missing field `version`"),
            (r#"{"version": "1"}"#, "missing field `ready`"),
            (r#"{"version": "1", "ready": 1}"#, "expected a boolean"),
            (r#"{"version": "1", "ready": true, "services": 1}"#, "expected a sequence"),
            (r#"{"version": "1", "ready": true, "services": [{}]}"#, "missing field `service`"),
            (r#"{"version": "1", "ready": true, "enrolment": {"pods": [1]}}"#, "expected struct"),
        ] {
            for (json, service) in [(false, None), (false, Some("a")), (true, Some("a"))] {
                let said = shown(body, json, service).unwrap_err();
                assert!(
                    said.starts_with("the answer is not weir's state: ") && said.contains(why),
                    "{body}: {said}"
                );
            }
        }
    }

    #[test]
    fn whole_json_is_passed_on_as_it_came() {
        let body = r#"{"version": "99", "ready": true, "newer": [1]}"#;
        assert_eq!(shown(body, true, None).unwrap(), body);
        let text = shown(body, false, None).unwrap();
        assert!(text.starts_with("node without a name: weir 99, up 0 s, ready\n"), "{text}");
    }

    #[test]
    fn filtered_json_has_the_form_of_the_whole() {
        let body = r#"{"version": "1", "ready": true, "services": [{"service": "/#/io.l5d.fs/a"}, {"service": "/#/io.l5d.fs/b"}]}"#;
        let left: StateReport = serde_json::from_str(&shown(body, true, Some("a")).unwrap()).unwrap();
        assert_eq!(left.services.iter().map(|it| &*it.service).collect::<Vec<_>>(), ["/#/io.l5d.fs/a"]);
    }
}
