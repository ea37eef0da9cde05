//! What is in the image: weir, the libraries it is linked to, and the few files that those read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// By path in the image, without the leading slash: sorted, so that the layer is the same each time.
pub(crate) type Files = BTreeMap<String, File>;

/// One file of the image; all belong to root.
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

impl File {
    /// Its size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.content.len()
    }
}

/// Where weir is in the image.
pub(crate) const WEIR: &str = "usr/bin/weir";

/// Where distributions keep the certificate authorities they trust: Debian's and Alpine's, Fedora's, SUSE's place.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The user Kubernetes runs weir as, and one to run it as without interception.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";
/// glibc's resolver: the pod's /etc/hosts, then its name servers. Both are built into libc since 2.34.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The files of an image with this weir.
pub(crate) fn of(binary: &Path) -> Result<Files> {
    let mut files = Files::new();
    let mut add = |path: &str, content: Vec<u8>, mode| {
        files.insert(path.trim_start_matches('/').to_owned(), File { content, mode });
    };
    add(WEIR, read(binary)?, 0o755);
    for library in libraries(binary)? {
        let path = library.to_str().context("a library's path is not UTF-8")?;
        add(path, read(&library)?, 0o755);
    }
    let authorities = AUTHORITIES.iter().find(|path| Path::new(path).is_file()).with_context(|| {
        format!(
            "no certificate authorities are in {}: apt-get install ca-certificates",
            AUTHORITIES.join(", ")
        )
    })?;
    add(AUTHORITIES[0], read(Path::new(authorities))?, 0o644);
    for (path, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP), ("etc/nsswitch.conf", NSSWITCH)] {
        add(path, text.as_bytes().to_vec(), 0o644);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The shared libraries and the loader; none for a static binary.
pub(crate) fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let ldd = Command::new("ldd").arg(binary).output().context("cannot start ldd")?;
    let (said, complaint) = (String::from_utf8_lossy(&ldd.stdout), String::from_utf8_lossy(&ldd.stderr));
    if [&said, &complaint]
        .iter()
        .any(|text| text.contains("statically linked") || text.contains("not a dynamic"))
    {
        return Ok(Vec::new());
    }
    if !ldd.status.success() {
        bail!("ldd cannot tell what {} is linked to: {}", binary.display(), complaint.trim());
    }
    parse(&said)
}

/// Lines of ldd: `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, and the kernel's own
/// `linux-vdso.so.1 (0x…)`, which is no file.
fn parse(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            bail!("the library {name} is missing on this machine");
        }
        let path = place.split(' ').next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The machine a binary is for, as OCI names it, by its ELF header.
pub(crate) fn architecture(binary: &Path) -> Result<&'static str> {
    let head = read(binary)?;
    let machine = head.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match (head.starts_with(b"\x7fELF"), machine) {
        (true, Some(0x3e)) => Ok("amd64"),
        (true, Some(0xb7)) => Ok("arm64"),
        _ => bail!("{} is no binary for x86_64 or aarch64", binary.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_library_is_no_file_and_a_missing_one_is_an_error() {
        let said =
            "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/libm.so.6 (0x1)\n\t/lib64/ld.so.2 (0x2)\n";
        let found = parse(said).expect("nothing is missing");
        assert_eq!(found, [PathBuf::from("/lib/libm.so.6"), PathBuf::from("/lib64/ld.so.2")]);
        let error = parse("\tlibx.so.1 => not found\n").expect_err("it is missing");
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }

    #[test]
    fn a_script_is_no_binary() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert!(architecture(&manifest).is_err());
        assert!(architecture(&std::env::current_exe().expect("ourselves")).is_ok());
    }
}
