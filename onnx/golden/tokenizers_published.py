"""Small tokenizers with the steps and the files of published ones: Gemma's, BERT's, XLM-RoBERTa's.

A vocabulary is made from made-up captions; what surrounds it is what the published `tokenizer.json` holds.
"""

import json
from collections import Counter
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tokenizers_small import proto, sentences, write_json

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


def gemma() -> Tokenizer:
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
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
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


BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Characters of the golden texts, besides those that stand in no vocabulary here.
BERT_CHARACTERS = "一隻貓在桌子上睡覺照片的狗猫机寝éßñüкошканстле"
BERT_WORDS = "photo of two dogs the in snow playing before after full width text caption very long describes market"


def bert(characters: str) -> Tokenizer:
    """BERT's WordPiece tokenizer.json in lower case, with a few words and the letters and `characters` one by one."""
    letters = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()] + list(dict.fromkeys(characters))
    endings = ["##" + letter for letter in letters if letter.isalnum()] + ["##s", "##ing", "##er", "##ed"]
    words = BERT_WORDS.split() + sorted({word for sentence in sentences()[:40] for word in sentence.split()})
    pieces = list(dict.fromkeys(BERT_SPECIAL + letters + endings + words))
    ids = {piece: id for id, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in BERT_SPECIAL])
    return tokenizer


def write_bert(folder: Path, length: int, characters: str = "") -> int:
    """BERT's tokenizer as published beside models of it, and the size of its vocabulary; `length` is what it states."""
    tokenizer = bert(characters)
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()), indent=None)
    tokens = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    tokens |= {"sep_token": "[SEP]", "unk_token": "[UNK]"}
    config = tokens | {
        "do_lower_case": True,
        "model_max_length": length,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
    }
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", tokens)
    return tokenizer.get_vocab_size()


XLMR_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def xlm_roberta(pieces: Path) -> Tokenizer:
    """XLM-RoBERTa's tokenizer.json from the pieces of a SentencePiece model: fairseq's ids first, <mask> last."""
    parsed = proto(pieces)
    own = [(piece.piece, piece.score) for piece in parsed.pieces if not piece.piece.startswith("<")]
    own = [(piece, score) for piece, score in own if piece != "</s>"]
    vocabulary = [(token, 0.0) for token in XLMR_SPECIAL] + own + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(parsed.normalizer_spec.precompiled_charsmap)
    blanks = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), blanks])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in XLMR_SPECIAL])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def write_xlm_roberta(pieces: Path, folder: Path, length: int) -> int:
    """XLM-RoBERTa's tokenizer as published beside models of it, and the size of its vocabulary."""
    tokenizer = xlm_roberta(pieces)
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()), indent=None)
    tokens = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}
    tokens |= {"pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    config = tokens | {"model_max_length": length, "tokenizer_class": "XLMRobertaTokenizer"}
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", tokens)
    return tokenizer.get_vocab_size()


def write_sentence(folder: Path, width: int, mode: str, length: int) -> None:
    """The configs of sentence-transformers before its version 5.4: a switch for each mode of pooling."""
    modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    switches = {f"pooling_mode_{name}": name.startswith(f"{mode}_tok") for name in modes}
    write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": width} | switches, indent=2)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    write_json(folder / "modules.json", modules, indent=2)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False}, indent=2)
