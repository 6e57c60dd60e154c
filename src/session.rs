//! One graph: load it, describe its inputs and outputs, run it.
//!
//! With `runtime.rs` and `provider.rs` one of the three files that know `ort`. A graph takes and gives plain arrays; element types (f16 or
//! f32, int32 or int64) are converted here, to what the graph declares. What the arrays mean is the tower's.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use half::f16;
use ndarray::{ArrayD, IxDyn};
use ort::session::builder::SessionBuilder;
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};
use tempfile::TempDir;

use crate::cache;
use crate::device::{Device, Placement};
use crate::error::{Error, Result, Source};
use crate::provider::{self, Provider};
use crate::runtime::Runtime;

/// A loaded graph.
///
/// `run` takes `&self`: ONNX Runtime wants one run at a time of each session (`ort`'s `Session::run` takes `&mut
/// self` and says why), so runs wait for each other here. Each run uses all threads that the session was given.
#[derive(Debug)]
pub(crate) struct Graph {
    path: PathBuf,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    device: Device,
    /// The name of the device's provider, unless that is the processor's.
    provider: Option<&'static str>,
    session: Mutex<Session>,
    /// Where ONNX Runtime writes its profile, until it has been read.
    profile: Mutex<Option<TempDir>>,
    /// What ran where, once the first run on another device than the processor has shown it.
    placement: OnceLock<Placement>,
}

/// How a graph is run.
#[derive(Debug, Clone)]
pub(crate) struct GraphOptions {
    /// The device that it runs on.
    pub(crate) device: Device,
    /// Threads that one run is spread over.
    pub(crate) threads: usize,
    /// Whether these threads wait for their next piece of work in a loop instead of going to sleep.
    ///
    /// Faster by a fifth where nothing else wants the cores (texts); slower where decoding threads do (images).
    pub(crate) spins: bool,
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) element: TensorElementType,
    /// The size of each axis, where it is fixed.
    pub(crate) shape: Vec<Option<usize>>,
}

impl Port {
    fn new(outlet: &Outlet) -> Self {
        let (element, shape) = match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => (*ty, shape.iter().map(|&n| axis(n)).collect()),
            _ => (TensorElementType::Undefined, Vec::new()),
        };
        Self {
            name: outlet.name().to_owned(),
            element,
            shape,
        }
    }

    /// Whether it holds fractions, in a type that can be converted here.
    pub(crate) fn is_float(&self) -> bool {
        matches!(
            self.element,
            TensorElementType::Float32 | TensorElementType::Float16
        )
    }

    /// Whether it holds whole numbers, in a type that can be converted here.
    pub(crate) fn is_integer(&self) -> bool {
        matches!(
            self.element,
            TensorElementType::Int64 | TensorElementType::Int32
        )
    }

    /// As people write it: `pixel_values f32 [?, 3, 224, 224]`.
    pub(crate) fn describe(&self) -> String {
        let axes: Vec<String> = self
            .shape
            .iter()
            .map(|axis| axis.map_or_else(|| "?".to_owned(), |n| n.to_string()))
            .collect();
        format!("{} {} [{}]", self.name, self.element, axes.join(", "))
    }
}

/// What is fed to one input.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

/// The values of a [`Feed`], row-major.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    /// For an input of f32 or f16.
    Floats(Vec<f32>),
    /// For an input of int64 or int32.
    Integers(Vec<i64>),
}

impl Graph {
    /// The graph in file `path`, ready to run.
    ///
    /// Weights in external data files are found by ONNX Runtime, beside the graph.
    pub(crate) fn open(path: &Path, runtime: &Runtime, options: &GraphOptions) -> Result<Self> {
        // ort says only that a file does not exist; the system's own words tell more.
        std::fs::File::open(path).map_err(Error::read(path))?;
        let provider = provider::of(&options.device, runtime)?;
        let name = provider.as_ref().map(|provider| provider.name);
        let failed = |source| Error::Graph {
            path: path.to_owned(),
            action: "loaded",
            source,
        };
        let builder = builder(runtime, options).map_err(failed)?;
        let (session, profile) = match provider {
            None => {
                let session = commit(builder, path).map_err(failed)?;
                (session, None)
            }
            Some(provider) => {
                let folder = profile_folder()?;
                let builder = on_device(builder, provider, folder.path());
                let session = builder.and_then(|builder| commit(builder, path));
                let session = session
                    .map_err(|source| provider::unusable(&options.device, path, &*source))?;
                (session, Some(folder))
            }
        };
        Ok(Self {
            path: path.to_owned(),
            inputs: session.inputs().iter().map(Port::new).collect(),
            outputs: session.outputs().iter().map(Port::new).collect(),
            device: options.device.clone(),
            provider: name,
            session: Mutex::new(session),
            profile: Mutex::new(profile),
            placement: OnceLock::new(),
        })
    }

    /// Whether no run has shown yet that the device runs anything of it.
    pub(crate) fn is_unproved(&self) -> bool {
        self.provider.is_some() && self.placement.get().is_none()
    }

    /// Where it runs: on another device than the processor known after the first run.
    pub(crate) fn placement(&self) -> Placement {
        self.placement.get().cloned().unwrap_or_else(|| Placement {
            device: self.device.clone(),
            nodes: 0,
            on_cpu: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Runs the graph on `feeds`, one for each input in the graph's order, and gives back the outputs in `wanted`.
    ///
    /// # Errors
    ///
    /// [`Error::Graph`]; [`Error::NoDevice`] if the first run shows that nothing of it runs on the device.
    pub(crate) fn run(&self, feeds: Vec<Feed>, wanted: &[&str]) -> Result<Vec<ArrayD<f32>>> {
        let failed = |source| Error::Graph {
            path: self.path.clone(),
            action: "run",
            source,
        };
        let outputs = self.try_run(feeds, wanted).map_err(failed)?;
        if let Some(provider) = self.provider.filter(|_| self.is_unproved()) {
            let placement = self.ran_where(provider).map_err(failed)??;
            self.placement.get_or_init(|| placement);
        }
        Ok(outputs)
    }

    /// What ran where so far, by the profile that ONNX Runtime has written since the graph was opened.
    fn ran_where(&self, provider: &str) -> Result<Result<Placement>, Source> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = std::fs::read(session.end_profiling()?)?;
        // Its folder goes with it.
        self.profile
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        provider::placement(&profile, &self.device, &self.path, provider)
    }

    fn try_run(&self, feeds: Vec<Feed>, wanted: &[&str]) -> Result<Vec<ArrayD<f32>>, Source> {
        let inputs = self
            .inputs
            .iter()
            .zip(feeds)
            .map(|(port, feed)| feed.into_value(port));
        let inputs = inputs.collect::<Result<Vec<SessionInputValue<'_>>, Source>>()?;
        let select = wanted
            .iter()
            .fold(OutputSelector::no_default(), |select, &name| {
                select.with(name)
            });
        let options = RunOptions::new()?.with_outputs(select);

        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run_with_options(inputs.as_slice(), &options)?;
        let missing = |name: &str| format!("it gave no output {name}");
        wanted
            .iter()
            .map(|&name| floats(outputs.get(name).ok_or_else(|| missing(name))?))
            .collect()
    }
}

/// The size of an axis, where it is fixed. Exporters write 0 or less where it is not.
fn axis(size: i64) -> Option<usize> {
    usize::try_from(size).ok().filter(|&size| size > 0)
}

fn builder(runtime: &Runtime, options: &GraphOptions) -> Result<SessionBuilder, Source> {
    let plain = |error: ort::Error<_>| -> Source { error.to_string().into() };
    Session::builder(runtime.environment())?
        .with_intra_threads(options.threads)
        .map_err(plain)?
        .with_intra_op_spinning(options.spins)
        .map_err(plain)
}

fn commit(mut builder: SessionBuilder, path: &Path) -> Result<Session, Source> {
    builder.commit_from_file(path).map_err(Source::from)
}

/// A folder that no other user can read and that is gone in the end, whatever that is.
fn profile_folder() -> Result<TempDir> {
    let usual = tempfile::tempdir();
    let kept = |error| match cache::folder() {
        Some(folder) => {
            std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempdir_in(folder))
        }
        None => Err(error),
    };
    usual
        .or_else(kept)
        .map_err(Error::write(&std::env::temp_dir()))
}

/// With the provider registered, and a profile begun in `folder` that will show what it runs.
fn on_device(
    builder: SessionBuilder,
    provider: Provider,
    folder: &Path,
) -> Result<SessionBuilder, Source> {
    let plain = |error: ort::Error<_>| -> Source { error.to_string().into() };
    builder
        // DirectML cannot do with it, and elsewhere it is of use for fixed shapes alone.
        .with_memory_pattern(false)
        .map_err(plain)?
        .with_execution_providers([provider.dispatch])
        .map_err(plain)?
        .with_profiling(folder.join("profile"))
        .map_err(plain)
}

impl Feed {
    fn into_value(self, port: &Port) -> Result<SessionInputValue<'static>, Source> {
        let shape = self.shape;
        Ok(match (self.values, port.element) {
            (Values::Floats(values), TensorElementType::Float32) => {
                Tensor::from_array((shape, values))?.into()
            }
            (Values::Floats(values), TensorElementType::Float16) => {
                let halves: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
                Tensor::from_array((shape, halves))?.into()
            }
            (Values::Integers(values), TensorElementType::Int64) => {
                Tensor::from_array((shape, values))?.into()
            }
            (Values::Integers(values), TensorElementType::Int32) => {
                let narrow = values
                    .into_iter()
                    .map(i32::try_from)
                    .collect::<Result<Vec<i32>, _>>()?;
                Tensor::from_array((shape, narrow))?.into()
            }
            (_, element) => return Err(format!("input {} is of type {element}", port.name).into()),
        })
    }
}

fn floats(value: &DynValue) -> Result<ArrayD<f32>, Source> {
    let (shape, values) = if let Ok((shape, values)) = value.try_extract_tensor::<f32>() {
        (shape, values.to_vec())
    } else {
        let (shape, halves) = value.try_extract_tensor::<f16>()?;
        (shape, halves.iter().map(|half| half.to_f32()).collect())
    };
    let axes = shape
        .iter()
        .map(|&n| usize::try_from(n))
        .collect::<Result<Vec<usize>, _>>()?;
    Ok(ArrayD::from_shape_vec(IxDyn(&axes), values)?)
}
