"""Makes the files beside this one, as clip-retrieval's writer does: np.save of float16, DataFrame.to_parquet."""

from pathlib import Path

import numpy as np
import pandas as pd

folder = Path(__file__).parent
random = np.random.default_rng(7)


def rows():
    values = random.standard_normal((3, 24))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


np.save(folder / "img_emb" / "img_emb_0.npy", rows())
np.save(folder / "text_emb" / "text_emb_0.npy", rows())
pd.DataFrame(
    {
        "image_path": ["/photos/ü/katze.jpg", "/photos/a b.jpg", "/photos/dog.png"],
        "caption": ["eine Katze", "two letters", "a dog"],
        "width": [640, None, 320],
        "tags": [["cat"], [], ["dog", "pet"]],
    }
).to_parquet(folder / "metadata" / "metadata_0.parquet")
