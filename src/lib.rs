//! A multimodal dual encoder: images and texts to unit rows in one space.

mod error;
mod image_file;

pub use error::{Error, Result};
