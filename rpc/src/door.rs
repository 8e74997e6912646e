//! What a listener does with an HTTP request before JSON-RPC sees it, WebSocket upgrades included.
//!
//! In this order: the secret (privileged listener), web pages (public listener), then the [`Budget`].
//!
//! Against web pages that reach for a node on their visitor's machine, as Substrate's nodes do by default: on a loopback
//! listener the `Host` must be a loopback name, which defeats DNS rebinding (on another listener the names are not ours
//! to know, and it is not looked at); and a request with an `Origin` must come from a page of a loopback name or of the
//! very host it asks, which also stops WebSockets, to which browsers apply no CORS. Such pages get CORS answers. Clients
//! that are not browsers send no `Origin` and notice nothing.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, uri::Authority};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use jsonrpsee::core::BoxError;
use jsonrpsee::server::{HttpBody, ws};
use serde_json::json;
use tokio::time::Sleep;
use tower::Service;

use crate::gate::{Gate, Session};
use crate::jwt::{Secret, TokenError};
use crate::limits::{BODY_TIMEOUT, Budget, Limits, RETRY_MS};
use crate::meter::busy;

/// The rules of one listener.
#[derive(Debug)]
pub(crate) struct Door {
    /// Who may come in at all; without it, everyone.
    secret: Option<Secret>,
    /// Whether `Host` must be a loopback name.
    local_names_only: bool,
    request_bytes_max: u32,
    budget: Budget,
}

/// Why a request goes no further.
enum Refusal {
    Token(TokenError),
    Host,
    Origin,
    Busy,
}

impl Door {
    pub(crate) fn new(listener: SocketAddr, limits: &Limits, secret: Option<Secret>) -> Self {
        Self {
            local_names_only: secret.is_none() && listener.ip().is_loopback(),
            secret,
            request_bytes_max: limits.request_bytes_max,
            budget: Budget::new(limits.in_flight_bytes_max),
        }
    }

    /// Answers a request of the connection behind `gate`, by `rpc` if it is let through.
    pub(crate) async fn answer<S>(&self, request: Request<Incoming>, gate: Arc<Gate>, mut rpc: S) -> Response<HttpBody>
    where
        S: Service<Request<Timed>, Response = Response<HttpBody>, Error = BoxError>,
    {
        let origin = match self.admit(&request) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.into_response(),
        };
        if origin.is_some() && request.method() == Method::OPTIONS {
            return with_cors(plain(StatusCode::NO_CONTENT, String::new()), origin);
        }
        let mut request = request.map(Timed::new);
        let _share = if ws::is_upgrade_request(&request) {
            request.extensions_mut().insert(Session { gate, budget: self.budget.clone() });
            None
        } else {
            match self.budget.take(self.held_bytes(request.body())) {
                Some(share) => Some(share),
                None => return with_cors(Refusal::Busy.into_response(), origin),
            }
        };
        let answer = rpc.call(request).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a request failed");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n".into())
        });
        with_cors(answer, origin)
    }

    /// Whether a request may come in, and the origin of the page that it comes from, if any.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<HeaderValue>, Refusal> {
        let headers = request.headers();
        if let Some(secret) = &self.secret {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let token = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
            secret.verify_header(token, now_s).map_err(Refusal::Token)?;
            return Ok(None);
        }
        if self.local_names_only && !is_named_locally(request.uri(), headers) {
            return Err(Refusal::Host);
        }
        match headers.get(header::ORIGIN) {
            None => Ok(None),
            Some(origin) if origin_is_welcome(origin, headers) => Ok(Some(origin.clone())),
            Some(_) => Err(Refusal::Origin),
        }
    }

    /// What reading a body can make us hold. One that is too large is refused unread by its length.
    fn held_bytes(&self, body: &impl Body) -> u64 {
        let max = u64::from(self.request_bytes_max);
        match body.size_hint().upper() {
            Some(length) if length > max => 0,
            Some(length) => length,
            None => max,
        }
    }
}

impl Refusal {
    fn into_response(self) -> Response<HttpBody> {
        match self {
            Self::Token(error) => {
                let mut response = plain(StatusCode::UNAUTHORIZED, format!("{error}\n"));
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            Self::Host => plain(
                StatusCode::FORBIDDEN,
                "this node listens on loopback and answers to loopback names alone (Host)\n".into(),
            ),
            Self::Origin => plain(StatusCode::FORBIDDEN, "web pages of this Origin are not let in\n".into()),
            Self::Busy => {
                let error = jsonrpsee::types::ErrorObjectOwned::from(busy("requests"));
                let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
                let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, body.to_string());
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_MS.div_ceil(1000)));
                response
            }
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn with_cors(mut response: Response<HttpBody>, origin: Option<HeaderValue>) -> Response<HttpBody> {
    const ALLOW: [(HeaderName, HeaderValue); 4] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600")),
        (header::VARY, HeaderValue::from_static("origin")),
    ];
    if let Some(origin) = origin {
        response.headers_mut().extend(ALLOW);
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

/// Whether every name that a request gives to this host, one at least, is a loopback name.
pub fn is_named_locally(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut names = headers.get_all(header::HOST).iter().peekable();
    (names.peek().is_some() || uri.authority().is_some())
        && names.all(|name| authority(name).is_some_and(|name| is_local(name.host())))
        && uri.authority().is_none_or(|name| is_local(name.host()))
}

/// Whether a page of this origin may talk to us: one of a loopback name, or of the host that it asks.
fn origin_is_welcome(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some(uri) = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok()) else { return false };
    let (Some("http" | "https"), Some(page)) = (uri.scheme_str(), uri.authority()) else { return false };
    is_local(page.host()) || headers.get(header::HOST).and_then(authority).is_some_and(|host| host == *page)
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    value.to_str().ok()?.parse().ok()
}

fn is_local(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A request's body that has to arrive within [`BODY_TIMEOUT`].
pub(crate) struct Timed {
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Incoming) -> Self {
        Self { body, deadline: Box::pin(tokio::time::sleep(BODY_TIMEOUT)) }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err("the request's body did not arrive in time".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(door: &Door, uri: &str, headers: &[(&str, &str)]) -> Result<bool, &'static str> {
        let builder = headers.iter().fold(Request::post(uri), |request, (name, value)| request.header(*name, *value));
        match door.admit(&builder.body(()).expect("a request")) {
            Ok(origin) => Ok(origin.is_some()),
            Err(Refusal::Host) => Err("host"),
            Err(Refusal::Origin) => Err("origin"),
            Err(Refusal::Token(_)) => Err("token"),
            Err(Refusal::Busy) => Err("busy"),
        }
    }

    #[test]
    fn a_loopback_listener_answers_to_loopback_names() {
        let door = Door::new("127.0.0.1:9644".parse().unwrap(), &Limits::PUBLIC, None);
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9644", "127.8.9.1", "[::1]:9644"] {
            assert_eq!(admitted(&door, "/", &[("host", host)]), Ok(false), "{host}");
        }
        for host in ["evil.example", "evil.example:9644", "localhost.evil.example", "10.0.0.1", "[::2]", "", "@", "a b"]
        {
            assert_eq!(admitted(&door, "/", &[("host", host)]), Err("host"), "{host}");
        }
        assert_eq!(admitted(&door, "/", &[]), Err("host"));
        assert_eq!(admitted(&door, "/", &[("host", "localhost"), ("host", "evil.example")]), Err("host"));
        assert_eq!(admitted(&door, "http://evil.example/", &[("host", "localhost")]), Err("host"));

        let open = Door::new("0.0.0.0:9644".parse().unwrap(), &Limits::PUBLIC, None);
        assert_eq!(admitted(&open, "/", &[("host", "node.example")]), Ok(false));
    }

    #[test]
    fn pages_come_from_loopback_or_from_the_host_itself() {
        let door = Door::new("0.0.0.0:9644".parse().unwrap(), &Limits::PUBLIC, None);
        let host = ("host", "node.example:9644");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:80", "http://node.example:9644"] {
            assert_eq!(admitted(&door, "/", &[host, ("origin", origin)]), Ok(true), "{origin}");
        }
        for origin in ["https://evil.example", "http://node.example", "null", "", "file://localhost", "localhost"] {
            assert_eq!(admitted(&door, "/", &[host, ("origin", origin)]), Err("origin"), "{origin}");
        }
    }

    #[test]
    fn the_privileged_door_asks_for_the_secret_alone() {
        let secret = Secret::random();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let token = format!("Bearer {}", secret.token(now_s));
        let door = Door::new("127.0.0.1:9646".parse().unwrap(), &Limits::ENGINE, Some(secret));
        assert_eq!(admitted(&door, "/", &[("host", "node"), ("authorization", &token)]), Ok(false));
        assert_eq!(admitted(&door, "/", &[("host", "localhost")]), Err("token"));
    }
}
