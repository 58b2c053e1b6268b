//! rbac.authorization.k8s.io/v1 ClusterRole.

use berth_rules::rbac::escalation::Grant;
use k8s_openapi::api::rbac::v1::ClusterRole;

use crate::field_label::FieldLabel;
use crate::kind::{Deletion, Kind, MovedOn, Updates};
use crate::printer::{self, Printer};
use crate::registry::{Scope, Subresource};

impl Kind for ClusterRole {
    type Object = Self;

    const VERSIONS: &'static [&'static str] = &["v1"];
    const SCOPE: Scope = Scope::Cluster;
    const SHORT_NAMES: &'static [&'static str] = &[];
    const CATEGORIES: &'static [&'static str] = &[];
    const FIELD_LABELS: &'static [FieldLabel] = &[];
    const GENERATION: Option<MovedOn<Self::Object>> = None;
    const UPDATES: Updates = Updates {
        create: false,
        unconditional: true,
    };
    const DELETION: Deletion<Self::Object> = Deletion::Immediate;

    fn subresources() -> Vec<Subresource> {
        Vec::new()
    }

    fn printer() -> Printer {
        printer::role()
    }

    fn grant<'a>(new: &'a Self, old: Option<&'a Self>) -> Option<Grant<'a>> {
        Grant::of_cluster_role(new, old)
    }
}
