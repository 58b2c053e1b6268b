//! Label and field selectors.

pub(crate) mod field;
pub(crate) mod label;

use berth_api::status::ApiError;

use crate::field_label::FieldLabel;

/// Requirements of one selector: each is looked at for each object, and for each change that a watch might show.
pub(crate) const MAX_REQUIREMENTS: usize = 256;

/// What a selector with more is answered.
pub(crate) fn too_many_requirements() -> ApiError {
    ApiError::BadRequest(format!(
        "the selector has more than {MAX_REQUIREMENTS} requirements; `in` and `notin` take many values at once"
    ))
}

/// What a request selects of a collection, as it was read. Authorization sees [`Selection::name`]; a [`Selector`] that is
/// made from the same value takes no other object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    labels: Vec<label::Requirement>,
    fields: Vec<field::Term>,
    name: Option<String>,
}

impl Selection {
    /// Reads both selectors.
    ///
    /// # Errors
    /// `BadRequest` for a malformed one.
    pub(crate) fn read(label_selector: &str, field_selector: &str) -> Result<Self, ApiError> {
        let fields = field::parse(field_selector)?;
        Ok(Self {
            labels: label::parse(label_selector)?,
            name: field::required_name(&fields).map(str::to_owned),
            fields,
        })
    }

    /// The same, limited to an object that the path names; empty: not limited any further.
    pub(crate) fn named(mut self, name: String) -> Self {
        if !name.is_empty() {
            self.name = Some(name);
        }
        self
    }

    /// The value that a field of all selected objects must have.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field::required(&self.fields, name)
    }

    /// The fields that it names.
    pub(crate) fn field_names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(field::Term::key)
    }

    /// The one name that it is limited to.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// What selectors look at in an object.
pub(crate) trait Selectable {
    /// Whether it is not what its key says.
    fn is_corrupt(&self) -> bool;
    /// Its namespace; empty for cluster-scoped kinds.
    fn namespace(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
    /// The value of one of the kind's field labels, by index.
    fn field(&self, at: usize) -> &str;
}

/// What a list, watch or deletecollection takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    namespace: Option<String>,
    name: Option<String>,
    labels: Vec<label::Requirement>,
    fields: Vec<field::Requirement>,
}

impl Selector {
    /// A selection within a namespace (empty: all), over the field labels that a kind has.
    ///
    /// # Errors
    /// `BadRequest` for a field that the kind does not have.
    pub(crate) fn new(
        namespace: &str,
        selection: &Selection,
        field_labels: &[FieldLabel],
    ) -> Result<Self, ApiError> {
        Ok(Self {
            namespace: (!namespace.is_empty()).then(|| namespace.to_owned()),
            name: selection.name.clone(),
            labels: selection.labels.clone(),
            fields: field::bind(&selection.fields, field_labels)?,
        })
    }

    /// Whether an object is taken.
    /// One that is not what its key says is never taken; it was reported when it was read.
    pub(crate) fn matches(&self, object: &impl Selectable) -> bool {
        let is = |wanted: &Option<String>, given: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == given)
        };
        !object.is_corrupt()
            && is(&self.namespace, object.namespace())
            && is(&self.name, object.name())
            && self
                .labels
                .iter()
                .all(|r| r.matches(|key| object.label(key)))
            && self.fields.iter().all(|r| r.matches(object))
    }

    /// Whether it looks at fields that objects of another version may have elsewhere.
    pub(crate) fn looks_into_objects(&self) -> bool {
        self.fields.iter().any(field::Requirement::is_of_the_kind)
    }

    /// The same, but for those fields.
    pub(crate) fn without_fields(&self) -> Self {
        let mut selector = self.clone();
        selector.fields.retain(|field| !field.is_of_the_kind());
        selector
    }

    /// Whether selectors (beside the namespace) leave anything out.
    pub(crate) fn is_filtered(&self) -> bool {
        self.name.is_some() || !self.labels.is_empty() || !self.fields.is_empty()
    }
}
