//! When a certificate ends. Reads one file; judges nothing else of it, TLS does.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use x509_parser::pem::Pem;

/// Why the end of a certificate is not known.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("certificate {path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file holds no certificate.
    #[error("{path} holds no certificate in PEM: {words}")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        words: String,
    },
}

/// The end of the first certificate in a PEM file, which is the one shown to the server.
pub fn read_not_after(path: &Path) -> Result<Timestamp, CertificateError> {
    let bytes = std::fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })?;
    parse_not_after(&bytes).map_err(|words| CertificateError::NotPem { path: path.to_owned(), words })
}

fn parse_not_after(bytes: &[u8]) -> Result<Timestamp, String> {
    for pem in Pem::iter_from_buffer(bytes) {
        let pem = pem.map_err(|error| error.to_string())?;
        if pem.label != "CERTIFICATE" {
            continue;
        }
        let certificate = pem.parse_x509().map_err(|error| error.to_string())?;
        let seconds = certificate.validity().not_after.timestamp();
        return Timestamp::from_second(seconds).map_err(|error| error.to_string());
    }
    Err("no block BEGIN CERTIFICATE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_certificate_say_so() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(parse_not_after(text.as_bytes()).is_err(), "{text:?}");
        }
        let words = read_not_after(Path::new("/nonexistent/client.crt")).unwrap_err().to_string();
        assert!(words.contains("/nonexistent/client.crt"), "{words}");
    }
}
