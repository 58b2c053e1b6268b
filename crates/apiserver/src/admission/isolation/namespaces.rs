//! Namespaces: what they demand must be a level, and only an administrator may lower it.

use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use berth_core::isolation::{Isolation, MINIMUM, Unclear, level};
use berth_rules::admission::isolation as rules;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{CLASSES, MinimumIsolation};
use crate::admission::{Attributes, Operation};
use crate::attributes::Attributes as Authorization;
use crate::object::Object;
use crate::request::Verb;
use crate::storage::key::group_resource;

/// How many pods of a namespace are looked at when it demands more, and how many of them a warning names.
const MAX_PODS: usize = 3000;
const MAX_NAMED: usize = 5;

/// What is wrong with a level that somebody writes, as an error of its field.
pub(super) fn field_error(unclear: &Unclear) -> FieldError {
    let metadata = FieldPath::new("metadata");
    match unclear {
        Unclear::Value { key, value } => {
            let all = Isolation::ALL.map(Isolation::as_str);
            FieldError::not_supported(&metadata.child("annotations").key(key), value, &all)
        }
        Unclear::Label(key) => FieldError::forbidden(
            &metadata.child("labels").key(key),
            "a label of this name has no effect, the annotation has",
        ),
    }
}

/// The level that an object has, unless it is written now and is none. What was there before stays as it is.
pub(super) fn written(
    new: &ObjectMeta,
    old: Option<&ObjectMeta>,
    key: &'static str,
) -> Result<Option<Isolation>, Unclear> {
    let now = level(new, key);
    match (now, old.map(|old| level(old, key))) {
        (Err(now), Some(Err(before))) if now == before => Ok(None),
        (now, _) => now,
    }
}

impl MinimumIsolation {
    pub(super) fn validate_namespace(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
    ) -> Result<(), ApiError> {
        let new = object.metadata();
        let old = match attributes.operation {
            Operation::Update => attributes.old.map(|old| old.metadata()),
            Operation::Create | Operation::Delete | Operation::Connect => None,
        };
        let floor = written(new, old, MINIMUM).map_err(|unclear| {
            let errors = vec![field_error(&unclear)];
            ApiError::invalid("", "Namespace", attributes.name, errors)
        })?;
        if let Some(old) = old.filter(|old| rules::lowers(new, old))
            && !self.may_lower(attributes)
        {
            let shown = |meta: &ObjectMeta| match level(meta, MINIMUM) {
                Ok(Some(level)) => level.to_string(),
                Ok(None) => "none".to_owned(),
                Err(_) => "what it is".to_owned(),
            };
            return Err(attributes.forbidden(format!(
                "lowering {MINIMUM} from {} to {} takes the right to update runtimeclasses.node.k8s.io, which user {:?} does not have",
                shown(old),
                shown(new),
                attributes.user.name,
            )));
        }
        if let Some(floor) = floor.filter(|_| old.is_some_and(|old| rules::raises(new, old))) {
            self.warn_of_existing(attributes, floor)?;
        }
        Ok(())
    }

    /// Whoever may say how strong a class is may say what a namespace demands: by rights for the namespace alone it
    /// would be no demand.
    fn may_lower(&self, attributes: &Attributes<'_>) -> bool {
        let (group, resource) = group_resource(CLASSES);
        let asked = Authorization::of_all(attributes.user, Verb::Update, group, resource);
        self.authorizer.authorize(&asked).allowed()
    }

    /// Pods that are there are not touched: their owner is told which of them are weaker.
    fn warn_of_existing(
        &self,
        attributes: &Attributes<'_>,
        floor: Isolation,
    ) -> Result<(), ApiError> {
        let stored = self.storage.list("core/pods", Some(attributes.name));
        let (mut weaker, mut named) = (0_usize, Vec::new());
        for pod in stored.iter().take(MAX_PODS) {
            // One that cannot be read was reported; it does not run.
            let Ok(pod) = pod.decode::<Pod>() else {
                continue;
            };
            if berth_core::pod::is_finished(&pod) || self.check(&pod, Some(floor), None)?.is_ok() {
                continue;
            }
            weaker += 1;
            if named.len() < MAX_NAMED {
                named.extend(pod.metadata.name);
            }
        }
        if weaker > 0 {
            let more = if weaker > named.len() { ", ..." } else { "" };
            attributes.warn(format!(
                "{weaker} existing pod(s) in namespace {:?} isolate less than {floor} and go on as they are: {}{more}",
                attributes.name,
                named.join(", "),
            ));
        }
        Ok(())
    }
}
