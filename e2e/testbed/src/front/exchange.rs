//! One client's requests, passed on over TLS to the real store and answered as the illness says. Keeps every header, for requests are
//! signed with the host that the client asked for.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, DATE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::illness::{Kind, Symptom};
use super::{Patient, tls};

const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
    <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

type AnyBody = BoxBody<Bytes, anyhow::Error>;

/// What a connection passes its requests to.
pub(super) struct Exchange {
    pub patient: Arc<Patient>,
    pub upstream: SocketAddr,
    pub connector: tls::Connector,
    /// Ends the client's connection by RST.
    pub reset: CancellationToken,
    sender: Mutex<Option<SendRequest<AnyBody>>>,
}

impl Exchange {
    pub fn new(
        patient: Arc<Patient>,
        upstream: SocketAddr,
        connector: tls::Connector,
        reset: CancellationToken,
    ) -> Self {
        Self { patient, upstream, connector, reset, sender: Mutex::new(None) }
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnyBody>> {
        let kind = Kind::of(request.method().as_str(), request.uri().path(), request.uri().query().unwrap_or_default());
        let symptom = self.patient.answer(kind);
        let request = match symptom {
            Symptom::SlowDown => {
                // Taken whole, or the answer might be lost with the connection.
                request.into_body().collect().await?;
                return slow_down();
            }
            Symptom::CorruptUpload => request.map(|body| flip(body).boxed()),
            Symptom::None
            | Symptom::Truncate { .. }
            | Symptom::CorruptDownload
            | Symptom::ErrButLand
            | Symptom::Skew { .. } => request.map(|body| body.map_err(anyhow::Error::from).boxed()),
        };
        let mut response = self.pass_on(request).await?;
        match symptom {
            Symptom::ErrButLand => {
                response.into_body().collect().await?;
                self.reset.cancel();
                bail!("carried out; the answer is kept back")
            }
            Symptom::Truncate { after_bytes } => Ok(response.map(|body| cut(body, after_bytes).boxed())),
            Symptom::CorruptDownload => Ok(response.map(|body| flip(body).boxed())),
            Symptom::Skew { seconds } => {
                let time = Timestamp::now() + SignedDuration::from_secs(seconds);
                let text = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time)?;
                response.headers_mut().insert(DATE, HeaderValue::from_str(&text)?);
                Ok(response.map(plain))
            }
            Symptom::None | Symptom::SlowDown | Symptom::CorruptUpload => Ok(response.map(plain)),
        }
    }

    async fn pass_on(&self, request: Request<AnyBody>) -> Result<Response<Incoming>> {
        let mut kept = self.sender.lock().await;
        let ready = match kept.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match ready {
            Some(sender) => kept.insert(sender),
            None => kept.insert(self.connect().await?),
        };
        Ok(sender.send_request(request).await?)
    }

    async fn connect(&self) -> Result<SendRequest<AnyBody>> {
        let tcp = TcpStream::connect(self.upstream).await.context("the store behind the front")?;
        let tls = self.connector.connect(self.upstream.ip(), tcp).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(async move {
            // Its errors reach whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

fn plain(body: Incoming) -> AnyBody {
    body.map_err(anyhow::Error::from).boxed()
}

fn slow_down() -> Result<Response<AnyBody>> {
    let body = Full::new(Bytes::from_static(SLOW_DOWN.as_bytes())).map_err(|never| match never {}).boxed();
    Ok(Response::builder()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .header(CONTENT_TYPE, "application/xml")
        .body(body)?)
}

/// Flips a bit in the middle of the first bytes of a body; its length stays.
fn flip(body: Incoming) -> impl Body<Data = Bytes, Error = anyhow::Error> + Send + Sync + 'static {
    let mut is_done = false;
    body.map_err(anyhow::Error::from).map_frame(move |frame| {
        if is_done {
            return frame;
        }
        frame.map_data(|data| {
            let mut bytes = BytesMut::from(data.as_ref());
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
                is_done = true;
            }
            bytes.freeze()
        })
    })
}

/// The first bytes of a body, then an error in place of the rest.
fn cut(body: Incoming, after_bytes: u64) -> impl Body<Data = Bytes, Error = anyhow::Error> + Send + Sync + 'static {
    let mut left = usize::try_from(after_bytes).unwrap_or(usize::MAX);
    let frames = body.into_data_stream().map_err(anyhow::Error::from).and_then(move |data| {
        let taken = left.min(data.len());
        let is_over = left == 0;
        left -= taken;
        let frame = if is_over { Err(anyhow::anyhow!("cut short")) } else { Ok(Frame::data(data.slice(..taken))) };
        std::future::ready(frame)
    });
    StreamBody::new(frames)
}
