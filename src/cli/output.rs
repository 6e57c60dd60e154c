//! Results on standard output: the only file that prints them, and the contract of their JSON shapes.

use std::borrow::Cow;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::Path;

use diptych::{Hit, Prediction};
use serde::Serialize;
use serde_json::Value;

use super::export::Exported;
use super::import::Imported;
use super::index::Summary;

/// Whether an error says that the reader of standard output is gone.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    kinds
        .into_iter()
        .any(|kind| kind == io::ErrorKind::BrokenPipe)
}

/// A name as it may be shown: a control character in it would move the cursor or break the line.
pub(super) fn printable(name: &str) -> String {
    name.replace(char::is_control, "\u{fffd}")
}

/// The answer where no label fits.
pub(super) const NONE_OF_THESE: &str = "none of these";

/// How well a label fits, for people: its probability in percent, or its score where there is none. Aligned right.
pub(super) fn figure(prediction: &Prediction<'_>) -> String {
    match prediction.probability {
        Some(probability) => format!("{:5.1} %", 100.0 * probability),
        None => format!("{:7.4}", prediction.score),
    }
}

/// Standard output, line by line.
#[derive(Debug)]
pub(super) struct Output {
    stdout: BufWriter<Stdout>,
    is_json: bool,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            stdout: BufWriter::new(io::stdout()),
            is_json,
        }
    }

    /// An image's predictions, or "none of these".
    pub(super) fn predictions(
        &mut self,
        path: &Path,
        predictions: &[Prediction<'_>],
    ) -> io::Result<()> {
        if self.is_json {
            let predictions = predictions.iter().map(PredictionLine::from).collect();
            return self.line(&PredictionsLine {
                path: path.to_string_lossy(),
                predictions,
            });
        }
        writeln!(self.stdout, "{}", printable(&path.to_string_lossy()))?;
        for prediction in predictions {
            writeln!(
                self.stdout,
                "  {}  {}",
                figure(prediction),
                prediction.label
            )?;
        }
        if predictions.is_empty() {
            writeln!(self.stdout, "  {NONE_OF_THESE}")?;
        }
        self.stdout.flush()
    }

    /// A row with what it is of.
    pub(super) fn embedding(&mut self, name: Name<'_>, row: &[f32]) -> io::Result<()> {
        self.line(&EmbeddingLine {
            name,
            embedding: row,
        })
    }

    /// A picture, as the terminal wants it.
    pub(super) fn picture(&mut self, escape: &[u8]) -> io::Result<()> {
        self.stdout.write_all(escape)
    }

    /// What was found.
    pub(super) fn hit(&mut self, hit: &Hit, style: HitStyle) -> io::Result<()> {
        let path = hit.item.place.path();
        match style {
            HitStyle::Json => return self.line(&HitLine::from(hit)),
            HitStyle::Nul => {
                self.stdout.write_all(path.as_os_str().as_encoded_bytes())?;
                self.stdout.write_all(&[0])?;
            }
            HitStyle::Paths => {
                self.stdout.write_all(path.as_os_str().as_encoded_bytes())?;
                self.stdout.write_all(b"\n")?;
            }
            HitStyle::Lines => {
                let text = hit.item.text.as_ref();
                let text = text.map_or_else(String::new, |text| format!(": {text}"));
                let line = format!("{}{text}", path.to_string_lossy());
                writeln!(self.stdout, "{:7.4}  {}", hit.score, printable(&line))?;
            }
        }
        self.stdout.flush()
    }

    /// What was done to an index.
    pub(super) fn indexed(&mut self, summary: &Summary) -> io::Result<()> {
        if self.is_json {
            return self.line(summary);
        }
        let Summary {
            items,
            encoded,
            known,
            unchanged,
            removed,
            failed,
        } = summary;
        writeln!(
            self.stdout,
            "{items} items in the index: {encoded} encoded, {known} copied or moved, {unchanged} unchanged, {removed} \
             removed, {failed} failed"
        )?;
        self.stdout.flush()
    }

    /// What was written to a folder.
    pub(super) fn exported(&mut self, exported: &Exported) -> io::Result<()> {
        if self.is_json {
            return self.line(exported);
        }
        let Exported {
            items,
            failed,
            width,
            layout,
        } = exported;
        writeln!(
            self.stdout,
            "{items} items exported, rows of {width} values, layout {layout}; {failed} failed"
        )?;
        self.stdout.flush()
    }

    /// What was taken into an index.
    pub(super) fn imported(&mut self, imported: &Imported) -> io::Result<()> {
        if self.is_json {
            return self.line(imported);
        }
        let Imported {
            items,
            imported,
            known,
            missing,
            failed,
        } = imported;
        writeln!(
            self.stdout,
            "{items} items in the index: {imported} imported, {known} of them of known content, {missing} of files that \
             are not there, {failed} failed"
        )?;
        self.stdout.flush()
    }

    /// In place of a result: why there is none. On standard error the same is said to people.
    pub(super) fn failure(&mut self, path: &Path, error: &str) -> io::Result<()> {
        if !self.is_json {
            return Ok(());
        }
        self.line(&FailureLine {
            path: path.to_string_lossy(),
            error,
        })
    }

    /// What is known of a model: names and values, one a line.
    pub(super) fn facts(&mut self, facts: &[(&str, Value)]) -> io::Result<()> {
        if self.is_json {
            let object: serde_json::Map<String, Value> = facts
                .iter()
                .map(|(name, value)| (name.replace(' ', "_"), value.clone()))
                .collect();
            return self.line(&object);
        }
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts {
            let lines = match value {
                Value::Array(lines) if lines.iter().all(Value::is_string) => {
                    lines.iter().map(plain).collect()
                }
                value => vec![plain(value)],
            };
            writeln!(
                self.stdout,
                "{name:width$}  {}",
                lines.join(&format!("\n{:width$}  ", ""))
            )?;
        }
        self.stdout.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, value)?;
        writeln!(self.stdout)?;
        self.stdout.flush()
    }
}

/// What a row is of.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Name<'a> {
    Path(&'a str),
    Text(&'a str),
}

/// How hits are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HitStyle {
    /// Score and path.
    Lines,
    /// One JSON object a line.
    Json,
    /// Paths, one a line.
    Paths,
    /// Paths, each followed by a NUL.
    Nul,
}

// The lines of JSON. Numbers are f32 all the way, so that they are printed with the digits that they have.

#[derive(Serialize)]
struct PredictionsLine<'a> {
    path: Cow<'a, str>,
    predictions: Vec<PredictionLine<'a>>,
}

#[derive(Serialize)]
struct PredictionLine<'a> {
    label: &'a str,
    score: f32,
    logit: Option<f32>,
    probability: Option<f32>,
}

impl<'a> From<&Prediction<'a>> for PredictionLine<'a> {
    fn from(prediction: &Prediction<'a>) -> Self {
        let Prediction {
            label,
            score,
            logit,
            probability,
        } = *prediction;
        Self {
            label,
            score,
            logit,
            probability,
        }
    }
}

#[derive(Serialize)]
struct EmbeddingLine<'a> {
    #[serde(flatten)]
    name: Name<'a>,
    embedding: &'a [f32],
}

/// An image by its path; a text by its file, its id there, and itself.
#[derive(Serialize)]
struct HitLine<'a> {
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    score: f32,
    rank: usize,
}

impl<'a> From<&'a Hit> for HitLine<'a> {
    fn from(hit: &'a Hit) -> Self {
        let Hit { item, score, rank } = hit;
        let place = &item.place;
        let (path, id) = match item.text {
            Some(_) => (
                place.folder.to_string_lossy(),
                Some(place.name.to_string_lossy()),
            ),
            None => (
                Cow::Owned(place.path().to_string_lossy().into_owned()),
                None,
            ),
        };
        Self {
            path,
            id,
            text: item.text.as_deref(),
            score: *score,
            rank: *rank,
        }
    }
}

#[derive(Serialize)]
struct FailureLine<'a> {
    path: Cow<'a, str>,
    error: &'a str,
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "not stated".to_owned(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
