//! One question to one server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::query::{Answer, UDP_PAYLOAD};
use crate::question::Question;

const UDP_LIMIT: Duration = Duration::from_millis(1500);
const TCP_LIMIT: Duration = Duration::from_secs(3);
/// So many datagrams with the wrong id are no accident: the question goes over TCP then, where nobody can guess.
const MAX_WRONG: usize = 8;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("an answer that cannot be read")]
    Garbled,
    #[error("the question cannot be written: {0}")]
    Unwritable(#[from] hickory_proto::ProtoError),
}

/// What came for a datagram.
enum Got {
    Answer(Box<Message>),
    /// It has to be asked over TCP: the answer is too long, or somebody may be forging it.
    Elsewhere,
}

/// Asks, over UDP first.
pub(super) async fn ask(server: SocketAddr, question: &Question) -> Result<Answer, AskError> {
    let message = match by_udp(server, question).await? {
        Got::Answer(message) => *message,
        Got::Elsewhere => by_tcp(server, question).await?,
    };
    Ok(Answer {
        code: message.metadata.response_code,
        authoritative: false,
        authentic: message.metadata.authentic_data,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
    })
}

/// The question with a new id and, over UDP, letters of random case.
fn request(question: &Question, random_case: bool) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = question.checking_disabled;
    let mut name = question.name.clone();
    if random_case {
        name.randomize_label_case();
    }
    message.add_query(Query::query(name, question.kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    edns.set_dnssec_ok(question.dnssec_ok);
    message.set_edns(edns);
    message
}

fn any_port(server: SocketAddr) -> SocketAddr {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(any, 0)
}

async fn by_udp(server: SocketAddr, question: &Question) -> Result<Got, AskError> {
    let asked = request(question, true);
    // A port of its own for each question, which the kernel picks at random; connected, so that nobody else's datagrams are
    // received.
    let socket = UdpSocket::bind(any_port(server)).await?;
    socket.connect(server).await?;
    socket.send(&asked.to_vec()?).await?;
    let received = timeout(UDP_LIMIT, receive(&socket, &asked)).await;
    received.map_err(|_| AskError::Late(UDP_LIMIT))?
}

async fn receive(socket: &UdpSocket, asked: &Message) -> Result<Got, AskError> {
    let mut buffer = vec![0; 4096];
    for _ in 0..MAX_WRONG {
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        let id = bytes.first_chunk::<2>().map(|id| u16::from_be_bytes(*id));
        if id != Some(asked.metadata.id) {
            continue;
        }
        return match Message::from_vec(bytes) {
            Ok(message) if is_answer(asked, &message) => {
                let mut both = asked.queries.iter().zip(&message.queries);
                let same_case = both.all(|(asked, given)| asked.name().eq_case(given.name()));
                if message.metadata.truncation || !same_case {
                    return Ok(Got::Elsewhere);
                }
                Ok(Got::Answer(Box::new(message)))
            }
            // The id is right and the rest is not: a lucky guess, or a server that is broken.
            _ => Ok(Got::Elsewhere),
        };
    }
    Ok(Got::Elsewhere)
}

/// Whether a message answers this question.
fn is_answer(asked: &Message, message: &Message) -> bool {
    message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && message.metadata.id == asked.metadata.id
        && message.queries == asked.queries
}

async fn by_tcp(server: SocketAddr, question: &Question) -> Result<Message, AskError> {
    let asked = request(question, false);
    let work = async {
        let mut stream = TcpStream::connect(server).await?;
        let bytes = asked.to_vec()?;
        let length = u16::try_from(bytes.len()).map_err(|_| AskError::Garbled)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(bytes);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await?;
        let message = Message::from_vec(&buffer).map_err(|_| AskError::Garbled)?;
        if !is_answer(&asked, &message) {
            return Err(AskError::Garbled);
        }
        Ok(message)
    };
    timeout(TCP_LIMIT, work)
        .await
        .map_err(|_| AskError::Late(TCP_LIMIT))?
}
