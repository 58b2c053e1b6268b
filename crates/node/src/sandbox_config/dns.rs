//! The resolver's configuration: dnsPolicy and dnsConfig, with the stock kubelet's limits.

use std::io;
use std::path::PathBuf;

use berth_cri_api::v1::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::agent::Agent;

/// What resolvers read at most; the rest is left out with an event.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH_PATHS: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// Reasons of events, as the kubelet's.
const FORMING: &str = "DNSConfigForming";
const MISSING: &str = "MissingClusterDNS";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the node's resolv.conf {}: {source}", path.display())]
pub(crate) struct ResolvConfError {
    path: PathBuf,
    source: io::Error,
}

/// An event to write: reason and message.
type Said = (&'static str, String);

/// The configuration of a pod; what had to be left out is written as events.
pub(super) fn dns(agent: &Agent, pod: &Pod, spec: &PodSpec) -> Result<DnsConfig, ResolvConfError> {
    let path = &agent.config.resolv_conf;
    let text = match std::fs::read_to_string(path) {
        // A machine without a resolver has no file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|source| ResolvConfError {
            path: path.clone(),
            source,
        })?,
    };
    let cluster: Vec<String> = agent
        .config
        .cluster_dns
        .iter()
        .map(ToString::to_string)
        .collect();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &agent.config.cluster_domain;
    let (config, said) = form(spec, namespace, &cluster, domain, parse(&text));
    for (reason, message) in said {
        agent.events.warn(pod, reason, message);
    }
    Ok(config)
}

fn form(
    spec: &PodSpec,
    namespace: &str,
    cluster: &[String],
    domain: &str,
    host: DnsConfig,
) -> (DnsConfig, Vec<Said>) {
    let mut said = Vec::new();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let wants_cluster = match policy {
        "ClusterFirst" => spec.host_network != Some(true),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    if wants_cluster && cluster.is_empty() {
        said.push((
            MISSING,
            format!(
                "kubelet does not have ClusterDNS IP configured and cannot create Pod using \"{policy}\" policy. Falling back to \"Default\" policy."
            ),
        ));
    }
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else {
        host
    };
    if wants_cluster && !cluster.is_empty() {
        let mut searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
        searches.append(&mut config.searches);
        config.searches = searches;
        config.servers = cluster.to_vec();
        config.options = vec!["ndots:5".to_owned()];
    }
    if let Some(extra) = &spec.dns_config {
        let servers = extra.nameservers.iter().flatten();
        config.servers.extend(servers.cloned());
        let searches = extra.searches.iter().flatten();
        config.searches.extend(searches.cloned());
        for option in extra.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            let written = match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            };
            config
                .options
                .retain(|o| o.split(':').next() != Some(name.as_str()));
            config.options.push(written);
        }
    }
    dedup(&mut config.servers);
    dedup(&mut config.searches);
    said.extend(limit(&mut config));
    (config, said)
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|s| seen.insert(s.clone()));
}

/// Leaves out what resolvers would not read.
fn limit(config: &mut DnsConfig) -> Vec<Said> {
    let mut said = Vec::new();
    if config.servers.len() > MAX_NAMESERVERS {
        config.servers.truncate(MAX_NAMESERVERS);
        let line = config.servers.join(" ");
        said.push((FORMING, format!("Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}")));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCH_PATHS);
    while config.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        let line = config.searches.join(" ");
        said.push((FORMING, format!("Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}")));
    }
    said
}

/// Reads a resolv.conf.
fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line
            .split(['#', ';'])
            .next()
            .unwrap_or_default()
            .split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => {
                config.searches = words.filter(|w| *w != ".").map(str::to_owned).collect();
            }
            Some("options") => config.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const HOST: &str = "nameserver 192.0.2.1\nsearch example.com\noptions rotate\n";

    fn of(spec: Value, cluster: &[&str]) -> (DnsConfig, Vec<Said>) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let cluster: Vec<String> = cluster.iter().map(|ip| (*ip).to_owned()).collect();
        form(&spec, "prod", &cluster, "cluster.local", parse(HOST))
    }

    /// Servers, search list and options in one line each.
    fn lines(config: &DnsConfig) -> [String; 3] {
        [&config.servers, &config.searches, &config.options].map(|list| list.join(" "))
    }

    #[test]
    fn resolv_conf() {
        let c = parse(
            "# c\nnameserver 10.0.0.1\nnameserver ::1 # x\nsearch a.b .\noptions ndots:2 rotate\n",
        );
        assert_eq!(c.servers, ["10.0.0.1", "::1"]);
        assert_eq!(c.searches, ["a.b"]);
        assert_eq!(c.options, ["ndots:2", "rotate"]);
    }

    #[test]
    fn policies() {
        let dns = ["10.96.0.10"];
        let in_cluster = [
            "10.96.0.10",
            "prod.svc.cluster.local svc.cluster.local cluster.local example.com",
            "ndots:5",
        ];
        let as_node = ["192.0.2.1", "example.com", "rotate"];
        for (spec, wanted) in [
            (json!({}), in_cluster),
            (json!({"dnsPolicy": "ClusterFirst"}), in_cluster),
            (
                json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
                as_node,
            ),
            (
                json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                in_cluster,
            ),
            (json!({"dnsPolicy": "Default"}), as_node),
            (json!({"dnsPolicy": "None"}), ["", "", ""]),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"], "searches": ["a"],
                       "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                ["192.0.2.9", "a", "ndots:2 edns0"],
            ),
            (
                json!({"dnsConfig": {"nameservers": ["10.96.0.10", "192.0.2.9"], "searches": ["cluster.local"],
                       "options": [{"name": "ndots", "value": "1"}]}}),
                ["10.96.0.10 192.0.2.9", in_cluster[1], "ndots:1"],
            ),
        ] {
            let (config, said) = of(spec.clone(), &dns);
            assert_eq!(lines(&config), wanted, "{spec}");
            assert!(said.is_empty(), "{spec}");
        }
        let (config, said) = of(json!({}), &[]);
        assert_eq!(lines(&config), as_node);
        assert_eq!(said[0].0, MISSING);
    }

    #[test]
    fn what_resolvers_do_not_read_is_left_out_and_said() {
        let servers: Vec<String> = (0..9).map(|n| format!("192.0.2.{n}")).collect();
        let searches: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        let spec = json!({"dnsConfig": {"nameservers": servers, "searches": searches}});
        let (config, said) = of(spec, &["10.96.0.10"]);
        assert_eq!((config.servers.len(), config.searches.len()), (3, 32));
        assert_eq!(said.len(), 2);
        let long: Vec<String> = (0..20).map(|n| format!("{n:0>200}")).collect();
        let (config, said) = of(json!({"dnsConfig": {"searches": long}}), &["10.96.0.10"]);
        assert!(config.searches.join(" ").len() <= MAX_SEARCH_CHARACTERS);
        assert!(config.searches.len() > 10);
        assert!(said[0].1.starts_with("Search Line limits were exceeded"));
    }
}
