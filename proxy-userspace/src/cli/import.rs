//! `weir import FILE`: converts a linkerd configuration to weir's.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use super::EX_CONFIG;
use crate::config::{ConfigError, Problem};
use crate::migrate::{self, Imported, Options};
use crate::telemetry::log;

/// Maximum input size. A linkerd configuration is a few kilobytes; a ConfigMap cannot be larger than this.
const LARGEST: u64 = 1 << 20;

/// Writes the converted configuration of `file` to standard output, or every problem to standard error. Warnings go to
/// standard error too, where they are not redirected into the file unread.
pub(super) fn run(file: &Path, options: Options<'_>) -> ExitCode {
    match import(file, options) {
        Ok(imported) => {
            for note in imported.warnings() {
                log::say(format_args!("{}: {note}", shown(file)));
            }
            super::write(&imported.yaml)
        }
        Err(problems) => {
            log::say(problems);
            ExitCode::from(EX_CONFIG)
        }
    }
}

fn import(file: &Path, options: Options<'_>) -> Result<Imported, ConfigError> {
    let (name, text) = read_text(file, LARGEST)?;
    migrate::import(&name, &text, options)
}

/// The name of a file for messages, and its text; `-` is standard input. A file with more than `largest` bytes is an error.
pub(super) fn read_text(file: &Path, largest: u64) -> Result<(String, String), ConfigError> {
    let name = shown(file);
    let unreadable = |why: String| ConfigError { problems: vec![Problem::of_file(&name, why)] };
    let bytes = read(file, largest).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > largest {
        return Err(unreadable(format!("larger than {} MiB", largest >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("not text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))
    })?;
    Ok((name, text))
}

/// `file` as messages name it.
pub(super) fn shown(file: &Path) -> String {
    if is_standard_input(file) { "standard input".to_owned() } else { file.display().to_string() }
}

fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}

/// Reads the file up to one byte over the limit, so that a too large file is detected.
fn read(file: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if is_standard_input(file) {
        io::stdin().lock().take(largest + 1).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(largest + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_linkerd_configuration_is_a_bad_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("l5d.yaml");
        assert!(
            import(&file, Options::default())
                .unwrap_err()
                .to_string()
                .contains("l5d.yaml: cannot be read: No such file")
        );
        std::fs::write(&file, b"a: \xff").unwrap();
        assert!(
            import(&file, Options::default())
                .unwrap_err()
                .to_string()
                .ends_with("l5d.yaml: not text: byte 3 is not UTF-8")
        );
        std::fs::write(&file, "kind: Service\n").unwrap();
        assert!(
            import(&file, Options::default())
                .unwrap_err()
                .to_string()
                .contains("l5d.yaml:1:1: no linkerd configuration here")
        );
        assert_eq!(run(&file, Options::default()), ExitCode::from(78));
        std::fs::write(&file, "routers: [{ protocol: http }]\n").unwrap();
        assert_eq!(run(&file, Options::default()), ExitCode::SUCCESS);
    }
}
