//! Protobuf's wire format.

use super::ProtobufError;

/// The content of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A varint or fixed number, as it stands.
    Number(u64),
    /// A string, bytes or message.
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Option<(u32, Item<'a>)> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n != 0)?;
        let item = match tag & 7 {
            0 => Item::Number(varint(&mut self.rest)?),
            1 => Item::Number(u64::from_le_bytes(
                take(&mut self.rest, 8)?.try_into().ok()?,
            )),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).ok()?;
                Item::Bytes(take(&mut self.rest, length)?)
            }
            5 => Item::Number(u64::from(u32::from_le_bytes(
                take(&mut self.rest, 4)?.try_into().ok()?,
            ))),
            _ => return None,
        };
        Some((number, item))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Item<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(ProtobufError::Wire))
    }
}

/// Varints one after the other.
pub(super) fn packed(mut bytes: &[u8]) -> Result<Vec<u64>, ProtobufError> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        numbers.push(varint(&mut bytes).ok_or(ProtobufError::Wire)?);
    }
    Ok(numbers)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Writes a field of bytes, a string or a message.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_head(out, number, content.len() as u64);
    out.extend_from_slice(content);
}

/// Writes a field that is a varint.
pub(super) fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Writes a field of eight bytes.
pub(super) fn put_fixed(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes the beginning of a field of bytes whose content follows; `length` is the content's.
pub(crate) fn put_head(out: &mut Vec<u8>, number: u32, length: u64) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, length);
}

/// How many bytes a field of bytes has, its number and length included.
pub(crate) fn size_of_bytes(number: u32, length: u64) -> u64 {
    let mut head = Vec::new();
    put_head(&mut head, number, length);
    head.len() as u64 + length
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}
