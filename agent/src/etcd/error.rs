//! What can go wrong between this agent and its etcd, as outcomes with what to do about them. Pure.

use std::path::PathBuf;
use std::time::Duration;

/// The outcome of a call to etcd that did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// A certificate, key or CA file cannot be read or used.
    #[error("{path} cannot be used to reach etcd: {words}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        words: String,
    },
    /// The URL is not one to connect to.
    #[error("{url:?} is no URL of etcd ({words}): write it as https://127.0.0.1:2379")]
    BadUrl {
        /// The URL.
        url: String,
        /// Why.
        words: String,
    },
    /// Nobody listens there, or the connection broke before there was an answer.
    #[error("etcd at {url} cannot be reached ({words}): is the etcd pod running? see `crictl ps -a | grep etcd`")]
    Unreachable {
        /// The URL.
        url: String,
        /// The system's words.
        words: String,
    },
    /// It took the connection and closed it without a word.
    #[error(
        "etcd at {url} closed the connection without an answer ({words}): it does so when it wants https or another client \
         certificate, and while it stops; look at the log of the etcd pod"
    )]
    Closed {
        /// The URL.
        url: String,
        /// The system's words.
        words: String,
    },
    /// No answer in time.
    #[error(
        "etcd at {url} does not answer within {} s: is the etcd pod running? see `crictl ps -a | grep etcd`",
        .within.as_secs()
    )]
    NoAnswer {
        /// The URL.
        url: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// TLS failed: one side does not accept the other's certificate.
    #[error(
        "etcd at {url} and this agent do not accept each other's certificates ({words}): compare the CA, the client \
         certificate and its dates with etcd's --trusted-ca-file; on kubeadm see `kubeadm certs check-expiration`"
    )]
    Untrusted {
        /// The URL.
        url: String,
        /// The TLS library's words.
        words: String,
    },
    /// The member sees no leader.
    #[error(
        "etcd at {url} sees no leader, so its data may be behind: are most of the other members running? see \
         `etcdctl endpoint status --cluster`"
    )]
    NoLeader {
        /// The URL.
        url: String,
    },
    /// etcd answered, and refused.
    #[error("etcd at {url} refused: {words}")]
    Refused {
        /// The URL.
        url: String,
        /// etcd's words.
        words: String,
    },
    /// The stream is open and no byte comes.
    #[error("etcd at {url} sent no byte of its snapshot for {} s, after {received} bytes", .within.as_secs())]
    NoProgress {
        /// The URL.
        url: String,
        /// How long it was waited for.
        within: Duration,
        /// What had come until then.
        received: u64,
    },
    /// The whole transfer takes too long; a slow reader makes etcd's file grow.
    #[error(
        "reading the snapshot from etcd at {url} was stopped after {} s with {received} of {total} bytes: raise \
         limits.transferSeconds or limits.bytesPerSecond, or look at what slows this node down",
        .limit.as_secs()
    )]
    TooSlow {
        /// The URL.
        url: String,
        /// The limit.
        limit: Duration,
        /// What had come until then.
        received: u64,
        /// What was to come.
        total: u64,
    },
    /// The rate asked for cannot carry this database within the limit, so nothing is read.
    #[error(
        "{total} bytes at {rate} bytes a second take longer than the {} s allowed: raise limits.bytesPerSecond or \
         limits.transferSeconds",
        .limit.as_secs()
    )]
    RateTooLow {
        /// The limit.
        limit: Duration,
        /// The rate.
        rate: u64,
        /// What was to come.
        total: u64,
    },
    /// The stream broke.
    #[error("the snapshot from etcd at {url} broke off after {received} bytes: {words}")]
    Broken {
        /// The URL.
        url: String,
        /// What had come until then.
        received: u64,
        /// Why.
        words: String,
    },
}

/// What an error asks of whoever meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdErrorClass {
    /// The member cannot be used now; another may, and this one later.
    Unavailable,
    /// The member refuses us until somebody changes files or settings on its node.
    Access,
    /// The transfer failed under way; the next try may do better.
    Transfer,
    /// What was asked for cannot be done, by any member.
    Request,
}

impl EtcdError {
    /// What it asks for.
    pub const fn class(&self) -> EtcdErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Closed { .. } | Self::NoAnswer { .. } | Self::NoLeader { .. } => {
                EtcdErrorClass::Unavailable
            }
            Self::Credentials { .. } | Self::BadUrl { .. } | Self::Untrusted { .. } | Self::Refused { .. } => {
                EtcdErrorClass::Access
            }
            Self::NoProgress { .. } | Self::TooSlow { .. } | Self::Broken { .. } => EtcdErrorClass::Transfer,
            Self::RateTooLow { .. } => EtcdErrorClass::Request,
        }
    }

    /// The cause in the words of whoever reported it, without our advice.
    pub fn words(&self) -> String {
        match self {
            Self::Credentials { words, .. }
            | Self::BadUrl { words, .. }
            | Self::Unreachable { words, .. }
            | Self::Closed { words, .. }
            | Self::Untrusted { words, .. }
            | Self::Refused { words, .. }
            | Self::Broken { words, .. } => words.clone(),
            Self::NoAnswer { .. }
            | Self::NoLeader { .. }
            | Self::NoProgress { .. }
            | Self::TooSlow { .. }
            | Self::RateTooLow { .. } => self.to_string(),
        }
    }

    /// The outcome behind an error of the client library.
    pub fn from_client(url: &str, error: &etcd_client::Error) -> Self {
        use etcd_client::Error;
        let url = url.to_owned();
        match error {
            Error::GRpcStatus(status) => Self::from_words(url, status.message(), &chain(status)),
            Error::InvalidUri(error) => Self::BadUrl { url, words: error.to_string() },
            Error::InvalidArgs(words) => Self::BadUrl { url, words: words.clone() },
            Error::TransportError(error) => Self::from_words(url, "transport error", &chain(error)),
            Error::IoError(error) => Self::Unreachable { url, words: error.to_string() },
            other => Self::Refused { url, words: other.to_string() },
        }
    }

    /// The library's errors carry their causes as text only where it counts, so the words decide.
    fn from_words(url: String, message: &str, chain: &Chain) -> Self {
        let Chain { words, is_tls, is_transport } = chain;
        if message.contains("no leader") {
            return Self::NoLeader { url };
        }
        // TLS 1.3 lets a server refuse a certificate after the client began to speak; whether its alert or the broken pipe
        // is seen first is chance.
        let says = |signs: &[&str]| signs.iter().any(|sign| words.to_ascii_lowercase().contains(sign));
        let is_tls = *is_tls || says(&["fatal alert", "peer certificate"]);
        let is_closed = says(&["broken pipe", "connection reset", "connection closed", "end of file"]);
        match (is_tls, is_transport) {
            (true, _) => Self::Untrusted { url, words: words.clone() },
            (false, true) if is_closed => Self::Closed { url, words: words.clone() },
            (false, true) => Self::Unreachable { url, words: words.clone() },
            (false, false) => Self::Refused { url, words: message.to_owned() },
        }
    }
}

/// The causes of an error.
struct Chain {
    words: String,
    is_tls: bool,
    is_transport: bool,
}

/// Follows the causes of an error down to the last, whose words say most; looks for TLS and sockets on the way.
fn chain(error: &(dyn std::error::Error + 'static)) -> Chain {
    let mut chain = Chain { words: error.to_string(), is_tls: false, is_transport: false };
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.is_transport = true;
        chain.words = error.to_string();
        chain.is_tls |= is_tls(error);
        cause = error.source();
    }
    chain
}

/// Whether TLS failed. An I/O error is no cause of what it wraps, and may wrap another: `source` leaves both out.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_to_do() {
        let url = "https://127.0.0.1:2379".to_owned();
        let silent = EtcdError::NoAnswer { url: url.clone(), within: Duration::from_secs(5) };
        assert_eq!(
            silent.to_string(),
            "etcd at https://127.0.0.1:2379 does not answer within 5 s: is the etcd pod running? see `crictl ps -a | grep etcd`"
        );
        let slow = EtcdError::TooSlow { url, limit: Duration::from_secs(90), received: 7, total: 9 };
        assert!(slow.to_string().contains("limits.transferSeconds"), "{slow}");
    }
}
