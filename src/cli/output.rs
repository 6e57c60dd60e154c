//! Results on standard output: the only file that prints them, and the contract of their JSON shapes.

use std::io::{self, BufWriter, Stdout, Write};
use std::path::Path;

use diptych::Prediction;
use serde::Serialize;
use serde_json::{Value, json};

/// Whether an error says that the reader of standard output is gone.
pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    kinds
        .into_iter()
        .any(|kind| kind == io::ErrorKind::BrokenPipe)
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
            let predictions: Vec<Value> = predictions.iter().map(prediction_json).collect();
            return self.line(&json!({"path": path.to_string_lossy(), "predictions": predictions}));
        }
        writeln!(self.stdout, "{}", path.display())?;
        for prediction in predictions {
            let figure = match prediction.probability {
                Some(probability) => format!("{:5.1} %", 100.0 * probability),
                None => format!("{:7.4}", prediction.score),
            };
            writeln!(self.stdout, "  {figure}  {}", prediction.label)?;
        }
        if predictions.is_empty() {
            writeln!(self.stdout, "  none of these")?;
        }
        self.stdout.flush()
    }

    /// A row with what it is of: `key` is "path" or "text".
    pub(super) fn embedding(&mut self, key: &str, name: &str, row: &[f32]) -> io::Result<()> {
        self.line(&json!({key: name, "embedding": row}))
    }

    /// In place of a result: why there is none. On standard error the same is said to people.
    pub(super) fn failure(&mut self, path: &Path, error: &str) -> io::Result<()> {
        if !self.is_json {
            return Ok(());
        }
        self.line(&json!({"path": path.to_string_lossy(), "error": error}))
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

fn prediction_json(prediction: &Prediction<'_>) -> Value {
    json!({
        "label": prediction.label,
        "score": prediction.score,
        "logit": prediction.logit,
        "probability": prediction.probability,
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
