//! What the benches share: ONNX Runtime by itself, and medians over rounds that take turns.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diptych::runtime;
use ort::session::{Session, SessionInputValue};

/// The model that is measured: `DIPTYCH_MODEL`, otherwise the bundled one.
pub(crate) fn model() -> PathBuf {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/tiny");
    std::env::var_os("DIPTYCH_MODEL").map_or(bundled, PathBuf::from)
}

/// The graph in ONNX Runtime with nothing around it, on as many threads as there are cores.
pub(crate) fn alone(graph: &Path) -> Session {
    let runtime = runtime::start(|line| println!("{line}")).unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = Session::builder(runtime.environment())
        .unwrap()
        .with_intra_threads(threads)
        .unwrap();
    builder.commit_from_file(graph).unwrap()
}

/// Runs a graph once and gives back its first output, row-major.
pub(crate) fn run(session: &mut Session, inputs: &[SessionInputValue<'_>]) -> Vec<f32> {
    let outputs = session.run(inputs).unwrap();
    outputs[0].try_extract_tensor::<f32>().unwrap().1.to_vec()
}

/// The median time of each of `works`, which take turns for `rounds` rounds after one to warm up.
pub(crate) fn medians<const N: usize>(
    rounds: usize,
    mut works: [&mut dyn FnMut(); N],
) -> [Duration; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for (work, times) in works.iter_mut().zip(&mut times) {
            // Threads of the work before may still wait in a loop for more of it.
            std::thread::sleep(Duration::from_millis(300));
            let start = Instant::now();
            work();
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    times.map(|mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

/// Items a second.
pub(crate) fn rate(items: usize, time: Duration) -> f64 {
    items as f64 / time.as_secs_f64()
}

/// The cosine of two rows of any length.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum::<f64>()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
