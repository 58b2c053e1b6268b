//! One request: what is found out about it on its way, and its events.
//!
//! An [`Open`] lives as long as the request is worked on. When it goes without an answer (the client has left, or something
//! panicked), that is an event as well.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use berth_api::status::ApiError;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http_body::{Body as _, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::Value;

use super::Auditor;
use super::event::{self, Event, ObjectReference, ResponseStatus, UserInfo};
use super::policy::{Decision, Level, Stage, Subject};
use super::reading::{self, Asking, Named};
use crate::http_types::{self, Body, BoxError, Response};
use crate::request::ApiRequest;
use crate::user::User;

/// Annotations of an event, and characters of each.
const MAX_ANNOTATIONS: usize = 256;
const MAX_ANNOTATION: usize = 10 << 10;
/// Bytes of an answer that an event may hold: as many as a request may have.
const MAX_BODY: u64 = 3 << 20;
/// What the stock server says of an event without its bodies.
const TRUNCATED: &str = "audit.k8s.io/truncated";
/// What an answer that nobody got is counted as, after the code that proxies have for it.
const CLIENT_LEFT: u16 = 499;

struct Entry {
    auditor: Arc<Auditor>,
    id: String,
    verb: String,
    uri: String,
    subject: Subject,
    long_running: bool,
    agent: String,
    sources: Vec<String>,
    received: jiff::Timestamp,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    decision: Decision,
    user: Option<User>,
    impersonated: Option<User>,
    annotations: BTreeMap<String, String>,
    /// The body of the request, and its media type.
    request: Option<(Bytes, String)>,
    /// Why nobody knows who asks.
    unauthenticated: Option<String>,
    /// Whether the last event was made.
    done: bool,
    /// Whether a connection that was upgraded has ended.
    ended: bool,
    /// Whether the answer was an upgrade.
    upgraded: bool,
}

/// The way of a request through the server, as far as it is audited; empty when it is not.
#[derive(Clone, Default)]
pub(crate) struct Trail(Option<Arc<Entry>>);

/// A request that is worked on.
pub(crate) struct Open(Arc<Entry>);

/// What is held while a connection that was upgraded goes on.
#[derive(Clone)]
pub(crate) struct Connected {
    _ending: Arc<Ending>,
}

struct Ending(Arc<Entry>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        if state.upgraded {
            let status = ResponseStatus::of(101, None);
            self.0.finish(&mut state, Stage::ResponseComplete, &status);
        }
    }
}

impl Trail {
    /// Whether the request may have events at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// It is known who asks: decides what is logged, and logs that the request has come.
    ///
    /// # Errors
    /// `Internal` when that could not be logged and must be.
    pub(crate) async fn begin(&self, user: &User) -> Result<(), ApiError> {
        let Some(entry) = &self.0 else {
            return Ok(());
        };
        let auditor = &entry.auditor;
        let line = {
            let mut state = entry.state.lock();
            state.decision = auditor
                .policy
                .decide(Some(user), &entry.verb, &entry.subject);
            auditor.measures.level(state.decision.level);
            if state.decision.level == Level::None {
                return Ok(());
            }
            state.user = Some(user.clone());
            entry.line(&state, Stage::RequestReceived, None, None)
        };
        let Some(line) = line else {
            return Ok(());
        };
        if !auditor.write(line).await {
            auditor.measures.rejected();
            return Err(ApiError::Internal("failed to store audit event".to_owned()));
        }
        Ok(())
    }

    /// Nobody knows who asks.
    pub(crate) fn unauthenticated(&self, headers: &HeaderMap) {
        let Some(entry) = &self.0 else {
            return;
        };
        let tried = match headers.get(AUTHORIZATION) {
            Some(value) if value.as_bytes().starts_with(b"Basic ") => "basic",
            Some(_) => "bearer",
            None => "x509",
        };
        let mut state = entry.state.lock();
        let policy = &entry.auditor.policy;
        state.decision = policy.decide(None, &entry.verb, &entry.subject);
        entry.auditor.measures.level(state.decision.level);
        state.unauthenticated = Some(format!("Authentication failed, attempted: {tried}"));
    }

    /// The user acts as another one.
    pub(crate) fn impersonated(&self, user: &User) {
        self.change(|state| state.impersonated = Some(user.clone()));
    }

    /// Adds a fact, unless there is one of that name.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.change(|state| {
            if state.annotations.len() < MAX_ANNOTATIONS && !state.annotations.contains_key(key) {
                let value = value.chars().take(MAX_ANNOTATION).collect();
                state.annotations.insert(key.to_owned(), value);
            }
        });
    }

    /// Whether the request was allowed, and why.
    pub(crate) fn authorized(&self, allowed: bool, reason: &str) {
        let decision = if allowed { "allow" } else { "forbid" };
        self.annotate("authorization.k8s.io/decision", decision);
        self.annotate("authorization.k8s.io/reason", reason);
    }

    /// The body has come.
    pub(crate) fn body(&self, headers: &HeaderMap, body: &Bytes) {
        if body.is_empty() {
            return;
        }
        let media = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let media = media.unwrap_or("application/json").to_owned();
        self.change(|state| state.request = Some((body.clone(), media)));
    }

    /// To be held while a connection goes on that this request may become.
    pub(crate) fn connected(&self) -> Option<Connected> {
        let entry = self.0.as_ref()?;
        Some(Connected {
            _ending: Arc::new(Ending(Arc::clone(entry))),
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(entry) = &self.0 {
            let mut state = entry.state.lock();
            if state.decision.level > Level::None {
                change(&mut state);
            }
        }
    }
}

impl Open {
    pub(super) fn new(auditor: Arc<Auditor>, asking: Asking<'_>) -> Self {
        let (verb, subject) = reading::describe(&asking);
        let agent = asking.headers.get(USER_AGENT);
        let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
        let uri = asking.uri.path_and_query();
        Self(Arc::new(Entry {
            auditor,
            id: asking.id.to_str().unwrap_or_default().to_owned(),
            verb,
            uri: uri.map_or("/", |uri| uri.as_str()).to_owned(),
            subject,
            long_running: asking.request.is_some_and(ApiRequest::is_long_running),
            agent: reading::shortened(agent.unwrap_or_default()),
            sources: reading::sources(asking.headers, asking.peer),
            received: jiff::Timestamp::now(),
            state: Mutex::default(),
        }))
    }

    /// For who works on the request.
    pub(crate) fn trail(&self) -> Trail {
        Trail(Some(Arc::clone(&self.0)))
    }

    /// Logs that there is an answer; of one that is sent as a stream, its end as well.
    pub(crate) async fn answered(self, response: Response) -> Response {
        let entry = &self.0;
        if entry.state.lock().decision.level == Level::None {
            entry.state.lock().done = true;
            return response;
        }
        let code = response.status().as_u16();
        let whole = response.body().size_hint().exact();
        let whole = whole.filter(|_| !entry.long_running || code >= 400);
        let Some(length) = whole else {
            return self.followed(code, response).await;
        };
        if length > MAX_BODY {
            self.trail().annotate(TRUNCATED, "true");
            let status = ResponseStatus::of(code, None);
            self.complete(&status, None).await;
            return response;
        }
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                let error = ApiError::Internal(format!("the answer could not be read: {error}"));
                return http_types::error(&error);
            }
        };
        let media = parts.headers.get(CONTENT_TYPE);
        let media = media.and_then(|v| v.to_str().ok()).unwrap_or_default();
        let level = entry.state.lock().decision.level;
        let of_object = matches!(entry.subject, Subject::Resource { .. });
        let answer = (code >= 400 || entry.verb == "delete" || level == Level::RequestResponse)
            .then(|| reading::body(&bytes, media))
            .flatten();
        let status = ResponseStatus::of(code, answer.as_ref());
        self.complete(&status, answer.filter(|_| of_object)).await;
        http::Response::from_parts(parts, http_types::full(bytes))
    }

    async fn complete(&self, status: &ResponseStatus, answer: Option<Value>) {
        let entry = &self.0;
        let line = {
            let mut state = entry.state.lock();
            state.done = true;
            let mut status = status.clone();
            let stage = match state.unauthenticated.clone() {
                Some(message) => {
                    status.message = Some(message);
                    Stage::ResponseStarted
                }
                None => Stage::ResponseComplete,
            };
            entry.line(&state, stage, Some(&status), answer)
        };
        if let Some(line) = line {
            entry.auditor.write(line).await;
        }
    }

    /// An answer that takes its time.
    async fn followed(self, code: u16, response: Response) -> Response {
        let entry = &self.0;
        let status = ResponseStatus::of(code, None);
        if entry.long_running {
            let line = entry.line(
                &entry.state.lock(),
                Stage::ResponseStarted,
                Some(&status),
                None,
            );
            if let Some(line) = line {
                entry.auditor.write(line).await;
            }
        } else {
            // A long list: it is never held whole.
            let level = entry.state.lock().decision.level;
            if level == Level::RequestResponse {
                self.trail().annotate(TRUNCATED, "true");
            }
        }
        if code == 101 {
            let mut state = entry.state.lock();
            if state.ended {
                entry.finish(&mut state, Stage::ResponseComplete, &status);
            }
            state.upgraded = true;
            drop(state);
            return response;
        }
        response.map(|body| {
            FollowedBody {
                body,
                status,
                open: self,
            }
            .boxed_unsync()
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if state.upgraded {
            return;
        }
        let failed = |code, reason: &str, message: &str| ResponseStatus {
            status: Some("Failure".to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            code,
            ..ResponseStatus::default()
        };
        let (stage, status) = if std::thread::panicking() {
            let status = failed(500, "InternalError", "APIServer panic'd");
            (Stage::Panic, status)
        } else {
            let why = "the client closed the connection before it was answered";
            (Stage::ResponseComplete, failed(CLIENT_LEFT, "", why))
        };
        self.0.finish(&mut state, stage, &status);
    }
}

impl Entry {
    /// The last event, of what nobody waits for.
    fn finish(&self, state: &mut State, stage: Stage, status: &ResponseStatus) {
        if std::mem::replace(&mut state.done, true) {
            return;
        }
        if let Some(line) = self.line(state, stage, Some(status), None) {
            self.auditor.push(line);
        }
    }

    /// An event; none where the policy leaves it out.
    fn line(
        &self,
        state: &State,
        stage: Stage,
        status: Option<&ResponseStatus>,
        answer: Option<Value>,
    ) -> Option<Vec<u8>> {
        let Decision {
            level,
            omit_stages,
            omit_managed_fields,
        } = &state.decision;
        let level = *level;
        if level == Level::None || omit_stages.contains(&stage) {
            return None;
        }
        let body = state.request.as_ref();
        let mut request = body
            .filter(|_| level >= Level::Request)
            .and_then(|(bytes, media)| reading::body(bytes, media));
        let mut answer = answer.filter(|_| level == Level::RequestResponse);
        if *omit_managed_fields {
            request.iter_mut().for_each(event::without_managed_fields);
            answer.iter_mut().for_each(event::without_managed_fields);
        }
        let named = match &self.subject {
            Subject::Resource { .. } => {
                body.and_then(|(bytes, media)| reading::named(bytes, media))
            }
            Subject::Path(_) => None,
        };
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id: &self.id,
            stage,
            request_uri: &self.uri,
            verb: &self.verb,
            user: UserInfo::of(state.user.as_ref()),
            impersonated_user: state.impersonated.as_ref().map(|u| UserInfo::of(Some(u))),
            source_ips: &self.sources,
            user_agent: &self.agent,
            object_ref: self.reference(named.as_ref()),
            response_status: status,
            request_object: request.as_ref(),
            response_object: answer.as_ref(),
            request_received_timestamp: event::time(self.received),
            stage_timestamp: event::time(jiff::Timestamp::now()),
            annotations: &state.annotations,
        };
        match event.line() {
            Ok(line) => Some(line),
            Err(error) => {
                tracing::error!(%error, "an audit event could not be written as JSON");
                None
            }
        }
    }

    fn reference<'a>(&'a self, named: Option<&'a Named>) -> Option<ObjectReference<'a>> {
        let Subject::Resource {
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
        } = &self.subject
        else {
            return None;
        };
        // Of what is posted to a subresource the metadata is not the object's.
        let named = named.filter(|_| subresource.is_empty());
        let own = |own: fn(&Named) -> &str| named.map_or("", own);
        let or = |said: &'a str, own: &'a str| if said.is_empty() { own } else { said };
        Some(ObjectReference {
            resource,
            namespace,
            name: or(name, own(|n| &n.name)),
            uid: own(|n| &n.uid),
            api_group: group,
            api_version: version,
            resource_version: own(|n| &n.resource_version),
            subresource,
        })
    }
}

/// A body whose end is an event.
struct FollowedBody {
    body: Body,
    status: ResponseStatus,
    open: Open,
}

impl http_body::Body for FollowedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for FollowedBody {
    fn drop(&mut self) {
        let entry = &self.open.0;
        let mut state = entry.state.lock();
        entry.finish(&mut state, Stage::ResponseComplete, &self.status);
    }
}
