//! Zero-shot classification: labels × templates → a class matrix, once; then each image against it.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::bundle::{Bundle, PLACE};
use crate::cache;
use crate::embedding::{Embeddings, top_k};
use crate::encoder::{Calibration, DualEncoder};
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::npy;

/// Fewer texts than this are encoded faster than the cached matrix is found: its name is a hash of all weights.
const WORTH_KEEPING: usize = 100;

/// The labels of a classification, each as one unit row.
///
/// # Example
///
/// ```
/// use diptych::{DualEncoder, ImageOptions, ZeroShot, open_image};
///
/// let encoder = DualEncoder::open("onnx/tiny")?;
/// let labels = ["cat", "dog", "rocket"].map(String::from);
/// let classes = ZeroShot::new(&encoder, &labels, &["a photo of a {}.".to_owned()])?;
/// let photo = open_image("assets/photos/cat.jpg", &ImageOptions::default())?;
/// let predictions = classes.classify(&encoder.encode_images(&[photo])?, encoder.calibration())?;
/// assert_eq!(predictions[0][0].label, "cat");
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroShot {
    labels: Vec<String>,
    classes: Embeddings,
    cut: Vec<String>,
}

/// How well a label fits an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction<'a> {
    /// The label.
    pub label: &'a str,
    /// The cosine of image and label, from −1 to 1.
    pub score: f32,
    /// scale × score + bias, where both are known.
    pub logit: Option<f32>,
    /// From 0 to 1, where logits are known: over all labels (softmax) or of this label by itself (sigmoid).
    pub probability: Option<f32>,
}

impl ZeroShot {
    /// The class matrix of `labels`: for each label the mean over `templates` of the unit rows of its texts, brought
    /// to unit length.
    ///
    /// # Cost
    ///
    /// Encodes labels × templates texts.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`], [`Error::BlankLabel`], [`Error::RepeatedLabel`], [`Error::TemplateWithoutPlace`] for lists
    /// that make no sense; those of [`DualEncoder::encode_texts`].
    ///
    /// # Source
    ///
    /// open_clip's `build_zero_shot_classifier`.
    pub fn new(encoder: &DualEncoder, labels: &[String], templates: &[String]) -> Result<Self> {
        let labels = checked(labels, templates)?;
        let fill = |label: &String| -> Vec<String> {
            templates
                .iter()
                .map(|template| template.replace(PLACE, label))
                .collect()
        };
        let texts: Vec<String> = labels.iter().flat_map(fill).collect();
        let encoded = encoder.text_tower()?.encode(&texts, encoder.batch())?;
        let rows: Vec<Embeddings> = encoded.rows.chunks(templates.len()).collect();
        let cut = encoded
            .cut
            .iter()
            .map(|&index| texts[index].clone())
            .collect();
        let classes = rows
            .iter()
            .map(Embeddings::mean)
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            labels,
            classes: Embeddings::concat(encoder.width(), &classes)?,
            cut,
        })
    }

    /// The labels, in the order given.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The texts that were longer than the model's context and were cut before their end token.
    pub fn cut(&self) -> &[String] {
        &self.cut
    }

    /// The class matrix: a unit row for each label.
    pub fn classes(&self) -> &Embeddings {
        &self.classes
    }

    /// For each image all labels, best first.
    ///
    /// # Errors
    ///
    /// [`Error::Width`] if the rows are of another model.
    pub fn classify(
        &self,
        images: &Embeddings,
        calibration: &Calibration,
    ) -> Result<Vec<Vec<Prediction<'_>>>> {
        let scores = images.scores(&self.classes)?;
        Ok(scores
            .outer_iter()
            .map(|scores| self.predictions(&scores.to_vec(), calibration))
            .collect())
    }

    fn predictions(&self, scores: &[f32], calibration: &Calibration) -> Vec<Prediction<'_>> {
        let logits = calibration.logits(scores);
        let probabilities = logits
            .as_ref()
            .map(|logits| calibration.probabilities(logits));
        let prediction = |(index, score): (usize, f32)| Prediction {
            label: &self.labels[index],
            score,
            logit: logits.as_ref().map(|logits| logits[index]),
            probability: probabilities
                .as_ref()
                .map(|probabilities| probabilities[index]),
        };
        top_k(scores, scores.len())
            .into_iter()
            .map(prediction)
            .collect()
    }
}

/// Where the class matrix of one bundle, its labels and its templates is kept in the cache folder.
#[derive(Debug, Clone)]
pub struct ClassCache {
    labels: Vec<String>,
    /// `None` where there is no cache folder, or keeping is not worth it.
    file: Option<PathBuf>,
}

impl ClassCache {
    /// The place for these labels and templates with `bundle`.
    ///
    /// # Cost
    ///
    /// From a hundred texts on, that of [`Bundle::fingerprint`].
    ///
    /// # Errors
    ///
    /// Those of [`ZeroShot::new`] that need no model.
    pub fn new(bundle: &Bundle, labels: &[String], templates: &[String]) -> Result<Self> {
        let labels = checked(labels, templates)?;
        Ok(Self {
            file: cache_file(bundle, &labels, templates),
            labels,
        })
    }

    /// The class matrix of an earlier run, or `None` if there is none or it cannot be read: the encoder is then needed.
    pub fn read(&self) -> Option<ZeroShot> {
        let classes = Embeddings::new(npy::read(self.file.as_ref()?).ok()?).ok()?;
        let is_whole = classes.len() == self.labels.len();
        is_whole.then(|| ZeroShot {
            labels: self.labels.clone(),
            classes,
            cut: Vec::new(),
        })
    }

    /// Keeps a class matrix for the next run, unless texts were cut, which must be said again. A cache that can't be
    /// written is no error: the matrix is made again next time.
    pub fn keep(&self, classes: &ZeroShot) {
        let Some(file) = self.file.as_ref().filter(|_| classes.cut.is_empty()) else {
            return;
        };
        cache::keep(file, |path| npy::write(path, &classes.classes));
    }
}

/// The labels without blanks around them, if both lists make sense.
fn checked(labels: &[String], templates: &[String]) -> Result<Vec<String>> {
    if labels.is_empty() {
        return Err(Error::Empty { what: "labels" });
    }
    if templates.is_empty() {
        return Err(Error::Empty { what: "templates" });
    }
    if let Some(template) = templates.iter().find(|template| !template.contains(PLACE)) {
        return Err(Error::TemplateWithoutPlace {
            template: template.clone(),
        });
    }
    let mut seen = std::collections::HashMap::new();
    for (label, position) in labels.iter().map(|label| label.trim()).zip(1..) {
        if label.is_empty() {
            return Err(Error::BlankLabel { position });
        }
        if let Some(first) = seen.insert(label, position) {
            return Err(Error::RepeatedLabel {
                label: label.to_owned(),
                first,
                second: position,
            });
        }
    }
    Ok(labels.iter().map(|label| label.trim().to_owned()).collect())
}

/// Where the class matrix is kept: named by everything that it depends on.
fn cache_file(bundle: &Bundle, labels: &[String], templates: &[String]) -> Option<PathBuf> {
    if labels.len() * templates.len() < WORTH_KEEPING {
        return None;
    }
    let mut name = Sha256::new();
    // What this version makes of a text may differ from what another one did.
    name.update(env!("CARGO_PKG_VERSION"));
    name.update(bundle.fingerprint().ok()?);
    let prefix = bundle.text.as_ref().map_or("", |text| &text.text.prefix);
    name.update(prefix);
    name.update([0]);
    let texts = labels.iter().map(String::as_str).chain(["\n"]);
    for text in texts.chain(templates.iter().map(String::as_str)) {
        name.update(text);
        name.update([0]);
    }
    Some(
        cache::folder()?
            .join("classes")
            .join(format!("{}.npy", hex(&name.finalize()))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        let plain = texts(&["a photo of a {}."]);
        let message = |labels: &[&str], templates: &[String]| {
            checked(&texts(labels), templates).unwrap_err().to_string()
        };
        assert_eq!(message(&[], &plain), "no labels given");
        assert_eq!(message(&["cat"], &[]), "no templates given");
        assert_eq!(message(&["cat", " "], &plain), "label 2 is blank");
        assert_eq!(
            message(&["cat", "dog", "cat "], &plain),
            "label \"cat\" is given twice, as label 1 and label 3"
        );
        assert_eq!(
            message(&["cat"], &texts(&["a cat"])),
            "template \"a cat\" has no {} where the label goes"
        );
        assert!(checked(&texts(&["cat", "Cat"]), &plain).is_ok());
    }
}
