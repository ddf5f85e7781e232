//! The HTTP server of the process: `/healthz` (it lives), `/readyz` (what it waits for), `/metrics`.
//!
//! Serves no more than that and needs no authentication: nothing secret is in it.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::readiness::Readiness;

/// What the server shows.
#[derive(Clone)]
pub struct Health {
    /// What `/readyz` says.
    pub readiness: Arc<Readiness>,
    /// What `/metrics` says.
    pub metrics: Arc<Metrics>,
}

/// Serves until `shutdown`.
///
/// # Errors
/// The listener failed.
pub async fn serve_health(listener: TcpListener, health: Health, shutdown: CancellationToken) -> io::Result<()> {
    axum::serve(listener, router(health)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Response {
    let waits_for = health.readiness.waits_for();
    if waits_for.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String = waits_for.iter().map(|line| format!("{line}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    match health.metrics.encode() {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use crate::leadership::Gate;
    use crate::readiness::CacheState;
    use crate::stores::Stores;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readyz_turns_with_the_caches_and_healthz_does_not() {
        let readiness = Arc::new(Readiness::default());
        let stores = Stores::new("lifeboat").0;
        let metrics = Arc::new(Metrics::new(stores, Gate::fixed(true)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let health = Health { readiness: readiness.clone(), metrics };
        let server = tokio::spawn(serve_health(listener, health, shutdown.clone()));

        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = fetch(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("EtcdBackupSchedule:"), "{waiting}");
        for kind in Kind::ALL {
            readiness.note(*kind, CacheState::Synced);
        }
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let shown = fetch(address, "/metrics").await;
        assert!(shown.contains("lifeboat_operator_leader 1") && shown.ends_with("# EOF\n"), "{shown}");

        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}
