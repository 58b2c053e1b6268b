use std::time::{Duration, SystemTime};

use containerd_shim_protos::events::task::{TaskExit, TaskOOM};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::EventsClient;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message as _, MessageField};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use ttrpc::asynchronous::Client;

use super::*;

/// How long anything may take that should take moments.
const LIMIT: Duration = Duration::from_secs(30);

struct Service {
    dir: tempfile::TempDir,
    events: mpsc::Receiver<ShimEvent>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    /// Serves; an event counts as handled when it was received from a queue of one.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = crate::private::bind(&dir.path().join("e")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let (sender, events) = mpsc::channel(1);
        let task = tokio::spawn(serve(listener, move |event| {
            let sender = sender.clone();
            async move { sender.send(event).await.map_err(|e| e.to_string()) }
        }));
        Self { dir, events, task }
    }

    async fn client(&self) -> EventsClient {
        let address = format!("unix://{}", self.dir.path().join("e").display());
        EventsClient::new(Client::connect(&address).await.unwrap())
    }

    async fn stream(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("e"))
            .await
            .unwrap()
    }

    async fn next(&mut self) -> ShimEvent {
        tokio::time::timeout(LIMIT, self.events.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn forward(name: &str, event: &impl protobuf::Message) -> ForwardRequest {
    let any = Any {
        type_url: format!("containerd.events.{name}"),
        value: event.write_to_bytes().unwrap(),
        ..Any::default()
    };
    let envelope = Envelope {
        namespace: "k8s.io".to_owned(),
        topic: "/tasks/any".to_owned(),
        event: MessageField::some(any),
        ..Envelope::default()
    };
    ForwardRequest {
        envelope: MessageField::some(envelope),
        ..ForwardRequest::default()
    }
}

fn oom(id: &str) -> ForwardRequest {
    let event = TaskOOM {
        container_id: id.to_owned(),
        ..TaskOOM::default()
    };
    forward("TaskOOM", &event)
}

fn context() -> ttrpc::context::Context {
    ttrpc::context::with_duration(LIMIT)
}

#[tokio::test]
async fn events_arrive_with_their_sender() {
    let mut service = Service::start();
    let client = service.client().await;
    let mut exit = TaskExit {
        container_id: "c".to_owned(),
        id: "c".to_owned(),
        exit_status: 3,
        exited_at: MessageField::some(Timestamp {
            seconds: 5,
            ..Timestamp::default()
        }),
        ..TaskExit::default()
    };
    for (id, exec_id) in [("c", ""), ("e", "e")] {
        exit.id = id.to_owned();
        client
            .forward(context(), &forward("TaskExit", &exit))
            .await
            .unwrap();
        let event = service.next().await;
        assert_eq!(
            (event.namespace.as_str(), event.container_id.as_str()),
            ("k8s.io", "c")
        );
        assert_eq!(event.publisher.pid, std::process::id());
        assert_eq!(event.publisher.parent, std::os::unix::process::parent_id());
        let exit = Exit {
            code: 3,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(5),
        };
        assert_eq!(
            event.kind,
            TaskEvent::Exited {
                exec_id: exec_id.to_owned(),
                exit
            }
        );
    }
    // One that nobody wants is taken, and those after it arrive.
    client
        .forward(context(), &forward("TaskCheckpointed", &exit))
        .await
        .unwrap();
    client.forward(context(), &oom("d")).await.unwrap();
    let event = service.next().await;
    assert_eq!(
        (event.container_id.as_str(), event.kind),
        ("d", TaskEvent::OutOfMemory)
    );
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_and_the_connection_goes_on() {
    let mut service = Service::start();
    let client = service.client().await;
    let mut broken = oom("c");
    broken.envelope.mut_or_insert_default().event = MessageField::some(Any {
        type_url: "containerd.events.TaskOOM".to_owned(),
        value: vec![0xff; 8],
        ..Any::default()
    });
    let long = oom(&"x".repeat(MAX_LONG_ID));
    let huge = oom(&"x".repeat(200_000));
    for (request, code) in [
        (ForwardRequest::default(), ttrpc::Code::INVALID_ARGUMENT),
        (broken, ttrpc::Code::INVALID_ARGUMENT),
        (long, ttrpc::Code::INVALID_ARGUMENT),
        (oom(""), ttrpc::Code::INVALID_ARGUMENT),
        (huge, ttrpc::Code::RESOURCE_EXHAUSTED),
    ] {
        let error = client.forward(context(), &request).await.unwrap_err();
        let ttrpc::Error::RpcStatus(status) = error else {
            panic!("{error}");
        };
        assert_eq!(status.code(), code, "{}", status.message());
    }
    client.forward(context(), &oom("c")).await.unwrap();
    assert_eq!(service.next().await.container_id, "c");
}

/// An id that no container has.
const MAX_LONG_ID: usize = 300;

/// Writes as many requests as the other side takes, without reading answers; gives how many.
async fn flood(stream: &mut UnixStream, request: &[u8]) -> usize {
    let mut taken = 0;
    loop {
        let wrote = tokio::time::timeout(Duration::from_secs(1), stream.write_all(request)).await;
        match wrote {
            Ok(Ok(())) => taken += 1,
            // Nobody takes more.
            Ok(Err(_)) | Err(_) => return taken,
        }
        assert!(taken < 100_000, "a flood is taken without an end");
    }
}

fn frame(request: &ForwardRequest) -> Vec<u8> {
    let request = ttrpc::Request {
        service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
        method: "Forward".to_owned(),
        payload: request.write_to_bytes().unwrap(),
        ..ttrpc::Request::default()
    };
    let payload = request.write_to_bytes().unwrap();
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(1_u32.to_be_bytes());
    frame.extend([1, 0]);
    frame.extend(payload);
    frame
}

/// A shim that publishes without an end waits, and holds nobody else up.
#[tokio::test]
async fn a_flood_waits_for_its_events_to_be_handled() {
    let service = Service::start();
    let mut flooding = service.stream().await;
    // Nobody takes events from the queue.
    let taken = flood(&mut flooding, &frame(&oom("c"))).await;
    assert!(taken > QUEUE, "{taken}");
    let other = service.client().await;
    other.forward(context(), &oom("d")).await.unwrap();
}

/// What is no request, or longer than any, ends its connection and no other.
#[tokio::test]
async fn a_frame_that_is_none_ends_its_connection() {
    let mut service = Service::start();
    for header in [
        // Type 3 is a stream's data.
        [0, 0, 0, 4, 0, 0, 0, 1, 3, 0],
        // An even stream is the server's.
        [0, 0, 0, 4, 0, 0, 0, 2, 1, 0],
        // Longer than ttrpc allows.
        [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0],
    ] {
        let mut stream = service.stream().await;
        stream.write_all(&header).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        assert_eq!(read.unwrap().unwrap(), 0, "{header:?}");
    }
    let client = service.client().await;
    client.forward(context(), &oom("c")).await.unwrap();
    assert_eq!(service.next().await.container_id, "c");
}
