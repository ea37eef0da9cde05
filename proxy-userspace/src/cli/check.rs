//! `weir check FILE`: checks a configuration and the service files it names.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use crate::config::{self, ConfigError, Files, Identity, Settings, Warning};
use crate::discovery::files::read_files;
use crate::identity;
use crate::telemetry::log;

/// The exit code for a bad configuration (sysexits' `EX_CONFIG`).
pub const BAD_CONFIGURATION: u8 = 78;

/// Checks the configuration at `file` and the service files in its `discovery.files`. Prints a one-line summary, or
/// every problem, one per line. Valid settings that cannot work go to standard error and are not a failure.
pub fn run(file: &Path) -> ExitCode {
    match check(file) {
        Ok(Checked { summary, warnings }) => {
            for warning in warnings {
                log::say(format_args!("{}: {warning}", file.display()));
            }
            super::write(&format!("{summary}\n"))
        }
        Err(problems) => {
            log::say(problems);
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

/// A configuration without mistakes.
#[derive(Debug)]
struct Checked {
    /// One line.
    summary: String,
    /// Valid settings that cannot work.
    warnings: Vec<Warning>,
}

/// The summary if all is valid, otherwise the problems.
fn check(file: &Path) -> Result<Checked, String> {
    let settings = config::load(Some(file)).map_err(|error: ConfigError| error.to_string())?;
    let services = match &settings.discovery.files {
        Some(files) => services(files)?,
        None => "no service files".to_owned(),
    };
    let cluster = settings
        .discovery
        .kubernetes
        .as_ref()
        .map_or("", |_| "; services of an API server, which was not asked");
    let mut warnings = config::lint(&settings);
    let identities = match &settings.identity {
        Some(wanted) => identities(wanted, &mut warnings)?,
        None => String::new(),
    };
    let listeners = listeners(&settings);
    let summary = format!("{}: right; {listeners}; {services}{cluster}{identities}", file.display());
    Ok(Checked { summary, warnings })
}

/// The number of services in the folder, or the problems of its files.
fn services(files: &Files) -> Result<String, String> {
    let (catalog, problems) = read_files(files).map_err(|error| format!("{error:#}"))?;
    if !problems.is_empty() {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n"));
    }
    let count = catalog.services.len();
    Ok(format!("{count} service{} in {}", if count == 1 { "" } else { "s" }, files.path.display()))
}

/// The number of identities, or the problems of their files.
fn identities(wanted: &Identity, warnings: &mut Vec<Warning>) -> Result<String, String> {
    let (read, problems) = identity::check(wanted, SystemTime::now());
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    if read.bundle.is_some_and(|it| it.is_development) {
        warnings.push(Warning {
            place: "identity.files.bundle".to_owned(),
            what: "a root certificate was made by `weir certs`, for development".to_owned(),
            cure:
                "do not use it in production: anybody who has its key can make a certificate for any identity"
                    .to_owned(),
        });
    }
    let count = read.certificates.len();
    Ok(format!("; {count} identit{} of {}", if count == 1 { "y" } else { "ies" }, wanted.trust_domain))
}

fn listeners(settings: &Settings) -> String {
    let mut listeners = Vec::new();
    for router in settings.all_routers() {
        let all: Vec<_> = router.listen.iter().map(ToString::to_string).collect();
        let at = if all.is_empty() { "nowhere".to_owned() } else { format!("on {}", all.join(" and ")) };
        listeners.push(match router.is_labelled() {
            true => format!("outgoing {} {at}", router.label),
            false => format!("outgoing {at}"),
        });
    }
    if let Some(transparent) = &settings.transparent {
        listeners.push(format!("transparent on {} and {} more", transparent.listen, transparent.ports - 1));
    }
    listeners.push(format!("admin on {}", settings.admin.listen));
    if let Some(probes) = &settings.probes {
        listeners.push(format!("probes on {}", probes.listen));
    }
    listeners.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("services")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const CONFIG: &str = "discovery: { files: { path: services } }\ntransparent: {}\n";

    #[test]
    fn a_right_configuration_is_one_line() {
        let folder = folder(&[("weir.yaml", CONFIG), ("services/hello", "127.0.0.1 8081\n")]);
        let Checked { summary, warnings } = check(&folder.path().join("weir.yaml")).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(summary.lines().count(), 1);
        let path = folder.path().display();
        assert_eq!(
            summary,
            format!(
                "{path}/weir.yaml: right; outgoing on [::]:4140, transparent on [::]:4142 and 7 more, admin on \
                 127.0.0.1:9990; 1 service in {path}/services"
            )
        );
    }

    #[test]
    fn what_cannot_work_is_a_warning_and_no_mistake() {
        let folder = folder(&[("weir.yaml", "dtab: /svc/a => /io.l5d.fs/a\n")]);
        let file = folder.path().join("weir.yaml");
        assert_eq!(check(&file).unwrap().warnings.len(), 1);
        assert_eq!(run(&file), ExitCode::SUCCESS);
    }

    #[test]
    fn every_problem_of_the_configuration_is_a_line() {
        let folder = folder(&[("weir.yaml", "workers: 0\nwokers: 1\n")]);
        let problems = check(&folder.path().join("weir.yaml")).unwrap_err();
        assert_eq!(problems.lines().count(), 2);
        assert!(
            problems.contains("weir.yaml:2:1: unknown key `wokers` (did you mean `workers`?)"),
            "{problems}"
        );
        assert_eq!(run(&folder.path().join("weir.yaml")), ExitCode::from(78));
    }

    #[test]
    fn every_problem_of_the_service_files_is_a_line() {
        let files = [("weir.yaml", CONFIG), ("services/a", "10.0.0.1\n"), ("services/b.yaml", "kind: [\n")];
        let folder = folder(&files);
        let problems = check(&folder.path().join("weir.yaml")).unwrap_err();
        let lines: Vec<_> = problems.lines().collect();
        assert!(
            lines.len() == 2
                && lines[0].contains("services/a:1:1: ")
                && lines[1].contains("services/b.yaml:")
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_sentence() {
        let folder = folder(&[("weir.yaml", "discovery: { files: { path: nowhere } }")]);
        let missing = check(&folder.path().join("missing.yaml")).unwrap_err();
        assert!(
            missing.ends_with("missing.yaml: cannot be read: No such file or directory (os error 2)"),
            "{missing}"
        );
        let nowhere = check(&folder.path().join("weir.yaml")).unwrap_err();
        assert!(nowhere.contains("nowhere, cannot be listed: No such file"), "{nowhere}");
    }
}
