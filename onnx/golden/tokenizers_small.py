"""Small vocabularies: CLIP's cut to its first merges, and a SentencePiece one with SigLIP's chain of steps.

CLIP's vocabulary is 256 bytes, 256 bytes that end a word, one entry a merge in order, then start and end token. So the
first merges alone are a whole tokenizer of the same shape.
"""

import gzip
import json
import random
import string
import sys
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import words

sys.path.append(str(Path(__file__).resolve().parents[1]))
import clip_tokenizer  # noqa: E402

BYTES = 512
MERGES = 1000
CLIP_VOCABULARY = BYTES + MERGES + 2
CLIP_START, CLIP_END = BYTES + MERGES, BYTES + MERGES + 1
PIECES = 400


def write_json(path: Path, value, indent: int | None = 1) -> None:
    """JSON with a line end; without indent also without blanks."""
    separators = None if indent else (",", ":")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent, separators=separators) + "\n")


def cut_clip(published: Path) -> dict:
    """CLIP's published tokenizer.json with its first merges alone."""
    whole = json.loads(published.read_text())
    vocabulary = {token: id for token, id in whole["model"]["vocab"].items() if id < CLIP_START}
    return clip_tokenizer.with_vocabulary(whole, vocabulary, whole["model"]["merges"][:MERGES])


def write_clip(published: Path, folder: Path, context_length: int) -> None:
    """tokenizer.json, tokenizer_config.json and special_tokens_map.json as transformers publishes them for CLIP."""
    write_json(folder / "tokenizer.json", cut_clip(published / "tokenizer.json"), indent=None)
    for name, config in clip_tokenizer.configs(published, context_length, CLIP_START).items():
        write_json(folder / name, config)


def write_open_clip_merges(published: Path, path: Path) -> None:
    """The same merges in the form that open_clip's SimpleTokenizer reads."""
    merges = json.loads((published / "tokenizer.json").read_text())["model"]["merges"][:MERGES]
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def sentences() -> list[str]:
    """A few hundred plain captions to learn pieces from, in lower case and without punctuation as SigLIP sees them."""
    generator = random.Random(5)
    return [words.caption(generator) for _ in range(900)]


def character_rules() -> str:
    """A few of NFKC's rules in SentencePiece's form: full-width letters, ligatures, kinds of blanks, fractions."""
    rules = {chr(0xFF01 + number): chr(0x21 + number) for number in range(94)}
    rules |= {
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬀ": "ff",
        "½": "1/2",
        "²": "2",
        "\u3000": " ",
        "\u00a0": " ",
        "\t": " ",
    }
    rules |= {"\u200b": " ", "\ufeff": "", "\u0001": "", "℃": "°C", "№": "No"}
    return "\n".join(f"{code_points(source)}\t{code_points(target)}" for source, target in rules.items()) + "\n"


def code_points(text: str) -> str:
    return " ".join(f"{ord(letter):X}" for letter in text)


def train_pieces(scratch: Path) -> Path:
    """A unigram model with SigLIP's special ids: <pad> 0, </s> 1, <unk> 2."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "sentences.txt").write_text("\n".join(sentences()) + "\n")
    (scratch / "rules.tsv").write_text(character_rules())
    sentencepiece.SentencePieceTrainer.train(
        input=str(scratch / "sentences.txt"),
        model_prefix=str(scratch / "spiece"),
        normalization_rule_tsv=str(scratch / "rules.tsv"),
        vocab_size=PIECES,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return without_paths(scratch / "spiece.model")


def without_paths(model: Path) -> Path:
    """The trained model without the names of the files it was made in."""
    parsed = proto(model)
    parsed.trainer_spec.ClearField("input")
    parsed.trainer_spec.ClearField("model_prefix")
    parsed.normalizer_spec.ClearField("normalization_rule_tsv")
    model.write_bytes(parsed.SerializeToString(deterministic=True))
    return model


def proto(model: Path):
    """The parsed SentencePiece model."""
    from sentencepiece import sentencepiece_model_pb2

    parsed = sentencepiece_model_pb2.ModelProto()
    parsed.ParseFromString(model.read_bytes())
    return parsed


def vocabulary_size(model: Path) -> int:
    return len(proto(model).pieces)


def siglip_cleaning() -> list:
    """transformers' SiglipTokenizer.canonicalize_text as normalizers: lower, drop ASCII punctuation, single blanks."""
    punctuation = "[" + "".join("\\" + mark for mark in string.punctuation) + "]"
    return [
        normalizers.Lowercase(),
        normalizers.Replace(Regex(punctuation), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]


def unigram(model: Path, with_cleaning: bool) -> Tokenizer:
    """The tokenizer.json of a SentencePiece model, by the steps of transformers' converter for T5 and SigLIP."""
    parsed = proto(model)
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in parsed.pieces], 2))
    steps = siglip_cleaning() if with_cleaning else []
    steps += [
        normalizers.Precompiled(parsed.normalizer_spec.precompiled_charsmap),
        normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), "▁"),
    ]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken("</s>", rstrip=True), AddedToken("<unk>", rstrip=True)])
    return tokenizer


def siglip_config(context_length: int, tokenizer_class: str) -> dict:
    return {
        "tokenizer_class": tokenizer_class,
        "model_max_length": context_length,
        "eos_token": "</s>",
        "pad_token": "</s>",
        "unk_token": "<unk>",
        "do_lower_case": True,
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids"],
    }


def write_siglip(
    model: Path, folder: Path, context_length: int, with_pieces: bool, tokenizer_class: str, with_cleaning: bool
) -> None:
    """tokenizer.json, its configs and, where wanted, spiece.model, as published for SigLIP."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads(unigram(model, with_cleaning).to_str())
    write_json(folder / "tokenizer.json", tokenizer, indent=None)
    write_json(folder / "tokenizer_config.json", siglip_config(context_length, tokenizer_class))
    write_json(folder / "special_tokens_map.json", {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"})
    if with_pieces:
        (folder / "spiece.model").write_bytes(model.read_bytes())
