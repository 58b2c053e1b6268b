//! Reading what a client sent, and writing what it gets.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};

/// The largest datagram that is sent and announced: it passes everywhere without being fragmented.
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// The smallest one that every client takes.
const LEAST_PAYLOAD: u16 = 512;
/// Length of an OPT record without options.
const OPT_LENGTH: u16 = 11;
const HEADER_LENGTH: usize = 12;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// A question that can be answered.
#[derive(Debug)]
pub(crate) struct Request {
    id: u16,
    pub(crate) query: Query,
    recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    /// What the client said about itself with EDNS.
    edns: Option<ClientEdns>,
    transport: Transport,
}

#[derive(Clone, Copy, Debug)]
struct ClientEdns {
    payload: u16,
    dnssec_ok: bool,
}

/// An answer before it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    /// It is this server's own.
    pub(crate) authoritative: bool,
    /// The resolver has verified it.
    pub(crate) authentic: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
}

impl Answer {
    pub(crate) fn code(code: ResponseCode) -> Self {
        Self {
            code,
            ..Self::default()
        }
    }
}

/// What has become of a client's bytes.
#[derive(Debug)]
pub(crate) enum Read {
    Request(Request),
    /// The answer that tells the client what is wrong with them.
    Refused(Vec<u8>),
    /// Nothing that could be answered.
    Ignored,
}

/// Reads a message.
pub(crate) fn read(bytes: &[u8], transport: Transport) -> Read {
    // An answer to an answer could go on for ever.
    let Some((id, flags)) = header(bytes).filter(|(_, flags)| flags & 0x80 == 0) else {
        return Read::Ignored;
    };
    let Ok(message) = Message::from_vec(bytes) else {
        return Read::Refused(bare(id, flags, ResponseCode::FormErr));
    };
    if message.metadata.op_code != OpCode::Query {
        return Read::Refused(bare(id, flags, ResponseCode::NotImp));
    }
    let [query] = message.queries.as_slice() else {
        return Read::Refused(bare(id, flags, ResponseCode::FormErr));
    };
    let edns = message.edns.as_ref();
    let request = Request {
        id,
        query: query.clone(),
        recursion_desired: message.metadata.recursion_desired,
        checking_disabled: message.metadata.checking_disabled,
        edns: edns.map(|edns| ClientEdns {
            payload: edns.max_payload(),
            dnssec_ok: edns.flags().dnssec_ok,
        }),
        transport,
    };
    let refuse = |code| {
        let written = request.write(Answer::code(code));
        written.map_or(Read::Ignored, Read::Refused)
    };
    if edns.is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    match query.query_type() {
        // RFC 8482: nobody needs these, but who wants large answers sent to somebody else.
        RecordType::ANY | RecordType::AXFR | RecordType::IXFR => refuse(ResponseCode::NotImp),
        RecordType::OPT | RecordType::TSIG => refuse(ResponseCode::FormErr),
        _ if query.query_class() != DNSClass::IN => refuse(ResponseCode::Refused),
        _ => Read::Request(request),
    }
}

/// The id and the first byte of flags.
fn header(bytes: &[u8]) -> Option<(u16, u8)> {
    let header = bytes.get(..HEADER_LENGTH)?;
    let id = u16::from_be_bytes([*header.first()?, *header.get(1)?]);
    Some((id, *header.get(2)?))
}

/// A header alone, for a message whose question could not be read.
fn bare(id: u16, flags: u8, code: ResponseCode) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    // The response bit, and the client's opcode and wish for recursion.
    let mut bytes = vec![high, low, 0x80 | flags & 0x79, 0x80 | code.low()];
    bytes.resize(HEADER_LENGTH, 0);
    bytes
}

impl Request {
    pub(crate) fn name(&self) -> &Name {
        self.query.name()
    }

    pub(crate) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    pub(crate) fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// How long the answer may be.
    fn limit(&self) -> u16 {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => LEAST_PAYLOAD,
            (Transport::Udp, Some(edns)) => edns.payload.clamp(LEAST_PAYLOAD, UDP_PAYLOAD),
        }
    }

    /// The bytes of an answer. What doesn't fit is left out: additional records without a word, answers with the bit that
    /// makes the client ask again over TCP.
    pub(crate) fn write(&self, answer: Answer) -> Option<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.authoritative = answer.authoritative;
        message.metadata.authentic_data = answer.authentic && self.dnssec_ok();
        message.metadata.response_code = answer.code;
        message.queries = vec![self.query.clone()];
        message.answers = answer.answers;
        message.authorities = answer.authorities;
        message.additionals = answer.additionals;
        let bytes = self.encode(&message)?;
        let is_cut = bytes.get(2).is_some_and(|flags| flags & 2 != 0);
        if is_cut && !message.additionals.is_empty() {
            message.additionals.clear();
            return self.encode(&message);
        }
        Some(bytes)
    }

    fn encode(&self, message: &Message) -> Option<Vec<u8>> {
        let reserved = if self.edns.is_some() { OPT_LENGTH } else { 0 };
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.limit().saturating_sub(reserved));
        let written = message.emit(&mut encoder);
        // What has not fitted is still there, behind the end.
        encoder.trim();
        if let Err(error) = written {
            tracing::debug!(%error, name = %self.name(), "an answer cannot be encoded");
            return None;
        }
        if let Some(client) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            edns.set_dnssec_ok(client.dnssec_ok);
            edns.set_rcode_high(message.metadata.response_code.high());
            bytes.extend(Record::from(&edns).to_bytes().ok()?);
            let count = bytes.get_mut(10..HEADER_LENGTH)?;
            let more = u16::from_be_bytes([*count.first()?, *count.get(1)?]).checked_add(1)?;
            count.copy_from_slice(&more.to_be_bytes());
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{RData, rdata};

    use super::*;

    fn asked(edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("Web.default.svc.cluster.local.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        edit(&mut message);
        message.to_vec().unwrap()
    }

    fn request(edit: impl FnOnce(&mut Message), transport: Transport) -> Request {
        match read(&asked(edit), transport) {
            Read::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn code(bytes: &[u8]) -> u16 {
        match read(bytes, Transport::Udp) {
            Read::Refused(bytes) => {
                let message = Message::from_vec(&bytes).unwrap();
                message.metadata.response_code.into()
            }
            other => panic!("{other:?}"),
        }
    }

    fn many(count: u8) -> Answer {
        let name = Name::from_ascii("Web.default.svc.cluster.local.").unwrap();
        let record = |n| {
            let data = RData::A(rdata::A::new(10, 0, 0, n));
            Record::from_rdata(name.clone(), 5, data)
        };
        Answer {
            answers: (0..count).map(record).collect(),
            ..Answer::default()
        }
    }

    fn edns(payload: u16) -> impl FnOnce(&mut Message) {
        move |message| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused_by_its_code() {
        assert_eq!(
            code(&asked(|m| m.queries.clear())),
            u16::from(ResponseCode::FormErr)
        );
        let two = |m: &mut Message| m.queries.push(m.queries[0].clone());
        assert_eq!(code(&asked(two)), u16::from(ResponseCode::FormErr));
        let update = |m: &mut Message| m.metadata.op_code = OpCode::Update;
        assert_eq!(code(&asked(update)), u16::from(ResponseCode::NotImp));
        for (kind, wanted) in [
            (RecordType::ANY, ResponseCode::NotImp),
            (RecordType::AXFR, ResponseCode::NotImp),
            (RecordType::OPT, ResponseCode::FormErr),
        ] {
            let of_kind = |m: &mut Message| {
                m.queries[0].set_query_type(kind);
            };
            assert_eq!(code(&asked(of_kind)), u16::from(wanted), "{kind}");
        }
        let chaos = |m: &mut Message| {
            m.queries[0].set_query_class(DNSClass::CH);
        };
        assert_eq!(code(&asked(chaos)), u16::from(ResponseCode::Refused));
        let version = |m: &mut Message| {
            let mut edns = Edns::new();
            edns.set_version(1);
            m.set_edns(edns);
        };
        assert_eq!(code(&asked(version)), u16::from(ResponseCode::BADVERS));
        let mut cut = asked(|_| {});
        cut.truncate(20);
        assert_eq!(code(&cut), u16::from(ResponseCode::FormErr));
    }

    #[test]
    fn answers_and_what_is_shorter_than_a_header_are_not_answered() {
        let answer = asked(|m| m.metadata.message_type = MessageType::Response);
        for bytes in [answer.as_slice(), &[], &[0; 11]] {
            assert!(matches!(read(bytes, Transport::Udp), Read::Ignored));
        }
    }

    #[test]
    fn an_answer_has_what_its_client_takes_and_the_bit_for_the_rest() {
        for (edit, transport, limit) in [
            (None, Transport::Udp, 512),
            (Some(100), Transport::Udp, 512),
            (Some(800), Transport::Udp, 800),
            (Some(65_000), Transport::Udp, usize::from(UDP_PAYLOAD)),
        ] {
            let request = request(
                |m| {
                    if let Some(size) = edit {
                        edns(size)(m);
                    }
                },
                transport,
            );
            let bytes = request.write(many(200)).unwrap();
            assert!(bytes.len() <= limit && bytes.len() > limit - 32, "{limit}");
            let message = Message::from_vec(&bytes).unwrap();
            assert!(message.metadata.truncation);
            assert!(message.answers.len() > 20);
            assert_eq!(message.edns.is_some(), edit.is_some());
        }
        let request = request(|_| {}, Transport::Tcp);
        let message = Message::from_vec(&request.write(many(200)).unwrap()).unwrap();
        assert!(!message.metadata.truncation);
        assert_eq!(message.answers.len(), 200);
        assert_eq!(
            message.queries[0].name().to_ascii(),
            "Web.default.svc.cluster.local."
        );
    }

    #[test]
    fn additional_records_alone_do_not_make_a_client_ask_again() {
        let request = request(|_| {}, Transport::Udp);
        let mut answer = many(2);
        answer.additionals = many(200).answers;
        let message = Message::from_vec(&request.write(answer).unwrap()).unwrap();
        assert!(!message.metadata.truncation);
        assert_eq!((message.answers.len(), message.additionals.len()), (2, 0));
    }
}
