//! Answers of many lines (NDJSON), each sent when there is something to say.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::mpsc;
use vol_api::ApiError;

use super::reply::json;

/// Lines that wait for their reader.
const WAITING: usize = 16;

/// `value` as a line.
pub fn line(value: &impl Serialize) -> Result<Bytes, ApiError> {
    json(value).map(Bytes::from)
}

/// An answer, and where its lines come in. It ends when that is dropped.
pub fn answer() -> (mpsc::Sender<Bytes>, Response) {
    let (sender, lines) = mpsc::channel(WAITING);
    let mut response = Response::new(Body::new(Lines(lines)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    (sender, response)
}

struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
