//! Where the weirs of a node meet: a Unix socket in a folder that belongs to weir's user.
//!
//! Whoever may write to that folder can be weir on this node anyway: on Kubernetes it is a folder of the node, which only
//! pods that mount it have. So neither a name, which any process of the node's network could take beforehand, nor a process id
//! counts, but the path, and the user at the other end.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::geteuid;

use crate::transport::{Channel, ChannelListener};

/// The permissions of others than the owner to write.
const OTHERS_WRITE: u32 = 0o022;

/// Checks that nobody but weir's own user can put a socket at `path`.
pub(super) fn check(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let facts = fs::metadata(folder).with_context(|| format!("the folder {}", folder.display()))?;
    let (own, mode) = (geteuid().as_raw(), facts.mode());
    if !facts.is_dir() || facts.uid() != own || mode & OTHERS_WRITE != 0 {
        bail!(
            "{} must be a folder of user {own} to which no other may write: it is of user {}, with mode {:o}",
            folder.display(),
            facts.uid(),
            mode & 0o7777
        );
    }
    Ok(())
}

/// Listens for the next weir, in place of the weir before this one.
pub(super) fn offer(path: &Path) -> anyhow::Result<ChannelListener> {
    check(path)?;
    ChannelListener::bind(path).with_context(|| format!("no socket {} for the next weir", path.display()))
}

/// A connection to the weir that serves; `None` if there is none.
pub(super) fn ask(path: &Path) -> io::Result<Option<Channel>> {
    match Channel::connect(path) {
        Ok(channel) => Ok(Some(channel)),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// The user at the other end, if it is not weir's own.
pub(super) fn stranger(channel: &Channel) -> io::Result<Option<u32>> {
    let user = channel.peer_user()?;
    Ok((user != geteuid().as_raw()).then_some(user))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn weirs_meet_only_where_nobody_else_can_put_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.sock");
        for (mode, is_fit) in [(0o700, true), (0o755, true), (0o775, false), (0o1777, false), (0o722, false)]
        {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&path).is_ok(), is_fit, "{mode:o}");
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let nowhere = check(&folder.path().join("none/handover.sock")).unwrap_err();
        assert!(format!("{nowhere:#}").contains("No such file"), "{nowhere:#}");
        fs::write(&path, "").unwrap();
        assert!(check(&path.join("x")).is_err(), "a file is no folder");
        if geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(65534), None).unwrap();
            let why = format!("{:#}", check(&path).unwrap_err());
            assert!(why.contains("it is of user 65534"), "{why}");
        }
    }

    #[tokio::test]
    async fn who_offers_is_found_and_after_its_end_there_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.sock");
        assert!(ask(&path).unwrap().is_none());
        let offered = offer(&path).unwrap();
        let channel = ask(&path).unwrap().unwrap();
        assert_eq!(stranger(&channel).unwrap(), None);
        drop(offered);
        assert!(ask(&path).unwrap().is_none());
    }
}
