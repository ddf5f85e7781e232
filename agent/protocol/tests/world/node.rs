//! One master.

use lifeboat_protocol::hand::Word;
use lifeboat_protocol::ledger::Ledger;
use lifeboat_protocol::next::Effect;
use lifeboat_protocol::observed::{ControlPlane, Etcd, Failure, Host, Lies, Locks, Placed, Staging};

/// One master.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub up: bool,
    /// Which of two drafts it sealed.
    pub sealed: Option<u8>,
    /// Its journal; in the data volume.
    pub ledger: Ledger,
    pub host: Host,
    /// The etcd that runs alone takes foreign clients.
    pub open: bool,
    /// It cannot reach the store.
    pub cut: bool,
    pub cancel: bool,
    pub release: bool,
    /// A human asked for its journal.
    pub asked: bool,
    /// What a human told it last.
    pub word: Option<Word>,
    /// A start that was decided and takes its time.
    pub starting: Option<Effect>,
    /// What was tried last and failed.
    pub failure: Option<Failure>,
    /// What can never be done on this node.
    pub never: Option<Effect>,
    /// Its last write to the store came to nothing.
    pub refused: bool,
    /// It has nothing left to do, so its executor was removed.
    pub gone: bool,
    /// An API server came up by itself.
    pub meddled: bool,
    /// A stray process holds the lock of the old data.
    pub stray_holds: bool,
    /// Its executor died, and nobody has held the old lock since.
    pub unlocked: bool,
    /// Its data volume was replaced.
    pub new_disk: bool,
    /// A lost master that joined the restored cluster.
    pub rejoined: bool,
    /// Somebody turned a lost master on.
    pub powered: bool,
    /// Restores it began.
    pub seals: u8,
    /// It had the new data in place at some time.
    pub was_prepared: bool,
    /// It started API server and etcd on the new data.
    pub went_forward: bool,
    /// It put the old data back, or started everything on it after it had stopped.
    pub went_back: bool,
}

impl Node {
    pub fn new(takes_part: bool, separate_wal: bool) -> Self {
        let etcd = if takes_part { Etcd::Full } else { Etcd::Stopped };
        let wal = separate_wal.then_some(Lies::Old);
        Self {
            up: takes_part,
            sealed: None,
            ledger: Ledger::default(),
            host: Host {
                control_plane: if takes_part { ControlPlane::All } else { ControlPlane::None },
                etcd,
                held: false,
                manifests_saved: false,
                locks: Locks::default(),
                strangers: false,
                placed: Placed { member: Lies::Old, wal },
                placed_cluster: None,
                staging: Staging::Absent,
                inodes: None,
                safety_taken: false,
                served: None,
                tidy: false,
                kubelet_restarted: false,
            },
            open: false,
            cut: false,
            cancel: false,
            release: false,
            asked: false,
            word: None,
            starting: None,
            failure: None,
            never: None,
            refused: false,
            gone: false,
            meddled: false,
            stray_holds: false,
            unlocked: false,
            new_disk: false,
            rejoined: false,
            powered: false,
            seals: 0,
            was_prepared: false,
            went_forward: false,
            went_back: false,
        }
    }

    /// Its executor is there and looks.
    pub fn is_awake(&self) -> bool {
        self.up && self.sealed.is_some() && self.starting.is_none() && !self.gone
    }
}
