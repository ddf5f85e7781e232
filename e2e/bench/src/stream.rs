//! Reads `Maintenance.Snapshot` to nothing with as little work as can be: TLS and HTTP/2, no decoding, no copy kept. What remains is
//! what etcd and the connection take, and no backup can be quicker.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::arguments::ReadStream;

/// Bytes that may be on their way; what etcd's own clients ask for is far less.
const WINDOW: u32 = 16 << 20;
/// A gRPC message without content: not compressed, no bytes. That is what SnapshotRequest is.
const EMPTY_MESSAGE: &[u8] = &[0; 5];

/// Reads the stream to its end and gives the bytes that came, gRPC's own included.
///
/// # Errors
/// No connection, or a stream that does not end with success.
pub async fn read_stream(from: &ReadStream) -> Result<u64> {
    let ReadStream { address, ca, cert, key } = from;
    let host = address.rsplit_once(':').context("address: host:port")?.0.to_owned();
    let connector = TlsConnector::from(Arc::new(tls(ca, cert, key)?));
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let socket = connector.connect(ServerName::try_from(host)?, socket).await?;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (client, connection) = builder.handshake(socket).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("https://{address}/etcdserverpb.Maintenance/Snapshot"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut body) = client.ready().await?.send_request(request, false)?;
    body.send_data(Bytes::from_static(EMPTY_MESSAGE), true)?;
    let mut answer = response.await?.into_body();
    let mut count = 0;
    while let Some(data) = answer.data().await {
        let length = data?.len();
        answer.flow_control().release_capacity(length)?;
        count += length as u64;
    }
    let trailers = answer.trailers().await?.context("no gRPC status")?;
    let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok());
    ensure!(status == Some("0"), "gRPC status {status:?}: {:?}", trailers.get("grpc-message"));
    connection.abort();
    Ok(count)
}

fn tls(ca: &Path, cert: &Path, key: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(ca)?) {
        roots.add(certificate?)?;
    }
    let chain = CertificateDer::pem_slice_iter(&fs::read(cert)?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(key)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
