//! What kind of control plane a test asks for. Plain data; the defaults are the cheapest bed that still has three members.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A minor version of etcd whose pinned build the testbed can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum EtcdLine {
    /// etcd 3.5
    #[serde(rename = "3.5")]
    V3_5,
    /// etcd 3.6, what kubeadm 1.35 ships
    #[default]
    #[serde(rename = "3.6")]
    V3_6,
    /// etcd 3.7
    #[serde(rename = "3.7")]
    V3_7,
}

impl EtcdLine {
    /// Every line, oldest first.
    pub const ALL: [Self; 3] = [Self::V3_5, Self::V3_6, Self::V3_7];

    /// `3.6`, also the name of the directory below `bin`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V3_5 => "3.5",
            Self::V3_6 => "3.6",
            Self::V3_7 => "3.7",
        }
    }

    /// The image tag put into the manifest. kubeadm chooses the flags it writes by it: before 3.6 the corruption check is experimental.
    pub(crate) const fn image_tag(self) -> &'static str {
        match self {
            Self::V3_5 => "3.5.35-0",
            Self::V3_6 => "3.6.16-0",
            Self::V3_7 => "3.7.3-0",
        }
    }
}

impl fmt::Display for EtcdLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not one of the lines in [`EtcdLine::ALL`].
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownEtcdLine(String);

impl fmt::Display for UnknownEtcdLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no etcd line {:?}; there are 3.5, 3.6 and 3.7", self.0)
    }
}

impl std::error::Error for UnknownEtcdLine {}

impl FromStr for EtcdLine {
    type Err = UnknownEtcdLine;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|line| line.name() == text).ok_or_else(|| UnknownEtcdLine(text.to_owned()))
    }
}

/// An option is out of its range; the text names the range.
#[derive(Debug, PartialEq, Eq)]
pub struct Range(&'static str);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Range {}

/// What to bring up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Part of the directory's name and of messages.
    pub name: String,
    /// Which build of etcd the members run.
    pub etcd_line: EtcdLine,
    /// Masters, hence members of etcd. 1 to 7.
    pub masters: usize,
    /// How many of the masters, counted from the first, run an API server; the manifests of the others wait in a directory that
    /// nobody follows ([`crate::Node::start_pod`] brings them in).
    pub api_servers: usize,
    /// Whether masters with an API server run the controller manager too.
    pub controller_manager: bool,
    /// Whether masters with an API server run the scheduler too.
    pub scheduler: bool,
    /// Whether etcd waits for the disk. Off, as tests on a shared disk would measure nothing but it.
    pub fsync: bool,
    /// Further flags of etcd, names without dashes and values.
    pub etcd_args: Vec<(String, String)>,
    /// Further flags of the API servers.
    pub api_server_args: Vec<(String, String)>,
    /// A snapshot that every member is restored from before it starts for the first time.
    pub database: Option<PathBuf>,
    /// Leave the directory when the testbed ends. `LIFEBOAT_TESTBED_KEEP=1` does so for every testbed.
    pub keep: bool,
    /// Where files go; must be absent or empty. Default: a directory of its own under `target/testbed/beds`.
    pub dir: Option<PathBuf>,
    /// Buckets that the S3 server has from the start.
    pub buckets: Vec<String>,
    /// Further host directories that each node gets its own of, beside those of Kubernetes, etcd and Lifeboat.
    pub node_dirs: Vec<PathBuf>,
    /// How long the start may take in all before it is an error.
    pub start_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "bed".to_owned(),
            etcd_line: EtcdLine::default(),
            masters: 3,
            api_servers: 1,
            controller_manager: true,
            scheduler: false,
            fsync: false,
            etcd_args: Vec::new(),
            api_server_args: Vec::new(),
            database: None,
            keep: false,
            dir: None,
            buckets: vec!["backups".to_owned()],
            node_dirs: Vec::new(),
            start_timeout: Duration::from_secs(90),
        }
    }
}

impl Options {
    /// The defaults under a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// [`Range`] for the first option that is out of bounds.
    pub fn check(&self) -> Result<(), Range> {
        if !(1..=7).contains(&self.masters) {
            return Err(Range("masters: 1 to 7"));
        }
        if self.api_servers > self.masters {
            return Err(Range("api_servers: at most one a master"));
        }
        if self.buckets.iter().any(|bucket| bucket.len() < 3) {
            return Err(Range("buckets: names of three characters or more"));
        }
        if self.name.is_empty() || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(Range("name: letters, digits and dashes"));
        }
        if self.node_dirs.iter().any(|dir| !dir.is_absolute()) {
            return Err(Range("node_dirs: absolute paths"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_etcd_line_reads_back_from_its_name() {
        for line in EtcdLine::ALL {
            assert_eq!(line.to_string().parse::<EtcdLine>(), Ok(line));
            assert!(line.image_tag().starts_with(line.name()));
        }
        assert!("3.4".parse::<EtcdLine>().is_err());
    }

    #[test]
    fn options_out_of_range_are_refused() {
        assert_eq!(Options::default().check(), Ok(()));
        assert!(Options { masters: 0, ..Options::default() }.check().is_err());
        assert!(Options { masters: 8, ..Options::default() }.check().is_err());
        assert!(Options { api_servers: 4, ..Options::default() }.check().is_err());
        assert!(Options { buckets: vec!["ab".to_owned()], ..Options::default() }.check().is_err());
        assert!(Options::named("../x").check().is_err());
        assert!(Options { node_dirs: vec!["var/x".into()], ..Options::default() }.check().is_err());
    }
}
