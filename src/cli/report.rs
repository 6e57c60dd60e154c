//! Everything that goes to standard error: progress, notices, failures and what to do about them.

#![allow(
    clippy::print_stderr,
    reason = "this file is the program's voice on standard error"
)]

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use diptych::Progress;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// What is being fetched from a hub: a bar with the rate on a terminal, elsewhere a line for each large file.
#[derive(Debug)]
pub(super) struct Fetching {
    bar: ProgressBar,
    is_quiet: bool,
    file: String,
    begun: Instant,
    /// Bytes that were there when it began.
    had: u64,
}

/// Files below this are not worth a line.
const LARGE: u64 = 1 << 20;

impl Fetching {
    pub(super) fn new(is_quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        Self {
            bar,
            is_quiet,
            file: String::new(),
            begun: Instant::now(),
            had: 0,
        }
    }

    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        let Progress { file, done, size } = *progress;
        if self.file != file {
            self.begin(file, done, size);
        }
        self.bar.set_position(done);
        if done == size {
            self.bar.finish_and_clear();
            self.end(size);
        }
    }

    fn begin(&mut self, file: &str, done: u64, size: u64) {
        (self.file, self.begun, self.had) = (file.to_owned(), Instant::now(), done);
        if !self.is_quiet && size >= LARGE && stderr().is_terminal() {
            self.bar
                .set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        }
        self.bar.reset();
        self.bar.set_length(size);
        self.bar.set_position(done);
        self.bar.reset_eta();
        self.bar.set_message(printable(file));
    }

    fn end(&mut self, size: u64) {
        let fetched = size - self.had.min(size);
        if self.is_quiet || fetched < LARGE {
            return;
        }
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-3);
        let rate = DecimalBytes((fetched as f64 / seconds) as u64);
        let fetched = DecimalBytes(fetched);
        notice(&format!(
            "fetched {}: {fetched} in {seconds:.1} s, {rate}/s",
            self.file
        ));
        // The same file is told of once, though it may be checked and begun again.
        self.had = size;
    }

    /// What could not be fetched, in front of why.
    pub(super) fn failed(&self, model: &impl Display) -> String {
        self.bar.finish_and_clear();
        format!("{model} could not be fetched")
    }
}
