//! What every test needs: a bound for each wait, and an HTTP client without manners.

use std::future::Future;
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

/// Far beyond what any step here takes, on a machine that has other work too.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("a test waited for something that never came")
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A client that neither follows redirects nor goes by a proxy.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(SOON).build().unwrap()
}

/// Status and JSON of an answer; null where it is no JSON.
pub(crate) async fn body(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}
