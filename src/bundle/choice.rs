//! Which graphs of a bundle are taken: chosen by their names alone, so that a folder and a list of a hub's files are
//! judged by one rule.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::{Layout, Towers, sentence};
use crate::error::{Error, Result};

/// The precisions to take graphs of, as published names end: `fp32` is `vision_model.onnx`, `fp16`
/// `vision_model_fp16.onnx`, `q8` `vision_model_quantized.onnx`, and any other word an ending of its own.
///
/// Where a tower has none, the graph without an ending is taken; where there is no such graph, that of `fp16`, or the
/// only one there is.
///
/// # Example
///
/// ```
/// let both: diptych::Precisions = "fp16".parse()?;
/// assert_eq!((both.image.as_deref(), both.text.as_deref()), (Some("fp16"), Some("fp16")));
/// let each: diptych::Precisions = "image=int8,text=fp32".parse()?;
/// assert_eq!((each.image.as_deref(), each.text.as_deref()), (Some("int8"), Some("fp32")));
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precisions {
    /// That of the image tower.
    pub image: Option<String>,
    /// That of the text tower.
    pub text: Option<String>,
}

impl FromStr for Precisions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::BadPrecision {
            found: text.to_owned(),
        };
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let mut precisions = Self::default();
        if is_word(text) {
            precisions.image = Some(text.to_owned());
            precisions.text = Some(text.to_owned());
            return Ok(precisions);
        }
        for part in text.split(',') {
            let (tower, word) = part.split_once('=').ok_or_else(wrong)?;
            let place = match tower.trim() {
                "image" => &mut precisions.image,
                "text" => &mut precisions.text,
                _ => return Err(wrong()),
            };
            let word = word.trim();
            if !is_word(word) || place.replace(word.to_owned()).is_some() {
                return Err(wrong());
            }
        }
        Ok(precisions)
    }
}

impl fmt::Display for Precisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("image", &self.image), ("text", &self.text)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter_map(|(tower, word)| Some(format!("{tower}={}", word.as_ref()?)))
            .collect();
        f.write_str(&parts.join(","))
    }
}

/// The graphs that were chosen, by their names relative to the bundle, with `/` between folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) layout: Layout,
    pub(crate) image: Option<String>,
    pub(crate) text: Option<String>,
}

/// How a layout names its graphs, without endings; the first that is there is taken.
struct Names {
    layout: Layout,
    image: &'static [&'static str],
    text: &'static [&'static str],
    /// Whether a graph with another ending does where there is none without.
    has_variants: bool,
}

/// In the order in which layouts are recognised.
const LAYOUTS: [Names; 4] = [
    Names {
        layout: Layout::Immich,
        image: &["visual/model"],
        text: &["textual/model"],
        has_variants: false,
    },
    Names {
        layout: Layout::OpenClip,
        image: &["visual"],
        text: &["text", "textual"],
        has_variants: false,
    },
    Names {
        layout: Layout::Transformers,
        image: &["onnx/vision_model", "vision_model"],
        text: &["onnx/text_model", "text_model"],
        has_variants: true,
    },
    Names {
        layout: Layout::Combined,
        image: &["onnx/model", "model"],
        text: &["onnx/model", "model"],
        has_variants: true,
    },
];

/// The graphs among `files` for `towers`, in the precisions asked for; `None` where no layout fits.
///
/// A bundle of one graph for both towers keeps both, whichever are asked for.
///
/// # Errors
///
/// [`Error::NoPrecision`], with the bundle's name `path`, if a tower is there but not in the precision asked for.
pub(crate) fn choose(
    path: &Path,
    files: &BTreeSet<String>,
    towers: Towers,
    precisions: &Precisions,
) -> Result<Option<Choice>> {
    let fits = |names: &&Names| {
        let both = [
            (names.image, &precisions.image),
            (names.text, &precisions.text),
        ];
        both.into_iter()
            .any(|(stems, asked)| names.is_there(files, stems, asked.as_deref()))
    };
    let Some(names) = LAYOUTS.iter().find(fits) else {
        return Ok(None);
    };
    let is_whole = names.layout == Layout::Combined;
    let pick = |tower, stems, asked: &Option<String>| {
        // What is asked of one half of a graph is asked of the graph.
        let other = precisions.image.as_ref().or(precisions.text.as_ref());
        let asked = asked.as_ref().or(other.filter(|_| is_whole));
        names.pick_or_fail(path, files, tower, stems, asked.map(String::as_str))
    };
    let mut choice = Choice {
        layout: names.layout,
        image: None,
        text: None,
    };
    if towers != Towers::Text || is_whole {
        choice.image = pick("image", names.image, &precisions.image)?;
    }
    if towers != Towers::Image || is_whole {
        choice.text = pick("text", names.text, &precisions.text)?;
    }
    if is_whole && choice.image != choice.text {
        return Err(Error::NoPrecision {
            path: path.to_owned(),
            tower: "image and text",
            asked: precisions.to_string(),
            found: precisions_of(files, names.image).join(", "),
        });
    }
    Ok(Some(choice))
}

/// The configs that a layout reads for the towers that are there, as far as a bundle has them: each once.
pub(crate) fn config_names(layout: Layout, image: bool, text: bool) -> Vec<&'static str> {
    let mut names = Vec::new();
    let read = config_places(layout, image, text).into_iter().flatten();
    for name in read.chain(&["diptych.json"]) {
        if !names.contains(name) {
            names.push(*name);
        }
    }
    names
}

/// The same but `diptych.json`, which no published model needs: for each thing that is stated the names of the files
/// that may state it, of which one is enough.
pub(crate) fn config_places(
    layout: Layout,
    image: bool,
    text: bool,
) -> Vec<&'static [&'static str]> {
    type Places = &'static [&'static [&'static str]];
    let (always, of_image, of_text): (Places, Places, Places) = match layout {
        Layout::Transformers | Layout::Combined | Layout::ImageAlone => (
            &[&["config.json"]],
            &[&["preprocessor_config.json", "processor_config.json"]],
            &[
                &["tokenizer.json"],
                &["tokenizer_config.json"],
                &["special_tokens_map.json"],
                &[sentence::NAMES[0]],
                &[sentence::NAMES[1]],
                &[sentence::NAMES[2]],
            ],
        ),
        Layout::OpenClip => (
            &[&["open_clip_config.json", "model_config.json"]],
            // Where the first states it too, the others are not read.
            &[&[
                "open_clip_config.json",
                "preprocess_cfg.json",
                "preprocess_config.json",
            ]],
            &[
                &["tokenizer.json"],
                &["tokenizer_config.json"],
                &["special_tokens_map.json"],
            ],
        ),
        Layout::Immich => (
            &[&["config.json"]],
            &[&["visual/preprocess_cfg.json"]],
            &[
                &["textual/tokenizer.json"],
                &["textual/tokenizer_config.json"],
            ],
        ),
    };
    let towers = [(of_image, image), (of_text, text)];
    let of_towers = towers.into_iter().filter(|(_, is_there)| *is_there);
    let places = of_towers.flat_map(|(places, _)| places);
    always.iter().chain(places).copied().collect()
}

/// What the graph named `graph` is named in another precision: by its ending where the layout knows such names, otherwise
/// as the graph without an ending.
pub(crate) fn graph_name(layout: Layout, graph: &str, precision: &str) -> String {
    let names = LAYOUTS.iter().find(|names| names.layout == layout);
    let stems = names
        .into_iter()
        .flat_map(|names| names.image.iter().chain(names.text));
    let stem = stems.copied().find(|stem| ending_of(graph, stem).is_some());
    match (stem, names.is_some_and(|names| names.has_variants)) {
        (Some(stem), true) => format!("{stem}{}.onnx", ending(precision)),
        (Some(stem), false) => format!("{stem}.onnx"),
        (None, _) => graph.to_owned(),
    }
}

impl Names {
    /// Whether a tower's graph is among `files`, in whichever precision.
    fn is_there(&self, files: &BTreeSet<String>, stems: &[&str], asked: Option<&str>) -> bool {
        self.pick(files, stems, None).is_some()
            || asked.is_some() && self.pick(files, stems, asked).is_some()
            // Elsewhere an ending proves nothing: text_model.onnx is no variant of text.onnx.
            || asked.is_some() && self.has_variants && !precisions_of(files, stems).is_empty()
    }

    fn pick_or_fail(
        &self,
        path: &Path,
        files: &BTreeSet<String>,
        tower: &'static str,
        stems: &[&str],
        asked: Option<&str>,
    ) -> Result<Option<String>> {
        let picked = self.pick(files, stems, asked);
        match asked {
            Some(asked) if picked.is_none() && self.is_there(files, stems, Some(asked)) => {
                Err(Error::NoPrecision {
                    path: path.to_owned(),
                    tower,
                    asked: asked.to_owned(),
                    found: precisions_of(files, stems).join(", "),
                })
            }
            _ => Ok(picked),
        }
    }

    /// The graph of that precision; without one, that without an ending, or what does in its place.
    fn pick(
        &self,
        files: &BTreeSet<String>,
        stems: &[&str],
        asked: Option<&str>,
    ) -> Option<String> {
        let there = |name: String| files.contains(&name).then_some(name);
        let of = |stem: &&str| match asked {
            // By its published ending, or written out.
            Some(asked) => there(format!("{stem}{}.onnx", ending(asked)))
                .or_else(|| there(format!("{stem}_{asked}.onnx"))),
            None => there(format!("{stem}.onnx"))
                .or_else(|| self.has_variants.then(|| variant(files, stem))?),
        };
        stems.iter().find_map(of)
    }
}

/// The graph in half precision, or the only one there is.
fn variant(files: &BTreeSet<String>, stem: &str) -> Option<String> {
    let half = format!("{stem}_fp16.onnx");
    if files.contains(&half) {
        return Some(half);
    }
    let mut variants = files
        .iter()
        .filter(|file| ending_of(file, stem).is_some_and(|ending| !ending.is_empty()));
    let first = variants.next()?;
    variants.next().is_none().then(|| first.clone())
}

/// What stands between `stem` and `.onnx`, where `file` is a graph of that stem.
fn ending_of<'a>(file: &'a str, stem: &str) -> Option<&'a str> {
    let ending = file.strip_prefix(stem)?.strip_suffix(".onnx")?;
    (ending.is_empty() || ending.starts_with('_')).then_some(ending)
}

/// The ending of published names for a precision.
fn ending(precision: &str) -> String {
    match precision {
        "fp32" => String::new(),
        "q8" => "_quantized".to_owned(),
        other => format!("_{other}"),
    }
}

/// The precisions that a tower is there in, by name.
fn precisions_of(files: &BTreeSet<String>, stems: &[&str]) -> Vec<String> {
    let name = |ending: &str| match ending {
        "" => "fp32".to_owned(),
        "_quantized" => "q8".to_owned(),
        other => other[1..].to_owned(),
    };
    let endings = |stem: &&str| {
        let of_stem = files.iter().filter_map(|file| ending_of(file, stem));
        of_stem.map(name).collect::<Vec<_>>()
    };
    let names: BTreeSet<String> = stems.iter().flat_map(endings).collect();
    names.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], towers: Towers, precisions: &str) -> Result<Option<Choice>> {
        let files = files.iter().map(|&file| file.to_owned()).collect();
        let precisions = match precisions {
            "" => Precisions::default(),
            some => some.parse()?,
        };
        choose(Path::new("someone/model"), &files, towers, &precisions)
    }

    /// Layout and graphs of a choice that must be made.
    fn graphs(files: &[&str], precisions: &str) -> (Layout, String, String) {
        let choice = chosen(files, Towers::All, precisions).unwrap().unwrap();
        let name = |graph: Option<String>| graph.unwrap_or_else(|| "none".to_owned());
        (choice.layout, name(choice.image), name(choice.text))
    }

    fn message(files: &[&str], precisions: &str) -> String {
        chosen(files, Towers::All, precisions)
            .unwrap_err()
            .to_string()
    }

    const PUBLISHED: [&str; 11] = [
        "config.json",
        "onnx/text_model.onnx",
        "onnx/text_model_fp16.onnx",
        "onnx/text_model_int8.onnx",
        "onnx/text_model_quantized.onnx",
        "onnx/vision_model.onnx",
        "onnx/vision_model_fp16.onnx",
        "onnx/vision_model_q4f16.onnx",
        "onnx/vision_model_quantized.onnx",
        "onnx/vision_model_quantized.onnx_data",
        "onnx/model_bnb4.onnx",
    ];

    #[test]
    fn precisions_are_endings_of_published_names() {
        for (asked, image, text) in [
            ("", "onnx/vision_model.onnx", "onnx/text_model.onnx"),
            ("fp32", "onnx/vision_model.onnx", "onnx/text_model.onnx"),
            (
                "fp16",
                "onnx/vision_model_fp16.onnx",
                "onnx/text_model_fp16.onnx",
            ),
            (
                "q8",
                "onnx/vision_model_quantized.onnx",
                "onnx/text_model_quantized.onnx",
            ),
            (
                "quantized",
                "onnx/vision_model_quantized.onnx",
                "onnx/text_model_quantized.onnx",
            ),
            (
                "image=q4f16,text=int8",
                "onnx/vision_model_q4f16.onnx",
                "onnx/text_model_int8.onnx",
            ),
            (
                "text=int8",
                "onnx/vision_model.onnx",
                "onnx/text_model_int8.onnx",
            ),
        ] {
            let expected = (Layout::Transformers, image.to_owned(), text.to_owned());
            assert_eq!(graphs(&PUBLISHED, asked), expected, "{asked}");
        }
    }

    #[test]
    fn a_precision_that_is_not_there_is_an_error_with_those_that_are() {
        assert_eq!(
            message(&PUBLISHED, "int8"),
            "someone/model: no image graph of precision int8, found fp16, fp32, q4f16, q8"
        );
        assert_eq!(
            message(&PUBLISHED, "text=q4f16"),
            "someone/model: no text graph of precision q4f16, found fp16, fp32, int8, q8"
        );
        // A tower that is not asked for is not looked at.
        let text = chosen(&PUBLISHED, Towers::Text, "int8").unwrap().unwrap();
        assert_eq!(
            (text.image, text.text.as_deref()),
            (None, Some("onnx/text_model_int8.onnx"))
        );
    }

    #[test]
    fn without_a_precision_the_plain_graph_the_half_one_or_the_only_one_is_taken() {
        let (_, image, text) = graphs(
            &[
                "vision_model_fp16.onnx",
                "vision_model_q4.onnx",
                "text_model_q4.onnx",
            ],
            "",
        );
        assert_eq!(
            (image.as_str(), text.as_str()),
            ("vision_model_fp16.onnx", "text_model_q4.onnx")
        );
        let several = ["onnx/vision_model_q4.onnx", "onnx/vision_model_int8.onnx"];
        assert_eq!(chosen(&several, Towers::All, "").unwrap(), None);
        assert_eq!(graphs(&several, "int8").1, "onnx/vision_model_int8.onnx");
    }

    #[test]
    fn every_layout_is_known_by_its_names() {
        let of = |image: &str, text: &str| (image.to_owned(), text.to_owned());
        for (files, layout, precision, (image, text)) in [
            (
                vec!["visual/model.onnx", "textual/model.onnx", "model.onnx"],
                Layout::Immich,
                "",
                of("visual/model.onnx", "textual/model.onnx"),
            ),
            (
                vec!["visual/model_fp16.onnx", "textual/model_fp16.onnx"],
                Layout::Immich,
                "fp16",
                of("visual/model_fp16.onnx", "textual/model_fp16.onnx"),
            ),
            (
                vec!["visual.onnx", "textual.onnx"],
                Layout::OpenClip,
                "",
                of("visual.onnx", "textual.onnx"),
            ),
            (
                vec!["visual.onnx", "visual_int8.onnx", "text_int8.onnx"],
                Layout::OpenClip,
                "int8",
                of("visual_int8.onnx", "text_int8.onnx"),
            ),
            (
                vec!["text_model.onnx", "text_model_fp16.onnx"],
                Layout::Transformers,
                "fp16",
                of("none", "text_model_fp16.onnx"),
            ),
            (
                vec!["onnx/model.onnx", "onnx/model_fp16.onnx"],
                Layout::Combined,
                "",
                of("onnx/model.onnx", "onnx/model.onnx"),
            ),
            (
                vec!["onnx/model.onnx", "onnx/model_fp16.onnx"],
                Layout::Combined,
                "fp16",
                of("onnx/model_fp16.onnx", "onnx/model_fp16.onnx"),
            ),
        ] {
            assert_eq!(
                graphs(&files, precision),
                (layout, image, text),
                "{files:?}"
            );
        }
        assert_eq!(
            chosen(&["README.md", "model.safetensors"], Towers::All, "fp16").unwrap(),
            None
        );
    }

    /// A bundle of graphs that were named so opens, and as that precision too where the layout knows endings.
    #[test]
    fn new_graphs_are_named_to_be_chosen() {
        for (layout, graph, expected) in [
            (
                Layout::Transformers,
                "onnx/vision_model.onnx",
                "onnx/vision_model_int8.onnx",
            ),
            (
                Layout::Transformers,
                "text_model_best.onnx",
                "text_model_int8.onnx",
            ),
            (Layout::Combined, "model.onnx", "model_int8.onnx"),
            (Layout::OpenClip, "textual.onnx", "textual.onnx"),
            (Layout::OpenClip, "visual_fp32.onnx", "visual.onnx"),
            (Layout::Immich, "visual/model.onnx", "visual/model.onnx"),
        ] {
            let name = graph_name(layout, graph, "int8");
            assert_eq!(name, expected);
            let chosen = chosen(&[&name], Towers::All, "").unwrap().unwrap();
            assert_eq!(chosen.layout, layout);
            assert!(chosen.image == Some(name.clone()) || chosen.text == Some(name));
        }
    }

    #[test]
    fn one_graph_has_one_precision() {
        let files = ["model.onnx", "model_fp16.onnx"];
        assert_eq!(
            message(&files, "image=fp16,text=fp32"),
            "someone/model: no image and text graph of precision image=fp16,text=fp32, found fp16, fp32"
        );
        let text = chosen(&files, Towers::Text, "fp16").unwrap().unwrap();
        assert_eq!(text.image, text.text);
        // An image tower alone is one graph too, which its name does not tell.
        let (_, image, text) = graphs(&files, "image=fp16");
        assert_eq!(
            (image.as_str(), text.as_str()),
            ("model_fp16.onnx", "model_fp16.onnx")
        );
    }

    #[test]
    fn configs_are_named_once_and_all_but_ours_have_a_place() {
        for layout in [
            Layout::Transformers,
            Layout::Combined,
            Layout::ImageAlone,
            Layout::OpenClip,
            Layout::Immich,
        ] {
            for (image, text) in [(true, true), (true, false), (false, true)] {
                let names = config_names(layout, image, text);
                let once: BTreeSet<&str> = names.iter().copied().collect();
                assert_eq!(names.len(), once.len(), "{names:?}");
                let mut placed: BTreeSet<&str> = config_places(layout, image, text)
                    .concat()
                    .into_iter()
                    .collect();
                placed.insert("diptych.json");
                assert_eq!(once, placed);
            }
        }
        let image = config_places(Layout::ImageAlone, true, false);
        let places: [&[&str]; 2] = [
            &["config.json"],
            &["preprocessor_config.json", "processor_config.json"],
        ];
        assert_eq!(image, places);
    }

    #[test]
    fn what_is_no_precision_is_said() {
        for bad in [
            "",
            "fp16,int8",
            "image=",
            "image=int8,image=fp16",
            "audio=int8",
            "../x",
            "image=a/b",
        ] {
            let error = bad.parse::<Precisions>().unwrap_err().to_string();
            assert!(
                error.contains("expected a word such as fp16"),
                "{bad}: {error}"
            );
        }
        let spaced: Precisions = "image = int8, text=fp32".parse().unwrap();
        assert_eq!(spaced.to_string(), "image=int8,text=fp32");
    }
}
