//! Whether a model is run as its reference runs it: a record of what one gives, and what differs from it and why.
//!
//! A [`Record`] holds what a model makes of pictures and texts that are part of this program: ids, pixels, rows, scale.
//! diptych makes one of a bundle, `onnx/reference.py` one of the Python model that the bundle was exported from.
//! [`compare`] says which stage first differs, and looks for the cause by trying what is usually done wrongly until the
//! record's own numbers come out. [`self_check`] does without a record.
//!
//! # Example
//!
//! ```
//! use diptych::DualEncoder;
//! use diptych::verify::{Record, compare};
//!
//! let encoder = DualEncoder::open("onnx/tiny")?;
//! let record = Record::of(&encoder)?;
//! let comparison = compare(&encoder, &record, 1e-5)?;
//! assert!(comparison.is_equal());
//! # Ok::<(), diptych::Error>(())
//! ```

mod causes;
mod checks;
mod compare;
mod cost;
mod probes;
mod record;

pub use causes::{Cause, CauseKind};
pub use checks::{Check, self_check};
pub use compare::{Comparison, Stage, StageName, Verdict, compare};
pub use cost::{Changed, Cosines, Cost, cost};
pub use record::Record;
