//! Content digests, the names of everything in the store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::ImageError;

/// A sha256 digest in its OCI form `sha256:<64 lower case hex digits>`.
///
/// Other algorithms are refused when parsed: no registry in use needs them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Box<str>);

const PREFIX: &str = "sha256:";

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    /// The digest of everything that was fed to a hasher.
    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        Self(format!("{PREFIX}{}", hex::encode(hasher.finalize())).into())
    }

    /// The digest with this hexadecimal part, if it is one.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let ok = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ok.then(|| Self(format!("{PREFIX}{hex}").into()))
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// `sha256:...`, as the OCI documents write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The chain id of the layer with diff id `self` on top of `parent` (OCI image spec, "Layer ChainID").
    pub fn chained(&self, parent: Option<&Digest>) -> Digest {
        match parent {
            None => self.clone(),
            Some(parent) => Digest::of(format!("{parent} {self}").as_bytes()),
        }
    }
}

impl FromStr for Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        text.strip_prefix(PREFIX)
            .and_then(Self::from_hex)
            .ok_or_else(|| ImageError::BadDigest {
                text: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Digest {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0.into()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_sha256() {
        let hex = "a".repeat(64);
        assert_eq!(
            format!("sha256:{hex}").parse::<Digest>().unwrap().hex(),
            hex
        );
        for bad in [
            "",
            "sha256:",
            "sha256:AB",
            &format!("sha512:{hex}"),
            &format!("sha256:{}", "A".repeat(64)),
            &hex,
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn first_layer_chain_is_its_diff() {
        let a = Digest::of(b"a");
        let b = Digest::of(b"b");
        assert_eq!(a.chained(None), a);
        assert_eq!(
            b.chained(Some(&a)),
            Digest::of(format!("{a} {b}").as_bytes())
        );
    }
}
