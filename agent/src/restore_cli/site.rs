//! This master, as `lifeboat restore` knows it: discovered also while its manifests are held, with the directory of restores.

use std::path::{Path, PathBuf};

use lifeboat_crds::NodeName;
use lifeboat_executor::{RestoreDirectory, find_restores};

use super::RestoreCliError;
use crate::host::discovery::Platform;
use crate::host::files::{HostOptions, read_facts};
use crate::master::pods::Pods;
use crate::node_cli::{Node, NodeArguments};
use crate::restore_engine::layout::Place;

/// Flags that say where things are.
#[derive(Clone, Debug, clap::Args)]
pub struct SiteArguments {
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

/// This master.
#[derive(Debug)]
pub struct Site {
    /// As discovered: from what the kubelet follows, or from the copies of a restore that holds it.
    pub node: Node,
    /// etcd's directories.
    pub place: Place,
    /// Its name in orders: that of its member.
    pub name: NodeName,
    /// What the kubelet follows.
    pub followed: PathBuf,
    /// Flags as they were given, for the executor.
    pub given: NodeArguments,
}

impl Site {
    /// `<dataDir>/lifeboat`.
    pub fn lifeboat(&self) -> PathBuf {
        self.place.own_directory()
    }

    /// Where a restore of this master lies.
    pub fn restore(&self, id: &lifeboat_crds::order::RestoreId) -> RestoreDirectory {
        RestoreDirectory::of(&self.lifeboat(), id)
    }

    /// The static pods, with their copies beside a restore's journal.
    pub fn pods(&self, directory: &RestoreDirectory) -> Pods {
        Pods::new(self.followed.clone(), directory.root())
    }
}

/// Discovers this master. Where a restore holds its manifests, their copies are read in their place.
///
/// # Errors
/// It is not understood well enough for a restore.
pub async fn find_site(arguments: SiteArguments) -> Result<Site, RestoreCliError> {
    let SiteArguments { node: given } = arguments;
    let options = given.options();
    let facts = read_facts(&options.root, options.manifest_dir.as_deref());
    let followed = options.root.resolve(&facts.manifest_dir);
    let node = Node::discover(given.clone()).await?;
    let found = match node.place() {
        Ok(place) => (node, place),
        // What cannot be found among what the kubelet follows may be held.
        Err(error) => match find_held(&given, &options, &followed).await? {
            Some(found) => found,
            None => return Err(error.into()),
        },
    };
    let (node, place) = found;
    match node.discovery().platform {
        Platform::StaticPods => {}
        platform => {
            return Err(RestoreCliError::Refused(format!(
                "masters of platform {} are not restored by this command yet: see `lifeboat etcd restore --help`",
                platform.as_str()
            )));
        }
    }
    let name = NodeName(place.own.name.clone());
    Ok(Site { node, place, name, followed, given })
}

/// Looks where etcd's data lies unless somebody said otherwise; its directory of restores tells the rest.
async fn find_held(
    given: &NodeArguments,
    options: &HostOptions,
    followed: &Path,
) -> Result<Option<(Node, Place)>, RestoreCliError> {
    let data_dir = options.overrides.data_dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/etcd"));
    let lifeboat = options.root.resolve(&data_dir).join("lifeboat");
    for (_, directory) in find_restores(&lifeboat)?.into_iter().rev() {
        let pods = Pods::new(followed.to_owned(), directory.root());
        if !pods.is_saved() {
            continue;
        }
        let node = Node::discover(given.with_manifests(pods.saved())).await?;
        if let Ok(place) = node.place() {
            return Ok(Some((node, place)));
        }
    }
    Ok(None)
}
