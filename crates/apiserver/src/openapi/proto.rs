//! The Swagger document in protobuf (gnostic's OpenAPIv2), which older kubectl asks for.

use serde_json::{Map, Value};

/// The media type, as answers name it.
pub(super) const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A message under construction.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0
                .push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or_default());
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, number: u64, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    pub(super) fn message(&mut self, number: u64, message: &Self) {
        self.bytes(number, &message.0);
    }

    fn bool(&mut self, number: u64, is: bool) {
        if is {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    /// A text field of an object, if it is there.
    fn text_of(&mut self, number: u64, object: &Map<String, Value>, name: &str) {
        if let Some(text) = object.get(name).and_then(Value::as_str) {
            self.text(number, text);
        }
    }

    fn texts_of(&mut self, number: u64, object: &Map<String, Value>, name: &str) {
        for text in object
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            self.text(number, text);
        }
    }

    fn bool_of(&mut self, number: u64, object: &Map<String, Value>, name: &str) {
        self.bool(
            number,
            object
                .get(name)
                .and_then(Value::as_bool)
                .unwrap_or_default(),
        );
    }

    /// A map's entry: name and value.
    pub(super) fn named(&mut self, number: u64, name: &str, value: &Self) {
        let mut entry = Self::default();
        entry.text(1, name);
        entry.message(2, value);
        self.message(number, &entry);
    }

    /// The `x-` fields, each as YAML (which JSON is).
    fn extensions(&mut self, number: u64, object: &Map<String, Value>) {
        for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Self::default();
            any.text(2, &value.to_string());
            self.named(number, name, &any);
        }
    }
}

/// The part of the document that stands before paths and definitions.
pub(super) fn head(version: &str) -> Message {
    let mut info = Message::default();
    info.text(1, "Kubernetes");
    info.text(2, version);
    let mut document = Message::default();
    document.text(1, "2.0");
    document.message(2, &info);
    document
}

pub(super) fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(object) = value.as_object() else {
        return out;
    };
    for (number, name) in [
        (1, "$ref"),
        (2, "format"),
        (3, "title"),
        (4, "description"),
        (13, "pattern"),
    ] {
        out.text_of(number, object, name);
    }
    out.bool_of(16, object, "uniqueItems");
    out.texts_of(19, object, "required");
    if let Some(additional) = object.get("additionalProperties") {
        let mut item = Message::default();
        match additional.as_bool() {
            Some(is) => item.bool(2, is),
            None => item.message(1, &schema(additional)),
        }
        out.message(21, &item);
    }
    if let Some(ty) = object.get("type") {
        let mut item = Message::default();
        for ty in ty
            .as_array()
            .map_or(std::slice::from_ref(ty), Vec::as_slice)
            .iter()
            .filter_map(Value::as_str)
        {
            item.text(1, ty);
        }
        out.message(22, &item);
    }
    if let Some(items) = object.get("items") {
        let mut item = Message::default();
        item.message(1, &schema(items));
        out.message(23, &item);
    }
    for part in object
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(24, &schema(part));
    }
    if let Some(properties) = object.get("properties").and_then(Value::as_object) {
        let mut all = Message::default();
        for (name, property) in properties {
            all.named(1, name, &schema(property));
        }
        out.message(25, &all);
    }
    out.extensions(31, object);
    out
}

pub(super) fn path_item(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(object) = value.as_object() else {
        return out;
    };
    for (number, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (8, "patch"),
    ] {
        if let Some(value) = object.get(method).and_then(Value::as_object) {
            out.message(number, &operation(value));
        }
    }
    for value in object
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(9, &parameter(value));
    }
    out.extensions(10, object);
    out
}

fn operation(object: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    out.texts_of(1, object, "tags");
    out.text_of(3, object, "description");
    out.text_of(5, object, "operationId");
    out.texts_of(6, object, "produces");
    out.texts_of(7, object, "consumes");
    for value in object
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(8, &parameter(value));
    }
    let mut responses = Message::default();
    for (code, value) in object
        .get("responses")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let mut response = Message::default();
        if let Some(fields) = value.as_object() {
            response.text_of(1, fields, "description");
        }
        if let Some(of) = value.get("schema") {
            let mut item = Message::default();
            item.message(1, &schema(of));
            response.message(2, &item);
        }
        let mut item = Message::default();
        item.message(1, &response);
        responses.named(1, code, &item);
    }
    out.message(9, &responses);
    out.texts_of(10, object, "schemes");
    out.extensions(13, object);
    out
}

/// A parameter in the body, the query or the path, wrapped as the choice that it is.
fn parameter(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(object) = value.as_object() else {
        return out;
    };
    let place = object.get("in").and_then(Value::as_str).unwrap_or_default();
    let mut inner = Message::default();
    let mut choice = Message::default();
    if place == "body" {
        inner.text_of(1, object, "description");
        inner.text_of(2, object, "name");
        inner.text(3, place);
        inner.bool_of(4, object, "required");
        if let Some(of) = object.get("schema") {
            inner.message(5, &schema(of));
        }
        choice.message(1, &inner);
    } else {
        let query = place == "query";
        inner.bool_of(1, object, "required");
        inner.text(2, place);
        inner.text_of(3, object, "description");
        inner.text_of(4, object, "name");
        inner.text_of(if query { 6 } else { 5 }, object, "type");
        inner.bool_of(if query { 20 } else { 19 }, object, "uniqueItems");
        let mut kind = Message::default();
        kind.message(if query { 3 } else { 4 }, &inner);
        choice.message(2, &kind);
    }
    out.message(1, &choice);
    out
}
