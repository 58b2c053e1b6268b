//! What expressions of webhooks and admission policies see, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::{Decl, DeclKind, FieldDecl, ObjectDecl, Type};

fn text() -> Decl {
    Decl::of(DeclKind::String)
}

fn texts() -> Decl {
    Decl::list(Arc::new(text()))
}

fn text_map() -> Decl {
    Decl::of(DeclKind::Map(Arc::new(text())))
}

/// The declaration of `request`.
#[must_use]
pub fn request_decl() -> Decl {
    let named = |name: &str, third: &'static str| {
        Decl::object(
            name,
            [("group", text()), ("version", text()), (third, text())],
        )
    };
    let kind = || named("kubernetes.GroupVersionKind", "kind");
    let resource = || named("kubernetes.GroupVersionResource", "resource");
    let user = Decl::object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", texts()),
            ("extra", Decl::of(DeclKind::Map(Arc::new(texts())))),
        ],
    );
    Decl::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Decl::of(DeclKind::Bool)),
            ("options", Decl::of(DeclKind::Dyn)),
        ],
    )
}

/// The declaration of `namespaceObject`.
#[must_use]
pub fn namespace_decl() -> Decl {
    let time = || Decl::of(DeclKind::DateTime);
    let number = || Decl::of(DeclKind::Int);
    let metadata = Decl::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", text_map()),
            ("annotations", text_map()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", number()),
            ("deletionTimestamp", time()),
            ("generation", number()),
            ("resourceVersion", text()),
            ("finalizers", texts()),
        ],
    );
    let condition = Decl::object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let status = Decl::object(
        "kubernetes.NamespaceStatus",
        [
            ("conditions", Decl::list(Arc::new(condition))),
            ("phase", text()),
        ],
    );
    let spec = Decl::object("kubernetes.NamespaceSpec", [("finalizers", texts())]);
    Decl::object(
        "kubernetes.Namespace",
        [("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

/// The declaration of `variables`, with the type of each; none: it is not known, and anything goes.
#[must_use]
pub fn variables_decl(variables: &BTreeMap<String, Option<Type>>) -> Decl {
    let fields = variables.iter().map(|(name, ty)| {
        let kind = ty.clone().map_or(DeclKind::Dyn, DeclKind::Typed);
        let field = FieldDecl {
            name: name.clone(),
            decl: Arc::new(Decl::of(kind)),
        };
        (name.clone(), field)
    });
    Decl::of(DeclKind::Object(Arc::new(ObjectDecl {
        name: "kubernetes.variables".to_owned(),
        fields: fields.collect(),
    })))
}
