//! Sixel: a picture as terminals since DEC's VT340 take it, in bands of six rows and up to 256 colours.
//!
//! # Source
//!
//! VT330/VT340 Programmer Reference Manual, volume 2, chapter 14.

use std::collections::HashMap;
use std::fmt::Write;

use color_quant::NeuQuant;
use image::{Rgb, RgbImage};

const COLOURS: usize = 256;
/// Rows of a band.
const BAND: u32 = 6;
/// NeuQuant's pace: 1 looks at every pixel, 30 at few.
const PACE: i32 = 3;

/// A picture with colours by number.
struct Indexed {
    colours: Vec<Rgb<u8>>,
    numbers: Vec<u8>,
}

/// The whole sequence that shows `picture`.
pub(super) fn encode(picture: &RgbImage) -> String {
    let (width, height) = picture.dimensions();
    let Indexed { colours, numbers } = exact(picture).unwrap_or_else(|| nearest(picture));
    // Square pixels; what is not drawn stays as it was.
    let mut sixels = format!("\x1bP0;1;0q\"1;1;{width};{height}");
    for (number, colour) in colours.iter().enumerate() {
        let [red, green, blue] = colour.0.map(percent);
        push(
            &mut sixels,
            format_args!("#{number};2;{red};{green};{blue}"),
        );
    }
    for band in numbers.chunks((width * BAND) as usize) {
        push_band(&mut sixels, band, width as usize);
    }
    sixels.push_str("\x1b\\");
    sixels
}

fn push(sixels: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = sixels.write_fmt(part);
}

/// Levels are percents.
fn percent(level: u8) -> u32 {
    (u32::from(level) * 100 + 127) / 255
}

/// Every colour as it is, where there are few enough.
fn exact(picture: &RgbImage) -> Option<Indexed> {
    let mut known: HashMap<Rgb<u8>, u8> = HashMap::new();
    let mut colours = Vec::new();
    let mut numbers = Vec::with_capacity(picture.len() / 3);
    for pixel in picture.pixels() {
        let number = match known.get(pixel) {
            Some(number) => *number,
            None => {
                let number = u8::try_from(colours.len()).ok()?;
                colours.push(*pixel);
                known.insert(*pixel, number);
                number
            }
        };
        numbers.push(number);
    }
    Some(Indexed { colours, numbers })
}

/// The nearest of 256 colours that fit the picture.
fn nearest(picture: &RgbImage) -> Indexed {
    let pixels: Vec<u8> = picture
        .pixels()
        .flat_map(|&Rgb([red, green, blue])| [red, green, blue, 255])
        .collect();
    let palette = NeuQuant::new(PACE, COLOURS, &pixels);
    let colours = palette.color_map_rgb();
    let colours = colours.as_chunks::<3>().0.iter().map(|&colour| Rgb(colour));
    Indexed {
        colours: colours.collect(),
        numbers: pixels
            .chunks_exact(4)
            .map(|pixel| palette.index_of(pixel) as u8)
            .collect(),
    }
}

/// Six rows: each of their colours from the left edge, one over the other.
fn push_band(sixels: &mut String, band: &[u8], width: usize) {
    let mut columns: HashMap<u8, Vec<u8>> = HashMap::new();
    for (row, numbers) in band.chunks(width).enumerate() {
        for (column, number) in numbers.iter().enumerate() {
            columns.entry(*number).or_insert_with(|| vec![0; width])[column] |= 1 << row;
        }
    }
    let mut columns: Vec<(u8, Vec<u8>)> = columns.into_iter().collect();
    columns.sort_unstable();
    for (number, bits) in columns {
        push(sixels, format_args!("#{number}"));
        for run in bits.chunk_by(|a, b| a == b) {
            push_run(sixels, char::from(b'?' + run[0]), run.len());
        }
        sixels.push('$');
    }
    sixels.push('-');
}

/// A character as often as it stands; `!` and a number where that is shorter.
fn push_run(sixels: &mut String, character: char, count: usize) {
    if count > 3 {
        push(sixels, format_args!("!{count}{character}"));
    } else {
        sixels.extend(std::iter::repeat_n(character, count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pixels that a terminal would show; black where none is drawn.
    pub(crate) fn decode(sixels: &str) -> RgbImage {
        let body = sixels
            .strip_prefix("\x1bP0;1;0q\"1;1;")
            .and_then(|rest| rest.strip_suffix("\x1b\\"))
            .unwrap();
        let (size, body) = body.split_at(body.find('#').unwrap());
        let (width, height) = size.split_once(';').unwrap();
        let mut picture = RgbImage::new(width.parse().unwrap(), height.parse().unwrap());
        let mut colours = HashMap::new();
        let (mut x, mut top, mut count, mut colour) = (0, 0, 1, Rgb([0; 3]));
        let mut rest = body.chars().peekable();
        while let Some(character) = rest.next() {
            let mut numbers = || {
                let mut text = String::new();
                while let Some(next) = rest.next_if(|next| next.is_ascii_digit() || *next == ';') {
                    text.push(next);
                }
                text.split(';')
                    .map(|number| number.parse().unwrap())
                    .collect::<Vec<u32>>()
            };
            match character {
                '#' => match numbers()[..] {
                    [number] => colour = colours[&number],
                    [number, 2, red, green, blue] => {
                        let level = |percent: u32| ((percent * 255 + 50) / 100) as u8;
                        colours.insert(number, Rgb([red, green, blue].map(level)));
                    }
                    ref other => panic!("{other:?}"),
                },
                '!' => count = numbers()[0],
                '$' => x = 0,
                '-' => (x, top) = (0, top + BAND),
                bits => {
                    let bits = bits as u8 - b'?';
                    for _ in 0..count {
                        for row in (0..BAND).filter(|row| bits & (1 << row) != 0) {
                            picture.put_pixel(x, top + row, colour);
                        }
                        x += 1;
                    }
                    count = 1;
                }
            }
        }
        picture
    }

    fn furthest(a: &RgbImage, b: &RgbImage) -> u8 {
        assert_eq!(a.dimensions(), b.dimensions());
        let levels = a.as_raw().iter().zip(b.as_raw());
        levels.map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn few_colours_come_back_to_within_a_percent() {
        for (width, height) in [(1, 1), (5, 6), (40, 13), (16, 16)] {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                Rgb([(x % 16 * 15) as u8, (y * 15) as u8, 255 * (x % 2) as u8])
            });
            let found = decode(&encode(&picture));
            assert!(furthest(&found, &picture) <= 2, "{width} x {height}");
        }
    }

    #[test]
    fn many_colours_become_256_near_ones() {
        let picture = RgbImage::from_fn(90, 70, |x, y| {
            Rgb([(x * 2) as u8, (y * 3) as u8, (x + y) as u8])
        });
        let sixels = encode(&picture);
        assert!(sixels.matches(";2;").count() <= COLOURS);
        let found = decode(&sixels);
        let levels = found.as_raw().iter().zip(picture.as_raw());
        let sum: u64 = levels.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = sum as f64 / picture.len() as f64;
        assert!(mean < 6.0, "{mean}");
    }
}
