//! Kubernetes. The API server is a double (`e2e::kube`), held against a real one's recordings and against kubectl.

mod discovery;
mod kubectl;
mod recordings;
