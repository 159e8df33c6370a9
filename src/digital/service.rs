//! The endpoint as a `tower` service for streaming bodies.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tokio::time::timeout;
use tower_service::Service;

use super::endpoint::{SourceEndpoint, too_large};
use super::failure::Failure;

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl<B> Service<Request<B>> for SourceEndpoint
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failed>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let endpoint = self.clone();
        Box::pin(async move { Ok(endpoint.stream(request).await.map(Full::new)) })
    }
}

impl SourceEndpoint {
    /// Reads the body up to its size limit and deadline.
    async fn stream<B>(&self, request: Request<B>) -> Response<Bytes>
    where
        B: Body + Send,
        B::Error: Into<Failed>,
    {
        let (head, body) = request.into_parts();
        let limit = self.body_limit();
        if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
            return self.refuse(&too_large());
        }
        if let Some(refusal) = self.refuse_method(&head.method) {
            return refusal;
        }
        let body = std::pin::pin!(Limited::new(body, limit));
        match timeout(self.deadline(), body.collect()).await {
            Ok(Ok(body)) => self.handle(Request::from_parts(head, body.to_bytes())).await,
            Ok(Err(error)) if error.is::<LengthLimitError>() => self.refuse(&too_large()),
            Ok(Err(_)) => self.refuse(&Failure::of(StatusCode::BAD_REQUEST, "the body broke off")),
            Err(_) => self.refuse(&Failure::of(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        }
    }
}
