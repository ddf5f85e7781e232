//! The connection to the API server: by the pod's service account, or by a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::header::USER_AGENT;
use axum::http::{HeaderName, HeaderValue};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest silence on a connection; watches are asked to end by themselves before.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The kubeconfig cannot be used.
    #[error("cannot read kubeconfig {path}: {source}", path = .path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// There is neither a service account nor a kubeconfig.
    #[error("no way to the API server: run in a pod with a service account, or set --kubeconfig ({0})")]
    NoConfig(#[from] InferConfigError),
    /// The client cannot be made.
    #[error("cannot make a client for the API server: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// A client, and the namespace it is at home in. Speaks to nobody yet.
///
/// # Errors
/// The configuration cannot be used.
pub async fn connect(kubeconfig: Option<&Path>, program: &str) -> Result<(Client, String), ConnectionError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let failed = |source| ConnectionError::Kubeconfig { path: path.to_owned(), source };
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)?
        }
        None => Config::infer().await?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Time that a pooled connection lay idle does not count.
    config.reset_reader_on_write = true;
    config.headers.extend(user_agent(program));
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| ConnectionError::Client(Box::new(error)))?;
    Ok((client, namespace))
}

fn user_agent(program: &str) -> Option<(HeaderName, HeaderValue)> {
    let value = format!("{program}/{}", env!("CARGO_PKG_VERSION"));
    Some((USER_AGENT, HeaderValue::from_str(&value).ok()?))
}
