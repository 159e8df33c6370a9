//! Tokens that are managed elsewhere.

use std::fmt;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{AccessToken, TokenProvider};
use crate::error::{Error, ErrorKind, Result};

/// A fixed token, valid until the service refuses it.
#[derive(Clone, Debug)]
pub struct StaticToken(AccessToken);

impl StaticToken {
    /// Serves `token`.
    #[must_use]
    pub fn new(token: AccessToken) -> Self {
        Self(token)
    }
}

#[async_trait]
impl TokenProvider for StaticToken {
    async fn token(&self) -> Result<AccessToken> {
        Ok(self.0.clone())
    }

    /// # Errors
    /// Always [`Auth`](ErrorKind::Auth), since there is no other token.
    async fn refresh(&self, _rejected: &AccessToken) -> Result<AccessToken> {
        Err(Error::new(ErrorKind::Auth, "the given access token is no longer good, and it cannot be refreshed"))
    }
}

/// Tokens from your function: another service, a vault, a shared session.
///
/// The function gets the refused token, or `None` for the first token or after expiry. Its result
/// is cached until the next refusal or expiry, and concurrent callers share one call.
///
/// ```
/// use ringcentral_events::auth::{AccessToken, TokenFn};
///
/// let tokens = TokenFn::new(|_refused| async { Ok(AccessToken::new("from elsewhere")) });
/// ```
pub struct TokenFn<F> {
    ask: F,
    // Held across the call to make it single-flight. A caller that is dropped releases it, and the
    // next one calls again.
    current: Mutex<Option<AccessToken>>,
}

impl<F, Fut> TokenFn<F>
where
    F: Fn(Option<AccessToken>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<AccessToken>> + Send,
{
    /// Gets tokens from `ask`.
    pub fn new(ask: F) -> Self {
        Self { ask, current: Mutex::new(None) }
    }

    async fn current_unless(&self, rejected: Option<&AccessToken>) -> Result<AccessToken> {
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref() {
            let refused = rejected.is_some_and(|rejected| rejected.is_same(token));
            let over = token.expires_in().is_some_and(|left| left.is_zero());
            if !refused && !over {
                return Ok(token.clone());
            }
        }
        let token = (self.ask)(rejected.cloned()).await?;
        *current = Some(token.clone());
        Ok(token)
    }
}

#[async_trait]
impl<F, Fut> TokenProvider for TokenFn<F>
where
    F: Fn(Option<AccessToken>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<AccessToken>> + Send + 'static,
{
    async fn token(&self) -> Result<AccessToken> {
        self.current_unless(None).await
    }

    async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken> {
        self.current_unless(Some(rejected)).await
    }
}

impl<F> fmt::Debug for TokenFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_static_token_is_served_and_cannot_be_refreshed() {
        let tokens = StaticToken::new(AccessToken::new("a"));
        let token = tokens.token().await.unwrap();
        assert_eq!(token.secret().expose(), "a");
        assert_eq!(tokens.refresh(&token).await.unwrap_err().kind(), ErrorKind::Auth);
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_is_asked_once_per_token() {
        let asked = Arc::new(AtomicU32::new(0));
        let tokens = {
            let asked = asked.clone();
            Arc::new(TokenFn::new(move |_| {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    tokio::task::yield_now().await;
                    Ok(AccessToken::new(format!("t{n}")).with_expires_in(Duration::from_secs(60)))
                }
            }))
        };
        let callers: Vec<_> = (0..10)
            .map(|_| {
                let tokens = tokens.clone();
                tokio::spawn(async move { tokens.token().await })
            })
            .collect();
        let mut first = None;
        for caller in callers {
            first = Some(caller.await.unwrap().unwrap());
        }
        let first = first.unwrap();
        let second = tokens.refresh(&first).await.unwrap();
        let again = tokens.refresh(&first).await.unwrap();
        assert_eq!((second.secret().expose(), again.secret().expose()), ("t1", "t1"));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(tokens.token().await.unwrap().secret().expose(), "t2");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
