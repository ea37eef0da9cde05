use super::archive::Archive;
use super::machine::Verdict;
use super::modules::dependencies;
use super::packages::{newest, part_of};
use super::{DEPLOYED, executable};

#[test]
fn of_a_versions_kernels_the_newest_for_virtual_machines_is_taken() {
    let names = [
        "linux-image-6.1.0-47-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64-unsigned",
        "linux-image-6.1.0-51-amd64",
        "linux-image-6.12.9+deb13-cloud-amd64",
        "linux-image-6.12.107+deb13-cloud-amd64",
        "linux-image-6.18.15+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-rt-amd64",
        "linux-image-5.15.0-25-generic",
        "linux-image-5.15.0-9-generic",
        "linux-image-6.8.0-9-generic",
    ];
    for (version, expected) in [
        ("6.1", Some("linux-image-6.1.0-50-cloud-amd64")),
        ("6.12", Some("linux-image-6.12.107+deb13-cloud-amd64")),
        ("6.18", Some("linux-image-6.18.15+deb13-cloud-amd64")),
        ("6.18.15", Some("linux-image-6.18.15+deb13-cloud-amd64")),
        ("newest", Some("linux-image-7.3.4+deb13-cloud-amd64")),
        ("5.15", Some("linux-image-5.15.0-25-generic")),
        ("6.8", None),
        ("6", Some("linux-image-6.18.15+deb13-cloud-amd64")),
        ("5.10", None),
    ] {
        assert_eq!(newest(names.into_iter(), version).as_deref(), expected, "{version}");
    }
}

#[test]
fn a_kernels_parts_are_its_packages_and_no_tools() {
    for (line, expected) in [
        ("  Depends: linux-binary-7.3.4+deb13-cloud-amd64", Some("linux-binary-7.3.4+deb13-cloud-amd64")),
        ("  Depends: linux-modules-5.15.0-25-generic", Some("linux-modules-5.15.0-25-generic")),
        ("  PreDepends: linux-base", None),
        ("  Depends: linux-base-7.3.4+deb13-cloud-amd64", None),
        (" |Depends: initramfs-tools", None),
        ("  Suggests: linux-doc-7.3", None),
    ] {
        assert_eq!(part_of(line).as_deref(), expected, "{line}");
    }
}

#[test]
fn a_module_names_those_it_needs() {
    assert_eq!(
        dependencies(b"\x7fELF\0license=GPL\0depends=nf_tables,nf-nat\0retpoline=Y\0"),
        ["nf_tables", "nf_nat"]
    );
    assert_eq!(dependencies(b"license=GPL\0depends=\0"), Vec::<String>::new());
    assert_eq!(dependencies(b"nothing"), Vec::<String>::new());
}

#[test]
fn an_archive_has_what_the_kernel_expects_each_folder_before_its_files() {
    let mut archive = Archive::default();
    archive.file("usr/sbin/ip", "12345", 0o755);
    let folder = std::env::temp_dir().join(format!("weir-archive-{}", std::process::id()));
    archive.write(&folder).expect("a file");
    let bytes = std::fs::read(&folder).expect("the file");
    std::fs::remove_file(&folder).expect("the file");
    let header = |place: usize| String::from_utf8_lossy(&bytes[place..place + 110]).into_owned();
    assert!(header(0).starts_with("070701" /* the magic */) && bytes[110..114] == *b"usr\0");
    // 110 bytes and the path, filled up.
    let second = (110 + 4_usize).next_multiple_of(4);
    assert_eq!(&bytes[second + 110..second + 119], b"usr/sbin\0");
    let third = second + (110 + 9_usize).next_multiple_of(4);
    assert_eq!(&header(third)[14..22], "000081ed");
    assert_eq!(&header(third)[54..62], "00000005");
    let content = third + (110 + 12_usize).next_multiple_of(4);
    assert_eq!(&bytes[content..content + 8], b"12345\0\0\0");
    assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0") && bytes.len().is_multiple_of(4));
}

#[test]
fn a_run_is_well_only_when_everything_ran_and_ended_well() {
    let all = [
        "[    3.1] something of the kernel's",
        "== kernel 6.1.0-50-cloud-amd64",
        "test a::b ... ok",
        "test result: ok. 64 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 200.1s",
        "== tests 0",
        "== shown fail: open diverts",
        "== deployed 0",
    ];
    let heard = |lines: &[&str]| {
        let mut verdict = Verdict::default();
        for line in lines {
            let _ = verdict.hear(line);
        }
        verdict
    };
    assert!(heard(&all).is_well());
    assert!(heard(&all).to_string().starts_with("64 passed; 0 failed"), "{}", heard(&all));
    for left_away in 3..all.len() {
        let lines: Vec<&str> =
            all.iter().enumerate().filter(|(at, _)| *at != left_away).map(|(_, line)| *line).collect();
        assert!(!heard(&lines).is_well(), "without {}", all[left_away]);
    }
    for worse in [
        "== tests 101",
        "== deployed 1",
        "left out, because it needs root: a test",
        "test result: ok. 0 passed; 0 failed; 0 ignored",
    ] {
        let lines = [&all[..], &[worse]].concat();
        assert!(!heard(&lines).is_well(), "{worse}");
    }
    assert!(Verdict::default().hear("test a::b ... FAILED") && !Verdict::default().hear("test a::b ... ok"));
}

#[test]
fn weir_runs_in_the_machine_with_the_capabilities_that_the_daemon_set_adds() {
    let manifest = crate::process::root().join("deploy/kubernetes/base/daemon-set.yaml");
    let manifest = std::fs::read_to_string(manifest).expect("the manifest");
    let added = manifest.lines().find_map(|line| line.trim().strip_prefix("add: [")?.strip_suffix(']'));
    let added: Vec<String> =
        added.expect("added capabilities").split(", ").map(|it| format!("+{}", it.to_lowercase())).collect();
    assert!(DEPLOYED.contains(&format!("CAPABILITIES=\"{}\"", added.join(","))), "{added:?}");
}

#[test]
fn the_tests_are_found_among_cargos_messages() {
    let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"weir\"},\"executable\":\"/t/weir\"}\n\
                    warning: something\n\
                    {\"target\":{\"name\":\"intercept\"},\"executable\":\"/t/intercept-1\"}\n";
    assert_eq!(executable(messages).expect("the tests"), std::path::PathBuf::from("/t/intercept-1"));
    assert!(executable("{}").is_err());
}
