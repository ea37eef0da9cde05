use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::*;
use crate::intercept::{Enrol, netns_of};
use crate::transport::NetnsThread;

/// A connection in this process's own network namespace, which stands for a pod's.
struct Stage {
    clients: Arc<PodClients>,
    pod: Arc<PodNetns>,
    client: TcpStream,
    server: TcpStream,
}

impl Stage {
    /// `None` where it is not permitted.
    fn set(unable: Option<&str>) -> Option<Self> {
        let ids = PodIds::of_tests(PathBuf::new(), Enrol::Pods)?;
        let thread = NetnsThread::start().ok()?;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let clients = Arc::new(PodClients::with(Numbers::none(), ids, unable.map(str::to_owned)));
        let prefix = "fd77::".parse().unwrap();
        let pod = PodNetns::new(7, prefix, OwnedFd::from(listener), netns_of, thread);
        Some(Self { clients, pod, client, server })
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.client.local_addr().unwrap(), self.server.local_addr().unwrap())
    }

    /// The pod of this process's cgroup has this number; a look ends with it.
    fn tell(&self, pod: u64) {
        let (client, server) = self.ends();
        let cgroup = SockDiag::open().unwrap().cgroup_of(client, server).unwrap().expect("a cgroup");
        let its = PodCgroup { pod, uid: Some("u1".into()) };
        self.clients.tell_cgroups([(cgroup, its)].into(), Instant::now());
    }

    /// Whose the connection is, while the control plane looks as often as it is wanted.
    async fn asks(&self) -> Result<Found, Fault> {
        let (client, server) = self.ends();
        let looks = async {
            loop {
                self.clients.wanted().await;
                self.clients.looked.send_replace(Some(Instant::now()));
            }
        };
        tokio::select! {
            it = self.clients.is_of(&self.pod, client, server) => it,
            () = looks => unreachable!(),
        }
    }
}

#[tokio::test]
async fn a_connection_is_the_pods_that_the_kernel_says_and_no_other_pods_then() {
    let Some(stage) = Stage::set(None) else { return };
    stage.tell(1);
    assert_eq!(stage.asks().await.unwrap().uid.as_deref(), Some("u1"));
    // A process of another pod, in the same network namespace.
    stage.tell(2);
    let refused = stage.asks().await.unwrap_err();
    assert!(refused.detail.contains("several pods"), "{}", refused.detail);
    stage.tell(1);
    assert!(stage.asks().await.is_err(), "it is not the first one's for good");
}

#[tokio::test]
async fn what_is_noted_of_a_pod_goes_with_it() {
    let Some(stage) = Stage::set(None) else { return };
    stage.tell(1);
    stage.asks().await.unwrap();
    assert_eq!(stage.clients.ids.noted(7), Some(1));
    // The programs have forgotten it, and a connection is looked at before it ends.
    stage.clients.ids.forget(7);
    stage.asks().await.unwrap();
    stage.clients.end(&stage.pod);
    assert_eq!(stage.clients.ids.noted(7), None);
    assert!(stage.asks().await.is_err());
    assert_eq!(stage.clients.ids.noted(7), None);
}

#[tokio::test]
async fn a_kernel_that_does_not_tell_makes_clients_unknown_and_not_foreign() {
    let Some(stage) = Stage::set(Some("no sock_diag for TCP")) else { return };
    stage.tell(1);
    let fault = stage.asks().await.unwrap_err();
    assert_eq!(fault.kind, Kind::ClientUnknown);
    assert!(fault.detail.contains("no sock_diag"), "{}", fault.detail);
    assert_eq!(stage.clients.clients[Whose::Unknown as usize].value(), 1);
}

#[tokio::test]
async fn a_foreign_client_waits_for_a_look_only_where_it_may_be_a_new_pods() {
    let Some(stage) = Stage::set(None) else { return };
    let (client, server) = stage.ends();
    // `None` where it waits for a look.
    let asks = async |is_patient| {
        tokio::select! {
            biased;
            it = stage.clients.pod(client, server, None, is_patient) => Some(it.unwrap_err().kind),
            () = stage.clients.wanted() => None,
        }
    };
    assert_eq!(asks(false).await, None, "nobody has looked yet: it may be any pod's");
    stage.tell(1);
    assert_eq!(asks(true).await, None);
    assert_eq!(asks(false).await, Some(Kind::ForeignClient));
}
