//! What every handler shares, put together by [`crate::server`]. Code below the handlers gets the parts that it uses
//! and doesn't import this file.

use std::net::IpAddr;
use std::sync::Arc;

use berth_core::gates::FeatureGates;
use berth_trace::Tracer;

use crate::admission::Chain;
use crate::aggregation::Aggregation;
use crate::allocation::ServiceSettings;
use crate::audit::Auditor;
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::flow::FlowControl;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::proxy::{NodeClient, Tunnels};
use crate::registry::Registry;
use crate::resource_metrics::ResourceMetrics;
use crate::storage::Storage;
use crate::tokens::TokenVerifier;

/// The state of an API server.
pub struct Api {
    /// What is served.
    pub registry: Arc<Registry>,
    /// The objects.
    pub storage: Arc<Storage>,
    /// Who a request is.
    pub authenticator: Authenticator,
    /// What a user may do.
    pub authorizer: Arc<Authorizer>,
    /// What may change or refuse writes.
    pub(crate) admission: Chain,
    /// What other servers serve.
    pub(crate) aggregation: Arc<Aggregation>,
    /// What the server counts.
    pub(crate) metrics: Metrics,
    /// Who may go on, and who waits.
    pub(crate) flow: FlowControl,
    /// Keeps the audit log, where there is a policy.
    pub(crate) auditor: Option<Arc<Auditor>>,
    /// Makes spans, where there is a collector.
    pub(crate) tracer: Tracer,
    /// What nodes and pods use.
    pub(crate) resource_metrics: Arc<ResourceMetrics>,
    /// What clients may use.
    pub limits: Arc<Limits>,
    /// Service account tokens.
    pub tokens: Option<TokenVerifier>,
    /// Watches and logs over WebSockets.
    pub(crate) sockets: Tunnels,
    /// How nodes are reached.
    pub nodes: Option<NodeClient>,
    /// From which ranges Services get addresses and node ports.
    pub(crate) services: ServiceSettings,
    /// Held by who tries again after others took what the server would have handed out: one at a time gets it.
    pub(crate) handing_out: tokio::sync::Mutex<()>,
    /// Feature gates.
    pub gates: FeatureGates,
    /// Whether berth's own controllers run beside this server.
    pub controllers: bool,
    /// Whether the nodes enforce NetworkPolicies.
    pub network_policies: bool,
    /// Address that clients are told.
    pub advertise: IpAddr,
}
