//! Everything that goes to standard error: progress, notices, failures and what to do about them.

#![allow(
    clippy::print_stderr,
    reason = "this file is the program's voice on standard error"
)]

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Outcome;
use super::output::printable;

/// One line, whatever the text holds; ONNX Runtime's messages have several.
fn say(text: &str) {
    eprintln!(
        "diptych: {}",
        printable(&text.trim_end().replace('\n', " "))
    );
}

/// A line that is worth knowing.
pub(super) fn notice(line: &str) {
    say(line);
}

/// That texts were longer than the model's context.
pub(super) fn cut(count: usize, limit: usize, first: &str) {
    let (texts, were) = if count == 1 {
        ("text", "was")
    } else {
        ("texts", "were")
    };
    let start: String = first.chars().take(40).collect();
    notice(&format!(
        "{count} {texts} longer than {limit} tokens {were} cut before the end token: {start:?}…"
    ));
}

/// Why the program, or a run of one that goes on, could not do its work, and what to do.
pub(super) fn fatal(error: &anyhow::Error) {
    say(&chain(error));
    print_hint(error.downcast_ref::<diptych::Error>());
}

/// What went wrong with the image at `path`, which the message names.
pub(super) fn about(path: &Path, error: &diptych::Error) -> String {
    let message = error.to_string();
    let name = path.display().to_string();
    if message.starts_with(&name) {
        message
    } else {
        format!("{name}: {message}")
    }
}

/// An error with its causes, none said twice: the library's messages hold theirs already.
fn chain(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// What to do.
pub(super) fn hint(hint: &str) {
    eprintln!("diptych: hint: {hint}");
}

fn print_hint(error: Option<&diptych::Error>) {
    if let Some(text) = error.and_then(diptych::Error::hint) {
        hint(&text);
    }
}

/// How far a command has come, and what failed on the way.
#[derive(Debug)]
pub(super) struct Report {
    bar: ProgressBar,
    unit: &'static str,
    total: usize,
    failed: usize,
}

impl Report {
    /// A report on `total` items, with a bar where standard error is a terminal.
    pub(super) fn new(total: usize, unit: &'static str, is_quiet: bool) -> Self {
        let is_shown = !is_quiet && stderr().is_terminal() && total > 1;
        let target = if is_shown {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = format!("{{wide_bar}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
        bar.set_style(
            ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            unit,
            total,
            failed: 0,
        }
    }

    /// One item more is done.
    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }

    /// So many items more are done.
    pub(super) fn advance_by(&self, count: usize) {
        self.bar.inc(count as u64);
    }

    /// Runs `print`, which writes to standard output, without the bar in its way.
    pub(super) fn around<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// One item more has failed.
    pub(super) fn fail(&mut self, message: &str, error: Option<&diptych::Error>) {
        self.failed += 1;
        self.bar.suspend(|| {
            say(message);
            print_hint(error);
        });
    }

    /// How many items have failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// The last word, and how the command ended. Having had nothing to work on is a failure.
    pub(super) fn finish(self) -> Outcome {
        if self.total == 0 {
            notice(&format!("no {} to work on", self.unit));
            return Outcome::Incomplete;
        }
        self.finish_quietly()
    }

    /// How the command ended. Having had nothing to work on is all right.
    pub(super) fn finish_quietly(self) -> Outcome {
        self.bar.finish_and_clear();
        if self.failed == 0 {
            return Outcome::Done;
        }
        let Self {
            failed,
            total,
            unit,
            ..
        } = self;
        notice(&format!("{failed} of {total} {unit} failed"));
        Outcome::Incomplete
    }
}
