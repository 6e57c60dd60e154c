//! The configs of open_clip, flat as open_clip exports them or in two folders as immich publishes them.
//!
//! Both have the same keys. They differ in whose pre-processing and cleaning the numbers must equal: open_clip's own,
//! or that of immich's machine-learning service. What texts need is read in `open_clip_text.rs`.

use std::path::{Path, PathBuf};

use super::json::Json;
use super::transformers_image::{OPENAI_MEAN, OPENAI_STD};
use super::{
    Activation, Bundle, Graphs, Head, ImageFiles, Layout, needed, open_clip_text, with_weights,
};
use crate::error::{Error, Result};
use crate::preprocess::{Preprocess, Reference, Resize};
use crate::resample::Filter;

pub(super) fn open(path: &Path, graphs: &Graphs) -> Result<Bundle> {
    let names: &[&str] = match graphs.layout {
        Layout::Immich => &["config.json"],
        _ => &["open_clip_config.json", "model_config.json"],
    };
    let file = || names.join(" or ");
    let missing = || Error::MissingFile {
        path: path.to_owned(),
        file: file(),
        states: "how texts are prepared",
    };
    let config = Json::open_first(path, names)?;
    // open_clip's file wraps the model's config and the pre-processing; older files are the model's config itself.
    let model = match &config {
        Some(config) => Some(
            config
                .object("model_cfg")?
                .unwrap_or_else(|| config.clone()),
        ),
        None => None,
    };
    let mut files: Vec<PathBuf> = config
        .iter()
        .map(|config| config.path().to_owned())
        .collect();
    let image = match &graphs.image {
        Some(graph) => {
            files.extend(with_weights(path, graph)?);
            let preprocess = image_config(path, graphs.layout, config.as_ref(), &mut files)?;
            Some(ImageFiles {
                graph: graph.clone(),
                preprocess: preprocess_of(&preprocess, model.as_ref(), graphs.layout)?,
                rows: None,
                tokens: None,
            })
        }
        None => None,
    };
    let mut unstated = Vec::new();
    let text = match &graphs.text {
        Some(graph) => {
            let model = model.as_ref().ok_or_else(missing)?;
            let text = open_clip_text::files(path, graph, graphs.layout, model, &mut files)?;
            unstated.extend(text.unstated);
            Some(text.files)
        }
        None => None,
    };
    Ok(Bundle {
        path: path.to_owned(),
        layout: graphs.layout,
        image,
        text,
        head: head(model.as_ref()),
        templates: None,
        unstated,
        asked_language: None,
        dim: None,
        text_bundle: None,
        files,
    })
}

/// A bias at the start of training is the mark of the sigmoid loss. Scale and bias in the config are those starting
/// values, so neither is taken from there.
fn head(model: Option<&Json>) -> Head {
    let is_sigmoid = model.is_some_and(|model| model.has("init_logit_bias"));
    let activation = if is_sigmoid {
        Activation::Sigmoid
    } else {
        Activation::Softmax
    };
    Head {
        activation,
        scale: None,
        bias: None,
        none_below: None,
    }
}

fn image_config(
    path: &Path,
    layout: Layout,
    config: Option<&Json>,
    files: &mut Vec<PathBuf>,
) -> Result<Json> {
    let missing = |file: &str| Error::MissingFile {
        path: path.to_owned(),
        file: file.to_owned(),
        states: "how images are prepared",
    };
    if layout == Layout::Immich {
        const NAME: &str = "visual/preprocess_cfg.json";
        files.push(needed(path, NAME, "how images are prepared")?);
        return Json::open(&path.join(NAME));
    }
    let inside = config
        .map(|config| config.object("preprocess_cfg"))
        .transpose()?
        .flatten();
    match inside {
        Some(json) => Ok(json),
        None => {
            let json = Json::open_first(path, &["preprocess_cfg.json", "preprocess_config.json"])?;
            let json =
                json.ok_or_else(|| missing("open_clip_config.json or preprocess_cfg.json"))?;
            files.push(json.path().to_owned());
            Ok(json)
        }
    }
}

/// Height and width of images. open_clip's factory takes what the image tower was made for, whatever the
/// pre-processing says, which published files often leave out; immich's service reads the pre-processing alone.
fn sides(config: &Json, model: Option<&Json>, layout: Layout) -> Result<(u32, u32)> {
    let of_model = match (layout, model) {
        (Layout::OpenClip, Some(model)) => model.side_or_sides("vision_cfg.image_size")?,
        _ => None,
    };
    let stated = config.side_or_sides("size")?;
    Ok(of_model.or(stated).unwrap_or((224, 224)))
}

/// What open_clip's `image_transform_v2` does with the keys of its `PreprocessCfg`.
pub(super) fn preprocess_of(
    config: &Json,
    model: Option<&Json>,
    layout: Layout,
) -> Result<Preprocess> {
    let (height, width) = sides(config, model, layout)?;
    config.choice("mode", &[("RGB", ())])?;
    let filter = config.choice(
        "interpolation",
        // open_clip draws a filter in training only; it infers with bicubic.
        &[
            ("bicubic", Filter::Bicubic),
            ("bilinear", Filter::Bilinear),
            ("random", Filter::Bicubic),
        ],
    )?;
    let squash = Resize::Squash { height, width };
    let shortest = if height == width {
        Resize::Shortest(height)
    } else {
        Resize::Cover { height, width }
    };
    let longest = Resize::Longest { height, width };
    let resize = match layout {
        // immich's service knows two modes, and one side.
        Layout::Immich => {
            config.choice("resize_mode", &[("shortest", shortest), ("squash", squash)])?
        }
        _ => config.choice(
            "resize_mode",
            &[
                ("shortest", shortest),
                ("longest", longest),
                ("squash", squash),
            ],
        )?,
    };
    let resize = resize.unwrap_or(shortest);
    if layout == Layout::Immich && height != width {
        return Err(config.wrong(
            "size",
            "equal height and width, since immich's service takes one side",
        ));
    }
    let fill = config.number("fill_color")?.unwrap_or(0.0);
    if !(0.0..=255.0).contains(&fill) || fill.fract() != 0.0 {
        return Err(config.wrong("fill_color", "a whole number from 0 to 255"));
    }
    Ok(Preprocess {
        resize: Some(resize),
        filter: filter.unwrap_or(Filter::Bicubic),
        crop: (!matches!(resize, Resize::Squash { .. })).then_some((height, width)),
        reference: if layout == Layout::Immich {
            Reference::Immich
        } else {
            Reference::OpenClip
        },
        fill: [fill as u8; 3],
        rescale: Some(1.0 / 255.0),
        mean: config.channels("mean")?.unwrap_or(OPENAI_MEAN),
        std: config.divisors("std")?.unwrap_or(OPENAI_STD),
    })
}
