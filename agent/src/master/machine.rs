//! One master with static pods, seen and acted upon. It remembers nothing but the locks that it holds and what an etcd that
//! still runs has said before: everything else lies on the disk.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lifeboat_crds::journal::Inodes;
use lifeboat_crds::mark::ServedFacts;
use lifeboat_crds::order::Order;
use lifeboat_executor::{Carried, Machine, MachineError};
use lifeboat_protocol::next::Clients;
use lifeboat_protocol::observed::{ControlPlane, Etcd, Host};
use lifeboat_protocol::{Effect, Ledger};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::alone::{fetch_served, is_tidy, tidy};
use super::pods::{ETCD, Pods};
use super::processes::{self, Process, Running};
use super::services::Services;
use super::staging::{Supply, stage_order};
use super::trees::Trees;
use crate::etcd::client::MemberClient;
use crate::host::crash_point::crash_point;
use crate::host::crashsafe;
use crate::restore_engine::exchange::check_places;
use crate::restore_engine::standstill::find_answering;

/// An API server drains its connections for half a minute; one that does not listen any more serves nobody.
const CLIENT_PATIENCE: Duration = Duration::from_secs(40);
/// etcd ends within a second or two; one that does not has its data fsynced all the same.
const ETCD_PATIENCE: Duration = Duration::from_secs(15);
/// For a process that is nobody's.
const STRANGER_PATIENCE: Duration = Duration::from_secs(5);
/// Within which a kubelet starts what it is given; what is not there then is looked for again.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// A lost member that answers does so at once.
const LOST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether something runs.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Something that trying again cannot help.
pub fn permanent(words: impl Into<String>) -> MachineError {
    MachineError { words: words.into(), is_permanent: true }
}

/// Something that may go well the next time.
pub fn failed(error: impl std::fmt::Display) -> MachineError {
    MachineError { words: error.to_string(), is_permanent: false }
}

/// Takes the backup of the state that is about to be replaced.
#[async_trait]
pub trait Safety: Send + Sync {
    /// Takes it, uploads it, proves it; says what it is.
    ///
    /// # Errors
    /// There is none.
    async fn take(&self, stop: &CancellationToken) -> Result<String, MachineError>;
}

/// A master.
pub struct StaticPods {
    /// The order.
    pub order: Order,
    /// The two data.
    pub trees: Trees,
    /// The manifests.
    pub pods: Pods,
    /// A client of this node's etcd, whichever data it serves.
    pub client: MemberClient,
    /// Where etcd and API server of this node listen.
    pub api_server: SocketAddr,
    /// Where the backup comes from.
    pub supply: Supply,
    /// The safety backup; on the author's node only.
    pub safety: Option<Box<dyn Safety>>,
    /// The host's services.
    pub services: Services,
    /// What the etcd with this process id said of itself.
    pub told: Option<(u32, ServedFacts)>,
    /// Why it says nothing, as logged last.
    pub silence: String,
}

impl std::fmt::Debug for StaticPods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticPods").field("trees", &self.trees).finish_non_exhaustive()
    }
}

impl StaticPods {
    fn file(&self, name: &str) -> PathBuf {
        self.trees.directory().root.join(name)
    }

    /// The safety backup, once it was taken.
    fn safety_file(&self) -> PathBuf {
        self.file("safety")
    }

    /// Exists once the kubelet was restarted.
    fn kubelet_file(&self) -> PathBuf {
        self.file("kubelet-restarted")
    }

    fn running(&self) -> Result<Running, MachineError> {
        processes::look(self.trees.directories()).map_err(failed)
    }

    /// What of the control plane has a manifest and what of that runs.
    fn control_plane(&self, running: &Running, etcd: Etcd) -> Result<ControlPlane, MachineError> {
        let programs = self.pods.programs().map_err(failed)?;
        let mut clients = programs.iter().filter(|program| *program != ETCD).peekable();
        if clients.peek().is_none() {
            // Nothing of it belongs to this master.
            return Ok(if etcd == Etcd::Full { ControlPlane::All } else { ControlPlane::None });
        }
        if running.clients.values().all(Vec::is_empty) {
            return Ok(ControlPlane::None);
        }
        let all = clients.all(|program| running.clients.get(program).is_some_and(|found| !found.is_empty()));
        Ok(if all { ControlPlane::All } else { ControlPlane::Some })
    }

    /// What an etcd that runs alone says. Asked once of each process: its hash at one revision does not change.
    async fn served(&mut self, process: &Process) -> Option<(ServedFacts, bool)> {
        match self.ask(process.id).await {
            Ok(answer) => Some(answer),
            Err(words) => {
                if self.silence != words {
                    tracing::info!("the restored etcd: {words}");
                    self.silence = words;
                }
                None
            }
        }
    }

    async fn ask(&mut self, id: u32) -> Result<(ServedFacts, bool), String> {
        let facts = match self.told {
            Some((known, facts)) if known == id => facts,
            Some(_) | None => fetch_served(&self.client, self.order.bump_to, self.order.members.len()).await?,
        };
        self.told = Some((id, facts));
        Ok((facts, is_tidy(&self.client).await.map_err(|error| error.to_string())?))
    }

    async fn end(&self, processes: Vec<Process>, patience: Duration, hurry_at: Option<SocketAddr>) -> Carried {
        let ended = tokio::task::spawn_blocking(move || {
            let is_deaf = |_: &Process| hurry_at.is_some_and(|address| find_answering(&[address]).is_none());
            processes::end(&processes, patience, is_deaf)
        });
        ended.await.map_err(failed)?.map_err(failed)
    }

    async fn stop_etcd(&mut self) -> Carried {
        self.pods.hold().map_err(failed)?;
        self.told = None;
        let etcd = self.running()?.etcd;
        self.end(etcd, ETCD_PATIENCE, None).await
    }

    async fn start_all(&mut self, known: Option<Inodes>) -> Carried {
        self.trees.release_placed(known).map_err(failed)?;
        if self.pods.has_other_etcd().map_err(failed)? {
            // The one that the kubelet is given next listens at the same addresses: started beside this one it fails, and a kubelet tries
            // again ten seconds later.
            self.stop_etcd().await?;
        }
        if self.pods.start_all().map_err(failed)? {
            // As for an etcd that is started alone. It has seen no API server of the data that is in place now: once is enough.
            self.restart_kubelet().await?;
        }
        self.wait_until(|running| {
            let etcd = if running.etcd.is_empty() { Etcd::Stopped } else { Etcd::Full };
            Ok(etcd == Etcd::Full && self.control_plane(running, etcd)? == ControlPlane::All)
        })
        .await
    }

    /// Gives the kubelet time to start what it was given. What does not run then is seen by the next look.
    async fn wait_until(&self, is_there: impl Fn(&Running) -> Result<bool, MachineError> + Send) -> Carried {
        let begun = Instant::now();
        while begun.elapsed() < START_PATIENCE && !is_there(&self.running()?)? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    async fn start_alone(&mut self, clients: Clients, known: Option<Inodes>) -> Carried {
        self.trees.release_placed(known).map_err(failed)?;
        self.pods.start_alone(clients).map_err(failed)?;
        // A kubelet that was told of a manifest while it stops that very pod waits long before it starts it anew.
        self.services.restart_kubelet().await.map_err(failed)?;
        self.wait_until(|running| Ok(!running.etcd.is_empty())).await
    }

    async fn restart_kubelet(&self) -> Carried {
        self.services.restart_kubelet().await.map_err(failed)?;
        crashsafe::replace(&self.kubelet_file(), b"", 0o600).map_err(failed)
    }

    async fn take_safety(&self, stop: &CancellationToken) -> Carried {
        let Some(safety) = &self.safety else {
            return Err(permanent("only the author of the order takes the safety backup"));
        };
        let taken = safety.take(stop).await?;
        crashsafe::replace(&self.safety_file(), taken.as_bytes(), 0o600).map_err(failed)
    }

    async fn stage(&self, stop: &CancellationToken) -> Carried {
        check_places(self.trees.place()).map_err(|error| permanent(error.to_string()))?;
        stage_order(&self.supply, &self.order, (self.trees.place(), self.trees.directory()), stop).await?;
        if stop.is_cancelled() {
            return Ok(());
        }
        self.trees.mark_proven().map_err(failed)
    }
}

#[async_trait]
impl Machine for StaticPods {
    async fn look(&mut self, journal: &Ledger) -> Result<Host, MachineError> {
        let laid = self.trees.look(journal.inodes).map_err(failed)?;
        let running = self.running()?;
        let (is_alone, followed) = (self.pods.is_alone(), self.pods.followed().map_err(failed)?);
        let etcd = match running.etcd.first() {
            None => Etcd::Stopped,
            Some(_) if is_alone => Etcd::Alone,
            Some(_) => Etcd::Full,
        };
        let served = match running.etcd.first() {
            Some(process) if etcd == Etcd::Alone => self.served(&process.clone()).await,
            Some(_) | None => None,
        };
        Ok(Host {
            control_plane: self.control_plane(&running, etcd)?,
            etcd,
            held: !followed.clients && (!followed.etcd || is_alone),
            manifests_saved: self.pods.is_saved(),
            locks: self.trees.locks(),
            strangers: !running.strangers.is_empty(),
            placed: laid.placed,
            placed_cluster: laid.cluster,
            staging: laid.staging,
            inodes: laid.inodes,
            safety_taken: self.safety_file().try_exists().map_err(failed)?,
            served: served.map(|(facts, _)| facts),
            tidy: served.is_some_and(|(_, is_tidy)| is_tidy),
            kubelet_restarted: self.kubelet_file().try_exists().map_err(failed)?,
        })
    }

    async fn carry(&mut self, effect: Effect, journal: &Ledger, stop: &CancellationToken) -> Carried {
        crash_point(format_args!("Before({effect:?})"));
        let carried = self.carry_out(effect, journal.inodes, stop).await;
        if carried.is_ok() {
            crash_point(format_args!("After({effect:?})"));
        }
        carried
    }

    async fn lost_answers(&mut self) -> bool {
        let asked = self.order.lost.iter().map(|member| answers(&member.peer_url));
        futures::future::join_all(asked).await.into_iter().any(|answers| answers)
    }
}

impl StaticPods {
    async fn carry_out(&mut self, effect: Effect, known: Option<Inodes>, stop: &CancellationToken) -> Carried {
        match effect {
            Effect::Stage => self.stage(stop).await,
            Effect::DiscardStaging => self.trees.discard(known).map_err(failed),
            Effect::TakeSafetyBackup => self.take_safety(stop).await,
            Effect::SaveManifests => self.pods.save().map_err(failed),
            Effect::Hold => self.pods.hold().map_err(failed),
            Effect::StopControlPlane => {
                let clients = self.running()?.clients.into_values().flatten().collect();
                self.end(clients, CLIENT_PATIENCE, Some(self.api_server)).await
            }
            Effect::StopEtcd => self.stop_etcd().await,
            Effect::EndStrangers => self.end(self.running()?.strangers, STRANGER_PATIENCE, None).await,
            Effect::TakeLocks => self.trees.lock_both(known).map_err(failed),
            Effect::LockOld => self.trees.lock_old(known).map_err(failed),
            Effect::Exchange { tree, to } => self.trees.exchange(tree, to, known).map_err(failed),
            Effect::StartAlone { clients } => self.start_alone(clients, known).await,
            Effect::Tidy => tidy(&self.client).await.map_err(failed),
            Effect::StartAll => self.start_all(known).await,
            Effect::RestartKubelet => self.restart_kubelet().await,
        }
    }
}

async fn answers(peer_url: &str) -> bool {
    let Some((_, address)) = peer_url.split_once("://") else { return false };
    let connecting = TcpStream::connect(address.trim_end_matches('/').to_owned());
    matches!(tokio::time::timeout(LOST_ANSWERS_WITHIN, connecting).await, Ok(Ok(_)))
}
