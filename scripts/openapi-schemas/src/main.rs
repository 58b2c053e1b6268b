//! Writes the JSON schemas of Kubernetes' types, as k8s-openapi has them, for the API server's OpenAPI
//! documents: a line for each kind and each definition, so that a change is seen in a diff.

use std::io::{self, Write};

use k8s_openapi::{
    Resource, api, apiextensions_apiserver,
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ListMeta, ObjectMeta, Patch, Status},
    kube_aggregator,
    schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings},
};
use serde_json::{Value, json};

/// A kind that the server may serve.
struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    /// Adds the kind's definition, and all that it refers to, to the generator.
    define: fn(&mut SchemaGenerator),
    /// The definition's name.
    schema: fn() -> String,
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
    kind::<kube_aggregator::pkg::apis::apiregistration::v1::APIService>(),
];

fn main() -> io::Result<()> {
    let mut settings = SchemaSettings::draft07();
    settings.definitions_path = "/definitions".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    generator.subschema_for::<DeleteOptions>();
    generator.subschema_for::<ListMeta>();
    generator.subschema_for::<ObjectMeta>();
    generator.subschema_for::<Patch>();
    generator.subschema_for::<Status>();
    let mut kinds = Vec::new();
    for kind in KINDS {
        (kind.define)(&mut generator);
        kinds.push(json!({"group": kind.group, "version": kind.version, "kind": kind.kind, "schema": (kind.schema)()}).to_string());
    }
    let mut definitions: Vec<String> = generator
        .take_definitions(false)
        .iter()
        .map(|(name, schema)| format!("{}:{schema}", Value::from(name.as_str())))
        .collect();
    definitions.sort();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{{\"kinds\":[\n{}\n],\"definitions\":{{",
        kinds.join(",\n")
    )?;
    writeln!(out, "{}\n}}}}", definitions.join(",\n"))
}
