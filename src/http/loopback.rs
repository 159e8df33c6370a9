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
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), is_it, "{url}");
        }
    }
}
