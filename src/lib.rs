//! A multimodal dual encoder: images and texts to unit rows in one space.

mod bundle;
mod cache;
mod clean;
mod embedding;
mod encoder;
mod error;
mod graph_file;
mod image_file;
mod npy;
pub mod pipeline;
mod preprocess;
mod resample;
pub mod runtime;
mod session;
mod tokenize;
mod tower;
mod wheel;
mod zero_shot;

pub use bundle::{Activation, Bundle, Head, ImageFiles, Layout, Pad, TextConfig, TextFiles};
pub use clean::Cleaning;
pub use embedding::{Embeddings, sigmoid, softmax, top_k};
pub use encoder::{Calibration, DualEncoder, EncoderOptions, ScaleOrigin, Towers};
pub use error::{Error, Result};
pub use image_file::{ImageOptions, decode_image, open_image};
pub use npy::NpyWriter;
pub use preprocess::{Preprocess, Reference, Resize};
pub use resample::{Filter, resize};
pub use tokenize::{Padding, Splitting, TextSettings, Tokenizer, Tokens};
pub use tower::{ImageTower, TextRows, TextTower};
pub use zero_shot::{Prediction, ZeroShot};
