//! As much of an API server as the node talks to: objects by path, list, watch, create, merge, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// How SubjectAccessReviews are answered.
#[derive(Default)]
struct Reviews {
    allowed: Vec<String>,
    broken: bool,
    asked: usize,
}

#[derive(Clone)]
pub(crate) struct FakeApi {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    changes: broadcast::Sender<(String, Value)>,
    revision: Arc<Mutex<u64>>,
    reviews: Arc<Mutex<Reviews>>,
    pub(crate) url: String,
}

/// `/api/v1/namespaces/default/pods` for the collection of a namespaced object's path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap()
}

/// The collection that a path's watchers look at: without its namespace.
fn kind_of(path: &str) -> String {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if let Some(i) = parts.iter().position(|p| *p == "namespaces") {
        parts.drain(i..=i + 1);
    }
    parts.join("/")
}

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            objects: Arc::default(),
            changes: broadcast::channel(256).0,
            revision: Arc::default(),
            reviews: Arc::default(),
            url: format!("http://{}", listener.local_addr().unwrap()),
        };
        let served = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = served.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let api = api.clone();
                        async move { Ok::<_, std::convert::Infallible>(api.serve(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        api
    }

    pub(crate) fn client(&self) -> kube::Client {
        let config = kube::Config::new(self.url.parse().unwrap());
        kube::Client::try_from(config).unwrap()
    }

    /// Everybody may do this to nodes.
    pub(crate) fn allow(&self, verb: &str) {
        self.reviews.lock().allowed.push(verb.to_owned());
    }

    /// From now on reviews fail.
    pub(crate) fn break_reviews(&self) {
        self.reviews.lock().broken = true;
    }

    /// How many reviews were asked for.
    pub(crate) fn reviews(&self) -> usize {
        self.reviews.lock().asked
    }

    fn review(&self, mut review: Value) -> Response<Body> {
        let mut reviews = self.reviews.lock();
        reviews.asked += 1;
        if reviews.broken {
            return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable");
        }
        let verb = &review["spec"]["resourceAttributes"]["verb"];
        let allowed = reviews.allowed.iter().any(|v| v == verb);
        review["status"] = json!({"allowed": allowed});
        reply(StatusCode::CREATED, &review)
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let event = if self.objects.lock().contains_key(path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let revision = {
            let mut n = self.revision.lock();
            *n += 1;
            *n
        };
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{revision}"));
        }
        self.objects.lock().insert(path.to_owned(), object.clone());
        self.tell(path, event, object);
    }

    fn tell(&self, path: &str, event: &str, object: Value) {
        let kind = kind_of(split(path).0);
        let _ = self
            .changes
            .send((kind, json!({"type": event, "object": object})));
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().get(path).cloned()
    }

    /// Paths and objects below a path.
    pub(crate) fn below(&self, path: &str) -> Vec<(String, Value)> {
        let objects = self.objects.lock();
        let all = objects.iter().filter(|(own, _)| own.starts_with(path));
        all.map(|(own, object)| (own.clone(), object.clone()))
            .collect()
    }

    pub(crate) fn remove(&self, path: &str) {
        let old = self.objects.lock().remove(path);
        if let Some(old) = old {
            self.tell(path, "DELETED", old);
        }
    }

    /// Reasons and messages of all events.
    pub(crate) fn events(&self) -> Vec<String> {
        let objects = self.objects.lock();
        objects
            .iter()
            .filter(|(path, _)| path.contains("/events/"))
            .map(|(_, e)| {
                let text = |k: &str| e[k].as_str().unwrap_or_default().to_owned();
                format!("{}: {}", text("reason"), text("message"))
            })
            .collect()
    }

    async fn serve(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if method == Method::GET && query.contains("watch=true") {
            let from = form_urlencoded::parse(query.as_bytes())
                .find(|(k, _)| k == "resourceVersion")
                .and_then(|(_, v)| v.parse().ok())
                .unwrap_or(0);
            return self.watch(&path, from);
        }
        let object_path = path.trim_end_matches("/status").to_owned();
        match method {
            Method::GET => match self.get(&path) {
                Some(object) => reply(StatusCode::OK, &object),
                None if is_collection(&path) => reply(StatusCode::OK, &self.list(&path)),
                None => status(StatusCode::NOT_FOUND, "NotFound"),
            },
            Method::POST if path.ends_with("/subjectaccessreviews") => self.review(body),
            // Everybody is who the token says.
            Method::POST if path.ends_with("/tokenreviews") => {
                let mut review = body;
                let user = json!({"username": review["spec"]["token"]});
                review["status"] = json!({"authenticated": true, "user": user});
                reply(StatusCode::CREATED, &review)
            }
            Method::POST => {
                let mut body = body;
                if let Some(prefix) = body["metadata"]["generateName"].as_str() {
                    let name = format!("{prefix}{}", self.objects.lock().len());
                    body["metadata"]["name"] = json!(name);
                }
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if self.get(&path).is_some() {
                    return status(StatusCode::CONFLICT, "AlreadyExists");
                }
                self.put(&path, body);
                reply(StatusCode::CREATED, &self.get(&path).unwrap())
            }
            Method::PATCH => match self.get(&object_path) {
                None => status(StatusCode::NOT_FOUND, "NotFound"),
                Some(mut object) => {
                    merge(&mut object, &body);
                    self.put(&object_path, object.clone());
                    reply(StatusCode::OK, &object)
                }
            },
            Method::DELETE => match self.get(&path) {
                None => status(StatusCode::NOT_FOUND, "NotFound"),
                Some(object) => {
                    assert_eq!(
                        body["gracePeriodSeconds"], 0,
                        "the node's delete is the last one"
                    );
                    assert_eq!(body["preconditions"]["uid"], object["metadata"]["uid"]);
                    self.remove(&path);
                    reply(StatusCode::OK, &object)
                }
            },
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn list(&self, path: &str) -> Value {
        let wanted = kind_of(path);
        let objects = self.objects.lock();
        let items: Vec<&Value> = objects
            .iter()
            .filter(|(p, _)| kind_of(split(p).0) == wanted)
            .map(|(_, o)| o)
            .collect();
        json!({"kind": "List", "apiVersion": "v1",
               "metadata": {"resourceVersion": self.revision.lock().to_string()}, "items": items})
    }

    /// What changed since `from`, then what changes.
    fn watch(&self, path: &str, from: u64) -> Response<Body> {
        let wanted = kind_of(path);
        let changes = self.changes.subscribe();
        let missed: Vec<_> = self
            .objects
            .lock()
            .iter()
            .filter(|(p, _)| kind_of(split(p).0) == wanted)
            .filter(|(_, o)| {
                let revision = o["metadata"]["resourceVersion"].as_str().unwrap_or("0");
                revision.parse::<u64>().unwrap_or(0) > from
            })
            .map(|(_, o)| {
                let event = json!({"type": "MODIFIED", "object": o});
                Ok(Frame::data(Bytes::from(format!("{event}\n"))))
            })
            .collect();
        let frames = futures::stream::unfold((changes, wanted), |(mut changes, wanted)| async {
            loop {
                let (kind, event) = changes.recv().await.ok()?;
                if kind == wanted {
                    let line = Bytes::from(format!("{event}\n"));
                    return Some((Ok(Frame::data(line)), (changes, wanted)));
                }
            }
        });
        let frames = futures::stream::iter(missed).chain(frames);
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn is_collection(path: &str) -> bool {
    ["/pods", "/nodes", "/runtimeclasses", "/services"]
        .iter()
        .any(|end| path.ends_with(end))
}

/// A merge patch; the lists of a status are sent whole, but for their directives.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        if let Some(list) = target.as_array_mut() {
            list.retain(|v| v.get("$patch").is_none());
        }
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn reply(code: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(value.to_string()).boxed_unsync());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

fn status(code: StatusCode, reason: &str) -> Response<Body> {
    let value = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": reason});
    reply(code, &value)
}
