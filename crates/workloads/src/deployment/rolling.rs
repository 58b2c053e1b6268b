//! The rolling update: new pods as far as the surge allows, old ones away as far as enough are available.

use super::Rollout;

impl Rollout<'_> {
    /// One step. Whether something was scaled.
    pub(super) fn roll(&mut self) -> bool {
        self.scale_new_within_surge() || self.scale_old_within_unavailable()
    }

    fn scale_new_within_surge(&mut self) -> bool {
        let Some(new) = &self.sets.new else {
            return false;
        };
        // One that is created has its number already.
        if new.replicas == self.limits.replicas || new.is_created {
            return false;
        }
        let replicas = if new.replicas > self.limits.replicas {
            self.limits.replicas
        } else {
            self.replicas_of_new()
        };
        self.scale_new(replicas)
    }

    /// How many pods the new ReplicaSet may have now.
    pub(super) fn replicas_of_new(&self) -> i32 {
        let current = self.sets.new.as_ref().map_or(0, |set| set.replicas);
        if !self.limits.is_rolling {
            return self.limits.replicas;
        }
        let room = self.limits.most() - self.sets.replicas();
        if room <= 0 {
            return current;
        }
        current + room.min(self.limits.replicas - current)
    }

    fn scale_old_within_unavailable(&mut self) -> bool {
        if self.sets.old.iter().all(|set| set.replicas == 0) {
            return false;
        }
        let least = self.limits.replicas - self.limits.unavailable;
        // Pods of the new one that aren't available yet count as if they were: they are about to be.
        let new = self.sets.new.as_ref();
        let coming = new.map_or(0, |set| set.replicas - set.available());
        let room = self.sets.replicas() - least - coming;
        if room <= 0 {
            return false;
        }
        let cleaned = self.scale_unhealthy(room);
        self.scale_available(least) || cleaned
    }

    /// Pods of old ReplicaSets that aren't available go first, whatever the new one has: they may never become so.
    fn scale_unhealthy(&mut self, most: i32) -> bool {
        let mut left = most;
        for at in 0..self.sets.old.len() {
            let Some(set) = self.sets.old.get(at) else {
                break;
            };
            let unhealthy = (set.replicas - set.available()).max(0).min(left);
            if unhealthy > 0 {
                left -= unhealthy;
                let replicas = set.replicas - unhealthy;
                self.scale_old(at, replicas);
            }
        }
        left < most
    }

    /// The oldest first, as long as enough pods are available.
    fn scale_available(&mut self, least: i32) -> bool {
        let mut left = self.sets.available() - least;
        let mut has_scaled = false;
        for at in 0..self.sets.old.len() {
            let Some(set) = self.sets.old.get(at) else {
                break;
            };
            let fewer = set.replicas.min(left);
            if fewer > 0 {
                left -= fewer;
                let replicas = set.replicas - fewer;
                has_scaled |= self.scale_old(at, replicas);
            }
        }
        has_scaled
    }
}
