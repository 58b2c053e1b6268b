//! `kind: TracingConfiguration` of `apiserver.config.k8s.io`, as the stock server reads it, and OpenTelemetry's variables.

use std::path::{Path, PathBuf};

use serde::Deserialize;

const VERSIONS: [&str; 2] = [
    "apiserver.config.k8s.io/v1",
    "apiserver.config.k8s.io/v1beta1",
];
const KIND: &str = "TracingConfiguration";
/// Where a collector on the same machine listens.
const ENDPOINT: &str = "localhost:4317";
const MILLION: u32 = 1_000_000;

/// Where traces go, and how many requests have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// `host:port` of a collector that speaks OTLP over gRPC, without TLS.
    pub endpoint: String,
    /// Of a million requests, and of a million pods, so many have a trace, beside those that continue one.
    pub sampling_rate_per_million: u32,
    /// Headers that the collector wants.
    pub headers: Vec<(String, String)>,
    /// Attributes of the resource that spans are of, besides the service's name and version.
    pub resource: Vec<(String, String)>,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TracingConfigError {
    /// The file cannot be read.
    #[error("--tracing-config-file: unable to read tracing configuration from {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not YAML or JSON of the wanted shape.
    #[error("--tracing-config-file: {path:?}: unable to decode tracing configuration data: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A field has a wrong value.
    #[error("--tracing-config-file: {path:?}: {field}: Invalid value: {value:?}: {why}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A variable has a value that cannot be followed.
    #[error("{name}={value:?}: {why}")]
    Variable {
        /// Which.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    endpoint: Option<String>,
    sampling_rate_per_million: Option<i64>,
}

impl TracingConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is none of that kind, or something in it cannot be followed.
    pub fn load(path: &Path) -> Result<Self, TracingConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| TracingConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, TracingConfigError> {
        let malformed = |why: String| TracingConfigError::Malformed {
            path: path.to_owned(),
            why,
        };
        let file: File = serde_saphyr::from_str(text).map_err(|e| malformed(e.to_string()))?;
        if !VERSIONS.contains(&file.api_version.as_str()) || file.kind != KIND {
            let found = format!("it is {}, Kind={}", file.api_version, file.kind);
            return Err(malformed(found));
        }
        let field = |field, value: String, why| TracingConfigError::Field {
            path: path.to_owned(),
            field,
            value,
            why,
        };
        let endpoint = file.endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
        check_endpoint(&endpoint).map_err(|why| field("endpoint", endpoint.clone(), why))?;
        let asked = file.sampling_rate_per_million.unwrap_or(0);
        let rate = u32::try_from(asked).ok().filter(|rate| *rate <= MILLION);
        let rate = rate.ok_or_else(|| {
            let why = "sampling rate must be positive and at most 1000000";
            field("samplingRatePerMillion", asked.to_string(), why)
        })?;
        Ok(Self {
            endpoint,
            sampling_rate_per_million: rate,
            headers: Vec::new(),
            resource: Vec::new(),
        })
    }

    /// What is to be sent along, by OpenTelemetry's variables. `variable` looks one up.
    ///
    /// # Errors
    /// When one of them is no list of `key=value`.
    pub fn with_variables(
        mut self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TracingConfigError> {
        for name in [
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        ] {
            for (key, value) in pairs(name, variable(name))? {
                let key = key.to_ascii_lowercase();
                let fine = http::HeaderName::try_from(&key).is_ok()
                    && http::HeaderValue::try_from(&value).is_ok();
                if !fine {
                    // The value may be a secret.
                    return Err(TracingConfigError::Variable {
                        name,
                        value: key,
                        why: "no such header can be sent",
                    });
                }
                self.headers.retain(|(known, _)| *known != key);
                self.headers.push((key, value));
            }
        }
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        self.resource = pairs(name, variable(name))?;
        // Each part has a name of its own.
        self.resource.retain(|(key, _)| key != "service.name");
        Ok(self)
    }

    /// What OpenTelemetry's variables say; none when they name no collector. `variable` looks one up.
    ///
    /// # Errors
    /// When one of them asks for what cannot be done.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, TracingConfigError> {
        let variable = &variable;
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let first =
            |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, get(name)?)));
        let endpoints = [
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ];
        let Some((name, value)) = first(endpoints) else {
            return Ok(None);
        };
        let refuse = |name, value: &str, why| TracingConfigError::Variable {
            name,
            value: value.to_owned(),
            why,
        };
        let endpoint = value.strip_prefix("http://").unwrap_or(&value);
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        check_endpoint(&endpoint).map_err(|why| refuse(name, &value, why))?;
        let protocols = [
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ];
        if let Some((name, protocol)) = first(protocols).filter(|(_, value)| value != "grpc") {
            return Err(refuse(name, &protocol, "only grpc is built in"));
        }
        let sampler = get("OTEL_TRACES_SAMPLER");
        let rate = match sampler
            .as_deref()
            .map(|s| s.trim_start_matches("parentbased_"))
        {
            None | Some("always_on") => MILLION,
            Some("always_off") => 0,
            Some("traceidratio") => {
                let name = "OTEL_TRACES_SAMPLER_ARG";
                let value = get(name).unwrap_or_else(|| "1".to_owned());
                per_million(&value)
                    .ok_or_else(|| refuse(name, &value, "must be a number from 0 to 1"))?
            }
            Some(_) => {
                let value = sampler.unwrap_or_default();
                return Err(refuse(
                    "OTEL_TRACES_SAMPLER",
                    &value,
                    "no such sampler is built in",
                ));
            }
        };
        let config = Self {
            endpoint,
            sampling_rate_per_million: rate,
            headers: Vec::new(),
            resource: Vec::new(),
        };
        config.with_variables(variable).map(Some)
    }
}

/// A list of `key=value`, divided by commas, each value percent-encoded.
fn pairs(
    name: &'static str,
    text: Option<String>,
) -> Result<Vec<(String, String)>, TracingConfigError> {
    let text = text.unwrap_or_default();
    let entries = text.split(',').map(str::trim).filter(|one| !one.is_empty());
    let pair = |entry: &str| {
        let (key, value) = entry.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim());
        let value = value.decode_utf8().ok()?.into_owned();
        Some((key.trim().to_owned(), value))
    };
    let wrong = || TracingConfigError::Variable {
        name,
        value: "...".to_owned(),
        why: "must be a list of key=value, divided by commas",
    };
    entries.map(|entry| pair(entry).ok_or_else(wrong)).collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the ratio is checked to be from 0 to 1"
)]
fn per_million(ratio: &str) -> Option<u32> {
    let ratio: f64 = ratio.parse().ok()?;
    (0.0..=1.0)
        .contains(&ratio)
        .then(|| (ratio * f64::from(MILLION)).round() as u32)
}

fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    if endpoint.starts_with("https://") {
        return Err(
            "a collector behind TLS cannot be reached; use one without, on this machine say",
        );
    }
    let authority: http::uri::Authority = endpoint
        .parse()
        .map_err(|_| "must be host:port, without a scheme or a path")?;
    if authority.port_u16().is_none() || authority.as_str().contains('@') {
        return Err("must be host:port, without a scheme or a path");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<TracingConfig, String> {
        let text =
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n{rest}");
        TracingConfig::parse(Path::new("t.yaml"), &text).map_err(|e| e.to_string())
    }

    #[test]
    fn the_file_is_that_of_the_stock_server() {
        let config = parse("endpoint: collector:4317\nsamplingRatePerMillion: 100\n").unwrap();
        assert_eq!(
            (config.endpoint.as_str(), config.sampling_rate_per_million),
            ("collector:4317", 100)
        );
        let config = parse("").unwrap();
        assert_eq!(
            (config.endpoint.as_str(), config.sampling_rate_per_million),
            (ENDPOINT, 0)
        );
        for (rest, says) in [
            ("endpoint: https://a:1", "TLS"),
            ("endpoint: a", "host:port"),
            ("endpoint: a:1/x", "host:port"),
            ("endpoint: me@a:1", "host:port"),
            ("samplingRatePerMillion: -1", "at most 1000000"),
            ("samplingRatePerMillion: 1000001", "at most 1000000"),
            ("rate: 1", "decode"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(error.contains(says), "{rest}: {error}");
        }
        assert!(TracingConfig::parse(Path::new("t"), "apiVersion: v1\nkind: Pod\n").is_err());
    }

    #[test]
    fn headers_and_attributes_are_lists() {
        let with = |name: &'static str, value: &'static str| {
            parse("")
                .unwrap()
                .with_variables(|asked| (asked == name).then(|| value.to_owned()))
        };
        let found = with("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b, x=y,").unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found.headers, [pair("api-key", "a b"), pair("x", "y")]);
        let found = with(
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=z,k8s.cluster.name=c",
        );
        assert_eq!(found.unwrap().resource, [pair("k8s.cluster.name", "c")]);
        for bad in ["secret", "a b=secret", "a=%0asecret"] {
            let error = with("OTEL_EXPORTER_OTLP_HEADERS", bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn variables_are_those_of_opentelemetry() {
        let of = |pairs: &'static [(&'static str, &'static str)]| {
            TracingConfig::from_variables(|name| {
                pairs
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| (*value).to_owned())
            })
            .map_err(|e| e.to_string())
        };
        let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
        assert_eq!(of(&[]), Ok(None));
        let all = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317/")])
            .unwrap()
            .unwrap();
        assert_eq!(
            (all.endpoint.as_str(), all.sampling_rate_per_million),
            ("c:4317", MILLION)
        );
        let some = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        assert_eq!(some.unwrap().unwrap().sampling_rate_per_million, 250_000);
        assert_eq!(
            of(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317"),
                ("OTEL_SDK_DISABLED", "true")
            ]),
            Ok(None)
        );
        for (name, value) in [
            (endpoint, "https://c:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ] {
            let refused = TracingConfig::from_variables(|asked| match asked {
                asked if asked == name => Some(value.to_owned()),
                asked if asked == endpoint => Some("c:4317".to_owned()),
                _ => None,
            });
            assert!(refused.unwrap_err().to_string().contains(name));
        }
    }
}
