//! A real control plane of several masters on one machine, without containers: etcd, kube-apiserver, kube-controller-manager and an
//! S3 server, each master in namespaces of its own, on files that kubeadm wrote. Tests use it as a library, `make demo` as a program.
//!
//! Everything a testbed starts hangs on a pipe that its owner holds: when the owner dies, however it dies, the kernel ends the
//! namespaces with every process, mount and interface in them. Only directories are left for [`sweep`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod binaries;
mod client;
mod front;
mod kubeadm;
mod machine;
mod manifest;
mod network;
mod node;
mod options;
mod process;
mod registration;
mod s3;
mod summary;
mod supervisor;
mod sweep;
mod testbed;
mod wait;
mod workdir;

pub use binaries::Binaries;
pub use front::etcd::{EtcdFault, EtcdFront};
pub use front::illness::{Fault, Illness, Kind};
pub use front::{S3Front, Seen};
pub use node::Node;
pub use options::{EtcdLine, Options, Range, UnknownEtcdLine};
pub use process::{ManagedProcess, Signal};
pub use s3::S3;
pub use summary::{MasterSummary, StoreSummary, Summary};
pub use sweep::{Swept, sweep};
pub use testbed::Testbed;
pub use wait::wait_for;
