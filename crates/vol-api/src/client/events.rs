//! Events, and jobs.

use std::ops::ControlFlow;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;

use super::{Client, ClientError};
use crate::error::ErrorBody;
use crate::event::{Event, JobInfo, JobList};
use crate::outcome::Changed;

/// The daemon says every fifteen seconds that it lives.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The longest line; the daemon's have a few kilobytes.
const LINE_MAX_BYTES: usize = 1 << 20;

impl Client {
    /// What happened after the event `since` of this run of the daemon (`None`: all that is kept, or when following nothing before
    /// now), and with `follow` what happens from then on. Ends when `hear` breaks, or when the daemon ends the answer, as it does after a
    /// while: ask again then with the last sequence.
    pub async fn events(
        &self,
        since: Option<(&str, u64)>,
        follow: bool,
        hear: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let since = since.map_or(String::new(), |(run, since)| match run {
            "" => format!("&since={since}"),
            run => format!("&run={run}&since={since}"),
        });
        self.lines(&format!("events?follow={follow}{since}"), hear).await
    }

    pub async fn jobs(&self) -> Result<JobList, ClientError> {
        self.get("jobs").await
    }
    pub async fn job(&self, id: &str) -> Result<JobInfo, ClientError> {
        self.get(&format!("jobs/{id}")).await
    }
    /// How far a job is, each second and at its end. Ends as [`Client::events`] does.
    pub async fn follow_job(&self, id: &str, hear: impl FnMut(JobInfo) -> ControlFlow<()>) -> Result<(), ClientError> {
        self.lines(&format!("jobs/{id}/follow"), hear).await
    }
    /// What it had taken is taken back.
    pub async fn cancel_job(&self, id: &str, dry: bool) -> Result<Changed<JobInfo>, ClientError> {
        self.change(Method::POST, &format!("jobs/{id}/cancel"), None::<&()>, dry).await
    }

    /// An answer of many lines, each a JSON value.
    async fn lines<T: DeserializeOwned>(
        &self,
        path: &str,
        mut hear: impl FnMut(T) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let silent = |_| ClientError::Timeout { after: SILENCE_MAX };
        let asked = tokio::time::timeout(SILENCE_MAX, self.ask(Method::GET, path, Bytes::new()));
        let (response, _connection) = asked.await.map_err(silent)??;
        let status = response.status();
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(frame) = tokio::time::timeout(SILENCE_MAX, body.frame()).await.map_err(silent)? {
            let frame = frame.map_err(|error| self.protocol(error.to_string()))?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if !status.is_success() {
                if text.len() > LINE_MAX_BYTES {
                    return Err(
                        self.protocol(format!("HTTP status {status} with a body of more than {LINE_MAX_BYTES} bytes"))
                    );
                }
                continue;
            }
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if hear(self.decode(&line)?).is_break() {
                    return Ok(());
                }
            }
            if text.len() > LINE_MAX_BYTES {
                return Err(self.protocol("a line without an end".to_owned()));
            }
        }
        if status.is_success() {
            return Ok(());
        }
        match serde_json::from_slice::<ErrorBody>(&text) {
            Ok(answer) => Err(answer.error.into()),
            Err(_) => Err(self.protocol(format!("HTTP status {status} without an error body"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn an_error_answer_without_an_end_is_not_collected() {
        let path = std::env::temp_dir().join(format!("volumed-events-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let daemon = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 500 Oops\r\ncontent-length: 99999999999\r\n\r\n").await.unwrap();
            let mut sent = 0;
            while sent < 64 << 20 && stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {
                sent += 1 << 16;
            }
            sent
        });
        let error = Client::new(&path).events(None, false, |_| ControlFlow::Continue(())).await.unwrap_err();
        assert!(error.to_string().contains("500") && error.to_string().contains("more than"), "{error}");
        assert!(daemon.await.unwrap() < 16 << 20, "all of it was read");
        std::fs::remove_file(&path).unwrap();
    }
}
