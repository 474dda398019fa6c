//! How many requests of a connection are under way, until the last byte of their answers is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Sleep, timeout};

use crate::reply::Body;

#[derive(Clone)]
pub(crate) struct Busy(Arc<watch::Sender<usize>>);

impl Default for Busy {
    fn default() -> Self {
        Self(Arc::new(watch::channel(0).0))
    }
}

impl Busy {
    pub(crate) fn enter(&self) -> UnderWay {
        self.0.send_modify(|n| *n += 1);
        UnderWay(self.clone())
    }

    /// Until there was no request for so long.
    pub(crate) async fn idle_for(&self, time: Duration) {
        let mut count = self.0.subscribe();
        loop {
            // The sender is this one: neither ends.
            let _ = count.wait_for(|n| *n == 0).await;
            if timeout(time, count.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request.
pub(crate) struct UnderWay(Busy);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// Something that ends with an answer's body.
pub(crate) fn until_sent(what: impl Send + Unpin + 'static, body: Body) -> Body {
    Held { body, _what: what }.boxed_unsync()
}

/// A body that ends after so long, whatever is left of it. One whose length is known ends by itself.
pub(crate) fn within(limit: Duration, body: Body) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let deadline = Box::pin(tokio::time::sleep(limit));
    Limited { body, deadline }.boxed_unsync()
}

struct Limited {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut self.body).poll_frame(cx),
        }
    }
}

struct Held<T> {
    body: Body,
    _what: T,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_without_end_is_ended() {
        let endless = http_body_util::StreamBody::new(futures::stream::pending()).boxed_unsync();
        let body = within(Duration::from_millis(20), endless);
        assert!(body.collect().await.is_ok_and(|all| all.to_bytes().is_empty()));
        let whole = within(
            Duration::ZERO,
            http_body_util::Full::new(Bytes::from("a")).boxed_unsync(),
        );
        assert!(whole.collect().await.is_ok_and(|all| all.to_bytes() == "a"));
    }

    #[tokio::test]
    async fn a_connection_is_idle_when_nothing_is_asked_for_a_while() {
        let busy = Busy::default();
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(20));
        let request = busy.enter();
        let held = timeout(10 * short, busy.idle_for(short)).await;
        assert!(held.is_err(), "an answer is still being sent");
        drop(request);
        assert!(timeout(long, busy.idle_for(short)).await.is_ok());
        let waiting = tokio::spawn({
            let busy = busy.clone();
            async move { busy.idle_for(long).await }
        });
        tokio::task::yield_now().await;
        drop(busy.enter());
        assert!(!waiting.is_finished());
        waiting.abort();
    }
}
