//! Results on standard output: the only file that prints them, and the contract of their JSON shapes.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use diptych::verify::{Check, Comparison, Record};
use diptych::{Embeddings, Hit, Item, Prediction};
use indicatif::DecimalBytes;
use serde::Serialize;
use serde_json::Value;

use super::check::Findings;
use super::cluster::Group;
use super::export::Exported;
use super::import::Imported;
use super::indexing::Summary;
use super::models::{Kept, Suggested};
use super::quantize::Made;
use super::shapes::{
    CauseLine, CheckLine, ChecksLine, ClusterItem, ClusterLine, ComparisonLine, EmbeddingLine,
    FailureLine, HitLine, ItemName, MadeLine, PatchesLine, PredictionLine, PredictionsLine,
    RecordedLine, SimilarItem, SimilarLine, StageLine,
};
use super::{quarantine, remove};

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

/// A number of things, as people say it.
pub(super) fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// Standard output, line by line.
#[derive(Debug)]
pub(super) struct Output {
    stdout: BufWriter<Stdout>,
    is_json: bool,
    /// The current folder.
    here: Option<PathBuf>,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            stdout: BufWriter::new(io::stdout()),
            is_json,
            here: env::current_dir().ok(),
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

    /// The rows of an image's patches, with what they are of and how the patches lie.
    pub(super) fn patches(
        &mut self,
        name: Name<'_>,
        grid: (usize, usize),
        rows: &Embeddings,
    ) -> io::Result<()> {
        self.line(&PatchesLine {
            name,
            grid,
            embeddings: (0..rows.len()).map(|patch| rows.row(patch)).collect(),
        })
    }

    /// A picture, as the terminal wants it.
    pub(super) fn picture(&mut self, escape: &[u8]) -> io::Result<()> {
        self.stdout.write_all(escape)
    }

    /// What was found.
    pub(super) fn hit(&mut self, hit: &Hit, style: HitStyle) -> io::Result<()> {
        let name = name(&hit.item);
        match style {
            HitStyle::Json => {
                return self.line(&HitLine {
                    name: ItemName::from(&hit.item),
                    score: hit.score,
                    rank: hit.rank,
                });
            }
            HitStyle::Nul => {
                self.stdout.write_all(name.as_encoded_bytes())?;
                self.stdout.write_all(&[0])?;
            }
            HitStyle::Paths => {
                self.stdout.write_all(name.as_encoded_bytes())?;
                self.stdout.write_all(b"\n")?;
            }
            HitStyle::Lines => {
                writeln!(self.stdout, "{:7.4}  {}", hit.score, self.shown(&hit.item))?;
            }
        }
        self.stdout.flush()
    }

    /// An item as people want to read it: its path from the current folder where it lies in there, and its text.
    fn shown(&self, item: &Item) -> String {
        let name = name(item);
        let path = Path::new(&name);
        let here = self.here.as_deref();
        let path = here
            .and_then(|here| path.strip_prefix(here).ok())
            .unwrap_or(path);
        let text = item.text.as_ref();
        let text = text.map_or_else(String::new, |text| format!("  {text}"));
        printable(&format!("{}{text}", path.to_string_lossy()))
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
        let items = counted(*items, "item");
        self.told(format_args!(
            "{items} in the index: {encoded} encoded, {known} copied or moved, {unchanged} unchanged, {removed} \
             removed, {failed} failed"
        ))
    }

    /// Items that show nearly the same, of which the first is to be kept.
    pub(super) fn similar(&mut self, number: usize, group: &[(Item, f32)]) -> io::Result<()> {
        if self.is_json {
            let items = group
                .iter()
                .enumerate()
                .map(|(place, (item, score))| SimilarItem {
                    name: ItemName::from(item),
                    score: *score,
                    keep: place == 0,
                })
                .collect();
            return self.line(&SimilarLine {
                group: number,
                items,
            });
        }
        writeln!(self.stdout, "group {number}")?;
        for (place, (item, score)) in group.iter().enumerate() {
            let keep = if place == 0 { "keep" } else { "" };
            writeln!(self.stdout, "  {keep:4}  {score:7.4}  {}", self.shown(item))?;
        }
        self.stdout.flush()
    }

    /// A group with its name.
    pub(super) fn cluster(&mut self, group: &Group<'_>) -> io::Result<()> {
        let Group {
            number,
            label,
            items,
        } = group;
        if self.is_json {
            let item = |&(item, score): &(_, f32)| ClusterItem {
                name: ItemName::from(item),
                score,
            };
            return self.line(&ClusterLine {
                group: *number,
                label: label.map(|(label, _)| label),
                score: label.map(|(_, score)| score),
                size: items.len(),
                items: items.iter().map(item).collect(),
            });
        }
        let count = counted(items.len(), "item");
        let named = label.map(|(label, score)| format!("{} ({score:.4}), ", printable(label)));
        let named = named.unwrap_or_default();
        writeln!(self.stdout, "group {number}: {named}{count}")?;
        for (item, score) in items {
            writeln!(self.stdout, "  {score:7.4}  {}", self.shown(item))?;
        }
        self.stdout.flush()
    }

    /// What an index has forgotten.
    pub(super) fn removed(&mut self, summary: &remove::Summary) -> io::Result<()> {
        if self.is_json {
            return self.line(summary);
        }
        let removed = counted(summary.removed, "item");
        self.told(format_args!(
            "{removed} forgotten, {} left in the index",
            summary.items
        ))
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
        let items = counted(*items, "item");
        self.told(format_args!(
            "{items} exported, rows of {width} values, layout {layout}; {failed} failed"
        ))
    }

    /// How an index and its files are.
    pub(super) fn checked(&mut self, findings: &Findings) -> io::Result<()> {
        if self.is_json {
            return self.line(findings);
        }
        let Findings {
            rows,
            items,
            damaged,
            missing,
            changed,
            unreadable,
        } = findings;
        for (what, paths) in [
            ("damaged", damaged),
            ("missing", missing),
            ("changed", changed),
            ("unreadable", unreadable),
        ] {
            for path in paths {
                writeln!(self.stdout, "{what:10}  {}", printable(path))?;
            }
        }
        writeln!(
            self.stdout,
            "{} of {}, {} damaged; files: {} missing, {} changed, {} unreadable",
            counted(*rows, "row"),
            counted(*items, "item"),
            damaged.len(),
            missing.len(),
            changed.len(),
            unreadable.len()
        )?;
        self.stdout.flush()
    }

    /// What was moved to a quarantine, or back from it.
    pub(super) fn quarantined(
        &mut self,
        summary: &quarantine::Summary,
        folder: &Path,
        is_undo: bool,
    ) -> io::Result<()> {
        if self.is_json {
            return self.line(summary);
        }
        let folder = printable(&folder.to_string_lossy());
        let (way, there) = if is_undo {
            ("back from", "back")
        } else {
            ("to", "there")
        };
        let quarantine::Summary {
            moved,
            bytes,
            before,
            skipped,
        } = summary;
        let moved = counted(*moved, "file");
        self.told(format_args!(
            "{moved} ({bytes} bytes) moved {way} {folder}; {before} were {there} already, {skipped} skipped"
        ))
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
        let items = counted(*items, "item");
        self.told(format_args!(
            "{items} in the index: {imported} imported, {known} of them of known content, {missing} of files that \
             are not there, {failed} failed"
        ))
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

    /// A model of a hub in the cache; names are filled up to `width`.
    pub(super) fn kept_model(&mut self, kept: &Kept, width: usize) -> io::Result<()> {
        if self.is_json {
            return self.line(kept);
        }
        let Kept {
            name,
            bytes,
            layout,
            revisions,
        } = kept;
        let size = DecimalBytes(*bytes).to_string();
        let layout = layout.unwrap_or("no model that diptych knows");
        self.told(format_args!(
            "{:width$}  {size:>9}  {layout}; {}",
            printable(name),
            printable(&revisions.join(", "))
        ))
    }

    /// A model that is good to begin with.
    pub(super) fn suggested(&mut self, suggested: &Suggested) -> io::Result<()> {
        if self.is_json {
            return self.line(suggested);
        }
        let Suggested {
            name,
            note,
            size,
            languages,
            accuracy,
        } = suggested;
        let size = size.as_ref().map(|size| format!(", {size}"));
        writeln!(self.stdout, "{name}{}", size.unwrap_or_default())?;
        writeln!(self.stdout, "    {note}; languages: {languages}")?;
        if let Some(accuracy) = accuracy {
            writeln!(self.stdout, "    {accuracy}")?;
        }
        self.stdout.flush()
    }

    /// What was removed from the cache.
    pub(super) fn model_removed(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        self.told(format_args!(
            "{name} removed, {} freed",
            DecimalBytes(bytes)
        ))
    }

    /// That a record of a model was written.
    pub(super) fn recorded(&mut self, file: &Path) -> io::Result<()> {
        let record = file.to_string_lossy();
        if self.is_json {
            return self.line(&RecordedLine { record });
        }
        self.told(format_args!("recorded in {}", printable(&record)))
    }

    /// How a model compares with a record.
    pub(super) fn compared(&mut self, record: &Record, comparison: &Comparison) -> io::Result<()> {
        let line = ComparisonLine::of(record, comparison);
        if self.is_json {
            return self.line(&line);
        }
        for stage in &line.stages {
            let StageLine {
                stage,
                verdict,
                detail,
            } = stage;
            writeln!(self.stdout, "{stage:10}  {verdict:12}  {detail}")?;
        }
        for cause in &line.causes {
            let CauseLine { stage, cause, why } = cause;
            writeln!(self.stdout, "cause in {stage}: {cause}: {}", printable(why))?;
        }
        for remark in line.remarks {
            writeln!(self.stdout, "remark: {remark}")?;
        }
        let verdict = match (line.first_difference, line.equal) {
            (Some(stage), _) => format!("differs, first in {stage}"),
            (None, true) => "equal".to_owned(),
            (None, false) => "nothing could be compared".to_owned(),
        };
        self.told(format_args!(
            "{verdict}; the record was made by {}",
            line.made_by
        ))
    }

    /// What holds of a model without a record.
    pub(super) fn self_checked(&mut self, checks: &[Check]) -> io::Result<()> {
        let line = ChecksLine::of(checks);
        if self.is_json {
            return self.line(&line);
        }
        for CheckLine {
            check,
            holds,
            detail,
        } in &line.checks
        {
            let verdict = if *holds { "holds" } else { "fails" };
            writeln!(self.stdout, "{check:11}  {verdict}  {detail}")?;
        }
        self.told(if line.holds {
            format_args!("all hold; only a record of its reference proves a model (--against)")
        } else {
            format_args!("not all hold")
        })
    }

    /// What was quantised, and what that costs.
    pub(super) fn quantized(&mut self, made: &Made) -> io::Result<()> {
        if self.is_json {
            return self.line(&MadeLine::of(made));
        }
        for graph in &made.graphs {
            let [before, after] = [graph.before, graph.after].map(DecimalBytes);
            writeln!(self.stdout, "{}: {before} -> {after}", graph.name)?;
        }
        let [eight, sixteen, as_before] = made.weights().shares().map(|share| 100.0 * share);
        writeln!(
            self.stdout,
            "weights: 8 bits {eight:.1} %, 16 bits {sixteen:.1} %, as before {as_before:.1} %"
        )?;
        let cost = &made.cost;
        for (what, cosines) in [("image", cost.images), ("text", cost.texts)] {
            let Some(cosines) = cosines else { continue };
            let (lowest, mean) = (cosines.lowest, cosines.mean);
            writeln!(
                self.stdout,
                "{what} rows: cosine {mean:.6} on average, {lowest:.6} at least, of {}",
                cosines.rows
            )?;
        }
        for changed in &cost.changed {
            let (photo, before, after) = (&changed.photo, &changed.before, &changed.after);
            writeln!(self.stdout, "{photo}: {after:?} in place of {before:?}")?;
        }
        if cost.photos > 0 {
            let same = cost.photos - cost.changed.len();
            writeln!(
                self.stdout,
                "best captions: {same} of {} photos as before",
                cost.photos
            )?;
        }
        let precision = match made.is_one_of_several {
            true => format!(" --precision {}", made.to.precision()),
            false => String::new(),
        };
        let folder = made.folder.display();
        self.told(format_args!("to be used with --model {folder}{precision}"))
    }

    /// A line for people.
    fn told(&mut self, line: fmt::Arguments<'_>) -> io::Result<()> {
        writeln!(self.stdout, "{line}")?;
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

/// An image's path, or a text's file and id: FILE#ID.
fn name(item: &Item) -> OsString {
    if item.text.is_none() {
        return item.place.path().into();
    }
    let mut name = item.place.folder.clone().into_os_string();
    name.push("#");
    name.push(&item.place.name);
    name
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "not stated".to_owned(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
