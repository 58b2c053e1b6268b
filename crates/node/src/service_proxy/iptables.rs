//! The rules in the kernel: one chain for the network, written whole in one transaction.
//!
//! The comment of the rules that lead into the chain is that of the CNI plugins, by which `berth reset` finds what
//! belongs to a network.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::rules::Rule;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the rules what they have to be; true when something was changed.
///
/// # Errors
/// When iptables can't be run or refuses.
pub(super) async fn keep(network: &str, pod_cidrs: &[String], wanted: &[Rule]) -> io::Result<bool> {
    let mut changed = false;
    for (program, is_v4) in [("iptables", true), ("ip6tables", false)] {
        let wanted: Vec<&Rule> = wanted
            .iter()
            .filter(|rule| rule.address.is_ipv4() == is_v4)
            .collect();
        let cidrs: Vec<&str> = pod_cidrs
            .iter()
            .flat_map(|list| list.split(','))
            .map(str::trim)
            .filter(|cidr| cidr.contains(':') != is_v4)
            .collect();
        // Where there never was one there is nothing to take away.
        if wanted.is_empty() && !exists(program, network).await {
            continue;
        }
        changed |= keep_family(program, network, &cidrs, pod_cidrs.is_empty(), &wanted).await?;
    }
    Ok(changed)
}

async fn exists(program: &str, network: &str) -> bool {
    run(program, &["-S", &chain(network)], None).await.is_ok()
}

/// An interface's name has at most 15 bytes, and a chain's 28.
fn chain(network: &str) -> String {
    format!("BERTH-SVC-{network}")
}

async fn keep_family(
    program: &str,
    network: &str,
    cidrs: &[&str],
    any_source: bool,
    wanted: &[&Rule],
) -> io::Result<bool> {
    let chain = chain(network);
    let lines = lines(&chain, wanted);
    let listed = run(program, &["-S", &chain], None)
        .await
        .unwrap_or_default();
    let mut changed = false;
    if !is_same(&listed, &lines) {
        let text = format!("*nat\n:{chain} - [0:0]\n{}COMMIT\n", lines.concat());
        let restore = format!("{program}-restore");
        run(&restore, &["--noflush"], Some(&text)).await?;
        changed = true;
    }
    let comment = format!("name: \"{network}\" id: \"services\"");
    let target = ["-m", "comment", "--comment", &comment, "-j", &chain];
    // What pods send, and what programs of this machine and pods with its network do.
    let mut from: Vec<Vec<&str>> = cidrs
        .iter()
        .map(|cidr| vec!["PREROUTING", "-s", cidr])
        .collect();
    if any_source {
        from.push(vec!["PREROUTING"]);
    }
    from.push(vec!["OUTPUT"]);
    for from in from {
        let rule = |verb| [&[verb][..], &from, &target].concat();
        if run(program, &rule("-C"), None).await.is_err() {
            run(program, &rule("-A"), None).await?;
            changed = true;
        }
    }
    Ok(changed)
}

/// The chain's rules in the words of `iptables-restore`. They are made of numbers and parsed addresses only.
fn lines(chain: &str, wanted: &[&Rule]) -> Vec<String> {
    let mut lines = Vec::new();
    for rule in wanted {
        let (ip, port) = (rule.address.ip(), rule.address.port());
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        for (i, endpoint) in rule.endpoints.iter().enumerate() {
            // The first of n takes one in n, the second one in n-1 of the rest, the last all of it.
            let left = rule.endpoints.len() - i;
            let lot = if left > 1 {
                format!(
                    " -m statistic --mode random --probability {:.10}",
                    1.0 / f64::from(u32::try_from(left).unwrap_or(u32::MAX))
                )
            } else {
                String::new()
            };
            lines.push(format!(
                "-A {chain} -d {ip}/{bits} -p tcp -m tcp --dport {port}{lot} -j DNAT --to-destination {endpoint}\n"
            ));
        }
    }
    lines
}

/// Whether `iptables -S` shows these rules: it words some parts its own way, so what is compared is where they lead.
fn is_same(listed: &str, lines: &[String]) -> bool {
    let leads = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|w| *w == word)?;
            words.get(at + 1).map(|w| (*w).to_owned())
        };
        let lot = words.contains(&"statistic");
        (
            after("-d"),
            after("--dport"),
            after("--to-destination"),
            lot,
        )
    };
    let listed: Vec<_> = listed
        .lines()
        .filter(|line| line.starts_with("-A "))
        .map(leads)
        .collect();
    listed == lines.iter().map(|line| leads(line)).collect::<Vec<_>>() && !listed.is_empty()
}

/// Runs iptables on the nat table, waiting for its lock; gives what it printed.
async fn run(program: &str, words: &[&str], input: Option<&str>) -> io::Result<String> {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:{PATH}"))
        .arg("--wait")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if input.is_none() {
        command.args(["--table", "nat"]);
    }
    let mut child = command
        .args(words)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run {program}: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(input.unwrap_or_default().as_bytes())
            .await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{program} {}: {}",
        words.join(" "),
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(endpoints: &[&str]) -> Rule {
        Rule {
            address: "10.96.0.1:443".parse().unwrap(),
            endpoints: endpoints.iter().map(|e| e.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn endpoints_share_what_comes() {
        let two = rule(&["192.0.2.1:6443", "192.0.2.2:6443"]);
        assert_eq!(
            lines("C", &[&two]),
            [
                "-A C -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -m statistic --mode random --probability 0.5000000000 \
                 -j DNAT --to-destination 192.0.2.1:6443\n",
                "-A C -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j DNAT --to-destination 192.0.2.2:6443\n",
            ]
        );
    }

    #[test]
    fn what_is_there_is_recognized() {
        let one = rule(&["192.0.2.1:6443"]);
        let two = rule(&["192.0.2.1:6443", "192.0.2.2:6443"]);
        let shown = "-N C\n-A C -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -m statistic --mode random --probability \
                     0.50000000000 -j DNAT --to-destination 192.0.2.1:6443\n-A C -d 10.96.0.1/32 -p tcp -m tcp --dport 443 \
                     -j DNAT --to-destination 192.0.2.2:6443\n";
        assert!(is_same(shown, &lines("C", &[&two])));
        assert!(!is_same(shown, &lines("C", &[&one])));
        assert!(!is_same("", &lines("C", &[&one])));
        assert!(!is_same("-N C\n", &[]));
    }

    #[test]
    fn a_chain_has_a_name_that_the_kernel_takes() {
        assert!(chain("berth0123456789").len() <= 28);
    }
}
