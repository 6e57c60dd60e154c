//! Protobuf messages as lists of fields: what nobody here knows of is kept as it was, in its order.
//!
//! Contents are slices of the bytes that were read, so that weights stay where they are until they are written.

use std::borrow::Cow;
use std::io::{self, Write};

/// A message: its fields in their order, each with its number.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) fields: Vec<(u32, Value<'a>)>,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// A whole number.
    Number(u64),
    /// Eight bytes.
    Eight([u8; 8]),
    /// Bytes, a text, or a message that was not looked into.
    Content(Cow<'a, [u8]>),
    /// A message.
    Message(Message<'a>),
    /// Four bytes.
    Four([u8; 4]),
}

impl From<i64> for Value<'_> {
    /// As protobuf has it, a negative number is its two's complement.
    fn from(number: i64) -> Self {
        Value::Number(number.cast_unsigned())
    }
}

impl From<&str> for Value<'_> {
    fn from(text: &str) -> Self {
        Value::Content(Cow::Owned(text.as_bytes().to_vec()))
    }
}

impl<'a> From<Cow<'a, [u8]>> for Value<'a> {
    fn from(content: Cow<'a, [u8]>) -> Self {
        Value::Content(content)
    }
}

impl<'a> From<Message<'a>> for Value<'a> {
    fn from(message: Message<'a>) -> Self {
        Value::Message(message)
    }
}

impl<'a> Message<'a> {
    /// The message in `bytes`, or `None` if they are none.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let value = match key & 7 {
                0 => Value::Number(varint(&mut rest)?),
                1 => Value::Eight(*take(&mut rest, 8)?.first_chunk()?),
                2 => {
                    let length = usize::try_from(varint(&mut rest)?).ok()?;
                    Value::Content(Cow::Borrowed(take(&mut rest, length)?))
                }
                5 => Value::Four(*take(&mut rest, 4)?.first_chunk()?),
                _ => return None,
            };
            fields.push((u32::try_from(key >> 3).ok()?, value));
        }
        Some(Self { fields })
    }

    /// This message with one more field.
    pub(super) fn with(mut self, number: u32, value: impl Into<Value<'a>>) -> Self {
        self.fields.push((number, value.into()));
        self
    }

    /// This message without the fields of these numbers.
    pub(super) fn without(mut self, numbers: &[u32]) -> Self {
        self.fields.retain(|(number, _)| !numbers.contains(number));
        self
    }

    /// The values of all fields of a number.
    pub(super) fn all(&self, number: u32) -> impl Iterator<Item = &Value<'a>> {
        let of_number = move |field: &&(u32, Value<'a>)| field.0 == number;
        self.fields.iter().filter(of_number).map(|(_, value)| value)
    }

    /// The last whole number of a field, which is the one that counts.
    pub(super) fn number(&self, number: u32) -> Option<u64> {
        self.all(number).filter_map(Value::number).last()
    }

    /// The last content of a field.
    pub(super) fn content(&self, number: u32) -> Option<&[u8]> {
        self.all(number).filter_map(Value::content).last()
    }

    /// The last content of a field, where it lies in the bytes that were read.
    pub(super) fn borrowed(&self, number: u32) -> Option<&'a [u8]> {
        let borrowed = |value: &Value<'a>| match value {
            Value::Content(Cow::Borrowed(content)) => Some(*content),
            _ => None,
        };
        self.all(number).filter_map(borrowed).last()
    }

    /// The last content of a field as text; empty where there is none, as protobuf has it.
    pub(super) fn text(&self, number: u32) -> &str {
        let content = self.content(number).unwrap_or_default();
        std::str::from_utf8(content).unwrap_or_default()
    }

    /// The bytes that [`Message::write`] writes.
    pub(super) fn length(&self) -> u64 {
        let of = |(number, value): &(u32, Value<'_>)| {
            varint_length(u64::from(*number) << 3) + value.length()
        };
        self.fields.iter().map(of).sum()
    }

    /// Writes the message, and no more of it at once than a field.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (number, value) in &self.fields {
            let key = u64::from(*number) << 3;
            match value {
                Value::Number(number) => {
                    put_varint(out, key)?;
                    put_varint(out, *number)?;
                }
                Value::Eight(bytes) => {
                    put_varint(out, key | 1)?;
                    out.write_all(bytes)?;
                }
                Value::Content(bytes) => {
                    put_varint(out, key | 2)?;
                    put_varint(out, bytes.len() as u64)?;
                    out.write_all(bytes)?;
                }
                Value::Message(message) => {
                    put_varint(out, key | 2)?;
                    put_varint(out, message.length())?;
                    message.write(out)?;
                }
                Value::Four(bytes) => {
                    put_varint(out, key | 5)?;
                    out.write_all(bytes)?;
                }
            }
        }
        Ok(())
    }
}

impl Value<'_> {
    fn number(&self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn content(&self) -> Option<&[u8]> {
        match self {
            Value::Content(content) => Some(content),
            _ => None,
        }
    }

    /// Of all that follows the key.
    fn length(&self) -> u64 {
        let with_prefix = |length: u64| varint_length(length) + length;
        match self {
            Value::Number(number) => varint_length(*number),
            Value::Eight(_) => 8,
            Value::Content(content) => with_prefix(content.len() as u64),
            Value::Message(message) => with_prefix(message.length()),
            Value::Four(_) => 4,
        }
    }
}

/// All numbers of a repeated field, whose values come one by one or packed.
pub(super) fn numbers(message: &Message<'_>, field: u32) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    for value in message.all(field) {
        match value {
            Value::Number(number) => numbers.push(*number),
            Value::Content(content) => {
                let mut rest = &content[..];
                while !rest.is_empty() {
                    numbers.push(varint(&mut rest)?);
                }
            }
            _ => return None,
        }
    }
    Some(numbers)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn varint_length(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

fn put_varint(out: &mut impl Write, mut value: u64) -> io::Result<()> {
    while value >= 0x80 {
        out.write_all(&[value as u8 | 0x80])?;
        value >>= 7;
    }
    out.write_all(&[value as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(message: &Message<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, message.length());
        bytes
    }

    #[test]
    fn what_is_read_is_written_again() {
        let inner = Message::default().with(1, "name").with(3, -1);
        let message = Message::default()
            .with(1, 300)
            .with(7, inner.clone())
            .with(100, Value::Eight([1; 8]))
            .with(2, Value::Four([2; 4]))
            .with(1, 5);
        let bytes = written(&message);
        let read = Message::read(&bytes).unwrap();
        assert_eq!(written(&read), bytes);
        assert_eq!(read.number(1), Some(5));
        assert_eq!(Message::read(read.content(7).unwrap()).unwrap(), inner);
        assert_eq!(inner.number(3), Some(u64::MAX));
        assert_eq!((read.text(9), read.number(9)), ("", None));
    }

    #[test]
    fn every_cut_within_a_field_is_noticed() {
        let bytes = written(&Message::default().with(1, "name"));
        for length in 1..bytes.len() {
            assert_eq!(Message::read(&bytes[..length]), None);
        }
        assert_eq!(Message::read(&[0xff; 64]), None);
    }

    #[test]
    fn numbers_come_one_by_one_or_packed() {
        let one_by_one = Message::default().with(1, 3).with(1, 300);
        let packed = Message::default().with(1, Cow::Owned(vec![3, 0xac, 2]));
        for message in [one_by_one, packed] {
            assert_eq!(numbers(&message, 1), Some(vec![3, 300]));
        }
    }
}
