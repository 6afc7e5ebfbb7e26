"""What a run is, in lines at its start, and what it came to, as the content of summary.json."""

import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from common.cores import describe_cores
from common.errors import listed
from engine.model_cost import count_flops
from engine.runs.checkpoint import plain_config
from engine.runs.provenance import Names, class_names
from engine.runs.trials import configs_in, count_trials
from engine.runtime.device import Placement
from engine.scoring.evaluation import Evaluation
from engine.scoring.reports import summarize
from engine.training.meter import means
from engine.training.trainer import Trainer
from pipeline.format.streams import UNKNOWN
from pipeline.loader import ClipLoader
from pipeline.profile.measure import describe_machine

SHOWN_CLASSES = 8  # of each split, at the start


def describe_start(trainer: Trainer, loaders: Mapping[str, ClipLoader]) -> Iterator[str]:
    """Say line by line what is about to be trained, on what and where; `loaders` are of all splits."""
    config, model, session = trainer.config, trainer.model, trainer.session
    count = count_parameters(model)
    trained = "" if count["trainable"] == count["total"] else f", {count['trainable'] / 1e6:.2f} M of them trained"
    yield f"{config.model.fusion}, trunk {model.options.trunk}, {count['total'] / 1e6:.2f} M parameters{trained}"
    for split, loader in loaders.items():
        counted = count_clips(loader, trainer.train_loader.classes)
        classes = (
            f"; {target}: {listed([f'{name} {clips:,}' for name, clips in counts.items()], SHOWN_CLASSES)}"
            for target, counts in counted["classes"].items()
        )
        yield f"{split}: {counted['clips']:,} clips{''.join(classes)}"
    clip, processes = config.clip, session.world.size
    shared = "" if processes == 1 else f" shared by {processes} processes"
    yield (
        f"{device_name(session.placement)}, {describe_cores()}; {session.placement.precision}, batches of "
        f"{config.loader.batch_size} clips{shared}, each {clip.num_frames} x {clip.crop_size} x {clip.crop_size}"
    )
    yield f"writes into {trainer.run.folder}"


def summarize_run(trainer: Trainer, test: Evaluation | None, loaders: Mapping[str, ClipLoader]) -> dict[str, Any]:
    """Sum a finished run up; `test` is None where there is no test split, `loaders` are of all splits."""
    config, counters, placement = trainer.config, trainer.counters, trainer.session.placement
    training = means(trainer.meter.run)
    peak_memory = trainer.peak_memory  # before counting operations, which takes memory itself
    return {
        "name": config.name,
        "fusion": config.model.fusion,
        "seed": config.seed,
        "trials": count_trials(plain_config(config), configs_in(config.runs)),
        "val": {name: value for name, value in counters.best.items() if name != "clips_per_s"},
        "best_epoch": counters.best_epoch,
        "improved_epoch": counters.improved_epoch,
        "test": None if test is None or test.metrics is None else summarize(test),
        "epochs": counters.epoch,
        "steps": counters.step,
        "stopped_early": counters.epoch < trainer.settings.epochs,
        "parameters": count_parameters(trainer.model),
        "gflops_per_clip": count_flops(trainer.model, config.clip) / 1e9,
        "clips_per_s": training["clips_per_s"],
        "data_wait": training["data_wait"],
        "wall_seconds": trainer.seconds,
        "peak_memory_bytes": peak_memory,
        "device": device_name(placement),
        "precision": placement.precision,
        "processes": trainer.session.world.size,
        "skipped_clips": counters.skipped,
        "splits": {name: loader.checksum for name, loader in loaders.items()},
        "data": {name: count_clips(loader, trainer.train_loader.classes) for name, loader in loaders.items()},
        "versions": describe_machine(),
    }


def count_clips(loader: ClipLoader, classes: Mapping[str, Names]) -> dict[str, Any]:
    """Count a split's clips: all, and by target those of each of training's `classes`, under its name or number."""
    counted = {}
    for target, names in classes.items():
        labels = loader.targets[target] if target in loader.targets else np.zeros(0, np.int64)
        counts = np.bincount(labels[labels != UNKNOWN], minlength=len(names or ())).tolist()
        counted[target] = dict(zip(class_names(names, len(counts)), counts, strict=True))
    return {"clips": len(loader.clip_ids), "classes": counted}


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count a model's parameters, all and those that are trained."""
    parameters = list(model.parameters())
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return {"total": sum(parameter.numel() for parameter in parameters), "trainable": trainable}


def device_name(placement: Placement) -> str:
    """Name the device as its maker does."""
    if placement.device.type == "cuda":
        return torch.cuda.get_device_name(placement.device)
    threads = torch.get_num_threads()
    return f"CPU ({platform.processor() or platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"
