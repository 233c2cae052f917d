//! Answers: JSON with a line end, errors as `{"error": …}` with the HTTP status of their code.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vol_api::{ApiError, ErrorBody};

/// An error on its way out.
#[derive(Debug)]
pub struct Refusal {
    error: ApiError,
    /// HTTP has statuses of its own for some uses of `invalid`.
    status: Option<StatusCode>,
}

impl Refusal {
    /// With another HTTP status than the code's own.
    pub fn with_status(error: ApiError, status: StatusCode) -> Self {
        Self { error, status: Some(status) }
    }

    pub const fn error(&self) -> &ApiError {
        &self.error
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, status: None }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let own = StatusCode::from_u16(self.error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json(&ErrorBody { error: self.error }).unwrap_or_default();
        response(self.status.unwrap_or(own), body)
    }
}

/// `value` as it goes over the wire.
///
/// # Errors
/// `internal`; none of the API's types can fail.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let mut body = serde_json::to_vec(value).map_err(|error| ApiError::internal(error.to_string()))?;
    body.push(b'\n');
    Ok(body)
}

/// An answer with a JSON body.
pub fn response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
