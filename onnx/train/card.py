"""The tables of a model card, from the figures of evaluate.py."""

from pathlib import Path

BEGIN = "<!-- figures: begin -->"
END = "<!-- figures: end -->"
SHOWN_NAMES = {
    "fashion": "fashion, product types",
    "flickr8k": "flickr8k-test, first caption",
    "clip-vit-b32-flickr": "clip-vit-b32-flickr, as they are",
}


def replace(path: Path, figures: dict) -> None:
    """Put the tables between the marks of a file."""
    before, after = split(path)
    path.write_text(f"{before}{BEGIN}\n\n{tables(figures)}\n\n{END}{after}")


def split(path: Path) -> tuple[str, str]:
    """What stands before and after the marks."""
    text = path.read_text()
    lines = text.splitlines()
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or lines.index(BEGIN) > lines.index(END):
        raise SystemExit(f"{path}: expected one line {BEGIN} and after it one line {END}")
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def tables(figures: dict) -> str:
    parts = [classification(figures), prompts(figures), retrieval(figures), refusals(figures["none of these"])]
    return "\n\n".join(parts)


def classification(figures: dict) -> str:
    rows = figures["classification"]
    keys = ["photos", "labels", "accuracy", "confidence", "ECE"]
    heads = ["test file", *keys[:-1], "calibration error"]
    table = markdown(heads, [[shown(name), *(rows[name][key] for key in keys)] for name in by_size(rows)])
    used = f"{figures['program']}, {templates_shown(figures['templates'])}, scale {figures['scale']:g}:"
    return f"{used}\n\n{table}\n\n{means(figures)}\n\n{checks(figures['checked with classify'])}"


def means(figures: dict) -> str:
    found, files, main = figures["means"], len(figures["classification"]), ", ".join(figures["main sets"])
    large = next(key for key in found if key.startswith("ECE, files"))
    shown_means = {key: number(value) for key, value in found.items()}
    return (
        f"Mean accuracy: {shown_means['accuracy']} over the {files} files, "
        f"{shown_means['accuracy, main sets']} over the main sets ({main}).\n"
        f"Mean calibration error ({figures['calibration bins']} bins): "
        f"{shown_means[large]} over the {large.removeprefix('ECE, ')}, "
        f"{shown_means['ECE, main sets']} over the main sets, "
        f"{shown_means['ECE, main sets and retrieval']} over these and flickr8k's retrieval."
    )


def checks(checked: dict) -> str:
    """What `diptych classify` answered, as it is called without templates."""
    parts = []
    for name, row in checked.items():
        refused = f' and "none of these" for {row["none of these"]}' if row["none of these"] else ""
        parts.append(f"{row['the same answer']} of {row['photos']} photos of {name}{refused}")
    return f"`diptych classify` gives the first answer of this table for {', '.join(parts)}."


def prompts(figures: dict) -> str:
    rows, mean = figures["prompts"], figures["means"]
    columns = list(next(iter(rows.values())))
    lines = [[shown(name), *rows[name].values()] for name in by_size(figures["classification"])]
    lines.append(["**mean**", *(mean[f"accuracy, {column}"] for column in columns)])
    return markdown(["accuracy with", *columns], lines)


def retrieval(figures: dict) -> str:
    keys = ["photos", "captions", "R@1", "R@5", "R@10", "confidence", "ECE"]
    heads = ["text → photo", *keys[:-1], "calibration error"]
    return markdown(heads, [[shown(name), *(row[key] for key in keys)] for name, row in figures["retrieval"].items()])


def refusals(figures: dict) -> str:
    """What the model's threshold refuses, and the one that refuses 5 % of the right answers."""
    found, exact = figures["thresholds"], figures["thresholds"]["5 % refused"]
    refused = ("right refused", "foreign refused")
    heads = ["labels of", "right answers", "foreign photos"]
    heads += [f"{key} below {row['threshold']:g}" for row in found.values() for key in refused]
    lines = [
        [shown(name), sizes["right answers"], sizes["foreign photos"]]
        + [row["sets"][name][key] for row in found.values() for key in refused]
        for name, sizes in exact["sets"].items()
    ]
    lines.append(["**mean**", "", "", *(row["mean"][key] for row in found.values() for key in refused)])
    own = found.get("none_below")
    stated = f"The threshold used is {own['threshold']:g}." if own else "The model states no threshold."
    return (
        f"{markdown(heads, lines)}\n\n{stated} {exact['threshold']:g} is the cosine that refuses no more than 5 % "
        f"of the right answers of these samples (up to {figures['photos of a set at most']} photos of a set, each set "
        "weighing the same)."
    )


def by_size(classification: dict) -> list[str]:
    return sorted(classification, key=lambda name: -classification[name]["photos"])


def templates_shown(templates: list[str]) -> str:
    return f'"{templates[0]}"' if len(templates) == 1 else f"the model's {len(templates)} templates"


def shown(name: str) -> str:
    return SHOWN_NAMES.get(name, name)


def number(value: float | int | str) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown(heads: list[str], rows: list[list]) -> str:
    lines = [heads, ["---"] * len(heads), *([number(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
