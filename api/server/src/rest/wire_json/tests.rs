use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use proto::v1;

use super::write;

/// Small numbers that follow from a seed (<https://prng.di.unimi.it/splitmix64.c>).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 6] = [
            "",
            "edge-1",
            "\"quoted\\\"\n\t\u{1}",
            "µ∑ 日本",
            "\u{2028}</script>",
            "a=b,c",
        ];
        TEXTS[self.throw(6) as usize].to_owned()
    }

    fn number(&mut self) -> u64 {
        [0, 1, 7, 300, u64::from(u32::MAX), (1 << 53) - 1][self.throw(6) as usize]
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        match kind {
            Kind::Bool => Value::Bool(self.throw(2) == 1),
            Kind::Int32 => Value::I32(self.number() as i32),
            Kind::Int64 => Value::I64(self.number() as i64),
            Kind::Uint32 => Value::U32(self.number() as u32),
            Kind::Uint64 => Value::U64(self.number()),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => Value::Bytes(self.text().into_bytes().into()),
            // One more than there are: a value of a newer release.
            Kind::Enum(of) => Value::EnumNumber(self.throw(of.values().len() as u64 + 1) as i32),
            Kind::Message(of) => Value::Message(self.message(of, depth + 1)),
            other => panic!("{other:?} is no part of the contract"),
        }
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        let some = self.throw(4);
        if field.is_map() {
            let Kind::Message(entry) = field.kind() else { panic!() };
            let kind = entry.map_entry_value_field().kind();
            return Value::Map(
                (0..some)
                    .map(|_| (MapKey::String(self.text()), self.value(&kind, depth)))
                    .collect(),
            );
        }
        match field.is_list() {
            true => Value::List((0..some).map(|_| self.value(&field.kind(), depth)).collect()),
            false => self.value(&field.kind(), depth),
        }
    }

    fn message(&mut self, of: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields() {
            let time = of.full_name() == "google.protobuf.Timestamp" || of.full_name() == "google.protobuf.Duration";
            match time {
                true if field.name() == "seconds" => message.set_field(&field, Value::I64(self.throw(1 << 33) as i64)),
                true => message.set_field(
                    &field,
                    Value::I32([0, 1, 120_000_000, 999_999_999][self.throw(4) as usize]),
                ),
                false if depth < 6 && self.throw(3) > 0 => message.set_field(&field, self.field(&field, depth)),
                false => {}
            }
        }
        message
    }
}

#[test]
fn the_text_is_that_of_the_long_way() {
    let mut dice = Dice(42);
    let mut short = 0;
    for round in 0..3_000_u32 {
        let of = match round % 3 {
            0 => proto::descriptor::<v1::WatchMessage>(),
            1 => proto::descriptor::<v1::WatchAuditMessage>(),
            _ => proto::descriptor::<v1::AuditRecord>(),
        };
        let message = dice.message(&of, 0);
        let mut long = Vec::new();
        proto::json::write(&message, &mut long).unwrap();
        let mut out = Vec::new();
        if write(&of, &message.encode_to_vec(), &mut out).is_some() {
            short += 1;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text(&out), text(&long), "round {round}");
        }
    }
    assert!(short > 2_900, "only {short} of 3000 messages went the short way");
}

#[test]
fn what_is_rare_or_damaged_takes_the_long_way() {
    let of = proto::descriptor::<v1::WatchMessage>();
    let good = v1::WatchMessage {
        token: "t".into(),
        revision: 7,
        ..v1::WatchMessage::default()
    }
    .encode_to_vec();
    let mut out = Vec::new();
    assert!(write(&of, &good, &mut out).is_some());
    assert_eq!(out, br#"{"token":"t","revision":7}"#);
    let twice = [good.clone(), good.clone()].concat();
    // Field 10 is a text, of which only the first two bytes came.
    let torn = [0x52, 9, b'a', b'b'];
    let no_text = [0x52, 1, 0xff];
    let group = [0x53, 0x54];
    for wire in [&twice[..], &torn, &no_text, &group] {
        assert!(write(&of, wire, &mut Vec::new()).is_none(), "{wire:?}");
    }
}

#[test]
fn times_are_written_as_prost_shows_them() {
    fn written(time: prost_types::Timestamp) -> Option<String> {
        let mut out = Vec::new();
        let mut writer = super::Writer {
            found: Vec::new(),
            out: &mut out,
        };
        let shape = super::SHAPES.by_name["google.protobuf.Timestamp"];
        writer.message(shape, &time.encode_to_vec())?;
        String::from_utf8(out).ok()
    }
    let mut dice = Dice(7);
    let (first, last) = (*super::TIMES.start(), *super::TIMES.end());
    let mut seconds = vec![
        first,
        last,
        -1,
        0,
        951_782_399,
        951_782_400,
        951_868_800,
        4_107_542_399,
        4_107_542_400,
    ];
    seconds.extend((0..20_000).map(|_| first + dice.throw((last - first) as u64) as i64));
    for seconds in seconds {
        let nanos = [0, 1, 999_999_999, 120_000_000, 7_000_000, 1_000, 45_600][dice.throw(7) as usize];
        let time = prost_types::Timestamp { seconds, nanos };
        assert_eq!(written(time), Some(format!("\"{time}\"")));
    }
    for (seconds, nanos) in [(first - 1, 0), (last + 1, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(written(prost_types::Timestamp { seconds, nanos }), None);
    }
}
