//! A multimodal dual encoder: images and texts become unit rows in one space, where a dot product says how well they
//! fit.
//!
//! A *bundle* is a folder that holds a CLIP-style model: two ONNX graphs, a tokenizer, configs. [`DualEncoder`] opens
//! one, whichever of the published layouts it has, and gives rows that equal the Python reference's.
//!
//! # Classify a photo
//!
//! ```
//! use diptych::{DualEncoder, ImageOptions, ZeroShot, open_image};
//!
//! let encoder = DualEncoder::open("onnx/tiny")?;
//! let labels = ["cat", "dog", "rocket"].map(String::from);
//! let classes = ZeroShot::new(&encoder, &labels, &["a photo of a {}.".to_owned()])?;
//! let photo = open_image("assets/photos/cat.jpg", &ImageOptions::default())?;
//! let rows = encoder.encode_images(&[photo])?;
//! for prediction in &classes.classify(&rows, encoder.calibration())?[0] {
//!     println!("{:.3} {}", prediction.probability.unwrap_or(f32::NAN), prediction.label);
//! }
//! # assert_eq!(classes.classify(&rows, encoder.calibration())?[0][0].label, "cat");
//! # Ok::<(), diptych::Error>(())
//! ```
//!
//! # The ideas
//!
//! - **Models are data.** Everything that belongs to a model (size, mean, filter, context length, padding, scale) is
//!   read from its files and graphs; nothing of it can be set by a caller, and no list of model names stands in the
//!   code. `onnx/README.md` describes the layouts.
//! - **One currency.** [`Embeddings`] are N × D rows of f32, each of unit length. Towers give them out, everything else
//!   takes them.
//! - **The reference is the spec.** Pixels equal Pillow's, ids those of transformers and open_clip, rows theirs to
//!   within 1e-5 of cosine 1. No batch size and no thread count changes a row by more.
//!
//! # Where things are
//!
//! | to | use |
//! |---|---|
//! | open a model | [`DualEncoder`], [`EncoderOptions`]; [`Bundle`] for its files alone |
//! | fetch one by its name | [`Bundle::from_hub`], [`Hub`] |
//! | encode a few images or texts | [`DualEncoder::encode_images`], [`DualEncoder::encode_texts`] |
//! | encode many files | [`pipeline::encode_files`] |
//! | classify | [`ZeroShot`] |
//! | keep rows and find them again | [`Index`]; [`index::walk`] and [`index::compare`] for folders |
//! | compare and rank | [`Embeddings::scores`], [`top_k`], [`softmax`], [`sigmoid`] |
//! | group rows | [`Clusters`] |
//! | prove a model against its reference | [`verify::Record`], [`verify::compare`], [`verify::self_check`] |
//! | make a model smaller | [`quantize::Draft`], [`verify::cost`] |
//! | do a step by itself | [`open_image`], [`Preprocess`], [`resize`], [`Tokenizer`], [`Cleaning`] |
//! | know which ONNX Runtime runs | [`runtime::start`] |

mod bundle;
mod cache;
mod clean;
mod cluster;
mod device;
mod embedding;
mod encoder;
mod error;
mod float_resample;
mod graph_file;
mod hex;
mod hub;
mod image_file;
pub mod index;
mod mapped;
mod npy;
pub mod pipeline;
mod pooling;
mod preprocess;
mod provider;
pub mod quantize;
pub mod quarantine;
mod resample;
mod room;
pub mod runtime;
mod session;
mod tokenize;
mod tower;
pub mod verify;
mod wheel;
mod zero_shot;

pub use bundle::{
    Activation, Bundle, BundleOptions, Head, ImageFiles, Layout, Pad, Precisions, Refused,
    TextConfig, TextFiles, Towers, Unstated,
};
pub use clean::Cleaning;
pub use cluster::Clusters;
pub use device::{Device, Placement};
pub use embedding::{Embeddings, sigmoid, softmax, top_k};
pub use encoder::{Calibration, DualEncoder, EncoderOptions, ScaleOrigin};
pub use error::{Error, Result};
pub use hub::{CachedModel, CachedRevision, Hub, HubModel, Progress};
pub use image_file::{
    IMAGE_ENDINGS, ImageOptions, decode_image, has_image_ending, image_size, open_image,
};
pub use index::{Hit, Index, Item, ItemFilter, Kind, Place, SearchOptions};
pub use npy::{NpyReader, NpyWriter, Precision};
pub use pooling::{ImageTokens, Rows};
pub use preprocess::{Preprocess, Reference, Resize};
pub use resample::{Filter, resize};
pub use tokenize::{Language, LanguagePlace, Padding, Splitting, TextSettings, Tokenizer, Tokens};
pub use tower::{ImageTower, TextRows, TextTower};
pub use zero_shot::{ClassCache, Prediction, ZeroShot};

/// README's Rust code runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
