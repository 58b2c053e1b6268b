//! What the policies of a namespace may cost, so that they keep nobody else's from being applied.

/// What looking at all policies of a namespace may cost: one for each policy, rule, peer, port, exception, label and value.
pub(crate) const POLICY_BUDGET: usize = 4_000;
/// Comparisons of selectors with pods and namespaces, for the policies of a namespace.
pub(crate) const WORK_BUDGET: usize = 2_000_000;
/// Addresses in the sets of a namespace's policies.
pub(crate) const ADDRESS_BUDGET: usize = 10_000;
/// How often pods of a namespace are selected: each is a rule.
pub(crate) const SELECTED_BUDGET: usize = 5_000;
/// How many policies may select one pod: each of its packets may meet all of them.
pub(crate) const PER_POD: usize = 200;

/// A budget is spent.
pub(crate) struct TooMuch(pub(crate) String);

/// What a namespace has spent.
#[derive(Default)]
pub(crate) struct Spent {
    work: usize,
    addresses: usize,
    selected: usize,
}

impl Spent {
    pub(crate) fn work(&mut self, cost: usize) -> Result<(), TooMuch> {
        self.work = self.work.saturating_add(cost);
        within(
            self.work,
            WORK_BUDGET,
            "comparisons of selectors with labels",
        )
    }

    pub(crate) fn addresses(&mut self, count: usize) -> Result<(), TooMuch> {
        self.addresses = self.addresses.saturating_add(count);
        within(self.addresses, ADDRESS_BUDGET, "addresses of peers")
    }

    pub(crate) fn selected(&mut self) -> Result<(), TooMuch> {
        self.selected += 1;
        within(self.selected, SELECTED_BUDGET, "selected pods")
    }
}

/// An error where more was spent than there is.
pub(crate) fn within(spent: usize, budget: usize, what: &str) -> Result<(), TooMuch> {
    if spent > budget {
        return Err(TooMuch(format!("more than {budget} {what}")));
    }
    Ok(())
}
