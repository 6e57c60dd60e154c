//! Other ids: which other way of making ids of texts gives the record's.

use super::text_rows::{Texts, told};
use super::{Cause, CauseKind, cause};
use crate::clean::Cleaning;
use crate::error::Result;
use crate::tokenize::{Splitting, TextSettings, Tokenizer};
use crate::verify::compare::StageName;
use crate::verify::record::{TextRecord, contents};

/// Every cleaning, in words.
const CLEANINGS: [(Cleaning, &str); 7] = [
    (Cleaning::None, "no cleaning besides the tokenizer's own"),
    (Cleaning::Lower, "open_clip's lower"),
    (Cleaning::Whitespace, "open_clip's whitespace"),
    (Cleaning::Canonicalize, "open_clip's canonicalize"),
    (
        Cleaning::Immich {
            canonicalize: false,
        },
        "immich's cleaning",
    ),
    (
        Cleaning::Immich { canonicalize: true },
        "immich's cleaning, canonicalized",
    ),
    (Cleaning::Siglip, "SigLIP's cleaning"),
];

/// Of two texts' ids, the share at the same place, below which vocabularies are held to be different ones.
const OTHER_VOCABULARY: f64 = 0.3;

/// The causes of other ids: of the ids themselves, and of padding where that differs too.
pub(super) fn find(texts: &Texts<'_>) -> Result<Vec<Cause>> {
    let put = |(kind, explanation)| cause(StageName::Ids, kind, explanation);
    let is_same = texts
        .found
        .iter()
        .zip(texts.expected)
        .all(|(a, b)| a.ids == b.ids);
    let mut causes = Vec::new();
    if !is_same {
        // Length first: a text cut behind its end token looks like a model without one.
        let found = length(texts).or_else(|| ends(texts));
        let found = match found {
            Some(found) => Some(found),
            None => cleaning(texts)?,
        };
        causes.push(put(found.unwrap_or_else(|| vocabulary(texts))));
    }
    let stated = texts.expected[0].padding;
    if stated.is_some() && stated != texts.own_padding() {
        let explanation = format!(
            "padding {} in place of {}",
            told(stated),
            told(texts.own_padding())
        );
        causes.push(put((CauseKind::Padding, explanation)));
    }
    if let Some(last) = causes.last_mut() {
        last.explanation += texts.confirmed();
    }
    Ok(causes)
}

type Found = (CauseKind, String);

fn pairs<'a>(texts: &'a Texts<'_>) -> impl Iterator<Item = (&'a [i64], &'a [i64])> {
    let pairs = texts.found.iter().zip(texts.expected);
    pairs.map(|(a, b)| (a.ids.as_slice(), b.ids.as_slice()))
}

/// The id that every text ends with (or starts with), where all do.
fn common(texts: &[TextRecord], of: fn(&[i64]) -> Option<&i64>) -> Option<i64> {
    let first = of(&texts[0].ids).copied()?;
    let is_common = texts.iter().all(|text| of(&text.ids) == Some(&first));
    is_common.then_some(first)
}

/// A start or end token that one has and the other has not, or has another one; a text that fills the context has a
/// token of its own less for it.
fn ends(texts: &Texts<'_>) -> Option<Found> {
    let of = |records: &[TextRecord]| {
        let start = common(records, |ids| ids.first());
        let end = common(records, |ids| ids.last());
        (start, end)
    };
    let (found, expected) = (of(texts.found), of(texts.expected));
    if found == expected {
        return None;
    }
    let is_explained = pairs(texts).all(|(a, b)| {
        let [a, b] = [(a, found), (b, expected)].map(|(ids, (start, end))| {
            let ids = &ids[usize::from(start.is_some())..];
            &ids[..ids.len().saturating_sub(end.is_some().into())]
        });
        let shorter = a.len().min(b.len());
        a[..shorter] == b[..shorter] && a.len().abs_diff(b.len()) <= 2
    });
    let token = |id: Option<i64>| id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let part = |what: &str, a: Option<i64>, b: Option<i64>| {
        (a != b).then(|| format!("{what} token {} in place of {}", token(b), token(a)))
    };
    let parts = [
        part("start", found.0, expected.0),
        part("end", found.1, expected.1),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    is_explained.then(|| {
        let parts = parts.join(" and ");
        (
            CauseKind::EndToken,
            format!(
                "{parts} gives the record's ids; tokenizer.json states it under post_processor"
            ),
        )
    })
}

/// Only texts that fill a context differ, and they begin alike.
fn length(texts: &Texts<'_>) -> Option<Found> {
    let longest = |records: &[TextRecord]| records.iter().map(|text| text.ids.len()).max();
    let (found, expected) = (longest(texts.found)?, longest(texts.expected)?);
    let is_cut = pairs(texts).all(|(a, b)| {
        let shorter = a.len().min(b.len());
        let is_full = shorter == found.min(expected);
        a == b || (is_full && a[..shorter.saturating_sub(1)] == b[..shorter.saturating_sub(1)])
    });
    is_cut.then(|| match found == expected {
        true => (
            CauseKind::EndToken,
            "texts that are too long end otherwise: one is cut before its end token, the other behind it".to_owned(),
        ),
        false => (
            CauseKind::ContextLength,
            format!("a context of {expected} in place of {found} gives the record's ids"),
        ),
    })
}

/// Another cleaning, or another way to cut texts into pieces.
fn cleaning(texts: &Texts<'_>) -> Result<Option<Found>> {
    let given: Vec<String> = texts.found.iter().map(|text| text.text.clone()).collect();
    let own = texts.tokenizer().settings();
    let others = [Splitting::File, Splitting::LowerCase, Splitting::OpenClip];
    for splitting in [own.splitting].into_iter().chain(others) {
        for (cleaning, name) in CLEANINGS {
            let settings = TextSettings {
                cleaning,
                splitting,
                ..own.clone()
            };
            // A vocabulary may not allow open_clip's pieces.
            let Ok(tokenizer) = Tokenizer::open(texts.tokenizer_file, settings) else {
                continue;
            };
            let tokenizer = tokenizer.with_prefix(texts.tokenizer().prefix());
            let ids = contents(&tokenizer, &given)?;
            let is_explained = ids.iter().zip(texts.expected).all(|(a, b)| *a == b.ids);
            if is_explained {
                let pieces = match splitting {
                    same if same == own.splitting => "",
                    Splitting::File => " and tokenizer.json's own pieces",
                    Splitting::LowerCase => " and lower case before tokenizer.json's pieces",
                    Splitting::Bert { .. } => " and the pieces of BERT's class",
                    Splitting::OpenClip => " and open_clip's pieces",
                };
                let explanation = format!("{name}{pieces} gives the record's ids");
                return Ok(Some((CauseKind::Cleaning, explanation)));
            }
        }
    }
    Ok(None)
}

/// Another vocabulary, if few ids are the same; otherwise which texts differ.
fn vocabulary(texts: &Texts<'_>) -> Found {
    let (mut same, mut all) = (0, 0);
    for (a, b) in pairs(texts) {
        same += a.iter().zip(b).filter(|(a, b)| a == b).count();
        all += a.len().max(b.len());
    }
    let share = same as f64 / all.max(1) as f64;
    let figures = format!("{:.0} % of ids are the same", 100.0 * share);
    if share < OTHER_VOCABULARY {
        return (
            CauseKind::Vocabulary,
            format!("{figures}: tokenizer.json is of another model than the record's tokenizer"),
        );
    }
    (
        CauseKind::Unknown,
        format!(
            "{figures}, and no other end token, context, cleaning or way to cut texts gives the record's: tokenizer.json \
             may be of another version, or lack its normalizer"
        ),
    )
}
