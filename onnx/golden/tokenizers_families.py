"""Small tokenizers of the families that open_clip takes from Hugging Face: BERT's, XLM-RoBERTa's, NLLB's, Gemma's.

Each is built by transformers' own class, from pieces that are written down here or learned by SentencePiece, and saved
by it: so the files have the form in which the class publishes them.
"""

import json
from pathlib import Path

import sentencepiece
from transformers import BertTokenizer, GemmaTokenizer, NllbTokenizer, XLMRobertaTokenizer
from transformers.convert_slow_tokenizer import SentencePieceExtractor, generate_merges

import tokenizers_small
import words
from tokenizers_small import write_json

# Sentences beside the English captions, so that other scripts have pieces too.
OTHER = """
ein Foto von einer Katze auf dem Tisch
zwei Hunde spielen im Schnee, von oben gesehen
une photo d'un chat sur la table
deux chiens jouent dans la neige
кошка спит на столе
собака бежит по снегу
一隻貓在桌子上睡覺
两只狗在雪地里玩
猫が机の上で寝ている
犬が雪の中で走る
책상 위의 고양이
قطة على الطاولة
""".strip().split("\n")
LANGUAGES = ["deu_Latn", "eng_Latn", "fra_Latn", "jpn_Jpan", "rus_Cyrl", "zho_Hans"]
PIECES = 320

ASCII = [chr(code) for code in range(0x21, 0x7F) if not chr(code).isupper()]
BERT_LETTERS = ASCII + list("äöüßéèñçабвгдежзиклмнопрстуфцчшыьяαβγδικλνοπρσςτυω") + list("一在子上貓猫机的睡雪の")
BERT_PARTS = "ing ed s es er ly tion ing ment al le ou th in an re on".split()


def write_bert(folder: Path, context_length: int) -> int:
    """bert-base-uncased in small: lower case, no accents, a piece for each Chinese character; the vocabulary's size."""
    known = words.THINGS + words.LOOKS + words.ACTIONS + " ".join(words.PLACES + words.FORMS).split()
    known = [word for word in known if word.isalpha()] + ["photo", "cat", "dogs", "caption", "describes", "playing"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + BERT_LETTERS + known
    pieces += ["##" + part for part in BERT_LETTERS + BERT_PARTS if part.isalnum()]
    vocabulary = {piece: position for position, piece in enumerate(dict.fromkeys(pieces))}
    save(BertTokenizer(vocab=vocabulary, model_max_length=context_length), folder)
    return len(vocabulary)


def write_xlm_roberta(folder: Path, scratch: Path, context_length: int) -> int:
    """xlm-roberta-base in small: Unigram; `<s>`, `<pad>`, `</s>`, `<unk>`, ..., `<mask>`; the vocabulary's size."""
    model = trained(scratch, "unigram", bos_id=1, eos_id=2, unk_id=0, pad_id=-1)
    proto = tokenizers_small.proto(model)
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece.piece, piece.score) for piece in proto.pieces[3:]] + [("<mask>", 0.0)]
    charsmap = proto.normalizer_spec.precompiled_charsmap
    tokenizer = XLMRobertaTokenizer(
        vocab=vocabulary, _spm_precompiled_charsmap=charsmap, model_max_length=context_length
    )
    save(tokenizer, folder)
    return len(vocabulary)


def write_nllb(folder: Path, scratch: Path, context_length: int, **options) -> int:
    """nllb-200 in small: BPE, languages behind the pieces, then `<mask>`; the vocabulary's size."""
    model = trained(scratch, "bpe", bos_id=1, eos_id=2, unk_id=0, pad_id=-1)
    proto = tokenizers_small.proto(model)
    pieces = ["<s>", "<pad>", "</s>", "<unk>"] + [piece.piece for piece in proto.pieces[3:]]
    vocabulary = {piece: position for position, piece in enumerate(pieces + LANGUAGES + ["<mask>"])}
    tokenizer = NllbTokenizer(
        vocab=vocabulary,
        merges=generate_merges({piece: position for position, piece in enumerate(pieces)}),
        _spm_precompiled_charsmap=proto.normalizer_spec.precompiled_charsmap,
        extra_special_tokens=LANGUAGES,
        model_max_length=context_length,
        **options,
    )
    save(tokenizer, folder)
    return len(vocabulary)


def write_gemma(folder: Path, scratch: Path, context_length: int) -> int:
    """SigLIP 2's in small: BPE that falls back to bytes, `<pad>` 0, `<eos>` 1, no `<bos>`; the vocabulary's size."""
    rules = {"normalization_rule_name": "identity", "add_dummy_prefix": False, "byte_fallback": True}
    rules |= {"remove_extra_whitespaces": False, "vocab_size": PIECES + 256}
    model = trained(scratch, "bpe", bos_id=2, eos_id=1, unk_id=3, pad_id=0, **rules)
    pieces = [piece.piece for piece in tokenizers_small.proto(model).pieces]
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + pieces[4:]
    vocabulary = {piece: position for position, piece in enumerate(pieces)}
    tokenizer = GemmaTokenizer(
        vocab=vocabulary,
        merges=generate_merges(vocabulary),
        padding_side="right",
        add_bos_token=False,
        add_eos_token=True,
        model_max_length=context_length,
    )
    save(tokenizer, folder)
    return len(vocabulary)


def trained(scratch: Path, kind: str, **settings) -> Path:
    """A SentencePiece model of the captions and the sentences in other languages."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "sentences.txt").write_text("\n".join(tokenizers_small.sentences()[:400] + OTHER * 12) + "\n")
    (scratch / "rules.tsv").write_text(tokenizers_small.character_rules())
    settings = {"vocab_size": PIECES, "character_coverage": 1.0} | settings
    if "normalization_rule_name" not in settings:
        settings["normalization_rule_tsv"] = str(scratch / "rules.tsv")
    sentencepiece.SentencePieceTrainer.train(
        input=str(scratch / "sentences.txt"),
        model_prefix=str(scratch / kind),
        model_type=kind,
        hard_vocab_limit=False if kind == "unigram" else True,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return scratch / f"{kind}.model"


def save(tokenizer, folder: Path) -> None:
    """tokenizer.json without blanks, tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer.json"
    write_json(path, json.loads(path.read_text()), indent=None)
