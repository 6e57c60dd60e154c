//! Files and bytes to 8-bit RGB images, as Pillow's `convert("RGB")` gives them.

/// The formats that can be read, as named in messages.
pub(crate) const FORMATS: &str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or QOI";
