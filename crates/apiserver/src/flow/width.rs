//! How many seats a list takes: what it costs grows with what it reads (stock: the "work estimate" of a list).

/// Objects for one seat, as on the stock server.
const OBJECTS: usize = 100;
/// Bytes for one seat.
const BYTES: usize = 512 << 10;
/// Most seats of one request, as on the stock server. A list of the past takes them: what it reads is in no cache that
/// would say how much it is.
pub(crate) const MAX_WIDTH: u32 = 10;

/// Seats of a list (or of a watch that begins with one) over a kind with so many objects and bytes. `limit` is the
/// page that was asked for; 0 is none.
pub(crate) fn of_list(objects: usize, bytes: usize, limit: usize) -> u32 {
    let taken = match limit {
        0 => objects,
        limit => objects.min(limit),
    };
    let bytes = bytes
        .saturating_mul(taken)
        .checked_div(objects)
        .unwrap_or(0);
    let seats = taken.div_ceil(OBJECTS).max(bytes.div_ceil(BYTES));
    u32::try_from(seats)
        .unwrap_or(MAX_WIDTH)
        .clamp(1, MAX_WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_seats_by_what_it_reads() {
        for (objects, bytes, limit, seats) in [
            (0, 0, 0, 1),
            (50, 50_000, 0, 1),
            (250, 250_000, 0, 3),
            (100_000, 100_000_000, 0, 10),
            (100_000, 100_000_000, 500, 5),
            (4, 4 << 20, 0, 8),
            (4, 4 << 20, 1, 2),
        ] {
            assert_eq!(
                of_list(objects, bytes, limit),
                seats,
                "{objects} {bytes} {limit}"
            );
        }
    }
}
