//! Objects that are encrypted in the store, as `--encryption-provider-config` says.
//!
//! What is written goes through the first provider and its first key; what is read, through whichever was used. A value
//! that none of them can open is an object that cannot be read: it is named in errors and in the log, it is neither
//! absent nor taken for what it looks like. The stored form is the stock server's (`k8s:enc:PROVIDER:v1:KEY:` and the
//! sealed bytes); what is sealed is bound to the object's key in the store, so that nobody who can write there puts one
//! object's secret in place of another's. (aescbc binds nothing; the stock documentation advises against it, too.)

mod config;
mod sealing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use config::EncryptionConfigError;

use self::config::Mask;
use self::sealing::NamedKey;

/// What every sealed value begins with.
pub(super) const SEALED: &[u8] = b"k8s:enc:";

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// It cannot be read.
    #[error("--encryption-provider-config: cannot read {path}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its content cannot be used.
    #[error("--encryption-provider-config: {path} {why}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: EncryptionConfigError,
    },
}

/// Which resources are encrypted how.
#[derive(Clone, Debug, Default)]
pub struct Encryption {
    rules: Vec<(Mask, Arc<Transformer>)>,
}

/// How the values of a resource are written and read.
#[derive(Debug)]
pub(crate) struct Transformer {
    providers: Vec<Provider>,
}

impl Default for Transformer {
    fn default() -> Self {
        Self {
            providers: vec![Provider::Identity],
        }
    }
}

#[derive(Debug)]
enum Provider {
    /// As they are.
    Identity,
    /// Sealed with one of the keys.
    Sealed {
        /// `k8s:enc:NAME:v1:`.
        prefix: String,
        keys: Vec<NamedKey>,
    },
}

/// A value as it was before it was sealed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) value: Bytes,
    /// Whether it would be written in another way now.
    pub(crate) stale: bool,
}

impl Encryption {
    /// Reads the file.
    ///
    /// # Errors
    /// Whatever in it would have no effect, or another one than its writer meant.
    pub fn load(path: &Path) -> Result<Self, EncryptionError> {
        let text = std::fs::read_to_string(path).map_err(|source| EncryptionError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|why| EncryptionError::Content {
            path: path.to_owned(),
            why,
        })
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// See [`Encryption::load`].
    pub fn parse(text: &str) -> Result<Self, EncryptionConfigError> {
        Ok(Self {
            rules: config::parse(text)?,
        })
    }

    /// The resources of the core group that are named without a wildcard: they can be checked against those there are.
    pub(crate) fn core_resources(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .filter_map(|(mask, _)| mask.core_resource())
    }

    /// How the values of a storage name are written and read.
    pub(super) fn of(&self, storage: &str) -> Arc<Transformer> {
        let (group, plural) = storage.rsplit_once('/').unwrap_or(("", storage));
        let group = match group.strip_prefix("custom/") {
            Some(group) => group,
            None if group == "core" => "",
            None => group,
        };
        let rule = self
            .rules
            .iter()
            .find(|(mask, _)| mask.takes(group, plural));
        rule.map(|(_, transformer)| Arc::clone(transformer))
            .unwrap_or_default()
    }
}

impl Transformer {
    /// Whether it takes everything as it is.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.providers.as_slice(), [Provider::Identity])
    }

    /// The value as it is stored under a key.
    ///
    /// # Errors
    /// When it cannot be sealed: it is not written then.
    pub(super) fn seal(&self, key: &str, value: Bytes) -> Result<Bytes, String> {
        match self.providers.first() {
            None | Some(Provider::Identity) => Ok(value),
            Some(Provider::Sealed { prefix, keys }) => {
                let first = keys.first().ok_or("the provider has no key")?;
                let sealed = first.seal(key.as_bytes(), &value)?;
                let mut all =
                    Vec::with_capacity(prefix.len() + first.name.len() + 1 + sealed.len());
                all.extend_from_slice(prefix.as_bytes());
                all.extend_from_slice(first.name.as_bytes());
                all.push(b':');
                all.extend_from_slice(&sealed);
                Ok(all.into())
            }
        }
    }

    /// The value that is stored under a key, opened.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(super) fn open(&self, key: &str, stored: &Bytes) -> Result<Opened, String> {
        if !stored.starts_with(SEALED) {
            let plain = self
                .providers
                .iter()
                .position(|provider| matches!(provider, Provider::Identity));
            return match plain {
                Some(at) => Ok(Opened {
                    value: stored.clone(),
                    stale: at > 0,
                }),
                None => Err(
                    "it is stored without encryption, and the providers of its resource in \
                     --encryption-provider-config do not have identity among them"
                        .to_owned(),
                ),
            };
        }
        let mut known = false;
        for (n, provider) in self.providers.iter().enumerate() {
            let Provider::Sealed { prefix, keys } = provider else {
                continue;
            };
            let Some(rest) = stored.strip_prefix(prefix.as_bytes()) else {
                continue;
            };
            for (m, named) in keys.iter().enumerate() {
                let sealed = rest
                    .strip_prefix(named.name.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b":"));
                let Some(sealed) = sealed else { continue };
                known = true;
                if let Some(value) = named.open(key.as_bytes(), sealed) {
                    return Ok(Opened {
                        value: value.into(),
                        stale: n > 0 || m > 0,
                    });
                }
            }
        }
        let with = describe(stored);
        Err(if known {
            format!(
                "it cannot be decrypted: the key of the name that it was encrypted with ({with}) is another one, or the \
                 stored value was changed"
            )
        } else {
            format!(
                "it is encrypted ({with}), and no provider of its resource in --encryption-provider-config has that key"
            )
        })
    }
}

/// The provider and key that a sealed value names.
fn describe(stored: &[u8]) -> String {
    let start = &stored[..stored.len().min(200)];
    let parts = start.split(|byte| *byte == b':').skip(2).take(3);
    let parts: Vec<_> = parts.map(|part| String::from_utf8_lossy(part)).collect();
    match parts.as_slice() {
        [provider, _, key] => format!("provider {provider:?}, key {key:?}"),
        _ => "in an unknown form".to_owned(),
    }
}

/// One that seals by each provider, and reads what the others have sealed.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz_transformers() -> Vec<Arc<Transformer>> {
    const KEYS: &str = "{keys: [{name: k, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}";
    let first = ["aesgcm", "secretbox", "aescbc"];
    let configurations = first.map(|first| {
        let rest: Vec<&str> = ["aesgcm", "secretbox", "aescbc"]
            .into_iter()
            .filter(|other| *other != first)
            .collect();
        let mut text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: [secrets]\n  providers:\n  - {first}: {KEYS}\n"
        );
        for other in rest {
            text.push_str(&format!("  - {other}: {KEYS}\n"));
        }
        text.push_str("  - identity: {}\n");
        Encryption::parse(&text).map(|encryption| encryption.of("core/secrets"))
    });
    configurations.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
