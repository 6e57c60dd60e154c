//! What a model is shown: pictures and texts that are part of the program, so that records made anywhere are of the same.
//!
//! They lie in `probes/`, where other programs read them too. `probes.json` lists them: texts that tokenizers get wrong
//! (upper case, punctuation, accents, nothing, other scripts, one longer than a context of 77), and pictures, of which
//! `onnx/probes.py` says what each is for. Photos have captions, which follow the texts.

use std::path::Path;

use image::RgbImage;
use serde::Deserialize;

use crate::error::Result;
use crate::image_file::{ImageOptions, decode_image};

/// A picture by its name.
pub(super) struct Picture {
    pub(super) name: String,
    pub(super) image: RgbImage,
    /// What it shows, where it is a photo.
    pub(super) caption: Option<String>,
}

/// `probes.json`.
#[derive(Deserialize)]
struct Probes {
    texts: Vec<String>,
    pictures: Vec<About>,
}

#[derive(Deserialize)]
struct About {
    file: String,
    caption: Option<String>,
}

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("probes/", $name)).as_slice())),*] };
}

const FILES: [(&str, &[u8]); 9] = files!(
    "rings.png" "strip.png" "colours.png" "bee.jpg" "bridge.jpg" "cat.jpg" "coffee.jpg" "dog.jpg" "rocket.jpg"
);

fn probes() -> Probes {
    serde_json::from_str(include_str!("probes/probes.json"))
        .unwrap_or_else(|error| unreachable!("probes.json is part of the program: {error}"))
}

/// Every picture, decoded. The most telling come first, so that a search for what explains other pixels gives most
/// guesses up soon.
pub(super) fn pictures() -> Result<Vec<Picture>> {
    let open = |About { file, caption }| {
        let (_, bytes) = FILES
            .iter()
            .find(|(name, _)| *name == file)
            .unwrap_or_else(|| unreachable!("{file} is part of the program"));
        let image = decode_image(bytes, Path::new(&file), &ImageOptions::default())?;
        let name = file.split('.').next().unwrap_or_default().to_owned();
        Ok(Picture {
            name,
            image,
            caption,
        })
    };
    probes().pictures.into_iter().map(open).collect()
}

/// Every text: the hard ones, then the captions.
pub(super) fn texts() -> Vec<String> {
    let Probes { mut texts, .. } = probes();
    texts.extend(captions());
    texts
}

/// The pictures that are photos: their places among all, and their names.
pub(super) fn photos() -> Vec<(usize, String)> {
    let pictures = probes().pictures.into_iter().enumerate();
    let photos = pictures.filter(|(_, about)| about.caption.is_some());
    let name = |about: About| about.file.split('.').next().unwrap_or_default().to_owned();
    photos.map(|(place, about)| (place, name(about))).collect()
}

/// The captions, in the order of their photos.
pub(super) fn captions() -> Vec<String> {
    let pictures = probes().pictures.into_iter();
    pictures.filter_map(|about| about.caption).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_whole() {
        let pictures = pictures().unwrap();
        assert_eq!(pictures.len(), FILES.len());
        assert_eq!(captions().len(), 6);
        assert_eq!(texts().len(), 16);
        // One lies, one stands, one has odd sides.
        let has = |is: fn(u32, u32) -> bool| {
            let mut images = pictures.iter().map(|picture| &picture.image);
            images.any(|image| is(image.width(), image.height()))
        };
        assert!(has(|width, height| 4 * width >= 5 * height));
        assert!(has(|width, height| 4 * height >= 5 * width));
        assert!(has(|width, height| width % 2 == 1 && height % 2 == 1));
    }
}
