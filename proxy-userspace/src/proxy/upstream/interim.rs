//! Interim answers (1xx, RFC 9110 §15.2), on their way from an endpoint to the client.

use std::fmt;
use std::sync::Arc;

use http::{Request, Response};

type Tell = dyn Fn(Response<()>) + Send + Sync;

/// Who is told of the interim answers to a request; kept in its extensions.
#[derive(Clone)]
pub struct InterimAnswers(Arc<Tell>);

impl InterimAnswers {
    /// `tell` is given each interim answer to `request`, of an endpoint that speaks HTTP/1 as of one that speaks HTTP/2.
    pub fn of<B>(request: &mut Request<B>, tell: impl Fn(Response<()>) + Send + Sync + 'static) {
        let to = Self::new(tell);
        let http1 = to.clone();
        hyper::ext::on_informational(request, move |interim| {
            let mut head = Response::new(());
            *head.status_mut() = interim.status();
            *head.headers_mut() = interim.headers().clone();
            http1.tell(head);
        });
        request.extensions_mut().insert(to);
    }

    /// `tell` is given each.
    pub fn new(tell: impl Fn(Response<()>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// One has come.
    pub(super) fn tell(&self, interim: Response<()>) {
        (self.0)(interim);
    }
}

impl fmt::Debug for InterimAnswers {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("InterimAnswers")
    }
}
