//! Keys of restores that this host has: those in its restores' directories, and the one that a human entered.

use std::path::PathBuf;

use lifeboat_crds::mac::RestoreKey;
use lifeboat_crds::order::{Order, OrderDigest};
use lifeboat_executor::{KnownRestoreKeys, Sealed, find_restores};

use super::code::JoinCode;

/// What this host knows.
#[derive(Clone, Debug)]
pub struct HostRestoreKeys {
    /// `<dataDir>/lifeboat`.
    pub lifeboat: PathBuf,
    /// A join code, where one was entered.
    pub entered: Option<JoinCode>,
}

impl HostRestoreKeys {
    /// What is sealed here, as far as it can be read; whom it is for does not matter.
    fn sealed(&self) -> impl Iterator<Item = Sealed> {
        let here = find_restores(&self.lifeboat).unwrap_or_default();
        here.into_iter().filter_map(|(_, directory)| {
            let order = directory.read_order_alone().ok()?;
            directory.read(&order.author).ok()
        })
    }
}

impl KnownRestoreKeys for HostRestoreKeys {
    fn key_of(&self, _order: &Order, digest: &OrderDigest) -> Option<RestoreKey> {
        if let Some(code) = self.entered.as_ref().filter(|code| code.digest == *digest) {
            return Some(code.key.clone());
        }
        self.sealed().find(|sealed| sealed.digest == *digest).map(|sealed| sealed.key)
    }

    fn believes(&self, digest: &OrderDigest) -> bool {
        let is_entered = self.entered.as_ref().is_some_and(|code| code.digest == *digest);
        is_entered || self.sealed().any(|sealed| sealed.digest == *digest)
    }
}
