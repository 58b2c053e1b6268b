//! A look at values of a store by the rules of the server, for those who check one without serving it.

use std::sync::Arc;

use bytes::Bytes;

use super::encryption::{Encryption, SEALED};
use super::{Stored, key};

/// How values are looked at.
#[derive(Debug)]
pub struct StoredValues {
    /// None takes what is encrypted as it is.
    encryption: Option<Encryption>,
}

impl StoredValues {
    /// Without keys, encrypted values are only counted.
    #[must_use]
    pub fn new(encryption: Option<Encryption>) -> Self {
        Self { encryption }
    }

    /// Whether a value that the server could serve under this key is encrypted.
    ///
    /// # Errors
    /// Why the server could not serve it.
    pub fn check(&self, key: &str, value: &Bytes) -> Result<bool, String> {
        if key::is_guard(key) {
            return Ok(false);
        }
        let storage = key::storage_of(key).ok_or("no kind has objects under such a key")?;
        let encrypted = value.starts_with(SEALED);
        let plain = match &self.encryption {
            None if encrypted => return Ok(true),
            None => value.clone(),
            Some(encryption) => encryption.of(storage).open(key, value)?.value,
        };
        let storage: Arc<str> = storage.into();
        Stored::read(&storage, key, &plain).map(|_| encrypted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_object_of_its_key() {
        let values = StoredValues::new(None);
        let check = |key: &str, value: &'static str| {
            values.check(key, &Bytes::from_static(value.as_bytes()))
        };
        let pod = "/registry/core/pods/n/p";
        let good = r#"{"metadata": {"name": "p", "namespace": "n"}}"#;
        assert_eq!(check(pod, good), Ok(false));
        assert_eq!(check(pod, "k8s:enc:aesgcm:v1:a:..."), Ok(true));
        assert_eq!(check("/registry/guards/n", "{}"), Ok(false));
        for (key, value) in [
            ("/registry/core/pods/n/q", good),
            (pod, "{"),
            (pod, "{}"),
            ("/registry/pods", good),
            ("/other", good),
        ] {
            assert!(check(key, value).is_err(), "{key} {value}");
        }
        let values = StoredValues::new(Some(Encryption::default()));
        let sealed = Bytes::from_static(b"k8s:enc:aesgcm:v1:a:...");
        assert!(values.check(pod, &sealed).is_err());
    }
}
