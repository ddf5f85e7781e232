//! The task Plan: what this master finds out about a restore. Reads etcd, the store and this host; changes nothing.
//!
//! What speaks against the restore is a finding, and no error: people read them all at once. An error is that something could
//! not be asked, and is asked again.

use std::sync::Arc;

use jiff::Timestamp;
use lifeboat_crds::finding::FindingKind;
use lifeboat_crds::manifest::Manifest;
use lifeboat_crds::restore::{AffectedVolumes, Finding, ListedMember, PlanReport, PlannedBackup};
use lifeboat_crds::signing::SignatureState;
use lifeboat_crds::{BackupId, EtcdBackupLocation, Reason, Time, label, whole_seconds};
use lifeboat_storage::ObjectStore;
use tokio_util::sync::CancellationToken;

use super::changes::Changes;
use super::comparing::{Compared, count_changes};
use super::{PATIENCE, Request, Restorer, RestoresError};
use crate::archive::encryption::{Identities, parse_identities};
use crate::etcd::status::{MemberStatus, fetch_member};
use crate::host::fingerprint::{Fingerprints, read_fingerprints};
use crate::manifest::{FoundManifest, Manifests};
use crate::restoring::RestoringError;
use crate::restoring::sealing::refuse_while_something_waits;
use crate::restoring::site::Site;

/// Where API servers keep their objects, unless told otherwise.
const ETCD_PREFIX: &str = "/registry";

/// What the findings follow from. Pure.
#[derive(Debug)]
pub struct Seen<'a> {
    /// UID of the cluster whose backups may be restored here.
    pub cluster: &'a str,
    /// This cluster's own.
    pub own_cluster: &'a str,
    /// The manifest as found.
    pub found: &'a FoundManifest,
    /// The backup that the plan names.
    pub planned: &'a PlannedBackup,
    /// SHA-256 that a human named as trusted.
    pub trusted: Option<&'a str>,
    /// What its etcd says.
    pub live: &'a MemberStatus,
    /// Fingerprints of this master.
    pub fingerprints: &'a Fingerprints,
    /// Why what opens the backup cannot be used; nothing where it can, or is not needed.
    pub identity: Option<String>,
    /// Whether something opens it.
    pub has_identity: bool,
    /// What waits on this master, in words.
    pub busy: Option<String>,
    /// Why the location cannot be reached without the API server.
    pub needs_api: Option<String>,
}

/// What speaks against the restore, or is to be known.
pub fn findings(seen: &Seen<'_>) -> Vec<Finding> {
    use FindingKind as Kind;
    let Seen { cluster, own_cluster, found, planned, trusted, live, fingerprints, .. } = seen;
    let FoundManifest { manifest, signature } = found;
    let mut findings = Vec::new();
    let mut find = |kind, words: String| findings.push(Finding::new(kind, words));
    let sha256 = manifest.snapshot.sha256.as_str();
    if manifest.cluster.uid != *cluster || *sha256 != planned.sha256 {
        find(
            Kind::Untrusted,
            "the manifest in the location is not the one that this cluster knows of: look at who writes there"
                .to_owned(),
        );
    }
    if cluster != own_cluster {
        find(
            Kind::AllowedOtherCluster,
            format!(
                "the backup is of another cluster, {cluster}, as annotation {} allows: its nodes, secrets and certificates come \
                 along",
                label::ALLOW_OTHER_CLUSTER
            ),
        );
    }
    match (signature, *trusted == Some(sha256)) {
        (SignatureState::Valid(_), _) => {}
        (SignatureState::Invalid, _) => {
            find(Kind::Untrusted, "the manifest was altered after it was signed: use another backup".to_owned());
        }
        (SignatureState::Unsigned | SignatureState::Unknown(_), true) => {
            find(
                Kind::TrustedByHand,
                format!("no key that is known here signed the manifest; {sha256} is trusted by annotation"),
            );
        }
        (SignatureState::Unsigned | SignatureState::Unknown(_), false) => find(
            Kind::Untrusted,
            format!(
                "no key that is known here signed the manifest: put the public key of whoever made it on the masters, or, if \
                 you are sure of this very snapshot, set annotation {}: {sha256}",
                label::TRUST
            ),
        ),
    }
    if manifest.snapshot.content_hash.is_none() || manifest.snapshot.revision.is_none() {
        find(Kind::NeverVerified, "the backup was taken without verification: use another one".to_owned());
    }
    match (&seen.identity, seen.has_identity, manifest.archive.recipients.is_empty()) {
        (Some(words), ..) => find(Kind::NoIdentity, words.clone()),
        (None, false, false) => find(
            Kind::NoIdentity,
            "the backup is encrypted: say in spec.cluster.decryption where its age identity is".to_owned(),
        ),
        (None, true, _) | (None, false, true) => {}
    }
    if let Some(words) = &seen.busy {
        find(Kind::MasterBusy, words.clone());
    }
    if let Some(words) = &seen.needs_api {
        find(Kind::NeedsApi, words.clone());
    }
    let names = |names: &mut dyn Iterator<Item = &str>| {
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names.join(", ")
    };
    let now = names(&mut live.members.iter().map(|member| member.name.as_str()));
    let then = names(&mut manifest.cluster.members.iter().map(|member| member.name.as_str()));
    if now != then {
        find(
            Kind::MembersDiffer,
            format!("members were {then} at the time of the backup; restored are those of now, {now}"),
        );
    }
    let differ = |then: &Option<String>, now: &Option<String>| then.is_some() && now.is_some() && then != now;
    let ManifestKeys { encryption, accounts } = ManifestKeys::of(manifest);
    if differ(encryption, &fingerprints.encryption_config) {
        find(
            Kind::KeysDiffer,
            "the API server's encryption configuration is another one than at the time of the backup: without its keys of then, \
             Secrets cannot be read afterwards"
                .to_owned(),
        );
    }
    if differ(accounts, &fingerprints.service_account_key) {
        find(
            Kind::KeysDiffer,
            "the service-account keys are others than at the time of the backup: tokens of then are not accepted"
                .to_owned(),
        );
    }
    findings
}

struct ManifestKeys<'m> {
    encryption: &'m Option<String>,
    accounts: &'m Option<String>,
}

impl<'m> ManifestKeys<'m> {
    fn of(manifest: &'m Manifest) -> Self {
        Self {
            encryption: &manifest.cluster.encryption_config_sha256,
            accounts: &manifest.cluster.service_account_key_sha256,
        }
    }
}

impl Restorer {
    /// Finds out about a restore.
    ///
    /// # Errors
    /// Something could not be asked.
    pub async fn inspect(
        &self,
        request: &Request<'_>,
        cancel: &CancellationToken,
    ) -> Result<PlanReport, RestoresError> {
        let site = self.site().await?;
        let locations = self.locations(request).await?;
        let source = locations.source.as_ref().unwrap_or(&locations.meeting);
        let store = self.opener.open(&source.spec).await?;
        let annotation = |name: &str| request.restore.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let cluster = annotation(label::ALLOW_OTHER_CLUSTER).unwrap_or(&self.cluster_uid);
        let found = self.manifest(&store, cluster, request, cancel).await?;
        let live = self.live(&site).await?;
        let (identities, identity) = match self.identities(request).await {
            Ok(identities) => (identities, None),
            Err(words) => (None, Some(words)),
        };
        let (root, files) = (site.node.options.root.clone(), site.node.discovery().api_server.clone());
        let fingerprints = tokio::task::spawn_blocking(move || read_fingerprints(&root, &files)).await;
        let busy = refuse_while_something_waits(&site).err().map(|error| error.to_string());
        let seen = Seen {
            cluster,
            own_cluster: &self.cluster_uid,
            found: &found,
            planned: request.backup,
            trusted: annotation(label::TRUST).map(String::as_str),
            live: &live,
            fingerprints: &fingerprints.unwrap_or_default(),
            has_identity: request.cluster.decryption.is_some(),
            identity,
            busy,
            needs_api: needs_api(&locations.meeting, has_web_identity()),
        };
        let mut all = findings(&seen);
        let changes = match self.changes(&site, (&store, &found.manifest), identities, cancel).await {
            Ok(changes) => changes,
            Err(words) => {
                let words = format!("what changed since the backup could not be counted: {words}");
                all.push(Finding::new(FindingKind::NotCompared, words));
                Changes::default()
            }
        };
        let Manifest { snapshot, backup_id, start_time, cluster: of, .. } = &found.manifest;
        Ok(PlanReport {
            backup: PlannedBackup {
                backup_id: backup_id.as_str().to_owned(),
                revision: snapshot.revision.unwrap_or(0),
                time: Some(Time(whole_seconds(*start_time))),
                sha256: snapshot.sha256.clone(),
                cluster: of.uid.clone(),
                content_hash: snapshot.content_hash.clone().unwrap_or_default(),
                location: request.backup.location.clone(),
            },
            size_bytes: snapshot.size_bytes,
            etcd_version: snapshot.etcd_version.clone(),
            members: live.members.iter().map(listed).collect(),
            cluster_id: live.cluster_id.to_string(),
            revision: live.revision,
            time: Time(whole_seconds(Timestamp::now())),
            changes: changes.by_resource,
            persistent_volumes: Some(changes.volumes).filter(|volumes| *volumes != AffectedVolumes::default()),
            findings: all,
        })
    }

    async fn manifest(
        &self,
        store: &Arc<dyn ObjectStore>,
        cluster: &str,
        request: &Request<'_>,
        cancel: &CancellationToken,
    ) -> Result<FoundManifest, RestoresError> {
        let refused = |words: String| RestoresError::Because(Reason::ArchiveMissing, words);
        let id: BackupId = request
            .backup
            .backup_id
            .parse()
            .map_err(|error: lifeboat_crds::identifier::InvalidBackupId| refused(error.to_string()))?;
        let known = self.keyring.current().await.known;
        let manifests = Manifests { store: store.as_ref(), cluster, known: &known, patience: PATIENCE, cancel };
        manifests.fetch(&id).await.map_err(|error| refused(error.to_string()))
    }

    async fn live(&self, site: &Site) -> Result<MemberStatus, RestoresError> {
        let client = site.node.client().await.map_err(RestoringError::from)?;
        let status = fetch_member(&client).await;
        status.map_err(|error| RestoresError::Because(Reason::NoHealthyMember, error.to_string()))
    }

    /// What opens the backup; what is wrong with it in words.
    async fn identities(&self, request: &Request<'_>) -> Result<Option<Arc<Identities>>, String> {
        let identity = self.identity(request.cluster.decryption.as_ref()).await.map_err(|error| error.to_string())?;
        let Some(bytes) = identity else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).map_err(|_| "the identity is no text".to_owned())?;
        let parsed =
            parse_identities(text).map_err(|error| format!("the identity of spec.cluster.decryption: {error}"))?;
        Ok(Some(Arc::new(parsed)))
    }

    async fn changes(
        &self,
        site: &Site,
        (store, manifest): (&Arc<dyn ObjectStore>, &Manifest),
        identities: Option<Arc<Identities>>,
        cancel: &CancellationToken,
    ) -> Result<Changes, String> {
        let client = site.node.client().await.map_err(|error| error.to_string())?;
        let compared = Compared { store, manifest, identities };
        count_changes(compared, (&client, ETCD_PREFIX), &site.node.state_dir, cancel).await
    }
}

fn listed(member: &crate::etcd::status::Member) -> ListedMember {
    ListedMember { name: member.name.clone(), peer_urls: member.peer_urls.clone(), is_learner: member.is_learner }
}

/// Whether this process gets its keys of the store in a way that a host does not know.
fn has_web_identity() -> bool {
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Why a location cannot be reached while the API server is away.
fn needs_api(location: &EtcdBackupLocation, has_web_identity: bool) -> Option<String> {
    let s3 = location.spec.s3.as_ref()?;
    let host = s3.endpoint.as_deref().map(|url| {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or_default().to_ascii_lowercase()
    });
    let is_service =
        |host: &String| host.ends_with(".svc") || host.contains(".svc.") || host.ends_with(".cluster.local");
    if let Some(host) = host.filter(is_service) {
        return Some(format!(
            "{host} is a Service of this cluster, which nobody finds while the API is away: name a store outside"
        ));
    }
    (has_web_identity && s3.credentials_secret_ref.is_none()).then(|| {
        "the keys of the store come by web identity, from the API server: name a Secret in credentialsSecretRef"
            .to_owned()
    })
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
