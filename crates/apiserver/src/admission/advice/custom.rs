//! Custom resources that make pods, as far as the server was told where their template is.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::Deserialize;

use super::ClassAdvice;
use crate::admission::Attributes;
use crate::admission::isolation::templates::PodTemplatePath;
use crate::object::Object;

impl ClassAdvice {
    /// Where objects of the request's resource have their template; none for resources that nobody told of.
    pub(super) fn template_path(&self, attributes: &Attributes<'_>) -> Option<&PodTemplatePath> {
        let (group, plural) = (&*attributes.resource.group, &*attributes.resource.plural);
        self.templates.iter().find(|path| path.is_of(group, plural))
    }

    /// The same as of a workload. What isn't there is told by nobody: the resource may go without.
    pub(super) fn of_custom_resource(
        &self,
        attributes: &Attributes<'_>,
        object: &dyn Object,
    ) -> Result<Vec<String>, ApiError> {
        let Some(path) = self.template_path(attributes) else {
            return Ok(Vec::new());
        };
        let object = object.to_value()?;
        let Some(new) = object.pointer(path.pointer()).filter(|t| t.is_object()) else {
            return Ok(Vec::new());
        };
        if let Some(old) = attributes.old
            && old.to_value()?.pointer(path.pointer()) == Some(new)
        {
            return Ok(Vec::new());
        }
        let at = path.pointer().trim_start_matches('/').replace('/', ".");
        match PodTemplateSpec::deserialize(new) {
            Ok(template) => self.of_template(&template, &at, attributes.namespace, attributes.user),
            Err(error) => Ok(vec![format!(
                "{at}: whether its pods can run is not known: it can't be read as a pod template: {error}"
            )]),
        }
    }
}
