//! Images to rows for a command: what fails is reported here, what comes of the rest is the command's.

use std::iter::Peekable;
use std::path::Path;
use std::slice::Iter;

use anyhow::Result;
use clap::Args;
use diptych::pipeline::{self, Identity, PipelineOptions};
use diptych::{DualEncoder, Embeddings, EncoderOptions, Error, Rows, Towers};
use image::RgbImage;

use super::Common;
use super::inputs::{Failure, Images};
use super::report::{self, Report};

/// The option of commands that make rows of images.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct RowsArgument {
    /// What an image's row is made of: cls (that of the class token), mean (the mean of all patches), pooled (what the model
    /// makes of all tokens) or patches (a row for each); without it, as the model's diptych.json says, or its family's
    /// users take
    #[arg(long, value_name = "KIND")]
    pub(super) rows: Option<Rows>,
}

impl RowsArgument {
    pub(super) fn encoder_options(self, common: &Common, towers: Towers) -> EncoderOptions {
        EncoderOptions {
            rows: self.rows,
            ..common.encoder_options(towers)
        }
    }
}

/// What came of one image.
#[derive(Debug)]
pub(super) struct Item<'a> {
    pub(super) path: &'a Path,
    /// Its row, or those of its patches, or the message that says why there is none.
    pub(super) row: Result<&'a Embeddings, &'a str>,
    /// What the library said of it, where it was read.
    pub(super) error: Option<&'a Error>,
    /// Its small copy, where the options ask for one and it could be decoded.
    pub(super) thumbnail: Option<&'a RgbImage>,
    /// What was read of it, where the options ask for that.
    pub(super) identity: Option<Identity>,
}

impl<'a> Item<'a> {
    fn failed(path: &'a Path, message: &'a str, error: Option<&'a Error>) -> Self {
        Self {
            path,
            row: Err(message),
            error,
            thumbnail: None,
            identity: None,
        }
    }
}

/// Encodes `images` and hands what comes of each to `each`, in their order.
///
/// An error of `each`, such as a reader of standard output that has left, ends it.
pub(super) fn encode(
    encoder: &DualEncoder,
    images: &Images,
    options: &PipelineOptions,
    report: &mut Report,
    mut each: impl FnMut(Item<'_>) -> Result<()>,
) -> Result<()> {
    let mut failures = images.failures.iter().peekable();
    let mut done = 0;
    let mut outcome = Ok(());
    pipeline::encode_files(encoder, &images.paths, options, |encoded| {
        outcome =
            fail_before(&mut failures, done, report, &mut each).and_then(|()| match &encoded.row {
                Ok(row) => report.around(|| {
                    each(Item {
                        path: encoded.path,
                        row: Ok(row),
                        error: None,
                        thumbnail: encoded.thumbnail.as_ref(),
                        identity: encoded.identity,
                    })
                }),
                Err(error) => {
                    let message = report::about(encoded.path, error);
                    report.fail(&message, Some(error));
                    each(Item::failed(encoded.path, &message, Some(error)))
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
    each: &mut impl FnMut(Item<'_>) -> Result<()>,
) -> Result<()> {
    while let Some(failure) = failures.next_if(|failure| failure.place <= done) {
        report.fail(&failure.message, None);
        report.advance();
        each(Item::failed(&failure.path, &failure.message, None))?;
    }
    Ok(())
}
