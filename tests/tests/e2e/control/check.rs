//! Wrong configuration and wrong usage: every mistake at once, where it is, what to do, and an exit code.

use e2e::weir::builder::Exit;
use e2e::{Weir, raw};

const WRONG: &str = "\
outgoing: { listen: nonsense }
workers: -1
names:
  namespcae: default
drain: { grace: soon }
limits:
  connections: many
surprise: 1
";

#[test]
fn every_mistake_is_reported_at_once_with_its_position() {
    for exit in [Weir::new().config(WRONG).fails(), Weir::new().config(WRONG).run(&["check", "CONFIG"])] {
        assert_eq!(exit.code, Some(78), "{}", exit.stderr);
        for position in [":1:", ":2:", ":4:", ":5:", ":7:", ":8:"] {
            assert!(exit.stderr.contains(&format!("weir.yaml{position}")), "{position} in:\n{}", exit.stderr);
        }
        assert!(exit.stderr.contains("namespace"), "a hint for a misspelt key:\n{}", exit.stderr);
    }
}

#[test]
fn a_file_that_is_no_yaml_says_where() {
    let exit = Weir::new().config("outgoing: {\n  listen: [\n").fails();
    assert_eq!(exit.code, Some(78));
    assert!(exit.stderr.contains("weir.yaml:"), "{}", exit.stderr);
}

#[test]
fn a_file_that_is_not_there_is_one_sentence() {
    let exit = Weir::new().run(&["run", "--config", "missing.yaml"]);
    assert_eq!(exit.code, Some(78));
    assert!(exit.stderr.contains("missing.yaml"), "{}", exit.stderr);
    one_sentence(&exit);
}

#[test]
fn a_good_file_passes_the_check_and_an_empty_one_is_all_defaults() {
    for text in ["workers: 2\nnames: { namespace: shop }\n", "", "# nothing\n"] {
        let exit = Weir::new().config(text).run(&["check", "CONFIG"]);
        assert_eq!(exit.code, Some(0), "{text:?}: {}", exit.stderr);
    }
}

#[test]
fn the_examples_in_deploy_pass_the_check() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let yaml = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "yaml");
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).filter(yaml).collect();
    assert!(!files.is_empty(), "no example in {}", folder.display());
    for file in files {
        let exit = Weir::new().run(&["check", file.to_str().unwrap()]);
        assert_eq!(exit.code, Some(0), "{}: {}", file.display(), exit.stderr);
    }
}

#[test]
fn a_port_in_use_is_one_sentence_that_names_it() {
    let taken = raw::listen(raw::loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    for section in ["outgoing", "admin", "probes"] {
        let exit = Weir::new().set(section, &format!("{{ listen: \"{address}\" }}")).fails();
        assert_eq!(exit.code, Some(1), "{section}: {}", exit.stderr);
        assert!(exit.stderr.contains(&address.to_string()), "{section}: {}", exit.stderr);
        one_sentence(&exit);
    }
}

#[test]
fn two_listeners_on_one_port_are_a_mistake_of_the_configuration_or_a_port_in_use() {
    let free = raw::listen(raw::loopback()).unwrap().local_addr().unwrap();
    let listen = format!("{{ listen: \"{free}\" }}");
    let exit = Weir::new().set("admin", &listen).set("probes", &listen).fails();
    assert!(matches!(exit.code, Some(1 | 78)), "{:?}: {}", exit.code, exit.stderr);
}

#[test]
fn a_folder_of_services_that_is_not_there_is_said() {
    let exit = Weir::new().set("discovery", "{ files: { path: ./missing } }").fails();
    assert!(matches!(exit.code, Some(1 | 78)), "{:?}", exit.code);
    assert!(exit.stderr.contains("missing"), "{}", exit.stderr);
}

#[test]
fn wrong_usage_exits_with_64() {
    let weir = Weir::new();
    for arguments in [&["run", "--nonsense"][..], &["flow"], &["check"], &[]] {
        let exit = weir.run(arguments);
        assert_eq!(exit.code, Some(64), "{arguments:?}: {}", exit.stderr);
        assert!(exit.stderr.contains("weir"), "{}", exit.stderr);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let exit = Weir::new().run(&[flag]);
        assert_eq!((exit.code, exit.stdout.contains("weir")), (Some(0), true), "{flag}");
    }
}

#[test]
fn without_an_explicit_listener_weir_runs_and_opens_none() {
    let weir = Weir::new().set("outgoing", "{ listen: none }").start();
    weir.get_from(weir.admin(), "/live").expect_status(200);
    let listens = std::fs::read_to_string(format!("/proc/{}/net/tcp6", weir.pid())).unwrap();
    let sockets: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", weir.pid()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .map(|link| link.display().to_string())
        .collect();
    // 0x102C is 4140, 0A is LISTEN (proc(5)); the inode tells whose it is.
    let own = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(":102C")
            && fields[3] == "0A"
            && sockets.contains(&format!("socket:[{}]", fields[9]))
    };
    assert_eq!(listens.lines().skip(1).find(own), None);
}

#[test]
fn an_import_that_lost_protection_says_so_on_standard_error_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("l5d.yaml");
    let text = "namers: [{ kind: io.l5d.fs }]\nrouters:\n- protocol: http\n  dtab: /svc => /#/io.l5d.fs\n  client: { tls: {} }\n";
    std::fs::write(&file, text).unwrap();
    let exit = Weir::new().run(&["import", file.to_str().unwrap()]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(
        exit.stderr.lines().next().unwrap().contains("routers[0].client.tls: requests to / were encrypted"),
        "{}",
        exit.stderr
    );
    assert!(exit.stdout.lines().nth(2).unwrap().contains("PROTECTION THAT IS GONE"), "{}", exit.stdout);
}

/// One sentence, and neither a panic nor a debug print.
fn one_sentence(exit: &Exit) {
    let text = exit.stderr.trim();
    assert!(text.lines().count() <= 2, "more than a sentence:\n{text}");
    assert!(!text.contains("panicked") && !text.contains("Os {") && !text.contains("Error("), "{text}");
}

#[test]
fn a_missing_folder_of_services_is_a_wrong_configuration_for_run_as_for_check() {
    let builder = Weir::new().set("discovery", "{ files: { path: ./nowhere } }");
    for exit in [builder.fails(), builder.run(&["check", "CONFIG"])] {
        assert_eq!(exit.code, Some(78), "{}", exit.stderr);
        assert!(exit.stderr.contains("nowhere, cannot be listed"), "{}", exit.stderr);
        assert!(!exit.stdout.contains("listening"), "{}", exit.stdout);
    }
}
