//! Fills etcd with objects about as large and as compressible as those of Kubernetes.

use anyhow::{Context, Result};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::cluster::Cluster;

/// Writers at once while the database is filled.
const WRITERS: u64 = 32;
/// Bytes of a value: about an average Kubernetes object.
const VALUE: usize = 4096;

/// A value that compresses about as well as Kubernetes objects do: words from a small dictionary, and some noise.
fn value(random: &mut SmallRng) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "\"apiVersion\":\"v1\",",
        "\"metadata\":{",
        "\"labels\":{\"app\":\"",
        "\"uid\":\"",
        "\"resourceVersion\":\"",
        "containers",
        "image",
        "registry.example.org/",
        "status",
        "conditions",
        "lastTransitionTime",
        "2026-11-24T00:00:00Z",
    ];
    let mut text = Vec::with_capacity(VALUE + 64);
    while text.len() < VALUE {
        text.extend_from_slice(WORDS[random.random_range(0..WORDS.len())].as_bytes());
        if random.random_ratio(1, 3) {
            text.extend_from_slice(format!("{:016x}", random.random::<u64>()).as_bytes());
        }
    }
    text
}

/// Writes about `mib` MiB below /registry/fill/.
pub async fn fill(cluster: &Cluster, mib: u64) -> Result<()> {
    let node = &cluster.bed.nodes()[0];
    let read = |path: &str| std::fs::read(node.path(path)).with_context(|| path.to_owned());
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read("/etc/kubernetes/pki/etcd/ca.crt")?))
        .identity(Identity::from_pem(
            read("/etc/kubernetes/pki/etcd/healthcheck-client.crt")?,
            read("/etc/kubernetes/pki/etcd/healthcheck-client.key")?,
        ));
    let client =
        Client::connect([format!("https://{}:2379", node.ip)], Some(ConnectOptions::new().with_tls(tls))).await?;
    let keys = mib * 1024 * 1024 / VALUE as u64;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let mut kv = client.kv_client();
        writers.spawn(async move {
            let mut random = SmallRng::seed_from_u64(writer);
            for index in (writer..keys).step_by(WRITERS as usize) {
                kv.put(format!("/registry/fill/ns-{}/object-{index:08}", index % 97), value(&mut random), None).await?;
            }
            Ok::<_, etcd_client::Error>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}
