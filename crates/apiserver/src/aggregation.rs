//! APIServices: groups that other servers serve, behind this one.
//!
//! Every group and version that this server has itself is an APIService without a Service, which a task keeps here, beside
//! the conditions of all ([`task`]). One with a Service sends the requests for its group and version to it ([`remote`]), as
//! long as this server has no kind of that group itself: nothing that is built in or defined by a
//! CustomResourceDefinition is ever answered by somebody else. The exception is metrics.k8s.io, whose place a real
//! metrics-server may take: the server's own kinds are then not served ([`crate::registry::Registry::offer`]).
//!
//! A request is authenticated and authorized here first. The other server is told who asks in `X-Remote-*` headers, on a
//! connection with the certificate of this server's front proxy; of the client's own credentials it gets nothing.

mod remote;
mod swagger;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::registry::{Table, group_version};
use crate::request::ApiRequest;
use crate::tls::TlsError;

pub(crate) use remote::{Front, Remote};
pub(crate) use swagger::Swagger;
pub(crate) use task::run;

const API_SERVICES: &str = "apiregistration.k8s.io/apiservices";

/// The certificate that this server shows to the servers of APIServices (stock: `--proxy-client-cert-file`), and the CA of
/// it that they are told (`--requestheader-client-ca-file`).
#[derive(Clone, Debug)]
pub struct FrontProxyConfig {
    /// Certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// Its key, PEM.
    pub key: Vec<u8>,
    /// The CA, PEM.
    pub ca: Vec<u8>,
    /// Common names that the certificate may have (`--requestheader-allowed-names`).
    pub allowed_names: Vec<String>,
    /// The CA of client certificates (`--client-ca-file`), PEM.
    pub client_ca: Vec<u8>,
}

/// The groups of other servers, by group and version.
pub(crate) type Remotes = BTreeMap<(String, String), Arc<Remote>>;

/// What other servers serve.
pub(crate) struct Aggregation {
    remotes: ArcSwap<Remotes>,
    front: Front,
    config: Option<FrontProxyConfig>,
}

impl Aggregation {
    /// Nothing yet; [`run`] follows the APIServices.
    ///
    /// # Errors
    /// When the certificate of the front proxy cannot be used.
    pub(crate) fn new(config: Option<FrontProxyConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            remotes: ArcSwap::default(),
            front: Front::new(config.as_ref())?,
            config,
        })
    }

    /// Who answers a request instead of this server.
    pub(crate) fn find(&self, table: &Table, request: &ApiRequest) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let (group, version) = match request {
            ApiRequest::Resource(asked) => {
                (asked.target.group.clone(), asked.target.version.clone())
            }
            ApiRequest::Path(asked) => {
                let rest = asked.path.strip_prefix("/apis/")?.trim_end_matches('/');
                let (group, version) = rest.split_once('/')?;
                (group.to_owned(), version.to_owned())
            }
        };
        let remote = remotes.get(&(group, version))?;
        (!is_local(table, &remote.group, &remote.version)).then(|| Arc::clone(remote))
    }

    /// Whether there is an APIService with a Service for this group and version.
    fn has(&self, group: &str, version: &str) -> bool {
        let key = (group.to_owned(), version.to_owned());
        self.remotes.load().contains_key(&key)
    }

    /// All, for discovery: those that this server has no kinds in the place of.
    pub(crate) fn all(&self, table: &Table) -> Vec<Arc<Remote>> {
        let remotes = self.remotes.load();
        let others = remotes
            .values()
            .filter(|remote| !is_local(table, &remote.group, &remote.version));
        others.cloned().collect()
    }

    /// Ends the connections that were upgraded.
    pub(crate) async fn close(&self) {
        self.front.close().await;
    }
}

/// Whether this server answers for a group and version itself.
fn is_local(table: &Table, group: &str, version: &str) -> bool {
    table.is_built_in_group(group)
        || table
            .rows()
            .iter()
            .any(|row| row.group == group && row.serves(version))
}

/// The ConfigMap by which the servers of APIServices know this one.
fn authentication(config: &FrontProxyConfig) -> Value {
    let pem = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let list = |names: &[&str]| json!(names).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": pem(&config.client_ca),
            "requestheader-client-ca-file": pem(&config.ca),
            "requestheader-allowed-names": json!(config.allowed_names).to_string(),
            "requestheader-username-headers": list(&["X-Remote-User"]),
            "requestheader-uid-headers": list(&["X-Remote-Uid"]),
            "requestheader-group-headers": list(&["X-Remote-Group"]),
            "requestheader-extra-headers-prefix": list(&["X-Remote-Extra-"]),
        },
    })
}

/// The name of a group and version's APIService.
fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// For messages.
fn shown(remote: &Remote) -> String {
    group_version(&remote.group, &remote.version)
}
