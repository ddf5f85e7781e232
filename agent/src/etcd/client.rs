//! The connection to this node's own member. Network and certificate files; decides nothing.
//!
//! Certificates are read at every connect, so that renewed ones are taken up without a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tonic::codec::Streaming;

use super::error::EtcdError;
use super::raw::{Connecting, SnapshotMessage, call_snapshot};

/// Bound of each short call.
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// etcd closes connections that ping more often than every 5 s, or at all without a call in flight.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);

/// How one member is reached. Paths are those of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Client URL.
    pub url: String,
    /// Certificates; none for plain http.
    pub tls: Option<TlsFiles>,
}

/// The files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// CA that signed etcd's server certificate.
    pub ca: PathBuf,
    /// Client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A client of one member. Connects at the first call and again after a break.
#[derive(Clone)]
pub struct MemberClient {
    url: String,
    connecting: Connecting,
    client: Client,
}

impl std::fmt::Debug for MemberClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberClient").field("url", &self.url).finish_non_exhaustive()
    }
}

impl MemberClient {
    /// Reads the certificates and makes a client; the member itself is first spoken to by a call.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, EtcdError> {
        let Endpoint { url, tls } = endpoint;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_DEADLINE)
            .with_keep_alive(KEEP_ALIVE_EVERY, KEEP_ALIVE_ANSWER)
            .with_keep_alive_while_idle(false);
        let tls = match tls {
            Some(files) => Some(read_tls(files).await?),
            None => None,
        };
        if let Some(tls) = &tls {
            options = options.with_tls(tls.clone());
        }
        let client =
            Client::connect([url], Some(options)).await.map_err(|error| EtcdError::from_client(url, &error))?;
        let connecting =
            Connecting { within: CONNECT_DEADLINE, keep_alive: (KEEP_ALIVE_EVERY, KEEP_ALIVE_ANSWER), tls };
        Ok(Self { url: url.clone(), connecting, client })
    }

    /// The URL it speaks to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The library's client, for short calls.
    pub(crate) fn inner(&self) -> Client {
        self.client.clone()
    }

    /// A snapshot on a connection of its own, so that its flow control never delays short calls.
    pub(super) async fn call_snapshot(&self, require_leader: bool) -> Result<Streaming<SnapshotMessage>, EtcdError> {
        let call = call_snapshot(&self.url, &self.connecting, require_leader);
        call.await.map_err(|error| EtcdError::from_client(&self.url, &error))
    }

    /// Bounds a short call and puts its errors into words.
    pub(crate) async fn bounded<T>(
        &self,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, EtcdError> {
        match tokio::time::timeout(CALL_DEADLINE, call).await {
            Ok(answer) => answer.map_err(|error| EtcdError::from_client(&self.url, &error)),
            Err(_) => Err(EtcdError::NoAnswer { url: self.url.clone(), within: CALL_DEADLINE }),
        }
    }
}

async fn read_tls(files: &TlsFiles) -> Result<TlsOptions, EtcdError> {
    let TlsFiles { ca, cert, key } = files;
    let ca = Certificate::from_pem(read_pem(ca, "CERTIFICATE").await?);
    let identity = Identity::from_pem(read_pem(cert, "CERTIFICATE").await?, read_pem(key, "PRIVATE KEY").await?);
    Ok(TlsOptions::new().ca_certificate(ca).identity(identity))
}

/// A PEM file that holds a block of the kind. TLS would otherwise only say that something is invalid.
async fn read_pem(path: &Path, kind: &str) -> Result<Vec<u8>, EtcdError> {
    let unusable = |words: String| EtcdError::Credentials { path: path.to_owned(), words };
    let content = tokio::fs::read(path).await.map_err(|error| unusable(error.to_string()))?;
    if !String::from_utf8_lossy(&content).contains(&format!("{kind}-----")) {
        return Err(unusable(format!("it holds no {} in PEM", kind.to_lowercase())));
    }
    Ok(content)
}
