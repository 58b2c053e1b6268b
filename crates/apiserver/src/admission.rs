//! Admission: what may change or refuse a write after authorization, in the stock order.
//!
//! It is asked on every write and every connection, with [`Attributes`]: who does what to which resource and
//! subresource. A plugin is one file here; it says what it [`handles`](Plugin::handles), changes objects in
//! [`admit`](Plugin::admit) and refuses in [`validate`](Plugin::validate). The rules are `core`'s; what they need from
//! the cluster is looked up here. `plugins` has a line for each, and says what becomes of the stock server's others.
//!
//! Webhooks and policies are [`Outside`] rules: which there are, and what they say, others have written. What they make
//! of an object is decoded and defaulted again, and when one has changed it all plugins are asked once more, as on the
//! stock server.

mod advice;
mod always_pull_images;
mod cel;
mod certificates;
mod claim_resize;
mod configured;
mod default_class;
mod default_toleration_seconds;
mod expressions;
mod form;
mod invocation;
mod isolation;
mod limit_ranger;
mod matching;
mod measures;
mod namespace_lifecycle;
mod node_restriction;
mod object_quota;
mod plugins;
mod pod_security;
mod policies;
mod priority;
mod reinvocation;
mod resource_quota;
mod review;
mod runtime_class;
mod service_account;
mod source;
mod unenforced;
mod webhooks;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use berth_api::status::{ApiError, Subject};
use berth_core::gates::FeatureGates;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use self::measures::Half;
use self::reinvocation::Reinvocation;
use crate::audit::Trail;
use crate::authz::Authorizer;
use crate::flow::Seats;
use crate::heavy;
use crate::object::Object;
use crate::registry::{Registry, Resource};
use crate::storage::{Guard, Storage};
use crate::trace::Traced;
use crate::user::User;
use crate::warnings::Warnings;
pub use configured::ConfigFileError;
pub(crate) use configured::pod_security as read_pod_security;
pub(crate) use form::{Form, decode_posted};
pub use isolation::templates::{NoTemplatePath, PodTemplatePath};
pub(crate) use measures::Measures;
pub(crate) use plugins::Plugins;
pub use plugins::PluginsError;

/// Where namespaces are stored.
const NAMESPACES: &str = "core/namespaces";
/// Where nodes are stored.
const NODES: &str = "core/nodes";
/// Where RuntimeClasses are stored.
const CLASSES: &str = "node.k8s.io/runtimeclasses";

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

impl Operation {
    /// As reviews and metrics name it.
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What plugins are asked about.
pub(crate) struct Attributes<'a> {
    /// Who asks.
    pub(crate) user: &'a User,
    /// What is done.
    pub(crate) operation: Operation,
    /// To which resource.
    pub(crate) resource: &'a Resource,
    /// In which version the request speaks of it.
    pub(crate) version: &'a str,
    /// To which subresource; empty for the object itself.
    pub(crate) subresource: &'a str,
    /// Namespace; empty for cluster-scoped kinds.
    pub(crate) namespace: &'a str,
    /// Name of the object.
    pub(crate) name: &'a str,
    /// The object as it is stored, where there is one.
    pub(crate) old: Option<&'a dyn Object>,
    /// Whether nothing will be stored.
    pub(crate) dry_run: bool,
    /// What the client is told besides the answer.
    pub(crate) warnings: &'a Warnings,
    /// What the audit log is told.
    pub(crate) trail: &'a Trail,
    /// The request's span.
    pub(crate) traced: &'a Traced,
    /// As what others see the object.
    pub(crate) form: Form<'a>,
    /// The options of the request.
    pub(crate) options: &'a dyn RequestOptions,
    /// The request's seats, which it leaves while it waits for others.
    pub(crate) seats: &'a Seats,
    /// When the request must be answered.
    pub(crate) deadline: Instant,
}

/// The options of a request as others see them; made when somebody looks at them.
pub(crate) trait RequestOptions: Sync {
    /// CreateOptions, UpdateOptions or DeleteOptions; null for a connection.
    fn options(&self, operation: Operation) -> Value;
}

/// A connection has no options but the object itself.
pub(crate) struct NoOptions;

impl RequestOptions for NoOptions {
    fn options(&self, _operation: Operation) -> Value {
        Value::Null
    }
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

    /// Tells the audit log something; without one, the debug log.
    fn annotate(&self, key: &str, value: &str) {
        if self.trail.is_kept() {
            return self.trail.annotate(key, value);
        }
        const MAX_SHOWN: usize = 1024;
        let value: String = value.chars().take(MAX_SHOWN).collect();
        tracing::debug!(
            resource = %self.resource.qualified(),
            namespace = self.namespace,
            name = self.name,
            user = self.user.name,
            annotation = key,
            "admission audit: {value}"
        );
    }

    /// Waits for somebody outside, without what other requests could use meanwhile.
    ///
    /// # Errors
    /// `TooManyRequests` when that is not to be had again.
    async fn away<T>(&self, waiting: impl Future<Output = T>) -> Result<T, ApiError> {
        self.seats.away(heavy::away(waiting)).await?
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

/// A plugin whose rules others have written: webhooks and policies. An object is none for deletes and connections.
pub(crate) trait Outside: Send + Sync {
    /// Changes the object, or refuses.
    fn admit<'a>(
        &'a self,
        _attributes: &'a Attributes<'_>,
        _object: Option<&'a mut Box<dyn Object>>,
        _round: &'a mut Reinvocation,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async { Ok(()) })
    }

    /// Refuses.
    fn validate<'a>(
        &'a self,
        _attributes: &'a Attributes<'_>,
        _object: Option<&'a dyn Object>,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether it could have anything to do with such a request: there are rules at all, and they are not about the rules
    /// themselves.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;
}

/// One of the chain.
pub(crate) enum Member {
    /// A rule of the server's own.
    Own(Box<dyn Plugin>),
    /// Rules of others.
    Outside(Box<dyn Outside>),
}

/// What plugins are made from.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The objects.
    pub(crate) storage: Arc<Storage>,
    /// What is served.
    pub(crate) registry: Arc<Registry>,
    /// Feature gates.
    pub(crate) gates: FeatureGates,
    /// What users may do.
    pub(crate) authorizer: Arc<Authorizer>,
    /// What is counted.
    pub(crate) measures: Measures,
    /// PodSecurity with its defaults and exemptions.
    pub(crate) pod_security: Arc<berth_rules::admission::pod_security::PodSecurity>,
    /// Where custom resources have the template of their pods.
    pub(crate) pod_template_paths: Arc<[PodTemplatePath]>,
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
    members: Vec<(&'static str, Member)>,
    measures: Measures,
    /// By namespace, while somebody has or waits for one: no namespace waits for the writes of another.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Chain {
    fn new(parts: &Parts, members: Vec<(&'static str, Member)>) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
            members,
            measures: parts.measures.clone(),
            turns: Mutex::default(),
        }
    }

    /// Lets the plugins change an object. Tells whether others have: then what only the server writes is to be restored.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<bool, ApiError> {
        self.catch_up(attributes).await?;
        let _stage = attributes.traced.stage("admit");
        let begun = Instant::now();
        let admitted = self.admit_in_rounds(attributes, object).await;
        let took = begun.elapsed();
        self.measures
            .step(Half::Admit, attributes.operation, &admitted, took);
        admitted
    }

    async fn admit_in_rounds(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Box<dyn Object>,
    ) -> Result<bool, ApiError> {
        let mut round = Reinvocation::default();
        self.admit_once(attributes, Some(object), &mut round)
            .await?;
        if round.begin_again() {
            self.admit_once(attributes, Some(object), &mut round)
                .await?;
        }
        Ok(round.changed())
    }

    /// Asks those who change objects about a request without one.
    ///
    /// # Errors
    /// The first refusal.
    async fn admit_without_object(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let mut round = Reinvocation::default();
        self.admit_once(attributes, None, &mut round).await
    }

    async fn admit_once(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Box<dyn Object>>,
        round: &mut Reinvocation,
    ) -> Result<(), ApiError> {
        for (name, member) in &self.members {
            let begun = Instant::now();
            let admitted = match member {
                Member::Own(plugin) => match &mut object {
                    Some(object) if plugin.handles(attributes) => {
                        plugin.admit(attributes, object.as_mut())
                    }
                    Some(_) | None => continue,
                },
                Member::Outside(plugin) if plugin.handles(attributes) => {
                    let object = object.as_deref_mut();
                    plugin.admit(attributes, object, round).await
                }
                Member::Outside(_) => continue,
            };
            let (operation, took) = (attributes.operation, begun.elapsed());
            self.measures
                .controller(name, Half::Admit, operation, &admitted, took);
            admitted?;
        }
        Ok(())
    }

    /// Lets the plugins refuse a request with an object. What is given back is to be held until the object is stored:
    /// nothing else is written meanwhile that a plugin counts.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<Option<Turn>, ApiError> {
        let _stage = attributes.traced.stage("validate");
        let begun = Instant::now();
        let validated = self.validate_each(attributes, object).await;
        let took = begun.elapsed();
        self.measures
            .step(Half::Validate, attributes.operation, &validated, took);
        validated
    }

    async fn validate_each(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&dyn Object>,
    ) -> Result<Option<Turn>, ApiError> {
        let mut turn = None;
        for (name, member) in &self.members {
            let mut begun = Instant::now();
            let validated = match member {
                Member::Own(plugin) => {
                    if !plugin.handles(attributes) {
                        continue;
                    }
                    // Those outside have been asked before: nobody's turn lasts as long as they like.
                    if turn.is_none() && plugin.is_exclusive(attributes) {
                        let lock = self.turn_of(attributes.namespace).lock_owned().await;
                        // Before anything is counted.
                        let guard = self.storage.guard(attributes.namespace);
                        turn = Some(Turn { guard, _lock: lock });
                        begun = Instant::now();
                    }
                    plugin.validate(attributes, object)
                }
                Member::Outside(plugin) if plugin.handles(attributes) => {
                    plugin.validate(attributes, object).await
                }
                Member::Outside(_) => continue,
            };
            let (operation, took) = (attributes.operation, begun.elapsed());
            self.measures
                .controller(name, Half::Validate, operation, &validated, took);
            validated?;
        }
        Ok(turn)
    }

    /// Lets the plugins refuse a request without an object: a deletion, a connection.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) async fn judge(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        self.admit_without_object(attributes).await?;
        self.validate(attributes, None).await.map(|_| ())
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
        for (_, member) in &self.members {
            if let Member::Own(plugin) = member
                && plugin.handles(attributes)
                && plugin.is_exclusive(attributes)
            {
                plugin.validate(attributes, Some(object))?;
            }
        }
        Ok(())
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

/// The patch of any bytes as a webhook's answer.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_review(data: &[u8], v1: bool, mutating: bool) -> Result<Vec<u8>, String> {
    let version = if v1 {
        review::ReviewVersion::V1
    } else {
        review::ReviewVersion::V1beta1
    };
    let verdict = review::read(data, version, "u", mutating)?;
    if !verdict.allowed {
        let code = review::refusal("w.example.com", verdict.result).code();
        assert!((400..600).contains(&code), "a refusal with code {code}");
    }
    Ok(verdict.patch)
}
