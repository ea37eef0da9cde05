//! Kubernetes. The API server is a double (`e2e::kube`), held against a real one's recordings and against kubectl.

mod discovery; // weir follows the server.
mod faults; // Anything happens to the server.
mod history; // Random histories.
mod kubectl;
mod leaving; // No request to who has left.
mod model; // What a catalog should say.
mod recordings;
mod rollout; // A rolling restart.
mod stage; // weir, the server, and pods.
