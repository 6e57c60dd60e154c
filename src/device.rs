//! The device that graphs run on, by its name. Nothing here knows ONNX Runtime.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What graphs run on, named as ONNX Runtime's execution providers are: `cpu`, `cuda`, `cuda:1`, `openvino:GPU`.
///
/// # Example
///
/// ```
/// use diptych::Device;
/// assert_eq!("cuda".parse::<Device>()?, Device::Cuda(0));
/// assert_eq!("cuda:1".parse::<Device>()?.to_string(), "cuda:1");
/// assert!("gpu".parse::<Device>().is_err());
/// # Ok::<(), diptych::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU by NVIDIA, by its number. Products of matrices keep all their bits: TF32 is off.
    Cuda(u16),
    /// A GPU by NVIDIA through TensorRT, which makes an engine for each shape that it meets: slow at first.
    TensorRt(u16),
    /// Apple's Core ML.
    CoreMl,
    /// A GPU on Windows, by its number.
    DirectMl(u16),
    /// Intel's OpenVINO, with the name that it has for a device, such as "CPU", "GPU.0" or "NPU"; its own choice
    /// without. It computes in the precision of the graph.
    OpenVino(Option<String>),
    /// A GPU by AMD, by its number.
    Rocm(u16),
    /// Any GPU through WebGPU.
    WebGpu,
}

impl Device {
    /// Every name that a device can have before the colon: also that of the cargo feature it needs.
    pub const NAMES: [&'static str; 8] = [
        "cpu", "cuda", "tensorrt", "coreml", "directml", "openvino", "rocm", "webgpu",
    ];

    /// The name before the colon.
    pub fn name(&self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
            Device::TensorRt(_) => "tensorrt",
            Device::CoreMl => "coreml",
            Device::DirectMl(_) => "directml",
            Device::OpenVino(_) => "openvino",
            Device::Rocm(_) => "rocm",
            Device::WebGpu => "webgpu",
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::UnknownDevice {
            found: text.to_owned(),
            known: &Self::NAMES,
        };
        let (name, part) = match text.split_once(':') {
            Some((name, part)) => (name, Some(part)),
            None => (text, None),
        };
        let number = || part.unwrap_or("0").parse().map_err(|_| unknown());
        let device = match name {
            "cuda" => Device::Cuda(number()?),
            "tensorrt" => Device::TensorRt(number()?),
            "directml" => Device::DirectMl(number()?),
            "rocm" => Device::Rocm(number()?),
            "openvino" if part != Some("") => Device::OpenVino(part.map(str::to_owned)),
            "cpu" if part.is_none() => Device::Cpu,
            "coreml" if part.is_none() => Device::CoreMl,
            "webgpu" if part.is_none() => Device::WebGpu,
            _ => return Err(unknown()),
        };
        Ok(device)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Device::Cuda(number)
            | Device::TensorRt(number)
            | Device::DirectMl(number)
            | Device::Rocm(number) => write!(f, ":{number}"),
            Device::OpenVino(Some(part)) => write!(f, ":{part}"),
            _ => Ok(()),
        }
    }
}

/// Where the nodes of a graph ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The device asked for, on which at least one node ran.
    pub device: Device,
    /// How many nodes ran in all. Some devices fuse many nodes of a graph into one.
    pub nodes: usize,
    /// How many of them ran on the processor instead, because the device does not know them or is worse at them.
    pub on_cpu: usize,
}

impl fmt::Display for Placement {
    /// Such as `cuda:0` or `cuda:0, 18 of its 430 nodes on cpu`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.device.fmt(f)?;
        match self.on_cpu {
            0 => Ok(()),
            on_cpu => write!(f, ", {on_cpu} of its {} nodes on cpu", self.nodes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in Device::NAMES {
            let device: Device = name.parse().unwrap();
            assert_eq!(device.name(), name);
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda:3".parse::<Device>().unwrap(), Device::Cuda(3));
        let gpu = Device::OpenVino(Some("GPU.1".to_owned()));
        assert_eq!("openvino:GPU.1".parse::<Device>().unwrap(), gpu);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for text in [
            "",
            "gpu",
            "CUDA",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cpu:0",
            "coreml:1",
            "openvino:",
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains("expected one of cpu, cuda"), "{error}");
        }
    }
}
