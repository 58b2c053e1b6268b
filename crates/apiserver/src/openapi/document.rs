//! Whole documents, written piece by piece into a gzip stream.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use std::sync::Arc;

use super::{
    merge,
    operations::{self, Form},
    proto,
    schemas::{self, Definitions},
};
use crate::{
    aggregation::Swagger,
    registry::{Resource, Table},
    version::GIT_VERSION,
};

/// Counts the changes of the documents' form, so that clients do not keep one of an older form.
const FORM: &str = "3";

/// What a document depends on, as a hash; none when the version is not served.
pub(super) fn hash(table: &Table, group: &str, version: &str) -> Option<String> {
    let rows = rows(table, group, version);
    if rows.is_empty() {
        return None;
    }
    let mut hash = Sha256::new();
    hash.update(GIT_VERSION);
    hash.update(FORM);
    for row in rows {
        hash.update(format!(
            "{}/{version}/{}/{}/{:?}",
            row.group, row.plural, row.kind, row.verbs
        ));
        for sub in &row.subresources {
            hash.update(format!("{}{:?}", sub.name, sub.verbs));
        }
        if let Some(schema) = row.schemas.get(version) {
            hash.update(schema.as_bytes());
        }
    }
    Some(hex::encode_upper(hash.finalize()))
}

/// The same for the document of all versions.
pub(super) fn hash_of_all(table: &Table) -> String {
    let mut all = Sha256::new();
    for (group, version) in versions(table) {
        all.update(hash(table, &group, &version).unwrap_or_default());
    }
    hex::encode_upper(all.finalize())
}

/// Two hashes as one.
pub(super) fn joined(one: &str, other: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(one);
    hash.update(other);
    hex::encode_upper(hash.finalize())
}

fn versions(table: &Table) -> impl Iterator<Item = (String, String)> {
    table.groups().into_iter().flat_map(|(group, versions)| {
        versions
            .into_iter()
            .map(move |version| (group.clone(), version))
    })
}

fn rows<'a>(table: &'a Table, group: &str, version: &str) -> Vec<&'a Resource> {
    table
        .rows()
        .iter()
        .map(AsRef::as_ref)
        .filter(|row| row.group == group && row.serves(version))
        .collect()
}

/// The OpenAPI 3 document of one version, gzipped.
pub(super) fn openapi(table: &Table, group: &str, version: &str) -> Vec<u8> {
    let rows = rows(table, group, version);
    let paths = rows
        .iter()
        .flat_map(|row| operations::paths(row, version, Form::V3))
        .collect();
    let definitions = schemas::definitions(&rows, version, Form::V3.reference());
    zip(|out| {
        write!(out, r#"{{"openapi":"3.0.0","info":{},"paths":"#, info())?;
        object(out, paths)?;
        out.write_all(br#","components":{"schemas":"#)?;
        object(out, definitions.into_iter().collect())?;
        out.write_all(br#","parameters":"#)?;
        object(out, operations::shared_parameters())?;
        let bearer = json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}});
        write!(out, r#","securitySchemes":{bearer}}}}}"#)
    })
}

/// Paths and definitions of all versions, those of other servers behind them, in the form of Swagger 2.
fn everything(table: &Table, others: &[Arc<Swagger>]) -> (Vec<(String, Value)>, Definitions) {
    let mut definitions = Definitions::new();
    let mut paths = Vec::new();
    for (group, version) in versions(table) {
        let rows = rows(table, &group, &version);
        paths.extend(
            rows.iter()
                .flat_map(|row| operations::paths(row, &version, Form::V2)),
        );
        for (name, schema) in schemas::definitions(&rows, &version, Form::V2.reference()) {
            let is_kind = schema.get("x-kubernetes-group-version-kind").is_some();
            if is_kind || !definitions.contains_key(&name) {
                definitions.insert(name, schema);
            }
        }
    }
    for other in others {
        merge::add(&mut paths, &mut definitions, other);
    }
    (paths, definitions)
}

/// The Swagger 2 document of everything in protobuf, gzipped.
pub(super) fn swagger_proto(table: &Table, others: &[Arc<Swagger>]) -> Vec<u8> {
    let (paths, definitions) = everything(table, others);
    let mut document = proto::head(GIT_VERSION);
    let mut all = proto::Message::default();
    for (path, item) in paths {
        all.named(2, &path, &proto::path_item(&item));
    }
    document.message(8, &all);
    let mut all = proto::Message::default();
    for (name, schema) in definitions {
        all.named(1, &name, &proto::schema(&schema));
    }
    document.message(9, &all);
    zip(|out| out.write_all(&document.into_bytes()))
}

/// The Swagger 2 document of everything, gzipped.
pub(super) fn swagger(table: &Table, others: &[Arc<Swagger>]) -> Vec<u8> {
    let (paths, definitions) = everything(table, others);
    zip(|out| {
        write!(out, r#"{{"swagger":"2.0","info":{},"paths":"#, info())?;
        object(out, paths)?;
        out.write_all(br#","definitions":"#)?;
        object(out, definitions.into_iter().collect())?;
        let bearer = json!({"BearerToken": {"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}});
        write!(
            out,
            r#","securityDefinitions":{bearer},"security":[{{"BearerToken":[]}}]}}"#
        )
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": GIT_VERSION})
}

/// Bytes, gzipped.
pub(super) fn zipped(bytes: &[u8]) -> Vec<u8> {
    zip(|out| out.write_all(bytes))
}

fn zip(write: impl FnOnce(&mut GzEncoder<Vec<u8>>) -> io::Result<()>) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    // writing to memory does not fail
    match write(&mut out).and_then(|()| out.finish()) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "an OpenAPI document could not be written");
            Vec::new()
        }
    }
}

/// Writes an object entry by entry, dropping each when it is written.
fn object(out: &mut impl Write, entries: Vec<(String, impl Serialize)>) -> io::Result<()> {
    let mut separator = "{";
    if entries.is_empty() {
        out.write_all(b"{")?;
    }
    for (name, value) in entries {
        write!(out, "{separator}{}:", Value::String(name))?;
        serde_json::to_writer(&mut *out, &value)?;
        separator = ",";
    }
    out.write_all(b"}")
}
