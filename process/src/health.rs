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

/// What a process shows of itself.
pub trait Health: Send + Sync + 'static {
    /// What it still waits for before it can do its work, one line each; empty once ready.
    fn waits_for(&self) -> Vec<String>;

    /// Its metrics as OpenMetrics text.
    ///
    /// # Errors
    /// A label or value could not be written.
    fn metrics(&self) -> Result<String, std::fmt::Error>;
}

/// Serves until `shutdown`.
///
/// # Errors
/// The listener failed.
pub async fn serve_health(
    listener: TcpListener,
    health: Arc<impl Health>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    axum::serve(listener, router(health)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router<H: Health>(health: Arc<H>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz::<H>))
        .route("/metrics", get(metrics::<H>))
        .with_state(health)
}

async fn readyz<H: Health>(State(health): State<Arc<H>>) -> Response {
    let waits_for = health.waits_for();
    if waits_for.is_empty() {
        return "ok\n".into_response();
    }
    let lines: String = waits_for.iter().map(|line| format!("{line}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics<H: Health>(State(health): State<Arc<H>>) -> Response {
    match health.metrics() {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[derive(Default)]
    struct Example {
        is_ready: AtomicBool,
    }

    impl Health for Example {
        fn waits_for(&self) -> Vec<String> {
            if self.is_ready.load(Ordering::Relaxed) { vec![] } else { vec!["the tide".to_owned()] }
        }

        fn metrics(&self) -> Result<String, std::fmt::Error> {
            Ok("lifeboat_example 1\n# EOF\n".to_owned())
        }
    }

    async fn fetch(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readyz_says_what_is_waited_for_and_healthz_does_not_care() {
        let health = Arc::new(Example::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_health(listener, health.clone(), shutdown.clone()));
        assert!(fetch(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = fetch(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("the tide"), "{waiting}");
        health.is_ready.store(true, Ordering::Relaxed);
        assert!(fetch(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        let shown = fetch(address, "/metrics").await;
        assert!(shown.contains("lifeboat_example 1") && shown.ends_with("# EOF\n"), "{shown}");
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}
