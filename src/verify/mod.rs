//! Whether a model is run as its reference runs it: a record of what one gives, and what differs from it and why.
//!
//! A [`Record`] holds what a model makes of pictures and texts that are part of this program: ids, pixels, rows, scale.
//! diptych makes one of a bundle, `onnx/reference.py` one of the Python model that the bundle was exported from.
//! [`compare`] says which stage first differs, and looks for the cause by trying what is usually done wrongly until the
//! record's own numbers come out. [`self_check`] does without a record.

mod causes;
mod compare;
mod probes;
mod record;

pub use causes::{Cause, CauseKind};
pub use compare::{Comparison, Stage, StageName, Verdict, compare};
pub use record::Record;
