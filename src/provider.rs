//! From a device to ONNX Runtime's execution provider for it, and from a profile of a run to what really ran where.
//!
//! Each provider is compiled in with the cargo feature of its device's name. That it is compiled in says nothing about
//! the ONNX Runtime that was found, and that ONNX Runtime has it nothing about this machine, so each step has its own
//! error; none ends in a run on the processor that nobody asked for.

use std::fmt::Display;
use std::path::Path;

use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
use serde::Deserialize;

use crate::device::{Device, Placement};
use crate::error::{Error, Result, Source};
use crate::runtime::Runtime;

/// An execution provider with what belongs to it.
pub(crate) struct Provider {
    /// ONNX Runtime's name for it, such as "CUDAExecutionProvider".
    pub(crate) name: &'static str,
    /// What registers it with a session.
    pub(crate) dispatch: ExecutionProviderDispatch,
    is_in_runtime: bool,
}

/// The provider of `device`; none for the processor.
///
/// # Errors
///
/// [`Error::NoDevice`] if this program or `runtime` was built without it.
pub(crate) fn of(device: &Device, runtime: &Runtime) -> Result<Option<Provider>> {
    if *device == Device::Cpu {
        return Ok(None);
    }
    let missing = |problem: String, way_out: String| Error::NoDevice {
        device: device.to_string(),
        problem,
        way_out,
    };
    let name = device.name();
    let provider = compiled_in(device)?.ok_or_else(|| {
        missing(
            format!("this program was built without the feature {name}"),
            format!("build it with cargo install --path . --features {name}"),
        )
    })?;
    if !provider.is_in_runtime {
        let (version, path) = (&runtime.version, runtime.path.display());
        let problem = format!(
            "ONNX Runtime {version} in {path} was built without {}",
            provider.name
        );
        return Err(missing(problem, way_to_a_runtime(device)));
    }
    Ok(Some(provider))
}

/// Where a library with the device's provider is to be had.
fn way_to_a_runtime(device: &Device) -> String {
    let package = match device {
        Device::Cuda(_) | Device::TensorRt(_) => "onnxruntime-gpu",
        Device::OpenVino(_) => "onnxruntime-openvino",
        Device::DirectMl(_) => "onnxruntime-directml",
        Device::Rocm(_) => "onnxruntime-rocm",
        _ => {
            return "set ORT_DYLIB_PATH to a libonnxruntime that was built with it".to_owned();
        }
    };
    format!(
        "set ORT_DYLIB_PATH to a libonnxruntime that was built with it, such as the folder onnxruntime/capi of the \
         Python package {package}"
    )
}

#[allow(
    unreachable_patterns,
    clippy::unnecessary_wraps,
    reason = "the arms that are there depend on the features"
)]
fn compiled_in(device: &Device) -> Result<Option<Provider>> {
    Ok(Some(match device {
        // Numbers come first: with TF32 products of matrices lose 13 bits.
        #[cfg(feature = "cuda")]
        Device::Cuda(number) => provider(
            device,
            ort::ep::CUDA::default()
                .with_device_id(i32::from(*number))
                .with_tf32(false),
        )?,
        #[cfg(feature = "tensorrt")]
        Device::TensorRt(number) => provider(
            device,
            ort::ep::TensorRT::default().with_device_id(i32::from(*number)),
        )?,
        #[cfg(feature = "coreml")]
        Device::CoreMl => provider(device, ort::ep::CoreML::default())?,
        #[cfg(feature = "directml")]
        Device::DirectMl(number) => provider(
            device,
            ort::ep::DirectML::default().with_device_id(i32::from(*number)),
        )?,
        // It would compute in 16 bits on a GPU.
        #[cfg(feature = "openvino")]
        Device::OpenVino(part) => {
            let exact = ort::ep::OpenVINO::default().with_precision("ACCURACY");
            provider(
                device,
                match part {
                    Some(part) => exact.with_device_type(part),
                    None => exact,
                },
            )?
        }
        #[cfg(feature = "rocm")]
        Device::Rocm(number) => provider(
            device,
            ort::ep::ROCm::default().with_device_id(i32::from(*number)),
        )?,
        #[cfg(feature = "webgpu")]
        Device::WebGpu => provider(device, ort::ep::WebGPU::default())?,
        _ => return Ok(None),
    }))
}

#[allow(dead_code, reason = "nobody calls it where no feature is on")]
fn provider<E: ExecutionProvider + 'static>(device: &Device, provider: E) -> Result<Provider>
where
    ExecutionProviderDispatch: From<E>,
{
    let is_in_runtime = E::is_available().map_err(|source| lacking(device, source.to_string()))?;
    Ok(Provider {
        name: E::NAME,
        dispatch: ExecutionProviderDispatch::from(provider).error_on_failure(),
        is_in_runtime,
    })
}

/// That ONNX Runtime knows the device and cannot use it for the graph in `path`.
pub(crate) fn unusable(device: &Device, path: &Path, source: &dyn Display) -> Error {
    // Its messages go on for pages of where in its code they come from.
    const ENOUGH: usize = 300;
    let said = source.to_string();
    let first: String = said
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(ENOUGH)
        .collect();
    lacking(device, format!("{}: {first}", path.display()))
}

fn lacking(device: &Device, problem: String) -> Error {
    Error::NoDevice {
        device: device.to_string(),
        problem,
        way_out: "see that the machine has such a device, that its driver and libraries are installed and found, and that \
                  it can run this graph; --device cpu runs every graph"
            .to_owned(),
    }
}

/// One entry of ONNX Runtime's profile, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Arguments,
}

#[derive(Debug, Default, Deserialize)]
struct Arguments {
    provider: Option<String>,
}

/// What ran where, from the profile of one run.
///
/// # Errors
///
/// If `profile` is none; [`Error::NoDevice`] if not one node ran on the provider.
pub(crate) fn placement(
    profile: &[u8],
    device: &Device,
    path: &Path,
    provider: &str,
) -> Result<Result<Placement>, Source> {
    let events: Vec<Event> = serde_json::from_slice(profile)?;
    let ran: Vec<&str> = events
        .iter()
        .filter(|event| event.name.ends_with("_kernel_time"))
        .filter_map(|event| event.args.provider.as_deref())
        .collect();
    let on_device = ran.iter().filter(|&&name| name == provider).count();
    if on_device == 0 {
        let problem = format!("none of the graph's {} nodes ran on {provider}", ran.len());
        return Ok(Err(unusable(device, path, &problem)));
    }
    Ok(Ok(Placement {
        device: device.clone(),
        nodes: ran.len(),
        on_cpu: ran.len() - on_device,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"[
        {"cat": "Session", "name": "model_loading_uri", "dur": 3, "args": {}},
        {"cat": "Node", "name": "conv_kernel_time", "args": {"op_name": "Conv", "provider": "CUDAExecutionProvider"}},
        {"cat": "Node", "name": "conv_fence_before", "args": {"op_name": "Conv"}},
        {"cat": "Node", "name": "shape_kernel_time", "args": {"op_name": "Shape", "provider": "CPUExecutionProvider"}},
        {"cat": "Session", "name": "model_run", "args": {}}]"#;

    #[test]
    fn a_profile_says_what_ran_where() {
        let of = |provider| {
            placement(
                PROFILE.as_bytes(),
                &Device::Cuda(0),
                Path::new("a.onnx"),
                provider,
            )
            .unwrap()
        };
        let found = of("CUDAExecutionProvider").unwrap();
        assert_eq!((found.nodes, found.on_cpu), (2, 1));
        assert_eq!(found.to_string(), "cuda:0, 1 of its 2 nodes on cpu");
        let error = of("TensorrtExecutionProvider").unwrap_err().to_string();
        assert!(
            error.contains("none of the graph's 2 nodes ran on Tensorrt"),
            "{error}"
        );
        assert!(
            placement(
                b"[",
                &Device::Cuda(0),
                Path::new("a.onnx"),
                "CUDAExecutionProvider"
            )
            .is_err()
        );
    }
}
