//! The URLs of the services.

use url::Url;

use super::super::builder::api_url;
use crate::error::{Disposition, Error, ErrorKind, Result};

/// The service's documents that name the URLs of its parts.
pub(super) const WELL_KNOWN: [&str; 2] = [".well-known/openid-configuration", ".well-known/cxone-configuration"];

/// A service's URL as people copy it: the path of one of its documents or calls is removed. A path that still looks
/// like one is refused: no call below it would be found.
pub(super) fn service_url(text: &str, documents: &[&str]) -> Result<Url> {
    let mut url = api_url(text)?;
    let mut parts: Vec<String> = url.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for document in documents {
        let end: Vec<&str> = document.split('/').collect();
        let ends = parts
            .len()
            .checked_sub(end.len())
            .is_some_and(|at| parts.iter().skip(at).zip(&end).all(|(part, end)| part.eq_ignore_ascii_case(end)));
        if ends {
            parts.truncate(parts.len() - end.len());
            break;
        }
    }
    let firsts = |part: &String| documents.iter().any(|it| it.split('/').any(|it| it.eq_ignore_ascii_case(part)));
    if parts.iter().any(firsts) {
        return Err(Error::config("the service's URL names one of its calls; give it without their path"));
    }
    url.set_path(&parts.join("/"));
    Ok(url)
}

/// Reads a URL that the service named. It must not drop TLS, since the token is sent there.
pub(super) fn named(text: &str, by: &Url) -> Result<Url> {
    let url = api_url(text).map_err(|error| {
        Error::new(ErrorKind::Protocol, "the service returned an invalid URL")
            .with_disposition(Disposition::Fatal)
            .with_source(error)
    })?;
    if by.scheme() == "https" && url.scheme() != "https" {
        return Err(Error::new(ErrorKind::Protocol, "the service named an address without TLS")
            .with_disposition(Disposition::Fatal));
    }
    Ok(url)
}

/// A path below a base.
pub(super) fn at(base: &Url, path: &str) -> Result<Url> {
    let text = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|error| Error::config("invalid URL of the service").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_url_is_accepted_with_the_path_of_its_documents_and_never_doubled() {
        let documents = ["auth/token", WELL_KNOWN[0], WELL_KNOWN[1]];
        for (text, want) in [
            ("https://cxone.example", "https://cxone.example/"),
            ("https://cxone.example/", "https://cxone.example/"),
            ("https://cxone.example/auth/token", "https://cxone.example/"),
            ("https://cxone.example/Auth/Token/", "https://cxone.example/"),
            ("https://cxone.example/.well-known/openid-configuration", "https://cxone.example/"),
            (" https://cxone.example//.well-known/cxone-configuration/ ", "https://cxone.example/"),
            ("https://h:8443/tenants/auth/token", "https://h:8443/tenants"),
        ] {
            assert_eq!(service_url(text, &documents).unwrap().as_str(), want, "{text}");
        }
        for bad in [
            "https://h/auth/token/x",
            "https://h/auth/token/auth/token",
            "https://h/token",
            "https://h/.well-known/jwks",
            "https://h/.well-known/cxone-configuration?tenantId=t",
            "",
        ] {
            assert_eq!(service_url(bad, &documents).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }
}
