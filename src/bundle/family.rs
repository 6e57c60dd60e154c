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
    /// Whether its graphs tell padding by its id, so that they need no mask.
    pub(super) hides_padding: bool,
    /// What stands before a text that looks for images, in families whose texts say what they are for.
    pub(super) prefix: &'static str,
    /// Whether the text tower's own pooled output is a text's row, as that of a BERT most often is not.
    pub(super) is_pooled: bool,
    /// Whether a text's values are brought to mean 0 and variance 1.
    pub(super) has_layer_norm: bool,
    /// The id that models whose texts see their padding were trained with, whatever tokenizer is published beside them.
    pub(super) trained_pad: Option<u32>,
}

const PLAIN: TextRules = TextRules {
    usual_context: None,
    longest_context: None,
    is_padded_full: false,
    hides_padding: false,
    prefix: "",
    is_pooled: false,
    has_layer_norm: false,
    trained_pad: None,
};

/// Most have a causal mask, and no padding is seen. The few without one, such as MobileCLIP, were trained by open_clip,
/// which pads with 0, while the tokenizer of transformers beside them names CLIP's end token.
const CLIP: TextRules = TextRules {
    is_pooled: true,
    trained_pad: Some(0),
    ..PLAIN
};

/// Trained on texts padded to 64 tokens. Configs leave the length out where it is `SiglipTextConfig`'s default, which is
/// also the `max_length` of transformers' processor and pipeline.
const SIGLIP: TextRules = TextRules {
    usual_context: Some(64),
    is_padded_full: true,
    is_pooled: true,
    ..PLAIN
};

/// CLIP's classes, of which none is without a causal mask.
const META_CLIP_2: TextRules = TextRules {
    is_pooled: true,
    ..PLAIN
};

/// Trained on 52 tokens, cn_clip's `context_length`. Config and tokenizer state the 512 of the BERT that training began
/// with, whose positions beyond 52 were never trained with images.
const CHINESE_CLIP: TextRules = TextRules {
    longest_context: Some(52),
    ..PLAIN
};

/// The `max_length` of `encode_text` in its own code, and the longest texts that it was trained on with images; its
/// tokenizer states 8194. The text tower's own code makes the mask, of all ids that are not the pad's.
const JINA_CLIP: TextRules = TextRules {
    longest_context: Some(512),
    hides_padding: true,
    ..PLAIN
};

/// What the card of `nomic-embed-vision-v1.5` does to texts, in code that is in no file. The first version (v1) was
/// trained without the norm, and its files say nothing else.
const NOMIC: TextRules = TextRules {
    prefix: "search_query: ",
    has_layer_norm: true,
    ..PLAIN
};

const FAMILIES: [(&str, TextRules); 7] = [
    ("clip", CLIP),
    ("metaclip_2", META_CLIP_2),
    ("siglip", SIGLIP),
    ("siglip2", SIGLIP),
    ("chinese_clip", CHINESE_CLIP),
    ("jina_clip", JINA_CLIP),
    ("nomic_bert", NOMIC),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_rules_of_the_whole() {
        assert_eq!(text_rules("siglip_text_model"), SIGLIP);
        assert_eq!(text_rules("siglip2"), SIGLIP);
        assert_eq!(text_rules("jina_clip_text"), JINA_CLIP);
        assert_eq!(text_rules("siglipper"), PLAIN);
        assert_eq!(text_rules("clip_text_model"), CLIP);
        assert_eq!(text_rules("clipseg"), PLAIN);
        assert_eq!(text_rules(""), PLAIN);
    }
}
