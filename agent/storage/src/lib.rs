//! Where archives go: one trait, [`ObjectStore`], and the stores behind it.
//!
//! S3 and directories for production, memory and a faulty wrapper for tests; [`conformance`] holds all of them to the
//! same behaviour. This crate does I/O to the store only: it never reads Kubernetes objects, the environment (apart from
//! the SDK's own credential chain) or etcd, and no error or description it makes may carry a credential.

pub mod conformance;
mod directory;
mod error;
mod faulty;
mod key;
mod listing;
mod memory;
mod probe;
mod retry;
mod s3;
mod store;
mod upload;

pub use directory::{DIRECTORY_RESERVE_PERCENT, DirectoryStore};
pub use error::{ErrorClass, StoreError};
pub use faulty::{Fault, FaultyStore, Operation};
pub use key::{KeyError, ObjectKey};
pub use memory::MemoryStore;
pub use probe::{Creation, create_once, probe_conditional_create};
pub use retry::{RetryPolicy, retry};
pub use s3::{Checksums, Credentials, ObjectLock, ObjectLockMode, S3Config, S3Store, ServerSideEncryption, Timeouts};
pub use store::{
    Checksum, ListCursor, ListPage, ListRequest, ListedObject, ObjectBody, ObjectMeta, ObjectStore, ObjectStream, Put,
    PutMode,
};
pub use upload::{Part, PartReceipt, PendingUpload, Upload};
