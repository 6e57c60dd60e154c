//! The labels and templates that a command was given, and their class matrix.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use diptych::{Bundle, ClassCache, DualEncoder, Towers, ZeroShot};

use super::{Common, inputs, report};

/// Options of commands that name things by labels.
#[derive(Debug, Args)]
pub(super) struct ClassArguments {
    /// The labels to choose from, separated by commas; without it, about a thousand everyday ones
    #[arg(long, value_name = "A,B,C", conflicts_with = "labels_file")]
    labels: Option<String>,
    /// A file of labels, one a line; blank lines and lines that begin with # are left out
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
    /// A sentence with {} where the label goes; may be given several times, the mean is taken
    #[arg(long = "template", value_name = "TEXT", conflicts_with = "prompts")]
    templates: Vec<String>,
    /// A set of templates: plain, openai-7, openai-80, or a file with one a line; without it, those that the model's
    /// diptych.json states, otherwise plain
    #[arg(long, value_name = "NAME")]
    prompts: Option<String>,
}

impl ClassArguments {
    pub(super) fn labels(&self) -> Result<Vec<String>> {
        inputs::labels(self.labels.as_deref(), self.labels_file.as_deref())
    }

    /// Whether labels were given.
    pub(super) fn are_given(&self) -> bool {
        self.labels.is_some() || self.labels_file.is_some()
    }

    /// Those given, else those that the bundle states, else the plain one.
    pub(super) fn templates(&self, bundle: &Bundle) -> Result<Vec<String>> {
        inputs::templates(
            &self.templates,
            self.prompts.as_deref(),
            bundle.templates.as_deref(),
        )
    }

    /// The class matrix, out of the cache or by the text tower alone.
    pub(super) fn open(&self, bundle: &Bundle, width: usize, common: &Common) -> Result<ZeroShot> {
        let (labels, templates) = (self.labels()?, self.templates(bundle)?);
        let cache = ClassCache::new(bundle, &labels, &templates)?;
        // A file that somebody else wrote there is as good as none.
        if let Some(kept) = cache.read().filter(|kept| kept.classes().width() == width) {
            return Ok(kept);
        }
        let encoder = common.open(bundle.clone(), &common.encoder_options(Towers::Text))?;
        encode(&encoder, &cache, &labels, &templates, common)
    }
}

/// The class matrix, made and kept; what was cut for it is said.
pub(super) fn encode(
    encoder: &DualEncoder,
    cache: &ClassCache,
    labels: &[String],
    templates: &[String],
    common: &Common,
) -> Result<ZeroShot> {
    let classes = ZeroShot::new(encoder, labels, templates)?;
    if let (Some(first), false) = (classes.cut().first(), common.quiet) {
        let limit = encoder.text_tower()?.tokenizer().settings().context_length;
        report::cut(classes.cut().len(), limit, first);
    }
    cache.keep(&classes);
    Ok(classes)
}
