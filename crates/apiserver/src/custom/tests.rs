use std::sync::Arc;

use serde_json::json;

use super::*;

const WIDGETS: &str = "custom/example.com/widgets";

async fn storage(dir: &std::path::Path) -> Arc<Storage> {
    let store = berth_store::sqlite::Sqlite::open(dir).await.unwrap();
    let storage = Arc::new(Storage::new(Arc::new(store)));
    storage.load().await.unwrap();
    tokio::spawn(Arc::clone(&storage).run());
    storage
}

async fn put(storage: &Storage, name: &str, object: Value) {
    let put = storage.put(WIDGETS, "default", name, Expect::Any, object);
    put.await.unwrap();
}

fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name, "namespace": "default"}})
}

/// A server that is late finds that a definition has gone when it is there again already, with new objects.
#[tokio::test]
async fn objects_of_a_definition_that_was_made_again_stay() {
    let dir = tempfile::tempdir().unwrap();
    let storage = storage(dir.path()).await;
    for name in ["old", "remade"] {
        put(&storage, name, widget(name)).await;
    }
    let (_, seen) = storage.cache(DEFINITIONS).snapshot(None, storage.applied());
    put(&storage, "new", widget("new")).await;
    let mut changed = widget("remade");
    changed["spec"] = json!({"of": "another"});
    put(&storage, "remade", changed).await;
    remove_objects(&storage, WIDGETS, seen).await;
    let left = storage.list(WIDGETS, None);
    let left: Vec<_> = left.iter().map(|object| object.name.as_ref()).collect();
    assert_eq!(left, ["new", "remade"]);
}
