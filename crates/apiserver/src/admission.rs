//! Admission: what may change or refuse a write after authorization, in the stock order.
//!
//! It is asked on every write and every connection, with [`Attributes`]: who does what to which resource and
//! subresource. A plugin is one file here; it says what it [`handles`](Plugin::handles), changes objects in
//! [`admit`](Plugin::admit) and refuses in [`validate`](Plugin::validate). The rules are `core`'s; what they need from
//! the cluster is looked up here. `plugins` has a line for each, and says what becomes of the stock server's others.

mod always_pull_images;
mod certificates;
mod claim_resize;
mod configured;
mod default_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod object_quota;
mod plugins;
mod pod_security;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod unenforced;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use berth_api::status::{ApiError, Subject};
use berth_core::gates::FeatureGates;
use parking_lot::Mutex;

use crate::authz::Authorizer;
use crate::object::Object;
use crate::registry::Resource;
use crate::storage::{Guard, Storage};
use crate::user::User;
use crate::warnings::Warnings;
pub use configured::ConfigFileError;
pub(crate) use configured::pod_security as read_pod_security;
pub(crate) use plugins::Plugins;
pub use plugins::PluginsError;

/// Where namespaces are stored.
const NAMESPACES: &str = "core/namespaces";

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// An object is made, or something is posted to a subresource (a binding, an eviction, a token request).
    Create,
    /// An object or a subresource of it is changed, by PUT or any patch.
    Update,
    /// An object is deleted; once for each of a collection.
    Delete,
    /// exec, attach, portforward, proxy.
    Connect,
}

/// What plugins are asked about.
pub(crate) struct Attributes<'a> {
    /// Who asks.
    pub(crate) user: &'a User,
    /// What is done.
    pub(crate) operation: Operation,
    /// To which resource.
    pub(crate) resource: &'a Resource,
    /// To which subresource; empty for the object itself.
    pub(crate) subresource: &'a str,
    /// Namespace; empty for cluster-scoped kinds.
    pub(crate) namespace: &'a str,
    /// Name of the object.
    pub(crate) name: &'a str,
    /// The object as it is stored, where there is one.
    pub(crate) old: Option<&'a dyn Object>,
    /// Whether nothing will be stored.
    #[allow(dead_code, reason = "for plugins with effects of their own")]
    pub(crate) dry_run: bool,
    /// What the client is told besides the answer.
    pub(crate) warnings: &'a Warnings,
}

impl Attributes<'_> {
    /// Whether this is about a resource (of any version) and one of its subresources, or the object itself.
    pub(crate) fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.resource.group == group
            && self.resource.plural == plural
            && self.subresource == subresource
    }

    /// The refusal, in the stock server's form.
    pub(crate) fn forbidden(&self, message: impl Into<String>) -> ApiError {
        ApiError::Forbidden {
            subject: Subject::new(&*self.resource.group, &*self.resource.plural, self.name),
            message: message.into(),
        }
    }

    /// Tells the client something besides the answer.
    pub(crate) fn warn(&self, text: String) {
        self.warnings.add(text);
    }
}

/// A plugin.
pub(crate) trait Plugin: Send + Sync {
    /// Whether it has anything to do with such a request: by operation, resource and subresource.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes an object before it is validated. In a create or update the object is the resource's kind, in a create
    /// of a subresource what was posted.
    ///
    /// # Errors
    /// A refusal, or that something that the plugin depends on cannot be read.
    fn admit(
        &self,
        _attributes: &Attributes<'_>,
        _object: &mut dyn Object,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// Refuses, after everybody has changed the object and it was found valid. Deletes and connections have none.
    ///
    /// # Errors
    /// A refusal, or that something that the plugin depends on cannot be read.
    fn validate(
        &self,
        _attributes: &Attributes<'_>,
        _object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// Whether [`validate`](Self::validate) counts what others write at the same time, so that one write must be stored
    /// before the next is judged.
    fn is_exclusive(&self, _attributes: &Attributes<'_>) -> bool {
        false
    }
}

/// What plugins are made from.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The objects.
    pub(crate) storage: Arc<Storage>,
    /// Feature gates.
    pub(crate) gates: FeatureGates,
    /// What users may do.
    pub(crate) authorizer: Arc<Authorizer>,
    /// PodSecurity with its defaults and exemptions.
    pub(crate) pod_security: Arc<berth_rules::admission::pod_security::PodSecurity>,
}

/// Held while something is written that others in its namespace must not overtake: a lock for those of this server, a
/// guard for those of others.
pub(crate) struct Turn {
    guard: Option<Guard>,
    _lock: tokio::sync::OwnedMutexGuard<()>,
}

impl Turn {
    /// To be written together with what was judged.
    pub(crate) fn guard(&self) -> Option<Guard> {
        self.guard.clone()
    }
}

/// The enabled plugins, in order.
pub(crate) struct Chain {
    storage: Arc<Storage>,
    plugins: Vec<Box<dyn Plugin>>,
    /// By namespace, while somebody has or waits for one: no namespace waits for the writes of another.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Chain {
    fn new(parts: &Parts, plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            plugins,
            turns: Mutex::default(),
        }
    }

    /// Lets the plugins change an object.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut dyn Object,
    ) -> Result<(), ApiError> {
        self.catch_up(attributes).await?;
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.admit(attributes, object)?;
            }
        }
        Ok(())
    }

    /// Lets the plugins refuse.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        for plugin in &self.plugins {
            if plugin.handles(attributes) {
                plugin.validate(attributes, object)?;
            }
        }
        Ok(())
    }

    /// Waits until nothing else is written that a plugin counts; to be held from before [`Self::validate`] until the
    /// object is stored.
    pub(crate) async fn turn(&self, attributes: &Attributes<'_>) -> Option<Turn> {
        let exclusive = self
            .plugins
            .iter()
            .any(|p| p.handles(attributes) && p.is_exclusive(attributes));
        if !exclusive {
            return None;
        }
        let lock = self.turn_of(attributes.namespace).lock_owned().await;
        // Before anything is counted.
        let guard = self.storage.guard(attributes.namespace);
        Some(Turn { guard, _lock: lock })
    }

    /// Judges again what others have written meanwhile.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn recount(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
    ) -> Result<(), ApiError> {
        self.plugins
            .iter()
            .filter(|p| p.handles(attributes) && p.is_exclusive(attributes))
            .try_for_each(|plugin| plugin.validate(attributes, Some(object)))
    }

    fn turn_of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(namespace).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(namespace.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// With several servers this one may be behind: a namespace that it does not know may have just been made.
    async fn catch_up(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let namespace = attributes.namespace;
        if namespace.is_empty() || self.storage.get(NAMESPACES, "", namespace).is_some() {
            return Ok(());
        }
        let current = self.storage.current_revision().await?;
        self.storage.wait_for(current).await
    }
}
