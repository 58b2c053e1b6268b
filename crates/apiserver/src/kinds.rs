//! The kinds that every berth serves: one file each, which says all of a kind that is not a pure rule in `core` or a
//! fact of the stock API's schema. [`crate::kind::Kind`] is what a file must say; [`rows`] has a line for each.

mod api_service;
mod binding;
mod certificate_signing_request;
mod cluster_role;
mod cluster_role_binding;
mod component_status;
mod config_map;
mod controller_revision;
mod controllers;
mod cron_job;
mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod custom_resource_definition;
mod daemon_set;
mod deployment;
mod device_access;
mod device_class;
mod endpoint_slice;
mod endpoints;
mod event;
mod flow_schema;
mod horizontal_pod_autoscaler;
mod ingress;
mod ingress_class;
mod ip_address;
mod job;
mod lease;
mod limit_range;
mod mutating_admission_policy;
mod mutating_admission_policy_binding;
mod mutating_webhook_configuration;
mod namespace;
mod network_policy;
mod node;
mod persistent_volume;
mod persistent_volume_claim;
mod pod;
mod pod_disruption_budget;
mod pod_template;
mod priority_class;
mod priority_level_configuration;
mod replica_set;
mod replication_controller;
mod resource_claim;
mod resource_claim_template;
mod resource_quota;
mod resource_slice;
mod reviews;
mod role;
mod role_binding;
mod row;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod service_cidr;
mod stateful_set;
mod storage_class;
mod validating_admission_policy;
mod validating_admission_policy_binding;
mod validating_webhook_configuration;
mod volume_attachment;
mod volume_attributes_class;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
    PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use k8s_openapi::api::networking::v1::{
    IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::resource::v1::{
    DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::registry::Resource;
pub(crate) use custom_resource_definition::CLEANUP;
use custom_resource_definition::Definition;
use event::EventsEvent;
pub(crate) use row::row;

/// Verbs of subresources that show and change a part of the object.
const READ_WRITE: &[&str] = &["get", "patch", "update"];
/// Verbs of subresources that are created.
const CREATE: &[&str] = &["create"];
/// Verbs of subresources that connect to a container.
const CONNECT: &[&str] = &["create", "get"];
/// Verbs of subresources that pass any request on.
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

/// All built-in rows, in the order that discovery lists them.
#[must_use]
pub(crate) fn rows() -> Vec<Resource> {
    vec![
        row::<Binding>(),
        row::<ComponentStatus>(),
        row::<ConfigMap>(),
        row::<Endpoints>(),
        row::<Event>(),
        row::<LimitRange>(),
        row::<Namespace>(),
        row::<Node>(),
        row::<PersistentVolumeClaim>(),
        row::<PersistentVolume>(),
        row::<Pod>(),
        row::<PodTemplate>(),
        row::<ReplicationController>(),
        row::<ResourceQuota>(),
        row::<Secret>(),
        row::<ServiceAccount>(),
        row::<Service>(),
        row::<SelfSubjectReview>(),
        row::<TokenReview>(),
        row::<LocalSubjectAccessReview>(),
        row::<SelfSubjectAccessReview>(),
        row::<SelfSubjectRulesReview>(),
        row::<SubjectAccessReview>(),
        row::<HorizontalPodAutoscaler>(),
        row::<CronJob>(),
        row::<Job>(),
        row::<CertificateSigningRequest>(),
        row::<IngressClass>(),
        row::<Ingress>(),
        row::<IPAddress>(),
        row::<NetworkPolicy>(),
        row::<ServiceCIDR>(),
        row::<PodDisruptionBudget>(),
        row::<ClusterRoleBinding>(),
        row::<ClusterRole>(),
        row::<RoleBinding>(),
        row::<Role>(),
        row::<CSIDriver>(),
        row::<CSINode>(),
        row::<CSIStorageCapacity>(),
        row::<StorageClass>(),
        row::<VolumeAttachment>(),
        row::<VolumeAttributesClass>(),
        row::<MutatingAdmissionPolicy>(),
        row::<MutatingAdmissionPolicyBinding>(),
        row::<MutatingWebhookConfiguration>(),
        row::<ValidatingAdmissionPolicy>(),
        row::<ValidatingAdmissionPolicyBinding>(),
        row::<ValidatingWebhookConfiguration>(),
        row::<PriorityClass>(),
        row::<Lease>(),
        row::<RuntimeClass>(),
        row::<EndpointSlice>(),
        row::<FlowSchema>(),
        row::<PriorityLevelConfiguration>(),
        row::<DeviceClass>(),
        row::<ResourceClaim>(),
        row::<ResourceClaimTemplate>(),
        row::<ResourceSlice>(),
        row::<ControllerRevision>(),
        row::<DaemonSet>(),
        row::<Deployment>(),
        row::<ReplicaSet>(),
        row::<StatefulSet>(),
        row::<EventsEvent>(),
        row::<Definition>(),
        row::<APIService>(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;

    /// What `rows` has between `row::<` and `>`.
    fn registered() -> BTreeSet<&'static str> {
        let source = include_str!("kinds.rs");
        let rows = source.split("fn rows()").nth(1).unwrap();
        let rows = rows.split("\n}\n").next().unwrap();
        let names = rows.split("row::<").skip(1);
        names.map(|rest| rest.split('>').next().unwrap()).collect()
    }

    /// The types after `impl Kind for` in a file, and those that its macro is called with.
    fn implemented(source: &str) -> Vec<&str> {
        let plain = source.split("impl Kind for ").skip(1);
        let plain = plain.map(|rest| rest.split([' ', '<']).next().unwrap());
        let called = source.split("\nreview!(").nth(1).unwrap_or_default();
        let called = called.lines().filter_map(|line| line.split_once(':'));
        plain
            .filter(|name| !name.starts_with('$'))
            .chain(called.map(|(name, _)| name.trim()))
            .collect()
    }

    #[test]
    fn every_kind_that_is_written_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kinds");
        let mut written = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for name in implemented(&source) {
                let at = path.display();
                assert!(registered().contains(name), "{at}: {name} has no row");
                written += 1;
            }
        }
        assert_eq!(written, rows().len());
    }

    #[test]
    fn a_path_and_an_object_are_of_one_kind() {
        let mut paths = BTreeSet::new();
        let mut stored = BTreeMap::new();
        for row in rows() {
            let path = (row.group.clone(), row.plural.clone());
            assert!(paths.insert(path), "{} is there twice", row.plural);
            // Rows share objects only when they convert them.
            let gvk = stored.insert(row.storage.clone(), row.storage_gvk.clone());
            let same = gvk.is_none_or(|gvk| gvk == row.storage_gvk);
            assert!(same, "{} keeps objects of two kinds", row.storage);
        }
    }
}
