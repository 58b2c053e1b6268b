//! The client's side of SPDY/3.1, as small as the tests allow.

use std::collections::{BTreeMap, BTreeSet};

use flate2::{Compress, Compression, FlushCompress};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const DICTIONARY: &[u8] = include_bytes!("../../src/streaming/spdy/dictionary.bin");

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) struct Spdy {
    io: Box<dyn Io>,
    compress: Compress,
}

impl Spdy {
    fn new(io: impl Io + 'static) -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(DICTIONARY).unwrap();
        Self {
            io: Box::new(io),
            compress,
        }
    }

    pub(crate) async fn dial(url: &str, protocol: &str) -> Self {
        let (address, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut io = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(io.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(
            head.starts_with("http/1.1 101 ")
                && head.contains(&format!("x-stream-protocol-version: {protocol}")),
            "{head}"
        );
        Self::new(io)
    }

    /// Inside a WebSocket's binary messages, cut where it is least convenient.
    pub(crate) fn tunnel(socket: WebSocketStream<TcpStream>) -> Self {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (mut from, mut to) = tokio::io::split(far);
        let (mut sender, mut receiver) = socket.split();
        tokio::spawn(async move {
            let mut buffer = [0; 7];
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                if sender
                    .send(Message::Binary(buffer[..n].to_vec().into()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(Ok(message)) = receiver.next().await {
                if let Message::Binary(bytes) = message
                    && to.write_all(&bytes).await.is_err()
                {
                    return;
                }
            }
        });
        Self::new(near)
    }

    pub(crate) async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let mut plain = u32::try_from(headers.len()).unwrap().to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            plain.extend(text.as_bytes());
        }
        let mut block = Vec::with_capacity(4096);
        self.compress
            .compress_vec(&plain, &mut block, FlushCompress::Sync)
            .unwrap();
        let mut frame = vec![0x80, 3, 0, 1, 0];
        frame.extend(&u32::try_from(10 + block.len()).unwrap().to_be_bytes()[1..]);
        frame.extend(id.to_be_bytes());
        frame.extend([0; 6]);
        frame.extend(block);
        self.io.write_all(&frame).await.unwrap();
    }

    pub(crate) async fn send(&mut self, id: u32, bytes: &[u8], fin: bool) {
        let mut frame = id.to_be_bytes().to_vec();
        frame.push(u8::from(fin));
        frame.extend(&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..]);
        frame.extend(bytes);
        self.io.write_all(&frame).await.unwrap();
    }

    pub(crate) async fn read_to_end(&mut self) -> BTreeMap<u32, Vec<u8>> {
        self.read(None).await
    }

    pub(crate) async fn read_until_finished(&mut self, streams: &[u32]) -> BTreeMap<u32, Vec<u8>> {
        self.read(Some(streams.iter().copied().collect())).await
    }

    async fn read(&mut self, until: Option<BTreeSet<u32>>) -> BTreeMap<u32, Vec<u8>> {
        let mut streams: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut open = until.clone().unwrap_or_default();
        let reading = async {
            while until.is_none() || !open.is_empty() {
                let Ok(word) = self.io.read_u32().await else {
                    break;
                };
                let rest = self.io.read_u32().await.unwrap();
                let mut body = vec![0; usize::try_from(rest & 0xff_ffff).unwrap()];
                self.io.read_exact(&mut body).await.unwrap();
                if word & 0x8000_0000 == 0 {
                    streams.entry(word).or_default().extend(body);
                    if rest >> 24 == 1 {
                        open.remove(&word);
                    }
                } else if word & 0xffff == 7 {
                    break;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), reading)
            .await
            .expect("the streams end");
        streams
    }
}
