//! Semantic versions, as Kubernetes' `semver()` takes them.

use std::cmp::Ordering;

/// A version: `1.2.3-rc.1+build`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub(crate) numbers: [u64; 3],
    pre: Vec<String>,
}

impl Semver {
    /// Parses a version; `normalize` takes a leading `v`, missing parts and leading zeros.
    pub(crate) fn parse(text: &str, normalize: bool) -> Result<Self, String> {
        let normalized = if normalize {
            normalized(text)
        } else {
            text.to_owned()
        };
        if normalized.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let (version, build) = normalized
            .split_once('+')
            .map_or((&*normalized, None), |(v, b)| (v, Some(b)));
        let (core, pre) = version
            .split_once('-')
            .map_or((version, None), |(core, pre)| (core, Some(pre)));
        let parts: Vec<&str> = core.split('.').collect();
        let [major, minor, patch] = &parts[..] else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let mut numbers = [0; 3];
        for ((slot, part), name) in numbers
            .iter_mut()
            .zip([major, minor, patch])
            .zip(["major", "minor", "patch"])
        {
            *slot = number(part).map_err(|why| match why {
                Wrong::Zeros => format!(
                    "{} number must not contain leading zeroes {part:?}",
                    capital(name)
                ),
                Wrong::Characters => {
                    format!("Invalid character(s) found in {name} number {part:?}")
                }
                Wrong::Range => format!("strconv.ParseUint: parsing {part:?}: value out of range"),
            })?;
        }
        let alphanumeric = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let pre: Vec<String> = pre
            .map(|pre| pre.split('.').map(str::to_owned).collect())
            .unwrap_or_default();
        for part in &pre {
            if !alphanumeric(part) {
                return Err(format!("Invalid character(s) found in prerelease {part:?}"));
            }
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            if digits && part.len() > 1 && part.starts_with('0') {
                return Err(format!(
                    "Numeric PreRelease version must not contain leading zeroes {part:?}"
                ));
            }
        }
        if let Some(part) =
            build.and_then(|build| build.split('.').find(|part| !alphanumeric(part)))
        {
            return Err(format!(
                "Invalid character(s) found in build meta data {part:?}"
            ));
        }
        Ok(Self { numbers, pre })
    }

    /// The order of two versions; what is behind `+` doesn't count.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare_pre(&self.pre, &other.pre),
            }
        })
    }
}

fn compare_pre(a: &[String], b: &[String]) -> Ordering {
    let numeric = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    for (a, b) in a.iter().zip(b) {
        let order = match (numeric(a), numeric(b)) {
            // Without leading zeros, the longer number is the larger one.
            (true, true) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

enum Wrong {
    Zeros,
    Characters,
    Range,
}

fn number(part: &str) -> Result<u64, Wrong> {
    if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Wrong::Characters);
    }
    if part.len() > 1 && part.starts_with('0') {
        return Err(Wrong::Zeros);
    }
    part.parse().map_err(|_| Wrong::Range)
}

fn capital(name: &str) -> String {
    let mut characters = name.chars();
    characters
        .next()
        .map(|first| first.to_ascii_uppercase())
        .into_iter()
        .chain(characters)
        .collect()
}

fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in &mut parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = part.split_at(digits);
        if digits > 1 {
            let stripped = number.trim_start_matches('0');
            *part = format!("{}{rest}", if stripped.is_empty() { "0" } else { stripped });
        }
    }
    // What is behind a short version, like the `-rc` of `1.2-rc`, can't be moved behind what is added.
    if parts.len() < 3 && !parts.last().is_some_and(|part| part.contains(['+', '-'])) {
        parts.resize(3, "0".to_owned());
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::Semver;

    #[test]
    fn versions_order_as_semver_says() {
        let order = [
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-2x",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0",
        ];
        let mut parsed: Vec<Semver> = order
            .iter()
            .map(|text| Semver::parse(text, false).unwrap())
            .collect();
        parsed.sort_by(Semver::compare);
        let expected = [
            "1.0.0-2x",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0",
        ];
        assert_eq!(
            parsed,
            expected.map(|text| Semver::parse(text, false).unwrap())
        );
        for (text, strict, normalized) in [
            ("1.2.3", true, true),
            ("v1.2", false, true),
            ("01.2.3", false, true),
            ("1.2.3-01", false, false),
            ("", false, false),
            ("1.2.x", false, false),
            ("1.2.3+b.1", true, true),
        ] {
            assert_eq!(Semver::parse(text, false).is_ok(), strict, "{text}");
            assert_eq!(Semver::parse(text, true).is_ok(), normalized, "{text}");
        }
    }
}
