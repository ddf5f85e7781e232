//! Keys of restores that this host has: those in its restores' directories, the one that a human entered, and those that
//! follow from the installation's key.

use std::path::PathBuf;

use lifeboat_crds::mac::RestoreKey;
use lifeboat_crds::order::{Order, OrderDigest};
use lifeboat_crds::signing::SigningKey;
use lifeboat_executor::{KnownRestoreKeys, Sealed, find_restores};

use super::code::JoinCode;

/// What this host knows.
#[derive(Clone, Debug)]
pub struct HostRestoreKeys {
    /// `<dataDir>/lifeboat`.
    pub lifeboat: PathBuf,
    /// A join code, where one was entered.
    pub entered: Option<JoinCode>,
    /// The installation's key, where this host has it.
    pub signer: Option<SigningKey>,
}

/// The key of an order in the making: one that every host with the installation's key finds by itself, or, on a host without
/// one, any, which travels as the join code alone.
pub fn draw_key(signer: Option<&SigningKey>, order: &Order) -> RestoreKey {
    match signer {
        Some(signer) => RestoreKey::of_installation(signer, &order.restore_id, &order.token),
        None => RestoreKey::new(rand::random()),
    }
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
    fn key_of(&self, order: &Order, digest: &OrderDigest) -> Option<RestoreKey> {
        if let Some(code) = self.entered.as_ref().filter(|code| code.digest == *digest) {
            return Some(code.key.clone());
        }
        let sealed = self.sealed().find(|sealed| sealed.digest == *digest).map(|sealed| sealed.key);
        sealed.or_else(|| {
            let signer = self.signer.as_ref()?;
            Some(RestoreKey::of_installation(signer, &order.restore_id, &order.token))
        })
    }

    fn believes(&self, digest: &OrderDigest) -> bool {
        let is_entered = self.entered.as_ref().is_some_and(|code| code.digest == *digest);
        is_entered || self.sealed().any(|sealed| sealed.digest == *digest)
    }
}
