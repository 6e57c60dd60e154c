//! The configs of transformers: what images, texts and the step from scores to probabilities take from them.

use std::path::Path;

use super::family;
use super::json::Json;
use super::{Activation, Bundle, Graphs, Head, transformers_image, transformers_text};
use crate::error::Result;

pub(super) fn open(path: &Path, graphs: &Graphs) -> Result<Bundle> {
    let config = Json::open_first(path, &["config.json"])?;
    let mut files: Vec<_> = config
        .iter()
        .map(|config| config.path().to_owned())
        .collect();
    let image = match &graphs.image {
        Some(graph) => {
            let config = config.as_ref();
            Some(transformers_image::files(path, graph, config, &mut files)?)
        }
        None => None,
    };
    let (text, unstated) = match &graphs.text {
        Some(graph) => {
            let config = config.as_ref();
            let (text, unstated) = transformers_text::files(path, graph, config, &mut files)?;
            (Some(text), unstated)
        }
        None => (None, Vec::new()),
    };
    let head = head(config.as_ref())?;
    Ok(Bundle {
        path: path.to_owned(),
        layout: graphs.layout,
        image,
        text,
        head,
        templates: None,
        unstated,
        asked_language: None,
        dim: None,
        text_bundle: None,
        files,
    })
}

/// The family decides softmax or sigmoid. `logit_scale_init_value` is where training began, not what it reached, so
/// no scale is taken from there.
fn head(config: Option<&Json>) -> Result<Head> {
    let is_sigmoid = family::name(config)?.starts_with("siglip");
    let activation = if is_sigmoid {
        Activation::Sigmoid
    } else {
        Activation::Softmax
    };
    Ok(Head {
        activation,
        scale: None,
        bias: None,
        none_below: None,
    })
}
