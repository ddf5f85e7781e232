//! The URL by which this node's own member is reached. Pure.

/// The URL by which this node's own member is reached: loopback first, so that no firewall or DNS has a say.
pub fn choose_endpoint(listen: &[String]) -> Option<String> {
    let mut usable: Vec<(bool, String)> = listen.iter().filter_map(|url| reachable(url)).collect();
    usable.sort_by_key(|(is_loopback, _)| !is_loopback);
    usable.into_iter().next().map(|(_, url)| url)
}

/// A URL to connect to for one to listen at; wildcard addresses become loopback.
fn reachable(url: &str) -> Option<(bool, String)> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let (is_loopback, host) = match host {
        "0.0.0.0" => (true, "127.0.0.1"),
        "[::]" => (true, "[::1]"),
        "127.0.0.1" | "[::1]" | "localhost" => (true, host),
        "" => return None,
        _ => (false, host),
    };
    // A host that still holds a variable is known to nobody.
    (!host.contains("$(")).then(|| (is_loopback, format!("{scheme}://{host}:{port}")))
}
