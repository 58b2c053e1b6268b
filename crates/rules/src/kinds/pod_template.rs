//! core/v1 PodTemplate.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::core::v1::PodTemplate;

use crate::Rules;
use crate::pod::template;
use berth_core::meta::{self, Scope};

impl Rules for PodTemplate {
    fn default(&mut self) {
        template::set_defaults(self.template.get_or_insert_default());
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(template_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(template_errors(self));
        bounded(errors)
    }
}

fn template_errors(object: &PodTemplate) -> Vec<FieldError> {
    let at = FieldPath::new("template");
    match &object.template {
        None => vec![FieldError::required(&at, "")],
        Some(made) => template::validate(made, &at),
    }
}
