//! What is the same for every model of a family and stands in none of its files: what training or the reference's code
//! fixes. A family is what `model_type` in `config.json` says, never a folder's name.

use super::json::Json;
use crate::error::Result;

/// How a family treats texts, where files are silent or state something else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TextRules {
    /// The context length where no file states one.
    pub(super) usual_context: Option<usize>,
    /// The longest context that the family was trained with, whatever its files state.
    pub(super) longest_context: Option<usize>,
    /// Whether texts are padded to the full context, and the padding is seen.
    pub(super) is_padded_full: bool,
}

const PLAIN: TextRules = TextRules {
    usual_context: None,
    longest_context: None,
    is_padded_full: false,
};

/// Trained on texts padded to 64 tokens. Configs leave the length out where it is `SiglipTextConfig`'s default, which is
/// also the `max_length` of transformers' processor and pipeline.
const SIGLIP: TextRules = TextRules {
    usual_context: Some(64),
    is_padded_full: true,
    ..PLAIN
};

const FAMILIES: [(&str, TextRules); 2] = [("siglip", SIGLIP), ("siglip2", SIGLIP)];

/// The family that a config names, "" where it names none.
pub(super) fn name(config: Option<&Json>) -> Result<String> {
    let name = config
        .map(|config| config.string("model_type"))
        .transpose()?;
    Ok(name.flatten().unwrap_or_default())
}

/// The rules of a family. A part of a model (`siglip_text_model`) has those of the whole.
pub(super) fn text_rules(family: &str) -> TextRules {
    let is_of = |name: &str| {
        family
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    FAMILIES
        .iter()
        .find(|(name, _)| is_of(name))
        .map_or(PLAIN, |(_, rules)| *rules)
}
