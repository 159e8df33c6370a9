//! Detects hosts on this machine: only there may secrets be sent in plain text.

use url::{Host, Url};

/// Whether `url` names a loopback host.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether credentials that are sent to `url` can be read on their way.
pub(crate) fn is_exposed(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, is_it) in [
            ("http://localhost:1", true),
            ("http://a.localhost", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:2", true),
            ("http://localhost.example", false),
            ("http://128.0.0.1", false),
            ("http://[::2]", false),
            ("data:text", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(is_loopback(&url), is_it, "{url}");
            assert_eq!(is_exposed(&url), !is_it && url.scheme() == "http", "{url}");
        }
    }
}
