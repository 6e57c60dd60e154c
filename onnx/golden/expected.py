"""Writes tests/golden/expected/: what each reference makes of every picture and text, checked against the graphs."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import torch

import reference
from bundle import Bundle
from tokenizers_small import write_json


def ran(path: Path, inputs: dict[str, np.ndarray], output: str) -> np.ndarray:
    """One output of a graph, with inputs cast to what it takes; a graph of batch one runs row by row."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options)
    types = {
        "tensor(float16)": np.float16,
        "tensor(float)": np.float32,
        "tensor(int32)": np.int32,
        "tensor(int64)": np.int64,
    }
    ports = session.get_inputs()
    values = {port.name: inputs[port.name].astype(types[port.type]) for port in ports}
    if ports[0].shape[0] != 1:
        return session.run([output], values)[0].astype(np.float32)
    rows = [
        session.run([output], {name: value[row : row + 1] for name, value in values.items()})[0]
        for row in range(len(next(iter(values.values()))))
    ]
    return np.concatenate(rows).astype(np.float32)


def check_equal(name: str, expected: np.ndarray, rows: np.ndarray, min_cosine: float) -> None:
    """The graph's rows point where the reference's do."""
    cosines = (expected * reference.unit(torch.from_numpy(rows))).sum(1)
    assert cosines.min() >= min_cosine, f"{name}: the graph is off, cosine {cosines.min()}"


def check_differ(name: str, rows: np.ndarray, inputs: np.ndarray) -> None:
    """Rows of different inputs differ, or the tests could not fail."""
    different = np.unique(inputs.reshape(len(inputs), -1), axis=0, return_index=True)[1]
    rows = rows[different]
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    print(f"  {name}: {len(rows)} different inputs, mean cosine {cosines.mean():.3f}, highest {cosines.max():.5f}")
    assert cosines.mean() < 0.9, f"{name}: rows are too much alike"


def refused(bundle: Bundle, pictures: list) -> list[int]:
    """Positions of pictures that the reference itself fails on: open_clip's `longest` rounds thin ones to no width."""
    if not hasattr(bundle.images, "pixels"):
        return []
    found = []
    for position, picture in enumerate(pictures):
        try:
            bundle.images.pixels(picture)
        except ValueError as error:
            assert "must be > 0" in str(error)
            found.append(position)
    return found


def with_gaps(part: np.ndarray, positions: list[int], count: int) -> np.ndarray:
    """Rows of `part` at `positions` of `count` rows, zeros elsewhere."""
    whole = np.zeros((count, *part.shape[1:]), part.dtype)
    whole[positions] = part
    return whole


def image_rows(bundle: Bundle, folder: Path, pictures: list, into: Path) -> np.ndarray:
    """pixels.npy and image_rows.npy; zeros for pictures that the reference refuses.

    values.npy in place of pixels.npy where the reference makes no levels; rows_KIND.npy for each kind of row.
    """
    bundle.refused = refused(bundle, pictures)
    taken = [position for position in range(len(pictures)) if position not in bundle.refused]
    values = np.stack([bundle.images.values(pictures[position]) for position in taken]).astype(np.float32)
    has_levels = hasattr(bundle.images, "pixels")
    pixels = np.stack([bundle.images.pixels(pictures[position]) for position in taken]) if has_levels else values
    rows = reference.unit(bundle.encode_images(torch.from_numpy(values)))
    check_differ(f"{bundle.name} images", rows, pixels)
    inputs = {name: values for name in ("pixel_values", "image")}
    if bundle.layout == 4:
        inputs |= {"input_ids": np.full((1, 3), 1), "attention_mask": np.ones((1, 3))}
    if bundle.kinds:
        kinds(bundle, folder, values, into)
    else:
        output = ran(folder / bundle.image_graph, inputs, bundle.image_output)
        output = bundle.pool_images(torch.from_numpy(output)).numpy() if bundle.pool_images else output
        check_equal(bundle.name, rows, output, bundle.min_cosine)
    rows = with_gaps(rows, taken, len(pictures))
    np.save(into / ("pixels.npy" if has_levels else "values.npy"), with_gaps(pixels, taken, len(pictures)))
    np.save(into / "image_rows.npy", rows)
    return rows


def kinds(bundle: Bundle, folder: Path, values: np.ndarray, into: Path) -> None:
    """rows_KIND.npy for each kind of row, of an image tower whose outputs bear transformers' names."""
    hidden = ran(folder / bundle.image_graph, {"pixel_values": values}, "last_hidden_state")
    for kind, encode in bundle.kinds.items():
        rows = reference.unit(encode(torch.from_numpy(values)))
        one = rows.reshape(len(rows), -1) / np.sqrt(1 if rows.ndim == 2 else rows.shape[1])
        check_differ(f"{bundle.name} {kind}", one, values)
        np.save(into / f"rows_{kind}.npy", rows)
    patches = reference.unit(bundle.kinds["patches"](torch.from_numpy(values)))
    width = patches.shape[-1]
    of_graph = hidden[:, -patches.shape[1] :].reshape(-1, width)
    check_equal(bundle.name, patches.reshape(-1, width), of_graph, bundle.min_cosine)


def text_rows(bundle: Bundle, folder: Path, texts: list[str], side: int, into: Path) -> np.ndarray:
    """ids.npy, mask.npy where the graph takes one, and text_rows.npy."""
    ids, mask = bundle.texts.ids_and_mask(texts)
    tensors = [torch.from_numpy(ids), None if mask is None else torch.from_numpy(mask)]
    if bundle.is_unpadded:
        lone = [(tensors[0][[row]][:, : mask[row].sum()], None) for row in range(len(ids))]
        rows = reference.unit(torch.cat([bundle.encode_texts(*tensors) for tensors in lone]))
        graph = [ran(folder / bundle.text_graph, {"input_ids": tokens.numpy()}, bundle.text_output) for tokens, _ in lone]
        check_equal(bundle.name, rows, np.concatenate(graph), bundle.min_cosine)
        np.save(into / "ids.npy", ids)
        np.save(into / "text_rows.npy", rows)
        return rows
    rows = reference.unit(bundle.encode_texts(*tensors))
    check_differ(f"{bundle.name} texts", rows, ids)
    inputs = {"input_ids": ids, "text": ids, "token_type_ids": np.zeros_like(ids)}
    inputs |= {} if mask is None else {"attention_mask": mask}
    if bundle.layout == 4:
        inputs["pixel_values"] = np.zeros((1, 3, side, side))
    output = ran(folder / bundle.text_graph, inputs, bundle.text_output)
    output = bundle.pool_texts(torch.from_numpy(output), tensors[1]).numpy() if bundle.pool_texts else output
    check_equal(bundle.name, rows, output, bundle.min_cosine)
    np.save(into / "ids.npy", ids)
    takes_mask = "attention_mask" in [
        port.name for port in onnxruntime.InferenceSession(str(folder / bundle.text_graph)).get_inputs()
    ]
    if takes_mask:
        np.save(into / "mask.npy", mask)
    np.save(into / "text_rows.npy", rows)
    return rows


def logits(bundle: Bundle, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """scale × cosine + bias, images × texts."""
    cosines = images.astype(np.float64) @ texts.astype(np.float64).T
    return (bundle.scale * cosines + bundle.bias).astype(np.float32)


@torch.no_grad()
def write(bundle: Bundle, golden: Path, pictures: list, texts: list[str]) -> None:
    """The expected values of one bundle."""
    folder, into = golden / "bundles" / bundle.name, golden / "expected" / bundle.name
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    images = image_rows(bundle, folder, pictures, into) if bundle.images else None
    side = np.load(into / "pixels.npy", mmap_mode="r").shape[1] if images is not None and bundle.texts else 0
    rows = text_rows(bundle, folder, texts, side, into) if bundle.texts else None
    if images is not None and rows is not None and bundle.scale is not None:
        np.save(into / "logits.npy", logits(bundle, images, rows))


def write_all(golden: Path, bundles: list[Bundle]) -> None:
    """The expected values of all bundles and their list."""
    listing = json.loads((golden / "images.json").read_text())
    pictures = [reference.open_rgb(golden / "images" / entry["file"]) for entry in listing]
    texts = [entry["text"] for entry in json.loads((golden / "texts.json").read_text())]
    for bundle in bundles:
        write(bundle, golden, pictures, texts)
    write_json(golden / "expected/bundles.json", [entry(bundle, listing) for bundle in bundles])


def entry(bundle: Bundle, listing: list[dict]) -> dict:
    """A bundle's line in bundles.json."""
    return {
        "bundle": bundle.name,
        "layout": bundle.layout,
        "images": bundle.images is not None,
        "texts": bundle.texts is not None,
        "scale": bundle.scale,
        "bias": bundle.bias,
        "activation": bundle.activation,
        "min_cosine": bundle.min_cosine,
        "refused_images": [listing[position]["file"] for position in bundle.refused],
        "note": bundle.note,
    } | ({"rows": list(bundle.kinds)} if bundle.kinds else {})
