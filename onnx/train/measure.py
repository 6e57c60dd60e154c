"""Figures from rows: accuracy, confidence, calibration, recall, and what a threshold refuses."""

import re
from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15
REFUSED_AT_MOST = 0.05
SMALL_WORDS = {"a", "an", "and", "at", "for", "in", "of", "on", "or", "the", "to", "with"}


@dataclass
class Answers:
    """The first answers to a table of cosines, one answer a row."""

    first: np.ndarray
    cosine: np.ndarray
    probability: np.ndarray
    right: np.ndarray

    def figures(self) -> dict[str, float]:
        return {
            "accuracy": self.right.mean(),
            "confidence": self.probability.mean(),
            "ECE": calibration_error(self.probability, self.right),
        }


def class_matrix(rows: np.ndarray, templates: int) -> np.ndarray:
    """One unit row a label: of its texts' unit rows, `templates` a label, the mean brought to unit length."""
    return unit_rows(unit_rows(rows).reshape(-1, templates, rows.shape[1]).mean(1))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answers(cosines: np.ndarray, truth: np.ndarray, scale: float) -> Answers:
    """The best column of each row, with its share of the softmax; `truth` is the right one."""
    first = cosines.argmax(1)
    best = cosines.max(1)
    probability = 1 / np.exp(scale * (cosines.astype(np.float64) - best[:, None])).sum(1)
    return Answers(first, best, probability, first == truth)


def calibration_error(probability: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: in bins of equal width, how far confidence and accuracy are apart, by photos."""
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gap = np.bincount(bins, probability - right, CALIBRATION_BINS)
    return np.abs(gap).sum() / len(right)


def recalls(cosines: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Recall of text to photo: `owner` is the column that belongs to each row."""
    own = cosines[np.arange(len(cosines)), owner][:, None]
    ranks = (cosines > own).sum(1)
    return {f"R@{k}": (ranks < k).mean() for k in (1, 5, 10)}


def words(label: str) -> set[str]:
    """The words of a label, a plural being the same word, without those that any label may have."""
    found = re.findall(r"[^\W_]+", label.lower())
    return {word.removesuffix("s") for word in found if word not in SMALL_WORDS and len(word) > 1}


def shares_no_word(label: str, labels: list[str]) -> bool:
    return words(label).isdisjoint(set().union(*map(words, labels)))


def threshold_refusing(groups: list[np.ndarray], share: float = REFUSED_AT_MOST) -> float:
    """The cosine below which that share of the groups lies, whatever their sizes each group weighing the same."""
    cosines = np.concatenate(groups)
    weights = np.concatenate([np.full(len(group), 1 / len(group) / len(groups)) for group in groups])
    order = cosines.argsort()
    below = np.cumsum(weights[order]) - weights[order]
    return cosines[order][below <= share + 1e-9][-1]


def share_below(cosines: np.ndarray, threshold: float) -> float:
    return (cosines < threshold).mean()
