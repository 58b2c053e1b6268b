//! The plugins by the names that `--enable-admission-plugins` and `--disable-admission-plugins` take.

use super::advice::ClassAdvice;
use super::always_pull_images::AlwaysPullImages;
use super::certificates::{CertificateApproval, CertificateSigning, CertificateSubjectRestriction};
use super::claim_resize::PersistentVolumeClaimResize;
use super::default_class::{DefaultIngressClass, DefaultStorageClass};
use super::default_toleration_seconds::DefaultTolerationSeconds;
use super::expressions::Expressions;
use super::isolation::MinimumIsolation;
use super::limit_ranger::LimitRanger;
use super::namespace_lifecycle::NamespaceLifecycle;
use super::node_restriction::NodeRestriction;
use super::object_quota::WholeQuota;
use super::pod_security::PodSecurity;
use super::policies::{MutatingPolicies, ValidatingPolicies};
use super::priority::Priority;
use super::runtime_class::RuntimeClass;
use super::service_account::ServiceAccount;
use super::unenforced::Disabled;
use super::webhooks::{MutatingWebhooks, ValidatingWebhooks};
use super::{Chain, Member, Parts, Plugin};

fn own(plugin: impl Plugin + 'static) -> Member {
    Member::Own(Box::new(plugin))
}

/// A plugin that is built.
struct Built {
    name: &'static str,
    /// Whether it runs unless it is disabled; the others run when they are enabled.
    by_default: bool,
    make: fn(&Parts) -> Member,
}

/// Every plugin, in the order in which they run.
const BUILT: &[Built] = &[
    Built {
        name: "NamespaceLifecycle",
        by_default: true,
        make: |parts| own(NamespaceLifecycle::new(parts)),
    },
    Built {
        name: "LimitRanger",
        by_default: true,
        make: |parts| own(LimitRanger::new(parts)),
    },
    Built {
        name: "ServiceAccount",
        by_default: true,
        make: |parts| own(ServiceAccount::new(parts)),
    },
    Built {
        name: "NodeRestriction",
        by_default: true,
        make: |parts| own(NodeRestriction::new(parts)),
    },
    Built {
        name: "AlwaysPullImages",
        by_default: false,
        make: |_| own(AlwaysPullImages),
    },
    Built {
        name: "PodSecurity",
        by_default: true,
        make: |parts| own(PodSecurity::new(parts)),
    },
    Built {
        name: "Priority",
        by_default: true,
        make: |parts| own(Priority::new(parts)),
    },
    Built {
        name: "DefaultTolerationSeconds",
        by_default: true,
        make: |_| own(DefaultTolerationSeconds),
    },
    Built {
        name: "DefaultStorageClass",
        by_default: true,
        make: |parts| own(DefaultStorageClass::new(parts)),
    },
    Built {
        name: "PersistentVolumeClaimResize",
        by_default: true,
        make: |parts| own(PersistentVolumeClaimResize::new(parts)),
    },
    Built {
        name: "RuntimeClass",
        by_default: true,
        make: |parts| own(RuntimeClass::new(parts)),
    },
    // Berth's own: after the class of a pod is decided.
    Built {
        name: "MinimumIsolation",
        by_default: true,
        make: |parts| own(MinimumIsolation::new(parts)),
    },
    Built {
        name: "CertificateApproval",
        by_default: true,
        make: |parts| own(CertificateApproval::new(parts)),
    },
    Built {
        name: "CertificateSigning",
        by_default: true,
        make: |parts| own(CertificateSigning::new(parts)),
    },
    Built {
        name: "CertificateSubjectRestriction",
        by_default: true,
        make: |_| own(CertificateSubjectRestriction),
    },
    Built {
        name: "DefaultIngressClass",
        by_default: true,
        make: |parts| own(DefaultIngressClass::new(parts)),
    },
    Built {
        name: "MutatingAdmissionPolicy",
        by_default: true,
        make: |parts| Member::Outside(Box::new(MutatingPolicies::new(parts))),
    },
    Built {
        name: "MutatingAdmissionWebhook",
        by_default: true,
        make: |parts| Member::Outside(Box::new(MutatingWebhooks::new(parts))),
    },
    Built {
        name: "ValidatingAdmissionPolicy",
        by_default: true,
        make: |parts| Member::Outside(Box::new(ValidatingPolicies::new(parts))),
    },
    Built {
        name: "ValidatingAdmissionWebhook",
        by_default: true,
        make: |parts| Member::Outside(Box::new(ValidatingWebhooks::new(parts))),
    },
    Built {
        name: "ResourceQuota",
        by_default: true,
        make: |parts| own(WholeQuota::new(parts)),
    },
];

/// Plugins that objects of these kinds configure.
const CONFIGURED: &[(&str, &[&str])] = &[
    (
        "MutatingAdmissionPolicy",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ],
    ),
    (
        "MutatingAdmissionWebhook",
        &["mutatingwebhookconfigurations"],
    ),
    (
        "ValidatingAdmissionPolicy",
        &[
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
        ],
    ),
    (
        "ValidatingAdmissionWebhook",
        &["validatingwebhookconfigurations"],
    ),
];

/// Plugins of the stock server whose whole effect is there without them, and why.
const NEEDLESS: &[(&str, &str)] = &[
    (
        "AlwaysAdmit",
        "it admits everything, in the stock server too",
    ),
    (
        "ClusterTrustBundleAttest",
        "ClusterTrustBundles are not served",
    ),
    (
        "StorageObjectInUseProtection",
        "the controllers that protect volumes and claims add the finalizers themselves",
    ),
];

/// A plugin of the stock server that NamespaceLifecycle does the work of.
const NAMESPACE_EXISTS: (&str, &str) = ("NamespaceExists", "NamespaceLifecycle");

/// Plugins of the stock server that are not built: who enables one relies on an effect that it would not have.
const NOT_BUILT: &[&str] = &[
    "AlwaysDeny",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "PodTopologyLabels",
    "TaintNodesByCondition",
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
    /// A plugin of the stock server that is not there.
    #[error(
        "admission plugin {name:?} is not built into this server and would have no effect; remove it from \
         --enable-admission-plugins (built are: {known})"
    )]
    NotBuilt {
        /// As it was given.
        name: String,
        /// All that do something here.
        known: String,
    },
    /// A plugin whose work another one does, which is disabled.
    #[error(
        "admission plugin {name:?} has no effect while {by} is disabled; remove one of the two"
    )]
    Disabled {
        /// As it was given.
        name: String,
        /// The other plugin.
        by: String,
    },
    /// A plugin in both lists.
    #[error("{0} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Both(String),
}

/// Which plugins are to run.
pub(crate) struct Plugins(Vec<&'static Built>);

impl Plugins {
    /// The default plugins and those that are enabled, without those that are disabled.
    ///
    /// # Errors
    /// A name that is no plugin or is in both lists, and an enabled plugin that would have no effect.
    pub(crate) fn choose(enable: &[String], disable: &[String]) -> Result<Self, PluginsError> {
        let known = || BUILT.iter().map(|p| p.name).collect::<Vec<_>>().join(", ");
        let names = |list: &[String], wanted: &str| list.iter().any(|name| name == wanted);
        let is_built = |name: &str| BUILT.iter().any(|p| p.name == name);
        let needless = |name: &str| NEEDLESS.iter().find(|(n, _)| *n == name);
        for name in enable.iter().chain(disable) {
            let exists = is_built(name)
                || needless(name).is_some()
                || name == NAMESPACE_EXISTS.0
                || NOT_BUILT.contains(&name.as_str());
            if !exists {
                return Err(PluginsError::Unknown {
                    name: name.clone(),
                    known: known(),
                });
            }
        }
        if let Some(both) = enable.iter().find(|name| disable.contains(name)) {
            return Err(PluginsError::Both(both.clone()));
        }
        for name in enable {
            if NOT_BUILT.contains(&name.as_str()) {
                return Err(PluginsError::NotBuilt {
                    name: name.clone(),
                    known: known(),
                });
            }
            if let Some((name, why)) = needless(name) {
                tracing::info!(plugin = name, why, "an admission plugin has nothing to do");
            }
        }
        let (exists, by) = NAMESPACE_EXISTS;
        if names(enable, exists) && names(disable, by) {
            return Err(PluginsError::Disabled {
                name: exists.to_owned(),
                by: by.to_owned(),
            });
        }
        let runs = |p: &&Built| names(enable, p.name) || (p.by_default && !names(disable, p.name));
        Ok(Self(BUILT.iter().filter(runs).collect()))
    }

    /// The plugins themselves, and who tells of those that don't run.
    pub(crate) fn build(&self, parts: &Parts) -> Chain {
        let made = self.0.iter().map(|p| (p.name, (p.make)(parts)));
        let mut members: Vec<(&'static str, Member)> = made.collect();
        for (name, kinds) in CONFIGURED {
            if !self.0.iter().any(|p| p.name == *name) {
                members.push((name, own(Disabled(name, kinds))));
            }
        }
        members.push(("Expressions", own(Expressions)));
        // Last: there is no advice about what is refused.
        members.push(("ClassAdvice", own(ClassAdvice::new(parts))));
        Chain::new(parts, members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(enable: &[&str], disable: &[&str]) -> Result<Vec<&'static str>, PluginsError> {
        let owned =
            |list: &[&str]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
        Plugins::choose(&owned(enable), &owned(disable))
            .map(|plugins| plugins.0.iter().map(|p| p.name).collect())
    }

    #[test]
    fn plugins_by_name() {
        let all: Vec<_> = BUILT
            .iter()
            .filter(|p| p.by_default)
            .map(|p| p.name)
            .collect();
        assert_eq!(chosen(&[], &[]), Ok(all.clone()));
        assert_eq!(chosen(&["RuntimeClass"], &["EventRateLimit"]), Ok(all));
        let fewer = chosen(&[], &["RuntimeClass", "Priority"]).unwrap();
        assert!(!fewer.contains(&"RuntimeClass") && !fewer.contains(&"Priority"));
        assert_eq!(
            chosen(&["RuntimeClass"], &["RuntimeClass"]),
            Err(PluginsError::Both("RuntimeClass".to_owned()))
        );
        let unknown = chosen(&[], &["Runtime"]).unwrap_err().to_string();
        assert!(
            unknown
                .starts_with("unknown admission plugin \"Runtime\"; known: NamespaceLifecycle, "),
            "{unknown}"
        );
    }

    #[test]
    fn a_plugin_without_effect_is_refused() {
        for name in NOT_BUILT {
            let error = chosen(&[name], &[]).unwrap_err();
            assert!(matches!(error, PluginsError::NotBuilt { .. }), "{error}");
            assert!(chosen(&[], &[name]).is_ok());
        }
        for (name, _) in NEEDLESS {
            assert!(chosen(&[name], &[]).is_ok(), "{name}");
        }
        assert!(chosen(&["NamespaceExists"], &[]).is_ok());
        assert!(chosen(&["NamespaceExists"], &["NamespaceLifecycle"]).is_err());
    }

    #[test]
    fn a_name_stands_in_one_list() {
        let built = BUILT.iter().map(|p| p.name);
        let needless = NEEDLESS.iter().map(|(name, _)| *name);
        let mut all: Vec<_> = built
            .chain(needless)
            .chain([NAMESPACE_EXISTS.0])
            .chain(NOT_BUILT.iter().copied())
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
