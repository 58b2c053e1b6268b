//! Secrets that are encrypted in the store.

use std::path::Path;

use base64::Engine as _;
use serde_json::json;

use crate::harness::Api;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// "hunter2hunter2" in base64, as the object has it.
const PASSWORD: &str = "aHVudGVyMmh1bnRlcjI=";

fn key(name: &str, byte: u8) -> String {
    let secret = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    format!("{{name: {name}, secret: {secret}}}")
}

fn config(dir: &Path, providers: &str) -> std::path::PathBuf {
    let file = dir.join("encryption.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{providers}]\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn start(dir: &Path, providers: Option<&str>) -> Api {
    let file = providers.map(|providers| config(dir, providers));
    Api::start_changed(dir, |config| config.encryption_provider_config = file).await
}

/// All bytes of the database and its log.
fn bytes_in(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for name in ["berth.db", "berth.db-wal"] {
        all.extend(std::fs::read(dir.join(name)).unwrap_or_default());
    }
    all
}

fn has(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|w| w == part.as_bytes())
}

#[tokio::test]
async fn the_database_does_not_show_a_secret_and_keys_are_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let first = format!(
        "{{aesgcm: {{keys: [{}]}}}}, {{identity: {{}}}}",
        key("one", 1)
    );
    let api = start(dir.path(), Some(&first)).await;
    let body = json!({"metadata": {"name": "s"}, "data": {"password": PASSWORD}});
    api.post(SECRETS, body.clone()).await.expect(201);
    let path = format!("{SECRETS}/s");
    assert_eq!(
        api.get(&path).await.expect(200)["data"]["password"],
        PASSWORD
    );
    api.stop().await;
    let bytes = bytes_in(dir.path());
    assert!(has(&bytes, "k8s:enc:aesgcm:v1:one:"));
    assert!(!has(&bytes, PASSWORD));

    // Without the key it is an object that cannot be read: neither absent nor shown.
    for (providers, part) in [(None, "encrypted"), (Some("{identity: {}}"), "encrypted")] {
        let api = start(dir.path(), providers).await;
        let refused = api.get(&path).await.expect(500);
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains("secrets \"s\" in namespace \"default\""),
            "{part}: {message}"
        );
        assert!(!refused.to_string().contains("k8s:enc"), "{refused}");
        api.post(SECRETS, body.clone()).await.expect(409);
        let list = api.get(SECRETS).await;
        assert!(!list.text.contains("k8s:enc"), "{}", list.text);
        api.stop().await;
    }

    // A new first key: a write without a change brings the object to it.
    let both = format!("{{secretbox: {{keys: [{}]}}}}, {first}", key("two", 2));
    let api = start(dir.path(), Some(&both)).await;
    let found = api.get(&path).await.expect(200);
    let again = api.put(&path, &found).await.expect(200);
    let version = |object: &serde_json::Value| object["metadata"]["resourceVersion"].clone();
    assert_ne!(version(&again), version(&found));
    let third = api.put(&path, &again).await.expect(200);
    assert_eq!(version(&third), version(&again), "once is enough");
    api.stop().await;
    let last = format!("{{secretbox: {{keys: [{}]}}}}", key("two", 2));
    let api = start(dir.path(), Some(&last)).await;
    assert_eq!(
        api.get(&path).await.expect(200)["data"]["password"],
        PASSWORD
    );
    api.stop().await;

    // What was put there without encryption is not taken where identity is not allowed.
    let api = start(dir.path(), Some("{identity: {}}")).await;
    let plain = json!({"metadata": {"name": "plain"}, "data": {"password": PASSWORD}});
    api.post(SECRETS, plain).await.expect(201);
    api.stop().await;
    let api = start(dir.path(), Some(&last)).await;
    let refused = api.get(&format!("{SECRETS}/plain")).await.expect(500);
    assert!(!refused.to_string().contains(PASSWORD), "{refused}");
    api.get(&path).await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_resource_that_does_not_exist_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = config(dir.path(), "{identity: {}}");
    let text = std::fs::read_to_string(&file)
        .unwrap()
        .replace("[secrets]", "[secret]");
    std::fs::write(&file, text).unwrap();
    let error = Api::refused(dir.path(), |config| {
        config.encryption_provider_config = Some(file);
    })
    .await;
    assert!(
        error.contains("\"secret\" is no resource of the core group"),
        "{error}"
    );
}

#[tokio::test]
async fn another_configuration_is_used_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let aes = format!("{{aesgcm: {{keys: [{}]}}}}", key("one", 1));
    let box_two = format!("{{secretbox: {{keys: [{}]}}}}", key("two", 2));
    let file = config(dir.path(), "{identity: {}}");
    let api = Api::start_changed(dir.path(), |config| {
        config.encryption_provider_config = Some(file);
        config.encryption_provider_reload = Some(std::time::Duration::from_millis(50));
    })
    .await;
    let secret = |name: &str| json!({"metadata": {"name": name}, "data": {"password": PASSWORD}});
    api.post(SECRETS, secret("s")).await.expect(201);
    let path = format!("{SECRETS}/s");
    let version = |object: &serde_json::Value| object["metadata"]["resourceVersion"].clone();
    // A write without a change brings the object to what is the first provider by now.
    let moves = async || {
        let until = tokio::time::Instant::now() + crate::harness::PATIENCE;
        loop {
            let found = api.get(&path).await.expect(200);
            let again = api.put(&path, &found).await.expect(200);
            if version(&again) != version(&found) {
                let third = api.put(&path, &again).await.expect(200);
                assert_eq!(version(&third), version(&again), "once is enough");
                return;
            }
            assert!(tokio::time::Instant::now() < until, "it is never used");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let mut watch = api
        .watch(&format!(
            "{SECRETS}?watch=true&fieldSelector=metadata.name=s"
        ))
        .await;
    assert_eq!(watch.told().await.0, "ADDED");
    config(dir.path(), &format!("{aes}, {{identity: {{}}}}"));
    moves().await;
    assert!(has(&bytes_in(dir.path()), "k8s:enc:aesgcm:v1:one:"));
    // What can't be used changes nothing.
    config(dir.path(), "{aesgcm: {keys: [{name: x, secret: eA==}]}}");
    api.post(SECRETS, secret("t")).await.expect(201);
    config(dir.path(), &format!("{box_two}, {aes}"));
    moves().await;
    assert!(has(&bytes_in(dir.path()), "k8s:enc:secretbox:v1:two:"));
    // Watches have gone on all the while.
    for _ in 0..2 {
        assert_eq!(watch.told().await, ("MODIFIED".to_owned(), "s".to_owned()));
    }
    // The key of an object that was not written again is missed when the objects are read anew, and found again.
    api.stop().await;
    let file = config(dir.path(), &box_two);
    let api = Api::start_changed(dir.path(), |config| {
        config.encryption_provider_config = Some(file);
        config.encryption_provider_reload = Some(std::time::Duration::from_millis(50));
    })
    .await;
    let other = format!("{SECRETS}/t");
    api.get(&other).await.expect(500);
    config(dir.path(), &format!("{box_two}, {aes}"));
    let until = tokio::time::Instant::now() + crate::harness::PATIENCE;
    while api.get(&other).await.code != 200 {
        assert!(tokio::time::Instant::now() < until, "it is never read");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
