//! Dates as people type them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};

const EXPECTED: &str = "expected a date such as 2024-07-31, 2024-07 or 2024, a time such as 2024-07-31T18:00, or a span back from now such as 7d, 3w, 6mo or 1y";

/// The first moment of what `text` names, in nanoseconds since 1970.
pub(super) fn since(text: &str) -> Result<i64, String> {
    nanoseconds(&bounds(text)?.0)
}

/// The first moment after what `text` names, in nanoseconds since 1970: `--until 2024` takes in all of 2024.
pub(super) fn until(text: &str) -> Result<i64, String> {
    nanoseconds(&bounds(text)?.1)
}

fn nanoseconds(moment: &ZonedDateTime) -> Result<i64, String> {
    i64::try_from(moment.timestamp().as_nanosecond()).map_err(|_| EXPECTED.to_owned())
}

/// Where the time that `text` names begins and ends, in the user's time zone.
fn bounds(text: &str) -> Result<(ZonedDateTime, ZonedDateTime), String> {
    let numbers: Vec<&str> = text.split('-').collect();
    let number = |text: &str| text.parse::<i8>().map_err(|_| EXPECTED.to_owned());
    let year = numbers[0]
        .parse::<i16>()
        .ok()
        .filter(|_| numbers[0].len() == 4);
    let days = match (year, &numbers[1..]) {
        (Some(year), []) => {
            Date::new(year, 1, 1).map(|first| (first, first.saturating_add(1.year())))
        }
        (Some(year), [month]) => {
            Date::new(year, number(month)?, 1).map(|first| (first, first.saturating_add(1.month())))
        }
        (Some(_), [_, day]) if day.len() == 2 => text
            .parse::<Date>()
            .map(|first| (first, first.saturating_add(1.day()))),
        _ => return moment(text).map(|moment| (moment.clone(), moment)),
    };
    let zone = TimeZone::system();
    let begin = |date: Date| date.to_zoned_datetime(zone.clone());
    days.and_then(|(first, end)| Ok((begin(first)?, begin(end)?)))
        .map_err(|_| EXPECTED.to_owned())
}

fn moment(text: &str) -> Result<ZonedDateTime, String> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.to_zoned_datetime(TimeZone::system()));
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        return local
            .to_zoned_datetime(TimeZone::system())
            .map_err(|_| EXPECTED.to_owned());
    }
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let count: i64 = digits.parse().map_err(|_| EXPECTED.to_owned())?;
    let span = match &text[digits.len()..] {
        "h" => jiff::Span::new().try_hours(count),
        "d" => jiff::Span::new().try_days(count),
        "w" => jiff::Span::new().try_weeks(count),
        "mo" => jiff::Span::new().try_months(count),
        "y" => jiff::Span::new().try_years(count),
        _ => return Err(EXPECTED.to_owned()),
    };
    span.and_then(|span| ZonedDateTime::now().checked_sub(span))
        .map_err(|_| EXPECTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_takes_in_all_of_it() {
        let hours = |text: &str| (until(text).unwrap() - since(text).unwrap()) / 3_600_000_000_000;
        assert!((23..=25).contains(&hours("2024-07-31")));
        assert!((29 * 24 - 1..=29 * 24 + 1).contains(&hours("2024-02")));
        assert_eq!(hours("2024"), 366 * 24);
        assert_eq!(until("2023").unwrap(), since("2024").unwrap());
        assert_eq!(
            since("2024-07-31T18:00:00Z").unwrap(),
            1_722_448_800_000_000_000
        );
        assert!(since("7d").unwrap() < since("1d").unwrap());
        assert!(since("1y").unwrap() < since("3mo").unwrap());
    }

    #[test]
    fn other_things_are_refused() {
        for bad in [
            "",
            "yesterday",
            "2024-13",
            "2024-02-30",
            "24-01-01",
            "7",
            "7 d",
            "-",
            "2024-7-",
        ] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
