//! JSON straight from a message's bytes.
//!
//! [`proto::json`] takes a message apart into values of its own before it writes them, which is most of the work where
//! the same few messages are sent all day, as watches do. Here the bytes are read field by field, against shapes that are
//! made once of the contract's descriptors. What is rare (numbers in fixed width, packed lists, a field that comes twice)
//! is left to the long way: the text is the same, and a test says so for messages made at random.

use std::{
    collections::HashMap,
    ops::{Range, RangeInclusive},
    sync::LazyLock,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint},
};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use proto::json;

/// The seconds since 1970 that JSON can show: the years 1 to 9999.
const TIMES: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The contract's messages, as far as it takes to write them.
static SHAPES: LazyLock<Shapes> = LazyLock::new(Shapes::of_the_contract);

struct Shapes {
    all: Vec<Shape>,
    by_name: HashMap<String, usize>,
}

enum Shape {
    /// A message of the contract: its fields in the order in which they are written.
    Fields(Vec<Field>),
    /// A time, which has a form of its own.
    Time,
    /// Another of the well-known messages: rare, and left to who knows its form.
    WellKnown(MessageDescriptor),
}

struct Field {
    number: u32,
    /// Quoted, with the colon.
    name: Vec<u8>,
    kind: Kind,
    many: Many,
    oneof: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Many {
    /// Left out where it is absent.
    Optional,
    /// Written with its default where it is absent.
    One,
    List,
    /// Its keys are texts; `kind` is that of the values.
    Map,
}

enum Kind {
    Bool,
    I32,
    I64,
    U32,
    U64,
    Text,
    Bytes,
    /// Each value's word, quoted.
    Word(Vec<(i32, Vec<u8>)>),
    Message(usize),
    /// What is left to the long way.
    Rare,
}

/// A value as it stands in the bytes.
#[derive(Clone, Copy)]
enum Raw<'w> {
    Number(u64),
    Bytes(&'w [u8]),
}

/// Writes the message `of` that `wire` encodes; none where it takes the long way. What `out` holds then is of no use.
pub(crate) fn write(of: &MessageDescriptor, wire: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let shape = *SHAPES.by_name.get(of.full_name())?;
    let mut writer = Writer {
        found: Vec::with_capacity(64),
        out,
    };
    writer.message(shape, wire)
}

impl Shapes {
    fn of_the_contract() -> Self {
        let messages: Vec<_> = proto::pool().all_messages().collect();
        let named = messages.iter().enumerate();
        let by_name: HashMap<String, usize> = named
            .map(|(at, message)| (message.full_name().to_owned(), at))
            .collect();
        let all = messages
            .into_iter()
            .map(|message| Shape::of(message, &by_name))
            .collect();
        Self { all, by_name }
    }
}

impl Shape {
    fn of(message: MessageDescriptor, by_name: &HashMap<String, usize>) -> Self {
        if message.full_name() == "google.protobuf.Timestamp" {
            return Self::Time;
        }
        if message.package_name() == "google.protobuf" {
            return Self::WellKnown(message);
        }
        let oneofs: Vec<_> = message.oneofs().collect();
        let fields = message.fields().map(|field| {
            let (kind, many) = match (field.kind(), field.is_map()) {
                (prost_reflect::Kind::Message(entry), true) => {
                    let texts = entry.map_entry_key_field().kind() == prost_reflect::Kind::String;
                    let value = Kind::of(entry.map_entry_value_field().kind(), by_name);
                    (if texts { value } else { Kind::Rare }, Many::Map)
                }
                (kind, _) if field.is_list() => (Kind::of(kind, by_name), Many::List),
                (kind, _) if field.supports_presence() => (Kind::of(kind, by_name), Many::Optional),
                (kind, _) => (Kind::of(kind, by_name), Many::One),
            };
            let oneof = field.containing_oneof();
            Field {
                number: field.number(),
                name: format!("\"{}\":", field.json_name()).into_bytes(),
                kind,
                many,
                oneof: oneof.and_then(|oneof| oneofs.iter().position(|one| *one == oneof)),
            }
        });
        Self::Fields(fields.collect())
    }
}

impl Kind {
    fn of(kind: prost_reflect::Kind, by_name: &HashMap<String, usize>) -> Self {
        use prost_reflect::Kind as Of;
        match kind {
            Of::Bool => Self::Bool,
            Of::Int32 => Self::I32,
            Of::Int64 => Self::I64,
            Of::Uint32 => Self::U32,
            Of::Uint64 => Self::U64,
            Of::String => Self::Text,
            Of::Bytes => Self::Bytes,
            Of::Enum(of) => {
                let words = of.values().map(|value| {
                    let word = format!("\"{}\"", value.name()).into_bytes();
                    (value.number(), word)
                });
                Self::Word(words.collect())
            }
            Of::Message(of) => by_name.get(of.full_name()).map_or(Self::Rare, |at| Self::Message(*at)),
            Of::Double
            | Of::Float
            | Of::Sint32
            | Of::Sint64
            | Of::Fixed32
            | Of::Fixed64
            | Of::Sfixed32
            | Of::Sfixed64 => Self::Rare,
        }
    }
}

struct Writer<'w, 'o> {
    /// The fields of the message that is written, behind those of the messages that it is in.
    found: Vec<(u32, Raw<'w>)>,
    out: &'o mut Vec<u8>,
}

impl<'w> Writer<'w, '_> {
    fn message(&mut self, shape: usize, wire: &'w [u8]) -> Option<()> {
        match SHAPES.all.get(shape)? {
            Shape::Fields(fields) => {
                let base = self.found.len();
                self.read(wire)?;
                let written = self.fields(fields, base);
                self.found.truncate(base);
                written
            }
            Shape::Time => {
                let time = prost_types::Timestamp::decode(wire).ok()?;
                self.time(time)
            }
            Shape::WellKnown(of) => {
                let message = DynamicMessage::decode(of.clone(), wire).ok()?;
                json::write(&message, self.out).ok()
            }
        }
    }

    /// Finds the fields of a message.
    fn read(&mut self, mut wire: &'w [u8]) -> Option<()> {
        while !wire.is_empty() {
            let (number, form) = decode_key(&mut wire).ok()?;
            let raw = match form {
                WireType::Varint => Raw::Number(decode_varint(&mut wire).ok()?),
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut wire).ok()?).ok()?;
                    let (bytes, rest) = wire.split_at_checked(length)?;
                    wire = rest;
                    Raw::Bytes(bytes)
                }
                WireType::SixtyFourBit | WireType::ThirtyTwoBit | WireType::StartGroup | WireType::EndGroup => {
                    return None;
                }
            };
            self.found.push((number, raw));
        }
        Some(())
    }

    fn fields(&mut self, fields: &[Field], base: usize) -> Option<()> {
        let end = self.found.len();
        // Encoders write fields in the order of their numbers, which is the order here.
        let (mut at, mut first, mut oneofs) = (base, true, 0_u64);
        self.out.push(b'{');
        for field in fields {
            let begin = at;
            while at < end && self.found.get(at)?.0 == field.number {
                at += 1;
            }
            let value = self.found.get(begin..at)?.first().map(|(_, raw)| *raw);
            // To be merged, which the long way does.
            if at - begin > 1 && matches!(field.many, Many::One | Many::Optional) {
                return None;
            }
            if let (Some(oneof), Some(_)) = (field.oneof, value) {
                let bit = 1_u64.checked_shl(u32::try_from(oneof).ok()?)?;
                if oneofs & bit != 0 {
                    return None;
                }
                oneofs |= bit;
            }
            let unset = matches!(&field.kind, Kind::Word(_)) && matches!(value, None | Some(Raw::Number(0)));
            match field.many {
                Many::Optional if value.is_none() || unset => continue,
                Many::One if unset => continue,
                Many::Optional | Many::One | Many::List | Many::Map => {}
            }
            if !std::mem::take(&mut first) {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&field.name);
            match field.many {
                Many::Optional | Many::One => self.value(&field.kind, value)?,
                Many::List => self.list(&field.kind, begin..at)?,
                Many::Map => self.map(&field.kind, begin..at)?,
            }
        }
        self.out.push(b'}');
        // Something is left: in another order, or of a newer release.
        (at == end).then_some(())
    }

    fn list(&mut self, kind: &Kind, found: Range<usize>) -> Option<()> {
        self.out.push(b'[');
        let begin = found.start;
        for at in found {
            if at > begin {
                self.out.push(b',');
            }
            let (_, raw) = *self.found.get(at)?;
            self.value(kind, Some(raw))?;
        }
        self.out.push(b']');
        Some(())
    }

    fn map(&mut self, kind: &Kind, found: Range<usize>) -> Option<()> {
        let mut entries: Vec<(&'w str, Option<Raw<'w>>)> = Vec::with_capacity(found.len());
        for at in found {
            let (_, raw) = *self.found.get(at)?;
            let Raw::Bytes(entry) = raw else { return None };
            let inner = self.found.len();
            self.read(entry)?;
            let (mut key, mut value) = ("", None);
            for (number, raw) in self.found.drain(inner..) {
                match (number, raw) {
                    (1, Raw::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?,
                    (2, raw) => value = Some(raw),
                    _ => return None,
                }
            }
            entries.push((key, value));
        }
        // As they were encoded, unless somebody else did; and a key that comes twice is for the long way.
        entries.sort_by_key(|(key, _)| *key);
        if entries
            .windows(2)
            .any(|two| matches!(two, [(one, _), (other, _)] if one == other))
        {
            return None;
        }
        self.out.push(b'{');
        for (at, (key, value)) in entries.into_iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.json(key)?;
            self.out.push(b':');
            self.value(kind, value)?;
        }
        self.out.push(b'}');
        Some(())
    }

    /// A value, or the default of its kind.
    fn value(&mut self, kind: &Kind, raw: Option<Raw<'w>>) -> Option<()> {
        let number = match raw {
            None => Some(0),
            Some(Raw::Number(number)) => Some(number),
            Some(Raw::Bytes(_)) => None,
        };
        let bytes = match raw {
            None => Some(&[][..]),
            Some(Raw::Bytes(bytes)) => Some(bytes),
            Some(Raw::Number(_)) => None,
        };
        match kind {
            Kind::Bool => self.json(&(number? != 0)),
            // The lower half is what counts, as for every reader of the format.
            Kind::I32 => self.json(&(number? as i32)),
            Kind::I64 => self.json(&(number? as i64)),
            Kind::U32 => self.json(&(number? as u32)),
            Kind::U64 => self.json(&number?),
            Kind::Text => self.json(std::str::from_utf8(bytes?).ok()?),
            Kind::Bytes => self.json(&BASE64_STANDARD.encode(bytes?)),
            Kind::Word(words) => {
                let number = number? as i32;
                match words.iter().find(|(of, _)| *of == number) {
                    Some((_, word)) => self.out.extend_from_slice(word),
                    None => self.json(&number)?,
                }
                Some(())
            }
            Kind::Message(shape) => self.message(*shape, bytes?),
            Kind::Rare => None,
        }
    }

    /// RFC 3339, as `prost_types` shows it: in UTC, with 0, 3, 6 or 9 digits of a second's fraction. Written here because each
    /// record has two, and the formatter takes longer over them than over all the rest.
    fn time(&mut self, time: prost_types::Timestamp) -> Option<()> {
        if !TIMES.contains(&time.seconds) {
            return None;
        }
        let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        let second = u32::try_from(time.seconds.rem_euclid(86_400)).ok()?;
        let (year, month, day) = date(time.seconds.div_euclid(86_400))?;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        self.out.push(b'"');
        for (number, digits, end) in [
            (year, 4, b'-'),
            (month, 2, b'-'),
            (day, 2, b'T'),
            (hour, 2, b':'),
            (minute, 2, b':'),
        ] {
            self.digits(number, digits);
            self.out.push(end);
        }
        self.digits(second, 2);
        if nanos > 0 {
            let (fraction, digits) = match nanos {
                _ if nanos % 1_000_000 == 0 => (nanos / 1_000_000, 3),
                _ if nanos % 1_000 == 0 => (nanos / 1_000, 6),
                _ => (nanos, 9),
            };
            self.out.push(b'.');
            self.digits(fraction, digits);
        }
        self.out.extend_from_slice(b"Z\"");
        Some(())
    }

    /// The last so many digits of a number, nine at most.
    fn digits(&mut self, mut number: u32, digits: usize) {
        let mut text = [b'0'; 9];
        for place in text.iter_mut().take(digits).rev() {
            *place += (number % 10) as u8;
            number /= 10;
        }
        self.out.extend(text.iter().take(digits));
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Option<()> {
        serde_json::to_writer(&mut *self.out, value).ok()
    }
}

/// The year, month and day of so many days after 1970-01-01, in the proleptic Gregorian calendar. The calendar is counted from
/// the 1st of March of the year 0, so that the leap day is a year's last, in eras of 400 years, which are all of one length
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn date(days: i64) -> Option<(u32, u32, u32)> {
    const ERA: i64 = 146_097;
    let days = days.checked_add(719_468)?;
    let (era, of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March: the lengths of the months come again every five.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let number = |of: i64| u32::try_from(of).ok();
    Some((number(year)?, number(month)?, number(day)?))
}

#[cfg(test)]
mod tests;
