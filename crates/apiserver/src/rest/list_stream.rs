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

use super::Call;
use super::list::Listed;
use crate::http_types::{BoxError, LongList, Response, respond};
use crate::negotiate::{Encoding, Shape};
use crate::printer::Printer;
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
    head: Option<String>,
    ended: bool,
}

impl Call {
    /// A list as JSON, part by part; that is YAML, too.
    pub(super) async fn stream_list(self, listed: Listed) -> Result<Response, ApiError> {
        let content_type = match self.accepted.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
        };
        let mut response = respond(StatusCode::OK, content_type, Bytes::new());
        self.add_warnings(&mut response);
        response.extensions_mut().insert(LongList);
        let mut listing = Listing {
            printer: (self.accepted.shape == Shape::Table).then(|| self.printer()),
            items: listed.items.into_iter(),
            shown: VecDeque::new(),
            head: Some(self.list_head(&listed.meta)),
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

impl Listing {
    /// The next part; none at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        let mut part = BytesMut::with_capacity(PART);
        while part.len() < PART {
            let item = self.take().await?;
            match self.head.take() {
                Some(head) => part.put_slice(head.as_bytes()),
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
