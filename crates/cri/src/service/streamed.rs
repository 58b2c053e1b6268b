//! The streamed lists (KEP-5825): the answer of the plain list in parts, for nodes whose whole list would be larger
//! than a message may be. An empty list is a stream that ends at once.

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::Status;

pub(super) type Parts<T> = BoxStream<'static, Result<T, Status>>;

/// Items a part: the largest item, a container's status with all its labels, stays far below the limit of a message.
const PART: usize = 100;

pub(super) fn parts<T, P>(items: Vec<T>, part: fn(Vec<T>) -> P) -> Parts<P>
where
    T: Send + 'static,
    P: Send + 'static,
{
    let mut items = items.into_iter();
    let parts = std::iter::from_fn(move || {
        let some: Vec<T> = items.by_ref().take(PART).collect();
        (!some.is_empty()).then(|| Ok(part(some)))
    });
    stream::iter(parts).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_item_is_in_one_part_and_no_part_is_empty() {
        for count in [0, 1, PART, PART + 1, 3 * PART] {
            let items: Vec<usize> = (0..count).collect();
            let got: Vec<Vec<usize>> = parts(items.clone(), |part| part)
                .map(Result::unwrap)
                .collect()
                .await;
            assert!(got.iter().all(|part| (1..=PART).contains(&part.len())));
            assert_eq!(got.concat(), items);
        }
    }
}
