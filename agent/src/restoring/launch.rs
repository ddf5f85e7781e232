//! Starts the executor of a restore so that it outlives whoever started it: as a systemd unit, or as a process of its own
//! where there is no systemd.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifeboat_crds::order::RestoreId;
use lifeboat_executor::RestoreDirectory;

use super::RestoringError;
use super::site::Site;
use crate::host::crashsafe;
use crate::host::enter::on_host;
use crate::master::services::{Services, systemctl};

/// The unit's name; one restore is under way at a time.
const UNIT: &str = "lifeboat-restore.service";
/// Where a host has its programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where units of administrators lie.
const UNITS: &str = "/etc/systemd/system";

/// Where an executor without systemd writes its log.
pub fn log_of(directory: &RestoreDirectory) -> PathBuf {
    directory.root().join("executor.log")
}

/// Whether an executor works on a restore: it holds the lock.
///
/// # Errors
/// The disk.
pub fn is_running(directory: &RestoreDirectory) -> io::Result<bool> {
    let lock = match File::open(directory.lock()) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Starts the executor, unless it runs.
///
/// # Errors
/// It could not be started.
pub async fn launch(site: &Site, id: &RestoreId) -> Result<(), RestoringError> {
    let directory = site.restore(id);
    if is_running(&directory)? {
        return Ok(());
    }
    if let Some(program) = site.given.program_elsewhere() {
        return launch_on_host(site, id, program).await;
    }
    match Services::find() {
        Services::Systemd => launch_unit(site, id).await,
        Services::None => launch_process(site, id, &log_of(&directory)),
    }
}

/// Has the program on the host do it: from a container nobody can start what outlives the container.
async fn launch_on_host(site: &Site, id: &RestoreId, program: &Path) -> Result<(), RestoringError> {
    let mut command = on_host(program);
    command.args(["restore", "launch", "--restore", id.as_str()]);
    command.env_clear().envs(site.given.on_host().environment()).env("PATH", PATH).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ran.map_err(|error| RestoringError::Failed(error.to_string()))??;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(RestoringError::Failed(format!("the executor could not be started on the host: {}", words.trim())))
}

async fn launch_unit(site: &Site, id: &RestoreId) -> Result<(), RestoringError> {
    let program = std::env::current_exe()?;
    let text = unit(&program, id, &site.given.environment());
    crashsafe::replace(&Path::new(UNITS).join(UNIT), text.as_bytes(), 0o600)?;
    systemctl(&["daemon-reload"]).await?;
    systemctl(&["enable", UNIT]).await?;
    Ok(systemctl(&["restart", UNIT]).await?)
}

/// Takes the unit away once its restore is over. Called by the executor itself, so it is not stopped.
///
/// # Errors
/// systemd refuses, or the disk.
pub async fn remove_unit() -> io::Result<()> {
    let path = Path::new(UNITS).join(UNIT);
    if Services::find() == Services::None || !path.exists() {
        return Ok(());
    }
    systemctl(&["disable", UNIT]).await?;
    std::fs::remove_file(path)?;
    systemctl(&["daemon-reload"]).await
}

/// The unit: before the kubelet, so that after a reboot an etcd that runs alone is held again before anything starts it.
fn unit(program: &Path, id: &RestoreId, environment: &[(&'static str, String)]) -> String {
    let environment: String =
        environment.iter().map(|(name, value)| format!("Environment=\"{name}={value}\"\n")).collect();
    format!(
        "[Unit]\nDescription=Restore {id} of etcd by Lifeboat\nDocumentation=https://github.com/lifeboat/lifeboat\n\
         Before=kubelet.service\nAfter=local-fs.target\n\n[Service]\nType=notify\nNotifyAccess=main\nExecStart={} restore run --restore {id}\n\
         Restart=always\nRestartSec=1\nTimeoutStartSec=120\n{environment}\n[Install]\nWantedBy=multi-user.target\n",
        program.display()
    )
}

fn launch_process(site: &Site, id: &RestoreId, log: &Path) -> Result<(), RestoringError> {
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["restore", "run", "--restore", id.as_str()]).envs(site.given.environment());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A session of its own: it is not ended with the terminal of whoever started it.
    command.process_group(0);
    let mut child = command.spawn()?;
    // An agent outlives many of them: nobody else takes their exit status.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Tells systemd that this executor is ready (sd_notify(3)); nothing where nobody asked.
pub fn notify_ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|datagram| datagram.send_to(b"READY=1", Path::new(&socket)));
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd does not hear that the executor is ready");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_runs_before_the_kubelet_with_what_was_given() {
        let id = RestoreId::new("host", "m0", 1, "00");
        let text = unit(Path::new("/opt/lifeboat/bin/lifeboat"), &id, &[("LIFEBOAT_DATA_DIR", "/srv/etcd".to_owned())]);
        assert!(
            text.contains("Before=kubelet.service\n") && text.contains("Environment=\"LIFEBOAT_DATA_DIR=/srv/etcd\"\n")
        );
        assert!(text.contains(&format!("ExecStart=/opt/lifeboat/bin/lifeboat restore run --restore {id}\n")));
    }
}
