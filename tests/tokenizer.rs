//! The published CLIP tokenizer on a corpus of hard strings: ids equal to transformers' and to open_clip's.

mod common;

use common::golden;
use diptych::{Cleaning, Padding, Splitting, TextSettings, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    text: String,
    ids_hf: Vec<i64>,
    ids_openai: Vec<i64>,
}

fn corpus() -> Vec<Line> {
    let text = std::fs::read_to_string(golden("clip-tokenizer/corpus.jsonl")).unwrap();
    let lines: Vec<Line> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 500, "{} strings", lines.len());
    lines
}

fn tokenizer(cleaning: Cleaning, splitting: Splitting) -> Tokenizer {
    let settings = TextSettings {
        cleaning,
        splitting,
        context_length: 77,
        padding: Padding::Longest,
        pad_id: 0,
        stripped_id: None,
        language: None,
    };
    Tokenizer::open(&golden("clip-tokenizer/tokenizer.json"), settings).unwrap()
}

fn assert_equal(tokenizer: &Tokenizer, expected: impl Fn(&Line) -> &Vec<i64>) {
    let mut wrong = Vec::new();
    for line in &corpus() {
        let found = tokenizer
            .encode(&[&line.text])
            .unwrap()
            .ids
            .into_raw_vec_and_offset()
            .0;
        if &found != expected(line) {
            wrong.push(format!(
                "{:?}\n  found    {found:?}\n  expected {:?}",
                line.text,
                expected(line)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} strings differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn ids_equal_those_of_transformers() {
    assert_equal(&tokenizer(Cleaning::None, Splitting::File), |line| {
        &line.ids_hf
    });
}

#[test]
fn ids_equal_those_of_open_clip() {
    assert_equal(&tokenizer(Cleaning::Lower, Splitting::OpenClip), |line| {
        &line.ids_openai
    });
}

#[test]
fn a_known_sentence_has_the_published_ids() {
    let tokens = tokenizer(Cleaning::None, Splitting::File)
        .encode(&["a photo of a cat"])
        .unwrap();
    assert_eq!(
        tokens.ids.row(0).to_vec(),
        [49406, 320, 1125, 539, 320, 2368, 49407]
    );
}

#[test]
fn a_text_too_long_is_cut_before_its_end_token_and_counted() {
    let long = "cat ".repeat(200);
    let tokens = tokenizer(Cleaning::None, Splitting::File)
        .encode(&["cat", &long])
        .unwrap();
    assert_eq!((tokens.ids.dim(), tokens.cut), ((2, 77), 1));
    assert_eq!(tokens.ids[[1, 76]], 49407);
    assert_eq!(tokens.mask.row(0).sum(), 3);
}
