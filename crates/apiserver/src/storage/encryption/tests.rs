use super::*;

const KEY: &str = "/registry/core/secrets/n/s";

fn secret(byte: u8, length: usize) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(vec![byte; length])
}

fn config(resources: &str, providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{resources}]\n  \
         providers: [{providers}]\n"
    )
}

fn provider(method: &str, keys: &[(&str, u8)]) -> String {
    let keys: Vec<String> = keys
        .iter()
        .map(|(name, byte)| format!("{{name: {name}, secret: {}}}", secret(*byte, 32)))
        .collect();
    format!("{{{method}: {{keys: [{}]}}}}", keys.join(","))
}

fn of(providers: &str) -> Arc<Transformer> {
    Encryption::parse(&config("secrets", providers))
        .unwrap()
        .of("core/secrets")
}

fn plain() -> Bytes {
    Bytes::from_static(
        br#"{"metadata": {"name": "s", "namespace": "n"}, "data": {"p": "aHVudGVyMg=="}}"#,
    )
}

#[test]
fn what_is_sealed_is_opened_and_shows_nothing() {
    for method in ["aesgcm", "aescbc", "secretbox"] {
        let transformer = of(&provider(method, &[("one", 1)]));
        let sealed = transformer.seal(KEY, plain()).unwrap();
        let prefix = format!("k8s:enc:{method}:v1:one:");
        assert!(sealed.starts_with(prefix.as_bytes()));
        assert!(!sealed.windows(8).any(|w| w == b"aHVudGVy"));
        let opened = transformer.open(KEY, &sealed).unwrap();
        assert_eq!((opened.value, opened.stale), (plain(), false));
        assert_ne!(
            transformer.seal(KEY, plain()).unwrap(),
            sealed,
            "no nonce twice"
        );
        for at in [prefix.len(), sealed.len() - 1] {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            let opened = transformer.open(KEY, &changed.into());
            // aescbc notices only what breaks its padding; the JSON is then broken, or another.
            assert!(opened.is_err() || (method == "aescbc" && opened.unwrap().value != plain()));
        }
        for cut in [prefix.len(), prefix.len() + 5, sealed.len() - 17] {
            assert!(transformer.open(KEY, &sealed.slice(..cut)).is_err());
        }
    }
}

#[test]
fn every_length_of_key_works() {
    for (method, length) in [
        ("aesgcm", 16),
        ("aesgcm", 24),
        ("aesgcm", 32),
        ("aescbc", 16),
        ("aescbc", 24),
        ("aescbc", 32),
    ] {
        let key = secret(9, length);
        let transformer = of(&format!(
            "{{{method}: {{keys: [{{name: k, secret: {key}}}]}}}}"
        ));
        let sealed = transformer.seal(KEY, plain()).unwrap();
        assert_eq!(transformer.open(KEY, &sealed).unwrap().value, plain());
    }
}

#[test]
fn one_objects_secret_is_not_taken_for_anothers() {
    let transformer = of(&provider("aesgcm", &[("one", 1)]));
    let sealed = transformer.seal(KEY, plain()).unwrap();
    let error = transformer
        .open("/registry/core/secrets/n/other", &sealed)
        .unwrap_err();
    assert!(error.contains("stored value was changed"), "{error}");
}

#[test]
fn keys_are_rotated_by_their_order() {
    let old = of(&provider("aesgcm", &[("one", 1)]));
    let sealed = old.seal(KEY, plain()).unwrap();
    let both = of(&provider("aesgcm", &[("two", 2), ("one", 1)]));
    let opened = both.open(KEY, &sealed).unwrap();
    assert_eq!((opened.value, opened.stale), (plain(), true));
    let again = both.seal(KEY, plain()).unwrap();
    assert!(again.starts_with(b"k8s:enc:aesgcm:v1:two:"));
    let new = of(&provider("aesgcm", &[("two", 2)]));
    assert!(!new.open(KEY, &again).unwrap().stale);
    let error = new.open(KEY, &sealed).unwrap_err();
    assert!(
        error.contains(r#"provider "aesgcm", key "one""#) && error.contains("has that key"),
        "{error}"
    );
    let other = of(&provider("aesgcm", &[("one", 3)]));
    let error = other.open(KEY, &sealed).unwrap_err();
    assert!(error.contains("is another one"), "{error}");
}

#[test]
fn what_is_not_encrypted_is_read_only_where_identity_is() {
    let strict = of(&provider("secretbox", &[("one", 1)]));
    let error = strict.open(KEY, &plain()).unwrap_err();
    assert!(error.contains("identity"), "{error}");
    let lenient = of(&format!(
        "{}, {{identity: {{}}}}",
        provider("secretbox", &[("one", 1)])
    ));
    let opened = lenient.open(KEY, &plain()).unwrap();
    assert_eq!((opened.value, opened.stale), (plain(), true));
    // Switched off again: what is encrypted is still read, and written plain.
    let sealed = lenient.seal(KEY, plain()).unwrap();
    let off = of(&format!(
        "{{identity: {{}}}}, {}",
        provider("secretbox", &[("one", 1)])
    ));
    assert!(off.open(KEY, &sealed).unwrap().stale);
    assert_eq!(off.seal(KEY, plain()).unwrap(), plain());
    // Without any configuration it is not taken for an object.
    let error = Transformer::default().open(KEY, &sealed).unwrap_err();
    assert!(error.contains("it is encrypted"), "{error}");
    assert!(
        Transformer::default()
            .open(KEY, &Bytes::from_static(b"k8s:enc:"))
            .is_err()
    );
}

#[test]
fn resources_are_chosen_by_name_and_wildcard() {
    let text = format!(
        "{}- resources: ['widgets.example.com', '*.apps']\n  providers: [{{identity: {{}}}}]\n- resources: ['*.*']\n  \
         providers: [{}]\n",
        config("secrets, configmaps", &provider("aesgcm", &[("a", 1)])),
        provider("secretbox", &[("b", 2)]),
    );
    let encryption = Encryption::parse(&text).unwrap();
    let form = |storage: &str| {
        let sealed = encryption.of(storage).seal(KEY, plain()).unwrap();
        String::from_utf8_lossy(&sealed[..16]).into_owned()
    };
    assert!(form("core/secrets").starts_with("k8s:enc:aesgcm"));
    assert!(form("core/configmaps").starts_with("k8s:enc:aesgcm"));
    assert!(form("custom/example.com/widgets").starts_with('{'));
    assert!(form("apps/deployments").starts_with('{'));
    assert!(form("core/pods").starts_with("k8s:enc:secretbo"));
    assert!(form("custom/other.com/secrets").starts_with("k8s:enc:secretbo"));
    let core: Vec<&str> = encryption.core_resources().collect();
    assert_eq!(core, ["secrets", "configmaps"]);
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let good = provider("aesgcm", &[("a", 1)]);
    let short = format!(
        "{{aesgcm: {{keys: [{{name: a, secret: {}}}]}}}}",
        secret(1, 8)
    );
    let short_box = format!(
        "{{secretbox: {{keys: [{{name: a, secret: {}}}]}}}}",
        secret(1, 16)
    );
    for (resources, providers, part) in [
        ("secrets", "", "must have a provider"),
        ("", good.as_str(), "must name a resource"),
        ("secrets, secrets", &good, "has no effect"),
        ("'*.*', secrets", &good, "has no effect"),
        ("'*'", &good, "use '*.'"),
        ("'secrets.*'", &good, "needs one for the resource"),
        ("pods/status", &good, "subresources"),
        ("Secrets", &good, "lower case"),
        ("events.events.k8s.io", &good, "use 'events'"),
        ("secrets", "{aesgcm: {keys: []}}", "must have a key"),
        ("secrets", &short, "has 8 bytes"),
        ("secrets", &short_box, "has 16 bytes"),
        ("secrets", "{kms: {name: x}}", "not reached by this server"),
        ("secrets", "{}", "exactly one of"),
        (
            "secrets",
            "{identity: {}, aesgcm: {keys: []}}",
            "exactly one of",
        ),
        ("secrets", "{aesgmc: {keys: []}}", "unknown field"),
        (
            "secrets",
            "{secretbox: {keys: [{name: 'a:b', secret: AAAA}]}}",
            "without colons",
        ),
        (
            "secrets",
            "{secretbox: {keys: [{name: a, secret: '***'}]}}",
            "must be base64",
        ),
    ] {
        let error = Encryption::parse(&config(resources, providers))
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{resources} {providers}: {error}");
    }
    let twice = provider("aesgcm", &[("a", 1), ("a", 2)]);
    let error = Encryption::parse(&config("secrets", &twice)).unwrap_err();
    assert!(error.to_string().contains("name of another key"));
    for text in ["", "a: [", "apiVersion: v1\nkind: EncryptionConfiguration"] {
        assert!(Encryption::parse(text).is_err(), "{text}");
    }
}
