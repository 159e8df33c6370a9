//! A link within its span.

use async_trait::async_trait;
use tracing::{Instrument as _, Span};

use crate::error::Result;
use crate::telemetry;
use crate::transport::{Link, LinkEvent};

struct Traced {
    link: Box<dyn Link>,
    span: Span,
}

/// `link`, whose work is done within `span`, if anything wants that span.
pub(super) fn traced(link: Box<dyn Link>, span: Span) -> Box<dyn Link> {
    if span.is_disabled() { link } else { Box::new(Traced { link, span }) }
}

#[async_trait]
impl Link for Traced {
    async fn next(&mut self) -> Result<LinkEvent> {
        let event = self.link.next().instrument(self.span.clone()).await;
        event.inspect_err(|error| telemetry::failed(&self.span, error))
    }

    fn check(&mut self) {
        self.span.in_scope(|| self.link.check());
    }

    async fn close(self: Box<Self>) {
        self.link.close().instrument(self.span).await;
    }
}
