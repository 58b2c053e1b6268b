//! A server of the test's own, and a client that knows no Kubernetes.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use berth_apiserver::authn::StaticToken;
use berth_apiserver::user::User;
use berth_apiserver::{Config, ServeError, StoreConfig};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "secret";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    /// The body; of what is no text, what can be read of it.
    pub(crate) text: String,
    #[allow(dead_code, reason = "the suite of attacks reads text only")]
    pub(crate) bytes: Bytes,
}

impl Answer {
    async fn read(response: http::Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Self {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The JSON of an answer that must have this code.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        self.json()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.headers
            .get_all("warning")
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect()
    }
}

/// A running server.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
    _dir: Option<tempfile::TempDir>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut api = Self::start_in(dir.path()).await;
        api._dir = Some(dir);
        api
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut api = Self::start_changed(dir.path(), change).await;
        api._dir = Some(dir);
        api
    }

    pub(crate) async fn start_in(dir: &Path) -> Self {
        Self::start_changed(dir, |_| {}).await
    }

    pub(crate) async fn start_changed(dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config::new(
            bind,
            StoreConfig::Sqlite {
                dir: dir.to_owned(),
            },
        );
        config.authn.static_tokens.push(StaticToken {
            token: TOKEN.to_owned(),
            user: User::master("admin"),
        });
        change(&mut config);
        let server = config.build().await.unwrap();
        let address = server.local_addr();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server.serve(shutdown.clone()));
        Self {
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
            shutdown,
            serving,
            _dir: None,
        }
    }

    /// Why it does not start with this configuration.
    #[allow(dead_code, reason = "only the suite of attacks uses it")]
    pub(crate) async fn refused(dir: &Path, change: impl FnOnce(&mut Config)) -> String {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config::new(
            bind,
            StoreConfig::Sqlite {
                dir: dir.to_owned(),
            },
        );
        change(&mut config);
        match config.build().await {
            Ok(_) => panic!("it has started"),
            Err(error) => error.to_string(),
        }
    }

    /// Stops it; its directory can be used again.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> http::Response<Incoming> {
        let authorization = format!("Bearer {TOKEN}");
        let mut headers = headers.to_vec();
        headers.push(("authorization", &authorization));
        self.send_without_credentials(method, path, &headers, body)
            .await
    }

    async fn send_without_credentials(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!(
            "http://{}{}",
            self.address,
            path.replace(' ', "%20")
        ));
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        tokio::time::timeout(PATIENCE, self.client.request(request))
            .await
            .expect("an answer in time")
            .unwrap()
    }

    /// A request with no credentials but those in `headers`.
    #[allow(dead_code, reason = "only the suite of attacks uses it")]
    pub(crate) async fn raw_without_credentials(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self
            .send_without_credentials(method, path, headers, body.into())
            .await;
        Answer::read(response).await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        Answer::read(self.send(method, path, headers, body.into()).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, &[], Bytes::new()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.raw("DELETE", path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.raw(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.raw(
            "PUT",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub(crate) async fn merge(&self, path: &str, body: Value) -> Answer {
        let headers = [("content-type", "application/merge-patch+json")];
        self.raw("PATCH", path, &headers, body.to_string()).await
    }

    /// A ConfigMap in `default`, with labels.
    pub(crate) async fn config_map(&self, name: &str, labels: Value) -> Value {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}});
        self.post(CONFIG_MAPS, body).await.expect(201)
    }

    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let response = self.send("GET", path, &[], Bytes::new()).await;
        assert_eq!(response.status().as_u16(), 200);
        Watch {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

pub(crate) const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// The events of a watch.
pub(crate) struct Watch {
    body: Incoming,
    rest: Vec<u8>,
}

impl Watch {
    /// The next event; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame())
                .await
                .expect("an event in time")?;
            self.rest
                .extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
    }

    /// Type and name of the next event.
    pub(crate) async fn told(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        (
            event["type"].as_str().unwrap().to_owned(),
            event["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
        )
    }
}

/// A pod with one container.
pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]}})
}

/// A RuntimeClass.
pub(crate) fn class(name: &str, handler: &str) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler})
}

/// A pod of a RuntimeClass.
pub(crate) fn pod_of_class(name: &str, class: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["runtimeClassName"] = json!(class);
    pod
}

/// The names of a list's items.
pub(crate) fn names(list: &Value) -> Vec<String> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A request as somebody else.
pub(crate) async fn as_user(
    api: &Api,
    user: &str,
    groups: &[&str],
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let mut headers = vec![
        ("impersonate-user", user),
        ("content-type", "application/json"),
    ];
    headers.extend(groups.iter().map(|group| ("impersonate-group", *group)));
    api.raw(
        method,
        path,
        &headers,
        body.map(|b| b.to_string()).unwrap_or_default(),
    )
    .await
}

/// Makes a ClusterRole of these rules and binds it to a user.
pub(crate) async fn grant(api: &Api, role: &str, user: &str, rules: Value) {
    let body = json!({"metadata": {"name": role}, "rules": rules});
    api.post(&format!("{RBAC}/clusterroles"), body)
        .await
        .expect(201);
    bind(api, role, role, user).await;
}

/// Binds a ClusterRole to a user.
pub(crate) async fn bind(api: &Api, name: &str, role: &str, user: &str) {
    let binding = json!({"metadata": {"name": name}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}});
    api.post(&format!("{RBAC}/clusterrolebindings"), binding)
        .await
        .expect(201);
}
