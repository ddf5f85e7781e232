//! The object store: versitygw over a directory, on a machine of its own, behind TLS of a CA of its own. A test may kill it, freeze
//! it out of the network, and read or damage its directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::binaries::Binaries;
use crate::front::S3Front;
use crate::machine::Machine;
use crate::process::{ManagedProcess, Recipe, run, tail};
use crate::wait::wait_for;

const PORT: u16 = 7070;
/// Its end of the cable, in the hub.
pub(crate) const STORE_PORT: &str = "store";

/// An S3 server with path-style addressing.
#[derive(Debug)]
pub struct S3 {
    /// `https://10.123.x.250:7070`
    pub endpoint: String,
    /// Any region will do; this one is what the server calls itself.
    pub region: String,
    /// Certificate of the CA that the server's certificate is from.
    pub ca_pem: String,
    /// The same as a file.
    pub ca_file: PathBuf,
    /// Root credentials.
    pub access_key: String,
    /// Root credentials. Not for logs.
    pub secret_key: String,
    /// A credentials file for AWS programs, profile `default`.
    pub credentials_file: PathBuf,
    /// One directory per bucket; keys are paths in it.
    pub data_dir: PathBuf,
    address: SocketAddr,
    log: PathBuf,
    process: Mutex<Option<ManagedProcess>>,
    recipe: Recipe,
    pub(crate) machine: Machine,
}

impl S3 {
    pub(crate) async fn start_in(
        machine: Machine,
        ip: Ipv4Addr,
        dir: &Path,
        logs: &Path,
        binaries: &Binaries,
        buckets: &[String],
    ) -> Result<Self> {
        let data_dir = dir.join("data");
        for bucket in buckets {
            fs::create_dir_all(data_dir.join(bucket))?;
        }
        write_certificates(dir, ip).await?;
        let (access_key, secret_key) = (random_text(20), random_text(40));
        let credentials_file = dir.join("credentials");
        fs::write(
            &credentials_file,
            format!("[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"),
        )?;
        let line = [binaries.program("versitygw").into_os_string()]
            .into_iter()
            .chain(["--port".into(), format!("{ip}:{PORT}").into(), "--region".into(), "us-east-1".into()])
            .chain(["--cert".into(), dir.join("tls.crt").into(), "--key".into(), dir.join("tls.key").into()])
            .chain(["posix".into(), data_dir.clone().into()])
            .collect::<Vec<OsString>>();
        let env: BTreeMap<&str, &str> =
            [("ROOT_ACCESS_KEY", access_key.as_str()), ("ROOT_SECRET_KEY", secret_key.as_str())].into();
        let log = logs.join("s3.log");
        let recipe = Recipe {
            entrance: machine.entrance(),
            search_path: binaries.search_path(),
            line,
            env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            log: log.clone(),
        };
        let ca_file = dir.join("ca.crt");
        let s3 = Self {
            endpoint: format!("https://{ip}:{PORT}"),
            region: "us-east-1".to_owned(),
            ca_pem: fs::read_to_string(&ca_file)?,
            ca_file,
            access_key,
            secret_key,
            credentials_file,
            data_dir,
            address: (ip, PORT).into(),
            log,
            process: Mutex::new(None),
            recipe,
            machine,
        };
        s3.start().await?;
        Ok(s3)
    }

    /// Starts the server if it does not run, and returns when it accepts connections.
    ///
    /// # Errors
    /// When it does not within seconds, with the end of its log.
    pub async fn start(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        if !process.as_mut().is_some_and(ManagedProcess::is_running) {
            *process = Some(ManagedProcess::start(self.recipe.clone())?);
        }
        wait_for("the S3 server", Duration::from_secs(15), async || Ok(TcpStream::connect(self.address).await.is_ok()))
            .await
            .with_context(|| tail(&self.log))
    }

    /// Ends the server in order (SIGTERM): connections are refused afterwards.
    ///
    /// # Errors
    /// When its end cannot be waited for.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.terminate(Duration::from_secs(5)).await?;
        }
        Ok(())
    }

    /// Kills the server, in the middle of whatever it writes.
    ///
    /// # Errors
    /// When its end cannot be waited for.
    pub async fn kill(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.kill9().await?;
        }
        Ok(())
    }

    /// A front before this server, listening on `host`; it speaks TLS with a certificate of the same CA.
    pub(crate) async fn front(&self, host: Ipv4Addr) -> Result<S3Front> {
        let dir = self.ca_file.parent().context("no directory of certificates")?;
        S3Front::start(host.into(), self.address, dir).await
    }

    /// Makes a bucket; present is fine.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        fs::create_dir_all(self.data_dir.join(bucket)).with_context(|| format!("bucket {bucket}"))
    }

    /// The directory of a bucket.
    #[must_use]
    pub fn bucket_dir(&self, bucket: &str) -> PathBuf {
        self.data_dir.join(bucket)
    }

    /// The file that takes the server's request log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// A CA and a server certificate for an address, as `ca.crt`, `tls.crt` and `tls.key` in `dir`.
async fn write_certificates(dir: &Path, ip: Ipv4Addr) -> Result<()> {
    const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let mut ca = Command::new("openssl");
    ca.current_dir(dir).args(["req", "-x509", "-days", "30", "-subj", "/CN=testbed store CA"]).args(KEY);
    ca.args(["-keyout", "ca.key", "-out", "ca.crt", "-addext", "keyUsage=critical,keyCertSign"]);
    run(ca, Duration::from_secs(20)).await.context("run openssl (hack/install-deps.sh)")?;
    let mut server = Command::new("openssl");
    server.current_dir(dir).args(["req", "-x509", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "30"]).args(KEY);
    server.args(["-subj", "/CN=testbed store", "-keyout", "tls.key", "-out", "tls.crt"]);
    server.args(["-addext", &format!("subjectAltName=IP:{ip}"), "-addext", "basicConstraints=critical,CA:FALSE"]);
    server.args(["-addext", "extendedKeyUsage=serverAuth"]);
    run(server, Duration::from_secs(20)).await?;
    Ok(())
}

fn random_text(length: usize) -> String {
    rand::rng().sample_iter(rand::distr::Alphanumeric).take(length).map(char::from).collect()
}
