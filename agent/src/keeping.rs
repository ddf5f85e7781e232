//! What is done with an archive after its backup: pinned, deleted, read again. Shared by the agent and the command line.
//!
//! Works on one store; knows nothing of Kubernetes. Whether something may be deleted at all is decided elsewhere; what the
//! bucket itself says against it is found here, right before.

mod data;
mod delete;
mod error;
mod pin;
mod place;
mod verify;

pub use data::{abort_uploads, is_named, remove_data};
pub use delete::{Deletion, delete_archive, finish_deletion, take_back};
pub use error::KeepError;
pub use pin::{remove_pin, write_pin};
pub use place::Place;
pub use verify::verify_archive;
