//! The host's services, as far as a restore needs them: the kubelet. Runs `systemctl`.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// systemd runs here where this is (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// A kubelet restarts within a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// How services are restarted on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// By systemd.
    Systemd,
    /// This host has no systemd: whatever follows the manifests is nobody's service.
    None,
}

impl Services {
    /// What this host has.
    pub fn find() -> Self {
        if Path::new(BOOTED).is_dir() { Self::Systemd } else { Self::None }
    }

    /// Restarts the kubelet, where it is a service.
    ///
    /// # Errors
    /// It was not restarted.
    pub async fn restart_kubelet(self) -> io::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Systemd => systemctl(&["restart", "kubelet.service"]).await,
        }
    }
}

/// Runs `systemctl` to its end.
///
/// # Errors
/// It fails, with its words.
pub async fn systemctl(arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ended.map_err(|_| io::Error::other(format!("systemctl {arguments:?} does not end")))??;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("systemctl {arguments:?}: {}", words.trim())))
}
