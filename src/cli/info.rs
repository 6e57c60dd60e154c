//! `diptych info`: what a bundle's files state, and how it will be run.

use anyhow::Result;
use clap::Args;
use diptych::{
    Bundle, Cleaning, DualEncoder, ImageTower, Language, LanguagePlace, Padding, Resize,
    ScaleOrigin, TextTower, Towers, runtime,
};
use serde_json::{Value, json};

use super::output::Output;
use super::rows::RowsArgument;
use super::{Common, Outcome};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    rows: RowsArgument,
}

pub(super) fn run(arguments: &Arguments, common: &Common) -> Result<Outcome> {
    let options = arguments.rows.encoder_options(common, Towers::All);
    let encoder = common.open(common.bundle(Towers::All)?, &options)?;
    let bundle = encoder.bundle();
    let runtime = runtime::start(options.notice)?;

    let mut facts = vec![
        ("model", json!(bundle.path.to_string_lossy())),
        ("layout", json!(layout(bundle))),
        ("files", files(bundle)),
    ];
    match encoder.image_tower() {
        Ok(tower) => facts.extend(image_facts(bundle, tower)?),
        Err(_) => facts.push(("image tower", json!("none"))),
    }
    match encoder.text_tower() {
        Ok(tower) => facts.extend(text_facts(bundle, tower)?),
        Err(_) => facts.push(("text tower", json!("none"))),
    }
    facts.extend(head_facts(&encoder));
    let unstated: Vec<String> = bundle.unstated.iter().map(ToString::to_string).collect();
    facts.push(("unstated", json!(unstated)));
    facts.extend([
        ("fingerprint", json!(bundle.fingerprint()?)),
        (
            "onnx runtime",
            json!(format!(
                "{}, found in {}",
                runtime.version, runtime.found_in
            )),
        ),
        ("onnx runtime file", json!(runtime.path.to_string_lossy())),
    ]);
    Output::new(arguments.json).facts(&facts)?;
    Ok(Outcome::Done)
}

/// Of a pair, that of each half.
fn layout(bundle: &Bundle) -> String {
    let own = bundle.layout.name();
    match &bundle.text_bundle {
        Some(text) => format!("{own}; texts by {}", text.layout.name()),
        None => own.to_owned(),
    }
}

fn files(bundle: &Bundle) -> Value {
    let name = |file: &std::path::PathBuf| {
        file.strip_prefix(&bundle.path)
            .unwrap_or(file)
            .to_string_lossy()
            .into_owned()
    };
    let of_text = bundle.text_bundle.iter().flat_map(|text| &text.files);
    bundle.files.iter().chain(of_text).map(name).collect()
}

fn image_facts(bundle: &Bundle, tower: &ImageTower) -> Result<Vec<(&'static str, Value)>> {
    let preprocess = tower.preprocess();
    let (height, width) = tower.side();
    let resize = match preprocess.resize {
        None => "none".to_owned(),
        Some(Resize::Shortest(edge)) => format!("shortest edge to {edge}"),
        Some(Resize::Longest { height, width }) => {
            format!("longest edge into {height} x {width}, padded")
        }
        Some(Resize::Cover { height, width }) => {
            format!("shortest edge to cover {height} x {width}")
        }
        Some(Resize::Squash { height, width }) => format!("squash to {height} x {width}"),
    };
    let crop = preprocess.crop.map_or_else(
        || "none".to_owned(),
        |(height, width)| format!("centre {height} x {width}"),
    );
    let mut facts = vec![
        ("image tower on", json!(tower.placement().to_string())),
        ("image size", json!(format!("{height} x {width}"))),
        ("resize", json!(resize)),
        ("filter", json!(preprocess.filter.name())),
        ("crop", json!(crop)),
        ("as done by", json!(preprocess.reference.name())),
        ("mean", json!(preprocess.mean)),
        ("std", json!(preprocess.std)),
        ("rows", json!(tower.rows())),
        ("rows per image", json!(tower.rows_per_image())),
    ];
    if let Some(files) = &bundle.image {
        facts.push(("image precision", json!(Bundle::precision(&files.graph)?)));
    }
    Ok(facts)
}

fn text_facts(bundle: &Bundle, tower: &TextTower) -> Result<Vec<(&'static str, Value)>> {
    let settings = tower.tokenizer().settings();
    let padding = match settings.padding {
        Padding::Longest if !tower.hides_padding()? => {
            "none: texts of one length run together".to_owned()
        }
        Padding::Longest => format!(
            "to the longest text of a batch, with id {}",
            settings.pad_id
        ),
        Padding::Full => format!("to the full context, with id {}", settings.pad_id),
    };
    let mut facts = vec![
        ("text tower on", json!(tower.placement().to_string())),
        ("context length", json!(settings.context_length)),
        ("padding", json!(padding)),
        ("cleaning", json!(cleaning(settings.cleaning))),
        ("prefix", json!(tower.tokenizer().prefix())),
        ("vocabulary", json!(tower.tokenizer().vocabulary_size())),
    ];
    if let Some(language) = &settings.language {
        facts.push(("language", json!(described(language))));
    }
    if let Some(files) = &bundle.text {
        facts.push(("text precision", json!(Bundle::precision(&files.graph)?)));
    }
    Ok(facts)
}

fn described(language: &Language) -> String {
    let place = match language.place {
        LanguagePlace::First => "before each text",
        LanguagePlace::Last => "behind each text's end",
        LanguagePlace::Written => "before each text, besides what the tokenizer adds",
    };
    match &language.code {
        Some(code) => format!("{code}, {place}"),
        None => "what the tokenizer adds by itself".to_owned(),
    }
}

fn cleaning(cleaning: Cleaning) -> &'static str {
    match cleaning {
        Cleaning::None => "none besides the tokenizer's own",
        Cleaning::Lower => "open_clip's lower",
        Cleaning::Whitespace => "open_clip's whitespace",
        Cleaning::Canonicalize => "open_clip's canonicalize",
        Cleaning::Immich {
            canonicalize: false,
        } => "immich's",
        Cleaning::Immich { canonicalize: true } => "immich's, canonicalized",
        Cleaning::Siglip => "SigLIP's",
    }
}

fn head_facts(encoder: &DualEncoder) -> Vec<(&'static str, Value)> {
    let calibration = encoder.calibration();
    let origin = match calibration.origin {
        ScaleOrigin::Stated => "stated by a file",
        ScaleOrigin::Measured => "measured by one run of the graph",
        ScaleOrigin::Assumed => "assumed: no file states it",
        ScaleOrigin::Unknown => "unknown: no file states it, so there are no probabilities",
    };
    vec![
        ("width", json!(encoder.width())),
        ("activation", json!(calibration.activation.name())),
        ("scale", number(calibration.scale)),
        ("scale origin", json!(origin)),
        ("bias", number(calibration.bias)),
        ("none below", number(encoder.bundle().head.none_below)),
        ("templates", json!(encoder.bundle().templates)),
    ]
}

/// An f32 with the digits that it has; through f64 it would get more.
fn number(value: Option<f32>) -> Value {
    value
        .and_then(|value| serde_json::from_str(&value.to_string()).ok())
        .unwrap_or(Value::Null)
}
