//! Many images to rows: read, decoded and prepared on their own threads, ahead of the model, in order.
//!
//! Bad images are skipped and handed on as errors; nothing stops for them. What a row is used for is the caller's.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use image::RgbImage;

use crate::embedding::Embeddings;
use crate::encoder::DualEncoder;
use crate::error::{Error, Result};
use crate::image_file::{ImageOptions, decode_within, read_image, taken};
use crate::index::{Hash, Stat, hash, open_file};
use crate::resample::{Filter, resize};
use crate::room::Room;
use crate::tower::ImageTower;

/// The path that stands for standard input.
pub const STDIN: &str = "-";

/// How many images are prepared ahead of the model, and how they are read.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Threads that read, decode and prepare; 0 takes as many as there are cores.
    pub decoders: usize,
    /// Bytes that decoding may take at once, on all threads together, 192 MiB by default. An image that needs more is
    /// decoded alone; how much one may need, [`ImageOptions::max_pixels`] says.
    pub memory: u64,
    /// How image files are read.
    pub image: ImageOptions,
    /// The width and height in pixels, at least 1, that a small copy of each image fits into; by default none is made.
    pub thumbnail: Option<(u32, u32)>,
    /// Whether to say of each file what was read of it, off by default. A file that changes meanwhile is then refused.
    pub identify: bool,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            decoders: 0,
            memory: 192 << 20,
            image: ImageOptions::default(),
            thumbnail: None,
            identify: false,
        }
    }
}

/// Which bytes a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Of the bytes.
    pub hash: Hash,
    /// Of the file that they were read from.
    pub stat: Stat,
    /// When the photo was taken, in nanoseconds since 1970, where they say so (EXIF).
    pub taken: Option<i64>,
}

/// What became of one image.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// Its path, as given.
    pub path: &'a Path,
    /// Its unit row, or one for each patch where the encoder gives those; or why there is none.
    pub row: Result<Embeddings>,
    /// Its small copy, where [`PipelineOptions::thumbnail`] asks for one and the image could be decoded: the whole
    /// image, upright, in its own proportions, never enlarged.
    pub thumbnail: Option<RgbImage>,
    /// What was read of it, where [`PipelineOptions::identify`] asks for that and the image could be decoded.
    pub identity: Option<Identity>,
}

/// An image as the model wants it, 3 × H × W values, and what else is wanted of it.
struct Prepared {
    values: Vec<f32>,
    extras: Extras,
}

#[derive(Default)]
struct Extras {
    thumbnail: Option<RgbImage>,
    identity: Option<Identity>,
}

/// An image on its way through the decoding threads.
struct Job<'a, T> {
    path: &'a Path,
    prepared: SyncSender<Result<T>>,
}

/// An image that will be prepared, or is.
struct Pending<'a, T> {
    path: &'a Path,
    prepared: Receiver<Result<T>>,
}

impl<T> Pending<'_, T> {
    /// What became of it, waited for.
    fn wait(&self) -> Result<T> {
        let prepared = self.prepared.recv();
        prepared.unwrap_or_else(|_| Err(interrupted(self.path)))
    }
}

/// Encodes the images at `paths` and hands each to `sink`, in the order given.
///
/// The path `-` reads one image from standard input. `sink` says whether to go on: at `false` the rest is left.
///
/// # Cost
///
/// Runs at the speed of the slower of preparing and the model. Holds at most three batches of prepared images, and what
/// [`PipelineOptions::memory`] allows for decoding.
///
/// # Errors
///
/// Only what concerns all images: [`Error::NoTower`], or [`Error::Graph`] if ONNX Runtime fails. An image that cannot
/// be read or encoded comes to `sink` as an error.
pub fn encode_files(
    encoder: &DualEncoder,
    paths: &[PathBuf],
    options: &PipelineOptions,
    mut sink: impl FnMut(Encoded<'_>) -> bool,
) -> Result<()> {
    let tower = encoder.image_tower()?;
    let room = Room::new(options.memory);
    // Bounds what is prepared and not yet encoded: the batch that is being filled, and one more ahead of it.
    let ahead = 2 * encoder.batch();
    let prepare = |path: &Path| prepare(tower, path, &room, options);
    work_ahead(paths, options.decoders, ahead, prepare, |pending| {
        // When this returns early, `pending` is gone: handing out ends, then preparing.
        encode_all(tower, encoder.batch(), pending, &mut sink)
    })
}

/// Hands a small copy of each image at `paths` to `sink`, in the order given, without a model: as
/// [`Encoded::thumbnail`] has it, fitted into `sides` (width, height), or why there is none.
///
/// `sink` says whether to go on: at `false` the rest is left.
///
/// # Cost
///
/// Decodes on all threads at once, within what [`PipelineOptions::memory`] allows.
pub fn small_copies(
    paths: &[PathBuf],
    sides: (u32, u32),
    options: &PipelineOptions,
    mut sink: impl FnMut(&Path, Result<RgbImage>) -> bool,
) {
    let room = Room::new(options.memory);
    let copy = |path: &Path| with_image(path, &room, options, |image, _| small_copy(image, sides));
    work_ahead(
        paths,
        options.decoders,
        SMALL_COPIES_AHEAD,
        copy,
        |pending| {
            for one in pending {
                if !sink(one.path, one.wait()) {
                    return;
                }
            }
        },
    );
}

/// Small copies that wait to be taken.
const SMALL_COPIES_AHEAD: usize = 64;

/// Does `work` for every path on `decoders` threads, while `take` takes what comes of each, in order; at most `ahead`
/// wait to be taken.
fn work_ahead<'a, T: Send, R>(
    paths: &'a [PathBuf],
    decoders: usize,
    ahead: usize,
    work: impl Fn(&Path) -> Result<T> + Sync,
    take: impl FnOnce(Receiver<Pending<'a, T>>) -> R,
) -> R {
    let decoders = match decoders {
        0 => thread::available_parallelism().map_or(1, usize::from),
        decoders => decoders,
    };
    let (jobs_in, jobs) = channel();
    let jobs = Mutex::new(jobs);
    let (pending_in, pending) = sync_channel(ahead);
    thread::scope(|scope| {
        scope.spawn(move || hand_out(paths, &pending_in, &jobs_in));
        for _ in 0..decoders.min(paths.len()) {
            scope.spawn(|| work_on(&jobs, &work));
        }
        take(pending)
    })
}

/// Queues every path twice: for the decoding threads, and in order for who takes what comes of it.
fn hand_out<'a, T>(
    paths: &'a [PathBuf],
    pending: &SyncSender<Pending<'a, T>>,
    jobs: &Sender<Job<'a, T>>,
) {
    for path in paths {
        let (done, prepared) = sync_channel(1);
        if pending.send(Pending { path, prepared }).is_err()
            || jobs
                .send(Job {
                    path,
                    prepared: done,
                })
                .is_err()
        {
            return;
        }
    }
}

fn work_on<T>(jobs: &Mutex<Receiver<Job<'_, T>>>, work: &impl Fn(&Path) -> Result<T>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let prepared = catch_unwind(AssertUnwindSafe(|| work(job.path)));
        // Nobody waits for it any more when the caller has stopped.
        let _ = job
            .prepared
            .send(prepared.unwrap_or_else(|_| Err(interrupted(job.path))));
    }
}

fn prepare(
    tower: &ImageTower,
    path: &Path,
    room: &Room,
    options: &PipelineOptions,
) -> Result<Prepared> {
    with_image(path, room, options, |image, identity| Prepared {
        values: tower.prepare(image),
        extras: Extras {
            thumbnail: options.thumbnail.map(|sides| small_copy(image, sides)),
            identity,
        },
    })
}

/// What `work` makes of the image at `path`, which is in memory, within `room`, for no longer than that.
fn with_image<T>(
    path: &Path,
    room: &Room,
    options: &PipelineOptions,
    work: impl FnOnce(&RgbImage, Option<Identity>) -> T,
) -> Result<T> {
    let file = match path == Path::new(STDIN) {
        true => None,
        // Of a pipe nothing can be said but what it gives.
        false if !options.identify => Some(File::open(path).map_err(Error::read(path))?),
        false => Some(open_file(path).map_err(Error::read(path))?),
    };
    let stat = || -> Result<Option<Stat>> {
        let metadata = file.as_ref().map(File::metadata).transpose();
        let metadata = metadata.map_err(Error::read(path))?;
        Ok(metadata.as_ref().map(Stat::of))
    };
    let before = stat()?;
    // A file of this length is not even read beside others; what others need is known once their header is.
    let is_long = before.is_some_and(|stat| stat.size > LONG_FILE);
    let all = is_long.then(|| room.take(u64::MAX));
    let bytes = match &file {
        Some(file) => read_image(file, path, &options.image)?,
        None => read_image(io::stdin().lock(), path, &options.image)?,
    };
    let identity = match before.filter(|_| options.identify) {
        Some(_) if stat()? != before => {
            return Err(Error::Changed {
                path: path.to_owned(),
            });
        }
        before => before.map(|stat| Identity {
            hash: hash(&bytes),
            stat,
            taken: taken(&bytes),
        }),
    };
    let room = all.is_none().then_some(room);
    let (image, _taken) = decode_within(&bytes, path, &options.image, room)?;
    Ok(work(&image, identity))
}

/// The image, brought to fit `sides` (width, height) if it does not.
fn small_copy(image: &RgbImage, sides: (u32, u32)) -> RgbImage {
    let (width, height) = fitted(image.dimensions(), sides);
    resize(image, width, height, Filter::Bicubic)
}

/// The largest width and height that fit `sides`, in the proportions of `size` and no larger than it. Each is at least
/// 1, however thin the image.
fn fitted(size: (u32, u32), sides: (u32, u32)) -> (u32, u32) {
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let scale = (f64::from(sides.0) / width).min(f64::from(sides.1) / height);
    let side = |side: f64, limit: u32| ((side * scale).round() as u32).clamp(1, limit.max(1));
    if scale < 1.0 {
        (side(width, sides.0), side(height, sides.1))
    } else {
        size
    }
}

/// Files of more bytes are decoded alone.
const LONG_FILE: u64 = 16 << 20;

fn encode_all(
    tower: &ImageTower,
    batch: usize,
    pending: Receiver<Pending<'_, Prepared>>,
    sink: &mut impl FnMut(Encoded<'_>) -> bool,
) -> Result<()> {
    let mut waiting: Vec<(&Path, Result<Prepared>)> = Vec::new();
    let mut good = 0;
    for one in pending {
        let prepared = one.wait();
        good += usize::from(prepared.is_ok());
        waiting.push((one.path, prepared));
        // A run of bad images must not pile up behind a batch that never fills.
        if good == batch || waiting.len() == 4 * batch {
            good = 0;
            if !encode_batch(tower, &mut waiting, sink)? {
                return Ok(());
            }
        }
    }
    encode_batch(tower, &mut waiting, sink).map(|_| ())
}

/// Encodes what waits and hands it on in order; whether to go on.
fn encode_batch(
    tower: &ImageTower,
    waiting: &mut Vec<(&Path, Result<Prepared>)>,
    sink: &mut impl FnMut(Encoded<'_>) -> bool,
) -> Result<bool> {
    let good: Vec<&[f32]> = waiting
        .iter()
        .filter_map(|(_, prepared)| prepared.as_ref().ok())
        .map(|prepared| prepared.values.as_slice())
        .collect();
    let rows: Vec<Result<Embeddings>> = match tower.encode_prepared(good.concat()) {
        Ok(rows) => rows.chunks(tower.rows_per_image()).map(Ok).collect(),
        // One image without a row must not cost the others theirs.
        Err(Error::NoRow { .. }) => good
            .iter()
            .map(|image| tower.encode_prepared(image.to_vec()))
            .collect(),
        Err(error) => return Err(error),
    };
    let mut rows = rows.into_iter();
    for (path, prepared) in waiting.drain(..) {
        let (row, extras) = match prepared {
            Ok(Prepared { extras, .. }) => (
                rows.next().unwrap_or_else(|| Err(interrupted(path))),
                extras,
            ),
            Err(error) => (Err(error), Extras::default()),
        };
        let encoded = Encoded {
            path,
            row,
            thumbnail: extras.thumbnail,
            identity: extras.identity,
        };
        if !sink(encoded) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A decoder that gave up in a way that its library did not foresee.
fn interrupted(path: &Path) -> Error {
    Error::ImageDecode {
        path: path.to_owned(),
        source: "its decoding was interrupted".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_copies_keep_proportions_and_are_never_enlarged() {
        for (size, sides, expected) in [
            ((640, 480), (160, 160), (160, 120)),
            ((480, 640), (160, 160), (120, 160)),
            ((640, 480), (320, 120), (160, 120)),
            ((161, 160), (160, 160), (160, 159)),
            ((20, 15), (160, 160), (20, 15)),
            ((160, 160), (160, 160), (160, 160)),
            ((2, 50_000), (160, 160), (1, 160)),
            ((50_000, 2), (160, 160), (160, 1)),
        ] {
            assert_eq!(fitted(size, sides), expected, "{size:?} into {sides:?}");
        }
    }
}
