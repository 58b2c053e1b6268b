//! Admission: what may change or refuse a write after authorization, in the stock order.

mod namespace_lifecycle;
mod pod;
mod resource_quota;

use std::sync::Arc;

use berth_api::status::ApiError;
use serde_json::Value;

use crate::rest::Call;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A plugin, by the name that `--enable-admission-plugins` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plugin {
    NamespaceLifecycle,
    LimitRanger,
    ServiceAccount,
    Priority,
    DefaultTolerationSeconds,
    RuntimeClass,
    ResourceQuota,
}

impl Plugin {
    /// Every plugin, in the order in which they run.
    const ALL: [Self; 7] = [
        Self::NamespaceLifecycle,
        Self::LimitRanger,
        Self::ServiceAccount,
        Self::Priority,
        Self::DefaultTolerationSeconds,
        Self::RuntimeClass,
        Self::ResourceQuota,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NamespaceLifecycle => "NamespaceLifecycle",
            Self::LimitRanger => "LimitRanger",
            Self::ServiceAccount => "ServiceAccount",
            Self::Priority => "Priority",
            Self::DefaultTolerationSeconds => "DefaultTolerationSeconds",
            Self::RuntimeClass => "RuntimeClass",
            Self::ResourceQuota => "ResourceQuota",
        }
    }
}

/// Plugins of the stock server that berth accepts by name and that have nothing to do here.
const INERT: [&str; 29] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "PodNodeSelector",
    "PodSecurity",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// Lists of plugins that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginsError {
    /// A name that is no plugin.
    #[error("unknown admission plugin {name:?}; known: {known}")]
    Unknown {
        /// As it was given.
        name: String,
        /// All that do something here.
        known: String,
    },
    /// A plugin in both lists.
    #[error("{0} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Both(String),
}

/// The enabled plugins, in order.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    plugins: Vec<Plugin>,
    quota_turn: Arc<tokio::sync::Mutex<()>>,
}

impl Chain {
    /// All plugins but those that are disabled.
    ///
    /// # Errors
    /// A name that is no plugin, and one that is in both lists.
    pub(crate) fn new(enable: &[String], disable: &[String]) -> Result<Self, PluginsError> {
        for name in enable.iter().chain(disable) {
            let known =
                Plugin::ALL.iter().any(|p| p.name() == name) || INERT.contains(&name.as_str());
            if !known {
                let known: Vec<_> = Plugin::ALL.iter().map(|p| p.name()).collect();
                return Err(PluginsError::Unknown {
                    name: name.clone(),
                    known: known.join(", "),
                });
            }
        }
        if let Some(both) = enable.iter().find(|name| disable.contains(name)) {
            return Err(PluginsError::Both(both.clone()));
        }
        for inert in enable.iter().filter(|name| INERT.contains(&name.as_str())) {
            tracing::warn!(
                plugin = inert,
                "this admission plugin of the stock server does nothing in berth"
            );
        }
        Ok(Self {
            plugins: Plugin::ALL
                .into_iter()
                .filter(|plugin| !disable.iter().any(|name| name == plugin.name()))
                .collect(),
            quota_turn: Arc::default(),
        })
    }

    /// Whether a plugin is enabled.
    pub(crate) fn has(&self, plugin: Plugin) -> bool {
        self.plugins.contains(&plugin)
    }

    /// The plugins that change an object before it is validated.
    pub(crate) async fn mutate(
        &self,
        call: &Call,
        operation: Operation,
        object: &mut Value,
        _old: Option<&Value>,
    ) -> Result<(), ApiError> {
        if self.has(Plugin::NamespaceLifecycle) {
            namespace_lifecycle::admit(call, operation, object).await?;
        }
        if operation == Operation::Create && is_pod(call) {
            pod::mutate(self, call, object)?;
        }
        Ok(())
    }

    /// The plugins that refuse.
    pub(crate) async fn validate(
        &self,
        call: &Call,
        operation: Operation,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        if operation == Operation::Delete {
            if self.has(Plugin::NamespaceLifecycle) {
                namespace_lifecycle::check_delete(call, old)?;
            }
            return Ok(());
        }
        let Some(object) = object.filter(|_| operation == Operation::Create) else {
            return Ok(());
        };
        if is_pod(call) && self.has(Plugin::LimitRanger) {
            pod::check_limits(call, object)?;
        }
        if self.has(Plugin::ResourceQuota) {
            resource_quota::check(call, object)?;
        }
        Ok(())
    }

    /// Waits until nothing else is created that quotas count; to be held until the object is
    /// stored.
    pub(crate) async fn turn(&self, call: &Call) -> Option<resource_quota::Turn> {
        resource_quota::turn(self, call).await
    }
}

fn is_pod(call: &Call) -> bool {
    call.row.storage == "core/pods" && call.subresource().is_empty()
}

/// The refusal of the object being written, in the stock server's form.
pub(crate) fn forbidden(call: &Call, name: &str, message: impl Into<String>) -> ApiError {
    ApiError::Forbidden {
        subject: call.subject(name),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_by_name() {
        let names =
            |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
        let chain = |enable: &[&str], disable: &[&str]| {
            Chain::new(&names(enable), &names(disable)).map(|chain| chain.plugins.len())
        };
        assert_eq!(chain(&[], &[]), Ok(Plugin::ALL.len()));
        assert_eq!(
            chain(&["NodeRestriction", "RuntimeClass"], &["PodSecurity"]),
            Ok(Plugin::ALL.len())
        );
        assert_eq!(
            chain(&[], &["RuntimeClass", "Priority"]),
            Ok(Plugin::ALL.len() - 2)
        );
        assert_eq!(
            chain(&["RuntimeClass"], &["RuntimeClass"]),
            Err(PluginsError::Both("RuntimeClass".to_owned()))
        );
        let unknown = chain(&[], &["Runtime"]).unwrap_err().to_string();
        assert!(
            unknown
                .starts_with("unknown admission plugin \"Runtime\"; known: NamespaceLifecycle, "),
            "{unknown}"
        );
    }
}
