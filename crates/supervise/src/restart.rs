//! Work that is started anew after a panic: where it begins with what it finds, and others depend on it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;

use crate::panic_reason;

/// Between the first panic and the next try, and at most; it doubles in between.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Runs what `make` gives until it ends without a panic. `panicked` gets the reason of each panic; the pause before the
/// next try doubles from a second to five minutes.
pub async fn restart_on_panic<F: Future>(
    mut make: impl FnMut() -> F,
    mut panicked: impl FnMut(&str),
) -> F::Output {
    let mut pause = FIRST_PAUSE;
    loop {
        // `make` begins anew: nothing that the panic left half done is used again.
        match AssertUnwindSafe(async { make().await })
            .catch_unwind()
            .await
        {
            Ok(output) => return output,
            Err(panic) => panicked(&panic_reason(&*panic)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[allow(clippy::panic)]
    async fn the_work_goes_on_after_a_panic_whose_reason_is_known() {
        let (mut tries, mut reasons) = (0, Vec::new());
        let work = || {
            tries += 1;
            let first = tries == 1;
            async move {
                if first {
                    panic!("no slot {}", 3)
                }
                "done"
            }
        };
        let output = restart_on_panic(work, |reason| reasons.push(reason.to_owned())).await;
        assert_eq!((output, reasons), ("done", vec!["no slot 3".to_owned()]));
    }
}
