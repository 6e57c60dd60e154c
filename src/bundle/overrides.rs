//! `diptych.json`: what no published file states, and what a published file states wrongly.
//!
//! ```json
//! {"logit_scale": 100.0, "logit_bias": 0.0, "activation": "softmax",
//!  "none_below": 0.2, "templates": ["a photo of a {}."],
//!  "image": {"size": 224, "resize": "shortest", "filter": "bicubic", "mean": [0, 0, 0], "std": [1, 1, 1],
//!            "rows": "cls"},
//!  "text": {"context_length": 77, "padding": "full", "pad_id": 0, "clean": "lower",
//!           "language": "eng_Latn", "prefix": "search_query: ", "rows": "mean", "layer_norm": false}}
//! ```
//!
//! Every key may be left out. `logit_scale` is what scores are multiplied by, not its logarithm.

use super::json::Json;
use super::transformers_text::{CLEAN, LAYER_NORM, PAD_ID, PREFIX};
use super::{Activation, Bundle, Head, ImageFiles, PLACE, Pad, TextConfig};
use crate::clean::Cleaning;
use crate::error::Result;
use crate::pooling::Rows;
use crate::preprocess::Resize;
use crate::resample::Filter;

const KEYS: [&str; 7] = [
    "logit_scale",
    "logit_bias",
    "activation",
    "none_below",
    "templates",
    "image",
    "text",
];

/// The keys that state what nothing else does, by the options that [`Unstated`](super::Unstated) names.
const STATES: [(&str, &str); 4] = [
    ("text.clean", CLEAN),
    ("text.layer_norm", LAYER_NORM),
    ("text.pad_id", PAD_ID),
    ("text.prefix", PREFIX),
];

const FILTERS: [(&str, Filter); 6] = [
    ("nearest", Filter::Nearest),
    ("box", Filter::Box),
    ("bilinear", Filter::Bilinear),
    ("hamming", Filter::Hamming),
    ("bicubic", Filter::Bicubic),
    ("lanczos", Filter::Lanczos),
];

const CLEANINGS: [(&str, Cleaning); 5] = [
    ("none", Cleaning::None),
    ("lower", Cleaning::Lower),
    ("whitespace", Cleaning::Whitespace),
    ("canonicalize", Cleaning::Canonicalize),
    ("siglip", Cleaning::Siglip),
];

/// Reads the bundle's `diptych.json`, if it has one, over what the other files state.
pub(super) fn apply(bundle: &mut Bundle) -> Result<()> {
    let Some(json) = Json::open_first(&bundle.path, &["diptych.json"])? else {
        return Ok(());
    };
    json.refuse_unknown_keys(&KEYS)?;
    bundle.files.push(json.path().to_owned());

    for (key, option) in STATES {
        if json.has(key) {
            bundle.unstated.retain(|unstated| unstated.option != option);
        }
    }
    head_overrides(&json, &mut bundle.head)?;
    bundle.templates = templates(&json)?;
    if let (Some(json), Some(image)) = (json.object("image")?, &mut bundle.image) {
        image_overrides(&json, image)?;
    }
    if let (Some(json), Some(text)) = (json.object("text")?, &mut bundle.text) {
        text_overrides(&json, &mut text.text)?;
        if let Some(language) = json.string("language")? {
            bundle.state_language(&language)?;
        }
    }
    Ok(())
}

fn head_overrides(json: &Json, head: &mut Head) -> Result<()> {
    if let Some(activation) = json.choice("activation", &Activation::KNOWN)? {
        head.activation = activation;
    }
    if let Some(scale) = json.number("logit_scale")? {
        if scale <= 0.0 || !(scale as f32).is_finite() {
            return Err(json.wrong("logit_scale", "a number above 0 that 32 bits can hold"));
        }
        head.scale = Some(scale as f32);
    }
    if let Some(bias) = json.number("logit_bias")? {
        if !(bias as f32).is_finite() {
            return Err(json.wrong("logit_bias", "a number that 32 bits can hold"));
        }
        head.bias = Some(bias as f32);
    }
    if let Some(cosine) = json.number("none_below")? {
        if !(-1.0..=1.0).contains(&cosine) {
            return Err(json.wrong("none_below", "a cosine, from -1 to 1"));
        }
        head.none_below = Some(cosine as f32);
    }
    Ok(())
}

fn templates(json: &Json) -> Result<Option<Vec<String>>> {
    let templates = json.strings("templates")?;
    let has_place = |template: &String| template.contains(PLACE);
    let makes_sense =
        |templates: &Vec<String>| !templates.is_empty() && templates.iter().all(has_place);
    if templates
        .as_ref()
        .is_some_and(|templates| !makes_sense(templates))
    {
        return Err(json.wrong(
            "templates",
            "at least one string, each with {} where the label goes",
        ));
    }
    Ok(templates)
}

fn image_overrides(json: &Json, image: &mut ImageFiles) -> Result<()> {
    json.refuse_unknown_keys(&["size", "resize", "filter", "mean", "std", "rows"])?;
    let preprocess = &mut image.preprocess;
    let sides = json.side_or_sides("size")?;
    let mode = json.choice("resize", &[("shortest", 0), ("longest", 1), ("squash", 2)])?;
    if mode.is_some() && sides.is_none() {
        return Err(json.wrong("size", "a number beside resize"));
    }
    if let Some((height, width)) = sides {
        let mode = mode.unwrap_or(match preprocess.resize {
            Some(Resize::Longest { .. }) => 1,
            Some(Resize::Squash { .. }) => 2,
            _ => 0,
        });
        preprocess.resize = Some(match mode {
            0 => Resize::Shortest(height.min(width)),
            1 => Resize::Longest { height, width },
            _ => Resize::Squash { height, width },
        });
        preprocess.crop = (mode != 2).then_some((height, width));
    }
    preprocess.filter = json
        .choice("filter", &FILTERS)?
        .unwrap_or(preprocess.filter);
    preprocess.mean = json.channels("mean")?.unwrap_or(preprocess.mean);
    preprocess.std = json.divisors("std")?.unwrap_or(preprocess.std);
    image.rows = json
        .choice("rows", &Rows::ALL.map(|rows| (rows.name(), rows)))?
        .or(image.rows);
    Ok(())
}

fn text_overrides(json: &Json, text: &mut TextConfig) -> Result<()> {
    json.refuse_unknown_keys(&[
        "context_length",
        "padding",
        "pad_id",
        "clean",
        "language",
        "prefix",
        "rows",
        "layer_norm",
    ])?;
    if let Some(length) = json.count("context_length")? {
        text.context_length = Some(length as usize);
    }
    if let Some(id) = json.id("pad_id")? {
        text.pad = Pad::Id(id);
        text.trained_pad = None;
    }
    text.is_padded_full = json
        .choice("padding", &[("longest", false), ("full", true)])?
        .unwrap_or(text.is_padded_full);
    text.cleaning = json.choice("clean", &CLEANINGS)?.unwrap_or(text.cleaning);
    if let Some(prefix) = json.string("prefix")? {
        text.prefix = prefix;
    }
    let rows = [Rows::Cls, Rows::Mean, Rows::Pooled].map(|rows| (rows.name(), rows));
    text.rows = json.choice("rows", &rows)?.or(text.rows);
    text.has_layer_norm = json.bool("layer_norm")?.unwrap_or(text.has_layer_norm);
    Ok(())
}
