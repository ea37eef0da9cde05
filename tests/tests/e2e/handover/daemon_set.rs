//! A rollout as Kubernetes does it with `maxSurge: 1`: kubelet asks each weir's exec probes, and the DaemonSet's controller
//! starts and stops weirs by what they say (pkg/controller/daemon, `manage` and `rollingUpdate`).

use e2e::load::Reuse;
use e2e::weir::builder::Builder;
use e2e::{Backend, Client, Load, Net, Pod, Request, Weir, eventually, folder};
use nix::sys::signal::Signal;

use super::{PROXY, echoes, exec_probe, follows, is_ready, unready};
use crate::transparent::dialler;

/// The manifest's `failureThreshold` of the readiness probe, and of the liveness probe.
const UNREADY_AFTER: u32 = 2;
const DEAD_AFTER: u32 = 3;

/// One of the DaemonSet's pods.
struct DaemonPod {
    weir: Weir,
    revision: u32,
    ready: bool,
    /// Probes that failed in a row.
    unready: u32,
    dead: u32,
    deleted: bool,
}

/// A node with load on its weir, and a tunnel through it.
struct Node {
    pods: Vec<DaemonPod>,
    load: Load,
    tunnel: Client,
    _backends: (Backend, e2e::raw::TcpServer),
    client: Pod,
    a: Pod,
    net: Net,
}

struct DaemonSet {
    revision: u32,
    /// Makes the weir of a revision.
    template: fn(u32, Builder) -> Builder,
    nodes: Vec<Node>,
}

impl DaemonPod {
    fn start(revision: u32, builder: Builder) -> Self {
        Self { weir: builder.start(), revision, ready: false, unready: 0, dead: 0, deleted: false }
    }

    /// What kubelet does once a period.
    #[track_caller]
    fn kubelet(&mut self) {
        let ended = self.weir.has_ended();
        assert!(!ended || self.deleted, "a container that ends by itself: {}", self.weir.log());
        if ended {
            return;
        }
        self.unready = if is_ready(&self.weir) { 0 } else { self.unready + 1 };
        match self.unready {
            0 => self.ready = true,
            UNREADY_AFTER.. => self.ready = false,
            _ => {}
        }
        self.dead = if self.deleted || exec_probe(&self.weir, "live").0 { 0 } else { self.dead + 1 };
        assert!(self.dead < DEAD_AFTER, "kubelet would start it again: {}", self.weir.log());
    }

    /// What the controller does to a pod that is to go.
    fn delete(&mut self) {
        self.deleted = true;
        self.weir.signal(Signal::SIGTERM);
    }
}

fn builder(net: &Net, a: &Pod) -> Builder {
    let builder = Weir::new().beside(net).set("outgoing", "{ listen: \"[::]:4140\" }");
    let database = folder::service("database", &["10.96.0.11"]).port("sql", 5432, 5432).endpoints(&[a.v4()]);
    follows(builder, net).service("hello", &[a.at(8080)]).kubernetes(&database)
}

impl Node {
    fn start(revision: u32) -> Self {
        let mut net = Net::new();
        let (client, a) = (net.pod("client"), net.pod("a"));
        let backend = Backend::http().answers("a").inside(&a).on(a.at(8080)).start();
        let database = e2e::raw::TcpServer::echo(a.listen(a.at(5432)).unwrap());
        let pods = vec![DaemonPod::start(revision, builder(&net, &a))];
        let load = Load::start(1, Reuse::Never, &Request::get("http://hello/"), dialler(&client, PROXY));
        let mut tunnel = Client::over(dialler(&client, PROXY)().unwrap());
        tunnel.start(&Request::new("CONNECT", "database:5432"));
        assert_eq!(tunnel.head().status(), Some(200));
        Self { pods, load, tunnel, _backends: (backend, database), client, a, net }
    }

    /// The pods that are not being deleted: of this revision, and of another.
    fn split(&mut self, revision: u32) -> (Option<&mut DaemonPod>, Option<&mut DaemonPod>) {
        let (new, old): (Vec<_>, Vec<_>) =
            self.pods.iter_mut().filter(|it| !it.deleted).partition(|it| it.revision == revision);
        assert!(new.len() < 2 && old.len() < 2, "more than one pod above the one of a node");
        (new.into_iter().next(), old.into_iter().next())
    }

    fn revisions(&self) -> Vec<u32> {
        self.pods.iter().filter(|it| !it.deleted).map(|it| it.revision).collect()
    }
}

impl DaemonSet {
    fn start(nodes: usize, template: fn(u32, Builder) -> Builder) -> Self {
        let nodes = (0..nodes).map(|_| Node::start(1)).collect();
        let mut set = Self { revision: 1, template, nodes };
        eventually("all to be ready", || {
            set.turn();
            set.nodes.iter().all(|it| it.pods[0].ready)
        });
        set
    }

    /// One turn of kubelet on each node, and of the controller.
    #[track_caller]
    fn turn(&mut self) {
        self.nodes.iter_mut().flat_map(|it| &mut it.pods).for_each(DaemonPod::kubelet);
        let (mut surge, mut candidates) = (0, Vec::new());
        for (number, node) in self.nodes.iter_mut().enumerate() {
            match node.split(self.revision) {
                // Two are allowed as long as the old one is ready and the new one is not.
                (Some(new), Some(old)) if !old.ready || new.ready => old.delete(),
                (Some(_), Some(_)) => surge += 1,
                (None, Some(_)) => candidates.push(number),
                (_, None) => {}
            }
        }
        if let (0, Some(number)) = (surge, candidates.first()) {
            let node = &mut self.nodes[*number];
            let made = (self.template)(self.revision, builder(&node.net, &node.a));
            node.pods.push(DaemonPod::start(self.revision, made));
        }
    }

    /// The revisions of each node's pods.
    fn revisions(&self) -> Vec<Vec<u32>> {
        self.nodes.iter().map(Node::revisions).collect()
    }

    /// Nothing was refused, and what was open is.
    #[track_caller]
    fn expect_no_gap(&mut self) {
        for node in &mut self.nodes {
            node.load.answered(20);
            node.load.tally().expect_no_failure();
            echoes(&mut node.tunnel, "still");
            let stream = dialler(&node.client, PROXY)().unwrap();
            Client::over(stream).get("http://hello/").expect_status(200);
        }
    }
}

#[test]
fn a_version_that_never_gets_ready_stops_at_the_first_node_where_the_old_one_serves_on() {
    if !e2e::net::is_root() {
        return;
    }
    let broken = |revision, builder| if revision == 2 { unready(builder) } else { builder };
    let mut set = DaemonSet::start(2, broken);
    set.revision = 2;
    eventually("the first node's second pod", || {
        set.turn();
        set.revisions() == [vec![1, 2], vec![1]]
    });
    // However long one waits.
    let stays = e2e::time::holds_for(std::time::Duration::from_secs(8), || {
        set.turn();
        set.revisions() == [vec![1, 2], vec![1]] && set.nodes.iter().all(|it| it.pods[0].ready)
    });
    assert!(stays, "{:?}", set.revisions());
    set.expect_no_gap();
    // `kubectl rollout undo`: the old one is the right one again, and only the broken one goes.
    set.revision = 1;
    eventually("only the first version", || {
        set.turn();
        set.revisions() == [vec![1], vec![1]] && set.nodes[0].pods[1].weir.has_ended()
    });
    assert!(set.nodes.iter().all(|it| is_ready(&it.pods[0].weir)));
    set.expect_no_gap();
    // And a version that works follows.
    set.revision = 3;
    eventually("the third version", || {
        set.turn();
        set.revisions() == [vec![3], vec![3]]
    });
    set.expect_no_gap();
}

#[test]
fn a_rollout_goes_node_by_node_and_nobody_notices() {
    if !e2e::net::is_root() {
        return;
    }
    let mut set = DaemonSet::start(2, |_, builder| builder);
    // Two in quick succession: the second begins as soon as the first is through, with the tunnels still in the first weirs.
    for revision in [2, 3] {
        set.revision = revision;
        let mut both_at_once = false;
        eventually("the new version", || {
            set.turn();
            let surging = set.revisions().iter().filter(|it| it.len() == 2).count();
            both_at_once |= surging > 1;
            set.revisions() == [vec![revision], vec![revision]]
        });
        assert!(!both_at_once, "one node at a time");
        set.expect_no_gap();
    }
    // The weirs that drain hold on for their connections, and end with them.
    assert!(set.nodes.iter_mut().all(|it| !it.pods[0].weir.has_ended()));
    for node in set.nodes {
        drop(node.tunnel);
        let mut pods = node.pods;
        eventually("their end", || pods.iter_mut().filter(|it| it.deleted).all(|it| it.weir.has_ended()));
    }
}
