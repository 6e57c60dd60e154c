//! The configs of transformers: `preprocessor_config.json`, `config.json`, `tokenizer_config.json`.
//!
//! Defaults are those of the image processor's class in transformers 5 (Pillow back-end where it has one), since a saved config may
//! leave out what equals its class's default.

use std::path::{Path, PathBuf};

use super::family::{self, TextRules};
use super::json::Json;
use super::{
    Activation, Bundle, Graphs, Head, ImageFiles, Layout, Pad, TextConfig, TextFiles, Unstated,
    needed, open_clip, sentence, with_weights,
};
use crate::clean::Cleaning;
use crate::error::{Error, Result};
use crate::pooling::{ImageTokens, Rows};
use crate::preprocess::{Preprocess, Reference, Resize};
use crate::resample::Filter;
use crate::tokenize::Splitting;

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
    mean: [f64; 3],
    std: [f64; 3],
    reference: Reference,
}

const CLIP: Defaults = Defaults {
    filter: Filter::Bicubic,
    is_shortest: true,
    has_crop: true,
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
    filter: Filter::Bicubic,
    is_shortest: false,
    has_crop: true,
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
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

pub(super) fn open(path: &Path, graphs: &Graphs) -> Result<Bundle> {
    let config = Json::open_first(path, &["config.json"])?;
    let mut files: Vec<_> = config
        .iter()
        .map(|config| config.path().to_owned())
        .collect();
    let image = match &graphs.image {
        Some(graph) => {
            refuse_patches(config.as_ref())?;
            Some(image_files(path, graph, config.as_ref(), &mut files)?)
        }
        None => None,
    };
    let text = match &graphs.text {
        Some(graph) => Some(text_files(path, graph, config.as_ref(), &mut files)?),
        None => None,
    };
    let head = head(config.as_ref())?;
    let mut unstated = Vec::new();
    if let Some(text) = &text {
        let tokenizer_config = Json::open_first(path, &["tokenizer_config.json"])?;
        let tokenizer_config = tokenizer_config.as_ref();
        unstated.extend(kept_capitals(config.as_ref(), tokenizer_config)?);
        unstated.extend(trained_padding(path, config.as_ref(), tokenizer_config)?);
        unstated.extend(card_alone(&text.text));
    }
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

/// What stands on a model's card alone.
fn card_alone(text: &TextConfig) -> Vec<Unstated> {
    let mut unstated = Vec::new();
    if !text.prefix.is_empty() {
        unstated.push(Unstated {
            what: "what stands before a text",
            taken: format!("{:?}", text.prefix),
            option: PREFIX,
        });
    }
    if text.has_layer_norm {
        unstated.push(Unstated {
            what: "whether a text's values are normed to mean 0 and variance 1",
            taken: "that they are, as of version 1.5 and not of version 1,".to_owned(),
            option: LAYER_NORM,
        });
    }
    unstated
}

/// Whether the model is a MobileCLIP, whose images alone of all CLIPs are not normalised.
///
/// Most of them have no causal mask, so that texts see their padding. They were trained with open_clip's, which is id
/// 0, while the tokenizer published beside them names CLIP's end token.
fn is_mobile_clip(path: &Path, config: Option<&Json>) -> Result<bool> {
    let processor = Json::open_first(path, &["preprocessor_config.json"])?;
    let normalizes = processor
        .map(|json| json.bool("do_normalize"))
        .transpose()?;
    Ok(normalizes.flatten() == Some(false) && family::name(config)? == "clip")
}

/// That a MobileCLIP's padding is what it was trained with, and not what its tokenizer names.
fn trained_padding(
    path: &Path,
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
) -> Result<Option<Unstated>> {
    let token = tokenizer_config
        .map(|json| json.token("pad_token"))
        .transpose()?;
    let token = token.flatten().filter(|token| token != "!");
    Ok(token
        .filter(|_| matches!(is_mobile_clip(path, config), Ok(true)))
        .map(|token| Unstated {
            what: "what pads texts, which MobileCLIP sees",
            taken: format!("id 0, as it was trained, and not {token:?}"),
            option: PAD_ID,
        }))
}

/// What says otherwise where no option of the program does.
pub(super) const CLEAN: &str = "\"text\": {\"clean\": \"lower\"} in diptych.json";
pub(super) const LAYER_NORM: &str = "\"text\": {\"layer_norm\": false} in diptych.json";
pub(super) const PAD_ID: &str = "\"text\": {\"pad_id\": N} in diptych.json";
pub(super) const PREFIX: &str = "--prefix";

/// SigLIP 2 was trained on texts in lower case, but its first files name a class that keeps capitals, and transformers
/// does as the class does.
fn kept_capitals(
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
) -> Result<Option<Unstated>> {
    let class = tokenizer_config.map(|json| json.string("tokenizer_class"));
    let class = class.transpose()?.flatten().unwrap_or_default();
    let is_gemma = class.strip_suffix("Fast").unwrap_or(&class) == "GemmaTokenizer";
    let is_siglip = family::name(config)?.starts_with("siglip");
    Ok((is_gemma && is_siglip).then(|| Unstated {
        what: "that capitals are kept, though SigLIP 2 was trained without them",
        taken: format!("what {class} does"),
        option: CLEAN,
    }))
}

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

fn image_files(
    path: &Path,
    graph: &Path,
    config: Option<&Json>,
    files: &mut Vec<PathBuf>,
) -> Result<ImageFiles> {
    const NAMES: &str = "preprocessor_config.json or processor_config.json";
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
        preprocess: preprocess(&processor)?,
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

fn preprocess(config: &Json) -> Result<Preprocess> {
    if class(config)?.as_deref() == Some(JINA_CLIP) {
        return open_clip::preprocess_of(config, None, Layout::OpenClip);
    }
    let defaults = defaults(config)?;
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

fn defaults(config: &Json) -> Result<Defaults> {
    let Some(class) = class(config)? else {
        return Ok(CLIP);
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
        return Ok(if defaults.has_crop && defaults.is_shortest {
            Resize::Shortest(224)
        } else {
            Resize::Squash {
                height: 224,
                width: 224,
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

fn text_files(
    path: &Path,
    graph: &Path,
    config: Option<&Json>,
    files: &mut Vec<PathBuf>,
) -> Result<TextFiles> {
    let tokenizer = needed(path, "tokenizer.json", "the vocabulary")?;
    let tokenizer_config = Json::open_first(path, &["tokenizer_config.json"])?;
    let special = Json::open_first(path, &["special_tokens_map.json"])?;
    files.extend(
        tokenizer_config
            .iter()
            .chain(&special)
            .map(|json| json.path().to_owned()),
    );
    files.push(tokenizer.clone());
    files.extend(with_weights(path, graph)?);

    let rules = family::text_rules(&family::name(config)?);
    let sentence = sentence::open(path, files)?;
    let stated = context_length(config, tokenizer_config.as_ref(), rules)?;
    Ok(TextFiles {
        graph: graph.to_owned(),
        tokenizer,
        text: TextConfig {
            language: None,
            cleaning: Cleaning::None,
            splitting: if sentence.lower_cases {
                Splitting::LowerCase
            } else {
                splitting(tokenizer_config.as_ref())?
            },
            context_length: stated.into_iter().chain(sentence.context_length).min(),
            is_padded_full: rules.is_padded_full,
            hides_padding: rules.hides_padding,
            pad: if is_mobile_clip(path, config)? {
                files.push(path.join("preprocessor_config.json"));
                Pad::Id(0)
            } else {
                pad(config, tokenizer_config.as_ref(), special.as_ref())?
            },
            stripped_token: None,
            vocabulary_size: vocabulary_size(config)?,
            prefix: rules.prefix.to_owned(),
            rows: sentence.rows,
            has_layer_norm: rules.has_layer_norm,
        },
    })
}

/// A key of the text model: in `text_config`, or at the top for a bundle of a text tower alone.
fn text_key(config: Option<&Json>, key: &str) -> Option<String> {
    let config = config?;
    [format!("text_config.{key}"), key.to_owned()]
        .into_iter()
        .find(|key| config.has(key))
}

fn vocabulary_size(config: Option<&Json>) -> Result<Option<usize>> {
    let (Some(config), Some(key)) = (config, text_key(config, "vocab_size")) else {
        return Ok(None);
    };
    Ok(config.id(&key)?.map(|size| size as usize))
}

/// What the class of tokenizer adds to its `tokenizer.json`.
fn splitting(tokenizer_config: Option<&Json>) -> Result<Splitting> {
    let Some(config) = tokenizer_config else {
        return Ok(Splitting::File);
    };
    // Rows of texts are read where right padding leaves them.
    config.choice("padding_side", &[("right", ())])?;
    let class = config.string("tokenizer_class")?.unwrap_or_default();
    Ok(match class.strip_suffix("Fast").unwrap_or(&class) {
        "Siglip2Tokenizer" => Splitting::LowerCase,
        _ => Splitting::File,
    })
}

/// The smaller of what tokenizer and model state, otherwise the family's. A tokenizer without a limit states a huge one.
fn context_length(
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
    rules: TextRules,
) -> Result<Option<usize>> {
    let model = match (config, text_key(config, "max_position_embeddings")) {
        (Some(config), Some(key)) => config.count(&key)?,
        _ => None,
    };
    let tokenizer = tokenizer_config
        .map(|json| json.number("model_max_length"))
        .transpose()?
        .flatten();
    let tokenizer = tokenizer
        .filter(|&length| (1.0..65536.0).contains(&length))
        .map(|length| length as u32);
    let stated = model.into_iter().chain(tokenizer).min();
    Ok(stated
        .map(|length| length as usize)
        .or(rules.usual_context)
        .into_iter()
        .chain(rules.longest_context)
        .min())
}

fn pad(
    config: Option<&Json>,
    tokenizer_config: Option<&Json>,
    special: Option<&Json>,
) -> Result<Pad> {
    for json in tokenizer_config.into_iter().chain(special) {
        if let Some(token) = json.token("pad_token")? {
            return Ok(Pad::Token(token));
        }
    }
    let id = match (config, text_key(config, "pad_token_id")) {
        (Some(config), Some(key)) => config.id(&key)?,
        _ => None,
    };
    Ok(Pad::Id(id.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The context length of a family whose config and tokenizer state these.
    fn context(family: &str, positions: u32, tokens: &str) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            Json::open(&path).unwrap()
        };
        let positions = match positions {
            0 => String::new(),
            count => format!(r#", "text_config": {{"max_position_embeddings": {count}}}"#),
        };
        let config = open(
            "config.json",
            format!(r#"{{"model_type": "{family}"{positions}}}"#),
        );
        let tokenizer = open(
            "tokenizer_config.json",
            format!(r#"{{"model_max_length": {tokens}}}"#),
        );
        context_length(Some(&config), Some(&tokenizer), family::text_rules(family)).unwrap()
    }

    #[test]
    fn contexts_are_what_training_had() {
        const NO_LIMIT: &str = "1000000000000000019884624838656";
        assert_eq!(context("clip", 77, "77"), Some(77));
        assert_eq!(context("clip", 0, NO_LIMIT), None);
        assert_eq!(context("siglip", 0, NO_LIMIT), Some(64));
        assert_eq!(context("siglip", 16, NO_LIMIT), Some(16));
        assert_eq!(context("chinese_clip", 512, "512"), Some(52));
        assert_eq!(context("chinese_clip", 24, "512"), Some(24));
        assert_eq!(context("jina_clip", 0, "8194"), Some(512));
    }
}
