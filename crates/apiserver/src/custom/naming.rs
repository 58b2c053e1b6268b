//! Which of the names that a definition asks for it gets: those that no other definition of its group has
//! (stock: the naming controller). Pure.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames as Names;

/// Names that other definitions of a group have.
#[derive(Debug, Default)]
pub(super) struct Used {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Used {
    /// Adds the names that a definition has been given.
    pub(super) fn add(&mut self, names: &Names) {
        self.resources.insert(names.plural.clone());
        self.resources.extend(names.singular.clone());
        self.resources
            .extend(names.short_names.iter().flatten().cloned());
        self.kinds.insert(names.kind.clone());
        self.kinds.extend(names.list_kind.clone());
    }
}

/// A name that is taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The names that a definition gets, and why not all that it asks for. What it has it keeps.
pub(super) fn accept(asked: &Names, had: &Names, used: &Used) -> (Names, Option<Conflict>) {
    let mut names = had.clone();
    let mut conflict = None;
    let mut refuse = |reason: &'static str, taken: &[&str]| {
        let texts: Vec<String> = taken
            .iter()
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        let message = match texts.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        conflict = Some(Conflict { reason, message });
    };
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    let free = |name: &str, had: &str, used: &BTreeSet<String>| name == had || !used.contains(name);

    if free(&asked.plural, &had.plural, &used.resources) {
        names.plural.clone_from(&asked.plural);
    } else {
        refuse("PluralConflict", &[&asked.plural]);
    }
    let singular = text(&asked.singular);
    if free(&singular, &text(&had.singular), &used.resources) {
        names.singular.clone_from(&asked.singular);
    } else {
        refuse("SingularConflict", &[&singular]);
    }
    let have = had.short_names.as_deref().unwrap_or_default();
    let taken: Vec<&str> = asked
        .short_names
        .iter()
        .flatten()
        .filter(|name| !have.contains(name) && used.resources.contains(*name))
        .map(String::as_str)
        .collect();
    if taken.is_empty() {
        names.short_names.clone_from(&asked.short_names);
    } else {
        refuse("ShortNamesConflict", &taken);
    }
    if free(&asked.kind, &had.kind, &used.kinds) {
        names.kind.clone_from(&asked.kind);
    } else {
        refuse("KindConflict", &[&asked.kind]);
    }
    let list_kind = text(&asked.list_kind);
    if free(&list_kind, &text(&had.list_kind), &used.kinds) {
        names.list_kind.clone_from(&asked.list_kind);
    } else {
        refuse("ListKindConflict", &[&list_kind]);
    }
    names.categories.clone_from(&asked.categories);
    (names, conflict)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plural: &str, kind: &str, short: &[&str]) -> Names {
        Names {
            plural: plural.to_owned(),
            singular: Some(kind.to_lowercase()),
            kind: kind.to_owned(),
            list_kind: Some(format!("{kind}List")),
            short_names: Some(short.iter().map(ToString::to_string).collect()),
            categories: None,
        }
    }

    #[test]
    fn names_of_others_are_not_given_again() {
        let mut used = Used::default();
        used.add(&names("widgets", "Widget", &["wd"]));
        let none = Names::default();
        for (asked, reason) in [
            (names("gadgets", "Gadget", &["gd"]), None),
            (names("wd", "Gadget", &[]), Some("PluralConflict")),
            (
                names("gadgets", "Gadget", &["wd"]),
                Some("ShortNamesConflict"),
            ),
            (
                names("gadgets", "Gadget", &["widgets"]),
                Some("ShortNamesConflict"),
            ),
            (names("gadgets", "WidgetList", &[]), Some("KindConflict")),
            (names("gadgets", "Widget", &[]), Some("ListKindConflict")),
        ] {
            let (_, conflict) = accept(&asked, &none, &used);
            assert_eq!(conflict.map(|c| c.reason), reason, "{asked:?}");
        }
    }

    #[test]
    fn what_a_definition_has_it_keeps() {
        let mut used = Used::default();
        used.add(&names("widgets", "Widget", &["wd"]));
        let had = names("gadgets", "Gadget", &["gd"]);
        let (kept, conflict) = accept(&names("gadgets", "Gadget", &["wd"]), &had, &used);
        assert_eq!(kept, had);
        assert_eq!(
            conflict.unwrap().message,
            "\"wd\" is already in use".to_owned()
        );
        let (changed, conflict) = accept(&names("gadgets", "Gizmo", &["gd"]), &had, &used);
        assert_eq!((changed.kind.as_str(), conflict), ("Gizmo", None));
    }
}
