//! Sends a request on a stream of an HTTP/2 connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;

use http::header::CONTENT_LENGTH;
use http::{Method, Response, StatusCode, Version};

use super::{CROSSING, Sending, flooding, in_own_time, in_time, late, silent};
use crate::config::Limits;
use crate::domain::outcome::Outcome;
use crate::domain::policy::RequestPolicy;
use crate::domain::retry::Reached;
use crate::proxy::exchange::attempt::{Cargo, Failed};
use crate::proxy::exchange::{Exchange, interim, translate};
use crate::proxy::fault::{Fault, Kind};
use crate::proxy::upstream::cluster::Lease;
use crate::proxy::upstream::{Dial, InterimAnswers, Kept, Key, NoAnswer, Outgoing, Protocol, StreamPermit};
use crate::proxy::worker::Worker;
use crate::transport::MessageBody;

impl Sending<'_> {
    /// Sends the request, and waits for the head of the answer. Of a request that was not processed the body is put
    /// back, as far as it was kept.
    pub(super) async fn deliver_http2(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        policy: RequestPolicy,
        lease: &mut Lease,
        dial: Dial<'_>,
    ) -> Result<<Self as Cargo>::Delivered, Box<Failed>> {
        let limits = &exchange.snapshot.config.limits;
        let (mut permit, mut sent, before) = self.send_http2(worker, exchange, lease, dial).await?;
        let address = lease.backend().address;
        let told = self.told(exchange);
        let answer = pin!(poll_fn(|cx| sent.poll_answer(cx, told.as_ref())));
        let answer = match policy.response() {
            None => in_time(answer, exchange, None).await,
            Some(limit) => in_own_time(answer, exchange, None, limit).await,
        };
        let error = match answer {
            Some(Ok(answer)) if answer.headers().len() <= limits.header_count => {
                if permit.switches(&mut sent, answer.status()) {
                    let answer = answer.map(|stream| MessageBody::stream(stream, None));
                    let answer = translate::to_switch(self.request.headers(), answer);
                    return Ok((answer, permit.into_connection()));
                }
                permit.answers(sent);
                return Ok((self.with_body(answer), permit.into_connection()));
            }
            Some(Ok(_)) => return Err(Box::new(too_many_fields(address, limits))),
            Some(Err(error)) => error,
            None => return Err(Box::new(late(exchange, policy, address))),
        };
        if let NoAnswer::Stream(error) = &error {
            permit.broken(error);
        }
        let is_unheard = permit.peer().reads() == before;
        let mut failed = no_answer(lease, &permit, is_unheard, limits, &error);
        match sent.into_body() {
            Some(body) => *self.request.body_mut() = body,
            None => failed.not_kept(limits),
        }
        Err(Box::new(failed))
    }

    /// Begins to send the request on a stream. Also returns how many reads of its connection had returned data before.
    async fn send_http2(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        lease: &mut Lease,
        mut dial: Dial<'_>,
    ) -> Result<(StreamPermit, Outgoing, u64), Box<Failed>> {
        let rules = exchange.snapshot.dial_rules();
        let (limits, key) = (rules.limits, Key::plain(Protocol::Http2, exchange.session.source()));
        loop {
            let permit = worker.dialer.stream(rules, lease, key, dial.again()).await;
            let permit = permit.map_err(|none| Box::new(none.into()))?;
            let Some(mut permit) = permit else {
                return Err(Box::new(Failed::broken(lease.backend().address, Reached::Unsent)));
            };
            let before = permit.peer().reads();
            let kept = Kept::new(&worker.dialer.connecting, &limits.http2_endpoints);
            let sent = if self.upgrades && permit.takes_extended_connect(dial.limit).await {
                permit.ask_for_tunnel(translate::to_extended_connect(self.request), limits)
            } else {
                let body = std::mem::take(self.request.body_mut());
                permit.send(translate::to_http2(self.request), body, kept, limits)
            };
            let refused = match sent {
                Ok(sent) => return Ok((permit, sent, before)),
                Err(refused) => *refused,
            };
            *self.request.body_mut() = refused.body;
            permit.broken(&refused.error);
            // A connection that ends is dropped by its pool; another one is used.
            if !refused.error.is_go_away() && !refused.error.is_io() {
                return Err(Box::new(unsendable(&refused.error)));
            }
            if !permit.is_reused() {
                // The next one may end as soon: that is another attempt, of which there are few.
                return Err(Box::new(Failed::broken(lease.backend().address, Reached::Unsent)));
            }
        }
    }

    /// Who is told of interim answers.
    fn told(&self, exchange: &Exchange) -> Option<InterimAnswers> {
        if exchange.head.spoken != Version::HTTP_11 {
            return self.request.extensions().get().cloned();
        }
        let (activity, is_stranger) = (exchange.session.activity.clone(), exchange.is_stranger());
        Some(InterimAnswers::new(move |head| {
            // Whoever waits for a 100 gets it from hyper.
            if head.status() != StatusCode::CONTINUE {
                activity.interject(&interim::of_http2(&head, is_stranger));
            }
        }))
    }

    /// `answer` with its body.
    fn with_body(&self, answer: Response<h2::RecvStream>) -> Response<MessageBody> {
        let has_none = *self.request.method() == Method::HEAD
            || matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = || answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let length = if has_none { Some(0) } else { length() };
        answer.map(|stream| MessageBody::stream(stream, length))
    }
}

impl Failed {
    /// It cannot be sent again, although it was not processed: not all of its body was kept.
    fn not_kept(&mut self, limits: &Limits) {
        if self.reached == Reached::Unsent {
            let most = limits.http2_endpoints.replay_bytes;
            let detail = format!("{}, and of a body no more than {most} bytes are kept", self.fault.detail);
            self.fault.detail = detail.into();
        }
        self.reached = Reached::Answering;
    }
}

/// No answer came on the stream of `permit`; `is_unheard` says that nothing at all came on its connection meanwhile.
fn no_answer(
    lease: &Lease,
    permit: &StreamPermit,
    is_unheard: bool,
    limits: &Limits,
    error: &NoAnswer,
) -> Failed {
    let address = lease.backend().address;
    let error = match error {
        NoAnswer::Interim => return flooding(address, limits),
        NoAnswer::Switched => {
            let detail = format!("{address} answered 101, which HTTP/2 does not have");
            let fault = Fault::new(Kind::Framing, detail);
            return Failed { fault, outcome: Outcome::BadFraming, reached: Reached::Answering };
        }
        NoAnswer::Body(_) => {
            let fault = Fault::new(Kind::BadBody, "the request's body broke off");
            return Failed { fault, outcome: Outcome::Abandoned, reached: Reached::Answering };
        }
        NoAnswer::Stream(error) => error,
    };
    if permit.peer().is_silent() {
        return silent(address, limits.silence);
    }
    if permit.is_unanswered() {
        let limit = limits.http2_endpoints.ping_timeout;
        let fault = Fault::new(Kind::Silent, format!("{address} did not answer a PING within {limit:?}"));
        return Failed { fault, outcome: Outcome::Silent, reached: Reached::Unanswered };
    }
    let mut failed = by_error(address, error);
    // A connection that ends now may have been closed before its endpoint saw the request.
    let crossed = lease.started().elapsed() < CROSSING;
    if failed.outcome == Outcome::Reset && error.is_io() && is_unheard && permit.is_reused() && crossed {
        failed.outcome = Outcome::Stale;
    }
    failed
}

/// What `error` means (RFC 9113 §§5.4, 6.8, 8.7).
fn by_error(address: SocketAddr, error: &h2::Error) -> Failed {
    let reason = error.reason();
    if error.is_go_away() && error.is_remote() {
        // Only streams above the last one that it processed end so.
        let is_error = reason != Some(h2::Reason::NO_ERROR);
        let outcome = if is_error { Outcome::Reset } else { Outcome::Stale };
        let detail = format!("{address} closed its connection before it processed the request: {error}");
        return Failed { fault: Fault::new(Kind::Reset, detail), outcome, reached: Reached::Unsent };
    }
    if error.is_reset() && error.is_remote() {
        let (outcome, reached) = match reason {
            Some(h2::Reason::REFUSED_STREAM) => (Outcome::RefusedStream, Reached::Unsent),
            _ => (Outcome::Reset, Reached::Unanswered),
        };
        let detail = format!("{address} reset the stream before it answered: {error}");
        return Failed { fault: Fault::new(Kind::Reset, detail), outcome, reached };
    }
    if error.is_library() {
        let fault = Fault::new(Kind::Framing, format!("what {address} answered is not HTTP/2: {error}"));
        return Failed { fault, outcome: Outcome::BadFraming, reached: Reached::Unanswered };
    }
    Failed::broken(address, Reached::Unanswered)
}

/// The request's head cannot be written as HTTP/2.
fn unsendable(error: &h2::Error) -> Failed {
    let fault = Fault::new(Kind::BadHead, format!("the request cannot be sent by HTTP/2: {error}"));
    Failed { fault, outcome: Outcome::Abandoned, reached: Reached::Answering }
}

/// The answer has more fields than an answer may have.
fn too_many_fields(address: SocketAddr, limits: &Limits) -> Failed {
    let detail = format!("the answer of {address} has more than {} fields", limits.header_count);
    let fault = Fault::new(Kind::Framing, detail);
    Failed { fault, outcome: Outcome::BadFraming, reached: Reached::Answering }
}
