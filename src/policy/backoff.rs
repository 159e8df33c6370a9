//! stub until merged
use std::time::Duration;
#[derive(Clone, Debug)]
pub struct BackoffPolicy {
    base: Duration,
    cap: Duration,
}
impl Default for BackoffPolicy {
    fn default() -> Self {
        Self { base: Duration::from_millis(200), cap: Duration::from_secs(30) }
    }
}
impl BackoffPolicy {
    pub(crate) fn delay(&self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let ceiling = self.base.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(self.cap);
        ceiling.mul_f64(random).max(retry_after.unwrap_or_default().min(Duration::from_secs(3600)))
    }
}
