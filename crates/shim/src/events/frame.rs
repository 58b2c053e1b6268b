//! ttrpc's frames, one request at a time. The crate's own server takes all that a client sends before it was answered,
//! which is as much as the client likes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use ttrpc::Code;
use ttrpc::proto::{MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, Message, MessageHeader, Response};

/// The longest request. The longest event is `TaskCreate`, with the mounts of a root file system.
const MAX_REQUEST: u32 = 64 * 1024;
/// The longest that is read off to be refused; whoever sends more is cut off.
const MAX_DISCARDED: u32 = 4 << 20;

/// A request, or why it is refused unread.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) stream_id: u32,
    pub(super) content: Result<Vec<u8>, ttrpc::Status>,
}

/// Reads the next request; `None` at the end.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Request>> {
    let mut header = [0; ttrpc::proto::MESSAGE_HEADER_LENGTH];
    match from.read_exact(&mut header).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    };
    let header = MessageHeader::from(header);
    let MessageHeader {
        length, stream_id, ..
    } = header;
    if header.type_ != MESSAGE_TYPE_REQUEST || stream_id % 2 == 0 {
        let text = format!("no request: type {}, stream {stream_id}", header.type_);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    if length <= MAX_REQUEST {
        let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        from.read_exact(&mut content).await?;
        return Ok(Some(Request {
            stream_id,
            content: Ok(content),
        }));
    }
    let text = format!("message length {length} exceeds the limit of {MAX_REQUEST} bytes");
    if length > MAX_DISCARDED {
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut rest = from.take(u64::from(length));
    if tokio::io::copy(&mut rest, &mut tokio::io::sink()).await? < u64::from(length) {
        return Ok(None);
    }
    Ok(Some(Request {
        stream_id,
        content: Err(ttrpc::get_status(Code::RESOURCE_EXHAUSTED, text)),
    }))
}

/// Answers a request: with an empty message, or why it was refused.
pub(super) async fn answer(
    to: &mut (impl AsyncWrite + Unpin),
    stream_id: u32,
    refused: Option<ttrpc::Status>,
) -> Result<(), ttrpc::Error> {
    let status = refused.unwrap_or_else(|| ttrpc::get_status(Code::OK, ""));
    let payload = Response {
        status: protobuf::MessageField::some(status),
        ..Response::default()
    };
    let length = u32::try_from(protobuf::Message::compute_size(&payload)).unwrap_or(u32::MAX);
    let header = MessageHeader {
        length,
        stream_id,
        type_: MESSAGE_TYPE_RESPONSE,
        flags: 0,
    };
    Message { header, payload }.write_to(to).await
}
