//! Waiting for thick volumes, which are wiped or copied before they are ready.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use vol_api::{Client, ClientError, ErrorCode, FillingInfo};
use vol_types::VolumePath;

use super::Session;
use crate::cli::Output;
use crate::render::Format;

/// How often it is asked how far it has come.
const TICK: Duration = Duration::from_millis(500);

/// How far a thick volume is wiped or copied: `wiping 3.2 GiB of 8 GiB (40 %)`.
pub fn filling_text(filling: &FillingInfo, format: Format) -> String {
    let verb = if filling.kind == "copy" { "copying" } else { "wiping" };
    let percent = u128::from(filling.done_bytes) * 100 / u128::from(filling.total_bytes.max(1));
    let waits = if filling.running { "" } else { ", waits for its turn" };
    format!("{verb} {} of {} ({percent} %){waits}", format.size(filling.done_bytes), format.size(filling.total_bytes))
}

/// Waits for a change of `volume`, and shows on a terminal how far it has come. The daemon answers after ten minutes at the latest, also
/// that it is not done yet: then the same request is made
/// again, if `again` says that this is the same twice; it waits for the same volume.
pub async fn watched<T, F>(
    session: &mut Session<'_>,
    volume: &VolumePath,
    again: bool,
    change: impl Fn() -> F,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    loop {
        let result = shown(session, volume, change()).await;
        let late = matches!(&result, Err(ClientError::Api(error)) if error.code == ErrorCode::Timeout);
        if !again || !late || filling(&session.client, volume).await.is_none() {
            return result;
        }
    }
}

async fn filling(client: &Client, volume: &VolumePath) -> Option<FillingInfo> {
    client.volume(volume).await.ok()?.thick?.filling
}

async fn shown<T>(
    session: &mut Session<'_>,
    volume: &VolumePath,
    change: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let show = !session.quiet && session.output == Output::Table && std::io::stderr().is_terminal();
    let mut change = std::pin::pin!(change);
    let mut shown = false;
    loop {
        if let Ok(result) = tokio::time::timeout(TICK, &mut change).await {
            if shown {
                // What cannot be shown is no failure of the change.
                let _ = write!(session.err, "\r\x1b[K").and_then(|()| session.err.flush());
            }
            return result;
        }
        if show && let Some(filling) = filling(&session.client, volume).await {
            let text = filling_text(&filling, session.format);
            let _ = write!(session.err, "\r{text}\x1b[K").and_then(|()| session.err.flush());
            shown = true;
        }
    }
}
