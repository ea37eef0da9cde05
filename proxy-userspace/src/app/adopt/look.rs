//! A look into one network namespace: which of its connections are direct and should not be.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::ports::PortSet;
use crate::transport::{Connection, SockDiag};

/// Connections that are read in one network namespace; beyond that the look is no whole one.
const MOST: usize = 200_000;

/// Connections that one look ends: an application that opens them anew is not to do so with all of them at once.
const CLOSED_AT_ONCE: usize = 100;

/// What would be diverted if it were opened now, and whose it is.
pub(super) struct Question {
    /// Whether connections to this address and port are diverted.
    pub(super) diverts: Box<dyn Fn(SocketAddr) -> bool + Send + Sync>,
    /// Whose connections they are, by the cgroups of their sockets.
    pub(super) members: HashMap<u64, Arc<Member>>,
}

/// An enrolled pod.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Its name; the namespace's if `None`.
    pub(super) name: Option<Arc<str>>,
    /// The ports to which its connections are not diverted.
    pub(super) skip: PortSet,
}

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// How many direct connections, by the pods' names.
    pub(super) by_pod: BTreeMap<Option<Arc<str>>, usize>,
    /// Those that were ended; they are not among the others.
    pub(super) closed: u64,
    /// What could not be done, in words.
    pub(super) why: Option<String>,
}

impl Question {
    /// The pod whose connection this is, if a connection there would be diverted now, and this one is not.
    fn direct(&self, connection: &Connection) -> Option<&Arc<Member>> {
        let member = self.members.get(&connection.cgroup?)?;
        let at = connection.remote;
        let is_direct = !member.skip.contains(at.port()) && (self.diverts)(at);
        is_direct.then_some(member)
    }
}

/// Whether the connection is to be ended, if that is done after this long.
fn ends(connection: &Connection, close_after: Option<Duration>) -> bool {
    connection.idle.zip(close_after).is_some_and(|(idle, after)| idle >= after)
}

/// Looks into the calling thread's network namespace. A connection is ended when it is idle for `close_after`; none if that
/// is `None`. Those that were accepted there are left out: they lead to clients.
///
/// # Errors
///
/// The kernel's error.
pub(super) fn look(question: &Question, close_after: Option<Duration>) -> io::Result<Found> {
    let mut diag = SockDiag::open()?;
    let listening = diag.listening()?;
    let (mut found, mut idle) = (Found::default(), Vec::new());
    let all = diag.connections(close_after.is_some(), MOST, |connection| {
        if listening.contains(&connection.local_port) {
            return;
        }
        let Some(member) = question.direct(connection) else { return };
        *found.by_pod.entry(member.name.clone()).or_default() += 1;
        if idle.len() < CLOSED_AT_ONCE && ends(connection, close_after) {
            idle.push((*connection, member.name.clone()));
        }
    })?;
    if !all {
        found.why = Some(format!("there are more than {MOST} connections"));
    }
    for (connection, whose) in idle {
        // It may have been used since, or be gone.
        if !diag.again(&connection).is_ok_and(|now| ends(&now, close_after)) {
            continue;
        }
        match diag.destroy(&connection) {
            Ok(()) => {
                found.closed += 1;
                if let Some(count) = found.by_pod.get_mut(&whose) {
                    *count -= 1;
                }
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => {
                found.why = Some(format!("idle connections cannot be closed: {}", refused(&cause)));
                break;
            }
        }
    }
    found.by_pod.retain(|_, count| *count > 0);
    Ok(found)
}

/// Why the kernel does not end a connection.
fn refused(cause: &io::Error) -> String {
    match cause.raw_os_error() {
        Some(libc::EOPNOTSUPP) => "this kernel is built without CONFIG_INET_DIAG_DESTROY".to_owned(),
        Some(libc::EPERM) => "CAP_NET_ADMIN is missing".to_owned(),
        _ => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{IpAddr, TcpListener, TcpStream};
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// This process's cgroup, as its sockets have it.
    fn own_cgroup(to: SocketAddr) -> Option<u64> {
        let mut cgroup = None;
        let each = |it: &Connection| cgroup = cgroup.or(it.cgroup.filter(|_| it.remote == to));
        SockDiag::open().unwrap().connections(false, MOST, each).unwrap();
        cgroup
    }

    #[test]
    fn what_is_skipped_leads_elsewhere_or_is_of_a_stranger_is_not_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let client = TcpStream::connect(to).unwrap();
        let from = client.local_addr().unwrap();
        let Some(cgroup) = own_cgroup(to) else { return };
        let member =
            |skip: &str| Arc::new(Member { name: Some("shop/web".into()), skip: PortSet::parse(skip).0 });
        let members = |cgroup, skip: &str| HashMap::from([(cgroup, member(skip))]);
        let asked = || Question { diverts: Box::new(move |at| at == to), members: members(cgroup, "") };
        let hour = Some(Duration::from_secs(3600));
        for (name, question, close_after, counted) in [
            ("a pod's", asked(), None, 1),
            ("elsewhere", Question { diverts: Box::new(|_| false), ..asked() }, None, 0),
            ("skipped", Question { members: members(cgroup, &to.port().to_string()), ..asked() }, None, 0),
            ("a stranger's", Question { members: members(cgroup.wrapping_add(1), ""), ..asked() }, None, 0),
            // The server's end of the same connection.
            ("accepted", Question { diverts: Box::new(move |at| at == from), ..asked() }, None, 0),
            // Neither idle for so long, nor asked for.
            ("busy", asked(), hour, 1),
        ] {
            let found = look(&question, close_after).unwrap();
            assert_eq!(found.by_pod.values().sum::<usize>(), counted, "{name}: {found:?}");
            assert_eq!((found.closed, found.why), (0, None), "{name}");
        }
    }

    #[test]
    fn a_connection_is_idle_when_nothing_passed_and_nothing_waits() {
        let at = |idle| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            let _client = TcpStream::connect(to).unwrap();
            let mut found = None;
            let each = |it: &Connection| found = found.or(Some(*it).filter(|it| it.remote == to));
            SockDiag::open().unwrap().connections(true, MOST, each).unwrap();
            let mut connection = found.unwrap();
            connection.idle = idle;
            connection
        };
        let minute = Duration::from_secs(60);
        for (close_after, idle, ends) in [
            (Some(minute), Some(minute), true),
            (Some(minute), Some(minute / 2), false),
            (Some(minute), None, false),
            (None, Some(minute), false),
        ] {
            assert_eq!(super::ends(&at(idle), close_after), ends, "{close_after:?} {idle:?}");
        }
    }

    #[test]
    fn an_inode_number_is_what_the_kernel_calls_a_cgroup() {
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let _client = TcpStream::connect(to).unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let path = own.lines().find_map(|line| line.strip_prefix("0::"));
        let mount = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
            .iter()
            .find(|it| fs::exists(format!("{it}/cgroup.controllers")).unwrap_or_default());
        let (Some(path), Some(mount), Some(cgroup)) = (path, mount, own_cgroup(to)) else { return };
        let Ok(folder) = fs::metadata(format!("{mount}{path}")) else { return };
        assert_eq!(folder.ino(), cgroup);
    }
}
