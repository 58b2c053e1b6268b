//! A server of one answer a connection, which may lie, stall or break off.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::digest::Digest;
use crate::testing::TestImage;

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// With the query.
    pub(super) target: String,
    pub(super) headers: HashMap<String, String>,
}

/// An answer; `cut` sends only so many bytes of the body.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) cut: Option<usize>,
    /// After that nothing more comes, and the connection stays.
    pub(super) stall: bool,
}

impl Answer {
    pub(super) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(super) fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.to_vec(),
            ..Self::default()
        }
    }
}

pub(super) struct Fake {
    pub(super) address: String,
    pub(super) requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub(super) async fn start(
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, handler).await
    }

    pub(super) async fn at(
        address: Ipv4Addr,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (log, handler) = (requests.clone(), Arc::new(handler));
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (log, handler) = (log.clone(), handler.clone());
                tokio::spawn(async move {
                    let Some(request) = read(&mut socket).await else {
                        return;
                    };
                    log.lock().push(request.clone());
                    let answer = handler(&request);
                    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", answer.status);
                    head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
                    for (name, value) in &answer.headers {
                        head.push_str(&format!("{name}: {value}\r\n"));
                    }
                    head.push_str("\r\n");
                    let body = if request.method == "HEAD" {
                        &[]
                    } else {
                        &answer.body[..answer.cut.unwrap_or(answer.body.len())]
                    };
                    let _ = socket.write_all(head.as_bytes()).await;
                    let _ = socket.write_all(body).await;
                    if answer.stall {
                        let _ = socket.flush().await;
                        std::future::pending::<()>().await;
                    }
                    let _ = socket.shutdown().await;
                });
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    /// Requests whose target has this in it.
    pub(super) fn seen(&self, part: &str) -> Vec<Request> {
        self.requests
            .lock()
            .iter()
            .filter(|r| r.target.contains(part))
            .cloned()
            .collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read(socket: &mut tokio::net::TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await.ok()?);
        if bytes[0] == 0x16 {
            // The hello of TLS: what an HTTP server says to it.
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return None;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
        .collect();
    Some(Request {
        method,
        target,
        headers,
    })
}

/// Serves an image as `x:1` of any repository, honestly.
pub(super) fn serve(image: &TestImage, request: &Request) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    let digest = Digest::of(&image.manifest).to_string();
    if path.ends_with("/manifests/1") || path.ends_with(&format!("/manifests/{digest}")) {
        let headers = vec![
            (
                "content-type",
                "application/vnd.oci.image.manifest.v1+json".to_owned(),
            ),
            ("docker-content-digest", digest),
        ];
        return Answer {
            headers,
            ..Answer::ok(&image.manifest)
        };
    }
    let blob = image
        .blobs()
        .into_iter()
        .find(|blob| path.ends_with(&format!("/blobs/{}", Digest::of(blob))));
    let Some(blob) = blob else {
        return Answer::status(404);
    };
    let from = request
        .headers
        .get("range")
        .and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match from {
        Some(from) => {
            let from: usize = from;
            let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
            Answer {
                status: 206,
                headers: vec![("content-range", range)],
                body: blob[from..].to_vec(),
                ..Answer::default()
            }
        }
        None => Answer::ok(blob),
    }
}
