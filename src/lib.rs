//! A multimodal dual encoder: images and texts to unit rows in one space.

mod cache;
mod clean;
mod embedding;
mod error;
mod image_file;
pub mod runtime;
mod session;
mod wheel;

pub use clean::Cleaning;
pub use embedding::{Embeddings, sigmoid, softmax, top_k};
pub use error::{Error, Result};
