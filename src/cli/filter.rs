//! Which items of an index a command looks at: by folder, time and kind.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use diptych::index::Store;
use diptych::{Hit, ItemFilter, Kind};

use super::{dates, report};

/// Which items of an index a command looks at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which items")]
pub(super) struct FilterArguments {
    /// Only below this folder; may be given several times
    #[arg(long = "in", value_name = "FOLDER")]
    within: Vec<PathBuf>,
    /// Not below this folder; may be given several times
    #[arg(long = "not-in", value_name = "FOLDER")]
    not_within: Vec<PathBuf>,
    /// Only what was taken, or else changed, at this time or later: 2024-07-31, 2024, 7d (seven days back from now)
    #[arg(long, value_name = "TIME", value_parser = dates::since)]
    since: Option<i64>,
    /// Only what was taken, or else changed, up to this time; a date takes in all of it
    #[arg(long, value_name = "TIME", value_parser = dates::until)]
    until: Option<i64>,
    /// Images or texts; without it, images if there are any
    #[arg(long, value_name = "KIND")]
    kind: Option<KindArgument>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArgument {
    Images,
    Texts,
}

impl KindArgument {
    fn kind(self) -> Kind {
        match self {
            Self::Images => Kind::Image,
            Self::Texts => Kind::Text,
        }
    }
}

impl FilterArguments {
    /// What to look at for a query: items of one kind.
    pub(super) fn filter(&self, index: &dyn Store) -> Result<ItemFilter> {
        let filter = self.filter_of_any_kind()?;
        let kind = match filter.kind {
            Some(kind) => kind,
            // Texts lie nearer to a text than any image does, and would hide all images.
            None if index.has_images()? => Kind::Image,
            None => Kind::Text,
        };
        Ok(ItemFilter {
            kind: Some(kind),
            ..filter
        })
    }

    /// Names the folders of `--in` below which the index has nothing. Where something was `found`, there is something.
    pub(super) fn say_unknown(&self, index: &dyn Store, found: &[Hit]) -> Result<()> {
        for folder in self.filter_of_any_kind()?.within {
            let is_in = |hit: &Hit| hit.item.place.folder.starts_with(&folder);
            let below = ItemFilter {
                within: vec![folder.clone()],
                ..ItemFilter::default()
            };
            if !found.iter().any(is_in) && index.items(&below)?.is_empty() {
                let folder = folder.display();
                report::notice(&format!(
                    "{folder}: the index has nothing below this folder"
                ));
            }
        }
        Ok(())
    }

    /// What to look at where both kinds may stand side by side.
    pub(super) fn filter_of_any_kind(&self) -> Result<ItemFilter> {
        let absolute = |paths: &[PathBuf]| -> Result<Vec<PathBuf>> {
            let absolute =
                |path: &PathBuf| path.canonicalize().or_else(|_| std::path::absolute(path));
            Ok(paths.iter().map(absolute).collect::<Result<_, _>>()?)
        };
        Ok(ItemFilter {
            kind: self.kind.map(KindArgument::kind),
            within: absolute(&self.within)?,
            not_within: absolute(&self.not_within)?,
            since: self.since,
            until: self.until,
        })
    }
}

/// A cosine, as people type it.
pub(super) fn score(text: &str) -> Result<f32, String> {
    let value: Option<f32> = text.parse().ok();
    value
        .filter(|value| (-1.0..=1.0).contains(value))
        .ok_or_else(|| "expected a cosine from -1 to 1".to_owned())
}
