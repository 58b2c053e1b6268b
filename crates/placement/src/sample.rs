//! How many nodes are looked at.

/// Of fewer nodes all are looked at.
const FEWEST: usize = 100;
/// Hundredths that are looked at at least.
const LEAST_PERCENT: usize = 5;

/// How many nodes that can run a pod are enough to choose from, among so many: as the stock scheduler has it where
/// `percentageOfNodesToScore` is not set.
#[must_use]
pub fn enough_nodes(nodes: usize) -> usize {
    if nodes <= FEWEST {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(LEAST_PERCENT);
    (nodes * percent / 100).max(FEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_stock_scheduler() {
        for (nodes, enough) in [
            (0, 0),
            (99, 99),
            (150, 100),
            (1000, 420),
            (5000, 500),
            (6000, 300),
        ] {
            assert_eq!(enough_nodes(nodes), enough, "{nodes}");
        }
    }
}
