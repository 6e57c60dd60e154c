//! A multimodal dual encoder: images and texts to unit rows in one space.

mod cache;
mod embedding;
mod error;
mod image_file;
mod preprocess;
mod resample;
pub mod runtime;
mod session;
mod wheel;

pub use embedding::{Embeddings, sigmoid, softmax, top_k};
pub use error::{Error, Result};
pub use image_file::{ImageOptions, decode_image, open_image};
pub use preprocess::{Preprocess, Reference, Resize};
pub use resample::{Filter, resize};
