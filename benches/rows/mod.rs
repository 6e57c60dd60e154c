//! Rows that lie as CLIP's do, drawn around those of real photos, or around invented ones where the real ones are not at
//! hand; and the plain loop that says what is right.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const WIDTH: usize = 512;
/// Photos that rows are drawn around.
const PHOTOS: usize = 100;

/// What rows are drawn from.
pub(crate) struct Source {
    /// What it is, to print.
    pub(crate) name: &'static str,
    /// The mean of all photos' rows.
    centre: Vec<f32>,
    /// Each photo's row less the centre.
    photos: Vec<Vec<f32>>,
    /// Rows of texts, to search with.
    pub(crate) texts: Vec<f32>,
}

impl Source {
    /// The rows of Flickr photos and captions by OpenAI's ViT-B/32, which are not part of the repository: in the folder
    /// that `DIPTYCH_FLICKR` names, or beside the checkout.
    pub(crate) fn open() -> Self {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|folder| folder.join("../shared/data/clip-vit-b32-flickr"))
            .find(|folder| folder.is_dir());
        let folder = std::env::var_os("DIPTYCH_FLICKR")
            .map(PathBuf::from)
            .or(beside);
        match folder {
            Some(folder) => Self::real(&folder),
            None => Self::invented(),
        }
    }

    fn real(folder: &Path) -> Self {
        let photos = read_npy(&folder.join("image_embeddings.npy"));
        let texts = read_npy(&folder.join("text_embeddings.npy"));
        // Each photo stands there once for each of its captions.
        let photos: Vec<&[f32]> = photos
            .chunks(WIDTH)
            .step_by(photos.len() / WIDTH / PHOTOS)
            .collect();
        Self::around("CLIP ViT-B/32's rows of 100 Flickr photos", &photos, texts)
    }

    /// As close together as the real ones: two images 0.5, a text and an image 0.2, those that belong together 0.3.
    fn invented() -> Self {
        let mut random = Random(1);
        let mut direction = || (0..WIDTH).map(|_| random.value()).collect::<Vec<f32>>();
        let (common, gap) = (direction(), direction());
        let own: Vec<Vec<f32>> = (0..PHOTOS).map(|_| direction()).collect();
        let mut row = |parts: &[(f32, &Vec<f32>)], noise: f32| {
            let mut row = vec![0.0; WIDTH];
            parts
                .iter()
                .for_each(|(share, part)| add(&mut row, part, *share));
            add(&mut row, &direction(), noise);
            unit(row)
        };
        let photos: Vec<Vec<f32>> = own
            .iter()
            .map(|own| row(&[(1.0, &common), (1.0, own)], 0.0))
            .collect();
        let photos: Vec<&[f32]> = photos.iter().map(Vec::as_slice).collect();
        let text = |own| row(&[(0.35, &common), (1.0, &gap), (0.2, own)], 0.5);
        let texts = own.iter().flat_map(text).collect();
        Self::around("invented rows", &photos, texts)
    }

    fn around(name: &'static str, photos: &[&[f32]], texts: Vec<f32>) -> Self {
        assert_eq!(photos.len(), PHOTOS);
        let mut centre = vec![0.0; WIDTH];
        for photo in photos {
            add(&mut centre, photo, 1.0 / PHOTOS as f32);
        }
        let from_centre = |photo: &&[f32]| {
            let mut photo = photo.to_vec();
            add(&mut photo, &centre, -1.0);
            photo
        };
        let photos = photos.iter().map(from_centre).collect();
        Self {
            name,
            centre,
            photos,
            texts,
        }
    }

    /// A row between three photos, and as much beside them: at half of the squared distance from the centre.
    fn draw(&self, random: &mut Random) -> Vec<f32> {
        let mut row = self.centre.clone();
        let weights: [f32; 3] = [(); 3].map(|()| random.value().abs());
        let length = weights
            .iter()
            .map(|weight| weight * weight)
            .sum::<f32>()
            .sqrt();
        let mut squared = 0.0;
        for weight in weights {
            let photo = &self.photos[(random.next() % PHOTOS as u64) as usize];
            let weight = weight / length * 0.5f32.sqrt();
            add(&mut row, photo, weight);
            squared += weight * weight * dot(photo, photo);
        }
        let noise = (squared / WIDTH as f32).sqrt();
        row.iter_mut()
            .for_each(|value| *value += noise * random.value());
        unit(row)
    }

    /// `count` rows of images, another set for each seed.
    pub(crate) fn images(&self, count: usize, seed: u64) -> Vec<f32> {
        let mut rows = vec![0.0; count * WIDTH];
        let size = rows.len().div_ceil(threads()).next_multiple_of(WIDTH);
        thread::scope(|scope| {
            for (part, rows) in rows.chunks_mut(size).enumerate() {
                scope.spawn(move || {
                    for (index, row) in rows.chunks_mut(WIDTH).enumerate() {
                        let number = (part * size / WIDTH + index) as u64;
                        let mut random = Random(seed << 40 ^ number << 8);
                        row.copy_from_slice(&self.draw(&mut random));
                    }
                });
            }
        });
        rows
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Nearly normal, of variance 1: the sum of four even ones.
    fn value(&mut self) -> f32 {
        let bits = self.next();
        let part = |at: u32| f32::from((bits >> at) as u16) / 65535.0 - 0.5;
        (part(0) + part(16) + part(32) + part(48)) * 3f32.sqrt()
    }
}

fn add(sums: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

fn unit(mut row: Vec<f32>) -> Vec<f32> {
    let length = dot(&row, &row).sqrt();
    row.iter_mut().for_each(|value| *value /= length);
    row
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

/// The values of a file of f32 rows.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let values = bytes[header..].as_chunks::<4>().0;
    values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}

pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The `count` best rows of `range` by a plain loop over all of them, on all cores.
pub(crate) fn exact(rows: &[f32], query: &[f32], count: usize) -> Vec<(usize, f32)> {
    let total = rows.len() / WIDTH;
    let size = total.div_ceil(threads());
    let best = |range: Range<usize>| {
        let mut best: Vec<(usize, f32)> = Vec::with_capacity(count + 1);
        for row in range {
            let score = dot(&rows[row * WIDTH..(row + 1) * WIDTH], query);
            if best.len() < count || score > best[count - 1].1 {
                let place = best.partition_point(|(_, other)| *other >= score);
                best.insert(place, (row, score));
                best.truncate(count);
            }
        }
        best
    };
    let best = &best;
    let mut all: Vec<(usize, f32)> = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads())
            .map(|part| {
                scope.spawn(move || best((part * size).min(total)..((part + 1) * size).min(total)))
            })
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap())
            .collect()
    });
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(count);
    all
}

/// The mean cosine of pairs of rows.
pub(crate) fn mean_cosine(rows: &[f32], others: &[f32]) -> f32 {
    let pairs = rows
        .chunks(WIDTH)
        .take(1000)
        .zip(others.chunks(WIDTH).rev());
    let cosines: Vec<f32> = pairs.map(|(a, b)| dot(a, b)).collect();
    cosines.iter().sum::<f32>() / cosines.len() as f32
}

/// The share of the true best that were found. A row that scores as well as the last of them counts.
pub(crate) fn recall(
    found: &[Vec<usize>],
    truth: &[Vec<(usize, f32)>],
    score: impl Fn(usize, usize) -> f32,
) -> f64 {
    let (mut right, mut all) = (0, 0);
    for (query, (found, truth)) in found.iter().zip(truth).enumerate() {
        let least = truth[truth.len() - 1].1;
        right += found
            .iter()
            .filter(|&&row| score(query, row) >= least)
            .count()
            .min(truth.len());
        all += truth.len();
    }
    right as f64 / all as f64
}

/// The median and the 99th percentile, in milliseconds.
pub(crate) fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}

/// The time that each of `count` calls takes.
pub(crate) fn times(count: usize, mut work: impl FnMut(usize)) -> Vec<Duration> {
    let time = |index| {
        let start = Instant::now();
        work(index);
        start.elapsed()
    };
    (0..count).map(time).collect()
}
