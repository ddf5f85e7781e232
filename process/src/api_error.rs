//! The words of API errors. Those of the client carry its inner structures, which helps nobody at 3 a.m. No I/O.

use kube::core::Status;
use kube::runtime::watcher;

/// What went wrong, in words.
pub fn api_words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status_words(status),
        other => with_causes(other),
    }
}

/// What went wrong with a watch, in words.
pub fn watch_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => api_words(error),
        watcher::Error::WatchError(status) => status_words(status),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// The HTTP code of a watch that the API server refused.
pub fn watch_code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

fn status_words(status: &Status) -> String {
    let Status { message, code, .. } = status;
    if message.is_empty() { format!("HTTP {code}") } else { format!("{message} (HTTP {code})") }
}

/// An error and what lies below it: "client error (Connect)" alone says nothing.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let status = Status::failure("etcdbackups is forbidden", "Forbidden").with_code(403);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)));
        assert_eq!(watch_words(&error), "etcdbackups is forbidden (HTTP 403)");
        assert_eq!(watch_code(&error), Some(403));
    }

    #[test]
    fn causes_are_told_once_each() {
        let inner = std::io::Error::other("connection refused");
        let error = kube::Error::Service(Box::new(std::io::Error::other(inner)));
        let words = api_words(&error);
        assert_eq!(words.matches("connection refused").count(), 1, "{words}");
    }
}
