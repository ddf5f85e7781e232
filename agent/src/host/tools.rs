//! etcd's own tools on this host, one directory a minor version, as the DaemonSet installs them. Reads and asks; never
//! runs a tool on data.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

/// A tool that does not tell its version in this time is not counted.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

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
