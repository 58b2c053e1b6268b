//! Places of watches and of connections to pods: so many in total, so many for one user.

use std::collections::HashMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use parking_lot::Mutex;

use crate::user::User;

/// When a refused client should come again: places become free more slowly than seats.
const RETRY_AFTER: u32 = 5;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    /// Those that users together may have who are not of the system: whoever may create accounts has many names.
    of_all_users: usize,
    of_user: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Of them by users who are not of the system.
    of_all_users: usize,
    by_user: HashMap<String, usize>,
}

impl Places {
    pub(super) fn new(total: usize, of_user: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            of_all_users: total - total / 4,
            of_user,
            taken: Mutex::default(),
        })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `TooManyRequests` when the user, or all together, have no more.
    pub(super) fn take(self: &Arc<Self>, user: &User) -> Result<Place, ApiError> {
        let of_system = user.is_of_system();
        let user = user.name.as_str();
        let mut taken = self.taken.lock();
        let of_user = taken.by_user.get(user).copied().unwrap_or(0);
        let refuse = |who: String, limit: usize| {
            Err(ApiError::TooManyRequests {
                message: format!(
                    "too many watches and connections to pods {who}: limit is {limit}, please try again later"
                ),
                retry_after_seconds: RETRY_AFTER,
            })
        };
        if of_user >= self.of_user {
            return refuse(format!("of user {user:?}"), self.of_user);
        }
        if taken.total >= self.total {
            return refuse("on this server".to_owned(), self.total);
        }
        if !of_system {
            if taken.of_all_users >= self.of_all_users {
                return refuse("of all users".to_owned(), self.of_all_users);
            }
            taken.of_all_users += 1;
        }
        taken.total += 1;
        *taken.by_user.entry(user.to_owned()).or_default() += 1;
        Ok(Place {
            places: Arc::clone(self),
            user: user.to_owned(),
            of_system,
        })
    }
}

/// A taken place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    user: String,
    of_system: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total = taken.total.saturating_sub(1);
        if !self.of_system {
            taken.of_all_users = taken.of_all_users.saturating_sub(1);
        }
        if let Some(count) = taken.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User {
            name: name.to_owned(),
            ..User::default()
        }
    }

    #[test]
    fn places_are_counted_by_user_and_in_total() {
        let places = Places::new(4, 2);
        let text = |taken: Result<Place, ApiError>| taken.unwrap_err().to_string();
        let a = places.take(&user("a")).unwrap();
        let _b = places.take(&user("a")).unwrap();
        assert_eq!(
            text(places.take(&user("a"))),
            "too many watches and connections to pods of user \"a\": limit is 2, please try again later"
        );
        let _c = places.take(&user("b")).unwrap();
        assert_eq!(
            text(places.take(&user("b"))),
            "too many watches and connections to pods of all users: limit is 3, please try again later"
        );
        // However many names somebody has, a part is for the system.
        let scheduler = places.take(&user("system:kube-scheduler")).unwrap();
        assert_eq!(
            text(places.take(&User::master("admin"))),
            "too many watches and connections to pods on this server: limit is 4, please try again later"
        );
        drop(scheduler);
        drop(a);
        assert!(places.take(&user("b")).is_ok());
        assert!(places.take(&user("a")).is_ok());
    }
}
