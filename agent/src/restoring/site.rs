//! This master, as `lifeboat restore` knows it: discovered also while its manifests are held, with the directory of restores.

use std::path::{Path, PathBuf};

use lifeboat_crds::NodeName;
use lifeboat_executor::{RestoreDirectory, find_restores};

use super::RestoringError;
use super::reach::Reach;
use crate::host::discovery::Platform;
use crate::host::files::{HostOptions, read_facts};
use crate::master::pods::Pods;
use crate::node_cli::{Node, NodeArguments};
use crate::restore_engine::layout::Place;

/// Where kubeadm puts etcd's data.
const DEFAULT_DATA_DIR: &str = "/var/lib/etcd";

/// Flags that say where things are.
#[derive(Clone, Debug, clap::Args)]
pub struct SiteArguments {
    /// The node.
    #[command(flatten)]
    node: NodeArguments,
}

impl SiteArguments {
    /// Those of a process that was told by other flags.
    pub const fn of(node: NodeArguments) -> Self {
        Self { node }
    }
}

/// This master.
#[derive(Debug)]
pub struct Site {
    /// As discovered: from what the kubelet follows, or from the copies of a restore that holds it.
    pub node: Node,
    /// etcd's directories.
    pub place: Place,
    /// The data directory as the host names it.
    pub data_dir: PathBuf,
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
pub async fn find_site(arguments: SiteArguments) -> Result<Site, RestoringError> {
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
            return Err(RestoringError::Refused(format!(
                "masters of platform {} are not restored by this command yet: see `lifeboat etcd restore --help`",
                platform.as_str()
            )));
        }
    }
    let name = NodeName(place.own.name.clone());
    let data_dir = node.discovery().data_dir.clone().unwrap_or_else(|| place.data_dir.clone());
    Ok(Site { node, place, data_dir, name, followed, given })
}

/// Looks where etcd's data lies, as told by flag, by a restore that is not over here, or by kubeadm's habit; the directory of
/// restores there tells the rest.
async fn find_held(
    given: &NodeArguments,
    options: &HostOptions,
    followed: &Path,
) -> Result<Option<(Node, Place)>, RestoringError> {
    let data_dirs = match &options.overrides.data_dir {
        Some(given) => vec![given.clone()],
        None => [Reach::data_directories(&given.state_dir), vec![DEFAULT_DATA_DIR.into()]].concat(),
    };
    let mut restores = Vec::new();
    for data_dir in data_dirs {
        let lifeboat = options.root.resolve(&data_dir).join("lifeboat");
        restores.extend(find_restores(&lifeboat)?.into_iter().rev());
    }
    for (_, directory) in restores {
        let pods = Pods::new(followed.to_owned(), directory.root());
        if !pods.is_saved() {
            continue;
        }
        // A manifest directory is told as the host names it.
        let root = options.root.resolve(Path::new("/"));
        let saved = Path::new("/").join(pods.saved().strip_prefix(root).unwrap_or(pods.saved()));
        let node = Node::discover(given.with_manifests(&saved)).await?;
        if let Ok(place) = node.place() {
            return Ok(Some((node, place)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use lifeboat_crds::order::RestoreId;

    use super::*;
    use crate::archives::file::{LocationFile, StoreKeys};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        site: SiteArguments,
    }

    /// kubeadm's manifests below a root of their own, with data where people put it.
    fn host(data_dir: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let manifests = root.path().join("etc/kubernetes/manifests");
        std::fs::create_dir_all(&manifests).unwrap();
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubeadm/v1.35");
        for name in ["etcd.yaml", "kube-apiserver.yaml"] {
            let text = std::fs::read_to_string(corpus.join(name)).unwrap();
            std::fs::write(manifests.join(name), text.replace("/var/lib/etcd", data_dir)).unwrap();
        }
        std::fs::create_dir_all(root.path().join(data_dir.trim_start_matches('/')).join("member")).unwrap();
        (root, manifests)
    }

    async fn site(root: &Path) -> Result<Site, RestoringError> {
        let (root, state) = (root.display(), root.join("state"));
        let flags = [format!("--host-root={root}"), format!("--state-dir={}", state.display())];
        find_site(Line::try_parse_from(["x".to_owned()].into_iter().chain(flags)).unwrap().site).await
    }

    #[tokio::test]
    async fn a_master_whose_manifests_are_held_is_found_wherever_its_data_is() {
        for data_dir in ["/var/lib/etcd", "/srv/etcd"] {
            let (root, manifests) = host(data_dir);
            let before = site(root.path()).await.unwrap();
            assert_eq!(before.data_dir, Path::new(data_dir));
            let id = RestoreId::new("host", "m0", 1, "00");
            let pods = before.pods(&before.restore(&id));
            pods.save().unwrap();
            let file = root.path().join("location.yaml");
            std::fs::write(&file, "spec: {directory: {mount: nfs, path: shelf}}").unwrap();
            let location = LocationFile::read(&file).unwrap();
            let reach = Reach::of(&before.node.state_dir, &id);
            reach.keep(&location.portable(&StoreKeys::none()).unwrap(), None, None, &before.data_dir).unwrap();
            pods.hold().unwrap();
            assert_eq!(std::fs::read_dir(&manifests).unwrap().count(), 0);
            let held = site(root.path()).await.unwrap();
            assert_eq!((held.place, held.name), (before.place, before.name), "{data_dir}");
        }
    }

    #[tokio::test]
    async fn where_nothing_is_held_nothing_is_found_in_place_of_the_manifests() {
        let (root, manifests) = host("/srv/etcd");
        std::fs::remove_dir_all(manifests).unwrap();
        assert_eq!(site(root.path()).await.unwrap_err().exit_code(), 4);
    }

    #[test]
    fn an_executor_is_given_every_flag_that_this_command_was_given() {
        use clap::CommandFactory;
        let flags = ["host-root", "manifest-dir", "etcd-endpoint", "etcd-ca", "etcd-cert", "etcd-key", "data-dir"];
        let flags = flags.into_iter().chain(["state-dir", "tools-dir"]);
        let line = std::iter::once("x".to_owned()).chain(flags.map(|flag| format!("--{flag}=/{flag}")));
        let site = Line::try_parse_from(line).unwrap().site;
        let given: std::collections::BTreeMap<_, _> = site.node.environment().into_iter().collect();
        for argument in Line::command().get_arguments() {
            let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else { continue };
            let flag = argument.get_long().unwrap();
            // The executor is that program: it hands over to none.
            let expected = (flag != "host-program").then(|| format!("/{flag}"));
            assert_eq!(given.get(variable), expected.as_ref(), "{variable}");
        }
    }
}
