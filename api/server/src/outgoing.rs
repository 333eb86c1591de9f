//! Answers on their way out. Every answer is wrapped here, whatever it is made of, so that what its request holds is
//! given back when the last byte has been written or the client is gone, and not before.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http::{HeaderValue, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::{Status, body::Body};

use crate::{
    activity::{Busy, Leaving},
    metrics::{Counted, Panics},
    shares::Place,
};

/// What a request holds until its answer has left.
pub(crate) struct Held {
    pub(crate) busy: Busy,
    /// None for a watch, which is counted as such.
    pub(crate) _counted: Option<Counted>,
    /// None where the request was refused without one.
    pub(crate) _place: Option<Place>,
}

pin_project! {
    /// The body of an answer.
    pub(crate) struct Outgoing {
        #[pin]
        body: Body,
        held: Arc<Held>,
        panics: Panics,
        request_id: String,
        over: bool,
    }
}

/// A piece of an answer. HTTP keeps it until it is written.
pub(crate) struct Piece {
    data: Bytes,
    leaving: Option<Leaving>,
    _held: Arc<Held>,
}

impl Outgoing {
    pub(crate) fn new(body: Body, held: Held, panics: Panics, request_id: String) -> Self {
        Self {
            body,
            held: Arc::new(held),
            panics,
            request_id,
            over: false,
        }
    }
}

impl Piece {
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

impl http_body::Body for Outgoing {
    type Data = Piece;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, Status>>> {
        let this = self.project();
        if *this.over {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| this.body.poll_frame(cx))).unwrap_or_else(|panic| {
            *this.over = true;
            let error = this.panics.caught(this.request_id, &*panic);
            Poll::Ready(Some(Err(error.into_status(this.request_id))))
        });
        let held = &*this.held;
        polled.map(|frame| {
            let frame = frame?;
            Some(frame.map(|frame| {
                frame.map_data(|data| Piece {
                    leaving: (!data.is_empty()).then(|| held.busy.leaving()),
                    data,
                    _held: Arc::clone(held),
                })
            }))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        if self.data.has_remaining() {
            if let Some(leaving) = &self.leaving {
                leaving.moved();
            }
        } else {
            self.leaving = None;
        }
    }
}

/// The answer to HEAD: the headers that GET would have, its length among them, and nothing after them.
pub(crate) fn head_alone(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|_| !body.is_end_stream())
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Body::empty())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

    use super::*;
    use crate::{Limits, activity::Activity, shares::Places};

    fn outgoing(body: Body, gauge: &Gauge, activity: &Arc<Activity>, panics: &Counter) -> Outgoing {
        let held = Held {
            busy: activity.begin(),
            _counted: Some(Counted::new(gauge)),
            _place: Places::new(&Limits::default()).anonymous().ok(),
        };
        Outgoing::new(body, held, Panics::new(panics.clone()), "r1".to_owned())
    }

    #[tokio::test]
    async fn what_is_held_goes_with_the_last_byte() {
        let (gauge, activity, panics) = (Gauge::default(), Activity::new(), Counter::default());
        let mut body = outgoing(crate::body::full("abcdef"), &gauge, &activity, &panics);
        let mut piece = body.frame().await.unwrap().unwrap().into_data().ok().unwrap();
        assert!(body.frame().await.is_none());
        drop(body);
        // HTTP is done with the body, and the client has read nothing.
        assert_eq!(gauge.get(), 1);
        assert!(activity.stalled_since().is_some() && activity.idle_since().is_none());
        piece.advance(3);
        assert_eq!((piece.chunk(), gauge.get()), (&b"def"[..], 1));
        piece.advance(3);
        assert!(activity.stalled_since().is_none());
        drop(piece);
        assert_eq!(gauge.get(), 0);
        assert!(activity.idle_since().is_some());
    }

    #[tokio::test]
    async fn a_panic_in_a_body_ends_that_body_alone() {
        let (gauge, activity, panics) = (Gauge::default(), Activity::new(), Counter::default());
        let broken = futures::stream::poll_fn(|_| -> Poll<Option<Result<Frame<Bytes>, Status>>> { panic!("broken") });
        let mut body = outgoing(
            Body::new(http_body_util::StreamBody::new(broken)),
            &gauge,
            &activity,
            &panics,
        );
        let status = body.frame().await.unwrap().err().unwrap();
        assert_eq!((status.code(), panics.get()), (tonic::Code::Internal, 1));
        assert!(body.frame().await.is_none());
    }
}
