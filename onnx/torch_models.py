"""What the scripts share of transformers' and open_clip's models: rows, steps of transforms, export to ONNX."""

import shutil
from pathlib import Path

import onnx
import torch

OPSET = 17


def embeddings(output) -> torch.Tensor:
    """get_image_features and get_text_features give a tensor or, since transformers 5, an output that holds it."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


# The longest texts that a family was trained on, where its files state more: Chinese-CLIP's are the 512 of the BERT that
# its training began with, cn_clip's `context_length` is 52.
LONGEST_CONTEXT = {"chinese_clip": 52}


def context_length(config, tokenizer) -> int:
    """How many tokens a text of a model of transformers may have."""
    stated = [tokenizer.model_max_length, config.text_config.max_position_embeddings]
    return min([*stated, LONGEST_CONTEXT.get(config.model_type, stated[0])])


def geometry(transform) -> list:
    """The steps of open_clip's transform that come before a picture becomes RGB and then values."""
    from open_clip.transform import MaybeConvertMode

    steps = transform.transforms
    return steps[: next(place for place, step in enumerate(steps) if isinstance(step, MaybeConvertMode))]


class OpenClipTower(torch.nn.Module):
    """encode_image or encode_text of an open_clip model; immich's exports normalise inside the graph."""

    def __init__(self, encode, model, is_normalized: bool):
        super().__init__()
        self.model, self.encode, self.is_normalized = model, encode, is_normalized

    def forward(self, values):
        return self.encode(values, normalize=self.is_normalized)


def export(
    module,
    inputs: dict,
    outputs: list[str],
    path: Path,
    dynamic: dict,
    external: str | None = None,
    largest: int | None = None,
) -> None:
    """Writes the graph, with names, dynamic axes and no trace of the machine.

    Weights go into the file `external` beside it, or into one of its own name where they have more bytes than `largest`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes=dynamic,
        opset_version=OPSET,
        dynamo=False,
    )
    graph = onnx.load(path)
    for node in graph.graph.node:
        node.doc_string = ""
    weights = sum(len(weight.raw_data) for weight in graph.graph.initializer)
    if largest is not None and weights > largest:
        external = f"{path.name}_data"
    if external:
        onnx.save_model(graph, path, save_as_external_data=True, location=external, size_threshold=256)
        # Which onnx writes for its owner's eyes alone.
        shutil.copymode(path, path.with_name(external))
    else:
        onnx.save_model(graph, path)
    onnx.checker.check_model(str(path))
    assert graph.ir_version <= 9
