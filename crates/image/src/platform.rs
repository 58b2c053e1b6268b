//! Which of an index's images fits this machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ImageError;

/// An OCI platform: operating system, architecture in Go's names, variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`; anything else is never chosen.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v8`, `v7`, `v3`, ...; none means the architecture's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: host_variant(),
        }
    }

    /// How well an image for `offered` runs on `self`: higher is better, none is not at all.
    pub(crate) fn rank(&self, offered: &Platform) -> Option<u32> {
        let level = |variant: &Option<String>| -> Option<u32> {
            match variant.as_deref().unwrap_or("") {
                "" => Some(0),
                text => text.strip_prefix('v').unwrap_or(text).parse().ok(),
            }
        };
        if self.os != offered.os || self.architecture != normal_architecture(&offered.architecture)
        {
            return None;
        }
        let lowest = match self.architecture.as_str() {
            "amd64" => 1,
            "arm64" => 8,
            "arm" => 6,
            _ => 0,
        };
        let able = level(&self.variant)?.max(lowest);
        let needed = level(&offered.variant)?.max(lowest);
        (needed <= able).then_some(needed + 1)
    }
}

/// Go's names for what some tools write in the kernel's.
fn normal_architecture(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(target_arch = "x86_64")]
fn host_variant() -> Option<String> {
    let v2 = std::is_x86_feature_detected!("sse4.2") && std::is_x86_feature_detected!("popcnt");
    let v3 = v2
        && std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("fma");
    let v4 =
        v3 && std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vl");
    let level = if v4 {
        "v4"
    } else if v3 {
        "v3"
    } else if v2 {
        "v2"
    } else {
        return None;
    };
    Some(level.to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn host_variant() -> Option<String> {
    None
}

impl FromStr for Platform {
    type Err = ImageError;

    /// `os/architecture[/variant]`.
    fn from_str(text: &str) -> Result<Self, ImageError> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if !os.is_empty() && !architecture.is_empty() =>
            {
                Ok(Self {
                    os: os.to_owned(),
                    architecture: normal_architecture(architecture).to_owned(),
                    variant: variant.map(str::to_owned),
                })
            }
            _ => Err(ImageError::BadPlatform {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(host: &str, offered: &str) -> Option<u32> {
        host.parse::<Platform>()
            .unwrap()
            .rank(&offered.parse().unwrap())
    }

    #[test]
    fn the_best_variant_that_runs_wins() {
        assert!(
            rank("linux/amd64/v3", "linux/amd64/v3") > rank("linux/amd64/v3", "linux/amd64/v2")
        );
        assert!(rank("linux/amd64/v3", "linux/amd64/v2") > rank("linux/amd64/v3", "linux/amd64"));
        assert_eq!(rank("linux/amd64/v2", "linux/amd64/v3"), None);
        assert!(rank("linux/arm64", "linux/arm64/v8").is_some());
        assert_eq!(rank("linux/amd64", "linux/arm64"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert!(rank("linux/amd64", "linux/x86_64").is_some());
    }
}
