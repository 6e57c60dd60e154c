//! To how many values rows are cut: what a caller asks for, and what a model's config says of it.
//!
//! Models trained for it (Matryoshka) put what matters most into the first values of a row.

use super::json::Json;
use super::{Bundle, Layout, Unstated};
use crate::error::Result;

/// Sets to how many values the bundle's rows are cut: `asked`, otherwise the `truncate_dim` of its config.
///
/// What no config promises is noted: any model's rows can be cut, but those of one that was not trained for it lose
/// more than they need to.
pub(super) fn apply(bundle: &mut Bundle, asked: Option<usize>) -> Result<()> {
    // open_clip's files say nothing of it, and a config.json beside them is of another library.
    let config = match bundle.layout {
        Layout::Immich | Layout::OpenClip => None,
        _ => Json::open_first(&bundle.path, &["config.json"])?,
    };
    let (trained, own) = match &config {
        Some(config) => (
            config.counts("matryoshka_dimensions")?,
            config.count("truncate_dim")?,
        ),
        None => (None, None),
    };
    bundle.dim = asked.or(own.map(|dim| dim as usize));
    let Some(dim) = asked else {
        return Ok(());
    };
    let taken = match trained {
        Some(trained) if trained.iter().any(|&trained| trained as usize == dim) => return Ok(()),
        Some(trained) => {
            let trained: Vec<String> = trained.iter().map(u32::to_string).collect();
            format!(
                "{dim}, which is none of matryoshka_dimensions in config.json ({})",
                trained.join(", ")
            )
        }
        None => dim.to_string(),
    };
    bundle.unstated.push(Unstated {
        what: "that the model was trained to have its rows cut to as many values",
        taken,
        option: "--dim",
    });
    Ok(())
}
