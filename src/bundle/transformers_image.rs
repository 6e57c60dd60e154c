//! What transformers' image processors do, by `preprocessor_config.json`, and what the tokens of an image stand for.
//!
//! Defaults are those of the image processor's class in transformers 5 (Pillow back-end where it has one), since a saved
//! config may leave out what equals its class's default.

use std::path::{Path, PathBuf};

use super::json::Json;
use super::{ImageFiles, Layout, family, open_clip, with_weights};
use crate::error::{Error, Result};
use crate::pooling::{ImageTokens, Rows};
use crate::preprocess::{Preprocess, Reference, Resize};
use crate::resample::Filter;

pub(super) const OPENAI_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
pub(super) const OPENAI_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
const HALF: [f64; 3] = [0.5; 3];
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// What a class of image processor does where its config says nothing.
#[derive(Debug, Clone, Copy)]
struct Defaults {
    filter: Filter,
    /// Whether a size of one number is the shortest edge; otherwise both sides.
    is_shortest: bool,
    has_crop: bool,
    /// The size where none is stated.
    side: u32,
    mean: [f64; 3],
    std: [f64; 3],
    reference: Reference,
}

const CLIP: Defaults = Defaults {
    filter: Filter::Bicubic,
    is_shortest: true,
    has_crop: true,
    side: 224,
    mean: OPENAI_MEAN,
    std: OPENAI_STD,
    reference: Reference::Transformers,
};

const SIGLIP: Defaults = Defaults {
    has_crop: false,
    mean: HALF,
    std: HALF,
    ..CLIP
};

const VIT: Defaults = Defaults {
    filter: Filter::Bilinear,
    is_shortest: false,
    has_crop: false,
    mean: HALF,
    std: HALF,
    ..CLIP
};

const BIT: Defaults = Defaults {
    mean: OPENAI_MEAN,
    std: OPENAI_STD,
    ..CLIP
};

const DEIT: Defaults = Defaults {
    is_shortest: false,
    side: 256,
    mean: HALF,
    std: HALF,
    ..CLIP
};

/// It has no Pillow back-end.
const DINOV3: Defaults = Defaults {
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
    reference: Reference::Torchvision,
    ..VIT
};

/// The classes whose steps are those of this file: resize, crop, rescale, normalise.
const CLASSES: [(&str, Defaults); 7] = [
    ("CLIP", CLIP),
    ("ChineseCLIP", CLIP),
    ("Siglip", SIGLIP),
    ("ViT", VIT),
    ("Bit", BIT),
    ("DeiT", DEIT),
    ("DINOv3ViT", DINOV3),
];

/// The class of Jina CLIP's own code, whose steps and keys are open_clip's.
const JINA_CLIP: &str = "JinaCLIP";

/// Patches alone, as SigLIP has them.
const PATCHES: ImageTokens = ImageTokens {
    has_class: false,
    registers: 0,
    patch: None,
    is_pooled_class: false,
    usual: Some(Rows::Pooled),
};

/// A class token and patches, as ViT has them; its pooled output is a layer that is seldom trained.
const CLASS: ImageTokens = ImageTokens {
    has_class: true,
    usual: Some(Rows::Cls),
    ..PATCHES
};

/// A class token, which the last norm makes the pooled output, and patches.
const DINO: ImageTokens = ImageTokens {
    is_pooled_class: true,
    ..CLASS
};

/// As ViT, with a norm of the class token alone behind it, and most often a projection behind that: what is taken
/// depends on which of them the graph gives.
const CLIP_VISION: ImageTokens = ImageTokens {
    usual: None,
    ..CLASS
};

/// The families whose order of tokens is known, by `model_type`, with the defaults of their classes.
const FAMILIES: [(&str, ImageTokens); 10] = [
    ("dinov2", DINO),
    (
        "dinov2_with_registers",
        ImageTokens {
            registers: 4,
            ..DINO
        },
    ),
    ("dinov3_vit", DINO),
    ("vit", CLASS),
    ("vit_msn", CLASS),
    ("clip", CLIP_VISION),
    ("clip_vision_model", CLIP_VISION),
    ("siglip", PATCHES),
    ("siglip_vision_model", PATCHES),
    ("nomic_bert", CLASS),
];

/// SigLIP 2 NaFlex is fed patches of an image of any shape, with how many there are in height and width.
fn refuse_patches(config: Option<&Json>) -> Result<()> {
    match config {
        Some(config) if family::name(Some(config))? == "siglip2" => Err(config.wrong(
            "model_type",
            "a family whose images have one size: this is SigLIP 2 NaFlex, which takes patches and spatial_shapes; \
             SigLIP 2 of a fixed size says siglip",
        )),
        _ => Ok(()),
    }
}

pub(super) fn files(
    path: &Path,
    graph: &Path,
    config: Option<&Json>,
    files: &mut Vec<PathBuf>,
) -> Result<ImageFiles> {
    const NAMES: &str = "preprocessor_config.json or processor_config.json";
    refuse_patches(config)?;
    let missing = || Error::MissingFile {
        path: path.to_owned(),
        file: NAMES.to_owned(),
        states: "how images are prepared",
    };
    let processor = match Json::open_first(path, &["preprocessor_config.json"])? {
        Some(processor) => processor,
        // transformers 5 saves the image processor inside the processor's file.
        None => {
            let processor =
                Json::open_first(path, &["processor_config.json"])?.ok_or_else(missing)?;
            processor.object("image_processor")?.ok_or_else(missing)?
        }
    };
    files.push(processor.path().to_owned());
    files.extend(with_weights(path, graph)?);
    Ok(ImageFiles {
        graph: graph.to_owned(),
        preprocess: preprocess(&processor, config)?,
        rows: None,
        tokens: config.map(tokens).transpose()?.flatten(),
    })
}

/// What the tokens of an image stand for, in the families of vision transformers whose order of tokens is known.
fn tokens(config: &Json) -> Result<Option<ImageTokens>> {
    let Some(family) = config.string("model_type")? else {
        return Ok(None);
    };
    let known = FAMILIES.iter().find(|(name, _)| *name == family);
    let Some((_, tokens)) = known else {
        return Ok(None);
    };
    let keys = ["patch_size", "vision_config.patch_size"];
    let stated = keys.into_iter().find(|key| config.has(key));
    let patch = stated.map(|key| config.side_or_sides(key)).transpose()?;
    let registers = config.whole("num_register_tokens")?;
    Ok(Some(ImageTokens {
        patch: patch.flatten(),
        registers: registers.map_or(tokens.registers, |count| count as usize),
        ..*tokens
    }))
}

fn preprocess(config: &Json, model: Option<&Json>) -> Result<Preprocess> {
    if class(config)?.as_deref() == Some(JINA_CLIP) {
        return open_clip::preprocess_of(config, None, Layout::OpenClip);
    }
    let defaults = defaults(config, &family::name(model)?)?;
    let does = |key: &str, default| Ok::<_, Error>(config.bool(key)?.unwrap_or(default));
    let resize = if does("do_resize", true)? {
        Some(resize(config, defaults)?)
    } else {
        None
    };
    let crop = if does("do_center_crop", defaults.has_crop)? {
        Some(crop(config)?)
    } else {
        None
    };
    let rescale = config.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
    let is_normalised = does("do_normalize", true)?;
    config.divisors("image_std")?;
    let channels = |key, default: [f64; 3], without: f64| {
        Ok::<_, Error>(if is_normalised {
            config.channels(key)?.unwrap_or(default)
        } else {
            [without; 3]
        })
    };
    Ok(Preprocess {
        resize,
        filter: filter(config, defaults)?,
        crop,
        reference: defaults.reference,
        fill: [0; 3],
        rescale: does("do_rescale", true)?.then_some(rescale),
        mean: channels("image_mean", defaults.mean, 0.0)?,
        std: channels("image_std", defaults.std, 1.0)?,
    })
}

/// The key that names the class of image processor.
fn class_key(config: &Json) -> &'static str {
    if config.has("image_processor_type") {
        "image_processor_type"
    } else {
        "feature_extractor_type"
    }
}

/// The class of image processor without what all their names end in; the whole name where it ends otherwise.
fn class(config: &Json) -> Result<Option<String>> {
    const ENDINGS: [&str; 4] = [
        "ImageProcessorFast",
        "ImageProcessorPil",
        "ImageProcessor",
        "FeatureExtractor",
    ];
    let name = config.string(class_key(config))?;
    let without = |name: String| {
        let class = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        class.unwrap_or(&name).to_owned()
    };
    Ok(name.map(without))
}

/// Those of the class that the file names; where it names none, of the class that the family has.
fn defaults(config: &Json, family: &str) -> Result<Defaults> {
    let Some(class) = class(config)? else {
        return Ok(match family {
            "siglip" | "siglip_vision_model" => SIGLIP,
            "vit" | "vit_msn" => VIT,
            "dinov2" | "dinov2_with_registers" => BIT,
            "deit" => DEIT,
            "dinov3_vit" => DINOV3,
            _ => CLIP,
        });
    };
    let known = CLASSES.iter().find(|(known, _)| *known == class);
    let names = CLASSES.iter().map(|(name, _)| *name).chain([JINA_CLIP]);
    let names: Vec<String> = names.map(|name| format!("{name}ImageProcessor")).collect();
    known
        .map(|(_, defaults)| *defaults)
        .ok_or_else(|| config.wrong(class_key(config), format!("one of {}", names.join(", "))))
}

fn resize(config: &Json, defaults: Defaults) -> Result<Resize> {
    const EXPECTED: &str = "a number, {\"shortest_edge\"} or {\"height\", \"width\"}";
    let square = |side| {
        if defaults.is_shortest {
            Resize::Shortest(side)
        } else {
            Resize::Squash {
                height: side,
                width: side,
            }
        }
    };
    if !config.has("size") {
        // SigLIP's class takes a number for the shortest edge, though its own size is both.
        return Ok(if defaults.has_crop {
            square(defaults.side)
        } else {
            Resize::Squash {
                height: defaults.side,
                width: defaults.side,
            }
        });
    }
    if let Ok(Some(side)) = config.count("size") {
        return Ok(square(side));
    }
    let size = config
        .object("size")
        .map_err(|_| config.wrong("size", EXPECTED))?;
    let size = size.ok_or_else(|| config.wrong("size", EXPECTED))?;
    match (
        size.count("shortest_edge")?,
        size.count("height")?,
        size.count("width")?,
    ) {
        (Some(_), _, _) if size.has("longest_edge") => Err(config.wrong("size", EXPECTED)),
        (Some(edge), None, None) => Ok(Resize::Shortest(edge)),
        (None, Some(height), Some(width)) => Ok(Resize::Squash { height, width }),
        _ => Err(config.wrong("size", EXPECTED)),
    }
}

fn crop(config: &Json) -> Result<(u32, u32)> {
    const EXPECTED: &str = "a number or {\"height\", \"width\"}";
    if !config.has("crop_size") {
        return Ok((224, 224));
    }
    if let Ok(Some(side)) = config.count("crop_size") {
        return Ok((side, side));
    }
    let size = config
        .object("crop_size")
        .map_err(|_| config.wrong("crop_size", EXPECTED))?;
    let size = size.ok_or_else(|| config.wrong("crop_size", EXPECTED))?;
    match (size.count("height")?, size.count("width")?) {
        (Some(height), Some(width)) => Ok((height, width)),
        _ => Err(config.wrong("crop_size", EXPECTED)),
    }
}

fn filter(config: &Json, defaults: Defaults) -> Result<Filter> {
    let Some(code) = config.number("resample")? else {
        return Ok(defaults.filter);
    };
    let whole = (code >= 0.0 && code.fract() == 0.0).then_some(code as u64);
    let filter = whole.and_then(Filter::from_code);
    match (filter, defaults.reference) {
        (Some(Filter::Bilinear | Filter::Bicubic), _) | (Some(_), Reference::Transformers) => {
            filter
        }
        _ => None,
    }
    .ok_or_else(|| {
        let expected = match defaults.reference {
            Reference::Torchvision => "2 bilinear or 3 bicubic, which torchvision has for floats",
            _ => "0 nearest, 1 lanczos, 2 bilinear, 3 bicubic, 4 box or 5 hamming",
        };
        config.wrong("resample", expected)
    })
}
