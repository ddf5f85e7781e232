//! The keys of this host: what it signs with and whom it believes.

use lifeboat_crds::signing::{KnownKeys, SigningKey};

/// Keys as they are now.
#[derive(Clone, Debug, Default)]
pub struct HostKeys {
    /// What manifests are signed with; without it they are written unsigned.
    pub signer: Option<SigningKey>,
    /// Keys whose signatures are believed.
    pub known: KnownKeys,
}
