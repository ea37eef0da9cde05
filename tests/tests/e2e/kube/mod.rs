//! Kubernetes. The API server is a double (`e2e::kube`), held against a real one's recordings and against kubectl.

mod account;
mod calls; // What is asked of it, and how often.
mod clients; // Which namespace a client is in.
mod detour; // Its Service leads nowhere, and its endpoint is well.
mod discovery; // Services come from it, whatever happens to it.
mod dtab_command; // `weir dtab`, which reads and writes them.
mod dtab_errors; // What it says when it cannot.
mod dtab_warnings; // What of them can never be bound.
mod dtabs; // Dtabs that are kept in it.
mod edits; // How soon an edit is in force.
mod enrol; // Its pods are diverted.
mod faults; // Anything happens to it, in any order.
mod garbage; // Objects that make no sense.
mod history; // Random histories.
mod host_pods; // Slices that name the node.
mod ingresses; // Rules of Ingresses.
mod kubectl; // It answers kubectl.
mod leaving; // No request to who has left.
mod model; // What a catalog should say.
mod nodes; // Every node's addresses.
mod readers; // Who reads the metrics.
mod recordings; // It answers as a real one does.
mod rollout; // A rolling restart.
mod stage; // weir, the server, and pods.
mod start; // The first list, and requests that come before it.
mod unknown; // Before it said anything.
mod way; // The way to it, and its end.
mod widened; // Who may come in before the rules of a router are in force.
