"""Small tokenizers with the steps and the files of published ones: Gemma's, BERT's, XLM-RoBERTa's.

A vocabulary is made from made-up captions; what surrounds it is what the published `tokenizer.json` holds.
"""

import json
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import tokenizers_small as vocabularies
from tokenizers_small import sentences, write_json

# Gemma's first ids.
GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
GEMMA_MERGES = 300


def merged(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The pieces of a word after one merge."""
    pieces, at = [], 0
    while at < len(word):
        is_pair = word[at : at + 2] == pair
        pieces.append("".join(pair) if is_pair else word[at])
        at += 2 if is_pair else 1
    return tuple(pieces)


def merges_of(words: Counter, count: int) -> list[tuple[str, str]]:
    """The first `count` merges of byte-pair encoding; of equally frequent pairs the first by alphabet."""
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({merged(word, best): times for word, times in words.items()})
    return merges


def gemma(lower: bool = False) -> Tokenizer:
    """Gemma's tokenizer.json with few merges: byte fallback, blanks as U+2581, an end token alone.

    The letters A to Z are pieces of their own, so that lower-casing changes ids.
    """
    # A word's blank is a piece of it, as in the published merges.
    words = Counter(tuple("▁" + word) for sentence in sentences() for word in sentence.split())
    merges = merges_of(words, GEMMA_MERGES)
    letters = sorted({letter for word in words for letter in word} | {chr(code) for code in range(0x21, 0x7F)})
    pieces = GEMMA_SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + ["".join(pair) for pair in merges]
    pieces += [letter for letter in letters if letter not in pieces]
    ids = {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    blanks = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), blanks]) if lower else blanks
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B:1 <eos>:1", special_tokens=[("<eos>", 1)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in GEMMA_SPECIAL])
    return tokenizer


def write_gemma(folder: Path, tokenizer_class: str) -> int:
    """Gemma's tokenizer as SigLIP 2's bundles hold it, and the size of its vocabulary.

    tokenizer.json does not lower-case, whatever the class does; no length is stated.
    """
    tokenizer = gemma()
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()), indent=None)
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = tokens | {
        "add_bos_token": False,
        "add_eos_token": True,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": True,
        "model_input_names": ["input_ids"],
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "right",
        "processor_class": "SiglipProcessor",
        "tokenizer_class": tokenizer_class,
    }
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", tokens)
    return tokenizer.get_vocab_size()
