//! A value against a schema. What was wrong before an update and hasn't changed is no error (ratcheting).

use std::collections::BTreeSet;

use berth_api::field::{ERRORS_LIMIT, FieldError, FieldPath};
use berth_cel::{Budget, PER_OBJECT_LIMIT};
use serde_json::{Map, Number, Value as Json};

use crate::prune::ALWAYS;
use crate::rules::Place;
use crate::schema::{Additional, Kind, ListType, Schema};
use crate::steps::{MAX_PATH_CHARS, Path, STEPS_MAX, TooMuch, spend};

/// Values of an enumeration that are shown.
const MAX_SUPPORTED: usize = 50;

/// What is wrong with a value, as much of it as anybody reads; `old` is what it was before an update.
#[must_use]
pub fn validate(value: &Json, old: Option<&Json>, schema: &Schema) -> Vec<FieldError> {
    let mut validating = Validating {
        path: Path::default(),
        errors: Vec::new(),
        steps: STEPS_MAX,
    };
    if let Err(error) = validating.whole(value, old, schema) {
        let whole = FieldPath::default();
        validating
            .errors
            .push(FieldError::forbidden(&whole, error.to_string()));
        return validating.errors;
    }
    if schema.has_rules {
        // Rules are about values that fit the schema.
        let blocking = |error: &FieldError| {
            matches!(
                error.kind.reason(),
                "FieldValueRequired"
                    | "FieldValueTooLong"
                    | "FieldValueTooMany"
                    | "FieldValueTypeInvalid"
            )
        };
        if validating.errors.iter().any(blocking) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            let mut error = FieldError::invalid(&FieldPath::default(), "", why);
            "null".clone_into(&mut error.value);
            validating.errors.push(error);
        } else {
            let mut budget = Budget::new(PER_OBJECT_LIMIT);
            let ratchet = Ratchet {
                current: old.map(|old| (value, old)),
                nearest: None,
            };
            if let Err(error) = validating.rules(value, old, ratchet, schema, &mut budget) {
                validating.errors.push(FieldError::forbidden(
                    &FieldPath::default(),
                    error.to_string(),
                ));
            }
        }
    }
    validating.errors
}

/// What is wrong with a value that is at a place of another document.
pub(crate) fn validate_at(value: &Json, schema: &Schema, at: &str) -> Vec<FieldError> {
    let mut errors = validate(value, None, schema);
    let whole = FieldPath::default().to_string();
    for error in &mut errors {
        let inside = std::mem::take(&mut error.field);
        let inside = if inside == whole { "" } else { &inside };
        let separator = if inside.is_empty() || inside.starts_with('[') {
            ""
        } else {
            "."
        };
        error.field = format!("{at}{separator}{inside}");
        // The message begins with the path, too.
        if let Some(rest) = error.detail.strip_prefix(inside)
            && rest.starts_with(" in body ")
        {
            error.detail = format!("{}{rest}", error.field);
        }
    }
    errors
}

/// What a value is compared with, to see whether it has changed.
#[derive(Clone, Copy)]
struct Ratchet<'v> {
    current: Option<(&'v Json, &'v Json)>,
    nearest: Option<(&'v Json, &'v Json)>,
}

impl<'v> Ratchet<'v> {
    fn unchanged(self) -> bool {
        self.current
            .or(self.nearest)
            .is_some_and(|(new, old)| new == old)
    }

    fn to(self, pair: Option<(&'v Json, &'v Json)>) -> Self {
        match self.current {
            Some(current) => Self {
                current: pair,
                nearest: Some(current),
            },
            None => self,
        }
    }
}

struct Validating {
    path: Path,
    errors: Vec<FieldError>,
    steps: usize,
}

/// The old value of a field.
fn old_field<'v>(old: Option<&'v Json>, schema: &Schema, key: &str) -> Option<&'v Json> {
    old.filter(|_| !schema.atomic_map)?.get(key)
}

/// The old items of a keyed list, found by their keys.
struct OldItems<'v> {
    keys: &'v [String],
    items: std::collections::HashMap<String, &'v Json>,
}

fn key_of(item: &Json, keys: &[String]) -> String {
    let values: Vec<&Json> = keys
        .iter()
        .map(|key| item.get(key).unwrap_or(&Json::Null))
        .collect();
    serde_json::to_string(&values).unwrap_or_default()
}

impl<'v> OldItems<'v> {
    fn new(old: Option<&'v Json>, schema: &'v Schema) -> Option<Self> {
        let ListType::Map(keys) = &schema.list else {
            return None;
        };
        let items = old?
            .as_array()?
            .iter()
            .map(|item| (key_of(item, keys), item))
            .collect();
        Some(Self { keys, items })
    }

    fn find(&self, item: &Json) -> Option<&'v Json> {
        self.items.get(&key_of(item, self.keys)).copied()
    }
}

impl Validating {
    fn at(&self) -> FieldPath {
        FieldPath::new(self.path.shown())
    }

    fn push(&mut self, error: FieldError) {
        if self.errors.len() <= ERRORS_LIMIT {
            self.errors.push(error);
        }
    }

    /// `PATH in body ...`
    fn invalid(&mut self, value: &Json, what: &str) {
        let at = self.at();
        let error = FieldError::invalid(&at, value, format!("{} in body {what}", at.as_str()));
        self.push(error);
    }

    fn whole(&mut self, value: &Json, old: Option<&Json>, schema: &Schema) -> Result<(), TooMuch> {
        self.validate(value, old, schema)?;
        if !schema.has_keyed_lists {
            return Ok(());
        }
        // A list that was not unique before may stay so.
        let before = self.errors.len();
        self.unique(value, schema)?;
        if self.errors.len() > before
            && let Some(old) = old
        {
            let mut earlier = Self {
                path: Path::default(),
                errors: Vec::new(),
                steps: STEPS_MAX,
            };
            earlier.unique(old, schema)?;
            if !earlier.errors.is_empty() {
                self.errors.truncate(before);
            }
        }
        Ok(())
    }

    fn validate(
        &mut self,
        value: &Json,
        old: Option<&Json>,
        schema: &Schema,
    ) -> Result<(), TooMuch> {
        let before = self.errors.len();
        // Nobody reads more, and the object is refused.
        if before <= ERRORS_LIMIT {
            self.value(value, old, schema)?;
        }
        if self.errors.len() > before && old == Some(value) {
            self.errors.truncate(before);
        }
        Ok(())
    }

    fn value(&mut self, value: &Json, old: Option<&Json>, schema: &Schema) -> Result<(), TooMuch> {
        spend(&mut self.steps, 1)?;
        if !type_fits(value, schema) {
            let wanted = match schema.kind {
                _ if schema.int_or_string => "integer,string",
                Some(kind) => kind.name(),
                None => "any",
            };
            let (at, given) = (self.at(), type_of(value));
            let detail = format!(
                "{} in body must be of type {wanted}: {given:?}",
                at.as_str()
            );
            self.push(FieldError::type_invalid(&at, given, detail));
            return Ok(());
        }
        if value.is_null() {
            return Ok(());
        }
        self.enumeration(value, schema)?;
        match value {
            Json::Object(map) => self.object(value, map, old, schema)?,
            Json::Array(list) => self.array(value, list, old, schema)?,
            Json::String(text) => self.text(value, text, schema)?,
            Json::Number(number) => self.number(value, number, schema),
            Json::Null | Json::Bool(_) => {}
        }
        self.junctors(value, schema)
    }

    fn enumeration(&mut self, value: &Json, schema: &Schema) -> Result<(), TooMuch> {
        let Some(allowed) = &schema.checks.enumeration else {
            return Ok(());
        };
        spend(&mut self.steps, allowed.len())?;
        if allowed.iter().any(|one| same(one, value)) {
            return Ok(());
        }
        let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let short = |text: String| text.chars().take(MAX_PATH_CHARS).collect::<String>();
        let shown: Vec<String> = allowed
            .iter()
            .take(MAX_SUPPORTED)
            .map(text)
            .map(short)
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let error = FieldError::not_supported(&self.at(), value, &shown);
        self.push(error);
        Ok(())
    }

    fn object(
        &mut self,
        value: &Json,
        map: &Map<String, Json>,
        old: Option<&Json>,
        schema: &Schema,
    ) -> Result<(), TooMuch> {
        let checks = &schema.checks;
        spend(&mut self.steps, checks.required.len())?;
        for name in checks
            .required
            .iter()
            .filter(|name| !map.contains_key(*name))
        {
            let back = self.path.field(name);
            let error = FieldError::required(&self.at(), "");
            self.path.back(back);
            self.push(error);
        }
        let count = u64::try_from(map.len()).unwrap_or(u64::MAX);
        if let Some(min) = checks.min_properties.filter(|min| count < *min) {
            self.invalid(value, &format!("should have at least {min} properties"));
        }
        if checks.max_properties.is_some_and(|max| count > max) {
            self.too_many(map.len(), checks.max_properties);
        }
        let top = self.path.is_root();
        for (key, child) in map {
            let Some(inner) = schema.field(key) else {
                continue;
            };
            if top && ALWAYS.contains(&key.as_str()) && key != "metadata" {
                continue;
            }
            let back = if schema.properties.contains_key(key) {
                self.path.field(key)
            } else {
                self.path.key(key)
            };
            let validated = self.validate(child, old_field(old, schema, key), inner);
            self.path.back(back);
            validated?;
        }
        Ok(())
    }

    fn array(
        &mut self,
        value: &Json,
        list: &[Json],
        old: Option<&Json>,
        schema: &Schema,
    ) -> Result<(), TooMuch> {
        let count = u64::try_from(list.len()).unwrap_or(u64::MAX);
        if let Some(min) = schema.checks.min_items.filter(|min| count < *min) {
            self.invalid(value, &format!("should have at least {min} items"));
        }
        if schema.checks.max_items.is_some_and(|max| count > max) {
            self.too_many(list.len(), schema.checks.max_items);
        }
        let Some(items) = &schema.items else {
            return Ok(());
        };
        let old = OldItems::new(old, schema);
        for (n, item) in list.iter().enumerate() {
            let back = self.path.index(n);
            let validated = self.validate(item, old.as_ref().and_then(|old| old.find(item)), items);
            self.path.back(back);
            validated?;
        }
        Ok(())
    }

    fn too_many(&mut self, count: usize, max: Option<u64>) {
        let max = max
            .and_then(|max| usize::try_from(max).ok())
            .unwrap_or(usize::MAX);
        let error = FieldError::too_many(&self.at(), count, max);
        self.push(error);
    }

    fn text(&mut self, value: &Json, text: &str, schema: &Schema) -> Result<(), TooMuch> {
        let checks = &schema.checks;
        if checks.min_length.is_some() || checks.max_length.is_some() {
            let count = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            if let Some(min) = checks.min_length.filter(|min| count < *min) {
                self.invalid(value, &format!("should be at least {min} chars long"));
            }
            if let Some(max) = checks.max_length.filter(|max| count > *max) {
                let error =
                    FieldError::too_long(&self.at(), usize::try_from(max).unwrap_or(usize::MAX));
                self.push(error);
            }
        }
        if let Some((pattern, regexp)) = &checks.pattern {
            // Linear in the text, times the size of the pattern.
            spend(
                &mut self.steps,
                text.len().saturating_mul(pattern.len()) / 1_000,
            )?;
            if !regexp.matches(text) {
                let shown: String = pattern.chars().take(MAX_PATH_CHARS).collect();
                self.invalid(value, &format!("should match '{shown}'"));
            }
        }
        if let Some(format) = checks.format.filter(|format| !(format.check)(text)) {
            let at = self.at();
            let shown: String = text.chars().take(MAX_PATH_CHARS).collect();
            let detail = format!(
                "{} in body must be of type {}: {shown:?}",
                at.as_str(),
                format.name
            );
            self.push(FieldError::type_invalid(&at, value, detail));
        }
        Ok(())
    }

    fn number(&mut self, value: &Json, number: &Number, schema: &Schema) {
        let checks = &schema.checks;
        let number = number.as_f64().unwrap_or(0.0);
        if let Some(min) = checks.minimum {
            if checks.exclusive_minimum && number <= min {
                self.invalid(value, &format!("should be greater than {min}"));
            } else if number < min {
                self.invalid(value, &format!("should be greater than or equal to {min}"));
            }
        }
        if let Some(max) = checks.maximum {
            if checks.exclusive_maximum && number >= max {
                self.invalid(value, &format!("should be less than {max}"));
            } else if number > max {
                self.invalid(value, &format!("should be less than or equal to {max}"));
            }
        }
        if let Some(factor) = checks.multiple_of.filter(|factor| *factor > 0.0) {
            let quotient = number / factor;
            // As the reference: what divides to a whole number, allowing for how doubles round.
            if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
                self.invalid(value, &format!("should be a multiple of {factor}"));
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`.
    fn junctors(&mut self, value: &Json, schema: &Schema) -> Result<(), TooMuch> {
        let checks = &schema.checks;
        for inner in &checks.all_of {
            self.value(value, None, inner)?;
        }
        let mut complaints = Vec::new();
        if !checks.any_of.is_empty() && self.valid_count(value, &checks.any_of)? == 0 {
            complaints.push("must validate at least one schema (anyOf)".to_owned());
        }
        if !checks.one_of.is_empty() {
            match self.valid_count(value, &checks.one_of)? {
                1 => {}
                0 => complaints.push(
                    "must validate one and only one schema (oneOf). Found none valid".to_owned(),
                ),
                n => complaints.push(format!(
                    "must validate one and only one schema (oneOf). Found {n} valid alternatives"
                )),
            }
        }
        if let Some(not) = &checks.not
            && self.is_valid(value, not)?
        {
            complaints.push("must not validate the schema (not)".to_owned());
        }
        for complaint in complaints {
            let detail = format!("\"{}\" {complaint}", self.path.shown());
            self.push(FieldError::invalid(&self.at(), value, detail));
        }
        Ok(())
    }

    fn valid_count(&mut self, value: &Json, schemas: &[Schema]) -> Result<usize, TooMuch> {
        let mut count = 0;
        for schema in schemas {
            count += usize::from(self.is_valid(value, schema)?);
        }
        Ok(count)
    }

    fn is_valid(&mut self, value: &Json, schema: &Schema) -> Result<bool, TooMuch> {
        let mut inner = Self {
            path: Path::default(),
            errors: Vec::new(),
            steps: self.steps,
        };
        // Not at the root, whatever the path: the metadata of an object is judged like its other fields.
        let back = inner.path.field("x");
        let judged = inner.value(value, None, schema);
        inner.path.back(back);
        self.steps = inner.steps;
        judged?;
        Ok(inner.errors.is_empty())
    }

    /// Whether sets have no element twice, and keyed lists no keys.
    fn unique(&mut self, value: &Json, schema: &Schema) -> Result<(), TooMuch> {
        spend(&mut self.steps, 1)?;
        if !schema.has_keyed_lists {
            return Ok(());
        }
        match value {
            Json::Array(list) => {
                self.unique_items(list, schema);
                if let Some(items) = &schema.items {
                    for (n, item) in list.iter().enumerate() {
                        let back = self.path.index(n);
                        let checked = self.unique(item, items);
                        self.path.back(back);
                        checked?;
                    }
                }
            }
            Json::Object(map) => {
                for (key, child) in map {
                    let Some(inner) = schema.field(key) else {
                        continue;
                    };
                    let back = if schema.properties.contains_key(key) {
                        self.path.field(key)
                    } else {
                        self.path.key(key)
                    };
                    let checked = self.unique(child, inner);
                    self.path.back(back);
                    checked?;
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
        Ok(())
    }

    fn unique_items(&mut self, list: &[Json], schema: &Schema) {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut told: BTreeSet<String> = BTreeSet::new();
        for (n, item) in list.iter().enumerate() {
            let (text, shown) = match &schema.list {
                ListType::Atomic => return,
                ListType::Set => (item.to_string(), item.clone()),
                ListType::Map(keys) => {
                    let known = keys
                        .iter()
                        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                    (key_of(item, keys), Json::Object(known.collect()))
                }
            };
            if matches!(schema.list, ListType::Map(_)) && !item.is_object() && !item.is_null() {
                let back = self.path.index(n);
                let error = FieldError::invalid(
                    &self.at(),
                    item,
                    "must be an object for an array of list-type map",
                );
                self.path.back(back);
                self.push(error);
                return;
            }
            if !seen.insert(text.clone()) && told.insert(text) {
                let back = self.path.index(n);
                let error = FieldError::duplicate(&self.at(), shown);
                self.path.back(back);
                self.push(error);
            }
        }
    }

    /// Evaluates rules, from the outside in. False: the budget is spent.
    fn rules<'v>(
        &mut self,
        value: &'v Json,
        old: Option<&'v Json>,
        ratchet: Ratchet<'v>,
        schema: &'v Schema,
        budget: &mut Budget,
    ) -> Result<bool, TooMuch> {
        spend(&mut self.steps, 1)?;
        if !schema.has_rules || value.is_null() {
            return Ok(true);
        }
        if let Some(rules) = &schema.rules {
            let kind = schema.kind.map_or("", Kind::name);
            let place = Place {
                at: self.at(),
                kind,
                unchanged: &|| ratchet.unchanged(),
            };
            let mut found = Vec::new();
            let go_on = rules.evaluate(
                &place,
                value,
                old.filter(|old| !old.is_null()),
                budget,
                &mut found,
            );
            for error in found {
                self.push(error);
            }
            if !go_on {
                return Ok(false);
            }
        }
        match value {
            Json::Array(list) => {
                let Some(items) = schema.items.as_deref().filter(|items| items.has_rules) else {
                    return Ok(true);
                };
                let known = OldItems::new(old, schema);
                for (n, item) in list.iter().enumerate() {
                    let was = known.as_ref().and_then(|known| known.find(item));
                    let back = self.path.index(n);
                    let went = self.rules(
                        item,
                        was,
                        ratchet.to(was.map(|was| (item, was))),
                        items,
                        budget,
                    );
                    self.path.back(back);
                    if !went? {
                        return Ok(false);
                    }
                }
            }
            Json::Object(map) => {
                for (key, child) in map {
                    let Some(inner) = schema.field(key).filter(|inner| inner.has_rules) else {
                        continue;
                    };
                    let was = old_field(old, schema, key);
                    let property = !matches!(schema.additional, Additional::Schema(_))
                        || schema.properties.contains_key(key);
                    let back = if property {
                        self.path.field(key)
                    } else {
                        self.path.key(key)
                    };
                    let went = self.rules(
                        child,
                        was,
                        ratchet.to(was.map(|was| (child, was))),
                        inner,
                        budget,
                    );
                    self.path.back(back);
                    if !went? {
                        return Ok(false);
                    }
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
        }
        Ok(true)
    }
}

fn type_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn whole(value: &Json) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_fits(value: &Json, schema: &Schema) -> bool {
    if value.is_null() {
        return schema.nullable || (schema.kind.is_none() && !schema.int_or_string);
    }
    if schema.int_or_string {
        return value.is_string() || (value.is_number() && whole(value));
    }
    match schema.kind {
        None => true,
        Some(Kind::Object) => value.is_object(),
        Some(Kind::Array) => value.is_array(),
        Some(Kind::String) => value.is_string(),
        Some(Kind::Boolean) => value.is_boolean(),
        Some(Kind::Number) => value.is_number(),
        Some(Kind::Integer) => value.is_number() && whole(value),
    }
}

/// Whether two values are the same, numbers by their value.
fn same(a: &Json, b: &Json) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a.total_cmp(&b).is_eq())
}
