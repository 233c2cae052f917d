//! A client over a stream that is connected already: what tests play an orchestrator with.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioExecutor;
use tonic::body::Body;
use tonic::codegen::{Service, http};

use crate::csi::controller_client::ControllerClient;
use crate::csi::group_controller_client::GroupControllerClient;
use crate::csi::identity_client::IdentityClient;
use crate::csi::node_client::NodeClient;
use crate::csi::snapshot_metadata_client::SnapshotMetadataClient;

/// One connection, on which any number of requests may be under way.
#[derive(Clone, Debug)]
pub struct Wire(http2::SendRequest<Body>);

/// Speaks first on a stream. The future moves what is sent and what comes, and is to be run beside.
///
/// # Errors
/// The other side does not speak HTTP/2.
pub async fn connect(
    stream: impl Read + Write + Unpin + Send + 'static,
) -> Result<(Wire, impl Future<Output = ()> + Send + 'static), hyper::Error> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
    Ok((Wire(sender), async move {
        let _ = connection.await;
    }))
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// HTTP/2 wants one, and a socket has none.
fn origin() -> http::Uri {
    http::Uri::from_static("http://localhost")
}

impl Wire {
    pub fn identity(&self) -> IdentityClient<Self> {
        IdentityClient::with_origin(self.clone(), origin())
    }
    pub fn controller(&self) -> ControllerClient<Self> {
        ControllerClient::with_origin(self.clone(), origin())
    }
    pub fn group_controller(&self) -> GroupControllerClient<Self> {
        GroupControllerClient::with_origin(self.clone(), origin())
    }
    pub fn snapshot_metadata(&self) -> SnapshotMetadataClient<Self> {
        SnapshotMetadataClient::with_origin(self.clone(), origin())
    }
    pub fn node(&self) -> NodeClient<Self> {
        NodeClient::with_origin(self.clone(), origin())
    }
}
