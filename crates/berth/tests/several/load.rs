//! Clients that read objects and write them if they still are as they were read, at whichever server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::cluster::Servers;
use crate::history::{History, Operation, Outcome, Version};
use crate::network::NODES;

/// How long a client waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Between operations of a client: the machines that this runs on are small.
const PAUSE: Duration = Duration::from_millis(15);

fn name(object: usize) -> String {
    format!("object{object}")
}

fn api(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

/// The version of an object, and what it says.
pub(crate) fn version_of(map: &ConfigMap) -> Version {
    let data = map.data.as_ref().and_then(|data| data.get("value"));
    Version {
        revision: map
            .metadata
            .resource_version
            .as_ref()
            .unwrap()
            .parse()
            .unwrap(),
        value: data.cloned().unwrap_or_default(),
    }
}

fn with_value(object: usize, revision: Option<i64>, value: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name(object));
    map.metadata.resource_version = revision.map(|r| r.to_string());
    map.data = Some(BTreeMap::from([("value".to_owned(), value.to_owned())]));
    map
}

/// Makes the objects; gives the revision after which everything is watched.
pub(crate) async fn create_objects(servers: &Servers, history: &History, count: usize) -> i64 {
    let api = api(&servers.client(0));
    let start = api.list(&ListParams::default()).await.unwrap();
    for object in 0..count {
        let value = format!("first{object}");
        let begun = Instant::now();
        let made = api
            .create(&PostParams::default(), &with_value(object, None, &value))
            .await;
        history.add(Operation {
            object: name(object),
            begun,
            ended: Instant::now(),
            outcome: Outcome::Written {
                expected: 0,
                version: version_of(&made.unwrap()),
            },
        });
    }
    start.metadata.resource_version.unwrap().parse().unwrap()
}

/// A client, until it is stopped.
pub(crate) async fn run(
    number: usize,
    servers: Servers,
    history: Arc<History>,
    stop: CancellationToken,
) {
    let mut random = StdRng::seed_from_u64(u64::try_from(number).unwrap());
    let mut clients: Vec<Client> = (0..NODES).map(|n| servers.client(n)).collect();
    let mut written = 0;
    while !stop.is_cancelled() {
        tokio::time::sleep(PAUSE).await;
        let object = random.random_range(0..crate::OBJECTS);
        let at = random.random_range(0..NODES);
        let Some(found) = read(&clients[at], &history, object).await else {
            clients[at] = servers.client(at);
            continue;
        };
        if random.random_range(0..3) == 0 {
            continue;
        }
        // Often at another server than the one that was read from.
        let at = random.random_range(0..NODES);
        let value = format!("client{number}-{written}");
        written += 1;
        if !write(&clients[at], &history, object, &found, value).await {
            clients[at] = servers.client(at);
        }
    }
}

async fn read(client: &Client, history: &History, object: usize) -> Option<Version> {
    let begun = Instant::now();
    let reading = api(client);
    let answer = tokio::time::timeout(TIMEOUT, reading.get(&name(object))).await;
    let version = version_of(answer.ok()?.ok().as_ref()?);
    history.add(Operation {
        object: name(object),
        begun,
        ended: Instant::now(),
        outcome: Outcome::Read(version.clone()),
    });
    Some(version)
}

/// Whether there was an answer.
async fn write(
    client: &Client,
    history: &History,
    object: usize,
    found: &Version,
    value: String,
) -> bool {
    let begun = Instant::now();
    let expected = found.revision;
    let writing = api(client);
    let map = with_value(object, Some(expected), &value);
    let name = name(object);
    let params = PostParams::default();
    let answer = tokio::time::timeout(TIMEOUT, writing.replace(&name, &params, &map)).await;
    let (outcome, answered) = match answer {
        Ok(Ok(map)) => {
            let version = version_of(&map);
            (Outcome::Written { expected, version }, true)
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
            (Outcome::Conflict { expected, value }, true)
        }
        // The server says that nothing was written.
        Ok(Err(kube::Error::Api(status))) if status.code == 503 => {
            (Outcome::Refused { value }, true)
        }
        _ => (Outcome::Unknown { expected, value }, false),
    };
    history.add(Operation {
        object: name,
        begun,
        ended: Instant::now(),
        outcome,
    });
    answered
}

/// Writes each object once more; gives the last revision.
pub(crate) async fn write_last(servers: &Servers, history: &History, count: usize) -> i64 {
    let client = servers.client(0);
    let mut last = 0;
    for object in 0..count {
        loop {
            let Some(found) = read(&client, history, object).await else {
                continue;
            };
            let value = format!("last{object}-{}", found.revision);
            if write(&client, history, object, &found, value.clone()).await
                && let Some(now) = read(&client, history, object).await
                && now.value == value
            {
                last = last.max(now.revision);
                break;
            }
        }
    }
    last
}

/// Reads each object at each server.
pub(crate) async fn read_everywhere(servers: &Servers, history: &History, count: usize) {
    for server in 0..NODES {
        let client = servers.client(server);
        for object in 0..count {
            read(&client, history, object)
                .await
                .expect("every server answers");
        }
    }
}
