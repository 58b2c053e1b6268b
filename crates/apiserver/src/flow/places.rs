//! Places of watches and of connections to pods: so many in total, so many for one user.

use std::collections::HashMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use parking_lot::Mutex;

/// When a refused client should come again: places become free more slowly than seats.
const RETRY_AFTER: u32 = 5;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    total: usize,
    of_user: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_user: HashMap<String, usize>,
}

impl Places {
    pub(super) fn new(total: usize, of_user: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            of_user,
            taken: Mutex::default(),
        })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `TooManyRequests` when the user, or all together, have no more.
    pub(super) fn take(self: &Arc<Self>, user: &str) -> Result<Place, ApiError> {
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
        taken.total += 1;
        *taken.by_user.entry(user.to_owned()).or_default() += 1;
        Ok(Place {
            places: Arc::clone(self),
            user: user.to_owned(),
        })
    }
}

/// A taken place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    user: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total = taken.total.saturating_sub(1);
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

    #[test]
    fn places_are_counted_by_user_and_in_total() {
        let places = Places::new(3, 2);
        let text = |taken: Result<Place, ApiError>| taken.unwrap_err().to_string();
        let a = places.take("a").unwrap();
        let _b = places.take("a").unwrap();
        assert_eq!(
            text(places.take("a")),
            "too many watches and connections to pods of user \"a\": limit is 2, please try again later"
        );
        let _c = places.take("b").unwrap();
        assert_eq!(
            text(places.take("b")),
            "too many watches and connections to pods on this server: limit is 3, please try again later"
        );
        drop(a);
        assert!(places.take("b").is_ok());
        assert!(places.take("a").is_ok());
    }
}
