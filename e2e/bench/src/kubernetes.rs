//! What an API server writes into etcd, made up: the same seed gives the same changes in the same order. Pure.
//!
//! Keys lie below `/registry/bench/`, a group of no API server, so that the testbed's own lists none of them. Sizes and shapes
//! follow a cluster in use: pods written several times, leases and nodes written for ever, events that come and go, Secrets
//! that do not compress, and a compaction from time to time.

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::object::{EVENT, Object, custom_resource, helm_release, labels, spec_of_pod, status_of_pod};

/// Counts up when the same seed gives other changes than before.
pub const VERSION: u32 = 1;

/// Nodes of the cluster, each with a lease.
const NODES: u32 = 150;
/// Nodes whose status is written in the time that one namespace takes.
const REPORTING_NODES: u32 = 12;
/// Pods of a namespace.
const PODS: u32 = 24;
/// Events of a namespace.
const EVENTS: u32 = 60;
/// Namespaces after which events of one are gone, as after their hour.
const EVENT_LIFE: usize = 40;
/// Namespaces between two compactions, each to where the one before began: the API server's five minutes.
const COMPACTION_EVERY: u32 = 50;
/// One in so many namespaces ends when its events do.
const NAMESPACES_THAT_END: u32 = 9;

/// One thing that is done to the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key is written.
    Put(String, Vec<u8>),
    /// A key is deleted.
    Delete(String),
    /// Everything before the previous mark is compacted, and this is the next mark.
    Compact,
}

/// The life of a cluster without end, a namespace at a time.
#[derive(Debug)]
pub struct Kubernetes {
    random: SmallRng,
    namespaces: u32,
    ready: VecDeque<Change>,
    /// Keys of each namespace of late: those of its events, and those of all else.
    recent: VecDeque<(Vec<String>, Vec<String>)>,
}

impl Kubernetes {
    /// A cluster with nothing in it yet.
    pub fn new(seed: u64) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self { random, namespaces: 0, ready: VecDeque::new(), recent: VecDeque::new() }
    }

    fn put(&mut self, key: String, object: Object) -> String {
        self.ready.push_back(Change::Put(key.clone(), object.finish()));
        key
    }

    fn next_namespace(&mut self) {
        let namespace = format!("team-{:03}-{}", self.namespaces % 997, labels(&mut self.random, 5));
        self.nodes();
        let mut kept = self.configuration(&namespace);
        kept.extend(self.workloads(&namespace));
        let events = self.events(&namespace);
        self.recent.push_back((events, kept));
        self.expire();
        self.namespaces += 1;
        if self.namespaces.is_multiple_of(COMPACTION_EVERY) {
            self.ready.push_back(Change::Compact);
        }
    }

    fn nodes(&mut self) {
        for node in 0..NODES {
            let mut object = Object::new("coordination.k8s.io/v1", "Lease", &mut self.random);
            object.text(&format!("ip-10-0-{}-{}.eu-central-1.compute.internal", node / 256, node % 256));
            object.timestamp(&mut self.random);
            self.put(format!("/registry/bench/leases/kube-node-lease/node-{node:04}"), object);
        }
        for turn in 0..REPORTING_NODES {
            let node = (self.namespaces * REPORTING_NODES + turn) % NODES;
            let mut object = Object::new("v1", "Node", &mut self.random);
            object.managed_fields(&mut self.random);
            for _ in 0..40 {
                object.image(&mut self.random);
            }
            object.conditions(&mut self.random, 5);
            self.put(format!("/registry/bench/minions/node-{node:04}"), object);
        }
    }

    fn configuration(&mut self, namespace: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for index in 0..8 {
            let mut object = Object::new("v1", "ConfigMap", &mut self.random);
            // Most are small, some are files of a program.
            let lines = if self.random.random_ratio(1, 10) { 400 } else { self.random.random_range(2..40) };
            object.settings(&mut self.random, lines);
            keys.push(self.put(format!("/registry/bench/configmaps/{namespace}/config-{index}"), object));
        }
        for index in 0..8 {
            let mut object = Object::new("v1", "Secret", &mut self.random);
            let bytes = self.random.random_range(60..4000);
            object.noise(&mut self.random, bytes);
            keys.push(self.put(format!("/registry/bench/secrets/{namespace}/secret-{index}"), object));
        }
        let release = helm_release(&mut self.random);
        keys.push(self.put(format!("/registry/bench/secrets/{namespace}/sh.helm.release.v1.app.v1"), release));
        for index in 0..4 {
            let object = custom_resource(&mut self.random);
            keys.push(
                self.put(format!("/registry/bench/monitoring.example.org/rules/{namespace}/rule-{index}"), object),
            );
        }
        keys
    }

    fn workloads(&mut self, namespace: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for index in 0..6 {
            for kind in ["Deployment", "ReplicaSet"] {
                let mut object = Object::new("apps/v1", kind, &mut self.random);
                object.managed_fields(&mut self.random);
                spec_of_pod(&mut object, &mut self.random, 2);
                object.conditions(&mut self.random, 2);
                let plural = kind.to_ascii_lowercase();
                keys.push(self.put(format!("/registry/bench/{plural}s/{namespace}/app-{index}"), object));
            }
            let mut object = Object::new("discovery.k8s.io/v1", "EndpointSlice", &mut self.random);
            object.endpoints(&mut self.random, 12);
            keys.push(self.put(format!("/registry/bench/endpointslices/{namespace}/app-{index}"), object));
        }
        for pod in 0..PODS {
            let key = format!("/registry/bench/pods/{namespace}/app-{}-{}", pod % 6, labels(&mut self.random, 10));
            // Created, bound to a node, running.
            for life in 0..3 {
                let mut object = Object::new("v1", "Pod", &mut self.random);
                object.managed_fields(&mut self.random);
                let containers = 1 + pod % 3;
                spec_of_pod(&mut object, &mut self.random, containers);
                if life > 0 {
                    status_of_pod(&mut object, &mut self.random, containers);
                }
                self.put(key.clone(), object);
            }
            keys.push(key);
        }
        keys
    }

    fn events(&mut self, namespace: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for _ in 0..EVENTS {
            let mut object = Object::new("v1", "Event", &mut self.random);
            object.managed_fields(&mut self.random);
            object.text(EVENT[self.random.random_range(0..EVENT.len())]);
            object.timestamp(&mut self.random);
            let key = format!(
                "/registry/bench/events/{namespace}/app-{}.{:016x}",
                labels(&mut self.random, 10),
                self.random.random::<u64>()
            );
            keys.push(self.put(key, object));
        }
        keys
    }

    /// What has lived its time.
    fn expire(&mut self) {
        if self.recent.len() <= EVENT_LIFE {
            return;
        }
        let Some((events, kept)) = self.recent.pop_front() else { return };
        self.ready.extend(events.into_iter().map(Change::Delete));
        if self.random.random_ratio(1, NAMESPACES_THAT_END) {
            self.ready.extend(kept.into_iter().map(Change::Delete));
        }
    }
}

impl Iterator for Kubernetes {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        while self.ready.is_empty() {
            self.next_namespace();
        }
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Enough namespaces that everything happens that can.
    const CHANGES: usize = 60_000;

    #[test]
    fn the_same_seed_gives_the_same_changes() {
        assert!(Kubernetes::new(7).take(5_000).eq(Kubernetes::new(7).take(5_000)));
        assert!(!Kubernetes::new(7).take(5_000).eq(Kubernetes::new(8).take(5_000)));
    }

    #[test]
    fn keys_are_written_again_deleted_and_compacted() {
        let (mut writes, mut deletes, mut compactions) = (BTreeMap::<String, u32>::new(), 0, 0);
        for change in Kubernetes::new(1).take(CHANGES) {
            match change {
                Change::Put(key, value) => {
                    assert!(value.len() < 200 * 1024, "{key}: {}", value.len());
                    *writes.entry(key).or_default() += 1;
                }
                Change::Delete(key) => {
                    assert!(writes.contains_key(&key), "{key} was never written");
                    deletes += 1;
                }
                Change::Compact => compactions += 1,
            }
        }
        assert!(writes["/registry/bench/leases/kube-node-lease/node-0000"] > 100);
        assert!(deletes > 1_000 && compactions > 1, "{deletes} {compactions}");
    }

    #[test]
    fn values_compress_about_as_well_as_those_of_a_cluster() {
        let mut all = Vec::new();
        for change in Kubernetes::new(1).take(CHANGES / 4) {
            if let Change::Put(_, value) = change {
                all.extend(value);
            }
        }
        let ratio = all.len() as f64 / zstd::encode_all(&all[..], 1).unwrap().len() as f64;
        assert!((3.0..6.0).contains(&ratio), "{ratio}");
    }
}
