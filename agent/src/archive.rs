//! From etcd's stream to an object in the store: one pass, in bounded memory, nothing kept unless every byte was proven.
//!
//! `transfer` ties the stages together; `encode` compresses, encrypts (`encryption`) and
//! cuts into parts; `spool` holds parts that the store has
//! not taken yet; `part_size` says how large they are. Knows nothing of Kubernetes and writes no manifest.

pub mod encode;
pub mod encryption;
pub mod part_size;
pub mod progress;
pub mod read;
pub mod scratch;
pub mod spool;
pub mod transfer;
