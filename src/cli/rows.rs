//! Images to rows for a command: what fails is reported here, what comes of the rest is the command's.

use std::iter::Peekable;
use std::path::Path;
use std::slice::Iter;

use anyhow::Result;
use diptych::pipeline::{self, PipelineOptions};
use diptych::{DualEncoder, Embeddings};

use super::inputs::{Failure, Images};
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
    let mut failures = images.failures.iter().peekable();
    let mut done = 0;
    let mut outcome = Ok(());
    pipeline::encode_files(encoder, &images.paths, options, |encoded| {
        outcome =
            fail_before(&mut failures, done, report, &mut each).and_then(|()| match &encoded.row {
                Ok(row) => report.around(|| each(encoded.path, Ok(row))),
                Err(error) => {
                    let message = report::about(encoded.path, error);
                    report.fail(&message, Some(error));
                    each(encoded.path, Err(&message))
                }
            });
        done += 1;
        report.advance();
        outcome.is_ok()
    })?;
    outcome?;
    fail_before(&mut failures, usize::MAX, report, &mut each)
}

/// Reports the failures that stand before the image of number `done`.
fn fail_before(
    failures: &mut Peekable<Iter<'_, Failure>>,
    done: usize,
    report: &mut Report,
    each: &mut impl FnMut(&Path, Result<&Embeddings, &str>) -> Result<()>,
) -> Result<()> {
    while let Some(failure) = failures.next_if(|failure| failure.place <= done) {
        report.fail(&failure.message, None);
        report.advance();
        each(&failure.path, Err(&failure.message))?;
    }
    Ok(())
}
