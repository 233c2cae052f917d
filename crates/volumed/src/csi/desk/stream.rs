//! Answers that come in parts.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream;
use tonic::{Request, Response, Status};
use vol_api::{ApiError, ErrorCode};
use vol_csi::metadata::{Message, Stream};
use vol_csi::{Refused, Rpc, Volumes};

use super::{About, Desk, RECOVERY_MAX};
use crate::csi::volumes::CsiVolumes;
use crate::server::Front;
use crate::server::operation::{Operation, Outcome};

/// How long a client may take nothing. It may be reading what it was told of meanwhile.
const STALL_MAX: Duration = Duration::from_secs(600);
/// How often it is looked whether the daemon is to end, while a client takes nothing.
const TICK: Duration = Duration::from_millis(200);

/// What a client is told one after another. Only what is complete ends without an error.
pub struct Told<M> {
    messages: mpsc::Receiver<Result<M, Status>>,
    is_complete: Arc<AtomicBool>,
    ended: bool,
}

impl<M> tokio_stream::Stream for Told<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match self.messages.poll_recv(context) {
            Poll::Ready(None) if !self.is_complete.load(Ordering::Acquire) => {
                self.ended = true;
                let cut = "the answer was cut off; ask again with starting_offset behind the last range that came";
                Poll::Ready(Some(Err(Status::unavailable(cut))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
            other => other,
        }
    }
}

/// Who looks and tells.
struct Teller<M> {
    front: Arc<Front>,
    volumes: Arc<CsiVolumes>,
    to: mpsc::Sender<Result<M, Status>>,
    is_complete: Arc<AtomicBool>,
}

/// Why a stream ends before its end.
enum Cut {
    Refused(Refused),
    /// Nobody listens any more, or not for long.
    Gone,
}

impl Desk {
    /// Answers what comes in parts. No thread waits for a client that takes its time, and no metadata snapshot is held for it.
    pub(super) async fn streamed<Q, M>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        about: impl FnOnce(&Q) -> About,
        begin: fn(&dyn Volumes, &Q) -> Result<Stream, Refused>,
    ) -> Result<Response<Told<M>>, Status>
    where
        Q: Send + 'static,
        M: Message + Send + 'static,
    {
        let mut operation = self.begin(rpc, &request)?;
        let request = request.into_inner();
        operation.about(about(&request).object);
        let refuse = |operation: Operation, code: ErrorCode, why: &str| {
            let error = ApiError::new(code, why);
            operation.refused(&error);
            Err(Refused::from(error).into())
        };
        let Some(backend) = self.front.backend_within(RECOVERY_MAX).await else {
            return refuse(operation, ErrorCode::NotReady, "volumed is still recovering its volume groups");
        };
        let Ok(share) = Arc::clone(&self.shared.streams).try_acquire_owned() else {
            return refuse(operation, ErrorCode::Busy, "too many answers in parts are under way; ask again later");
        };
        let volumes = Arc::new(CsiVolumes::new(backend, Arc::clone(&self.shared), self.front.config()));
        // What is wrong with a request is told before anything else.
        let first = {
            let volumes = Arc::clone(&volumes);
            blocking(move || {
                let mut stream = begin(&*volumes, &request)?;
                stream.look(&*volumes)?;
                Ok(stream)
            })
        };
        let stream = match first.await {
            Ok(stream) => stream,
            Err(refused) => {
                operation.refused(&refused.error);
                return Err(refused.into());
            }
        };
        let (to, messages) = mpsc::channel(1);
        let is_complete = Arc::<AtomicBool>::default();
        let teller = Teller { front: Arc::clone(&self.front), volumes, to, is_complete: Arc::clone(&is_complete) };
        tokio::spawn(async move {
            match teller.tell(stream).await {
                Ok(()) => operation.end(Outcome::Answered),
                Err(Cut::Refused(refused)) => {
                    operation.refused(&refused.error);
                    let _ = teller.send(Err(refused.into())).await;
                }
                Err(Cut::Gone) => drop(operation),
            }
            drop(share);
        });
        Ok(Response::new(Told { messages, is_complete, ended: false }))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    let defect = |_| ApiError::internal("volumed has a defect here: its log has the details").into();
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(defect(error)))
}

impl<M: Message + Send + 'static> Teller<M> {
    async fn tell(&self, mut stream: Stream) -> Result<(), Cut> {
        loop {
            while stream.is_hungry() {
                if self.to.is_closed() || self.front.is_stopping() {
                    return Err(Cut::Gone);
                }
                let volumes = Arc::clone(&self.volumes);
                let looked = blocking(move || {
                    stream.look(&*volumes)?;
                    Ok(stream)
                });
                stream = looked.await.map_err(Cut::Refused)?;
            }
            let Some(message) = stream.message() else {
                self.is_complete.store(true, Ordering::Release);
                return Ok(());
            };
            self.send(Ok(message)).await?;
        }
    }

    async fn send(&self, message: Result<M, Status>) -> Result<(), Cut> {
        let begun = Instant::now();
        loop {
            match tokio::time::timeout(TICK, self.to.reserve()).await {
                Ok(Ok(place)) => {
                    place.send(message);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Cut::Gone),
                Err(_) if self.front.is_stopping() || begun.elapsed() > STALL_MAX => return Err(Cut::Gone),
                Err(_) => {}
            }
        }
    }
}
