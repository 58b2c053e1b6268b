//! When plugins are asked about an object a second time.
//!
//! As on the stock server: once somebody outside has changed an object, all plugins are asked again, once. Of those outside
//! only who has `reinvocationPolicy: IfNeeded` is, and only when the object has changed after it was asked.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// What is known of one way of an object through the plugins.
#[derive(Debug, Default)]
pub(crate) struct Reinvocation {
    again: bool,
    changed: bool,
    plugins: HashMap<&'static str, Asked>,
}

/// Whom of its rules a plugin has asked.
#[derive(Debug, Default)]
struct Asked {
    /// What it has made of the object.
    output: Option<Value>,
    /// Those that want to be asked again if the object changes, in this round.
    reinvocable: HashSet<String>,
    /// Those that are to be asked again.
    due: HashSet<String>,
}

impl Asked {
    fn require(&mut self) {
        self.due.extend(self.reinvocable.drain());
    }
}

impl Reinvocation {
    /// Begins the second round, if there is to be one.
    pub(super) fn begin_again(&mut self) -> bool {
        self.again = self.changed;
        self.again
    }

    /// Whether somebody outside has changed the object.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// A plugin begins, with the object as it is now. It is not asked for when there was nobody to ask in the first round.
    pub(super) fn begin(&mut self, plugin: &'static str, object: impl FnOnce() -> Option<Value>) {
        if !self.again {
            return;
        }
        if let Some(asked) = self.plugins.get_mut(plugin)
            && asked.output != object()
        {
            asked.require();
        }
    }

    /// Whether a rule of the plugin is to be asked in this round.
    pub(super) fn is_due(&self, plugin: &'static str, rule: &str) -> bool {
        !self.again || (self.plugins.get(plugin)).is_some_and(|asked| asked.due.contains(rule))
    }

    /// A rule of the plugin was asked.
    pub(super) fn asked(
        &mut self,
        plugin: &'static str,
        rule: &str,
        changed: bool,
        if_needed: bool,
    ) {
        let asked = self.plugins.entry(plugin).or_default();
        if changed {
            self.changed = true;
            asked.require();
        }
        if if_needed {
            asked.reinvocable.insert(rule.to_owned());
        }
    }

    /// A plugin ends, and has made this of the object.
    pub(super) fn end(&mut self, plugin: &'static str, object: impl FnOnce() -> Option<Value>) {
        if let Some(asked) = self.plugins.get_mut(plugin) {
            asked.output = object();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLUGIN: &str = "MutatingAdmissionWebhook";

    #[test]
    fn who_wants_is_asked_again_after_a_change() {
        let mut round = Reinvocation::default();
        round.begin(PLUGIN, || None);
        for (rule, changed, if_needed) in [
            ("first", true, true),
            ("second", true, false),
            ("third", false, true),
        ] {
            assert!(round.is_due(PLUGIN, rule));
            round.asked(PLUGIN, rule, changed, if_needed);
        }
        round.end(PLUGIN, || Some(json!(1)));
        assert!(round.changed() && round.begin_again());
        round.begin(PLUGIN, || Some(json!(1)));
        // The second one's change came after the first was asked; nothing came after the third.
        assert!(round.is_due(PLUGIN, "first"));
        assert!(!round.is_due(PLUGIN, "second"));
        assert!(!round.is_due(PLUGIN, "third"));
        // Other plugins have changed it meanwhile.
        let mut round = Reinvocation::default();
        round.asked(PLUGIN, "first", true, true);
        round.end(PLUGIN, || Some(json!(1)));
        assert!(round.begin_again());
        round.begin(PLUGIN, || Some(json!(2)));
        assert!(round.is_due(PLUGIN, "first"));
        assert!(!round.is_due(PLUGIN, "never asked"));
    }

    #[test]
    fn nothing_is_asked_again_without_a_change() {
        let mut round = Reinvocation::default();
        round.asked(PLUGIN, "first", false, true);
        assert!(!round.begin_again() && !round.changed());
    }
}
