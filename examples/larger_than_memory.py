"""An image that need not fit into memory: read from disk and segmented by two processes with dask.

    python examples/larger_than_memory.py [FIGURE.png]

Needs `pip install "gpuseg[dask]"`. A bicrystal of three counts per pixel is written to files, opened as a
dask array and segmented block by block; the labels go to files again, and nobody ever has either of them in
memory as a whole. The figure shows every fourth pixel.
"""

import sys
import tempfile
from pathlib import Path

import dask.array
from dask.distributed import Client, LocalCluster
from matplotlib import pyplot
from sklearn.metrics import adjusted_rand_score

import gpuseg
from gpuseg import synthetic


def main(figure_file: str = "larger_than_memory.png") -> None:
    made = synthetic.bicrystal((1600, 1600), counts=3, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        dask.array.to_npy_stack(f"{folder}/image", dask.array.from_array(made.image, chunks=(400, -1)))
        # with GPUs: dask_cuda.LocalCUDACluster(), one worker for each
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers,
            Client(workers),
        ):
            image = dask.array.from_npy_stack(f"{folder}/image")  # or dask.array.from_zarr("image.zarr")
            segmentation = gpuseg.segment(image, n_patterns=2, random_state=0, max_memory="60MB")
            print(segmentation)
            dask.array.to_npy_stack(
                f"{folder}/labels", segmentation.labels
            )  # or labels.to_zarr("labels.zarr")
        labels = dask.array.from_npy_stack(f"{folder}/labels")
        overview, picture = labels[::4, ::4].compute(), image[::4, ::4].compute()
        n_files = len(list(Path(folder, "labels").glob("*.npy")))
    agreement = adjusted_rand_score(made.truth[::4, ::4].ravel(), overview.ravel())
    print(f"{n_files} files of labels; adjusted Rand index against the truth: {agreement:.4f}")

    figure, panels = pyplot.subplots(1, 2, figsize=(8, 4), layout="constrained")
    panels[0].imshow(picture, cmap="gray")
    panels[1].imshow(gpuseg.plot.overlay(picture, overview))
    for panel in panels:
        panel.set_axis_off()
    figure.savefig(figure_file, dpi=90)
    print(f"written: {figure_file}")


if __name__ == "__main__":  # worker processes import this file too
    main(*sys.argv[1:])
