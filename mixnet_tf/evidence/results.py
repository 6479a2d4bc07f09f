"""Everything that a pipeline run measured: the one object that JSON, Markdown and HTML are written from."""

import dataclasses
import datetime
import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixnet_tf.checks import ImageSize
from mixnet_tf.environment import environment, processor
from mixnet_tf.evidence.benchmark import Latency
from mixnet_tf.evidence.comparison import Comparison
from mixnet_tf.evidence.diagnosis import BlockError
from mixnet_tf.evidence.evaluation import Evaluation
from mixnet_tf.evidence.mistakes import Confusion
from mixnet_tf.evidence.starting import Start
from mixnet_tf.evidence.verdict import Facts, Verdict, judge
from mixnet_tf.metrics import Accuracy, ClassScore, paired_loss, wilson


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One model file of a report: its size, accuracy on the test split, and latency (``.tflite`` only).

    Attributes:
        start: time and memory until its first result (``.tflite`` only).
        top1: with its interval.
    """

    file: str
    size_bytes: int
    evaluation: Evaluation
    latency: Latency | None = None
    start: Start | None = None
    top1: Accuracy = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        count = self.evaluation.count
        object.__setattr__(self, "top1", wilson(round(self.evaluation.top1 * count), count))


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Everything a pipeline run measured.

    Attributes:
        model: name of the configuration.
        data: name of the data set.
        data_source: how the user named it.
        pixel_range: what the user said about its pixels, or None.
        class_names: in the order of the labels.
        image_size: pixels: a side, or (height, width).
        epochs: of the training.
        results: one of each file; the first is the reference of the others, the last is int8.
        test_is_val: whether the data has no test split, so that its val was measured.
        skipped_images: unreadable ones that were left out.
        notes: what the user should know.
        comparison: int8 (b) with float32 (a), both ``.tflite``; None where they were not compared.
        classes: the scores of every class in the last file.
        confusions: its worst ones.
        blocks: where the error of int8 enters; empty where it was not measured.
        block_images: on so many test images.
        history: columns of the training, a number for each epoch.
        best_epoch: the one that was kept, counted from 0; None where it is not known.
        date: of the report.
        processor: that the latencies are of.
        environment: versions.
    """

    model: str
    data: str
    data_source: str
    class_names: tuple[str, ...]
    image_size: ImageSize
    epochs: int
    results: tuple[ModelResult, ...]
    test_is_val: bool = False
    skipped_images: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pixel_range: str | None = None
    comparison: Comparison | None = None
    classes: tuple[ClassScore, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    blocks: tuple[BlockError, ...] = ()
    block_images: int = 0
    history: Mapping[str, tuple[float | None, ...]] = dataclasses.field(default_factory=dict)
    best_epoch: int | None = None
    date: str = dataclasses.field(default_factory=_now)
    processor: str = dataclasses.field(default_factory=processor)
    environment: Mapping[str, str] = dataclasses.field(default_factory=environment)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``report.json``."""
        return dataclasses.asdict(self) | {"verdict": dataclasses.asdict(self.verdict)}

    @functools.cached_property
    def verdict(self) -> Verdict:
        """What to ship."""
        return judge(self.facts, test_is_val=self.test_is_val)

    @functools.cached_property
    def compared(self) -> tuple[ModelResult, ModelResult] | None:
        """The results of float32 and int8 that were compared, or None."""
        if self.comparison is None:
            return None
        measured = {result.file: result for result in self.results}
        floats, int8 = (measured.get(Path(path).name) for path in (self.comparison.a, self.comparison.b))
        return (floats, int8) if floats and int8 else None

    @functools.cached_property
    def facts(self) -> Facts | None:
        """The numbers that decide what to ship, or None where one is missing."""
        if self.comparison is None or self.compared is None or not self.classes:
            return None
        floats, int8 = self.compared
        timed = (floats.latency, int8.latency)
        counts = [score.count for score in self.classes]
        return Facts(
            float_file=floats.file,
            int8_file=int8.file,
            count=self.comparison.count,
            top1=self.comparison.top1_a,
            commonest=max(counts) / sum(counts),
            loss=paired_loss(self.comparison.only_a_right, self.comparison.only_b_right, self.comparison.count),
            size=floats.size_bytes / int8.size_bytes,
            speed=timed[0].ratio / timed[1].ratio if timed[0] and timed[1] else None,
            float_ms=timed[0].median_ms if timed[0] else None,
        )

    def commands(self, folder: Path) -> dict[str, str]:
        """Return the commands that measure the numbers again: what they measure → the command."""
        options = " --on-bad-image skip" if self.skipped_images else ""
        options += f" --pixel-range {self.pixel_range}" if self.pixel_range else ""
        reference, data = shlex.quote(f"{folder}/{self.results[0].file}"), shlex.quote(self.data_source)
        timed = " ".join(shlex.quote(f"{folder}/{result.file}") for result in self.results if result.latency)
        compare = f"mixnet-tf compare {reference} {shlex.quote(str(folder))}/FILE --data {data}{options}"
        commands = {
            "Accuracy, agreement and SNR of each FILE": compare,
            "Latency, one thread, interleaved": f"mixnet-tf benchmark {timed}",
        }
        if self.verdict.mixed:
            output = shlex.quote(f"{folder}/model_int8_mixed.tflite")
            export = f"mixnet-tf export {reference} --recipe int8_mixed --data {data}{options} --output {output}"
            commands["A file that keeps the most sensitive blocks in float32"] = export
        return commands
