//! One request of an orchestrator: who asks, what for, and the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use vol_api::{ApiError, ErrorCode};
use vol_csi::csi::controller_server::ControllerServer;
use vol_csi::csi::group_controller_server::GroupControllerServer;
use vol_csi::csi::identity_server::IdentityServer;
use vol_csi::csi::node_server::NodeServer;
use vol_csi::csi::snapshot_metadata_server::SnapshotMetadataServer;
use vol_csi::{Refused, Rpc, Settings, Volumes};

use super::volumes::{CsiVolumes, Shared};
use crate::access::Peer;
use crate::server::operation::{Operation, Outcome};
use crate::server::{Front, Late};

mod services;
mod stream;

/// How long a request waits for recovery; the kubelet waits two minutes for most answers, sidecars 10 s to 60 s, and all ask again.
const RECOVERY_MAX: Duration = Duration::from_secs(55);
/// How long a request waits for another one about the same volume.
const TURN_MAX: Duration = Duration::from_secs(5);

/// Where the interface is served.
pub struct Desk {
    pub front: Arc<Front>,
    pub shared: Arc<Shared>,
}

/// The services of the socket.
pub fn router(desk: &Arc<Desk>) -> Router {
    Router::new()
        .route_service("/csi.v1.Identity/{rpc}", IdentityServer::from_arc(Arc::clone(desk)))
        .route_service("/csi.v1.Controller/{rpc}", ControllerServer::from_arc(Arc::clone(desk)))
        .route_service("/csi.v1.GroupController/{rpc}", GroupControllerServer::from_arc(Arc::clone(desk)))
        .route_service("/csi.v1.SnapshotMetadata/{rpc}", SnapshotMetadataServer::from_arc(Arc::clone(desk)))
        .route_service("/csi.v1.Node/{rpc}", NodeServer::from_arc(Arc::clone(desk)))
        .fallback(unknown)
}

/// What is none of the services, as gRPC says it.
async fn unknown() -> axum::response::Response {
    let status = Status::unimplemented(
        "volumed serves Identity, Controller, GroupController, SnapshotMetadata and Node of csi.v1",
    );
    status.into_http::<tonic::body::Body>().map(axum::body::Body::new)
}

/// What a request is about, for the log, and in whose turn it is.
struct About {
    object: Option<String>,
    /// `None`: it takes no turn.
    turn: Option<String>,
}

impl About {
    const fn nothing() -> Self {
        Self { object: None, turn: None }
    }
    fn volume(id: &str) -> Self {
        // With the mark or without it is the same one.
        let own = vol_csi::ids::parse(id).map_or(id, |(id, _)| id);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self { object: text(id), turn: text(own) }
    }
    fn name(name: &str) -> Self {
        Self { object: Some(name.to_owned()), turn: Some(format!("name:{name}")) }
    }
    fn snapshot(name: &str) -> Self {
        Self { object: Some(name.to_owned()), turn: Some(format!("snapshot:{name}")) }
    }
    fn group(name: &str) -> Self {
        Self { object: Some(name.to_owned()), turn: Some(format!("group:{name}")) }
    }
    fn looked_at(id: &str) -> Self {
        Self { turn: None, ..Self::volume(id) }
    }
}

type Answer<R> = Result<Response<R>, Status>;
/// What answers a request that only reads.
type Reads<Q, R> = fn(&dyn Volumes, &Q) -> Result<R, Refused>;
/// What answers one that changes something, and whether it did.
type Changes<Q, R> = fn(&dyn Volumes, &Q) -> Result<(R, bool), Refused>;

/// What a request does, and whether anything is not as it was before; what is answered goes another way, so that all around it is compiled
/// once for all requests.
type Work = Box<dyn FnOnce(&CsiVolumes) -> Result<bool, Refused> + Send>;

impl Desk {
    fn settings(&self) -> Settings {
        super::volumes::settings(&self.front.config())
    }

    /// That what only version 1.13 has is offered.
    fn v1_13(&self) -> Result<(), Status> {
        if self.settings().v1_13 {
            return Ok(());
        }
        Err(Status::unimplemented(
            "this is of CSI 1.13, which is served with version = \"1.13\" in [csi] of /etc/volumed/volumed.toml",
        ))
    }

    /// The operation, if who asks may.
    fn begin<Q>(&self, rpc: Rpc, request: &Request<Q>) -> Result<Operation, Status> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Err(Status::internal("the connection has no peer"));
        };
        let operation = self.front.operations().begin(rpc.operation(), rpc.is_change(), peer.into());
        if peer.credentials.uid == 0 {
            return Ok(operation);
        }
        let error = ApiError::new(
            ErrorCode::Denied,
            format!("this socket is for orchestrators, which are root, and not for user {}", peer.credentials.uid),
        );
        operation.refused(&error);
        Err(Refused::from(error).into())
    }

    /// Answers what is about the driver alone.
    fn told<Q, R>(
        &self,
        rpc: Rpc,
        request: &Request<Q>,
        answer: impl FnOnce(&Settings) -> Result<R, Refused>,
    ) -> Answer<R> {
        let operation = self.begin(rpc, request)?;
        let answer = answer(&self.settings());
        operation.end(Outcome::of_read(&answer.as_ref().map(drop).map_err(|refused| refused.error.clone())));
        Ok(Response::new(answer?))
    }

    /// Answers what only reads.
    async fn read<Q, R>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        about: impl FnOnce(&Q) -> About,
        work: Reads<Q, R>,
    ) -> Answer<R>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        self.asked(rpc, request, about, move |volumes, request| Ok((work(volumes, request)?, false))).await
    }

    /// Answers what changes something.
    async fn change<Q, R>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        about: impl FnOnce(&Q) -> About,
        work: Changes<Q, R>,
    ) -> Answer<R>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        self.asked(rpc, request, about, move |volumes, request| work(volumes, request)).await
    }

    /// Answers what is about volumes; `work` says with its answer whether anything is not as it was before.
    async fn asked<Q, R>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        about: impl FnOnce(&Q) -> About,
        work: impl FnOnce(&CsiVolumes, &Q) -> Result<(R, bool), Refused> + Send + 'static,
    ) -> Answer<R>
    where
        Q: Send + 'static,
        R: Send + 'static,
    {
        let mut operation = self.begin(rpc, &request)?;
        let request = request.into_inner();
        let About { object, turn } = about(&request);
        operation.about(object);
        let (to, mut answer) = oneshot::channel();
        let work: Work = Box::new(move |volumes| {
            let (answer, changed) = work(volumes, &request)?;
            // Nobody waits for it when the client has gone.
            let _ = to.send(answer);
            Ok(changed)
        });
        self.carry_out(rpc, operation, turn, work).await?;
        answer.try_recv().map(Response::new).map_err(|_| failed_half_way())
    }

    /// Does the work, in its turn if it has one. Once begun it goes on when its client waits no longer: asked again, it is found done.
    async fn carry_out(
        &self,
        rpc: Rpc,
        mut operation: Operation,
        of: Option<String>,
        work: Work,
    ) -> Result<(), Status> {
        let not_ready = |operation: Operation, why: &str| {
            let error = ApiError::new(ErrorCode::NotReady, why);
            operation.refused(&error);
            Err(Refused::from(error).into())
        };
        let Some(backend) = self.front.backend_within(RECOVERY_MAX).await else {
            return not_ready(operation, "volumed is still recovering its volume groups");
        };
        let began = Instant::now();
        let turn = if rpc.is_change() {
            let Some(turn) = self.front.turn(false).await else {
                return not_ready(operation, "volumed is stopping; nothing was changed");
            };
            operation.has_turn(began.elapsed());
            Some(turn)
        } else {
            None
        };
        let volumes = CsiVolumes::new(backend, Arc::clone(&self.shared), self.front.config());
        let late = Late::new(operation.late());
        let shared = Arc::clone(&self.shared);
        let job = tokio::task::spawn_blocking(move || {
            let result = match of {
                None => work(&volumes),
                Some(key) => match shared.turns.take_within(key, TURN_MAX) {
                    Some(_turn) => work(&volumes),
                    None => {
                        Err(ApiError::new(ErrorCode::Busy, "another request about the same volume is under way").into())
                    }
                },
            };
            drop(turn);
            operation.end(match &result {
                Ok(true) if rpc.is_change() => Outcome::Changed { warnings: 0 },
                Ok(false) if rpc.is_change() => Outcome::Unchanged { warnings: 0 },
                other => Outcome::of_read(&other.as_ref().map_err(|refused| refused.error.clone())),
            });
            result
        });
        let ended = job.await;
        late.defuse();
        match ended {
            Ok(result) => Ok(result.map(drop)?),
            Err(_) => Err(failed_half_way()),
        }
    }
}

fn failed_half_way() -> Status {
    Status::internal("volumed has a defect here: the request failed half way; its log has the details")
}
