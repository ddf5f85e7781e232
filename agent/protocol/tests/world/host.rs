//! What hosts do with effects, whole or half, and what becomes of them in a crash and at boot.

use super::breach::Breach;
use super::cluster::World;
use super::fault::Fault;
use super::node::Node;
use super::setting::{INODES, NEW_CLUSTER, OLD_CLUSTER, Setting};
use lifeboat_crds::mark::{Outcome, Verdict};
use lifeboat_protocol::guard::{self, Boot, Guard, GuardSeen, JournalSeen, OrderFacts, OrdersSeen};
use lifeboat_protocol::ledger::{Ledger, Phase};
use lifeboat_protocol::next::{Clients, Effect, Tree};
use lifeboat_protocol::observed::{ControlPlane, Etcd, Lies, Locks, Placed, Side, Staging};

impl World {
    /// What an effect does to a host; false where it cannot be done now.
    pub fn carry(&mut self, setting: &Setting, index: usize, effect: Effect) -> bool {
        let reaches_store = self.reaches_store(index);
        let node = &mut self.nodes[index];
        let moves = matches!(
            effect,
            Effect::Exchange { tree: _, to: _ } | Effect::StartAlone { clients: _ } | Effect::StartAll
        );
        let beside_stray = node.stray_holds && moves;
        let host = &mut node.host;
        match effect {
            Effect::Stage | Effect::TakeSafetyBackup if !reaches_store => return false,
            Effect::TakeLocks | Effect::LockOld if node.stray_holds => return false,
            Effect::Stage => {
                host.staging = Staging::Proven;
                host.inodes = Some(INODES);
            }
            Effect::TakeSafetyBackup => host.safety_taken = true,
            Effect::DiscardStaging => {
                let is_old = host.placed.is(Side::Old);
                host.staging = Staging::Absent;
                host.inodes = None;
                host.locks.new = false;
                if !is_old {
                    self.breach(Breach::OldDataChanged);
                }
            }
            Effect::SaveManifests => host.manifests_saved = true,
            Effect::Hold => host.held = true,
            Effect::StopControlPlane => {
                host.control_plane = ControlPlane::None;
                node.meddled = false;
            }
            Effect::StopEtcd => {
                host.etcd = Etcd::Stopped;
                host.tidy = false;
                node.open = false;
            }
            Effect::EndStrangers => {
                host.strangers = false;
                node.stray_holds = false;
            }
            Effect::TakeLocks => {
                host.locks = Locks { old: true, new: host.staging != Staging::Absent };
                node.unlocked = false;
            }
            Effect::LockOld => {
                host.locks.old = true;
                node.unlocked = false;
            }
            Effect::Exchange { tree, to } => {
                match tree {
                    Tree::Member => host.placed.member = to.into(),
                    Tree::Wal => host.placed.wal = Some(to.into()),
                }
                let (forward, is_new) = (to == Side::New, host.placed.is(Side::New));
                node.was_prepared |= is_new;
                let reversed = forward && node.went_back;
                node.went_back |= !forward;
                if reversed {
                    self.breach(Breach::WentBackOnADecision);
                }
            }
            Effect::StartAlone { clients } => {
                host.locks.new = false;
                host.etcd = Etcd::Alone;
                node.open = clients == Clients::Configured;
                self.started(setting, index);
            }
            Effect::Tidy => host.tidy = true,
            Effect::StartAll => {
                release_lock(node);
                node.host.held = false;
                node.host.control_plane = ControlPlane::All;
                node.meddled = false;
                self.start_etcd(setting, index);
            }
            Effect::RestartKubelet => host.kubelet_restarted = true,
        }
        if beside_stray {
            self.breach(Breach::StartedBesideStray);
        }
        true
    }

    /// What is left of an effect whose executor died in the middle of it; false where that is nothing or all of it.
    pub fn carry_half(&mut self, setting: &Setting, index: usize, effect: Effect) -> bool {
        let reaches_store = self.reaches_store(index);
        let node = &mut self.nodes[index];
        match effect {
            Effect::StartAll => {
                release_lock(node);
                node.host.control_plane = ControlPlane::Some;
                self.start_etcd(setting, index);
            }
            Effect::StopControlPlane if node.host.control_plane == ControlPlane::All => {
                node.host.control_plane = ControlPlane::Some;
            }
            Effect::Stage if reaches_store && node.host.staging == Staging::Absent => {
                node.host.staging = Staging::Partial;
            }
            _ => return false,
        }
        true
    }

    fn start_etcd(&mut self, setting: &Setting, index: usize) {
        let node = &mut self.nodes[index];
        node.host.etcd = Etcd::Full;
        node.open = true;
        let was_stopped = node.ledger.quiesced_at.is_some();
        if node.host.placed.is(Side::New) {
            node.went_forward = true;
        } else if was_stopped {
            node.went_back = true;
        }
        self.started(setting, index);
    }

    /// etcd and control plane start on whatever lies in place.
    pub fn start_everything(&mut self, setting: &Setting, index: usize) {
        self.nodes[index].host.control_plane = ControlPlane::All;
        self.start_etcd(setting, index);
    }

    fn started(&mut self, setting: &Setting, index: usize) {
        let (node, ledger) = (&self.nodes[index], self.nodes[index].ledger);
        let placed = node.host.placed;
        let all_prepared = self.nodes[..setting.members].iter().all(|node| node.was_prepared);
        let (went_back, rejoined) = (node.went_back, node.rejoined);
        let may_run_old = ledger.quiesced_at.is_none()
            || ledger.left.is_some()
            || ledger.ended == Some(Outcome::RolledBack)
            || ledger.learned.is_some_and(|(verdict, _)| verdict == Verdict::Rollback);
        if !placed.is(Side::New) && !placed.is(Side::Old) {
            self.breach(Breach::HalfExchanged);
        }
        if placed.is(Side::New) && !rejoined && !all_prepared {
            self.breach(Breach::NewDataBeforeAllPrepared);
        }
        if placed.is(Side::New) && went_back {
            self.breach(Breach::WentBackOnADecision);
        }
        if placed.is(Side::Old) && !may_run_old {
            self.breach(Breach::OldDataChanged);
        }
    }

    /// What is held stops by itself: pods drain, and are not started again.
    pub fn drain(&mut self, index: usize) -> bool {
        let node = &mut self.nodes[index];
        let drains = node.up && node.host.held && !node.meddled;
        let runs = node.host.etcd == Etcd::Full || node.host.control_plane != ControlPlane::None;
        if !drains || !runs {
            return false;
        }
        node.host.control_plane = ControlPlane::None;
        if node.host.etcd == Etcd::Full {
            node.host.etcd = Etcd::Stopped;
            node.open = false;
        }
        true
    }

    /// A node loses power, or its executor dies (`only_executor`).
    pub fn crash(&mut self, index: usize, only_executor: bool) {
        let node = &mut self.nodes[index];
        node.unlocked |= node.host.locks.old;
        node.host.locks = Locks::default();
        node.starting = None;
        node.failure = None;
        node.refused = false;
        if !only_executor {
            node.up = false;
            node.stray_holds = false;
            node.meddled = false;
            node.host.strangers = false;
            node.host.tidy = false;
            node.host.control_plane = ControlPlane::None;
            node.host.etcd = Etcd::Stopped;
            node.open = false;
        }
    }

    /// A node comes up: the executor first, then whatever it does not hold.
    pub fn boot(&mut self, setting: &Setting, index: usize) {
        self.nodes[index].up = true;
        if self.nodes[index].new_disk {
            return;
        }
        match guard::may_boot(&self.nodes[index].ledger) {
            Boot::HoldAll => self.nodes[index].host.held = true,
            Boot::Clear => self.start_everything(setting, index),
        }
    }

    /// The data volume is replaced by an empty one.
    pub fn replace_disk(&mut self, index: usize) {
        self.crash(index, false);
        let node = &mut self.nodes[index];
        let host = &mut node.host;
        host.held = false;
        host.staging = Staging::Absent;
        host.inodes = None;
        host.placed = Placed { member: Lies::Old, wal: host.placed.wal.map(|_| Lies::Old) };
        node.ledger = Ledger::default();
        node.sealed = None;
        node.new_disk = true;
    }

    /// A process that somebody started by hand waits for the lock of the old data, or gets it.
    pub fn stray(&mut self, index: usize, gets_lock: bool) -> bool {
        let node = &mut self.nodes[index];
        if !gets_lock {
            let may = node.up && node.ledger.quiesced_at.is_some() && !node.host.strangers;
            node.host.strangers = true;
            return may && self.spend(Fault::Stray);
        }
        let is_over = matches!(node.ledger.phase(), Phase::Over(_));
        let is_free = !node.host.locks.old && node.host.placed.is(Side::New) && !is_over;
        if !node.host.strangers || node.stray_holds || !is_free {
            return false;
        }
        node.stray_holds = true;
        // While the executor is dead only the hold keeps others away: said in docs/restore-protocol.md, and ended by it.
        if !node.unlocked {
            self.breach(Breach::OldDataChanged);
        }
        true
    }

    /// What the guard of a lost master says.
    pub fn guard(&self, setting: &Setting, index: usize) -> Guard {
        let own = if self.nodes[index].host.placed.is(Side::New) { NEW_CLUSTER } else { OLD_CLUSTER };
        let order = OrderFacts {
            old_cluster: OLD_CLUSTER,
            names_me_lost: true,
            decision: self.bucket.decision,
            journal: JournalSeen::None,
        };
        let orders = [order];
        let answers = |node: &&Node| node.up && node.host.etcd != Etcd::Stopped;
        let cluster = |node: &Node| if node.host.placed.is(Side::New) { NEW_CLUSTER } else { OLD_CLUSTER };
        let peers: Vec<_> = self.nodes[..setting.members].iter().filter(answers).map(cluster).collect();
        let orders = if self.reaches_store(index) {
            OrdersSeen::Answers(if self.bucket.order.is_some() { &orders } else { &[] })
        } else {
            OrdersSeen::Silent(guard::STORE_PATIENCE)
        };
        guard::decide_guard(&GuardSeen { own_cluster: Some(own), orders, peers: &peers, ended_by_hand: false })
    }
}

fn release_lock(node: &mut Node) {
    let is_new = node.host.placed.is(Side::New);
    if is_new {
        node.host.locks.new = false;
    } else {
        node.host.locks.old = false;
    }
}
