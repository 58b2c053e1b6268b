//! DefaultStorageClass and DefaultIngressClass: what names no class gets the default one, if there is one.

use std::sync::Arc;

use berth_api::status::ApiError;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Attributes, Operation, Parts, Plugin};
use crate::object::Object;
use crate::storage::Storage;

const OLD_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const OLD_INGRESS_CLASS: &str = "kubernetes.io/ingress.class";
const DEFAULT_STORAGE: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const DEFAULT_INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The name of the default class: of several the newest, then the first by name.
fn default_of<T: Metadata<Ty = ObjectMeta>>(classes: &[T], marks: &[&str]) -> Option<String> {
    let is_default = |class: &&T| {
        marks
            .iter()
            .any(|mark| annotation(class.metadata(), mark) == Some("true"))
    };
    let newest = classes.iter().filter(is_default).min_by_key(|class| {
        let created = class.metadata().creation_timestamp.as_ref();
        let created = created.map_or(0, |at| at.0.as_second());
        (std::cmp::Reverse(created), class.metadata().name.clone())
    });
    newest?.metadata().name.clone()
}

/// The class of claims.
pub(super) struct DefaultStorageClass {
    storage: Arc<Storage>,
}

impl DefaultStorageClass {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
        }
    }
}

impl Plugin for DefaultStorageClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims", "")
    }

    fn admit(&self, _attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        let claim: &mut PersistentVolumeClaim = object.typed_mut()?;
        let spec = claim.spec.get_or_insert_default();
        let is_named = annotation(&claim.metadata, OLD_STORAGE_CLASS).is_some();
        // An empty name says that the claim wants none.
        if is_named || spec.storage_class_name.is_some() {
            return Ok(());
        }
        let classes: Vec<StorageClass> = self
            .storage
            .read_all("storage.k8s.io/storageclasses", None)?;
        spec.storage_class_name = default_of(&classes, &DEFAULT_STORAGE);
        Ok(())
    }
}

/// The class of ingresses.
pub(super) struct DefaultIngressClass {
    storage: Arc<Storage>,
}

impl DefaultIngressClass {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
        }
    }
}

impl Plugin for DefaultIngressClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && attributes.is("networking.k8s.io", "ingresses", "")
    }

    fn admit(&self, _attributes: &Attributes<'_>, object: &mut dyn Object) -> Result<(), ApiError> {
        let ingress: &mut Ingress = object.typed_mut()?;
        let spec = ingress.spec.get_or_insert_default();
        let is_named = annotation(&ingress.metadata, OLD_INGRESS_CLASS).is_some();
        if is_named || spec.ingress_class_name.is_some() {
            return Ok(());
        }
        let classes: Vec<IngressClass> = self
            .storage
            .read_all("networking.k8s.io/ingressclasses", None)?;
        spec.ingress_class_name = default_of(&classes, &DEFAULT_INGRESS);
        Ok(())
    }
}
