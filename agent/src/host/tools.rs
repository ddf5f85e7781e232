//! etcd's own tools on this host, one directory a minor version, as the DaemonSet installs them. Reads and asks; never
//! runs a tool on data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use tokio::process::Command;

/// A tool that does not tell its version in this time is not counted.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A minor version of etcd, `3.6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Minor {
    major: u16,
    minor: u16,
}

impl Minor {
    /// The oldest whose tools are shipped.
    pub const OLDEST: Self = Self { major: 3, minor: 5 };

    /// Reads `3.6`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// Reads the beginning of a whole version, `3.6.16` or `v3.6.16-rc.0`.
    pub fn of_version(version: &str) -> Option<Self> {
        let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
        Some(Self { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }

    /// The one that follows.
    pub const fn next(self) -> Self {
        Self { major: self.major, minor: self.minor + 1 }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<Minor> for String {
    fn from(minor: Minor) -> Self {
        minor.to_string()
    }
}

impl TryFrom<String> for Minor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no minor version of etcd, such as 3.6"))
    }
}

impl std::str::FromStr for Minor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

/// The tool that restores snapshots for a version of etcd: the shipped one, else one in the search path (an image of etcd
/// brings its own). `etcdctl` does it too in 3.5, and is all that some images have.
///
/// # Errors
/// There is none: words. Blocking, some seconds at most.
pub fn find_restore_tool(tools_dir: &Path, minor: Minor) -> Result<PathBuf, String> {
    let shipped = tools_dir.join(minor.to_string());
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(shipped.clone()).chain(std::env::split_paths(&search_path));
    let names: &[&str] = if minor == Minor::OLDEST { &["etcdutl", "etcdctl"] } else { &["etcdutl"] };
    let mut others = Vec::new();
    let candidates = directories.flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    for path in candidates {
        match path.is_file().then(|| ask_version(&path, &["version"])).flatten() {
            Some(version) if Minor::of_version(&version) == Some(minor) => return Ok(path),
            Some(version) => others.push(format!("{} is {version}", path.display())),
            None => {}
        }
    }
    let seen = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
    Err(format!(
        "no etcdutl of etcd {minor} in {} or in the search path{seen}: install it there, or say where with --tools-dir",
        shipped.display()
    ))
}

/// What a program of etcd says of its own version; nothing where it does not within seconds. Blocking.
pub fn ask_version(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .env("ETCDCTL_API", "3")
        // In etcd's image the program goes by its bare name, and is not where the system's own default looks.
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begun.elapsed() > ANSWER_WITHIN {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let versions = ["etcdutl version:", "etcdctl version:", "etcd Version:"];
    text.lines().find_map(|line| versions.iter().find_map(|head| line.strip_prefix(head))).and_then(first_line)
}

/// Versions of `etcdutl` by minor version: `3.6` → `3.6.16`. A directory without the tool is not listed.
pub async fn read_tool_versions(tools_dir: &Path) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let Ok(mut entries) = tokio::fs::read_dir(tools_dir).await else { return versions };
    while let Ok(Some(entry)) = entries.next_entry().await {
        let Ok(minor) = entry.file_name().into_string() else { continue };
        let tool = entry.path().join("etcdutl");
        if !is_minor(&minor) || !tool.is_file() {
            continue;
        }
        if let Some(version) = tool_version(&entry.path(), &tool).await {
            versions.insert(minor, version);
        }
    }
    versions
}

fn is_minor(name: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('.').is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

/// From the file `VERSION` beside the tool, else from the tool itself.
async fn tool_version(directory: &Path, tool: &Path) -> Option<String> {
    if let Ok(text) = tokio::fs::read_to_string(directory.join("VERSION")).await {
        return first_line(&text);
    }
    let asked = Command::new(tool).arg("version").env_clear().kill_on_drop(true).output();
    let output = tokio::time::timeout(ANSWER_WITHIN, asked).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("etcdutl version:")).and_then(first_line)
}

fn first_line(text: &str) -> Option<String> {
    text.lines().next().map(str::trim).filter(|line| !line.is_empty() && line.len() <= 64).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tool(directory: &Path, script: &str) {
        std::fs::create_dir_all(directory).unwrap();
        let path = directory.join("etcdutl");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn versions_come_from_the_file_or_the_tool_itself() {
        let dir = tempfile::tempdir().unwrap();
        tool(&dir.path().join("3.5"), "#!/bin/sh\necho 'etcdutl version: 3.5.30'\necho 'API version: 3.5'\n");
        tool(&dir.path().join("3.6"), "#!/bin/sh\nexit 1\n");
        std::fs::write(dir.path().join("3.6/VERSION"), "3.6.16\n").unwrap();
        tool(&dir.path().join("3.7"), "#!/bin/sh\nexit 1\n");
        tool(&dir.path().join("old"), "#!/bin/sh\necho 'etcdutl version: 3.4.0'\n");
        std::fs::create_dir(dir.path().join("3.8")).unwrap();
        let versions = read_tool_versions(dir.path()).await;
        let expected =
            BTreeMap::from([("3.5".to_owned(), "3.5.30".to_owned()), ("3.6".to_owned(), "3.6.16".to_owned())]);
        assert_eq!(versions, expected);
        assert!(read_tool_versions(Path::new("/nonexistent")).await.is_empty());
    }
}
