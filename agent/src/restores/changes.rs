//! What changed since a backup, by resource: the keys of the snapshot beside those that etcd has now. Pure.
//!
//! A cluster has hundreds of thousands of keys, and an agent little memory: of each key of the snapshot a hash, the revision and
//! a number for its resource are kept, 24 bytes. Names are kept of persistent volumes alone, because people must act on those.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;

use lifeboat_crds::restore::{AffectedVolumes, ResourceChanges};
use lifeboat_snapshot::KeyVersion;

/// The resource whose objects are named.
const VOLUMES: &str = "persistentvolumes";
/// As many as the schema takes.
const MOST: usize = 500;

#[derive(Clone, Copy, Debug)]
struct Known {
    resource: u32,
    revision: i64,
}

/// What was in the snapshot.
#[derive(Debug, Default)]
pub struct Baseline {
    prefix: String,
    hasher: RandomState,
    keys: HashMap<u64, Known>,
    resources: Vec<String>,
    numbers: HashMap<String, u32>,
    volumes: BTreeMap<u64, String>,
}

/// What came of the comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// By resource, in the order of their names.
    pub by_resource: Vec<ResourceChanges>,
    /// Persistent volumes.
    pub volumes: AffectedVolumes,
}

/// Where in etcd an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parsed<'k> {
    group: Option<&'k str>,
    resource: &'k str,
    name: &'k str,
}

/// Reads a key: `<prefix>/<resource>/…`, of the old APIs under other names, of custom resources `<prefix>/<group>/<resource>/…`.
fn parse<'k>(prefix: &str, key: &'k [u8]) -> Option<Parsed<'k>> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(prefix)?.strip_prefix('/')?;
    let (first, rest) = rest.split_once('/')?;
    let parsed = |group, resource, name| Some(Parsed { group, resource, name });
    match (first, rest.split_once('/')) {
        ("minions", _) => parsed(None, "nodes", rest),
        ("services", Some(("specs", name))) => parsed(None, "services", name),
        ("services", Some(("endpoints", name))) => parsed(None, "endpoints", name),
        (group, Some((resource, name))) if group.contains('.') => parsed(Some(group), resource, name),
        (resource, _) => parsed(None, resource, rest),
    }
}

impl Baseline {
    /// Nothing yet; `prefix` is the API server's `--etcd-prefix`, `/registry`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: format!("/{}", prefix.trim_matches('/')), ..Self::default() }
    }

    /// Takes the next version of a key, in the order of revisions.
    pub fn take(&mut self, version: KeyVersion<'_>) {
        let KeyVersion { key, mod_revision, is_tombstone } = version;
        let hash = self.hasher.hash_one(key);
        if is_tombstone {
            self.keys.remove(&hash);
            self.volumes.remove(&hash);
            return;
        }
        let Some((resource, name)) = self.resource_of(key) else { return };
        self.keys.insert(hash, Known { resource, revision: mod_revision });
        if let Some(name) = name {
            self.volumes.insert(hash, name);
        }
    }

    /// Whether nothing of an API server was in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The number of a key's resource, and the name of a volume.
    fn resource_of(&mut self, key: &[u8]) -> Option<(u32, Option<String>)> {
        let Parsed { group, resource, name } = parse(&self.prefix, key)?;
        let full = group.map_or_else(|| resource.to_owned(), |group| format!("{resource}.{group}"));
        let name = (full == VOLUMES).then(|| name.to_owned());
        let next = u32::try_from(self.resources.len()).ok()?;
        let number = *self.numbers.entry(full.clone()).or_insert(next);
        if number == next {
            self.resources.push(full);
        }
        Some((number, name))
    }

    /// Compares with the keys that etcd has now.
    pub fn compare(self) -> Comparison {
        Comparison { counts: Vec::new(), missing_after: Vec::new(), baseline: self }
    }
}

/// A comparison that goes on.
#[derive(Debug)]
pub struct Comparison {
    baseline: Baseline,
    /// Created, deleted, modified, by number of resource.
    counts: Vec<[i64; 3]>,
    missing_after: Vec<String>,
}

impl Comparison {
    /// Takes a key that etcd has now.
    pub fn take(&mut self, key: &[u8], mod_revision: i64) {
        let hash = self.baseline.hasher.hash_one(key);
        match self.baseline.keys.remove(&hash) {
            Some(Known { resource, revision }) => {
                self.baseline.volumes.remove(&hash);
                if revision != mod_revision {
                    self.count(resource, 2);
                }
            }
            None => {
                let Some((resource, name)) = self.baseline.resource_of(key) else { return };
                self.count(resource, 0);
                self.missing_after.extend(name);
            }
        }
    }

    fn count(&mut self, resource: u32, kind: usize) {
        let index = resource as usize;
        if self.counts.len() <= index {
            self.counts.resize(index + 1, [0; 3]);
        }
        if let Some(count) = self.counts.get_mut(index).and_then(|counts| counts.get_mut(kind)) {
            *count += 1;
        }
    }

    /// All keys were taken: what is left of the snapshot was deleted since.
    pub fn finish(mut self) -> Changes {
        let left: Vec<u32> = self.baseline.keys.values().map(|known| known.resource).collect();
        for resource in left {
            self.count(resource, 1);
        }
        let named = self.baseline.resources.into_iter().zip(self.counts);
        let mut by_resource: Vec<ResourceChanges> = named
            .filter(|(_, counts)| counts.iter().any(|count| *count > 0))
            .map(|(resource, [created, deleted, modified])| ResourceChanges { resource, created, deleted, modified })
            .collect();
        by_resource.sort_by(|one, other| one.resource.cmp(&other.resource));
        by_resource.truncate(MOST);
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names.truncate(MOST);
            names
        };
        let volumes = AffectedVolumes {
            missing_after: sorted(self.missing_after),
            reappear: sorted(self.baseline.volumes.into_values().collect()),
        };
        Changes { by_resource, volumes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, mod_revision: i64) -> KeyVersion<'_> {
        KeyVersion { key: key.as_bytes(), mod_revision, is_tombstone: false }
    }

    #[test]
    fn keys_are_read_as_people_name_resources() {
        let name = |key: &str| {
            let mut baseline = Baseline::new("/registry");
            let number = baseline.resource_of(key.as_bytes())?.0;
            Some(baseline.resources[number as usize].clone())
        };
        for (key, resource) in [
            ("/registry/pods/default/web-0", "pods"),
            ("/registry/minions/master-1", "nodes"),
            ("/registry/services/specs/default/kubernetes", "services"),
            ("/registry/services/endpoints/default/kubernetes", "endpoints"),
            (
                "/registry/apiextensions.k8s.io/customresourcedefinitions/x.y",
                "customresourcedefinitions.apiextensions.k8s.io",
            ),
            ("/registry/etcd.lifeboat.dev/etcdbackups/lifeboat/a", "etcdbackups.etcd.lifeboat.dev"),
            ("/registry/masterleases/10.0.0.1", "masterleases"),
        ] {
            assert_eq!(name(key).as_deref(), Some(resource), "{key}");
        }
        for key in ["compact_rev_key", "/registry/health", "/other/pods/a", "/registryx/pods/a"] {
            assert_eq!(name(key), None, "{key}");
        }
    }

    #[test]
    fn created_deleted_and_modified_are_told_apart_and_what_was_gone_before_is_not_counted() {
        let mut baseline = Baseline::new("/registry");
        for version in [
            put("/registry/pods/a/same", 3),
            put("/registry/pods/a/changed", 4),
            put("/registry/pods/a/old", 5),
            put("/registry/pods/a/gone-before", 6),
            KeyVersion { is_tombstone: true, ..put("/registry/pods/a/gone-before", 7) },
            put("/registry/pods/a/changed", 8),
            put("/registry/persistentvolumes/back", 9),
            put("/registry/persistentvolumes/stays", 10),
            put("compact_rev_key", 11),
        ] {
            baseline.take(version);
        }
        let mut comparison = baseline.compare();
        for (key, revision) in [
            ("/registry/pods/a/same", 3),
            ("/registry/pods/a/changed", 20),
            ("/registry/pods/a/new", 21),
            ("/registry/persistentvolumes/new", 22),
            ("/registry/persistentvolumes/stays", 23),
            ("/registry/leases/kube-system/x", 24),
        ] {
            comparison.take(key.as_bytes(), revision);
        }
        let Changes { by_resource, volumes } = comparison.finish();
        let row = |resource: &str, created, deleted, modified| ResourceChanges {
            resource: resource.into(),
            created,
            deleted,
            modified,
        };
        assert_eq!(by_resource, [row("leases", 1, 0, 0), row("persistentvolumes", 1, 1, 1), row("pods", 1, 1, 1)]);
        assert_eq!(volumes, AffectedVolumes { missing_after: vec!["new".into()], reappear: vec!["back".into()] });
    }

    #[test]
    fn nothing_changed_is_nothing() {
        let mut baseline = Baseline::new("registry");
        baseline.take(put("/registry/pods/a/b", 3));
        let mut comparison = baseline.compare();
        comparison.take(b"/registry/pods/a/b", 3);
        assert_eq!(comparison.finish(), Changes::default());
    }
}
