//! How long a cgroup's tasks waited (pressure stall information), where the kernel keeps it: in a version 2 tree, the
//! unified one of hybrid hosts included.

use std::path::Path;

use berth_cri_api::v1::{PsiData, PsiStats};
use berth_oci::cgroup::Cgroups;

/// The pressure on `cpu`, `memory` or `io` in a cgroup, given by its path in the tree.
pub(super) fn of(cgroups: &Cgroups, cgroup: &Path, resource: &str) -> Option<PsiStats> {
    let dir = cgroups
        .unified
        .as_ref()?
        .join(cgroup.strip_prefix("/").unwrap_or(cgroup));
    parse(&std::fs::read_to_string(dir.join(format!("{resource}.pressure"))).ok()?)
}

fn parse(text: &str) -> Option<PsiStats> {
    let data = |kind: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let value = |key: &str| {
            line.split(' ')
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        Some(PsiData {
            // The kernel counts microseconds.
            total: value("total")?.parse::<u64>().ok()?.saturating_mul(1000),
            avg10: value("avg10")?.parse().ok()?,
            avg60: value("avg60")?.parse().ok()?,
            avg300: value("avg300")?.parse().ok()?,
        })
    };
    Some(PsiStats {
        some: Some(data("some")?),
        full: data("full"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_and_their_units() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.01 total=5400\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let stats = parse(text).unwrap();
        let some = stats.some.unwrap();
        assert_eq!(
            (some.total, some.avg10, some.avg300),
            (5_400_000, 1.5, 0.01)
        );
        assert_eq!(stats.full.unwrap().total, 7000);
        assert_eq!(parse("nonsense"), None);
    }
}
