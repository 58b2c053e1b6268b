//! What pods of berth's own network send out of it leaves with the node's address.
//!
//! One chain for the whole network. The bridge plugin's `ipMasq` makes a chain for each pod, with eight
//! runs of iptables; that was most of the time that a pod's network took.

use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Network;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes the rules where they are missing (somebody may have flushed them).
///
/// # Errors
/// When iptables can't be run or refuses.
pub(crate) async fn keep(network: &Network) -> io::Result<()> {
    for (program, subnets) in [("iptables", false), ("ip6tables", true)]
        .map(|(program, six)| (program, subnets(network, six)))
    {
        if !subnets.is_empty() {
            keep_family(program, network, &subnets).await?;
        }
    }
    Ok(())
}

/// The subnets of one address family that host-local gives addresses from.
fn subnets(network: &Network, six: bool) -> Vec<String> {
    network
        .plugins
        .iter()
        .filter_map(|plugin| plugin.pointer("/ipam/ranges")?.as_array())
        .flatten()
        .filter_map(|range| range.pointer("/0/subnet")?.as_str())
        .filter(|subnet| subnet.contains(':') == six)
        .map(str::to_owned)
        .collect()
}

/// An interface name has at most 15 bytes and a chain's name 28, so the bridge's names the chain.
fn chain(network: &Network) -> String {
    let bridge = network
        .plugins
        .iter()
        .find_map(|plugin| plugin.get("bridge")?.as_str());
    format!("BERTH-{}", bridge.unwrap_or("pods"))
}

/// The chain's content in the words of `iptables-restore`; naming a chain there makes or empties it.
fn rules(chain: &str, subnets: &[String], six: bool) -> String {
    let multicast = if six { "ff00::/8" } else { "224.0.0.0/4" };
    let mut text = format!("*nat\n:{chain} - [0:0]\n");
    for subnet in subnets {
        text += &format!("-A {chain} -s {subnet} -d {subnet} -j RETURN\n");
        text += &format!("-A {chain} -s {subnet} ! -d {multicast} -j MASQUERADE\n");
    }
    text + "COMMIT\n"
}

async fn keep_family(program: &str, network: &Network, subnets: &[String]) -> io::Result<()> {
    let chain = chain(network);
    let comment = format!("name: \"{}\" id: \"all pods\"", network.name);
    let (match_comment, target) = (["-m", "comment", "--comment", &comment], ["-j", &chain]);
    let jump = |verb| [&[verb, "POSTROUTING"][..], &match_comment, &target].concat();
    let masquerades = run(program, &["-S", &chain], None).await;
    let complete = masquerades.is_ok_and(|listed| {
        subnets.iter().all(|subnet| {
            listed
                .lines()
                .any(|line| line.contains(subnet) && line.ends_with("MASQUERADE"))
        })
    });
    if !complete {
        let restore = format!("{program}-restore");
        let text = rules(&chain, subnets, program == "ip6tables");
        run(&restore, &["--noflush"], Some(&text)).await?;
    }
    if run(program, &jump("-C"), None).await.is_err() {
        run(program, &jump("-A"), None).await?;
    }
    Ok(())
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
    use serde_json::json;

    use super::*;

    fn network() -> Network {
        Network {
            name: "berth".to_owned(),
            cni_version: "1.0.0".to_owned(),
            plugins: vec![
                json!({"type": "bridge", "bridge": "berth0", "ipam": {
                    "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00::/64"}]]}}),
                json!({"type": "portmap"}),
            ],
            file: "x".into(),
        }
    }

    #[test]
    fn families_are_told_apart() {
        assert_eq!(subnets(&network(), false), ["10.1.0.0/16"]);
        assert_eq!(subnets(&network(), true), ["fd00::/64"]);
    }

    #[test]
    fn pods_reach_each_other_with_their_own_addresses() {
        let text = rules(&chain(&network()), &subnets(&network(), false), false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "*nat",
                ":BERTH-berth0 - [0:0]",
                "-A BERTH-berth0 -s 10.1.0.0/16 -d 10.1.0.0/16 -j RETURN",
                "-A BERTH-berth0 -s 10.1.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE",
                "COMMIT",
            ]
        );
    }
}
