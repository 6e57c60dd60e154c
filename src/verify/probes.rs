//! What a model is shown: pictures and texts that are part of the program, so that records made anywhere are of the same.
//!
//! The pictures are files that `onnx/probes.py` makes, which says what each is for; other programs read the same files.

use std::path::Path;

use image::RgbImage;

use crate::error::Result;
use crate::image_file::{ImageOptions, decode_image};

/// A picture by its name.
pub(super) struct Picture {
    pub(super) name: &'static str,
    pub(super) image: RgbImage,
    /// What it shows, where it is a photo.
    pub(super) caption: Option<&'static str>,
}

macro_rules! file {
    ($name:literal, $ending:literal, $caption:expr) => {
        (
            $name,
            include_bytes!(concat!("probes/", $name, ".", $ending)).as_slice(),
            $caption,
        )
    };
}

type File = (&'static str, &'static [u8], Option<&'static str>);

/// The most telling first: a search for what explains other pixels gives up a guess at the first that it fails on.
const FILES: [File; 9] = [
    file!("rings", "png", None),
    file!("strip", "png", None),
    file!("colours", "png", None),
    file!(
        "bee",
        "jpg",
        Some("A honey bee drinks nectar from a purple flower with a yellow centre.")
    ),
    file!(
        "bridge",
        "jpg",
        Some("A suspension bridge over a river, lit up at night.")
    ),
    file!(
        "cat",
        "jpg",
        Some("A kitten lies on a pink blanket and plays with a ball of wool.")
    ),
    file!(
        "coffee",
        "jpg",
        Some("A red cup of espresso on a saucer with a spoon, on a wooden table.")
    ),
    file!(
        "dog",
        "jpg",
        Some("A German shepherd dog stands on dry grass with its tongue out.")
    ),
    file!(
        "rocket",
        "jpg",
        Some("A white rocket stands on its launch pad at dusk.")
    ),
];

/// Texts that tokenizers get wrong, besides the captions: upper case, punctuation, accents, nothing, other scripts, one
/// that is longer than a context of 77.
const TEXTS: [&str; 10] = [
    "a photo of a cat",
    "A Photo Of A DOG.",
    "wow!!! it's what we've got, isn't it? (yes: 1,234.50)",
    "caf\u{e9} no\u{eb}l, cafe\u{301}, Stra\u{df}e",
    "",
    " ?\t\n ",
    "snake_case, salt &amp; pepper \u{201c}quoted\u{201d}",
    "一隻貓在桌子上睡覺",
    "кошка на СТОЛЕ 😀",
    "a very long caption that describes a market square in the rain with red umbrellas, two dogs, a bicycle against a \
     wall, wet cobblestones, a baker in the door, a tram that waits, pigeons on the roof, and far away the hills in fog; \
     beside it a second square with a fountain, four benches, a violinist under an arch, children who chase a balloon, \
     and an old man who reads the newspaper while his coffee gets cold and the light of the afternoon fades",
];

/// Every picture, decoded.
pub(super) fn pictures() -> Result<Vec<Picture>> {
    let open = |&(name, bytes, caption): &File| {
        let image = decode_image(bytes, Path::new(name), &ImageOptions::default())?;
        Ok(Picture {
            name,
            image,
            caption,
        })
    };
    FILES.iter().map(open).collect()
}

/// Every text: the hard ones, then the captions of the photos.
pub(super) fn texts() -> Vec<&'static str> {
    let captions = FILES.iter().filter_map(|&(_, _, caption)| caption);
    TEXTS.into_iter().chain(captions).collect()
}
