//! Clients of both listeners, to call the traits of [`crate::api`] on.
//!
//! ```no_run
//! use rustorium_rpc::{StateApiClient, client};
//! # async fn example() -> Result<(), jsonrpsee::core::ClientError> {
//! let node = client::public("http://127.0.0.1:9644")?;
//! let value = node.storage("0x00".parse().unwrap(), None).await?;
//! # Ok(())
//! # }
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, HeaderValue};
use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::ClientT;
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder, HttpRequest};
use tower::ServiceBuilder;

use crate::jwt::Secret;
use crate::limits::Limits;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a public call may take.
const PUBLIC_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a privileged call may take: a block may be large.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(300);

/// A client of the public listener at `url` (`http://host:port`).
pub fn public(url: &str) -> Result<HttpClient, ClientError> {
    HttpClientBuilder::default()
        .max_request_size(Limits::PUBLIC.request_bytes_max)
        .max_response_size(Limits::PUBLIC.response_bytes_max)
        .connect_timeout(CONNECT_TIMEOUT)
        .request_timeout(PUBLIC_TIMEOUT)
        .build(url)
}

/// A client of the privileged listener at `url` (`http://host:port`), with a fresh token for every request.
pub fn engine(url: &str, secret: Secret) -> Result<impl ClientT + Clone + Send + Sync + 'static, ClientError> {
    let sign = move |mut request: HttpRequest| {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut token = HeaderValue::try_from(format!("Bearer {}", secret.token(now_s))).expect("a token is base64url");
        token.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, token);
        request
    };
    HttpClientBuilder::default()
        .max_request_size(Limits::ENGINE.request_bytes_max)
        .max_response_size(Limits::ENGINE.response_bytes_max)
        .connect_timeout(CONNECT_TIMEOUT)
        .request_timeout(ENGINE_TIMEOUT)
        .set_http_middleware(ServiceBuilder::new().map_request(sign))
        .build(url)
}
