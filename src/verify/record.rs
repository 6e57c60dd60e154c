//! The record: what a model gives for the probes, as a JSON file that any program can write.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::probes::{self, Picture};
use crate::bundle::{Activation, Layout};
use crate::embedding::Embeddings;
use crate::encoder::DualEncoder;
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::pooling::Rows;
use crate::runtime;
use crate::tokenize::{Padding, Tokenizer};
use crate::tower::{ImageTower, TextTower};

/// The version of the file's shape. Another one is refused.
const FORMAT: u32 = 1;

/// The most rows and columns of a picture that are kept.
const KEPT: usize = 32;

/// Of the kept rows and columns, those whose values are kept too: one in this many.
const VALUES_STEP: usize = 4;

/// Sides and contexts beyond these are of no model, and would cost a comparison memory without end.
const LONGEST_SIDE: u32 = 4096;
const LONGEST_CONTEXT: usize = 65_536;

/// What a model gives for the pictures and texts of this program.
///
/// A JSON file of some hundred kilobytes; `onnx/README.md` describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub(super) format: u32,
    /// The programs that made it, with their versions.
    pub(super) made_by: BTreeMap<String, String>,
    pub(super) images: Option<Vec<ImageRecord>>,
    pub(super) texts: Option<Vec<TextRecord>>,
    pub(super) activation: Option<String>,
    pub(super) scale: Option<f32>,
    pub(super) bias: Option<f32>,
    /// What the model was opened with, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) options: Option<Options>,
}

/// What a model was opened with: options of the program, or what files say in their place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// To how many values rows are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dim: Option<usize>,
    /// What stands before each text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
    /// The language that texts are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) language: Option<String>,
    /// What an image's row is made of, where a graph gives one for each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<String>,
}

/// What becomes of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRecord {
    pub(super) name: String,
    /// SHA-256 of the decoded picture's levels.
    pub(super) picture: String,
    pub(super) height: u32,
    pub(super) width: u32,
    /// SHA-256 of all levels after resize and crop.
    pub(super) hash: String,
    /// Levels after resize and crop at [`kept`] rows and columns: row by row, red, green, blue.
    #[serde(with = "in_base64")]
    pub(super) pixels: Vec<u8>,
    /// What the graph is fed at one in four of those rows and columns, in the order of its channels: f32, little-endian.
    #[serde(with = "in_base64")]
    pub(super) values: Vec<u8>,
    pub(super) row: Vec<f32>,
}

/// What becomes of a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TextRecord {
    pub(super) text: String,
    /// Without padding.
    pub(super) ids: Vec<i64>,
    /// What the graph sees after them, if anything.
    pub(super) padding: Option<Pads>,
    pub(super) row: Vec<f32>,
}

/// Padding that a graph sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pads {
    /// How long ids and padding are together.
    pub(super) length: usize,
    pub(super) id: i64,
}

mod in_base64 {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(D::Error::custom)
    }
}

impl Record {
    /// What `encoder` gives.
    ///
    /// # Cost
    ///
    /// Encodes nine small pictures and sixteen texts.
    ///
    /// # Errors
    ///
    /// Those of [`DualEncoder::encode_images`] and [`DualEncoder::encode_texts`].
    pub fn of(encoder: &DualEncoder) -> Result<Self> {
        encoder.require_one_row()?;
        let images = encoder.image_tower().ok();
        let texts = encoder.text_tower().ok();
        let calibration = encoder.calibration();
        Ok(Self {
            format: FORMAT,
            made_by: made_by()?,
            images: images
                .map(|tower| image_records(encoder, tower))
                .transpose()?,
            texts: texts
                .map(|tower| text_records(encoder, tower))
                .transpose()?,
            activation: Some(calibration.activation.name().to_owned()),
            scale: calibration.scale,
            bias: calibration.bias,
            options: Some(Options::of(encoder)).filter(|options| *options != Options::default()),
        })
    }

    /// The record in the file `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Json`]; [`Error::Config`] if it is of another format, of other pictures or texts than
    /// this version of diptych shows, or holds something that cannot be.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(Error::read(path))?;
        let record: Self = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
        record.require(path)?;
        Ok(record)
    }

    /// Writes the record to the file `path`, which keeps what it held until the record is whole.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let text = serde_json::to_string(self).map_err(|source| Error::Json {
            path: path.to_owned(),
            source,
        })?;
        let written = if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            // A pipe or a terminal.
            fs::write(path, text + "\n")
        } else {
            let partial = path.with_extension(format!("{}.partial", std::process::id()));
            let written =
                fs::write(&partial, text + "\n").and_then(|()| fs::rename(&partial, path));
            if written.is_err() {
                let _ = fs::remove_file(&partial);
            }
            written
        };
        written.map_err(Error::write(path))
    }

    /// What the model was opened with.
    pub(super) fn options(&self) -> Options {
        self.options.clone().unwrap_or_default()
    }

    /// The programs that made it, with their versions: "diptych 0.1.0, onnx runtime 1.31.1".
    pub fn made_by(&self) -> String {
        let programs = self.made_by.iter();
        let programs: Vec<String> = programs
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        programs.join(", ")
    }
}

impl Options {
    fn of(encoder: &DualEncoder) -> Self {
        let tokenizer = encoder.text_tower().ok().map(TextTower::tokenizer);
        let language = tokenizer.and_then(|tokenizer| tokenizer.settings().language.clone());
        let prefix = tokenizer.map(|tokenizer| tokenizer.prefix().to_owned());
        let rows = encoder.image_tower().ok().map(ImageTower::rows);
        let is_alone = encoder.bundle().layout == Layout::ImageAlone;
        let kind = |rows: String| match rows.split_once(" of ") {
            Some((kind, _)) => Some(kind.to_owned()),
            // The graph's own, `pooler_output`.
            None => is_alone.then(|| Rows::Pooled.to_string()),
        };
        Self {
            dim: encoder.bundle().dim,
            prefix: prefix.filter(|prefix| !prefix.is_empty()),
            language: language.and_then(|language| language.code),
            rows: rows.and_then(kind),
        }
    }
}

/// Something in a record that cannot be.
struct Wrong {
    key: String,
    found: String,
    expected: String,
}

fn wrong(key: impl Into<String>, found: &impl ToString, expected: impl Into<String>) -> Wrong {
    Wrong {
        key: key.into(),
        found: found.to_string(),
        expected: expected.into(),
    }
}

impl Record {
    /// An error that names `path` unless everything is as it can be.
    pub(super) fn require(&self, path: &Path) -> Result<()> {
        let of_path = |wrong: Wrong| Error::Config {
            path: path.to_owned(),
            key: wrong.key,
            found: wrong.found,
            expected: wrong.expected,
        };
        self.check()?.map_or(Ok(()), |wrong| Err(of_path(wrong)))
    }

    /// Rows of different widths, which no two of one model have.
    fn check_widths(&self) -> Option<Wrong> {
        let images = self.images.iter().flatten();
        let images = images.map(|image| (format!("images.{}.row", image.name), image.row.len()));
        let texts = self.texts.iter().flatten();
        let texts = texts.map(|text| (format!("the row of {:?}", text.text), text.row.len()));
        let mut rows = images.chain(texts);
        let (_, first) = rows.next()?;
        let (key, width) = rows.find(|(_, width)| *width != first)?;
        let expected = format!("{first} values, as the first row has");
        Some(wrong(key, &width, expected))
    }

    /// An activation that there is none of, a scale or a bias that no model can have.
    fn check_head(&self) -> Option<Wrong> {
        let activation = self.activation.as_ref();
        let known = [Activation::Softmax, Activation::Sigmoid].map(Activation::name);
        let unknown = activation.filter(|activation| !known.contains(&activation.as_str()));
        let activation = unknown.map(|unknown| {
            wrong(
                "activation",
                unknown,
                format!("one of {}", known.join(", ")),
            )
        });
        let is_wrong = |scale: &f32| !(*scale > 0.0 && scale.is_finite());
        let scale = self.scale.filter(is_wrong);
        let scale = scale.map(|scale| wrong("scale", &scale, "a number above 0, or null"));
        let bias = self.bias.filter(|bias| !bias.is_finite());
        let bias = bias.map(|bias| wrong("bias", &bias, "a number, or null"));
        activation.or(scale).or(bias)
    }

    /// What cannot be, if anything.
    fn check(&self) -> Result<Option<Wrong>> {
        if self.format != FORMAT {
            let expected = format!("{FORMAT}: make the record again with this version");
            return Ok(Some(wrong("format", &self.format, expected)));
        }
        if let Some(wrong) = self.check_head() {
            return Ok(Some(wrong));
        }
        let images = match &self.images {
            Some(images) => check_images(images, &probes::pictures()?),
            None => None,
        };
        let texts = self.texts.as_ref().and_then(|texts| check_texts(texts));
        Ok(images.or(texts).or_else(|| self.check_widths()))
    }
}

fn check_images(images: &[ImageRecord], pictures: &[Picture]) -> Option<Wrong> {
    if images.len() != pictures.len() {
        let expected = format!("{}, those of this version", pictures.len());
        return Some(wrong("the number of images", &images.len(), expected));
    }
    let size = |image: &ImageRecord| (image.height, image.width);
    if let Some(other) = images.iter().find(|image| size(image) != size(&images[0])) {
        let (key, (height, width)) = (format!("images.{}", other.name), size(other));
        let found = format!("{height} x {width} pixels");
        return Some(wrong(
            key,
            &found,
            "those of the first: a graph takes one size",
        ));
    }
    let mut pairs = images.iter().zip(pictures);
    pairs.find_map(|(image, picture)| check_image(image, picture))
}

fn check_image(image: &ImageRecord, picture: &Picture) -> Option<Wrong> {
    let key = |what: &str| format!("images.{}.{what}", image.name);
    let expected = hash(&picture.image);
    if image.name != picture.name || image.picture != expected {
        let expected = format!(
            "{expected}: the record is of another version's pictures, or was made by a decoder that gives other levels"
        );
        return Some(wrong(key("picture"), &image.picture, expected));
    }
    if let Some(side) = [image.height, image.width]
        .into_iter()
        .find(|side| !(1..=LONGEST_SIDE).contains(side))
    {
        let expected = format!("1 to {LONGEST_SIDE} pixels");
        return Some(wrong(key("height or width"), &side, expected));
    }
    let [rows, columns] = [image.height, image.width].map(|side| kept(side as usize));
    let levels = 3 * rows.len() * columns.len();
    if image.pixels.len() != levels {
        let expected = format!("{levels} for {} x {} pixels", image.height, image.width);
        return Some(wrong(key("pixels"), &image.pixels.len(), expected));
    }
    let bytes = 4 * 3 * with_values(&rows).count() * with_values(&columns).count();
    if image.values.len() != bytes {
        let expected = format!("{bytes} bytes");
        return Some(wrong(key("values"), &image.values.len(), expected));
    }
    check_row(&image.row).map(|problem| wrong(key("row"), &problem, "a row with a direction"))
}

fn check_texts(texts: &[TextRecord]) -> Option<Wrong> {
    let found: Vec<String> = texts.iter().map(|text| text.text.clone()).collect();
    if found != probes::texts() {
        let expected = "the texts of this version: make the record again";
        return Some(wrong("texts", &format!("{} others", texts.len()), expected));
    }
    if texts.iter().all(|text| text.ids.is_empty()) {
        let expected = "the ids of each text, of which most have some";
        return Some(wrong("texts.ids", &"none in any text", expected));
    }
    texts.iter().find_map(|text| {
        let key = |what: &str| format!("the {what} of {:?}", text.text);
        let length = text.padding.map_or(0, |pads| pads.length);
        if length > LONGEST_CONTEXT {
            let expected = format!("a length of {LONGEST_CONTEXT} at most");
            return Some(wrong(key("padding"), &length, expected));
        }
        let problem = check_row(&text.row)?;
        Some(wrong(key("row"), &problem, "a row with a direction"))
    })
}

/// Why a row has no direction, if so.
fn check_row(row: &[f32]) -> Option<&'static str> {
    if row.iter().any(|value| !value.is_finite()) {
        return Some("not finite");
    }
    row.iter()
        .all(|&value| value == 0.0)
        .then_some("all zeros, or empty")
}

fn made_by() -> Result<BTreeMap<String, String>> {
    let runtime = runtime::start(|_| ())?;
    Ok(BTreeMap::from([
        ("diptych".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("onnx runtime".to_owned(), runtime.version.clone()),
    ]))
}

fn image_records(encoder: &DualEncoder, tower: &ImageTower) -> Result<Vec<ImageRecord>> {
    let pictures = probes::pictures()?;
    let images: Vec<RgbImage> = pictures
        .iter()
        .map(|picture| picture.image.clone())
        .collect();
    let rows = encoder.encode_images(&images)?;
    let record = |(number, picture): (usize, &Picture)| {
        let pixels = tower.preprocess().pixels(&picture.image);
        ImageRecord {
            name: picture.name.clone(),
            picture: hash(&picture.image),
            height: pixels.height(),
            width: pixels.width(),
            hash: hash(&pixels),
            values: kept_values(&tower.prepare(&picture.image), pixels.dimensions()),
            pixels: kept_pixels(&pixels),
            row: rows.row(number).to_vec(),
        }
    };
    Ok(pictures.iter().enumerate().map(record).collect())
}

fn text_records(encoder: &DualEncoder, tower: &TextTower) -> Result<Vec<TextRecord>> {
    let texts = probes::texts();
    let rows = encoder.encode_texts(&texts)?;
    let ids = contents(tower.tokenizer(), &texts)?;
    let padding = pads(tower.tokenizer());
    let record = |(number, (text, ids)): (usize, (&String, Vec<i64>))| TextRecord {
        text: text.clone(),
        ids,
        padding,
        row: rows.row(number).to_vec(),
    };
    Ok(texts.iter().zip(ids).enumerate().map(record).collect())
}

/// The ids of each text by itself, without padding.
pub(super) fn contents(tokenizer: &Tokenizer, texts: &[String]) -> Result<Vec<Vec<i64>>> {
    let content = |text: &String| {
        let tokens = tokenizer.encode(&[text])?;
        let is_token = tokens.mask.iter().map(|&mask| mask == 1);
        let ids = tokens.ids.iter().zip(is_token);
        Ok(ids
            .filter_map(|(&id, is_token)| is_token.then_some(id))
            .collect())
    };
    texts.iter().map(content).collect()
}

/// The padding that a graph sees. What a mask hides may be of any length, so it is not kept.
fn pads(tokenizer: &Tokenizer) -> Option<Pads> {
    let settings = tokenizer.settings();
    let id = match settings.stripped_id {
        Some(stripped) if stripped == settings.pad_id => 0,
        _ => i64::from(settings.pad_id),
    };
    (settings.padding == Padding::Full).then_some(Pads {
        length: settings.context_length,
        id,
    })
}

/// SHA-256 of an image's levels, row by row.
pub(super) fn hash(image: &RgbImage) -> String {
    hex(&Sha256::digest(image.as_raw()))
}

/// The rows (or columns) that are kept of a side: all of them up to 32, otherwise 32 in even steps.
fn kept(side: usize) -> Vec<usize> {
    let count = side.min(KEPT);
    (0..count)
        .map(|number| (2 * number + 1) * side / (2 * count))
        .collect()
}

/// Those of the kept ones whose values are kept too.
fn with_values(kept: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    kept.iter()
        .copied()
        .enumerate()
        .skip(1)
        .step_by(VALUES_STEP)
}

/// The levels that are kept of an image.
pub(super) fn kept_pixels(image: &RgbImage) -> Vec<u8> {
    let [rows, columns] = [image.height(), image.width()].map(|side| kept(side as usize));
    let places = rows
        .iter()
        .flat_map(|&y| columns.iter().map(move |&x| (x, y)));
    places
        .flat_map(|(x, y)| image.get_pixel(x as u32, y as u32).0)
        .collect()
}

/// The values that are kept of what a graph is fed, 3 × height × width.
fn kept_values(prepared: &[f32], (width, height): (u32, u32)) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let [rows, columns] = [height, width].map(kept);
    let mut bytes = Vec::new();
    for (_, y) in with_values(&rows) {
        for (_, x) in with_values(&columns) {
            for channel in 0..3 {
                let value = prepared[(channel * height + y) * width + x];
                bytes.extend(value.to_le_bytes());
            }
        }
    }
    bytes
}

impl ImageRecord {
    /// The values that the graph is fed, as they are kept: pixel by pixel, channel after channel.
    pub(super) fn values(&self) -> Vec<f32> {
        let (values, _) = self.values.as_chunks::<4>();
        values
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    }

    /// The levels that belong to [`ImageRecord::values`].
    pub(super) fn levels(&self) -> Vec<u8> {
        let [rows, columns] = [self.height, self.width].map(|side| kept(side as usize));
        let mut levels = Vec::new();
        for (row, _) in with_values(&rows) {
            for (column, _) in with_values(&columns) {
                let start = 3 * (row * columns.len() + column);
                levels.extend(&self.pixels[start..start + 3]);
            }
        }
        levels
    }
}

/// Rows of a record as unit rows.
pub(super) fn unit_rows<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> Result<Vec<Embeddings>> {
    let unit = |row: &Vec<f32>| {
        let row = ndarray::ArrayView1::from(row.as_slice());
        Embeddings::new(row.to_owned().insert_axis(ndarray::Axis(0)))
    };
    rows.map(unit).collect()
}
