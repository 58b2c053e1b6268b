//! The server as a whole, on loopback, before a resolver that a test writes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::StreamExt as _;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::*;

/// How long anything may take that should take moments.
const LIMIT: Duration = Duration::from_secs(20);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A resolver: what it gives for a question, and how often it was asked.
struct Resolver {
    at: SocketAddr,
    asked: Arc<AtomicUsize>,
}

/// What a resolver sends for a datagram; over TCP it always answers.
type Behaviour = fn(&Message) -> Vec<Message>;

fn answer(question: &Message) -> Message {
    let mut message = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    message.queries = question.queries.clone();
    let data = RData::A(rdata::A::new(192, 0, 2, 80));
    let name = question.queries[0].name().clone();
    message.add_answer(Record::from_rdata(name, 300, data));
    message
}

impl Resolver {
    async fn start(behaviour: Behaviour) -> Self {
        let (udp, tcp) = loop {
            let tcp = tokio::net::TcpListener::bind((LOCAL, 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let at = udp.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                if !is_probe(&question) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                for message in behaviour(&question) {
                    udp.send_to(&message.to_vec().unwrap(), client)
                        .await
                        .unwrap();
                }
            }
        });
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                tokio::spawn(async move {
                    let length = stream.read_u16().await.unwrap();
                    let mut bytes = vec![0; usize::from(length)];
                    stream.read_exact(&mut bytes).await.unwrap();
                    let reply = answer(&Message::from_vec(&bytes).unwrap());
                    let reply = reply.to_vec().unwrap();
                    stream
                        .write_u16(u16::try_from(reply.len()).unwrap())
                        .await
                        .unwrap();
                    stream.write_all(&reply).await.unwrap();
                });
            }
        });
        Self { at, asked }
    }
}

fn is_probe(question: &Message) -> bool {
    question.queries[0]
        .name()
        .to_ascii()
        .to_lowercase()
        .starts_with("berth-loop-")
}

/// A running server.
struct Server {
    at: SocketAddr,
    handler: Handler,
    tasks: Tasks,
    _dir: TempDir,
}

impl Server {
    async fn start(resolver: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let resolv_conf = dir.path().join("resolv.conf");
        std::fs::write(&resolv_conf, format!("nameserver {}\n", resolver.ip())).unwrap();
        let pods = vec!["10.88.0.0/16".parse().unwrap()];
        let services = ["10.96.0.0/16".parse().unwrap()];
        let mut zone = Zone::new("cluster.local", vec![LOCAL], pods.clone(), &services).unwrap();
        for (name, spec) in [
            (
                "web",
                json!({"clusterIP": "10.96.1.1", "clusterIPs": ["10.96.1.1"]}),
            ),
            (
                "away",
                json!({"type": "ExternalName", "externalName": "example.com"}),
            ),
            (
                "near",
                json!({"type": "ExternalName", "externalName": "web.prod.svc.cluster.local"}),
            ),
            (
                "one",
                json!({"type": "ExternalName", "externalName": "two.prod.svc.cluster.local"}),
            ),
            (
                "two",
                json!({"type": "ExternalName", "externalName": "one.prod.svc.cluster.local"}),
            ),
            ("many", json!({"clusterIP": "None", "clusterIPs": ["None"]})),
        ] {
            let object = json!({"metadata": {"name": name, "namespace": "prod"}, "spec": spec});
            zone.apply_service(&serde_json::from_value(object).unwrap())
                .unwrap();
        }
        let endpoints: Vec<_> = (0..200)
            .map(|n| json!({"addresses": [format!("10.88.1.{n}")]}))
            .collect();
        let slice = json!({"metadata": {"name": "many-1", "namespace": "prod",
            "labels": {"kubernetes.io/service-name": "many"}}, "addressType": "IPv4", "endpoints": endpoints});
        zone.apply_slice(&serde_json::from_value(slice).unwrap())
            .unwrap();
        let handler = Handler {
            zone: Arc::new(RwLock::new(zone)),
            forwarder: Forwarder::new(resolv_conf, resolver.port(), Vec::new()),
            clients: Clients::new(Allowance::POD),
        };
        let port = TcpListener::bind((LOCAL, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let tasks = Tasks::new(&CancellationToken::new());
        let listening = Listening {
            addresses: vec![LOCAL],
            port,
            bridge: None,
            pods,
        };
        let kept = listening.keep(handler.clone(), tasks.clone(), tasks.stop_token());
        tasks.spawn_essential("DNS sockets", kept);
        let at = SocketAddr::new(LOCAL, port);
        let server = Self {
            at,
            handler,
            tasks,
            _dir: dir,
        };
        let start = Instant::now();
        while TcpStream::connect(at).await.is_err() {
            assert!(start.elapsed() < LIMIT, "it does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    /// All lists have been read.
    fn set_read(&self) {
        let mut zone = self.handler.zone.write();
        let all = zone.all_keys();
        zone.keep_services(&all);
        zone.keep_slices(&all);
    }

    async fn whole(behaviour: Behaviour) -> (Self, Resolver) {
        let resolver = Resolver::start(behaviour).await;
        let server = Self::start(resolver.at).await;
        server.set_read();
        (server, resolver)
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind((LOCAL, 0)).await.unwrap();
        socket.connect(self.at).await.unwrap();
        socket.send(&question(name, kind)).await.unwrap();
        let mut buffer = vec![0; 4096];
        let length = tokio::time::timeout(LIMIT, socket.recv(&mut buffer)).await;
        let length = length.expect("an answer").unwrap();
        let message = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(
            (message.metadata.id, message.metadata.message_type),
            (77, MessageType::Response)
        );
        message
    }

    async fn code(&self, name: &str) -> ResponseCode {
        self.ask(name, RecordType::A).await.metadata.response_code
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn data(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

#[tokio::test]
async fn names_of_the_cluster_and_of_others_and_what_there_is_not() {
    let (server, resolver) = Server::whole(|question| vec![answer(question)]).await;
    let own = server
        .ask("Web.prod.svc.cluster.local.", RecordType::A)
        .await;
    assert!(own.metadata.authoritative && own.metadata.recursion_available);
    assert_eq!(data(&own), ["10.96.1.1"]);
    assert_eq!(
        own.queries[0].name().to_ascii(),
        "Web.prod.svc.cluster.local."
    );
    for (name, code) in [
        ("none.prod.svc.cluster.local.", ResponseCode::NXDomain),
        (
            "example.com.prod.svc.cluster.local.",
            ResponseCode::NXDomain,
        ),
        ("prod.svc.cluster.local.", ResponseCode::NoError),
    ] {
        let negative = server.ask(name, RecordType::A).await;
        assert_eq!(negative.metadata.response_code, code, "{name}");
        assert!(negative.answers.is_empty());
        assert_eq!(negative.authorities[0].record_type(), RecordType::SOA);
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
    // Twice: the second time from the cache, with its letters as they are asked for.
    for name in ["Example.com.", "example.COM."] {
        let forwarded = server.ask(name, RecordType::A).await;
        assert_eq!(data(&forwarded), ["192.0.2.80"]);
        assert!(!forwarded.metadata.authoritative);
        assert_eq!(forwarded.queries[0].name().to_ascii(), name);
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn aliases_are_followed_and_those_that_go_round_are_not() {
    let (server, _resolver) = Server::whole(|question| vec![answer(question)]).await;
    let away = server
        .ask("away.prod.svc.cluster.local.", RecordType::A)
        .await;
    assert_eq!(data(&away), ["example.com.", "192.0.2.80"]);
    let near = server
        .ask("near.prod.svc.cluster.local.", RecordType::A)
        .await;
    assert_eq!(data(&near), ["web.prod.svc.cluster.local.", "10.96.1.1"]);
    let alias = server
        .ask("near.prod.svc.cluster.local.", RecordType::CNAME)
        .await;
    assert_eq!(data(&alias), ["web.prod.svc.cluster.local."]);
    assert_eq!(
        server.code("one.prod.svc.cluster.local.").await,
        ResponseCode::ServFail
    );
}

#[tokio::test]
async fn nothing_is_said_not_to_exist_before_it_is_known_what_exists() {
    let resolver = Resolver::start(|question| vec![answer(question)]).await;
    let server = Server::start(resolver.at).await;
    for name in ["none.prod.svc.cluster.local.", "9.9.96.10.in-addr.arpa."] {
        assert_eq!(server.code(name).await, ResponseCode::ServFail, "{name}");
    }
    assert_eq!(server.code("example.com.").await, ResponseCode::NoError);
    server.set_read();
    assert_eq!(
        server.code("none.prod.svc.cluster.local.").await,
        ResponseCode::NXDomain
    );
}

#[tokio::test]
async fn what_is_too_long_for_a_datagram_comes_over_a_connection() {
    let (server, _resolver) = Server::whole(|question| {
        let mut cut = answer(question);
        cut.metadata.truncation = true;
        cut.answers.clear();
        vec![cut]
    })
    .await;
    // The resolver's, asked again over TCP.
    assert_eq!(
        data(&server.ask("example.com.", RecordType::A).await),
        ["192.0.2.80"]
    );
    // Ours.
    let cut = server
        .ask("many.prod.svc.cluster.local.", RecordType::A)
        .await;
    assert!(cut.metadata.truncation && cut.answers.len() > 10);
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    for _ in 0..2 {
        let bytes = question("many.prod.svc.cluster.local.", RecordType::A);
        stream
            .write_u16(u16::try_from(bytes.len()).unwrap())
            .await
            .unwrap();
        stream.write_all(&bytes).await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await.unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert!(!reply.metadata.truncation);
        assert_eq!(reply.answers.len(), 200);
    }
}

/// An answer that leads to somebody else.
fn forged(question: &Message) -> Message {
    let mut message = answer(question);
    message.answers[0].data = RData::A(rdata::A::new(203, 0, 113, 6));
    message
}

#[tokio::test]
async fn forged_answers_are_not_believed() {
    // Wrong ids, as somebody sends them who must guess; then another name, and then letters of another case: what
    // somebody sends who has guessed the id. TCP has the truth.
    let behaviours: [Behaviour; 4] = [
        |question| {
            let mut all: Vec<Message> = (1..=4)
                .map(|n| {
                    let mut wrong = forged(question);
                    wrong.metadata.id = question.metadata.id.wrapping_add(n);
                    wrong
                })
                .collect();
            all.push(answer(question));
            all
        },
        |question| {
            let flood = (1..=200).map(|n| {
                let mut wrong = forged(question);
                wrong.metadata.id = question.metadata.id.wrapping_add(n);
                wrong
            });
            flood.collect()
        },
        |question| {
            let mut wrong = forged(question);
            wrong.queries[0].set_name(Name::from_ascii("other.example.").unwrap());
            vec![wrong]
        },
        |question| {
            let mut wrong = forged(question);
            let name: String = question.queries[0]
                .name()
                .to_ascii()
                .chars()
                .map(|c| {
                    if c.is_lowercase() {
                        c.to_ascii_uppercase()
                    } else {
                        c.to_ascii_lowercase()
                    }
                })
                .collect();
            wrong.queries[0].set_name(Name::from_ascii(name).unwrap());
            vec![wrong]
        },
    ];
    for (number, behaviour) in behaviours.into_iter().enumerate() {
        let (server, _resolver) = Server::whole(behaviour).await;
        let got = server
            .ask("www.a-long-name-for-many-letters.example.", RecordType::A)
            .await;
        assert_eq!(data(&got), ["192.0.2.80"], "{number}");
    }
}

#[tokio::test]
async fn the_same_question_goes_out_once_however_many_ask_it() {
    let (server, resolver) = Server::whole(|question| vec![answer(question)]).await;
    let all = (0..50).map(|_| server.ask("popular.example.", RecordType::A));
    for got in futures::future::join_all(all).await {
        assert_eq!(data(&got), ["192.0.2.80"]);
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_resolver_that_leads_back_here_is_not_asked() {
    // A resolver of the node that passes everything on to the cluster's server.
    let relay = UdpSocket::bind((LOCAL, 0)).await.unwrap();
    let at = relay.local_addr().unwrap();
    let server = Server::start(at).await;
    server.set_read();
    let back = server.at;
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let (length, client) = relay.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let on = UdpSocket::bind((LOCAL, 0)).await.unwrap();
            on.send_to(&buffer[..length], back).await.unwrap();
            let mut reply = vec![0; 4096];
            if let Ok(Ok(length)) =
                tokio::time::timeout(Duration::from_millis(500), on.recv(&mut reply)).await
            {
                relay.send_to(&reply[..length], client).await.unwrap();
            }
        }
    });
    assert_eq!(server.code("example.com.").await, ResponseCode::ServFail);
    assert_eq!(server.code("example.org.").await, ResponseCode::ServFail);
    // The question that found it out, and no other.
    assert_eq!(passed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_resolver_that_is_silent_costs_only_those_who_ask_for_its_names() {
    let (server, _resolver) = Server::whole(|_| Vec::new()).await;
    let flood = UdpSocket::bind((LOCAL, 0)).await.unwrap();
    for n in 0..500 {
        let name = format!("n{n}.example.");
        flood
            .send_to(&question(&name, RecordType::A), server.at)
            .await
            .unwrap();
    }
    // More than a client may have waiting: refused at once.
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(1), flood.recv(&mut buffer)).await;
    let refused = Message::from_vec(&buffer[..length.unwrap().unwrap()]).unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(
        data(
            &server
                .ask("web.prod.svc.cluster.local.", RecordType::A)
                .await
        ),
        ["10.96.1.1"]
    );
}

#[tokio::test]
async fn connections_have_a_bound_for_each_client() {
    let (server, _resolver) = Server::whole(|question| vec![answer(question)]).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(server.at).await.unwrap());
    }
    let reads = held.iter_mut().map(|stream| async {
        let mut byte = [0];
        stream.read(&mut byte).await
    });
    let mut reads: futures::stream::FuturesUnordered<_> = reads.collect();
    let mut closed = 0;
    while closed < 100 - 16
        && let Ok(Some(Ok(0))) = tokio::time::timeout(Duration::from_secs(30), reads.next()).await
    {
        closed += 1;
    }
    drop(reads);
    assert!(closed >= 100 - 16, "{closed}");
    // Datagrams are answered all the same.
    assert_eq!(
        server.code("web.prod.svc.cluster.local.").await,
        ResponseCode::NoError
    );
}

#[tokio::test]
async fn nonsense_ends_nothing() {
    let (server, _resolver) = Server::whole(|question| vec![answer(question)]).await;
    let socket = UdpSocket::bind((LOCAL, 0)).await.unwrap();
    for length in (0..1000).step_by(7) {
        let bytes: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        socket.send_to(&bytes, server.at).await.unwrap();
    }
    // A name that points at itself.
    let mut pointer = question("a.", RecordType::A);
    pointer.splice(12..15, [0xc0, 12]);
    socket.send_to(&pointer, server.at).await.unwrap();
    assert_eq!(
        server.code("web.prod.svc.cluster.local.").await,
        ResponseCode::NoError
    );
}

#[test]
fn an_interface_has_a_name_that_the_kernel_takes() {
    assert_eq!(interface("berth0"), "dns-berth0");
    assert_eq!(interface("berth89018ad2"), "dns-rth89018ad2");
    assert!(interface("a-bridge-with15").len() <= 15);
}

#[test]
fn only_networks_are_networks() {
    assert_eq!(
        networks(&["10.0.0.0/8,fd00::/64".to_owned()])
            .unwrap()
            .len(),
        2
    );
    assert!(networks(&["10.0.0.1".to_owned()]).is_err());
}
