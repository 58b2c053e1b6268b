//! The ReplicaSet of the Deployment's template: found, numbered, or made.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::annotations::{self, REVISION};
use super::sets::Set;
use super::status::{self, Condition};
use super::{Rollout, Step};
use crate::Event;
use crate::owner::{controller_reference, is_controlled_by};
use crate::template::{POD_TEMPLATE_HASH, hash, is_same};

/// What it means that the name of a new ReplicaSet is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the one that was to be created: an earlier attempt was made and not seen.
    Same,
    /// Another one: `status.collisionCount` is to be raised, which gives another name.
    Other,
}

impl Taken {
    /// Judges the one that is there.
    #[must_use]
    pub fn of(deployment: &Deployment, there: &ReplicaSet) -> Self {
        let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
        let wanted = deployment.spec.as_ref().map(|s| &s.template);
        let template = there.spec.as_ref().and_then(|s| s.template.as_ref());
        match (wanted, template) {
            (Some(wanted), Some(template))
                if is_controlled_by(&there.metadata, uid) && is_same(wanted, template) =>
            {
                Self::Same
            }
            _ => Self::Other,
        }
    }
}

impl Rollout<'_> {
    /// Finds the new ReplicaSet, gives it the next revision where it is not the newest yet, and the Deployment the
    /// revision that it has. Where there is none, one is made if `may_create`.
    pub(super) fn sync_revision(&mut self, may_create: bool) {
        self.sets.find_new();
        let highest = self
            .sets
            .old
            .iter()
            .map(|set| annotations::revision(&set.read.metadata))
            .max();
        let revision = highest.unwrap_or(0) + 1;
        if let Some(new) = &mut self.sets.new {
            new.annotations =
                annotations::of_new_set(self.deployment, new.annotations.clone(), revision);
            new.min_ready_seconds = self.spec.min_ready_seconds;
            let name = new.name().to_owned();
            let revision = new.annotations.get(REVISION).cloned();
            self.annotate(revision.unwrap_or_default());
            if self.has_deadline() && status::find(&self.conditions, status::PROGRESSING).is_none()
            {
                self.set_condition(Condition {
                    type_: status::PROGRESSING,
                    status: "True",
                    reason: "FoundNewReplicaSet",
                    message: format!("Found new replica set \"{name}\""),
                });
            }
        } else if may_create {
            self.create(revision);
        }
    }

    fn create(&mut self, revision: i64) {
        let mut set = self.new_set();
        let replicas = self.replicas_of_new();
        let mut new = Set::new(Arc::new(set.clone()));
        new.replicas = replicas;
        new.is_created = true;
        new.annotations =
            annotations::of_new_set(self.deployment, new.annotations.clone(), revision);
        new.note(self.limits);
        let name = new.name().to_owned();
        set.metadata.annotations = Some(new.annotations.clone());
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(replicas);
        }
        self.steps.push(Step::Create(Box::new(set)));
        self.annotate(revision.to_string());
        if replicas > 0 {
            self.events.push(Event::normal(
                "ScalingReplicaSet",
                format!("Scaled up replica set {name} from 0 to {replicas}"),
            ));
        }
        if self.has_deadline() {
            self.set_condition(Condition {
                type_: status::PROGRESSING,
                status: "True",
                reason: "NewReplicaSetCreated",
                message: format!("Created new replica set \"{name}\""),
            });
        }
        self.sets.new = Some(new);
    }

    /// The ReplicaSet as it is created, without replicas and annotations.
    fn new_set(&self) -> ReplicaSet {
        let collisions = self
            .deployment
            .status
            .as_ref()
            .and_then(|s| s.collision_count);
        let hash = hash(&self.spec.template, collisions);
        let mut template = self.spec.template.clone();
        let meta = template.metadata.get_or_insert_default();
        let labels = meta.labels.get_or_insert_default();
        labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        let wanted = selector.match_labels.get_or_insert_default();
        wanted.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
        let owner = &self.deployment.metadata;
        let name = owner.name.as_deref().unwrap_or_default();
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{hash}")),
                namespace: owner.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference::<Deployment>(owner)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
                replicas: None,
            }),
            status: None,
        }
    }

    fn annotate(&mut self, revision: String) {
        let mut all = annotations::of(&self.deployment.metadata);
        if all.get(REVISION) != Some(&revision) {
            all.insert(REVISION.to_owned(), revision);
            self.steps.retain(|step| !matches!(step, Step::Annotate(_)));
            self.steps.push(Step::Annotate(all));
        }
    }
}
