//! The resolver's configuration: dnsPolicy and dnsConfig.

use berth_cri_api::v1::DnsConfig;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::agent::Agent;

pub(super) fn dns(agent: &Agent, pod: &Pod, spec: &PodSpec) -> DnsConfig {
    let cluster = &agent.config.cluster_dns;
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host_network = spec.host_network == Some(true);
    let in_cluster = match policy {
        "ClusterFirst" => !host_network && !cluster.is_empty(),
        "ClusterFirstWithHostNet" => !cluster.is_empty(),
        _ => false,
    };
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else {
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        parse(&host)
    };
    if in_cluster {
        let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = &agent.config.cluster_domain;
        let mut searches = vec![
            format!("{ns}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.append(&mut config.searches);
        config.searches = searches;
        config.servers = cluster.iter().map(ToString::to_string).collect();
        config.options = vec!["ndots:5".to_owned()];
    }
    if let Some(extra) = &spec.dns_config {
        config
            .servers
            .extend(extra.nameservers.iter().flatten().cloned());
        config
            .searches
            .extend(extra.searches.iter().flatten().cloned());
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
    config
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|s| seen.insert(s.clone()));
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
    use super::parse;

    #[test]
    fn resolv_conf() {
        let c = parse(
            "# c\nnameserver 10.0.0.1\nnameserver ::1 # x\nsearch a.b .\noptions ndots:2 rotate\n",
        );
        assert_eq!(c.servers, ["10.0.0.1", "::1"]);
        assert_eq!(c.searches, ["a.b"]);
        assert_eq!(c.options, ["ndots:2", "rotate"]);
    }
}
