//! The dual encoder: two towers of one bundle, and the step from scores to probabilities.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use crate::bundle::{Activation, Bundle, Layout, Towers};
use crate::device::{Device, Placement};
use crate::embedding::{Embeddings, sigmoid, softmax};
use crate::error::{Error, Result};
use crate::pooling::Rows;
use crate::runtime;
use crate::session::{Graph, GraphOptions};
use crate::tower::{ImageTower, TextTower, fixed_sides};

/// What CLIP training clips the scale to, and what its published models have.
const CLIP_SCALE: f32 = 100.0;

/// How a bundle is opened. What belongs to the model can't be set here.
#[derive(Debug, Clone)]
pub struct EncoderOptions {
    /// The towers to load.
    pub towers: Towers,
    /// Threads that a graph runs on; 0 takes as many as there are cores.
    pub threads: usize,
    /// The most images or texts that run at once.
    pub batch: usize,
    /// What the graphs run on. What is not to be had is an error, never a run on another device.
    pub device: Device,
    /// What an image's row is made of, in place of the kind that the bundle takes. Rows of another kind lie in a space
    /// of their own, where no text's row lies.
    pub rows: Option<Rows>,
    /// Told, in one line each, of what takes long and happens once, and of what no file of the bundle states. By default
    /// it goes to standard error.
    pub notice: fn(&str),
}

impl Default for EncoderOptions {
    fn default() -> Self {
        #[allow(
            clippy::print_stderr,
            reason = "a fetch of 24 MB must not happen in silence"
        )]
        let notice = |line: &str| eprintln!("diptych: {line}");
        Self {
            towers: Towers::All,
            threads: 0,
            batch: 16,
            device: Device::Cpu,
            rows: None,
            notice,
        }
    }
}

/// Where the scale comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleOrigin {
    /// A file of the bundle states it.
    Stated,
    /// It was read from the graph, by one run that compares logits with scores.
    Measured,
    /// No file states it, so it is what CLIP training clips it to.
    Assumed,
    /// No file states it, and the family has no usual value.
    Unknown,
}

/// The step from scores to logits and probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    /// How logits become probabilities.
    pub activation: Activation,
    /// What a score is multiplied by.
    pub scale: Option<f32>,
    /// What is added to the product.
    pub bias: Option<f32>,
    /// Where the scale comes from.
    pub origin: ScaleOrigin,
}

impl Calibration {
    /// Logits: scale × score + bias. `None` where scale or bias is not known.
    pub fn logits(&self, scores: &[f32]) -> Option<Vec<f32>> {
        let (scale, bias) = (self.scale?, self.bias?);
        Some(scores.iter().map(|score| scale * score + bias).collect())
    }

    /// Probabilities of one item's logits: over all of them together (softmax) or each by itself (sigmoid).
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f32> {
        match self.activation {
            Activation::Softmax => softmax(logits),
            Activation::Sigmoid => logits.iter().copied().map(sigmoid).collect(),
        }
    }
}

/// An image tower and a text tower that project into one space, with the scale between them.
///
/// # Example
///
/// ```
/// use diptych::{DualEncoder, ImageOptions, open_image};
///
/// let encoder = DualEncoder::open("onnx/tiny")?;
/// let photo = open_image("assets/photos/cat.jpg", &ImageOptions::default())?;
/// let images = encoder.encode_images(&[photo])?;
/// let texts = encoder.encode_texts(&["a photo of a cat.", "a photo of a rocket."])?;
/// let scores = images.scores(&texts)?;
/// assert!(scores[[0, 0]] > scores[[0, 1]]);
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug)]
pub struct DualEncoder {
    bundle: Bundle,
    image: Option<ImageTower>,
    text: Option<TextTower>,
    calibration: Calibration,
    batch: usize,
}

impl DualEncoder {
    /// The model in the bundle folder `path`, with every tower that it has.
    ///
    /// # Cost
    ///
    /// Reads all weights: about 1 GB a second. Starts ONNX Runtime, which may be fetched once.
    ///
    /// # Errors
    ///
    /// Those of [`Bundle::open`] and [`runtime::start`]; [`Error::Graph`] and [`Error::GraphInterface`] for graphs
    /// that cannot be a tower's; [`Error::TowersDiffer`] if they give rows of different widths; [`Error::Dim`] if rows are
    /// to be cut to more values than they have, or to none.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &EncoderOptions::default())
    }

    /// The model in the bundle folder `path`, opened as `options` say.
    ///
    /// # Errors
    ///
    /// Those of [`DualEncoder::open`]; [`Error::NoTower`] if a tower that is asked for is not there.
    pub fn open_with(path: impl AsRef<Path>, options: &EncoderOptions) -> Result<Self> {
        Self::from_bundle(Bundle::open(path)?, options)
    }

    /// The model in `bundle`, opened as `options` say.
    ///
    /// # Errors
    ///
    /// Those of [`DualEncoder::open_with`], except those of opening the bundle.
    pub fn from_bundle(mut bundle: Bundle, options: &EncoderOptions) -> Result<Self> {
        require(&bundle, options.towers)?;
        for unstated in &bundle.unstated {
            let folder = bundle.folder_of(unstated).display();
            (options.notice)(&format!("{folder}: {unstated}"));
        }
        let (image, text) = open_towers(&bundle, options)?;
        let found = text.as_ref().and_then(TextTower::unstated);
        if let Some(unstated) = found.filter(|found| !bundle.unstated.contains(found)) {
            (options.notice)(&format!("{}: {unstated}", bundle.path.display()));
            bundle.unstated.push(unstated.clone());
        }
        let mut encoder = Self {
            calibration: stated(&bundle),
            bundle,
            image,
            text,
            batch: options.batch.max(1),
        };
        encoder.check_widths()?;
        if let Some(dim) = encoder.bundle.dim {
            encoder.image = encoder.image.map(|tower| tower.cut(dim)).transpose()?;
            encoder.text = encoder.text.map(|tower| tower.cut(dim)).transpose()?;
        }
        if encoder.calibration.scale.is_none() {
            encoder.calibration = encoder.unstated()?;
        }
        Ok(encoder)
    }

    /// The bundle that the model comes from.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The step from scores to logits and probabilities.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// The most images or texts that run at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The image tower.
    ///
    /// # Errors
    ///
    /// [`Error::NoTower`] if the bundle has none, or it was not loaded.
    pub fn image_tower(&self) -> Result<&ImageTower> {
        self.image
            .as_ref()
            .ok_or_else(|| no_tower(&self.bundle, "image"))
    }

    /// The text tower.
    ///
    /// # Errors
    ///
    /// [`Error::NoTower`] if the bundle has none, or it was not loaded.
    pub fn text_tower(&self) -> Result<&TextTower> {
        self.text
            .as_ref()
            .ok_or_else(|| no_tower(&self.bundle, "text"))
    }

    /// Each tower that is loaded, by its name, with where its graph runs.
    pub fn placements(&self) -> Vec<(&'static str, Placement)> {
        let image = self.image.iter().map(|tower| ("image", tower.placement()));
        let text = self.text.iter().map(|tower| ("text", tower.placement()));
        image.chain(text).collect()
    }

    /// An error where the image tower gives several rows for an image and one is needed.
    ///
    /// # Errors
    ///
    /// [`Error::SeveralRows`].
    pub fn require_one_row(&self) -> Result<()> {
        match self.image.as_ref().map(ImageTower::rows_per_image) {
            Some(count) if count > 1 => Err(Error::SeveralRows {
                path: self.bundle.path.clone(),
                count,
            }),
            _ => Ok(()),
        }
    }

    /// The width of every row.
    pub fn width(&self) -> usize {
        let image = self.image.as_ref().map(ImageTower::width);
        image
            .or_else(|| self.text.as_ref().map(TextTower::width))
            .unwrap_or(0)
    }

    /// A unit row for each image; where [`Rows::Patches`] are asked for, one for each patch.
    ///
    /// # Shape and units
    ///
    /// N 8-bit RGB images of any size in, N × D out; of P patches N · P × D, image after image, and P is
    /// [`ImageTower::rows_per_image`].
    ///
    /// # Cost
    ///
    /// Images are prepared one after the other on this thread; for many files use
    /// [`encode_files`](crate::pipeline::encode_files), which prepares ahead of the model.
    ///
    /// # Errors
    ///
    /// [`Error::NoTower`], [`Error::Graph`], [`Error::NoRow`].
    ///
    /// # Panics
    ///
    /// If an image has a side of 0.
    ///
    /// # Source
    ///
    /// `CLIPModel.get_image_features` of transformers, `encode_image` of open_clip, and of an image tower alone the
    /// `last_hidden_state` or `pooler_output` of its class in transformers, pooled as [`Rows`] says; each divided by its
    /// norm, equal to within 1e-5 of cosine 1.
    pub fn encode_images(&self, images: &[RgbImage]) -> Result<Embeddings> {
        let tower = self.image_tower()?;
        let mut parts = Vec::new();
        for images in images.chunks(self.batch) {
            let mut prepared = Vec::with_capacity(images.len() * tower.values());
            images
                .iter()
                .for_each(|image| prepared.extend(tower.prepare(image)));
            parts.push(tower.encode_prepared(prepared)?);
        }
        Embeddings::concat(self.width(), &parts)
    }

    /// A unit row for each text. An empty text is a text; one that is too long is cut before its end token.
    ///
    /// # Errors
    ///
    /// [`Error::NoTower`], [`Error::Tokenizer`], [`Error::Graph`], [`Error::NoRow`].
    ///
    /// # Source
    ///
    /// `CLIPModel.get_text_features` of transformers, `encode_text` of open_clip, each divided by its norm; ids are
    /// equal, rows to within 1e-5 of cosine 1.
    pub fn encode_texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Embeddings> {
        if texts.is_empty() {
            return Ok(Embeddings::empty(self.width()));
        }
        Ok(self.text_tower()?.encode(texts, self.batch)?.rows)
    }

    fn check_widths(&self) -> Result<()> {
        match (&self.image, &self.text) {
            (Some(image), Some(text)) if image.width() != text.width() => {
                Err(Error::TowersDiffer {
                    path: self.bundle.path.clone(),
                    image: image.width(),
                    text: text.width(),
                })
            }
            _ => Ok(()),
        }
    }

    /// The calibration of a bundle whose files state no scale.
    fn unstated(&self) -> Result<Calibration> {
        let stated = self.calibration;
        if let (Some(image), Some(text)) = (&self.image, &self.text)
            && image.shares_graph_with(text)
            && let Some((scale, bias)) = image.measure_scale(text, stated.activation)?
        {
            return Ok(Calibration {
                scale: Some(scale),
                bias: Some(bias),
                origin: ScaleOrigin::Measured,
                ..stated
            });
        }
        Ok(match stated.activation {
            // There are no texts, so no scores, whatever they would be multiplied by.
            _ if self.bundle.text.is_none() => stated,
            Activation::Softmax => Calibration {
                scale: Some(CLIP_SCALE),
                origin: ScaleOrigin::Assumed,
                ..stated
            },
            Activation::Sigmoid => stated,
        })
    }
}

fn stated(bundle: &Bundle) -> Calibration {
    let head = bundle.head;
    let origin = if head.scale.is_some() {
        ScaleOrigin::Stated
    } else {
        ScaleOrigin::Unknown
    };
    // Under softmax a bias changes no probability, and no softmax family has one.
    let bias = head
        .bias
        .or((head.activation == Activation::Softmax).then_some(0.0));
    Calibration {
        activation: head.activation,
        scale: head.scale,
        bias,
        origin,
    }
}

fn no_tower(bundle: &Bundle, tower: &'static str) -> Error {
    Error::NoTower {
        path: bundle.path.clone(),
        tower,
    }
}

fn require(bundle: &Bundle, towers: Towers) -> Result<()> {
    match towers {
        Towers::Image if bundle.image.is_none() => Err(no_tower(bundle, "image")),
        Towers::Text if bundle.text.is_none() => Err(no_tower(bundle, "text")),
        _ => Ok(()),
    }
}

fn open_towers(
    bundle: &Bundle,
    options: &EncoderOptions,
) -> Result<(Option<ImageTower>, Option<TextTower>)> {
    let runtime = runtime::start(options.notice)?;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let open = |path: &Path, spins| {
        let device = options.device.clone();
        let options = GraphOptions {
            device,
            threads,
            spins,
        };
        Graph::open(path, runtime, &options).map(Arc::new)
    };
    let image_files = bundle
        .image
        .as_ref()
        .filter(|_| options.towers != Towers::Text);
    let text_files = bundle
        .text
        .as_ref()
        .filter(|_| options.towers != Towers::Image);

    let image_graph = image_files
        .map(|files| open(&files.graph, false))
        .transpose()?;
    let text_graph = match (&image_graph, text_files) {
        (Some(graph), Some(files)) if graph.path() == files.graph => Some(Arc::clone(graph)),
        (_, files) => files.map(|files| open(&files.graph, true)).transpose()?,
    };
    let stated = bundle
        .image
        .as_ref()
        .and_then(|files| fixed_sides(&files.preprocess));
    let side = stated.unwrap_or((1, 1));
    let is_alone = bundle.layout == Layout::ImageAlone;
    let image = image_graph
        .zip(image_files)
        .map(|(graph, files)| ImageTower::new(graph, files, options.rows, is_alone));
    let text = text_graph
        .zip(text_files)
        .map(|(graph, files)| TextTower::new(graph, files, side));
    Ok((image.transpose()?, text.transpose()?))
}
