"""motif-learn on one image; runs in its own environment, and imports nothing of gpuseg. See zernike.py.

``python motif_worker.py IMAGE.npy '{"size": 41, "orders": 10, "folds": [2, 3], "n_planes": 10}'`` prints the
seconds of its stages as JSON. Only the public interface is used.
"""

import json
import sys
import time

import numpy as np
from mtflearn import ZPs


def stages(image, request):
    """Seconds of the moments of every patch, the maps of the folds, and the mirror map of the axes."""
    clock = [time.perf_counter()]
    moments = ZPs(n_max=request["orders"], size=request["size"]).fit_transform(image)
    clock.append(time.perf_counter())
    moments.rot_maps(request["folds"])
    clock.append(time.perf_counter())
    moments.mirror_map(np.pi / request["n_planes"] * np.arange(request["n_planes"]))
    clock.append(time.perf_counter())
    return dict(zip(("moments", "rotation", "mirror"), np.diff(clock).tolist(), strict=True))


if __name__ == "__main__":
    picture, wanted = np.load(sys.argv[1]), json.loads(sys.argv[2])
    stages(picture[:64, :64], wanted)  # imports and compiles whatever it does
    print(json.dumps(stages(picture, wanted)))
