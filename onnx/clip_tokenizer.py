"""CLIP's tokenizer.json with another vocabulary of the same kind: 256 bytes, 256 bytes that end a word, one entry a
merge in order, then start and end token."""

import copy
import json
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"

PUBLISHED = Path(__file__).resolve().parents[1] / "tests/golden/clip-tokenizer"


def with_vocabulary(published: dict, vocabulary: dict[str, int], merges: list) -> dict:
    """A published tokenizer.json with these merges; `vocabulary` has all tokens but start and end, which follow."""
    whole = copy.deepcopy(published)
    ids = {START: len(vocabulary), END: len(vocabulary) + 1}
    whole["model"]["vocab"] = vocabulary | ids
    whole["model"]["merges"] = merges
    for token in whole["added_tokens"]:
        token["id"] = ids[token["content"]]
    whole["post_processor"]["sep"][1] = ids[END]
    whole["post_processor"]["cls"][1] = ids[START]
    return whole


def configs(published: Path, context_length: int, start: int) -> dict[str, dict]:
    """tokenizer_config.json and special_tokens_map.json for a context length and the id of the start token."""
    config = json.loads((published / "tokenizer_config.json").read_text())
    config["model_max_length"] = context_length
    old_ids = sorted(config["added_tokens_decoder"], key=int)
    tokens = [config["added_tokens_decoder"][old] for old in old_ids]
    config["added_tokens_decoder"] = {str(start): tokens[0], str(start + 1): tokens[1]}
    special = json.loads((published / "special_tokens_map.json").read_text())
    return {"tokenizer_config.json": config, "special_tokens_map.json": special}
