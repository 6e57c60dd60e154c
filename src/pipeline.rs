//! Many images to rows: read, decoded and prepared on their own threads, ahead of the model, in order.
//!
//! Bad images are skipped and handed on as errors; nothing stops for them. What a row is used for is the caller's.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use crate::embedding::Embeddings;
use crate::encoder::DualEncoder;
use crate::error::{Error, Result};
use crate::image_file::{ImageOptions, decode_image, read_image, stated_pixels};
use crate::tower::ImageTower;

/// The path that stands for standard input.
pub const STDIN: &str = "-";

/// How many images are prepared ahead of the model, and how they are read.
#[derive(Debug, Clone, Default)]
pub struct PipelineOptions {
    /// Threads that read, decode and prepare; 0 takes as many as there are cores.
    pub decoders: usize,
    /// How image files are read.
    pub image: ImageOptions,
}

/// What became of one image.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// Its path, as given.
    pub path: &'a Path,
    /// Its one unit row, or why there is none.
    pub row: Result<Embeddings>,
}

/// An image on its way through the decoding threads.
struct Job<'a> {
    path: &'a Path,
    prepared: SyncSender<Result<Vec<f32>>>,
}

/// An image that will be prepared, or is.
struct Pending<'a> {
    path: &'a Path,
    prepared: Receiver<Result<Vec<f32>>>,
}

/// Encodes the images at `paths` and hands each to `sink`, in the order given.
///
/// The path `-` reads one image from standard input. `sink` says whether to go on: at `false` the rest is left.
///
/// # Cost
///
/// Runs at the speed of the slower of preparing and the model. Holds at most three batches of prepared images, and
/// decoded images of 32 megapixels a thread in all, or one image that is larger.
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
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let decoders = if options.decoders == 0 {
        cores
    } else {
        options.decoders
    };

    let (jobs_in, jobs) = channel();
    let jobs = Mutex::new(jobs);
    let room = Room::new(decoders);
    // Bounds what is prepared and not yet encoded: the batch that is being filled, and one more ahead of it.
    let (pending_in, pending) = sync_channel(2 * encoder.batch());
    thread::scope(|scope| {
        scope.spawn(move || hand_out(paths, &pending_in, &jobs_in));
        for _ in 0..decoders.min(paths.len()) {
            scope.spawn(|| prepare_all(tower, &jobs, &room, &options.image));
        }
        // When this returns early, `pending` is gone: handing out ends, then preparing.
        encode_all(tower, encoder.batch(), pending, &mut sink)
    })
}

/// Queues every path twice: for the decoding threads, and in order for the model.
fn hand_out<'a>(paths: &'a [PathBuf], pending: &SyncSender<Pending<'a>>, jobs: &Sender<Job<'a>>) {
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

fn prepare_all(
    tower: &ImageTower,
    jobs: &Mutex<Receiver<Job<'_>>>,
    room: &Room,
    options: &ImageOptions,
) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Nobody waits for it any more when the caller has stopped.
        let _ = job.prepared.send(prepare(tower, job.path, room, options));
    }
}

fn prepare(
    tower: &ImageTower,
    path: &Path,
    room: &Room,
    options: &ImageOptions,
) -> Result<Vec<f32>> {
    let (file, length): (Box<dyn Read>, u64) = if path == Path::new(STDIN) {
        (Box::new(io::stdin().lock()), 0)
    } else {
        let file = File::open(path).map_err(Error::read(path))?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(file), length)
    };
    // A file of this length is not even read beside others; of others the header says what they take.
    let is_long = length > ROOM_OF_A_DECODER / 2;
    let whole = is_long.then(|| room.take(u64::MAX));
    let bytes = read_image(file, path, options)?;
    let _taken = whole.unwrap_or_else(|| room.take(stated_pixels(&bytes)));
    Ok(tower.prepare(&decode_image(&bytes, path, options)?))
}

/// Pixels that may be decoded at once for each decoding thread. Photos of cameras fit; of larger images fewer are
/// decoded at a time, the largest ones alone, so that memory does not grow with what a folder happens to hold.
const ROOM_OF_A_DECODER: u64 = 32 << 20;

/// How many pixels may still be decoded beside those that are.
#[derive(Debug)]
struct Room {
    all: u64,
    free: Mutex<u64>,
    freed: Condvar,
}

/// A share of the room, given back when it is dropped.
#[derive(Debug)]
struct Taken<'a> {
    room: &'a Room,
    pixels: u64,
}

impl Room {
    fn new(decoders: usize) -> Self {
        let all = ROOM_OF_A_DECODER * decoders as u64;
        Self {
            all,
            free: Mutex::new(all),
            freed: Condvar::new(),
        }
    }

    /// Waits until `pixels` are free, or all are, if that is fewer.
    fn take(&self, pixels: u64) -> Taken<'_> {
        let pixels = pixels.min(self.all);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free < pixels)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= pixels;
        Taken { room: self, pixels }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self
            .room
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += self.pixels;
        self.room.freed.notify_all();
    }
}

fn encode_all(
    tower: &ImageTower,
    batch: usize,
    pending: Receiver<Pending<'_>>,
    sink: &mut impl FnMut(Encoded<'_>) -> bool,
) -> Result<()> {
    let mut waiting: Vec<(&Path, Result<Vec<f32>>)> = Vec::new();
    let mut good = 0;
    for Pending { path, prepared } in pending {
        let prepared = prepared.recv().unwrap_or_else(|_| Err(interrupted(path)));
        good += usize::from(prepared.is_ok());
        waiting.push((path, prepared));
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
    waiting: &mut Vec<(&Path, Result<Vec<f32>>)>,
    sink: &mut impl FnMut(Encoded<'_>) -> bool,
) -> Result<bool> {
    let good: Vec<&[f32]> = waiting
        .iter()
        .filter_map(|(_, prepared)| prepared.as_deref().ok())
        .collect();
    let rows: Vec<Result<Embeddings>> = match tower.encode_prepared(good.concat()) {
        Ok(rows) => rows.split().map(Ok).collect(),
        // One image without a row must not cost the others theirs.
        Err(Error::NoRow { .. }) => good
            .iter()
            .map(|image| tower.encode_prepared(image.to_vec()))
            .collect(),
        Err(error) => return Err(error),
    };
    let mut rows = rows.into_iter();
    for (path, prepared) in waiting.drain(..) {
        let row = prepared.and_then(|_| rows.next().unwrap_or_else(|| Err(interrupted(path))));
        if !sink(Encoded { path, row }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A decoding thread that ended before its image was done.
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
    fn room_is_given_back_and_never_exceeded() {
        let room = Room::new(2);
        let in_use = Mutex::new((0, 0));
        thread::scope(|scope| {
            for index in 0..50 {
                let (room, in_use) = (&room, &in_use);
                scope.spawn(move || {
                    let pixels = [1 << 20, 20 << 20, 40 << 20, u64::MAX][index % 4];
                    let taken = room.take(pixels);
                    let mut used = in_use.lock().unwrap();
                    used.0 += taken.pixels;
                    used.1 = used.0.max(used.1);
                    drop(used);
                    thread::yield_now();
                    in_use.lock().unwrap().0 -= taken.pixels;
                });
            }
        });
        assert_eq!(in_use.into_inner().unwrap(), (0, 64 << 20));
        assert_eq!(room.free.into_inner().unwrap(), 64 << 20);
    }
}
