//! The pods' bridge, the interface with the address of the DNS server, and the firewall rules that CNI plugins made for its network.

use std::process::Command;

use anyhow::Context as _;

use super::bridge;

/// Removes them; true when the bridge was there.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn remove(name: &str) -> anyhow::Result<bool> {
    remove_rules(name);
    let dns = berth_dns::interface(name);
    bridge::remove(&dns).with_context(|| format!("cannot remove the interface {dns}"))?;
    bridge::remove(name).with_context(|| format!("cannot remove the bridge {name}"))
}

/// Rules and chains of the network, known by the comment that the plugins leave: `name: "NETWORK" id: ...`.
fn remove_rules(network: &str) {
    let iptables = |arguments: &[&str]| {
        Command::new("iptables")
            .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-w", "-t", "nat"])
            .args(arguments)
            .output()
    };
    let Ok(listed) = iptables(&["-S"]) else {
        return;
    };
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mark = format!("name: \\\"{network}\\\"");
    let mut chains: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| line.contains(&mark)) {
        let words = split(line);
        if let ["-A", chain, rest @ ..] = words
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .as_slice()
        {
            if let Some(target) = rest.iter().position(|word| *word == "-j")
                && let Some(chain) = line
                    .split(' ')
                    .find(|word| Some(word) == rest.get(target + 1))
                && (chain.starts_with("CNI-") || chain.starts_with("BERTH-"))
            {
                chains.push(chain);
            }
            let mut delete = vec!["-D", chain];
            delete.extend_from_slice(rest);
            let _already_gone = iptables(&delete);
        }
    }
    chains.sort_unstable();
    chains.dedup();
    for chain in chains {
        let _already_gone = iptables(&["-F", chain]);
        let _already_gone = iptables(&["-X", chain]);
    }
}

/// Words of a line of `iptables -S`, which quotes comments.
fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for letter in line.chars() {
        match letter {
            _ if escaped => {
                word.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn comments_are_one_word() {
        let line = r#"-A POSTROUTING -s 10.0.0.2/32 -m comment --comment "name: \"berth\" id: \"x\"" -j CNI-1"#;
        let words = split(line);
        assert_eq!(words.len(), 10);
        assert_eq!(words[7], r#"name: "berth" id: "x""#);
        assert_eq!(words[9], "CNI-1");
    }
}
