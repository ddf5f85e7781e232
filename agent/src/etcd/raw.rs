//! The call for a snapshot itself, with its bytes passed on as they came: the client library copies every one of them
//! once more, which at gigabytes is a tenth of the work of a backup. Network; decides nothing.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::Request;
use tonic::codec::Streaming;
use tonic::metadata::MetadataValue;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic_prost::ProstCodec;

/// `etcdserverpb.SnapshotRequest`, which has no fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotCall {}

/// What is read of `etcdserverpb.SnapshotResponse`; its header is never filled.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotMessage {
    /// Bytes of the database still to come.
    #[prost(uint64, tag = "2")]
    pub remaining_bytes: u64,
    /// The next bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub blob: Bytes,
    /// Storage version, from etcd 3.6 on.
    #[prost(string, tag = "4")]
    pub version: String,
}

/// How a connection is made and kept.
#[derive(Clone, Debug)]
pub struct Connecting {
    /// Longest for TCP and TLS.
    pub within: Duration,
    /// Silence after which the server is asked for a sign of life, and how long that may take.
    pub keep_alive: (Duration, Duration),
    /// Certificates; none for plain http.
    pub tls: Option<ClientTlsConfig>,
}

/// Opens a connection of its own and asks for a snapshot on it.
///
/// # Errors
/// As the client library would put it.
pub async fn call_snapshot(
    url: &str,
    connecting: &Connecting,
    require_leader: bool,
) -> Result<Streaming<SnapshotMessage>, etcd_client::Error> {
    let Connecting { within, keep_alive: (every, answer), tls } = connecting;
    let mut endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(*within)
        .http2_keep_alive_interval(*every)
        .keep_alive_timeout(*answer)
        .keep_alive_while_idle(false);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.clone())?;
    }
    let mut grpc = tonic::client::Grpc::new(endpoint.connect_lazy());
    grpc.ready().await?;
    let mut request = Request::new(SnapshotCall {});
    if require_leader {
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    }
    let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
    let codec = ProstCodec::<SnapshotCall, SnapshotMessage>::default();
    Ok(grpc.server_streaming(request, path, codec).await?.into_inner())
}
