//! `weir import FILE`: a linkerd configuration, as weir's.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::EX_CONFIG;
use crate::config::{ConfigError, Problem};
use crate::migrate;
use crate::telemetry::log;

/// A linkerd configuration is a few kilobytes; a ConfigMap cannot have more than this.
const LARGEST: u64 = 1 << 20;

/// Writes the configuration that `file` becomes to standard output, or every problem to standard error.
pub(super) fn run(file: &Path) -> ExitCode {
    match import(file) {
        Ok(yaml) => super::write(&yaml),
        Err(problems) => {
            log::say(problems);
            ExitCode::from(EX_CONFIG)
        }
    }
}

fn import(file: &Path) -> Result<String, ConfigError> {
    let name = file.display().to_string();
    let unreadable = |why: String| ConfigError { problems: vec![Problem::of_file(&name, why)] };
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("not text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))
    })?;
    Ok(migrate::import(&name, &text)?.yaml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_linkerd_configuration_is_a_bad_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("l5d.yaml");
        assert!(import(&file).unwrap_err().to_string().contains("l5d.yaml: cannot be read: No such file"));
        std::fs::write(&file, b"a: \xff").unwrap();
        assert!(import(&file).unwrap_err().to_string().ends_with("l5d.yaml: not text: byte 3 is not UTF-8"));
        std::fs::write(&file, "kind: Service\n").unwrap();
        assert!(
            import(&file).unwrap_err().to_string().contains("l5d.yaml:1:1: no linkerd configuration here")
        );
        assert_eq!(run(&file), ExitCode::from(78));
        std::fs::write(&file, "routers: [{ protocol: http }]\n").unwrap();
        assert_eq!(run(&file), ExitCode::SUCCESS);
    }
}
