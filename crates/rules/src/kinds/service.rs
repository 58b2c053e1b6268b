//! core/v1 Service: what holds for all metadata, and that spec and status are written apart.

use berth_api::field::FieldError;
use berth_api::names;
use k8s_openapi::api::core::v1::Service;

use crate::Rules;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

impl Rules for Service {
    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = None;
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        meta::validate(&self.metadata, Scope::Namespaced, names::dns1035_label)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn status_and_spec_are_written_apart() {
        let service = |cluster_ip: &str, ip: &str| -> Service {
            serde_json::from_value(
                json!({"metadata": {"name": "s"}, "spec": {"clusterIP": cluster_ip},
                "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}),
            )
            .unwrap()
        };
        let old = service("10.0.0.1", "1.1.1.1");
        let new = service("10.0.0.2", "2.2.2.2");
        let mut updated = new.clone();
        updated.prepare_update(&old, &FeatureGates::default());
        assert_eq!(updated, service("10.0.0.2", "1.1.1.1"));
        let mut status = new;
        status.prepare_status(&old);
        assert_eq!(status, service("10.0.0.1", "2.2.2.2"));
    }
}
