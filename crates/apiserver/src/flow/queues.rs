//! Fair queuing of one priority level, as a value without clock or tasks.
//!
//! A flow that wants more than its part cannot keep the others out: a free seat goes to the waiting flow that has the
//! fewest seats, one flow never has all of them, and a full queue is emptied at the cost of the longest one.

use std::collections::{HashMap, VecDeque};

/// A request, while it waits or has seats.
pub(crate) type Ticket = u64;

/// The bounds of a level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Seats.
    pub(crate) seats: u32,
    /// Requests of one flow that may wait.
    pub(crate) queue_of_flow: usize,
    /// Requests of all flows that may wait.
    pub(crate) queue: usize,
}

impl Bounds {
    /// Seats that one flow may have: three quarters, so that others always find one.
    pub(crate) fn seats_of_flow(self) -> u32 {
        (self.seats - self.seats / 4).max(1)
    }
}

/// What becomes of a request that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has its seats.
    Seated,
    /// It waits; a request of a longer queue may have lost its place to it.
    Queued {
        /// The one that is refused in its stead.
        displaced: Option<Ticket>,
    },
    /// Its own queue, or all of them, is full.
    Refused,
}

#[derive(Debug, Default)]
struct OfFlow {
    waiting: VecDeque<(Ticket, u32)>,
    seats: u32,
    /// When it came or last got a seat, as a number that only grows: of flows with the same number of seats, the one
    /// that has not had its turn for longest is next.
    turn: u64,
}

/// The flows of a level.
#[derive(Debug)]
pub(crate) struct Queues {
    bounds: Bounds,
    flows: HashMap<String, OfFlow>,
    seats: u32,
    waiting: usize,
    turn: u64,
}

impl Queues {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            flows: HashMap::new(),
            seats: 0,
            waiting: 0,
            turn: 0,
        }
    }

    /// Seats in use.
    pub(crate) fn seats_in_use(&self) -> u32 {
        self.seats
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The seats that a request of this width takes; a wide one takes at most what a flow may have.
    pub(crate) fn width(&self, width: u32) -> u32 {
        width.clamp(1, self.bounds.seats_of_flow())
    }

    /// A request arrives.
    pub(crate) fn arrive(&mut self, key: &str, ticket: Ticket, width: u32) -> Arrival {
        let width = self.width(width);
        let flow = self.flows.get(key);
        let (seats, queued) = flow.map_or((0, 0), |f| (f.seats, f.waiting.len()));
        if queued == 0 && self.fits(seats, width) && self.first_in_line().is_none() {
            self.seat(key, width);
            return Arrival::Seated;
        }
        if queued >= self.bounds.queue_of_flow {
            return Arrival::Refused;
        }
        let mut displaced = None;
        if self.waiting >= self.bounds.queue {
            let Some(longest) = self.longest(queued + 1) else {
                return Arrival::Refused;
            };
            let Some((lost, _)) = self
                .flows
                .get_mut(&longest)
                .and_then(|flow| flow.waiting.pop_back())
            else {
                return Arrival::Refused;
            };
            self.waiting -= 1;
            displaced = Some(lost);
        }
        self.turn += 1;
        let turn = self.turn;
        let flow = self.flows.entry(key.to_owned()).or_insert(OfFlow {
            turn,
            ..OfFlow::default()
        });
        flow.waiting.push_back((ticket, width));
        self.waiting += 1;
        Arrival::Queued { displaced }
    }

    /// A request gives its seats back.
    pub(crate) fn leave(&mut self, key: &str, width: u32) {
        let width = self.width(width);
        self.seats = self.seats.saturating_sub(width);
        if let Some(flow) = self.flows.get_mut(key) {
            flow.seats = flow.seats.saturating_sub(width);
        }
        self.forget(key);
    }

    /// A request no longer waits. False when it doesn't wait at all.
    pub(crate) fn give_up(&mut self, key: &str, ticket: Ticket) -> bool {
        let Some(flow) = self.flows.get_mut(key) else {
            return false;
        };
        let before = flow.waiting.len();
        flow.waiting.retain(|(waiting, _)| *waiting != ticket);
        let found = flow.waiting.len() < before;
        if found {
            self.waiting -= 1;
        }
        self.forget(key);
        found
    }

    /// The next request that gets its seats, if there are any for it.
    pub(crate) fn next(&mut self) -> Option<Ticket> {
        let (key, width) = self.first_in_line()?;
        if self.seats.saturating_add(width) > self.bounds.seats {
            return None;
        }
        let key = key.to_owned();
        let (ticket, width) = self.flows.get_mut(&key)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.seat(&key, width);
        Some(ticket)
    }

    fn fits(&self, seats_of_flow: u32, width: u32) -> bool {
        self.seats.saturating_add(width) <= self.bounds.seats
            && seats_of_flow.saturating_add(width) <= self.bounds.seats_of_flow()
    }

    /// The waiting flow whose turn it is, with the width of its first request. When that is too wide for the free seats
    /// everybody waits, so that narrow requests cannot keep a wide one waiting for ever.
    fn first_in_line(&self) -> Option<(&str, u32)> {
        let most = self.bounds.seats_of_flow();
        self.flows
            .iter()
            .filter_map(|(key, flow)| Some((key, flow, flow.waiting.front()?.1)))
            .filter(|(_, flow, width)| flow.seats.saturating_add(*width) <= most)
            .min_by_key(|(_, flow, _)| (flow.seats, flow.turn))
            .map(|(key, _, width)| (key.as_str(), width))
    }

    /// The flow with the most waiting requests, if they are more than `least`.
    fn longest(&self, least: usize) -> Option<String> {
        self.flows
            .iter()
            .filter(|(_, flow)| flow.waiting.len() > least)
            .max_by_key(|(_, flow)| flow.waiting.len())
            .map(|(key, _)| key.clone())
    }

    fn seat(&mut self, key: &str, width: u32) {
        self.turn += 1;
        let turn = self.turn;
        let flow = self.flows.entry(key.to_owned()).or_default();
        flow.seats += width;
        flow.turn = turn;
        self.seats += width;
    }

    fn forget(&mut self, key: &str) {
        let empty = self
            .flows
            .get(key)
            .is_some_and(|flow| flow.seats == 0 && flow.waiting.is_empty());
        if empty {
            self.flows.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queues(seats: u32, queue_of_flow: usize, queue: usize) -> Queues {
        Queues::new(Bounds {
            seats,
            queue_of_flow,
            queue,
        })
    }

    #[test]
    fn one_flow_leaves_seats_for_others() {
        let mut q = queues(8, 100, 100);
        let seated = (0..50)
            .filter(|t| q.arrive("greedy", *t, 1) == Arrival::Seated)
            .count();
        assert_eq!(seated, 6);
        assert_eq!(q.arrive("other", 100, 1), Arrival::Seated);
        assert_eq!(q.arrive("third", 101, 1), Arrival::Seated);
        assert_eq!(
            q.arrive("third", 102, 1),
            Arrival::Queued { displaced: None }
        );
        // The greedy flow has waited for longer, but has more.
        q.leave("greedy", 1);
        assert_eq!(q.next(), Some(102));
        assert_eq!(q.next(), None);
    }

    #[test]
    fn a_full_queue_is_emptied_at_the_cost_of_the_longest() {
        let mut q = queues(1, 3, 4);
        assert_eq!(q.arrive("a", 0, 1), Arrival::Seated);
        for ticket in 1..=3 {
            assert_eq!(
                q.arrive("a", ticket, 1),
                Arrival::Queued { displaced: None }
            );
        }
        assert_eq!(q.arrive("a", 4, 1), Arrival::Refused);
        assert_eq!(q.arrive("b", 5, 1), Arrival::Queued { displaced: None });
        assert_eq!(q.arrive("c", 6, 1), Arrival::Queued { displaced: Some(3) });
        assert_eq!(q.arrive("b", 7, 1), Arrival::Refused);
        q.leave("a", 1);
        assert_eq!(q.waiting(), 4);
        // a has had its turn before b came.
        assert_eq!([q.next(), q.next()], [Some(1), None]);
        q.leave("a", 1);
        assert_eq!(q.next(), Some(5));
    }

    #[test]
    fn a_wide_request_is_not_overtaken_for_ever() {
        let mut q = queues(4, 10, 10);
        assert_eq!(q.arrive("a", 0, 2), Arrival::Seated);
        assert_eq!(q.arrive("b", 1, 3), Arrival::Queued { displaced: None });
        // Two seats are free, but b's turn is first.
        assert_eq!(q.arrive("c", 2, 1), Arrival::Queued { displaced: None });
        assert_eq!(q.next(), None);
        q.leave("a", 2);
        assert_eq!(q.next(), Some(1));
        assert_eq!(q.next(), Some(2));
    }

    #[test]
    fn who_gives_up_is_not_called() {
        let mut q = queues(1, 10, 10);
        assert_eq!(q.arrive("a", 0, 1), Arrival::Seated);
        assert_eq!(q.arrive("b", 1, 1), Arrival::Queued { displaced: None });
        assert!(q.give_up("b", 1));
        assert!(!q.give_up("b", 1));
        q.leave("a", 1);
        assert_eq!(q.next(), None);
        assert!(q.flows.is_empty());
    }

    proptest! {
        /// Whatever comes and goes: no more seats are taken than there are, none is lost, nobody waits for ever.
        #[test]
        fn seats_are_kept_count_of(steps in prop::collection::vec((0..4_u8, 0..5_usize, 1..6_u32), 1..400)) {
            let mut q = queues(8, 20, 40);
            let keys = ["a", "b", "c", "d", "e"];
            let mut seated: Vec<(Ticket, usize, u32)> = Vec::new();
            let mut waiting: Vec<(Ticket, usize, u32)> = Vec::new();
            for (ticket, (step, key, width)) in steps.into_iter().enumerate() {
                let ticket = ticket as Ticket;
                match step {
                    0 | 1 => match q.arrive(keys[key], ticket, width) {
                        Arrival::Seated => seated.push((ticket, key, width)),
                        Arrival::Queued { displaced } => {
                            waiting.retain(|(t, ..)| Some(*t) != displaced);
                            waiting.push((ticket, key, width));
                        }
                        Arrival::Refused => {}
                    },
                    2 if !seated.is_empty() => {
                        let (_, key, width) = seated.remove(key % seated.len());
                        q.leave(keys[key], width);
                    }
                    3 if !waiting.is_empty() => {
                        let (ticket, key, _) = waiting.remove(key % waiting.len());
                        prop_assert!(q.give_up(keys[key], ticket));
                    }
                    _ => {}
                }
                while let Some(next) = q.next() {
                    let at = waiting.iter().position(|(t, ..)| *t == next).unwrap();
                    seated.push(waiting.remove(at));
                }
                let used: u32 = seated.iter().map(|(_, _, width)| q.width(*width)).sum();
                prop_assert_eq!(q.seats_in_use(), used);
                prop_assert!(used <= 8);
                prop_assert_eq!(q.waiting(), waiting.len());
            }
            for (_, key, width) in seated.drain(..) {
                q.leave(keys[key], width);
            }
            while let Some(next) = q.next() {
                let at = waiting.iter().position(|(t, ..)| *t == next).unwrap();
                let (_, key, width) = waiting.remove(at);
                q.leave(keys[key], width);
            }
            prop_assert!(waiting.is_empty(), "{:?} wait for ever", waiting);
            prop_assert!(q.flows.is_empty());
        }
    }
}
