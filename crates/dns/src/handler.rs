//! The way of one question: what it costs its client, whose name it is, who answers.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use berth_supervise::panic_reason;
use futures::future::BoxFuture;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};
use parking_lot::RwLock;
use rand::seq::SliceRandom as _;
use tracing::error;

use crate::forward::Forwarder;
use crate::limit::Clients;
use crate::query::{self, Answer, Read, Request, Transport};
use crate::question::Question;
use crate::zone::{Found, TTL, Zone};

/// Most aliases that are followed.
const MAX_ALIASES: usize = 8;

/// Answers questions; cheap to clone.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) zone: Arc<RwLock<Zone>>,
    pub(crate) forwarder: Forwarder,
    pub(crate) clients: Clients,
}

/// What has become of a question.
pub(crate) enum Outcome {
    Reply(Vec<u8>),
    /// Somebody else has to be asked.
    Later(BoxFuture<'static, Option<Vec<u8>>>),
    /// The client gets nothing.
    Nothing,
}

/// What is known here.
enum Known {
    Answer(Answer),
    /// This name is somebody else's; the records are the aliases that lead to it.
    Elsewhere(Name, Vec<Record>),
}

impl Handler {
    /// Answers a message, at once where that needs nobody else. A panic costs its client the answer and nobody anything else.
    pub(crate) fn handle(&self, bytes: &[u8], client: IpAddr, transport: Transport) -> Outcome {
        let work = AssertUnwindSafe(|| self.answer(bytes, client, transport));
        catch_unwind(work).unwrap_or_else(|panic| {
            let reason = panic_reason(&*panic);
            error!(%client, reason, "a DNS question could not be answered: berth has a defect");
            Outcome::Nothing
        })
    }

    fn answer(&self, bytes: &[u8], client: IpAddr, transport: Transport) -> Outcome {
        let now = Instant::now();
        if !self.clients.may_ask(client, now) {
            return Outcome::Nothing;
        }
        let request = match query::read(bytes, transport) {
            Read::Request(request) => request,
            Read::Refused(bytes) => return Outcome::Reply(bytes),
            Read::Ignored => return Outcome::Nothing,
        };
        let reply = |answer| {
            request
                .write(answer)
                .map_or(Outcome::Nothing, Outcome::Reply)
        };
        let (name, aliases) = match self.known(&request) {
            Known::Answer(answer) => return reply(answer),
            Known::Elsewhere(name, aliases) => (name, aliases),
        };
        if self.forwarder.is_loop(&name) {
            return reply(Answer::code(ResponseCode::ServFail));
        }
        let question = Question::new(
            &name,
            request.kind(),
            request.dnssec_ok(),
            request.checking_disabled,
        );
        if let Some(answer) = self.forwarder.cached(&question) {
            return reply(follow(aliases, answer));
        }
        let Some(place) = self.clients.may_forward(client, now) else {
            return reply(Answer::code(ResponseCode::ServFail));
        };
        let forwarder = self.forwarder.clone();
        Outcome::Later(Box::pin(async move {
            let answer = forwarder.ask(question).await;
            drop(place);
            request.write(follow(aliases, answer))
        }))
    }

    fn known(&self, request: &Request) -> Known {
        let zone = self.zone.read();
        let mut name = request.name().clone();
        let mut aliases = Vec::new();
        for _ in 0..=MAX_ALIASES {
            let Some(found) = zone.lookup(&name, request.kind()) else {
                return Known::Elsewhere(name, aliases);
            };
            // A name that is not here yet may exist all the same.
            if !zone.is_read() {
                return Known::Answer(Answer::code(ResponseCode::ServFail));
            }
            let (code, answers, additionals, authorities) = match found {
                Found::Alias(target) => {
                    let data = RData::CNAME(rdata::CNAME(target.clone()));
                    aliases.push(Record::from_rdata(name, TTL, data));
                    if request.kind() != RecordType::CNAME {
                        name = target;
                        continue;
                    }
                    (ResponseCode::NoError, Vec::new(), Vec::new(), Vec::new())
                }
                Found::Records(mut answers, additionals) => {
                    // Clients take the first address: each its own.
                    answers.shuffle(&mut rand::rng());
                    (ResponseCode::NoError, answers, additionals, Vec::new())
                }
                Found::NoData => (
                    ResponseCode::NoError,
                    Vec::new(),
                    Vec::new(),
                    vec![zone.soa()],
                ),
                Found::NoName => (
                    ResponseCode::NXDomain,
                    Vec::new(),
                    Vec::new(),
                    vec![zone.soa()],
                ),
            };
            aliases.extend(answers);
            return Known::Answer(Answer {
                code,
                authoritative: true,
                authentic: false,
                answers: aliases,
                authorities,
                additionals,
            });
        }
        // Aliases that lead to each other.
        Known::Answer(Answer::code(ResponseCode::ServFail))
    }
}

/// The answer to the name that aliases lead to, as one to the first of them.
fn follow(mut aliases: Vec<Record>, mut answer: Answer) -> Answer {
    if !aliases.is_empty() {
        aliases.append(&mut answer.answers);
        answer.answers = aliases;
        answer.authentic = false;
    }
    answer
}
