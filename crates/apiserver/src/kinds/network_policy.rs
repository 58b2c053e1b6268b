//! networking.k8s.io/v1 NetworkPolicy.

use berth_api::status::ApiError;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{Printer, created_ago, name, selector_at};
use crate::registry::{Scope, Subresource};
use crate::strategy::Cluster;

impl Kind for NetworkPolicy {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Namespaced;
    const SHORT_NAMES: &'static [&'static str] = &["netpol"];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = Some(|new, old| new.spec != old.spec);
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        Printer::new(
            &[
                ("Name", "string", 0),
                ("Pod-Selector", "string", 0),
                ("Age", "string", 0),
            ],
            |object, now| {
                vec![
                    name(object),
                    selector_at(object, "/spec/podSelector"),
                    created_ago(object, now),
                ]
            },
        )
    }

    fn warnings(_new: &Self, cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
        if cluster.network_policies {
            return Ok(Vec::new());
        }
        Ok(vec!["NetworkPolicy is not enforced by this server: traffic of the selected pods is restricted only on nodes that enforce it \
             (berth node --network-policy-kubeconfig, or a network plugin that does)".to_owned()])
    }
}
