//! How many text queries a second become rows, beside ONNX Runtime alone on ids.
//!
//! `cargo bench --bench texts`. One query at a time, as a search box sends them, and in batches.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

mod common;

use common::{alone, cosine, medians, model, rate, run};
use diptych::{Bundle, DualEncoder, Tokens};
use ort::session::SessionInputValue;
use ort::value::Tensor;

const ROUNDS: usize = 7;

fn queries() -> Vec<String> {
    let things = [
        "a dog",
        "two children",
        "a red car",
        "an old bridge",
        "a bowl of soup",
        "a man with a hat",
        "birds",
        "a tower",
    ];
    let places = [
        "in the snow",
        "at night",
        "on the beach beside a boat",
        "in a busy street of a large city",
        "on a table",
    ];
    things
        .iter()
        .flat_map(|thing| {
            places
                .iter()
                .map(move |place| format!("a photo of {thing} {place}."))
        })
        .collect()
}

/// The inputs of a graph that takes ids and, where it has one, a mask.
fn inputs(tokens: &Tokens, count: usize) -> Vec<SessionInputValue<'static>> {
    let tensor = |values: &ndarray::Array2<i64>| {
        let (rows, columns) = values.dim();
        Tensor::from_array((
            [rows, columns],
            values.iter().copied().collect::<Vec<i64>>(),
        ))
        .unwrap()
        .into()
    };
    [tensor(&tokens.ids), tensor(&tokens.mask)]
        .into_iter()
        .take(count)
        .collect()
}

fn main() {
    let encoder = DualEncoder::open(model()).unwrap();
    let tokenizer = encoder.text_tower().unwrap().tokenizer();
    let queries = queries();
    let tokens: Vec<Tokens> = queries
        .iter()
        .map(|query| tokenizer.encode(&[query]).unwrap())
        .collect();
    let all: Vec<&str> = queries.iter().map(String::as_str).collect();
    let all = tokenizer.encode(&all).unwrap();

    let graph = Bundle::open(model()).unwrap().text.unwrap().graph;
    let session = std::cell::RefCell::new(alone(&graph));
    let count = session.borrow().inputs().len();
    let run_alone = |tokens: &Tokens| run(&mut session.borrow_mut(), &inputs(tokens, count));

    for (query, tokens) in queries.iter().zip(&tokens) {
        let found = encoder.encode_texts(&[query]).unwrap();
        assert!(
            (1.0 - cosine(&run_alone(tokens), found.row(0))).abs() < 1e-5,
            "{query}: row differs"
        );
    }

    let [one, one_alone, batch, batch_alone] = medians(
        ROUNDS,
        [
            &mut || {
                queries
                    .iter()
                    .for_each(|query| drop(encoder.encode_texts(&[query]).unwrap()));
            },
            &mut || tokens.iter().for_each(|tokens| drop(run_alone(tokens))),
            &mut || drop(encoder.encode_texts(&queries).unwrap()),
            &mut || drop(run_alone(&all)),
        ],
    );
    let rates = [one, one_alone, batch, batch_alone].map(|time| rate(queries.len(), time));
    let [one, one_alone, batch, batch_alone] = rates;
    println!("{} queries, median of {ROUNDS} rounds", queries.len());
    println!("one at a time, text to row, diptych       {one:8.1} texts/s");
    println!("one at a time, ids, ONNX Runtime alone    {one_alone:8.1} texts/s");
    println!("all at once, text to row, diptych         {batch:8.1} texts/s");
    println!("all at once, ids, ONNX Runtime alone      {batch_alone:8.1} texts/s");
    println!(
        "diptych / ONNX Runtime alone              {:8.2} {:8.2}",
        one / one_alone,
        batch / batch_alone
    );
}
