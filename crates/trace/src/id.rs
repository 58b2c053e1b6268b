//! Ids of traces and spans, and how they travel.

use std::fmt;

use sha2::{Digest, Sha256};

/// A trace's id; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span's id; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<[u8; 16]>()).or_one()
    }

    fn or_one(self) -> Self {
        if self.0 == [0; 16] {
            return Self([1; 16]);
        }
        self
    }

    /// Its bytes, as OTLP has them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is one of so many of a million. The same for everybody: it is looked at the last 56 bits, which are
    /// random by W3C Trace Context, and in a UID as well.
    #[must_use]
    pub fn is_sampled(&self, per_million: u32) -> bool {
        let tail = self.0[9..]
            .iter()
            .fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
        (tail * 1_000_000) >> 56 < u128::from(per_million)
    }
}

impl SpanId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<[u8; 8]>()).or_one()
    }

    fn or_one(self) -> Self {
        if self.0 == [0; 8] {
            return Self([1; 8]);
        }
        self
    }

    /// Its bytes, as OTLP has them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads 16 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 8];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        (bytes != [0; 8]).then_some(Self(bytes))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// The trace and the root span of the start of the pod with this UID.
#[must_use]
pub fn pod(uid: &str) -> (TraceId, SpanId) {
    let digest = Sha256::digest(format!("berth pod start {uid}"));
    let mut root = [0; 8];
    root.copy_from_slice(&digest[16..24]);
    let digits = uid.replace('-', "");
    let mut bytes = [0; 16];
    // A static pod's is what its file's author wrote.
    if hex::decode_to_slice(&digits, &mut bytes).is_err() {
        bytes.copy_from_slice(&digest[..16]);
    }
    (TraceId(bytes).or_one(), SpanId(root).or_one())
}

/// Where somebody is who calls: a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace: TraceId,
    /// The span in which the call is made.
    pub span: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl SpanContext {
    /// Reads a `traceparent`; none for one that is not well-formed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let lower = |text: &str| !text.bytes().any(|b| b.is_ascii_uppercase());
        let mut parts = text.trim().split('-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, flags) = (parts.next()?, parts.next()?);
        // Later versions may have more behind it.
        let known = version == "00" && parts.next().is_none();
        let later = version != "00" && version != "ff" && version.len() == 2;
        if !(known || later) || !lower(text) || !version.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let (mut id, mut bits) = ([0; 16], [0; 1]);
        hex::decode_to_slice(trace, &mut id).ok()?;
        hex::decode_to_slice(flags, &mut bits).ok()?;
        (id != [0; 16]).then_some(Self {
            trace: TraceId(id),
            span: SpanId::parse(span)?,
            sampled: bits[0] & 1 == 1,
        })
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_pods_trace_is_its_uid() {
        let uid = "7b2a41c5-0d8b-4c55-9d8e-64a5a6b1c0ff";
        let (trace, root) = pod(uid);
        assert_eq!(trace.to_string(), "7b2a41c50d8b4c559d8e64a5a6b1c0ff");
        assert_eq!((trace, root), pod(uid));
        assert_ne!(root, pod("7b2a41c5-0d8b-4c55-9d8e-64a5a6b1c0fe").1);
        for other in [
            "",
            "pod-1",
            "7b2a41c5",
            "00000000-0000-0000-0000-000000000000",
        ] {
            let (trace, root) = pod(other);
            assert!(trace.0 != [0; 16] && root.0 != [0; 8], "{other:?}");
        }
    }

    #[test]
    fn traceparents_are_those_of_w3c() {
        let context = SpanContext::parse(TEXT).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), TEXT);
        let quiet = TEXT.replace("-01", "-00");
        assert!(!SpanContext::parse(&quiet).unwrap().sampled);
        assert!(SpanContext::parse(&TEXT.replacen("00", "cc", 1)).is_some());
        for wrong in [
            "",
            "00",
            &TEXT.to_uppercase(),
            &TEXT.replacen("00", "ff", 1),
            &format!("{TEXT}-more"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        ] {
            assert_eq!(SpanContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn so_many_of_a_million_are_sampled() {
        let uid = |n: u64| pod(&format!("{n:08x}-0000-4000-8000-{:012x}", n * 0x9e37_79b9)).0;
        let found = |rate| (0..4000).filter(|n| uid(*n).is_sampled(rate)).count();
        assert_eq!((found(0), found(1_000_000)), (0, 4000));
        // By what is random of a UID, and not by its version's bits.
        let ids: Vec<TraceId> = (0..4000).map(|_| TraceId::random()).collect();
        let quarter = ids.iter().filter(|id| id.is_sampled(250_000)).count();
        assert!((800..1200).contains(&quarter), "{quarter}");
    }
}
