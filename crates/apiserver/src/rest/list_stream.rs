//! Long lists, written while they are sent: a list of everything takes no more memory than a part of it, for the objects
//! are those of the cache.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_api::status::ApiError;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::Call;
use super::list::Listed;
use crate::http_types::{BoxError, LongList, Response, respond};
use crate::negotiate::{Encoding, Shape};
use crate::printer::Printer;
use crate::protobuf;
use crate::storage::Stored;

/// Bytes of a part, unless one object has more.
const PART: usize = 64 << 10;
/// Items that are converted at a time by a webhook, and bytes of them unless one has more.
const SOME: usize = 100;
const SOME_BYTES: usize = 1 << 20;

struct Listing {
    call: Call,
    /// For Tables.
    printer: Option<Printer>,
    items: std::vec::IntoIter<Arc<Stored>>,
    /// The next of them, in the request's version.
    shown: VecDeque<Arc<Stored>>,
    /// What comes before the first item.
    head: Option<Vec<u8>>,
    ended: bool,
}

impl Call {
    /// A list, part by part: as JSON, which is YAML, too, or as protobuf.
    pub(super) async fn stream_list(self, listed: Listed) -> Result<Response, ApiError> {
        let content_type = match self.accepted.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => protobuf::MEDIA_TYPE,
        };
        let mut response = respond(StatusCode::OK, content_type, Bytes::new());
        self.add_warnings(&mut response);
        response.extensions_mut().insert(LongList);
        let head = match self.accepted.encoding {
            Encoding::Json | Encoding::Yaml => self.list_head(&listed.meta).into_bytes(),
            Encoding::Protobuf => self.binary_head(&listed).await?,
        };
        let mut listing = Listing {
            printer: (self.accepted.shape == Shape::Table).then(|| self.printer()),
            items: listed.items.into_iter(),
            shown: VecDeque::new(),
            head: Some(head),
            ended: false,
            call: self,
        };
        // What is wrong with the first item is wrong with the request, and can still be said in so many words.
        let first = listing.next().await?;
        let rest = futures::stream::unfold(Some(listing), |listing| async move {
            let mut listing = listing?;
            match listing.next().await {
                Ok(Some(part)) => Some((Ok(Frame::data(part)), Some(listing))),
                Ok(None) => None,
                Err(error) => {
                    tracing::error!(%error, "a list broke off: an object in it cannot be shown");
                    Some((Err(BoxError::from(error)), None))
                }
            }
        });
        let first = futures::stream::iter(first.map(|part| Ok(Frame::data(part))));
        let stream = first.chain(rest);
        Ok(response.map(|_| StreamBody::new(stream).boxed_unsync()))
    }
}

impl Call {
    /// What comes before the items of a list in protobuf: it says how many bytes they have, so all of them are made
    /// once for that, and again when they are sent. To keep them would take their memory.
    async fn binary_head(&self, listed: &Listed) -> Result<Vec<u8>, ApiError> {
        let metadata = protobuf::list_head(&listed.meta.value()).ok_or_else(formless)?;
        let mut size = metadata.len() as u64;
        let mut looked_at = 0;
        for item in &listed.items {
            size += protobuf::size_of_bytes(2, self.message(item)?.len() as u64);
            looked_at += item.bytes.len();
            if looked_at >= PART {
                looked_at = 0;
                tokio::task::yield_now().await;
            }
        }
        let (kind, api_version) = self.list_kind();
        let mut head = protobuf::envelope_head(&api_version, &kind);
        protobuf::put_head(&mut head, 2, size);
        head.extend(metadata);
        Ok(head)
    }

    /// An object of a list in protobuf, without an envelope.
    fn message(&self, stored: &Stored) -> Result<Vec<u8>, ApiError> {
        let item: Value = serde_json::from_slice(&self.item(stored)?)
            .map_err(|error| ApiError::Internal(error.to_string()))?;
        let text = |field: &str| item[field].as_str().unwrap_or_default();
        protobuf::message_of(text("apiVersion"), text("kind"), &item).ok_or_else(formless)
    }
}

fn formless() -> ApiError {
    ApiError::Internal("an object of the list does not fit its protobuf message".to_owned())
}

impl Listing {
    /// The next part; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        if self.call.accepted.encoding == Encoding::Protobuf {
            return self.next_messages();
        }
        let mut part = BytesMut::with_capacity(self.size_of_part());
        while part.len() < PART {
            let item = self.take().await?;
            match self.head.take() {
                Some(head) => part.put_slice(&head),
                None if item.is_some() => part.put_u8(b','),
                None => {}
            }
            let Some(item) = item else {
                part.put_slice(b"]}");
                self.ended = true;
                break;
            };
            part.put_slice(&self.item(&item)?);
        }
        Ok(Some(part.freeze()))
    }

    /// Bytes that the next part will have where objects are sent as they are, so that it is not moved while it grows.
    fn size_of_part(&self) -> usize {
        let mut size = self.head.as_ref().map_or(0, Vec::len) + "]}".len();
        for item in self.items.as_slice() {
            if size >= PART {
                break;
            }
            size += item.bytes.len() + 1;
        }
        size
    }

    fn next_messages(&mut self) -> Result<Option<Bytes>, ApiError> {
        let mut part = self.head.take().unwrap_or_default();
        while part.len() < PART {
            let Some(item) = self.items.next() else {
                self.ended = true;
                break;
            };
            let message = self.call.message(&item)?;
            protobuf::put_head(&mut part, 2, message.len() as u64);
            part.extend(message);
        }
        Ok((!part.is_empty()).then(|| Bytes::from(part)))
    }

    /// The next item; a webhook that converts is asked about some at a time.
    async fn take(&mut self) -> Result<Option<Arc<Stored>>, ApiError> {
        if self.call.row.converter.is_none() {
            return Ok(self.items.next());
        }
        if self.shown.is_empty() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while some.len() < SOME && bytes < SOME_BYTES {
                let Some(item) = self.items.next() else { break };
                bytes += item.bytes.len();
                some.push(item);
            }
            self.shown = self.call.shown_all(some).await?.into();
        }
        Ok(self.shown.pop_front())
    }

    fn item(&self, item: &Stored) -> Result<Bytes, ApiError> {
        match &self.printer {
            None => self.call.item(item),
            Some(printer) => {
                let row = self.call.table_row(printer, &item.value()?)?;
                Ok(Bytes::from(row.to_string()))
            }
        }
    }
}
