//! Tests of `deploy/` and of the image: what a cluster would be given, looked at by Kubernetes' own types and programs.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod admission; // What an API server refuses although it is of its type.
mod container; // The DaemonSet's container, run by runc on a pretend node.
mod hello; // The README's example, run by doubles of agnhost and kubelet.
mod helm; // The chart makes the same objects as the kustomization.
mod image; // The image's archive, unpacked and run.
mod install; // kubectl installs and takes away, on an API server's double.
mod kubelet; // What kubelet and the controllers make of Deployments and Services.
mod manifests; // Every manifest: types, references, what each promises.
mod objects; // Rendering, and reading what was rendered.
mod types; // Validation against the API's types.
mod weir; // What the manifests say of weir: ports, rights, configuration.
