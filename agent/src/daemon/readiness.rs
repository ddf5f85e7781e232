//! What the agent still waits for before it can work: the words of `/readyz`. No I/O.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something without which the agent cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Another agent of this host has to end first.
    HostLock,
    /// The identity of the cluster.
    ClusterId,
    /// The watch of EtcdBackups.
    Backups,
    /// The watch of EtcdBackupLocations.
    Locations,
    /// The watch of EtcdRestores.
    Restores,
    /// The EtcdMember has been written.
    Member,
}

impl Need {
    const ALL: [Self; 6] =
        [Self::HostLock, Self::ClusterId, Self::Backups, Self::Locations, Self::Restores, Self::Member];

    const fn words(self) -> &'static str {
        match self {
            Self::HostLock => "another agent of this host to end",
            Self::ClusterId => "the UID of namespace kube-system",
            Self::Backups => "the API server to list EtcdBackups",
            Self::Locations => "the API server to list EtcdBackupLocations",
            Self::Restores => "the API server to list EtcdRestores",
            Self::Member => "the API server to take this node's EtcdMember",
        }
    }
}

/// What is still waited for, with the last words about each.
#[derive(Debug)]
pub struct Readiness(Mutex<BTreeMap<Need, Option<String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new(Need::ALL.into_iter().map(|need| (need, None)).collect()))
    }
}

impl Readiness {
    /// One thing less to wait for. Stays so: an API server that is away later is no reason to replace this process.
    pub fn met(&self, need: Need) {
        self.lock().remove(&need);
    }

    /// Notes why something is not there yet.
    pub fn failing(&self, need: Need, words: &str) {
        if let Some(last) = self.lock().get_mut(&need) {
            *last = Some(words.to_owned());
        }
    }

    /// What is still waited for, one line each.
    pub fn waits_for(&self) -> Vec<String> {
        let needs = self.lock();
        let line = |(need, last): (&Need, &Option<String>)| match last {
            Some(words) => format!("waiting for {}: {words}", need.words()),
            None => format!("waiting for {}", need.words()),
        };
        needs.iter().map(line).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Need, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_met_once_is_not_waited_for_again() {
        let readiness = Readiness::default();
        readiness.failing(Need::Backups, "403");
        assert!(readiness.waits_for().iter().any(|line| line.ends_with("EtcdBackups: 403")));
        for need in Need::ALL {
            readiness.met(need);
        }
        readiness.failing(Need::Backups, "connection refused");
        assert_eq!(readiness.waits_for(), Vec::<String>::new());
    }
}
