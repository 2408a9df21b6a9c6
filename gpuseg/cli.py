"""The command `gpuseg`: thin functions that read, call the library, and write.

Everything heavy is imported inside the functions, so that `gpuseg --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuseg.cli_values import Components, FrameNumbers, NumberOrAuto, Radius

if TYPE_CHECKING:
    from gpuseg.io import Image
    from gpuseg.segmentation import Segmentation

__all__ = ["main"]

BAD_INPUT, INTERRUPTED, BUG = 2, 130, 1

# Seconds after which work is long enough for a progress display.
PATIENCE = 1.0

FLAGS_SHOWN = 10

DEMO_FOLDER = "gpuseg-demo"
DEMO_SOURCE = "gpuseg demo"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    args : sequence of str, optional
        Such as ``["segment", "image.dm3", "-o", "out"]``; those of the process if None.

    Returns
    -------
    int
        Exit code: 0 = done, 2 = bad input or no such device (one line on stderr says what), 130 = stopped by
        Ctrl-C, 1 = anything else.
    """
    verbosity = _Verbosity()
    try:
        with verbosity.listening():
            result = cli.main(args=args, prog_name="gpuseg", standalone_mode=False, obj=verbosity)
        return result if isinstance(result, int) else 0
    except (click.Abort, KeyboardInterrupt):
        click.echo("gpuseg: stopped", err=True)
        return INTERRUPTED
    except Exception as error:
        code, message = _explain(error)
        if verbosity.level >= 2:
            traceback.print_exception(error)
        click.echo("gpuseg: " + " ".join(message.split()), err=True)
        return code


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of what went wrong."""
    from gpuseg.arrays import DeviceError

    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "gpuseg"
        return BAD_INPUT, f"{error.format_message()} (see {command} --help)"
    if isinstance(error, click.ClickException):
        return BAD_INPUT, error.format_message()
    if isinstance(error, (ValueError, TypeError, OSError, DeviceError)):
        return BAD_INPUT, str(error)
    if isinstance(error, MemoryError):
        return BUG, f"out of memory: {error}; average pixels (--bin) or score less (--max-num-points)"
    return BUG, f"unexpected {type(error).__name__}: {error}; -vv shows where, please report it"


class _Verbosity:
    """How much to tell: -1 = errors only, 0 = results, 1 = what happens, 2 = everything and tracebacks."""

    def __init__(self) -> None:
        self.level = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Send the library's log to stderr while a command runs."""
        log, root = logging.getLogger("gpuseg"), logging.getLogger()
        handler, silence = logging.StreamHandler(), logging.NullHandler()
        handler.setFormatter(logging.Formatter("gpuseg: %(message)s"))
        handler.addFilter(self.tells)
        before = log.level
        log.setLevel(logging.DEBUG)
        log.addHandler(handler)
        root.addHandler(silence)  # other libraries' warnings about odd files go nowhere
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            log.setLevel(before)
            log.removeHandler(handler)
            root.removeHandler(silence)

    def tells(self, record: logging.LogRecord) -> bool:
        """Whether a log line is shown. The first call ever takes seconds: why is said even without -v."""
        levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
        compiles = record.levelno >= logging.INFO and "compil" in record.getMessage()
        return record.levelno >= levels.get(self.level, logging.DEBUG) or (compiles and self.level >= 0)

    def say(self, text: str = "") -> None:
        """Print a result, unless -q."""
        if self.level >= 0:
            click.echo(text)


# --- kinds of option values ---------------------------------------------------------------------------------


PATH = click.Path(path_type=Path)


def _option(*names: str, **attributes: Any) -> Callable[..., Any]:
    """An option that shows its default."""
    return click.option(*names, **{"show_default": attributes.get("default") is not None, **attributes})


def _together(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator; --help lists them in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _louder(ctx: click.Context, param: click.Parameter, count: int) -> None:
    ctx.ensure_object(_Verbosity).level += count


def _quieter(ctx: click.Context, param: click.Parameter, quiet: bool) -> None:
    ctx.ensure_object(_Verbosity).level -= quiet


_silent = {"expose_value": False, "show_default": False}
verbosity_options = _together(
    _option(
        "-v", "--verbose", count=True, callback=_louder, help="Say more; -vv with tracebacks.", **_silent
    ),
    _option("-q", "--quiet", is_flag=True, callback=_quieter, help="Print errors only.", **_silent),
)
reading_options = _together(
    _option("--dataset", metavar="NAME", help="Name or number of the data set in a file with several."),
    _option("--frame", type=int, help="Frame of a stack, from 0."),
    _option("--bin", "bin_factor", default=1, help="Average this many pixels in both directions first."),
)
DESCRIPTOR_PARAMETERS = (
    "patch_radius", "window_radius", "radius", "pooling_radius", "max_num_points", "method", "border",
)  # fmt: skip

# Without defaults of their own: what is not given is the library's affair.
descriptor_options = _together(
    _option(
        "--descriptor",
        metavar="NAME",
        multiple=True,
        help="Name of the descriptor; several are fused.  [local-correlation-map]",
    ),
    _option("--patch-radius", type=Radius(), help="Half size of the compared patches, or auto.  [20]"),
    _option("--window-radius", type=Radius(), help="Half size of the window, or auto.  [20; patches 8]"),
    _option("--radius", type=NumberOrAuto(), help="Of the circular patches of a symmetry, or auto.  [20]"),
    _option("--pooling-radius", type=Radius(), help="Half size of its pooling window, or auto.  [20]"),
    _option("--max-num-points", type=int, help="Most translations in the window.  [100]"),
    _option("--method", metavar="NAME", help="auto, direct, fft or box: the same scores.  [auto]"),
    _option("--border", metavar="NAME", help="full, or valid: only where all lies inside.  [full]"),
    _option("--stride", type=NumberOrAuto(), default=5, help="Distance of the scored pixels, or auto."),
)
pipeline_options = _together(
    _option("--n-components", type=Components(), default=5, help="PCA: how many, or variance such as 0.9."),
    _option("--no-upsampling", is_flag=True, help="One label per scored pixel instead of every pixel."),
    _option("--random-state", type=int, help="The same number gives the same labels."),
    _option("--mask", type=PATH, help="Image of the same size; only where it is not 0."),
)
output_option = _option("-o", "--output", type=PATH, help="Folder of the result.  [IMAGE-gpuseg]")
device_option = _option("--device", default="auto", help="auto, cpu, cuda, or cuda:1 for the second GPU.")
memory_option = _option("--max-memory", metavar="SIZE", help="Such as 2GB.  [half of what is free]")
force_option = _option("--force", is_flag=True, help="Overwrite an existing result.")


def _examples(*lines: str) -> str:
    """The end of a --help; the mark at the start keeps click from joining the lines."""
    return "\b\n" + "\n".join(["Examples:", *("  " + line for line in lines)])


@click.group(
    invoke_without_command=True,
    epilog=_examples(
        "gpuseg demo                          try it on a made image with known truth",
        "gpuseg segment image.dm3 -n 2 -o out/",
        "gpuseg series movie.tif -n 2 -o out/ every frame, with patterns learnt from the first",
        "gpuseg suggest image.dm3             which sizes and how many patterns suit it, and why",
        "gpuseg measure out/                  regions, boundaries, defects, motion, as CSV",
        "gpuseg info image.dm3                size, calibration and cost, without computing",
        "gpuseg devices                       which GPU would be used, or why none",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="gpuseg", message="gpuseg %(version)s")
@verbosity_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Segment atomic-resolution microscopy images by their local symmetry."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


# --- segment ------------------------------------------------------------------------------------------------


@cli.command(
    epilog=_examples(
        "gpuseg segment image.dm3 -n 2 -o out/",
        "gpuseg segment film.jpg -n 3 --bin 3 -o out/ --force",
        "gpuseg segment laths.npy -n 3 --descriptor power-spectrum --descriptor local-correlation-map",
        "gpuseg segment movie.tif --frame 12 --window-radius 30 --max-num-points 400",
        'gpuseg segment scan.sxm --dataset "Z forward" --mask good.png --device cuda',
    )
)
@click.argument("image", type=PATH)
@_option("-n", "--n-patterns", type=NumberOrAuto(), default=2, help="Kinds of regions to find, or auto.")
@output_option
@descriptor_options
@pipeline_options
@device_option
@memory_option
@reading_options
@force_option
@verbosity_options
@click.pass_obj
def segment(
    verbosity: _Verbosity, image: Path, output: Path | None, mask: Path | None, dataset: str | None,
    frame: int | None, bin_factor: int, force: bool, no_upsampling: bool, **options: Any,
) -> None:  # fmt: skip
    """Segment IMAGE and write labels.tif, certainty.tif, overlay.png, model.npz and summary.json.

    In labels.tif 0 is masked, 1 the smallest pattern, 2 the next, and so on. summary.json says how the result
    was made and how large each pattern is.
    """
    import gpuseg
    from gpuseg.io import save_segmentation

    folder = output or Path(f"{image.stem}-gpuseg")
    _check_free(folder, force)
    picture, valid = _read(image, mask, dataset, frame, bin_factor)
    with _progress(f"segmenting {picture.name}", verbosity):
        segmentation = gpuseg.segment(
            picture.data, mask=valid, upsampling=not no_upsampling, **_with_descriptor(options)
        )
    calibration: dict[str, Any] = {"pixel_size": picture.pixel_size, "unit": picture.unit}
    source = {**picture.metadata, **({} if mask is None else {"mask": str(mask)})}
    save_segmentation(segmentation, folder, **calibration, force=force, source=source)
    verbosity.say(f"{picture.name}: {_describe(picture)}")
    _report(verbosity, segmentation, folder)


def _check_free(folder: Path, force: bool) -> None:
    """Refuse before the work, not after it."""
    from gpuseg.io import existing_results

    existing = existing_results(folder)
    if existing and not force:
        raise FileExistsError(
            f"'{folder}' already holds {', '.join(existing)}; use --force or another folder (-o)"
        )


def _read(
    path: Path, mask: Path | None, dataset: str | None, frame: int | None, bin_factor: int
) -> tuple[Image, Any]:
    """The image and, if there is a mask, which of its pixels are used; both binned."""
    from gpuseg.io import read_image

    picture = read_image(path, dataset=dataset, frame=frame)
    if mask is None:
        return picture.binned(bin_factor), None
    valid = read_image(mask)
    if valid.data.shape != picture.data.shape:
        raise ValueError(
            f"`mask` '{mask}' has shape {valid.data.shape}, the image {picture.data.shape}; "
            "the same shape is wanted"
        )
    # A binned pixel is used only if all pixels in it are.
    used = replace(valid, data=valid.data != 0).binned(bin_factor)
    return picture.binned(bin_factor), used.data == 1


def _with_descriptor(options: dict[str, Any]) -> dict[str, Any]:
    """The options, those of the descriptor made into one; what was not given is the library's default."""
    from gpuseg.descriptors import as_descriptor

    given = {name: options[name] for name in DESCRIPTOR_PARAMETERS if options[name] is not None}
    rest = {name: value for name, value in options.items() if name not in DESCRIPTOR_PARAMETERS}
    names = options["descriptor"] or ("local-correlation-map",)
    chosen = [as_descriptor(name) for name in names]
    for name in given:
        if not any(hasattr(each, name) for each in chosen):
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} cannot go with --descriptor {', '.join(names)}, which has none")
    made = [
        replace(each, **{name: value for name, value in given.items() if hasattr(each, name)})
        for each in chosen
    ]
    return {**rest, "descriptor": made[0] if len(made) == 1 else made}


def _describe(picture: Image) -> str:
    height, width = picture.data.shape
    size = "size of a pixel not known"
    if picture.pixel_size is not None:
        size = f"{picture.pixel_size:.6g} {picture.unit} per pixel"
    return f"{height} x {width} px, {picture.data.dtype}, {size}"


def _report(verbosity: _Verbosity, segmentation: Segmentation, folder: Path) -> None:
    from gpuseg.io import RESULT_FILES

    if segmentation.evidence is not None:
        verbosity.say(segmentation.evidence.reason)
    areas = ", ".join(f"{k}: {share:.1%}" for k, share in enumerate(segmentation.area_fractions))
    verbosity.say(f"patterns by area: {areas}")
    verbosity.say(f"device {segmentation.device}; {_seconds(segmentation.timings)}")
    verbosity.say(f"written to {folder}{os.sep}: {', '.join(RESULT_FILES)}")


def _seconds(timings: dict[str, float]) -> str:
    stages = {stage: seconds for stage, seconds in timings.items() if stage != "total"}
    total = timings.get("total", sum(stages.values()))
    return f"{total:.2f} s (" + ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in stages.items()) + ")"


@contextmanager
def _progress(text: str, verbosity: _Verbosity) -> Iterator[None]:
    """Show on a terminal that work goes on and for how long, if it lasts over a second."""
    if verbosity.level < 0 or not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def show() -> None:
        if done.wait(PATIENCE):
            return
        from tqdm import tqdm

        with tqdm(desc=text, bar_format="{desc}: {elapsed} {postfix}", leave=False, initial=1) as bar:
            bar.start_t -= PATIENCE
            while not done.wait(0.2):
                bar.refresh()

    clock = threading.Thread(target=show, daemon=True)
    clock.start()
    try:
        yield
    finally:
        done.set()
        clock.join()


# --- series -------------------------------------------------------------------------------------------------


@cli.command(
    epilog=_examples(
        "gpuseg series movie.tif -n 2 -o out/",
        "gpuseg series frames/ -n 3 --fit-frames 2 --n-operations 50 -o out/",
        "gpuseg series movie.npz --dataset frames --fit-frames 0,40,80 -o out/ --force",
    )
)
@click.argument("frames", type=PATH)
@_option("-n", "--n-patterns", type=NumberOrAuto(), default=2, help="Kinds of regions to find, or auto.")
@_option("-o", "--output", type=PATH, help="Folder of the result.  [FRAMES-gpuseg]")
@_option("--fit-frames", type=FrameNumbers(), default="1", help="Learn from so many; 0,40 = from those two.")
@_option("--n-operations", type=int, help="Label by the best so many operations only: faster.  [all]")
@descriptor_options
@pipeline_options
@device_option
@memory_option
@_option("--dataset", metavar="NAME", help="Name or number of the stack in a file with several.")
@_option("--bin", "bin_factor", default=1, help="Average this many pixels in both directions first.")
@force_option
@verbosity_options
@click.pass_obj
def series(
    verbosity: _Verbosity, frames: Path, output: Path | None, mask: Path | None, dataset: str | None,
    bin_factor: int, no_upsampling: bool, **options: Any,
) -> None:  # fmt: skip
    """Label every frame of FRAMES, a stack or a folder, with patterns learnt from the first.

    Writes labels.tif (0 is masked or a dead frame, 1 the smallest pattern, ...), frames.csv, model.npz and
    summary.json. Started again after an interruption, it goes on where it stopped.
    """
    import gpuseg
    from gpuseg.frames import open_frames, read_mask
    from gpuseg.series_writer import SERIES_FILES

    folder = output or Path(f"{frames.stem}-gpuseg")
    source = open_frames(frames, dataset=dataset).binned(bin_factor)
    valid = None if mask is None else read_mask(mask, bin_factor)
    with _frame_bar(frames.name, source.length, verbosity) as count:
        result = gpuseg.segment_series(
            source, mask=valid, upsampling=not no_upsampling, out=folder, callback=count,
            **_with_descriptor(options),
        )  # fmt: skip
    flagged = result.frames_flagged
    verbosity.say(f"{frames.name}: {len(result)} frames, {len(flagged)} flagged, {result.seconds:.2f} s")
    for number, why in list(flagged.items())[:FLAGS_SHOWN]:
        verbosity.say(f"frame {number}: {why}")
    if len(flagged) > FLAGS_SHOWN:
        verbosity.say(f"... and {len(flagged) - FLAGS_SHOWN} more: see frames.csv")
    verbosity.say(f"written to {folder}{os.sep}: {', '.join(SERIES_FILES)}")


@contextmanager
def _frame_bar(name: str, length: int | None, verbosity: _Verbosity) -> Iterator[Callable[[Any], Any] | None]:
    """What to call with every frame; shows on a terminal how many are done, and frames per second."""
    if verbosity.level < 0 or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=name, total=length, unit="frame", delay=PATIENCE) as bar:

        def count(frame: Any) -> None:
            if not bar.n:  # frames of an earlier run do not count for the speed
                bar.n = bar.initial = bar.last_print_n = frame.index
            bar.update()

        yield count


# --- measure ------------------------------------------------------------------------------------------------


@cli.command(
    epilog=_examples(
        "gpuseg measure out/                           what gpuseg segment or gpuseg series wrote",
        "gpuseg measure out/ --image image.dm3         with the image, defects are found far better",
        "gpuseg measure labels.tif --pixel-size 0.0125 --unit nm -o numbers/",
        "gpuseg measure movie-gpuseg/ --frame-time 0.4 --force",
    )
)
@click.argument("result", type=PATH)
@_option("-o", "--output", type=PATH, help="Folder of the tables.  [the result's, or LABELS-measure]")
@_option("--pixel-size", type=float, help="Length of a pixel, instead of that in the file.")
@_option("--unit", help="Unit of the pixel size.  [nm]")
@_option("--min-size", default=1, help="Leave out smaller regions (pixels).")
@_option("--threshold", type=float, help="Certainty below which a spot is a defect.  [found per pattern]")
@_option("--image", type=PATH, help="The image of RESULT: defects are what is unlike its pattern there.")
@reading_options
@_option("--frame-time", type=float, help="Time from frame to frame, for speeds.  [counted in frames]")
@_option("--time-unit", default="s", help="Unit of the frame time.")
@_option("--angle", type=float, help="Direction of the boundary in degrees, in a series.  [found]")
@force_option
@verbosity_options
@click.pass_obj
def measure(
    verbosity: _Verbosity, result: Path, output: Path | None, pixel_size: float | None, unit: str | None,
    min_size: int, threshold: float | None, image: Path | None, dataset: str | None, frame: int | None,
    bin_factor: int, frame_time: float | None, time_unit: str, angle: float | None, force: bool,
) -> None:  # fmt: skip
    """Measure RESULT: a folder that gpuseg wrote, or an image or stack of labels (0 masked, k + 1 pattern k).

    Writes regions.csv, boundaries.csv and, where the image is given or the certainty is known, defects.csv;
    for a series motion.csv, a row for each frame, and speed.csv.
    """
    from gpuseg import measure as measuring
    from gpuseg.measure.files import check_free, read_saved, write_tables

    saved = read_saved(result)
    scale: dict[str, Any] = {"pixel_size": saved.pixel_size, "unit": saved.unit}
    if pixel_size is not None or unit is not None:
        scale = {"pixel_size": saved.pixel_size if pixel_size is None else pixel_size, "unit": unit}
    beside = result if result.is_dir() else result.with_name(f"{result.stem}-measure")
    folder = output or beside
    if image is not None and saved.series is not None:
        raise ValueError("--image goes with the result of a single image, and this is a series")
    names = ("regions", "boundaries", "defects") if saved.series is None else ("motion", "speed")
    check_free(folder, names, force)
    if saved.series is not None:
        found = measuring.series(
            saved.series, frame_time=frame_time, time_unit=time_unit, angle=angle, **scale
        )
        tables = {"motion": found.frames, "speed": found.summary()}
        told = (
            f"{len(found.frames)} frames\n{found.summary() if found.patterns else 'no boundary in any frame'}"
        )
    else:
        given = {**scale, "stride": saved.stride}
        tables = {
            "regions": measuring.regions(saved.labels, min_size=min_size, **given),
            "boundaries": measuring.boundaries(saved.labels, **given),
        }
        if image is not None:
            again = saved.predict(_read(image, None, dataset, frame, bin_factor)[0].data)
            tables["defects"] = measuring.defects(again, threshold, **scale)
        elif saved.certainty is not None and saved.n_patterns > 1:
            tables["defects"] = measuring.defects(saved, threshold, **given)
        told = ", ".join(f"{len(tables[name])} {name}" for name in tables)
    write_tables(folder, tables, force)
    verbosity.say(f"{result.name}: {told}")
    verbosity.say(f"written to {folder}{os.sep}: {', '.join(f'{name}.csv' for name in tables)}")


# --- demo ---------------------------------------------------------------------------------------------------


@cli.command(epilog=_examples("gpuseg demo", "gpuseg demo --counts 1 --device cuda -o noisy/"))
@_option("-o", "--output", type=PATH, default=DEMO_FOLDER, help="Folder of the result.")
@_option("--counts", default=20.0, help="Mean counts per pixel: fewer = more noise.")
@_option("--random-state", default=0, help="Another number, another image.")
@device_option
@force_option
@verbosity_options
@click.pass_obj
def demo(
    verbosity: _Verbosity, output: Path, counts: float, random_state: int, device: str, force: bool
) -> None:
    """Make a noisy image of two crystal grains, segment it, and compare with the truth."""
    import gpuseg
    from gpuseg import synthetic
    from gpuseg.io import save_segmentation, write_map

    if not _is_demo(output):
        _check_free(output, force)
    made = synthetic.bicrystal(
        shape=(512, 512), period=14, misorientation=14, counts=counts, random_state=random_state
    )
    with _progress("segmenting the demo image", verbosity):
        segmentation = gpuseg.segment(made.image, 2, random_state=random_state, device=device)
    source = {"name": DEMO_SOURCE, "counts": counts, "random_state": random_state}
    save_segmentation(segmentation, output, force=True, source=source)
    write_map(output / "image.tif", made.image)
    verbosity.say(f"two grains 14 degrees apart, 512 x 512 px, {counts:g} counts per pixel")
    agreement = _rand_index(made.truth, segmentation.labels)
    verbosity.say(f"adjusted Rand index against the truth: {agreement:.4f} (1 = all right)")
    _report(verbosity, segmentation, output)


def _is_demo(folder: Path) -> bool:
    """Whether the result in a folder is an earlier demo's, which may go without asking."""
    import json

    try:
        source = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["source"]
        return bool(source["name"] == DEMO_SOURCE)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _rand_index(truth: Any, labels: Any) -> float:
    from sklearn.metrics import adjusted_rand_score

    from gpuseg.arrays import to_numpy

    labels = to_numpy(labels)
    scored = labels >= 0
    return float(adjusted_rand_score(to_numpy(truth)[scored], labels[scored]))


# --- suggest ------------------------------------------------------------------------------------------------


@cli.command(
    epilog=_examples(
        "gpuseg suggest image.dm3",
        "gpuseg suggest film.jpg --bin 3 --plot evidence.png",
    )
)
@click.argument("image", type=PATH)
@_option("--mask", type=PATH, help="Image of the same size; only where it is not 0.")
@_option("--plot", type=PATH, help="Picture of the evidence for the number of patterns, such as why.png.")
@device_option
@reading_options
@verbosity_options
@click.pass_obj
def suggest(
    verbosity: _Verbosity, image: Path, mask: Path | None, plot: Path | None, device: str,
    dataset: str | None, frame: int | None, bin_factor: int,
) -> None:  # fmt: skip
    """Say which sizes and how many patterns suit IMAGE, and why.

    They are what `gpuseg segment` takes for "auto": -n auto --patch-radius auto --window-radius auto
    --stride auto.
    """
    import gpuseg

    picture, valid = _read(image, mask, dataset, frame, bin_factor)
    with _progress(f"looking at {picture.name}", verbosity):
        found = gpuseg.suggest(picture.data, valid, device)
    verbosity.say(f"{picture.name}: {_describe(picture)}")
    verbosity.say(str(found))
    verbosity.say(
        f"gpuseg segment {image} -n {found.n_patterns} --patch-radius {found.patch_radius} "
        f"--window-radius {found.window_radius} --stride {found.stride}"
        + (f" --bin {bin_factor}" if bin_factor != 1 else "")
    )
    if plot is not None:
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        gpuseg.plot.plot_evidence(found, figure.subplots())
        figure.savefig(plot)


# --- devices and info ---------------------------------------------------------------------------------------


@cli.command(epilog=_examples("gpuseg devices"))
@verbosity_options
@click.pass_obj
def devices(verbosity: _Verbosity) -> None:
    """List the devices that can be used, or say why there is no GPU."""
    from gpuseg.arrays import cuda_devices, gpu_status

    threads = os.environ.get("NUMBA_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    verbosity.say(f"cpu     {os.cpu_count()} cores, {threads} threads used")
    usable, reason = gpu_status()
    if not usable:
        verbosity.say(f"cuda    not usable: {reason}")
    for each in cuda_devices():
        memory, capability = each["memory_total"] / 2**30, each["compute_capability"]
        about = f"{memory:.0f} GiB, compute capability {capability}"
        verbosity.say(f"cuda:{each['index']}  {each['name']}, {about}")
    verbosity.say(f"auto    takes {'cuda:0' if usable else 'cpu'}")


@cli.command(
    epilog=_examples(
        "gpuseg info image.dm3",
        "gpuseg info image.dm3 --bin 2 --stride 3 --window-radius 30 --max-num-points 400",
    )
)
@click.argument("image", type=PATH)
@descriptor_options
@device_option
@memory_option
@reading_options
@verbosity_options
@click.pass_obj
def info(
    verbosity: _Verbosity,
    image: Path,
    dataset: str | None,
    frame: int | None,
    bin_factor: int,
    **options: Any,
) -> None:
    """Show what IMAGE holds and what segmenting it would take."""
    picture, _ = _read(image, None, dataset, frame, bin_factor)
    height, width = picture.data.shape
    verbosity.say(f"name          {picture.name}")
    if "title" in picture.metadata:
        verbosity.say(f"title         {picture.metadata['title']}")
    verbosity.say(f"shape         {height} x {width} (rows x columns)")
    verbosity.say(f"numbers       {picture.data.dtype}, {_range(picture.data)}")
    if picture.pixel_size is None:
        verbosity.say("pixel size    not known")
    else:
        view = f"{height * picture.pixel_size:.4g} x {width * picture.pixel_size:.4g} {picture.unit}"
        verbosity.say(f"pixel size    {picture.pixel_size:.6g} {picture.unit}, view {view}")
    _say_cost(verbosity, picture.data, **_with_descriptor(options))


def _range(data: Any) -> str:
    import numpy as np

    finite = data[np.isfinite(data)]
    if not finite.size:
        return "none of them finite"
    missing = data.size - finite.size
    spread = f"{finite.min():.6g} to {finite.max():.6g}, mean {finite.mean(dtype=np.float64):.6g}"
    return spread + (f", {missing} not finite" if missing else "")


def _planned_for(device: str) -> tuple[str, ...]:
    """Where the plan of memory is of interest: without a choice on a GPU, if there is one, and the CPU."""
    from gpuseg.arrays import resolve_device

    chosen = str(resolve_device(device))
    return (chosen, "cpu") if device == "auto" and chosen != "cpu" else (chosen,)


def _say_cost(
    verbosity: _Verbosity, data: Any, stride: Any, descriptor: Any, device: str, max_memory: str | None
) -> None:
    from gpuseg.checks import check_int
    from gpuseg.descriptors import as_descriptor
    from gpuseg.large import plan_memory
    from gpuseg.sizes import resolve

    descriptor, stride, _ = resolve(as_descriptor(descriptor), stride, data)
    if hasattr(descriptor, "found_in"):
        descriptor = descriptor.found_in(data)
    operations, shape = descriptor.operations(), data.shape
    grid = descriptor.grid(shape, check_int(stride, "stride", 1))
    scores = len(operations) * grid.size
    verbosity.say(f"grid          {grid.shape[0]} x {grid.shape[1]} points, every {stride} px")
    kind = "translations" if hasattr(descriptor, "reach") else "values"
    verbosity.say(f"{kind:<14}{len(operations)}, {scores} scores")
    for where in _planned_for(device):
        plan = plan_memory(descriptor, shape, stride, max_memory=max_memory, device=where)
        verbosity.say(f"memory        {plan}" + ("" if where == "cpu" else f", on {where}"))


if __name__ == "__main__":
    sys.exit(main())
