//! Image references in the form that Docker made common and every Kubernetes manifest uses:
//! `[registry[:port]/]path[:tag][@digest]`, with `docker.io`, `library/` and `latest` left out.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::ImageError;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// A normalized reference: registry and whole path are always there, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry as named in references: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path inside the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and path: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// The name the image gets in the store: `repository:tag`, none when a digest was asked for
    /// (a digest decides alone, as with containerd: the tag beside it was never resolved).
    pub fn repo_tag(&self) -> Option<String> {
        match (&self.digest, &self.tag) {
            (None, Some(tag)) => Some(format!("{}:{tag}", self.repository())),
            _ => None,
        }
    }

    /// `repository@digest` for a digest of this repository.
    pub fn repo_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.repository())
    }

    /// What stands after `/manifests/` in a registry's URL: the digest if there is one, else the tag.
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let bad = |reason: &'static str| ImageError::BadReference {
            reference: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(bad("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| bad("after @ a sha256 digest must follow"))?;
                (rest, Some(digest))
            }
        };
        let (name, tag) = match rest.rfind(':') {
            Some(at) if !rest[at..].contains('/') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(bad(
                "a tag has 1 to 128 of A-Z a-z 0-9 _ . - and begins with none of . -",
            ));
        }
        let (registry, path) = split_registry(name);
        if !is_registry(&registry) {
            return Err(bad(
                "the registry is no host name or address, with an optional port",
            ));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("the name must be lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(bad(
                "the name is made of parts of a-z 0-9, with . _ __ - only between them, joined by /",
            ));
        }
        if registry.len() + path.len() + 1 > 255 {
            return Err(bad("the name is longer than 255 characters"));
        }
        if digest.is_none() && tag.is_none() && Digest::from_hex(name).is_some() {
            return Err(bad("64 hexadecimal digits are an image id, not a name"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self {
            registry,
            path,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first part is a registry if it looks like a host: has a dot or a port, or is `localhost`,
/// or has upper case letters, which no path may have.
fn split_registry(name: &str) -> (String, String) {
    let (registry, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" {
        DEFAULT_REGISTRY
    } else {
        registry
    };
    if registry == DEFAULT_REGISTRY && !path.contains('/') {
        return (registry.to_owned(), format!("library/{path}"));
    }
    (registry.to_owned(), path.to_owned())
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag
            .bytes()
            .enumerate()
            .all(|(i, b)| word(b) || (i > 0 && matches!(b, b'.' | b'-')))
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rfind(':') {
        Some(at) if !registry.ends_with(']') => (&registry[..at], Some(&registry[at + 1..])),
        _ => (registry, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// `[a-z0-9]+` parts joined by one of `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let alnum = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let long = format!("example.com/a/b:v1@{digest}");
        for (text, wanted) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
            ),
            ("grafana/grafana", "docker.io/grafana/grafana:latest"),
            ("localhost/x", "localhost/x:latest"),
            (
                "127.0.0.1:5000/e2e/pause:3.9",
                "127.0.0.1:5000/e2e/pause:3.9",
            ),
            ("[::1]:5000/pause", "[::1]:5000/pause:latest"),
            ("registry.k8s.io/pause", "registry.k8s.io/pause:latest"),
            ("UPPER/x", "UPPER/x:latest"),
            (&long, &long),
        ] {
            assert_eq!(
                text.parse::<Reference>().unwrap().to_string(),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn a_digest_needs_no_tag_and_makes_no_name() {
        let digest = Digest::of(b"x");
        let by_digest: Reference = format!("busybox@{digest}").parse().unwrap();
        assert_eq!(
            (by_digest.tag(), by_digest.target()),
            (None, digest.as_str())
        );
        let both: Reference = format!("busybox:1@{digest}").parse().unwrap();
        assert_eq!((both.repo_tag(), both.target()), (None, digest.as_str()));
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "Busybox",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "a..b",
            "-a",
            "a-",
            "a.b:99999/c",
            "a___b",
            "../x",
            "a:b c",
            &"f".repeat(64),
            &"a".repeat(256),
            "x-.y/z",
            "[::g]/x",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
        }
    }
}
