//! TLS for fronts: certificates from the testbed's own CAs, so that the product is told of nothing new.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::process::run;

/// Files of a certificate and its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'p> {
    pub cert: &'p Path,
    pub key: &'p Path,
}

/// Signs a server's certificate for an address.
pub(crate) async fn sign_server(ca: Pair<'_>, ip: IpAddr, own: Pair<'_>) -> Result<()> {
    let mut server = Command::new("openssl");
    server.args(["req", "-x509", "-days", "30", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    server.arg("-CA").arg(ca.cert).arg("-CAkey").arg(ca.key).args(["-subj", "/CN=testbed front"]);
    server.arg("-keyout").arg(own.key).arg("-out").arg(own.cert);
    server.args(["-addext", &format!("subjectAltName=IP:{ip}"), "-addext", "basicConstraints=critical,CA:FALSE"]);
    server.args(["-addext", "extendedKeyUsage=serverAuth"]);
    run(server, Duration::from_secs(20)).await.context("run openssl (hack/install-deps.sh)")?;
    Ok(())
}

fn read_pair(pair: Pair<'_>) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certs = CertificateDer::pem_file_iter(pair.cert)?.collect::<Result<Vec<_>, _>>()?;
    Ok((certs, PrivateKeyDer::from_pem_file(pair.key)?))
}

fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// The server's side.
pub(crate) fn acceptor(own: Pair<'_>, protocols: &[&str]) -> Result<TlsAcceptor> {
    let (certs, key) = read_pair(own)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)?;
    config.alpn_protocols = alpn(protocols);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The client's side.
#[derive(Clone)]
pub(crate) struct Connector(TlsConnector);

impl Connector {
    pub fn new(ca: &Path, own: Option<Pair<'_>>, protocols: &[&str]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(ca)? {
            roots.add(cert?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match own {
            Some(pair) => {
                let (certs, key) = read_pair(pair)?;
                config.with_client_auth_cert(certs, key)?
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = alpn(protocols);
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub async fn connect(&self, ip: IpAddr, tcp: TcpStream) -> Result<TlsStream<TcpStream>> {
        self.0.connect(ServerName::IpAddress(ip.into()), tcp).await.context("TLS to what is behind the front")
    }
}
