//! A call, ready to be sent.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Method};
use url::Url;

use crate::error::{Error, Result};
use crate::http::groups::BudgetMode;
use crate::http::retry::Idempotency;
use crate::http::{HttpRequest, Purpose};

/// The maximum deadline of a call; longer ones could exceed the clock's range.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A call, ready to be sent.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    pub(super) repeat: Idempotency,
    pub(super) mode: BudgetMode,
    pub(super) deadline: Duration,
}

impl Call {
    pub(super) fn build(&self, bearer: &HeaderValue) -> HttpRequest {
        let request = HttpRequest::new(self.method.clone(), self.url.clone(), Purpose::Call);
        let mut request = request.with_body(self.body.clone().unwrap_or_default());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(self.headers.clone());
        headers.insert(AUTHORIZATION, bearer.clone());
        request
    }

    pub(super) fn path(&self) -> &str {
        self.url.path()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No query, headers or body: any of them may carry a secret.
        f.debug_struct("Call").field("method", &self.method).field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The URL of `path` on `server`, never on another one.
pub(super) fn resolve(server: &Url, path: &str) -> Result<Url> {
    let relative = path.starts_with('/');
    let url = if relative { server.join(path) } else { Url::parse(path) };
    let url = url.map_err(|error| Error::config("the path is neither a path nor a URL").with_source(error))?;
    let anonymous = url.username().is_empty() && url.password().is_none();
    if url.origin() != server.origin() || !anonymous {
        return Err(Error::config("the path leads to another server; the access token stays here"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_path_never_leaves_the_server() {
        let server = Url::parse("https://api.example:8443").unwrap();
        for (path, want) in [
            ("/restapi/v1.0/x?a=b", "https://api.example:8443/restapi/v1.0/x?a=b"),
            ("https://api.example:8443/y", "https://api.example:8443/y"),
            ("HTTPS://API.EXAMPLE:8443/y", "https://api.example:8443/y"),
        ] {
            assert_eq!(resolve(&server, path).unwrap().as_str(), want);
        }
        for path in [
            "",
            "restapi",
            "//evil.example/x",
            "/\\evil.example/x",
            "\\\\evil.example",
            "https://evil.example:8443/x",
            "https://api.example/x",
            "http://api.example:8443/x",
            "https://api.example:8443@evil.example/x",
            "https://user@api.example:8443/x",
            "file:///etc/passwd",
        ] {
            assert_eq!(resolve(&server, path).unwrap_err().kind(), ErrorKind::Config, "{path}");
        }
    }
}
