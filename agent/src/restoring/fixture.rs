//! A restore ordered by m0 and sealed on three masters, for tests.

use std::path::Path;
use std::sync::Arc;

use lifeboat_crds::NodeName;
use lifeboat_crds::mac::RestoreKey;
use lifeboat_crds::order::EtcdClusterId;
use lifeboat_crds::signing::KnownKeys;
use lifeboat_executor::{Draft, RestoreDirectory, SealOutcome, Sealed, Volume, seal_newest, start};
use lifeboat_storage::{MemoryStore, ObjectStore};

use super::code::JoinCode;
use super::keys::HostRestoreKeys;
use crate::restore_cli::plan;

/// A master that takes part.
pub struct Master {
    pub name: NodeName,
    pub directory: RestoreDirectory,
    pub sealed: Sealed,
}

/// Three masters below `dir`, each with the order sealed.
pub async fn masters(dir: &Path) -> Vec<Master> {
    let order = plan::tests::planned(|_, _, _| {}).order;
    let cluster = order.coordination.clone();
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let known = KnownKeys::default();
    let home = |name: &str| dir.join(name).join("lifeboat");
    let nobody = HostRestoreKeys { lifeboat: home("m0"), entered: None, signer: None };
    let draft = Draft { order, key: RestoreKey::new([7; 32]) };
    let started = start(&home("m0"), &store, &draft, None, (&known, &nobody)).await.unwrap();
    let mut masters = Vec::new();
    for name in ["m0", "m1", "m2"] {
        let code = JoinCode { key: started.key.clone(), digest: started.digest.clone() };
        let keys = HostRestoreKeys { lifeboat: home(name), entered: Some(code), signer: None };
        let volume = Volume {
            node: NodeName::from(name),
            placed_cluster: Some(EtcdClusterId(9)),
            peers: Vec::new(),
            rejoins: false,
        };
        let sealed = seal_newest(&home(name), (&store, &cluster), (&known, &keys), &volume).await.unwrap();
        let SealOutcome::Sealed(_, directory) = sealed else { panic!("{sealed:?}") };
        let sealed = directory.read(&volume.node).unwrap();
        masters.push(Master { name: volume.node, directory, sealed });
    }
    masters
}
