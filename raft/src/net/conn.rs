//! A dialled connection: requests with ids, answers in any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::env::BoxStream;
use crate::net::frame::{self, Frame};
use crate::net::message::Message;
use crate::net::{Limits, NetError};
use crate::task::{AbortOnDrop, spawn};

/// Pieces of frames are gathered up to this size.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

type Waiting = oneshot::Sender<Result<Frame, NetError>>;

/// Requests that wait for an answer; `None` once the connection is gone.
type Pending = Arc<Mutex<Option<BTreeMap<u64, Waiting>>>>;

/// An answer that is on its way.
pub(crate) struct Answer {
    id: u64,
    pending: Pending,
    answer: oneshot::Receiver<Result<Frame, NetError>>,
}

/// An open connection, its hello answered.
pub(crate) struct Conn {
    outgoing: mpsc::Sender<Frame>,
    pending: Pending,
    next_id: AtomicU64,
    lost: watch::Sender<Option<String>>,
    _tasks: [AbortOnDrop; 2],
}

impl Conn {
    /// Takes over a stream whose hello was answered.
    pub(crate) fn new(stream: BoxStream, limits: &Limits) -> Arc<Self> {
        let (read, write) = tokio::io::split(stream);
        let (outgoing, frames) = mpsc::channel(limits.outgoing_frames);
        let pending: Pending = Arc::new(Mutex::new(Some(BTreeMap::new())));
        let lost = watch::Sender::new(None);
        let writer = write_all(write, frames, limits.clone(), pending.clone(), lost.clone());
        let reader = read_all(read, limits.clone(), pending.clone(), lost.clone());
        Arc::new(Self {
            outgoing,
            pending,
            next_id: AtomicU64::new(1),
            lost,
            _tasks: [AbortOnDrop(spawn(writer)), AbortOnDrop(spawn(reader))],
        })
    }

    /// Puts a request on its way. Waits only for room in the queue.
    pub(crate) async fn send(
        &self,
        message: Message,
        parts: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<Answer, NetError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (waiting, answer) = oneshot::channel();
        match &mut *self.pending.lock() {
            Some(pending) => pending.insert(id, waiting),
            None => return Err(NetError::Lost(self.why_lost())),
        };
        let answer = Answer {
            id,
            pending: self.pending.clone(),
            answer,
        };
        let frame = Frame { id, message, parts };
        match timeout_at(deadline, self.outgoing.send(frame)).await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(_)) => Err(NetError::Lost(self.why_lost())),
            Err(_) => Err(NetError::Timeout),
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn request(
        &self,
        message: Message,
        parts: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<Message, NetError> {
        let answer = self.send(message, parts, deadline).await?;
        let outcome = answer.wait(deadline).await;
        if matches!(outcome, Err(NetError::Timeout)) {
            // A network that lost one packet for good loses the connection: begin a new one.
            self.close("a request was not answered in time");
        }
        outcome
    }

    /// Gives the connection up.
    pub(crate) fn close(&self, why: &str) {
        end(&self.pending, &self.lost, NetError::Lost(why.to_owned()));
    }

    /// Resolves when the connection is gone, with the reason.
    pub(crate) async fn lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    fn why_lost(&self) -> String {
        self.lost.borrow().clone().unwrap_or_default()
    }
}

impl Answer {
    /// Waits for the answer. An answer that says the request failed is an error.
    pub(crate) async fn wait(mut self, deadline: Instant) -> Result<Message, NetError> {
        let frame = match timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) => return Err(NetError::Lost("closed".into())),
            Err(_) => return Err(NetError::Timeout),
        };
        match frame.message {
            Message::Failed { reason } => Err(NetError::Remote(reason)),
            Message::Refused { code, detail } => Err(NetError::Refused { code, detail }),
            message => Ok(message),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(pending) = &mut *self.pending.lock() {
            pending.remove(&self.id);
        }
    }
}

/// Fails everything that waits, once.
fn end(pending: &Pending, lost: &watch::Sender<Option<String>>, error: NetError) {
    let waiting = pending.lock().take();
    lost.send_if_modified(|why| {
        let first = why.is_none();
        if first {
            *why = Some(error.to_string());
        }
        first
    });
    for (_, waiting) in waiting.into_iter().flatten() {
        waiting.send(Err(error.clone())).ok();
    }
}

async fn write_all(
    write: WriteHalf<BoxStream>,
    mut frames: mpsc::Receiver<Frame>,
    limits: Limits,
    pending: Pending,
    lost: watch::Sender<Option<String>>,
) {
    // Without it every piece of a frame, two per entry, would be a TLS record and a system call of its own.
    let mut write = BufWriter::with_capacity(WRITE_BUFFER_BYTES, write);
    while let Some(frame) = frames.recv().await {
        let work = async {
            frame::write(&mut write, &frame).await?;
            while let Ok(frame) = frames.try_recv() {
                frame::write(&mut write, &frame).await?;
            }
            write.flush().await
        };
        let outcome = match timeout(limits.write_timeout, work).await {
            Ok(outcome) => outcome.map_err(|e| e.to_string()),
            Err(_) => Err("the other side does not read".into()),
        };
        if let Err(why) = outcome {
            return end(&pending, &lost, NetError::Lost(why));
        }
    }
}

async fn read_all(read: ReadHalf<BoxStream>, limits: Limits, pending: Pending, lost: watch::Sender<Option<String>>) {
    let mut read = BufReader::with_capacity(64 << 10, read);
    let error = loop {
        match frame::read(&mut read, limits.frame_bytes).await {
            Ok(Some(frame)) => {
                // Id 0 is not an answer: the other side ends the connection and says why.
                if let (0, Message::Refused { code, detail }) = (frame.id, &frame.message) {
                    break NetError::Refused {
                        code: *code,
                        detail: detail.clone(),
                    };
                }
                let waiting = pending.lock().as_mut().and_then(|pending| pending.remove(&frame.id));
                if let Some(waiting) = waiting {
                    waiting.send(Ok(frame)).ok();
                }
            }
            Ok(None) => break NetError::Lost("closed by the other side".into()),
            Err(error) => break NetError::Lost(error.to_string()),
        }
    };
    end(&pending, &lost, error);
}
