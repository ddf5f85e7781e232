//! Three masters that exist in memory: what a host does with an effect, what becomes of it when its executor is killed, and
//! one bucket for all. Journals are real files, documents are real bytes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_crds::NodeName;
use lifeboat_crds::journal::{Inodes, Record};
use lifeboat_crds::mac::RestoreKey;
use lifeboat_crds::mark::{Outcome, ServedFacts};
use lifeboat_crds::order::{EtcdClusterId, Order, OrderDigest, OrderedMember, RestoreId};
use lifeboat_crds::signing::{KnownKeys, SigningKey};
use lifeboat_executor::{
    Draft, Ended, Executor, Humans, KnownRestoreKeys, Machine, MachineError, SealOutcome, Told, Volume, seal_newest,
    start,
};
use lifeboat_protocol::next::{Effect, Tree};
use lifeboat_protocol::observed::{ControlPlane, Etcd, Host, Lies, Locks, Placed, Side, Staging, Wishes};
use lifeboat_protocol::{Ledger, Phase};
use lifeboat_storage::{FaultyStore, MemoryStore, ObjectStore};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub const OLD: EtcdClusterId = EtcdClusterId(0xabc);
pub const NEW: EtcdClusterId = EtcdClusterId(0xdef);
pub const BUMP_TO: i64 = 1_000_000_007;
pub const PLACE: &str = "uid";
const INODES: Inodes = Inodes { old_member: 1, new_member: 2, wal: None };
/// Longer than any deadline of the orders here.
const PATIENCE: Duration = Duration::from_secs(7200);

/// What lies and runs on one master; outlives its executor.
#[derive(Clone, Debug)]
pub struct Master {
    pub host: Host,
    pub wishes: Wishes,
    /// An effect that can never be done here.
    pub never: Option<Effect>,
    /// What was told, for a test that fails.
    pub told: Vec<String>,
    /// The data in place was the new one while an API server ran.
    pub served_new: bool,
    /// Starts of the new etcd before every master had it in place.
    pub started_early: bool,
}

/// All masters.
#[derive(Debug)]
pub struct World {
    masters: Mutex<Vec<Master>>,
    /// Counts everything that a kill may strike; the one that is due strikes.
    kill: Mutex<Kill>,
    struck: Notify,
    pub store: FaultyStore,
    pub disks: Vec<TempDir>,
    pub author: SigningKey,
}

#[derive(Debug, Default)]
struct Kill {
    /// Whom, and at which of its moments.
    due: Option<(usize, u64)>,
    moments: u64,
    has_struck: bool,
}

impl World {
    pub fn new(members: usize) -> Arc<Self> {
        Self::over(members, MemoryStore::new())
    }

    pub fn over(members: usize, store: impl ObjectStore + 'static) -> Arc<Self> {
        let host = Host {
            control_plane: ControlPlane::All,
            etcd: Etcd::Full,
            held: false,
            manifests_saved: false,
            locks: Locks::default(),
            strangers: false,
            placed: Placed { member: Lies::Old, wal: None },
            placed_cluster: Some(OLD),
            staging: Staging::Absent,
            inodes: None,
            safety_taken: false,
            served: None,
            tidy: false,
            kubelet_restarted: false,
        };
        let master = Master {
            host,
            wishes: Wishes::default(),
            never: None,
            told: Vec::new(),
            served_new: false,
            started_early: false,
        };
        Arc::new(Self {
            masters: Mutex::new(vec![master; members]),
            kill: Mutex::new(Kill::default()),
            struck: Notify::new(),
            store: FaultyStore::new(store),
            disks: (0..members).map(|_| tempfile::tempdir().unwrap()).collect(),
            author: SigningKey::from_seed([3; 32]),
        })
    }

    pub fn masters(&self) -> MutexGuard<'_, Vec<Master>> {
        self.masters.lock().unwrap()
    }

    pub fn shared_store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.store.clone())
    }

    /// `<dataDir>/lifeboat`
    pub fn lifeboat(&self, index: usize) -> PathBuf {
        self.disks[index].path().join("lifeboat")
    }

    pub fn known(&self) -> KnownKeys {
        let mut known = KnownKeys::default();
        known.insert(self.author.public());
        known
    }

    pub fn order(&self) -> Order {
        let members = self.disks.len();
        let member = |index: usize| OrderedMember {
            node_name: name(index),
            name: format!("m{index}"),
            peer_url: format!("https://m{index}:2380"),
            version: "3.6.16".to_owned(),
        };
        let mut order: Order = serde_json::from_value(serde_json::json!({
            "restoreId": RestoreId::new("lifeboat", "friday", 1, "ab"),
            "request": {"namespace": "lifeboat", "name": "friday", "attempt": 1, "nonce": "n", "approvalCode": ""},
            "cluster": "uid", "oldClusterId": OLD, "members": [], "lost": [], "lostQuorumAcknowledged": false,
            "backup": {"backupId": "20261124-020304-0123abcd", "cluster": "uid", "sha256": "ab", "contentHash": "cd",
                "revision": 7},
            "token": "t", "bumpTo": BUMP_TO, "author": "m0", "safety": "Required", "holdBeforeRelease": false,
            "restartKubelets": "ControlPlane", "timeouts": {"stageSeconds": 3600, "outageSeconds": 900},
            "notices": [], "loopbackApiServers": true, "coordination": PLACE, "sealedKeys": {},
            "time": "2026-11-24T02:03:04Z"
        }))
        .unwrap();
        order.members = (0..members).map(member).collect();
        approved(order)
    }

    pub fn draft(&self) -> Draft {
        Draft { order: self.order(), key: key() }
    }

    /// Strikes a master at the n-th of its moments.
    pub fn kill_at(&self, master: usize, moment: u64) {
        *self.kill.lock().unwrap() = Kill { due: Some((master, moment)), ..Kill::default() };
    }

    pub fn has_struck(&self) -> bool {
        self.kill.lock().unwrap().has_struck
    }

    /// A moment at which an executor may be killed: it never goes on from here, and is dropped.
    async fn moment(&self, master: usize) {
        let strikes = {
            let mut kill = self.kill.lock().unwrap();
            match kill.due {
                Some((due, at)) if due == master => {
                    kill.moments += 1;
                    let strikes = kill.moments == at;
                    kill.has_struck |= strikes;
                    strikes
                }
                Some(_) | None => false,
            }
        };
        if strikes {
            self.struck.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Everybody seals what `m0` orders.
    pub async fn order_and_seal(self: &Arc<Self>) -> RestoreId {
        let draft = self.draft();
        let store = self.shared_store();
        let known = self.known();
        let started = start(&self.lifeboat(0), &store, &draft, Some(&self.author), (&known, &NoKeys)).await.unwrap();
        for index in 0..self.disks.len() {
            let joined = JoinCode { key: draft.key.clone(), digest: started.digest.clone() };
            let sealed =
                seal_newest(&self.lifeboat(index), (&store, PLACE), (&known, &joined), &volume(index)).await.unwrap();
            assert!(matches!(sealed, SealOutcome::Sealed(..)), "{sealed:?}");
        }
        started.restore_id
    }

    /// Runs one executor to its end; one that is killed is started again, with its locks gone.
    pub async fn run_one(self: Arc<Self>, index: usize, id: RestoreId) -> Outcome {
        loop {
            self.masters()[index].host.locks = Locks::default();
            let hands = Hands { world: Arc::clone(&self), index };
            let executor =
                Executor::open(&self.lifeboat(index), &id, &name(index), self.shared_store(), (hands.clone(), hands));
            let stop = CancellationToken::new();
            tokio::select! {
                ended = executor.unwrap().run(&stop) => match ended.unwrap() {
                    Ended::Over(outcome) => return outcome,
                    Ended::Stopped => panic!("nobody stopped it"),
                },
                () = self.struck.notified(), if self.is_due(index) => {}
            }
        }
    }

    fn is_due(&self, index: usize) -> bool {
        self.kill.lock().unwrap().due.is_some_and(|(due, _)| due == index)
    }

    /// Runs all executors to their ends.
    pub async fn run_all(self: &Arc<Self>, id: &RestoreId) -> Vec<Outcome> {
        let all: Vec<_> =
            (0..self.disks.len()).map(|index| tokio::spawn(Arc::clone(self).run_one(index, id.clone()))).collect();
        let ended = tokio::time::timeout(PATIENCE, futures::future::join_all(all)).await;
        let Ok(ended) = ended else { panic!("it never ends: {}", self.story()) };
        ended.into_iter().map(Result::unwrap).collect()
    }

    /// All ended alike, everything runs on what that outcome promises, and nothing forbidden ever happened.
    pub fn check(&self, outcomes: &[Outcome]) -> Outcome {
        let first = outcomes[0];
        assert!(outcomes.iter().all(|outcome| *outcome == first), "{outcomes:?} {}", self.story());
        let side = match first {
            Outcome::Committed => Side::New,
            Outcome::RolledBack => Side::Old,
        };
        for master in self.masters().iter() {
            let host = master.host;
            assert!(host.placed.is(side), "{} {}", host.placed.is(Side::Old), self.story());
            assert_eq!((host.control_plane, host.etcd, host.held), (ControlPlane::All, Etcd::Full, false));
            assert!(!master.started_early, "{}", self.story());
            assert!(first == Outcome::Committed || !master.served_new, "{}", self.story());
            assert!(first == Outcome::Committed || host.staging == Staging::Absent, "nothing is left over");
        }
        first
    }

    pub fn story(&self) -> String {
        let masters = self.masters();
        let lines = masters.iter().zip(0..).flat_map(|(master, index)| {
            let from = master.told.len().saturating_sub(40);
            master.told[from..].iter().map(move |line| format!("m{index}: {line}"))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

pub fn approved(mut order: Order) -> Order {
    order.request.approval_code = order.approval_terms().code().unwrap();
    order
}

pub fn name(index: usize) -> NodeName {
    NodeName(format!("m{index}"))
}

pub fn key() -> RestoreKey {
    RestoreKey::new([7; 32])
}

pub fn volume(index: usize) -> Volume {
    Volume {
        node: name(index),
        placed_cluster: Some(OLD),
        peers: vec![format!("https://m{index}:2380")],
        rejoins: false,
    }
}

/// A node that knows no key yet.
pub struct NoKeys;

impl KnownRestoreKeys for NoKeys {
    fn key_of(&self, _: &Order, _: &OrderDigest) -> Option<RestoreKey> {
        None
    }

    fn believes(&self, _digest: &OrderDigest) -> bool {
        false
    }
}

/// A node with a join code.
pub struct JoinCode {
    pub key: RestoreKey,
    pub digest: OrderDigest,
}

impl KnownRestoreKeys for JoinCode {
    fn key_of(&self, _: &Order, digest: &OrderDigest) -> Option<RestoreKey> {
        (*digest == self.digest).then(|| self.key.clone())
    }

    fn believes(&self, digest: &OrderDigest) -> bool {
        *digest == self.digest
    }
}

/// What an executor does to a master, and hears from its humans.
#[derive(Clone)]
struct Hands {
    world: Arc<World>,
    index: usize,
}

impl Hands {
    fn does(&self, effect: Effect) {
        let mut masters = self.world.masters();
        let all_new = masters.iter().all(|master| master.host.placed.is(Side::New));
        let master = &mut masters[self.index];
        let host = &mut master.host;
        match effect {
            Effect::Stage => (host.staging, host.inodes) = (Staging::Proven, Some(INODES)),
            Effect::DiscardStaging => (host.staging, host.inodes) = (Staging::Absent, None),
            Effect::TakeSafetyBackup => host.safety_taken = true,
            Effect::SaveManifests => host.manifests_saved = true,
            Effect::Hold => host.held = true,
            Effect::StopControlPlane => host.control_plane = ControlPlane::None,
            Effect::StopEtcd => host.etcd = Etcd::Stopped,
            Effect::EndStrangers => host.strangers = false,
            Effect::TakeLocks => host.locks = Locks { old: true, new: host.staging != Staging::Absent },
            Effect::LockOld => host.locks.old = true,
            Effect::Exchange { tree: Tree::Member, to } => {
                host.placed.member = to.into();
                host.placed_cluster = Some(if to == Side::New { NEW } else { OLD });
            }
            Effect::Exchange { tree: Tree::Wal, to: _ } => panic!("there is no WAL apart"),
            Effect::StartAlone { clients: _ } => {
                host.locks.new = false;
                host.etcd = Etcd::Alone;
                master.started_early |= !all_new;
            }
            Effect::Tidy => host.tidy = true,
            Effect::StartAll => {
                host.held = false;
                (host.control_plane, host.etcd) = (ControlPlane::All, Etcd::Full);
                master.served_new |= host.placed.is(Side::New);
            }
            Effect::RestartKubelet => host.kubelet_restarted = true,
        }
    }
}

#[async_trait]
impl Machine for Hands {
    async fn look(&mut self, _: &Ledger) -> Result<Host, MachineError> {
        self.world.moment(self.index).await;
        let masters = self.world.masters();
        let serving = masters
            .iter()
            .filter(|master| master.host.placed.is(Side::New) && master.host.etcd != Etcd::Stopped)
            .count();
        let host = masters[self.index].host;
        let serves = host.etcd == Etcd::Alone && serving > masters.len() / 2;
        let facts = ServedFacts { cluster_id: NEW, revision: BUMP_TO, compact_revision: BUMP_TO, hash: 7 };
        Ok(Host { served: serves.then_some(facts), ..host })
    }

    async fn carry(&mut self, effect: Effect, _journal: &Ledger, stop: &CancellationToken) -> Result<(), MachineError> {
        self.world.moment(self.index).await;
        if self.world.masters()[self.index].never == Some(effect) {
            return Err(MachineError { words: "it cannot be done here".to_owned(), is_permanent: true });
        }
        if effect == Effect::Stage {
            // Staging takes its time, and can be called off.
            self.world.masters()[self.index].host.staging = Staging::Partial;
            tokio::select! {
                () = stop.cancelled() => {
                    return Err(MachineError { words: "called off".to_owned(), is_permanent: false });
                }
                () = tokio::time::sleep(Duration::from_secs(45)) => {}
            }
        }
        self.does(effect);
        self.world.moment(self.index).await;
        Ok(())
    }

    async fn lost_answers(&mut self) -> bool {
        false
    }
}

impl Humans for Hands {
    fn wishes(&mut self) -> Result<Wishes, MachineError> {
        Ok(self.world.masters()[self.index].wishes)
    }

    fn tell(&mut self, told: Told<'_>) {
        let line = match told {
            Told::Doing(words) => words.to_owned(),
            Told::Trouble(words) => format!("trouble: {words}"),
            Told::Ignored(words) => format!("ignored: {words}"),
            Told::Recorded(record) => format!("journal: {record:?}"),
        };
        self.world.masters()[self.index].told.push(line);
    }
}

/// The phase that a journal on a disk tells.
pub fn phase_on(lifeboat: &Path, id: &RestoreId) -> Phase {
    let path = lifeboat.join(id.as_str()).join("journal");
    let journal = lifeboat_executor::read_journal(&path).unwrap().unwrap().unwrap();
    let lifeboat_crds::journal::Journal::Entries { entries, good: _ } = journal else { panic!("another version") };
    Ledger::sum(&entries).phase()
}

/// Whether a record was told.
pub fn has_recorded(master: &Master, record: &Record) -> bool {
    master.told.contains(&format!("journal: {record:?}"))
}
