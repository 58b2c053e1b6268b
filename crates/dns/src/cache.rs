//! Answers of the node's resolver, kept for as long as they say, within bounds.
//!
//! What is asked once stays on probation; what is asked again moves on, and only what is there counts as worth keeping. A
//! pod that asks for a million names pushes out others that were asked once, and nothing that is in use.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use hickory_proto::serialize::binary::BinEncodable as _;

use crate::query::Answer;
use crate::question::Question;

/// Most answers on probation, and most that were asked for again.
const MAX_NEW: usize = 1024;
const MAX_USED: usize = 3072;
/// The longest answer that is kept, in records and in bytes.
const MAX_RECORDS: usize = 64;
const MAX_BYTES: usize = 4096;

/// How long an answer's records are, names written out.
fn bytes(answer: &Answer) -> usize {
    let sections = [&answer.answers, &answer.authorities, &answer.additionals];
    let records = sections.into_iter().flatten();
    let lengths = records.map(|record| record.to_bytes().map_or(usize::MAX, |bytes| bytes.len()));
    lengths.fold(0, usize::saturating_add)
}

struct Kept {
    answer: Answer,
    since: Instant,
    until: Instant,
    /// Asked for again since it was last looked at.
    again: bool,
}

/// The answers; a plain value, its owner locks it.
#[derive(Default)]
pub(crate) struct Cache {
    kept: HashMap<Question, Kept>,
    /// In the order in which they came.
    new: VecDeque<Question>,
    used: VecDeque<Question>,
}

impl Cache {
    /// The answer to a question with what is left of its time.
    pub(crate) fn get(&mut self, question: &Question, now: Instant) -> Option<Answer> {
        let kept = self.kept.get_mut(question)?;
        if kept.until <= now {
            return None;
        }
        kept.again = true;
        let passed = now.saturating_duration_since(kept.since).as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let mut answer = kept.answer.clone();
        let sections = [
            &mut answer.answers,
            &mut answer.authorities,
            &mut answer.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = record.ttl.saturating_sub(passed);
        }
        Some(answer)
    }

    /// Keeps an answer for `time`.
    pub(crate) fn put(
        &mut self,
        question: Question,
        answer: &Answer,
        time: Duration,
        now: Instant,
    ) {
        let records = answer.answers.len() + answer.authorities.len() + answer.additionals.len();
        if time.is_zero() || records > MAX_RECORDS || bytes(answer) > MAX_BYTES {
            return;
        }
        let kept = Kept {
            answer: answer.clone(),
            since: now,
            until: now + time,
            again: false,
        };
        if let Some(old) = self.kept.get_mut(&question) {
            let again = old.again;
            *old = Kept { again, ..kept };
            return;
        }
        self.kept.insert(question.clone(), kept);
        self.new.push_back(question);
        while self.new.len() > MAX_NEW {
            self.leave_probation(now);
        }
    }

    fn leave_probation(&mut self, now: Instant) {
        if let Some(oldest) = self.new.pop_front()
            && self.renew(&oldest, now)
        {
            self.used.push_back(oldest);
        }
        while self.used.len() > MAX_USED
            && let Some(oldest) = self.used.pop_front()
        {
            if self.renew(&oldest, now) {
                self.used.push_back(oldest);
            }
        }
    }

    /// Keeps an answer that was asked for again and still holds; forgets another one.
    fn renew(&mut self, question: &Question, now: Instant) -> bool {
        match self.kept.get_mut(question) {
            Some(kept) if kept.again && kept.until > now => {
                kept.again = false;
                true
            }
            _ => {
                self.kept.remove(question);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};

    use super::*;

    fn question(name: &str) -> Question {
        Question::new(
            &Name::from_ascii(name).unwrap(),
            RecordType::A,
            false,
            false,
        )
    }

    fn answer(ttl: u32) -> Answer {
        let data = RData::A(rdata::A::new(192, 0, 2, 1));
        Answer {
            answers: vec![Record::from_rdata(
                Name::from_ascii("a.").unwrap(),
                ttl,
                data,
            )],
            ..Answer::default()
        }
    }

    #[test]
    fn an_answer_ages_and_ends() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(question("a."), &answer(60), Duration::from_secs(60), now);
        let at = |cache: &mut Cache, seconds| {
            let found = cache.get(&question("A."), now + Duration::from_secs(seconds));
            found.map(|answer| answer.answers[0].ttl)
        };
        assert_eq!(at(&mut cache, 0), Some(60));
        assert_eq!(at(&mut cache, 45), Some(15));
        assert_eq!(at(&mut cache, 60), None);
        assert!(cache.get(&question("b."), now).is_none());
    }

    #[test]
    fn a_flood_of_names_leaves_what_is_in_use() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let long = Duration::from_secs(3600);
        cache.put(question("used."), &answer(3600), long, now);
        assert!(cache.get(&question("used."), now).is_some());
        for n in 0..100_000 {
            cache.put(question(&format!("n{n}.")), &answer(3600), long, now);
            if n % 500 == 0 {
                assert!(cache.get(&question("used."), now).is_some(), "{n}");
            }
        }
        assert!(cache.kept.len() <= MAX_NEW + MAX_USED);
        assert_eq!(cache.kept.len(), cache.new.len() + cache.used.len());
    }

    #[test]
    fn even_what_is_asked_for_twice_is_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..20_000 {
            let question = question(&format!("n{n}."));
            cache.put(question.clone(), &answer(60), Duration::from_secs(60), now);
            cache.get(&question, now);
        }
        assert!(cache.kept.len() <= MAX_NEW + MAX_USED);
        let huge = Answer {
            answers: vec![answer(60).answers[0].clone(); MAX_RECORDS + 1],
            ..Answer::default()
        };
        cache.put(question("huge."), &huge, Duration::from_secs(60), now);
        assert!(cache.get(&question("huge."), now).is_none());
    }
}
