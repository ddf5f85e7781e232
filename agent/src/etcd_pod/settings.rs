//! What the supervisor knows: its own flags, and what etcd was told on the command line and in the environment.
//!
//! Reads the environment and the list of mounts once; no other I/O.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::etcd::client::{Endpoint, TlsFiles};
use crate::host::arguments::{Arguments, parse_arguments};
use crate::host::discovery::own_endpoint;
use crate::host::static_pod::{Container, EnvValue};
use crate::restore_engine::layout::Place;
use crate::restore_engine::order::Own;

/// Runs etcd under supervision, as the entry point of its container: obeys restore.db and command in its data volume.
#[derive(Clone, Debug, clap::Args)]
pub struct PodArguments {
    /// Root of etcd's data volume, where the control files are. Without it, the mount that holds --data-dir.
    #[arg(long, value_name = "DIR")]
    volume: Option<PathBuf>,
    /// Directory of etcd's tools by minor version; those beside etcd are used where it has none.
    #[arg(long, env = "LIFEBOAT_TOOLS_DIR", default_value = "/opt/lifeboat/tools")]
    tools_dir: PathBuf,
    /// Client URL of another member, for the day on which this one has lost all it knew; may be given several times.
    #[arg(long = "endpoint", value_name = "URL")]
    endpoints: Vec<String>,
    /// Let etcd begin a new cluster where its data directory is empty. Without it that is held: a master whose disk was
    /// emptied would otherwise come up as a cluster of its own, with nothing in it.
    #[arg(long)]
    allow_new_cluster: bool,
    /// etcd and its arguments.
    #[arg(last = true, required = true)]
    etcd: Vec<OsString>,
}

/// Everything the supervisor needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// etcd's directories and its own name.
    pub place: Place,
    /// Program and arguments of etcd.
    pub line: Vec<OsString>,
    /// Directory of etcd's tools.
    pub tools_dir: PathBuf,
    /// How this node's own member is reached.
    pub own: Endpoint,
    /// Client URLs of the others, as far as flags tell.
    pub endpoints: Vec<String>,
    /// `--initial-cluster`, `name=url` each.
    pub initial_cluster: Vec<String>,
    /// Whether an empty directory may become a new cluster.
    pub may_begin_cluster: bool,
    /// Whether etcd would begin a new cluster in an empty directory.
    pub begins_cluster: bool,
}

/// Reads etcd's arguments.
///
/// # Errors
/// Something is missing that the supervisor cannot do without: words.
pub fn read_settings(arguments: PodArguments) -> Result<Settings, String> {
    let PodArguments { volume, tools_dir, endpoints, allow_new_cluster, etcd } = arguments;
    let words: Vec<String> = etcd.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let env: BTreeMap<String, EnvValue> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, EnvValue::Literal(value.into_string().ok()?))))
        .filter(|(name, _)| name.starts_with("ETCD_"))
        .collect();
    let container = Container { command: words, env, ..Container::default() };
    let told = parse_arguments(&container, Some("ETCD_"));
    if told.get("config-file").is_some() {
        return Err(
            "etcd reads a configuration file, which the supervisor cannot change for a member that joins: give etcd's \
                    settings as flags"
                .to_owned(),
        );
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = read_place(&told, volume, &mounts)?;
    let url =
        own_endpoint(&told.list("listen-client-urls")).ok_or("etcd has no --listen-client-urls to be reached at")?;
    let tls = url.starts_with("https://").then(|| choose_tls(&told)).transpose()?;
    Ok(Settings {
        place,
        line: etcd,
        tools_dir,
        own: Endpoint { url, tls },
        endpoints,
        initial_cluster: told.list("initial-cluster"),
        may_begin_cluster: allow_new_cluster,
        begins_cluster: told.get("initial-cluster-state").unwrap_or("new") != "existing",
    })
}

fn read_place(told: &Arguments, volume: Option<PathBuf>, mounts: &str) -> Result<Place, String> {
    let data_dir = told.get("data-dir").map(PathBuf::from).filter(|path| path.is_absolute());
    let data_dir = data_dir.ok_or("etcd has no absolute --data-dir")?;
    let name = told.get("name").ok_or("etcd has no --name")?.to_owned();
    let peer_urls = told.list("initial-advertise-peer-urls");
    if peer_urls.is_empty() {
        return Err("etcd has no --initial-advertise-peer-urls".to_owned());
    }
    let volume = volume.unwrap_or_else(|| mount_of(&data_dir, mounts));
    if !data_dir.starts_with(&volume) {
        return Err(format!("--data-dir {} is not in the volume {}", data_dir.display(), volume.display()));
    }
    let wal_dir = told.get("wal-dir").map(PathBuf::from);
    Ok(Place { volume, data_dir, wal_dir, own: Own { name, peer_urls } })
}

/// The mount that holds a directory; the directory itself where that is the whole file system.
fn mount_of(directory: &Path, mounts: &str) -> PathBuf {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let closest = points.filter(|point| directory.starts_with(point)).max_by_key(|point| point.components().count());
    closest.filter(|point| *point != Path::new("/")).map_or_else(|| directory.to_owned(), Path::to_owned)
}

/// kubeadm's health-check certificate beside the CA, else etcd's own, which its peers accept from it too.
fn choose_tls(told: &Arguments) -> Result<TlsFiles, String> {
    let ca = told.get("trusted-ca-file").map(PathBuf::from).ok_or("etcd has no --trusted-ca-file")?;
    let directory = ca.parent().unwrap_or(Path::new("/"));
    let health = (directory.join("healthcheck-client.crt"), directory.join("healthcheck-client.key"));
    let own = told.get("cert-file").zip(told.get("key-file")).map(|(cert, key)| (cert.into(), key.into()));
    let candidates = std::iter::once(health).chain(own);
    let found = candidates.into_iter().find(|(cert, key): &(PathBuf, PathBuf)| cert.is_file() && key.is_file());
    let (cert, key) = found.ok_or("no client certificate for etcd lies beside its --trusted-ca-file")?;
    Ok(TlsFiles { ca, cert, key })
}

impl Settings {
    /// Client URLs of the other members as the manifest lets them be guessed: their peers' hosts, with this node's own
    /// client port. Guesses do no harm: who answers there says who it is.
    pub fn endpoints_at_rest(&self) -> Vec<String> {
        let Some((scheme, rest)) = self.own.url.split_once("://") else { return Vec::new() };
        let Some((_, port)) = rest.rsplit_once(':') else { return Vec::new() };
        let hosts = self.initial_cluster.iter().filter_map(|entry| {
            let (_, url) = entry.split_once('=')?;
            let (host, _) = url.split_once("://")?.1.rsplit_once(':')?;
            (!self.place.own.peer_urls.iter().any(|own| own == url)).then(|| format!("{scheme}://{host}:{port}"))
        });
        hosts.collect()
    }

    /// etcd's command line for a member that joins: what its manifest says of the first start is overruled.
    pub fn joining(&self, initial_cluster: &str) -> Vec<OsString> {
        let overruled = ["--initial-cluster", "--initial-cluster-state", "--force-new-cluster"];
        let mut line = Vec::new();
        let mut words = self.line.iter().peekable();
        while let Some(word) = words.next() {
            let text = word.to_string_lossy();
            let text = if text.starts_with("--") { text.into_owned() } else { format!("-{text}") };
            if overruled.iter().any(|flag| text.starts_with(&format!("{flag}="))) {
                continue;
            }
            if overruled.contains(&text.as_str()) {
                let _ = words.next_if(|next| !next.to_string_lossy().starts_with('-'));
                continue;
            }
            line.push(word.clone());
        }
        line.push(format!("--initial-cluster={initial_cluster}").into());
        line.push("--initial-cluster-state=existing".into());
        line
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: PodArguments,
    }

    pub fn settings(words: &[&str]) -> Result<Settings, String> {
        let all = ["etcd-pod"].iter().chain(words);
        read_settings(Cli::try_parse_from(all).map_err(|error| error.to_string())?.arguments)
    }

    const ETCD: [&str; 8] = [
        "--volume=/data",
        "--",
        "etcd",
        "--name=m0",
        "--data-dir=/data/etcd",
        "--initial-advertise-peer-urls=https://a:2380",
        "--initial-cluster=m0=https://a:2380",
        "--listen-client-urls=http://0.0.0.0:2379",
    ];

    #[test]
    fn etcds_own_arguments_tell_everything() {
        let found = settings(&ETCD).unwrap();
        assert_eq!(found.place.volume, Path::new("/data"));
        assert_eq!(found.place.member(), Path::new("/data/etcd/member"));
        assert_eq!(found.own.url, "http://127.0.0.1:2379");
        assert!(found.begins_cluster && !found.may_begin_cluster);
    }

    #[test]
    fn a_member_that_joins_is_told_so_and_nothing_else_changes() {
        let mut words = ETCD.to_vec();
        words.extend(["--initial-cluster-state", "new", "--force-new-cluster", "-initial-cluster", "x=y", "--quota=1"]);
        let joining = settings(&words).unwrap().joining("m0=u,m1=v");
        let joining: Vec<String> = joining.into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(
            joining,
            [
                "etcd",
                "--name=m0",
                "--data-dir=/data/etcd",
                "--initial-advertise-peer-urls=https://a:2380",
                "--listen-client-urls=http://0.0.0.0:2379",
                "--quota=1",
                "--initial-cluster=m0=u,m1=v",
                "--initial-cluster-state=existing",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        for (drop, words) in [(3, "--name"), (4, "--data-dir"), (5, "peer-urls"), (7, "listen-client-urls")] {
            let mut all = ETCD.to_vec();
            all.remove(drop);
            assert!(settings(&all).unwrap_err().contains(words), "{words}");
        }
        assert!(settings(&["--volume=/other", "--", "etcd"]).is_err());
        assert!(settings(&["--volume=/data"]).is_err());
    }

    #[test]
    fn the_volume_is_the_closest_mount() {
        let mounts =
            "1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 /a /var/lib/etcd rw - ext4 x rw\n3 1 8:1 /b /var/lib rw - ext4 x rw\n";
        assert_eq!(mount_of(Path::new("/var/lib/etcd/data"), mounts), Path::new("/var/lib/etcd"));
        assert_eq!(mount_of(Path::new("/srv/etcd"), mounts), Path::new("/srv/etcd"));
    }
}
