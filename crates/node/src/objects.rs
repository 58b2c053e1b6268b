//! Secrets, config maps and tokens that pods refer to, read from the API when needed.

mod recent;

use std::sync::Arc;
use std::time::Duration;

use berth_api::names;
use berth_supervise::Brief;
use k8s_openapi::api::authentication::v1::{
    BoundObjectReference, TokenRequest, TokenRequestSpec, TokenRequestStatus,
};
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret, ServiceAccount,
};
use kube::api::PostParams;
use kube::{Api, Client};

use recent::Recent;

/// Why an object could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("{kind} {name:?} not found")]
    Missing { kind: &'static str, name: String },
    #[error("cannot read {kind} {name:?}: {}", Brief(source))]
    Api {
        kind: &'static str,
        name: String,
        source: kube::Error,
    },
}

/// Reads objects for pods.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    recent: Arc<Recent>,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            recent: Arc::default(),
        }
    }

    pub(crate) async fn secret(&self, ns: &str, name: &str) -> Result<Secret, LookupError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), ns);
        get(api, "secret", name).await
    }

    pub(crate) async fn config_map(&self, ns: &str, name: &str) -> Result<ConfigMap, LookupError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), ns);
        let map = get(api, "configmap", name).await?;
        self.recent.keep(ns, name, &map);
        Ok(map)
    }

    /// One that may be as old as `age`, where somebody else has read it just now.
    pub(crate) async fn recent_config_map(
        &self,
        ns: &str,
        name: &str,
        age: Duration,
    ) -> Result<ConfigMap, LookupError> {
        match self.recent.get(ns, name, age) {
            Some(map) => Ok(map),
            None => self.config_map(ns, name).await,
        }
    }

    pub(crate) async fn claim(
        &self,
        ns: &str,
        name: &str,
    ) -> Result<PersistentVolumeClaim, LookupError> {
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), ns);
        get(api, "persistentvolumeclaim", name).await
    }

    pub(crate) async fn volume(&self, name: &str) -> Result<PersistentVolume, LookupError> {
        get(Api::all(self.client.clone()), "persistentvolume", name).await
    }

    /// A token of the pod's service account, bound to the pod.
    pub(crate) async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<TokenRequestStatus, LookupError> {
        let meta = &pod.metadata;
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned());
        check_name("serviceaccount", &account)?;
        let ns = meta.namespace.clone().unwrap_or_default();
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &ns);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|a| vec![a.to_owned()]).or(Some(Vec::new())),
                expiration_seconds: seconds,
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: meta.name.clone(),
                    uid: meta.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let answer: Result<TokenRequest, _> = api
            .create_subresource("token", &account, &PostParams::default(), &request)
            .await;
        match answer {
            Ok(TokenRequest {
                status: Some(status),
                ..
            }) => Ok(status),
            Ok(_) => Err(LookupError::Missing {
                kind: "token of serviceaccount",
                name: account,
            }),
            Err(source) => Err(LookupError::Api {
                kind: "token of serviceaccount",
                name: account,
                source,
            }),
        }
    }
}

/// A name in a pod's spec becomes part of a request's path, which kube's client takes as it is: `a?watch=1` would be a request
/// for something else. No object has such a name.
fn check_name(kind: &'static str, name: &str) -> Result<(), LookupError> {
    if names::dns1123_subdomain(name).is_empty() {
        return Ok(());
    }
    Err(LookupError::Missing {
        kind,
        name: name.to_owned(),
    })
}

async fn get<K>(api: Api<K>, kind: &'static str, name: &str) -> Result<K, LookupError>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    check_name(kind, name)?;
    match api.get_opt(name).await {
        Ok(Some(object)) => Ok(object),
        Ok(None) => Err(LookupError::Missing {
            kind,
            name: name.to_owned(),
        }),
        Err(source) => Err(LookupError::Api {
            kind,
            name: name.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    /// Whoever may create a pod chooses these names; the node's rights are not for requests of their making.
    #[tokio::test]
    async fn a_name_that_no_object_has_is_not_asked_for() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, std::io::Error>(Response::new(Body::empty())) }
        });
        let objects = Objects::new(Client::new(service, "n"));
        for name in ["a?watch=1", "a/../b", "..", "", "a%2Fb", "a#b", "A"] {
            let secret = objects.secret("n", name).await;
            assert!(matches!(secret, Err(LookupError::Missing { .. })), "{name}");
            let config_map = objects.config_map("n", name).await;
            let missing = matches!(config_map, Err(LookupError::Missing { .. }));
            assert!(missing, "{name}");
            let claim = objects.claim("n", name).await;
            assert!(matches!(claim, Err(LookupError::Missing { .. })), "{name}");
            let volume = objects.volume(name).await;
            assert!(matches!(volume, Err(LookupError::Missing { .. })), "{name}");
            let mut pod = Pod::default();
            pod.spec.get_or_insert_default().service_account_name = Some(name.to_owned());
            let token = objects.token(&pod, None, None).await;
            assert!(matches!(token, Err(LookupError::Missing { .. })), "{name}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        let _ = objects.secret("n", "a.b-1").await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
