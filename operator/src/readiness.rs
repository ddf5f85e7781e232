//! What the process still waits for: the words of `/readyz`.
//!
//! A kind that the API server does not serve yet (its CRD is not installed) answers the watch with 404, so no right to
//! read CRDs is needed to say so. No I/O.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kind::Kind;

/// How far the cache of a kind is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// Nothing was heard yet.
    Connecting,
    /// The API server does not know the kind.
    NotServed,
    /// The watch fails.
    Failing(String),
    /// Every object is known.
    Synced,
}

/// What the process still waits for.
#[derive(Debug)]
pub struct Readiness {
    caches: Mutex<BTreeMap<Kind, CacheState>>,
}

impl Default for Readiness {
    fn default() -> Self {
        let caches = Kind::ALL.iter().map(|kind| (*kind, CacheState::Connecting)).collect();
        Self { caches: Mutex::new(caches) }
    }
}

impl Readiness {
    /// Notes the state of a cache, and says whether it changed.
    ///
    /// A synced cache stays so while its watch fails for a moment: it is only somewhat old, and the API server being
    /// away is no reason to restart or replace this process.
    pub fn note(&self, kind: Kind, state: CacheState) -> bool {
        let mut caches = self.lock();
        let before = caches.get(&kind);
        let is_hiccup = matches!((before, &state), (Some(CacheState::Synced), CacheState::Failing(_)));
        if is_hiccup || before == Some(&state) {
            return false;
        }
        caches.insert(kind, state);
        true
    }

    /// What is still waited for, one line each; empty once ready.
    pub fn waits_for(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter_map(|(kind, state)| match state {
                CacheState::Synced => None,
                CacheState::Connecting => Some(format!("{kind}: waiting for the API server to list it")),
                CacheState::NotServed => Some(format!(
                    "{kind}: the API server does not serve it yet; install CRD {}.{}",
                    kind.plural(),
                    lifeboat_crds::GROUP
                )),
                CacheState::Failing(error) => Some(format!("{kind}: {error}")),
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Kind, CacheState>> {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cache_is_waited_for_until_it_is_synced() {
        let readiness = Readiness::default();
        assert_eq!(readiness.waits_for().len(), Kind::ALL.len());
        for kind in Kind::ALL {
            readiness.note(*kind, CacheState::Synced);
        }
        assert_eq!(readiness.waits_for(), Vec::<String>::new());
    }

    #[test]
    fn a_missing_crd_is_named() {
        let readiness = Readiness::default();
        assert!(readiness.note(Kind::Member, CacheState::NotServed));
        let lines = readiness.waits_for();
        assert!(lines.iter().any(|line| line.contains("etcdmembers.etcd.lifeboat.dev")), "{lines:?}");
    }

    #[test]
    fn a_watch_that_fails_for_a_moment_does_not_make_it_unready() {
        let readiness = Readiness::default();
        readiness.note(Kind::Backup, CacheState::Synced);
        assert!(!readiness.note(Kind::Backup, CacheState::Failing("reset by peer".into())));
        assert!(!readiness.waits_for().iter().any(|line| line.starts_with("EtcdBackup:")));
    }

    #[test]
    fn a_crd_that_vanishes_makes_it_unready() {
        let readiness = Readiness::default();
        readiness.note(Kind::Backup, CacheState::Synced);
        assert!(readiness.note(Kind::Backup, CacheState::NotServed));
        assert!(readiness.waits_for().iter().any(|line| line.starts_with("EtcdBackup:")));
    }
}
