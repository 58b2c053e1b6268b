//! Answers: one object or many, in the request's version and the form that the client accepts.

use std::sync::Arc;

use berth_api::status::ApiError;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::Call;
use super::conversion::speaks;
use crate::attributes::Attributes;
use crate::http_types::{Response, respond};
use crate::negotiate::{Encoding, Shape};
use crate::printer::{Column, Printer};
use crate::protobuf;
use crate::request::Verb;
use crate::storage::Stored;

/// What a list says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListMeta {
    pub(crate) revision: i64,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListMeta {
    pub(super) fn value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.revision.to_string()});
        if let Some(token) = &self.continue_token {
            meta["continue"] = json!(token);
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = json!(remaining);
        }
        meta
    }
}

impl Call {
    /// A stored object as the answer, in the request's version.
    pub(crate) async fn answer_stored(
        &self,
        code: StatusCode,
        stored: Arc<Stored>,
    ) -> Result<Response, ApiError> {
        let stored = self.shown(stored).await?;
        self.respond_stored(code, &stored)
    }

    /// An object of the storage version as the answer, in the request's version.
    pub(crate) async fn answer_value(
        &self,
        code: StatusCode,
        object: Value,
    ) -> Result<Response, ApiError> {
        let object = if self.row.converter.is_some() {
            self.converted(object, &self.api_version()).await?
        } else {
            object
        };
        self.respond_value(code, &object)
    }

    /// A stored object as the answer.
    fn respond_stored(&self, code: StatusCode, stored: &Stored) -> Result<Response, ApiError> {
        let bytes = match self.accepted.shape {
            Shape::Table => self.table(&[stored], None)?,
            Shape::Object | Shape::Metadata => self.item(stored)?,
        };
        self.respond_bytes(code, bytes)
    }

    /// An object of the storage version as the answer, e.g. of a dry run.
    fn respond_value(&self, code: StatusCode, object: &Value) -> Result<Response, ApiError> {
        let bytes = match self.accepted.shape {
            Shape::Table => self.table_of(std::slice::from_ref(object), None)?,
            Shape::Metadata => Bytes::from(self.partial(object).to_string()),
            Shape::Object => {
                let mut object = object.clone();
                self.to_request(&mut object)?;
                Bytes::from(object.to_string())
            }
        };
        self.respond_bytes(code, bytes)
    }

    /// JSON bytes as the answer, with the warnings that have come up.
    pub(crate) fn respond_bytes(
        &self,
        code: StatusCode,
        json: Bytes,
    ) -> Result<Response, ApiError> {
        let mut response = match self.accepted.encoding {
            Encoding::Json => respond(code, "application/json", json),
            Encoding::Protobuf => match protobuf_of(&json)? {
                Some(message) => respond(code, protobuf::MEDIA_TYPE, message),
                // What a subresource answers may be of a kind without a message.
                None => respond(code, "application/json", json),
            },
            Encoding::Yaml => {
                let value: Value =
                    serde_json::from_slice(&json).map_err(|e| ApiError::Internal(e.to_string()))?;
                let yaml = serde_saphyr::to_string(&value)
                    .map_err(|e| ApiError::Internal(e.to_string()))?;
                respond(code, "application/yaml", yaml)
            }
        };
        self.add_warnings(&mut response);
        Ok(response)
    }

    /// Adds the `Warning` headers. Like a stock server, once they have 4,096 characters together, each is cut
    /// to 256, and what is still above is left out: clients refuse answers with long headers.
    pub(crate) fn add_warnings(&self, response: &mut Response) {
        const MAX_TOTAL_CHARS: usize = 4096;
        const MAX_ITEM_CHARS: usize = 256;
        // Some clients take a hundred headers in all.
        const MAX_WARNINGS: usize = 64;
        let warnings = self.warnings.texts();
        let total: usize = warnings.iter().map(|w| w.chars().count()).sum();
        let most = if total > MAX_TOTAL_CHARS {
            MAX_ITEM_CHARS
        } else {
            MAX_TOTAL_CHARS
        };
        let mut left = MAX_TOTAL_CHARS;
        for warning in warnings.iter().take(MAX_WARNINGS) {
            let warning: String = warning.chars().take(most).collect();
            let Some(rest) = left.checked_sub(warning.chars().count()) else {
                return;
            };
            left = rest;
            let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
            let printable: String = quoted
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            if let Ok(value) = HeaderValue::try_from(format!("299 - \"{printable}\"")) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
    }

    /// One object (or its metadata) in the request's version.
    pub(crate) fn item(&self, stored: &Stored) -> Result<Bytes, ApiError> {
        match self.accepted.shape {
            Shape::Metadata => Ok(Bytes::from(self.partial(&stored.value()?).to_string())),
            Shape::Object | Shape::Table => {
                // It may have been stored when another version was.
                let converted =
                    self.row.convert.is_some() && !speaks(&stored.bytes, &self.api_version());
                let strategy = &self.row.strategy;
                let filled = strategy.may_lack_defaults(stored.revision, self.version());
                if !converted && !filled {
                    return Ok(stored.bytes.clone());
                }
                let mut object = stored.value()?;
                self.to_request(&mut object)?;
                if filled {
                    strategy.fill(self.version(), &mut object);
                }
                Ok(Bytes::from(object.to_string()))
            }
        }
    }

    /// What goes before the items of a list, as JSON; `]}` goes behind them.
    pub(super) fn list_head(&self, list: &ListMeta) -> String {
        if self.accepted.shape == Shape::Table {
            let columns: Vec<Value> = self.printer().columns.iter().map(column).collect();
            return format!(
                "{{\"kind\":\"Table\",\"apiVersion\":{},\"metadata\":{},\"columnDefinitions\":{},\"rows\":[",
                json!(self.accepted.meta_version.api_version()),
                list.value(),
                Value::Array(columns)
            );
        }
        let (kind, api_version) = self.list_kind();
        format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
            json!(kind),
            json!(api_version),
            list.value()
        )
    }

    /// Kind and apiVersion of a list that is no Table.
    pub(super) fn list_kind(&self) -> (String, String) {
        match self.accepted.shape {
            Shape::Metadata => (
                "PartialObjectMetadataList".to_owned(),
                self.accepted.meta_version.api_version().to_owned(),
            ),
            Shape::Object | Shape::Table => (self.row.list_kind.clone(), self.api_version()),
        }
    }

    /// A list as JSON: its items' bytes joined.
    pub(crate) fn list_bytes(&self, items: &[&Stored], list: &ListMeta) -> Result<Bytes, ApiError> {
        if self.accepted.shape == Shape::Table {
            return self.table(items, Some(list));
        }
        let head = self.list_head(list);
        let size = items.iter().map(|i| i.bytes.len() + 1).sum::<usize>() + head.len() + 2;
        let mut bytes = BytesMut::with_capacity(size);
        bytes.put_slice(head.as_bytes());
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                bytes.put_u8(b',');
            }
            bytes.put_slice(&self.item(item)?);
        }
        bytes.put_slice(b"]}");
        Ok(bytes.freeze())
    }

    /// PartialObjectMetadata of an object.
    pub(crate) fn partial(&self, object: &Value) -> Value {
        json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": self.accepted.meta_version.api_version(),
            "metadata": object["metadata"],
        })
    }

    /// A Table of stored objects.
    pub(crate) fn table(
        &self,
        items: &[&Stored],
        list: Option<&ListMeta>,
    ) -> Result<Bytes, ApiError> {
        let objects = items
            .iter()
            .map(|i| i.value())
            .collect::<Result<Vec<Value>, _>>()?;
        self.table_of(&objects, list)
    }

    fn table_of(&self, objects: &[Value], list: Option<&ListMeta>) -> Result<Bytes, ApiError> {
        let metadata = match (list, objects) {
            (Some(list), _) => list.value(),
            (None, [one]) => json!({"resourceVersion": one["metadata"]["resourceVersion"]}),
            (None, _) => json!({}),
        };
        let printer = self.printer();
        let mut rows = Vec::with_capacity(objects.len());
        for object in objects {
            rows.push(self.table_row(&printer, object)?);
        }
        let table = json!({
            "kind": "Table",
            "apiVersion": self.accepted.meta_version.api_version(),
            "metadata": metadata,
            "columnDefinitions": printer.columns.iter().map(column).collect::<Vec<_>>(),
            "rows": rows,
        });
        Ok(Bytes::from(table.to_string()))
    }

    /// The columns of the kind. kubectl, which shows wide columns only when asked to, gets more of some kinds (how many
    /// nodes and pods a class has) for who may list all nodes and pods; others get the stock columns alone.
    pub(super) fn printer(&self) -> Printer {
        let kubectl = self
            .headers
            .get(header::USER_AGENT)
            .is_some_and(|agent| agent.as_bytes().starts_with(b"kubectl"));
        let sees_all = || ["nodes", "pods"].iter().all(|kind| self.may_list_all(kind));
        let wide =
            (kubectl && sees_all()).then(|| self.row.strategy.wide_printer(&self.api.storage));
        wide.flatten().unwrap_or_else(|| self.row.printer.clone())
    }

    /// Whether the user may list a kind of the core group in all namespaces.
    fn may_list_all(&self, resource: &str) -> bool {
        let asked = Attributes::of_all(&self.user, Verb::List, "", resource);
        self.api.authorizer.authorize(&asked).allowed()
    }

    /// One row of a Table.
    pub(super) fn table_row(&self, printer: &Printer, object: &Value) -> Result<Value, ApiError> {
        let cells = (printer.cells)(object, self.now);
        let shown = match self.query.include_object.as_deref() {
            Some("None") => Value::Null,
            Some("Object") => {
                let mut object = object.clone();
                self.to_request(&mut object)?;
                object
            }
            None | Some("" | "Metadata") => self.partial(object),
            Some(other) => {
                return Err(ApiError::BadRequest(format!(
                    "unrecognized includeObject value: {other:?}"
                )));
            }
        };
        Ok(json!({"cells": cells, "object": shown}))
    }
}

/// An object's JSON as a body of protobuf; none when its kind has no message.
pub(super) fn protobuf_of(json: &[u8]) -> Result<Option<Bytes>, ApiError> {
    let value: Value =
        serde_json::from_slice(json).map_err(|e| ApiError::Internal(e.to_string()))?;
    Ok(protobuf::encode(&value).map(Bytes::from))
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}
