//! Images to rows for a command: what fails is reported here, what comes of the rest is the command's.

use std::path::Path;

use anyhow::Result;
use diptych::pipeline::{self, PipelineOptions};
use diptych::{DualEncoder, Embeddings};

use super::inputs::Images;
use super::report::{self, Report};

/// Encodes `images` and hands each path to `each`, with its row or the message that says why there is none.
///
/// An error of `each`, such as a reader of standard output that has left, ends it.
pub(super) fn encode(
    encoder: &DualEncoder,
    images: &Images,
    options: &PipelineOptions,
    report: &mut Report,
    mut each: impl FnMut(&Path, Result<&Embeddings, &str>) -> Result<()>,
) -> Result<()> {
    for (path, message) in &images.failures {
        report.fail(message, None);
        each(path, Err(message))?;
    }
    let mut outcome = Ok(());
    pipeline::encode_files(encoder, &images.paths, options, |encoded| {
        outcome = match &encoded.row {
            Ok(row) => report.around(|| each(encoded.path, Ok(row))),
            Err(error) => {
                let message = report::about(encoded.path, error);
                report.fail(&message, Some(error));
                each(encoded.path, Err(&message))
            }
        };
        report.advance();
        outcome.is_ok()
    })?;
    outcome
}
