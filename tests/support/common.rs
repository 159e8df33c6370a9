//! Shared by all tests: a deadline for each wait, and an HTTP client without retries.

use std::future::Future;
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

/// Far longer than any step takes, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("a test waited for something that never came")
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A client that follows no redirects and uses no proxy.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(SOON).build().unwrap()
}

/// Status and JSON of an answer; null if it is not JSON.
pub(crate) async fn body(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}
