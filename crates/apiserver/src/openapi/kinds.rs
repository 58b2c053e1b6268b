//! The k8s-openapi types whose schemas are known, by group, version and kind.

use k8s_openapi::{
    Resource, api, apiextensions_apiserver,
    schemars::{JsonSchema, SchemaGenerator},
};

/// A built-in kind and how its schema is made.
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    /// Adds the kind's definition, and all that it refers to, to the generator.
    pub(super) define: fn(&mut SchemaGenerator),
    /// The definition's name.
    pub(super) schema: fn() -> String,
}

const fn kind<T: Resource + JsonSchema>() -> Kind {
    Kind {
        group: T::GROUP,
        version: T::VERSION,
        kind: T::KIND,
        define: |generator| {
            generator.subschema_for::<T>();
        },
        schema: || T::schema_name().into_owned(),
    }
}

/// The kind of that name.
pub(super) fn find(group: &str, version: &str, name: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|k| k.group == group && k.version == version && k.kind == name)
}

static KINDS: &[Kind] = &[
    kind::<api::core::v1::Binding>(),
    kind::<api::core::v1::ComponentStatus>(),
    kind::<api::core::v1::ConfigMap>(),
    kind::<api::core::v1::Endpoints>(),
    kind::<api::core::v1::Event>(),
    kind::<api::core::v1::LimitRange>(),
    kind::<api::core::v1::Namespace>(),
    kind::<api::core::v1::Node>(),
    kind::<api::core::v1::PersistentVolume>(),
    kind::<api::core::v1::PersistentVolumeClaim>(),
    kind::<api::core::v1::Pod>(),
    kind::<api::core::v1::PodTemplate>(),
    kind::<api::core::v1::ReplicationController>(),
    kind::<api::core::v1::ResourceQuota>(),
    kind::<api::core::v1::Secret>(),
    kind::<api::core::v1::Service>(),
    kind::<api::core::v1::ServiceAccount>(),
    kind::<api::admissionregistration::v1::MutatingWebhookConfiguration>(),
    kind::<api::admissionregistration::v1::ValidatingWebhookConfiguration>(),
    kind::<api::admissionregistration::v1::MutatingAdmissionPolicy>(),
    kind::<api::admissionregistration::v1::MutatingAdmissionPolicyBinding>(),
    kind::<api::admissionregistration::v1::ValidatingAdmissionPolicy>(),
    kind::<api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>(),
    kind::<api::apps::v1::ControllerRevision>(),
    kind::<api::apps::v1::DaemonSet>(),
    kind::<api::apps::v1::Deployment>(),
    kind::<api::apps::v1::ReplicaSet>(),
    kind::<api::apps::v1::StatefulSet>(),
    kind::<api::authentication::v1::SelfSubjectReview>(),
    kind::<api::authentication::v1::TokenRequest>(),
    kind::<api::authentication::v1::TokenReview>(),
    kind::<api::authorization::v1::LocalSubjectAccessReview>(),
    kind::<api::authorization::v1::SelfSubjectAccessReview>(),
    kind::<api::authorization::v1::SelfSubjectRulesReview>(),
    kind::<api::authorization::v1::SubjectAccessReview>(),
    kind::<api::autoscaling::v1::Scale>(),
    kind::<api::autoscaling::v1::HorizontalPodAutoscaler>(),
    kind::<api::autoscaling::v2::HorizontalPodAutoscaler>(),
    kind::<api::batch::v1::CronJob>(),
    kind::<api::batch::v1::Job>(),
    kind::<api::certificates::v1::CertificateSigningRequest>(),
    kind::<api::coordination::v1::Lease>(),
    kind::<api::discovery::v1::EndpointSlice>(),
    kind::<api::events::v1::Event>(),
    kind::<api::flowcontrol::v1::FlowSchema>(),
    kind::<api::flowcontrol::v1::PriorityLevelConfiguration>(),
    kind::<api::networking::v1::IPAddress>(),
    kind::<api::networking::v1::Ingress>(),
    kind::<api::networking::v1::IngressClass>(),
    kind::<api::networking::v1::NetworkPolicy>(),
    kind::<api::networking::v1::ServiceCIDR>(),
    kind::<api::node::v1::RuntimeClass>(),
    kind::<api::policy::v1::Eviction>(),
    kind::<api::policy::v1::PodDisruptionBudget>(),
    kind::<api::rbac::v1::ClusterRole>(),
    kind::<api::rbac::v1::ClusterRoleBinding>(),
    kind::<api::rbac::v1::Role>(),
    kind::<api::rbac::v1::RoleBinding>(),
    kind::<api::resource::v1::DeviceClass>(),
    kind::<api::resource::v1::ResourceClaim>(),
    kind::<api::resource::v1::ResourceClaimTemplate>(),
    kind::<api::resource::v1::ResourceSlice>(),
    kind::<api::scheduling::v1::PriorityClass>(),
    kind::<api::storage::v1::CSIDriver>(),
    kind::<api::storage::v1::CSINode>(),
    kind::<api::storage::v1::CSIStorageCapacity>(),
    kind::<api::storage::v1::StorageClass>(),
    kind::<api::storage::v1::VolumeAttachment>(),
    kind::<api::storage::v1::VolumeAttributesClass>(),
    kind::<apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>(),
];
