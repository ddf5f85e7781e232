//! `lifeboat etcd-pod -- etcd …`: runs etcd as its child, and obeys the control files in the root of its data volume.
//!
//! `restore.db` at start: restore before etcd runs. `command`: rejoin from the quorum. Otherwise out of the way: signals go
//! through, orphans are reaped, the exit code is etcd's. Never starts etcd without data as a new cluster unless it is told.

pub mod command_file;
pub mod guard;
pub mod manifest_edit;
pub mod settings;
pub mod supervise;
pub mod work;
