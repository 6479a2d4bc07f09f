"""What MediaPipe's ImageClassifier makes of pictures: a line of JSON, with its labels or with why it refuses the file.

    PYTHONPATH=. MP/bin/python tests/bench/mediapipe_outputs.py MODEL.tflite PICTURES.npy OUTPUTS.npy

mediapipe_check.py says what is installed in MP.
"""

import json
import sys
from pathlib import Path

import numpy as np
from mediapipe_check import MediaPipe


def run(model: str, pictures: str, outputs: str) -> dict:
    pixels = np.load(pictures)
    try:
        pipe = MediaPipe(Path(model).read_bytes())
        labels = [category.category_name for category in pipe.categories(pixels[0])]
    except (ValueError, RuntimeError) as error:
        return {"refused": str(error).splitlines()[0]}
    np.save(outputs, np.stack([pipe(picture) for picture in pixels]).astype(np.float32))
    return {"labels": labels}


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
