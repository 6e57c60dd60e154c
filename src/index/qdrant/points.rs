//! Items as points: the id, the payload and back, and filters as conditions on payloads.
//!
//! Numbers are compared as f64 there, which cannot hold nanoseconds since 1970; so seconds and what is left of one are
//! fields of their own. A folder's filter is a match of one of all folders above an item, which an index answers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use qdrant_client::qdrant::value::Kind as Inner;
use qdrant_client::qdrant::{Condition, FieldType, Filter, Range, Value};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::index::place::{self, Place};
use crate::index::{Hash, Item, ItemFilter, Kind};

pub(super) type Payload = HashMap<String, Value>;

const KIND: &str = "kind";
const FOLDER: &str = "folder";
const NAME: &str = "name";
/// Beside a folder or name that is not UTF-8: its bytes.
const FOLDER_BYTES: &str = "folder_bytes";
const NAME_BYTES: &str = "name_bytes";
/// The folder and all that it lies in.
const FOLDERS: &str = "folders";
pub(super) const SIZE: &str = "size";
const MODIFIED: &str = "modified";
const TAKEN: &str = "taken";
/// Of when it was taken, or else modified.
const SECOND: &str = "second";
const NANOSECOND: &str = "nanosecond";
const HASH: &str = "hash";
const TEXT: &str = "text";

/// What filters look at: the server keeps an index of each.
pub(super) const INDEXED: [(&str, FieldType); 5] = [
    (KIND, FieldType::Keyword),
    (FOLDERS, FieldType::Keyword),
    (HASH, FieldType::Keyword),
    (SECOND, FieldType::Integer),
    (NANOSECOND, FieldType::Integer),
];

const SECOND_IN_NANOSECONDS: i64 = 1_000_000_000;

/// The id of the point at a place: a UUID of its own kind (8), made of the place's hash. So an item that comes again
/// takes the place of what was there.
pub(super) fn id(place: &Place) -> String {
    let mut bytes = place::to_bytes(place.folder.as_os_str());
    bytes.push(0);
    bytes.extend(place::to_bytes(&place.name));
    let mut digest = Sha256::digest(&bytes);
    digest[6] = (digest[6] & 0x0f) | 0x80;
    digest[8] = (digest[8] & 0x3f) | 0x80;
    let digits = hex(&digest[..16]);
    let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..16]);
    format!("{a}-{b}-{c}-{}-{}", &digits[16..20], &digits[20..])
}

pub(super) fn payload(item: &Item) -> Payload {
    let Place { folder, name } = &item.place;
    let mut payload = Payload::new();
    let mut put = |field: &str, value: Value| _ = payload.insert(field.to_owned(), value);
    put(KIND, kind(item.kind()).into());
    put(FOLDER, folder.to_string_lossy().into_owned().into());
    put(NAME, name.to_string_lossy().into_owned().into());
    put(FOLDERS, folders(folder).into());
    put(SIZE, (item.size as i64).into());
    put(MODIFIED, item.modified.into());
    let time = item.taken.unwrap_or(item.modified);
    put(SECOND, second(time).into());
    put(NANOSECOND, nanosecond(time).into());
    put(HASH, hex(&item.hash).into());
    if folder.to_str().is_none() {
        put(FOLDER_BYTES, bytes(folder.as_os_str()).into());
    }
    if name.to_str().is_none() {
        put(NAME_BYTES, bytes(name).into());
    }
    if let Some(text) = &item.text {
        put(TEXT, text.as_str().into());
    }
    if let Some(taken) = item.taken {
        put(TAKEN, taken.into());
    }
    payload
}

/// The item of a payload, or what is wrong with it.
pub(super) fn item(payload: &Payload) -> Result<Item, String> {
    let name = |readable: &str, bytes: &str| match payload.get(bytes) {
        Some(_) => Ok(place::from_bytes(digits(payload, bytes)?)),
        None => text(payload, readable).map(|text| text.to_owned().into()),
    };
    let hash = digits(payload, HASH)?;
    let has = |field| payload.contains_key(field);
    let text = has(TEXT).then(|| text(payload, TEXT).map(str::to_owned));
    let taken = has(TAKEN).then(|| number(payload, TAKEN));
    Ok(Item {
        place: Place {
            folder: PathBuf::from(name(FOLDER, FOLDER_BYTES)?),
            name: name(NAME, NAME_BYTES)?,
        },
        size: size(payload)?,
        modified: number(payload, MODIFIED)?,
        hash: hash.try_into().map_err(|_| wrong(HASH))?,
        text: text.transpose()?,
        taken: taken.transpose()?,
    })
}

pub(super) fn size(payload: &Payload) -> Result<u64, String> {
    Ok(number(payload, SIZE)? as u64)
}

/// The conditions that a filter means.
pub(super) fn filter(filter: &ItemFilter) -> Filter {
    let mut all = Vec::new();
    all.extend(filter.kind.map(of_kind));
    if !filter.within.is_empty() {
        all.push(below(&filter.within));
    }
    all.extend(filter.since.map(since));
    all.extend(filter.until.map(until));
    let mut none = Vec::new();
    if !filter.not_within.is_empty() {
        none.push(below(&filter.not_within));
    }
    Filter {
        must: all,
        must_not: none,
        ..Filter::default()
    }
}

pub(super) fn of_kind(of: Kind) -> Condition {
    Condition::matches(KIND, kind(of).to_owned())
}

/// Content of one of these hashes.
pub(super) fn of_hashes<'a>(hashes: impl Iterator<Item = &'a Hash>) -> Condition {
    let hashes: Vec<String> = hashes.map(|hash| hex(hash)).collect();
    Condition::matches(HASH, hashes)
}

fn below(paths: &[PathBuf]) -> Condition {
    let keys: Vec<String> = paths.iter().map(|path| key(&plain(path))).collect();
    Condition::matches(FOLDERS, keys)
}

fn since(time: i64) -> Condition {
    let (second, nanosecond) = (second(time), nanosecond(time));
    Filter::should([
        later_than(second),
        Filter::must([
            Condition::matches(SECOND, second),
            Condition::range(
                NANOSECOND,
                Range {
                    gte: Some(nanosecond as f64),
                    ..Range::default()
                },
            ),
        ])
        .into(),
    ])
    .into()
}

fn later_than(second: i64) -> Condition {
    let range = Range {
        gt: Some(second as f64),
        ..Range::default()
    };
    Condition::range(SECOND, range)
}

/// Every item has a time, so one that is not at this time or later is before it.
fn until(time: i64) -> Condition {
    Filter::must_not([since(time)]).into()
}

fn second(time: i64) -> i64 {
    time.div_euclid(SECOND_IN_NANOSECONDS)
}

fn nanosecond(time: i64) -> i64 {
    time.rem_euclid(SECOND_IN_NANOSECONDS)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => "image",
        Kind::Text => "text",
    }
}

fn folders(folder: &Path) -> Vec<String> {
    plain(folder).ancestors().map(key).collect()
}

/// Without what does not change where a path leads, as a slash at its end.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// A path as it is compared. Two paths have the same key only if they are the same: one that is UTF-8 is absolute, and
/// so does not begin as the others do.
fn key(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => format!("bytes:{}", bytes(path.as_os_str())),
    }
}

fn bytes(name: &OsStr) -> String {
    hex(&place::to_bytes(name))
}

fn text<'a>(payload: &'a Payload, field: &str) -> Result<&'a str, String> {
    match payload.get(field).and_then(|value| value.kind.as_ref()) {
        Some(Inner::StringValue(text)) => Ok(text),
        _ => Err(wrong(field)),
    }
}

fn number(payload: &Payload, field: &str) -> Result<i64, String> {
    match payload.get(field).and_then(|value| value.kind.as_ref()) {
        Some(Inner::IntegerValue(number)) => Ok(*number),
        _ => Err(wrong(field)),
    }
}

fn digits(payload: &Payload, field: &str) -> Result<Vec<u8>, String> {
    let text = text(payload, field)?;
    let is_hex = text.len() % 2 == 0 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex {
        return Err(wrong(field));
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong(field)))
        .collect()
}

fn wrong(field: &str) -> String {
    format!("a point without a proper {field}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qdrant_client::qdrant::condition::ConditionOneOf;
    use qdrant_client::qdrant::r#match::MatchValue;

    use super::*;

    fn item_at(folder: &str, name: &str) -> Item {
        Item {
            place: Place {
                folder: folder.into(),
                name: name.into(),
            },
            size: 7,
            modified: 1_700_000_000_123_456_789,
            hash: [3; 16],
            text: None,
            taken: None,
        }
    }

    /// What the server makes of a condition, as its documentation has it.
    fn holds(condition: &Condition, payload: &Payload) -> bool {
        match condition.condition_one_of.as_ref().expect("a condition") {
            ConditionOneOf::Filter(filter) => passes(filter, payload),
            ConditionOneOf::Field(field) => {
                let values = match &payload[&field.key].kind {
                    Some(Inner::ListValue(list)) => list.values.clone(),
                    _ => vec![payload[&field.key].clone()],
                };
                let is_match = |value: &Value| match (&field.r#match, &field.range) {
                    (Some(wanted), _) => matches(wanted.match_value.as_ref(), value),
                    (_, Some(range)) => in_range(range, value),
                    _ => panic!("a condition that is not known here"),
                };
                values.iter().any(is_match)
            }
            other => panic!("{other:?} is not known here"),
        }
    }

    fn matches(wanted: Option<&MatchValue>, value: &Value) -> bool {
        match (wanted, value.kind.as_ref()) {
            (Some(MatchValue::Keyword(wanted)), Some(Inner::StringValue(text))) => wanted == text,
            (Some(MatchValue::Keywords(wanted)), Some(Inner::StringValue(text))) => {
                wanted.strings.contains(text)
            }
            (Some(MatchValue::Integer(wanted)), Some(Inner::IntegerValue(number))) => {
                wanted == number
            }
            _ => false,
        }
    }

    fn in_range(range: &Range, value: &Value) -> bool {
        let Some(Inner::IntegerValue(number)) = value.kind else {
            return false;
        };
        let number = number as f64;
        range.lt.is_none_or(|end| number < end)
            && range.gt.is_none_or(|start| number > start)
            && range.gte.is_none_or(|start| number >= start)
            && range.lte.is_none_or(|end| number <= end)
    }

    fn passes(filter: &Filter, payload: &Payload) -> bool {
        let holds = |condition| holds(condition, payload);
        filter.must.iter().all(holds)
            && !filter.must_not.iter().any(holds)
            && (filter.should.is_empty() || filter.should.iter().any(holds))
    }

    /// What a filter means, said plainly.
    fn is_let_through(item: &Item, filter: &ItemFilter) -> bool {
        let is_in = |folder: &PathBuf| item.place.folder.starts_with(folder);
        let time = item.taken.unwrap_or(item.modified);
        filter.kind.is_none_or(|kind| kind == item.kind())
            && (filter.within.is_empty() || filter.within.iter().any(is_in))
            && !filter.not_within.iter().any(is_in)
            && filter.since.is_none_or(|since| time >= since)
            && filter.until.is_none_or(|until| time < until)
    }

    #[test]
    fn ids_are_of_places_and_are_uuids() {
        let first = id(&item_at("/a", "b/c").place);
        let shape: Vec<usize> = first.split('-').map(str::len).collect();
        assert_eq!(shape, [8, 4, 4, 4, 12]);
        assert_eq!(&first[14..15], "8");
        assert_eq!(first, id(&item_at("/a", "b/c").place));
        assert_ne!(first, id(&item_at("/a/b", "c").place));
    }

    #[test]
    fn an_id_never_changes() {
        let place = item_at("/photos/2024", "cat.jpg").place;
        assert_eq!(id(&place), "e48fa838-214d-88fa-a93e-1e2285711f71");
    }

    #[test]
    fn a_payload_is_readable() {
        let payload = payload(&item_at("/photos/2024", "cat.jpg"));
        assert_eq!(text(&payload, FOLDER), Ok("/photos/2024"));
        assert_eq!(text(&payload, NAME), Ok("cat.jpg"));
        assert_eq!(text(&payload, KIND), Ok("image"));
        assert_eq!(number(&payload, SECOND), Ok(1_700_000_000));
        let Some(Inner::ListValue(list)) = &payload[FOLDERS].kind else {
            panic!("a list");
        };
        let folders: Vec<Value> = ["/photos/2024", "/photos", "/"].map(Value::from).into();
        assert_eq!(list.values, folders);
        assert!(!payload.contains_key(NAME_BYTES) && !payload.contains_key(TEXT));
    }

    #[test]
    fn a_field_that_is_missing_or_odd_is_named() {
        for field in [FOLDER, NAME, SIZE, MODIFIED, HASH] {
            let mut odd = payload(&item_at("/photos", "cat.jpg"));
            odd.insert(field.to_owned(), true.into());
            assert_eq!(item(&odd), Err(format!("a point without a proper {field}")));
            odd.remove(field);
            assert_eq!(item(&odd), Err(format!("a point without a proper {field}")));
        }
        let mut odd = payload(&item_at("/photos", "cat.jpg"));
        for digits in ["abc", "zz", "ab", "åå"] {
            odd.insert(HASH.to_owned(), digits.into());
            assert!(item(&odd).is_err(), "{digits}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn names_that_are_not_utf_8_come_back_and_are_filtered() {
        let name = |bytes: &[u8]| place::from_bytes(bytes.to_owned());
        let (one, other) = (name(b"/ph\xff"), name(b"/ph\xfe"));
        let odd = Item {
            place: Place {
                folder: PathBuf::from(&one).join("2024"),
                name: name(b"c\xe9.jpg"),
            },
            ..item_at("", "")
        };
        assert_eq!(item(&payload(&odd)), Ok(odd.clone()));
        let within = |folder: &OsStr| ItemFilter {
            within: vec![folder.into()],
            ..ItemFilter::default()
        };
        assert!(passes(&filter(&within(&one)), &payload(&odd)));
        assert!(!passes(&filter(&within(&other)), &payload(&odd)));
        assert!(passes(&filter(&within("/".as_ref())), &payload(&odd)));
    }

    #[test]
    fn a_slash_at_the_end_changes_nothing() {
        let payload = payload(&item_at("/photos/2024/", "cat.jpg"));
        for folder in ["/photos", "/photos/", "/photos/2024"] {
            let within = vec![folder.into()];
            let filter = filter(&ItemFilter {
                within,
                ..ItemFilter::default()
            });
            assert!(passes(&filter, &payload), "{folder}");
        }
    }

    fn any_folder() -> impl Strategy<Value = PathBuf> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..4)
            .prop_map(|parts| Path::new("/").join(parts.iter().collect::<PathBuf>()))
    }

    /// Times near a second's border, and near each other.
    fn any_time() -> impl Strategy<Value = i64> {
        (-2..3_i64, -2..3_i64).prop_map(|(second, rest)| second * SECOND_IN_NANOSECONDS + rest)
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let text = prop::option::of("[a-z]{0,3}");
        let times = (any_time(), prop::option::of(any_time()));
        (any_folder(), "[^/\0]{1,5}", times, text, any::<u64>()).prop_map(
            |(folder, name, (modified, taken), text, size)| Item {
                place: Place {
                    folder,
                    name: name.into(),
                },
                size,
                modified,
                hash: [size as u8; 16],
                text,
                taken,
            },
        )
    }

    fn any_filter() -> impl Strategy<Value = ItemFilter> {
        let kinds = prop::sample::select(vec![None, Some(Kind::Image), Some(Kind::Text)]);
        let folders = || prop::collection::vec(any_folder(), 0..3);
        let time = || prop::option::of(any_time());
        (kinds, folders(), folders(), time(), time()).prop_map(
            |(kind, within, not_within, since, until)| ItemFilter {
                kind,
                within,
                not_within,
                since,
                until,
            },
        )
    }

    proptest! {
        #[test]
        fn items_come_back(one in any_item()) {
            prop_assert_eq!(item(&payload(&one)), Ok(one));
        }

        #[test]
        fn conditions_mean_what_the_filter_means(one in any_item(), of in any_filter()) {
            prop_assert_eq!(passes(&filter(&of), &payload(&one)), is_let_through(&one, &of));
        }
    }
}
