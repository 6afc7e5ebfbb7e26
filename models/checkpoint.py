"""Loading weights from files of tensors: pretrained ones into a trunk, published state dicts into a model."""

import json
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import safetensors.torch
import torch
from crc32c import crc32c
from safetensors import safe_open
from torch import Tensor, nn

from common.errors import UserError, listed
from configs.options import ClassCounts, Pretrained
from models.fusion import FusionModel
from models.trunks.trunk import Trunk, trust_statistics

LISTED = 2  # names of each kind in a message
SAVED_UNDER = ("state_dict", "model_state_dict", "model_state", "model")
PREFIXES = ("model.", "_orig_mod.", "module.", "_orig_mod.")  # from the outermost on
SAFETENSORS = ".safetensors"
_CRC = "crc32c"  # among the metadata of a .safetensors file, which has no checksum of its own
_DOS_FOLDER = 0x10  # among a zip member's external attributes


def load_published(model: FusionModel, state: Mapping[str, Tensor], source: str = "published state dict") -> None:
    """Load a state dict with the published code's names into `model`; `source` is what messages call it.

    Raises:
        UserError: names or shapes that do not match, with some of them.
    """
    kept = {name: value for name, value in model.state_dict().items() if name in model.unpublished}
    load_state(model, kept | {name: torch.as_tensor(value) for name, value in state.items()}, source)


def load_pretrained(trunk: Trunk, path: Path, stream: str) -> None:
    """Load Kinetics weights, or those of a run's `stream`, into a trunk; its map to the embedding stays as it is.

    Raises:
        UserError: it holds something else than tensors, or not those of this network.
    """
    state = require_state(read_checkpoint(path), path)
    prefix = f"{stream}_enc."
    if any(name.startswith(prefix) for name in state):  # of a run or of the published code: take this stream's trunk
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own = {name: value for name, value in trunk.state_dict().items() if name.startswith("logits.")}
    stages = {name: value for name, value in state.items() if not name.startswith(trunk.classifier_prefix)}
    load_state(trunk, {**trunk.adapt(stages), **own}, str(path))


def find_state(content: Any) -> Mapping[str, Tensor] | None:
    """Return the state dict that a file's content is, or that it wraps as trainers do; None where there is none.

    Taken off are the keys that it is saved under, and what DDP, torch.compile and Lightning put before every name.
    """
    for _ in range(2):  # a state dict saved under a key of what is saved under a key
        if isinstance(content, Mapping) and not _is_state(content):
            content = next((content[key] for key in SAVED_UNDER if key in content), None)
    state: Mapping[str, Tensor] = content if _is_state(content) else {}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state or None


def require_state(content: Any, path: Path) -> Mapping[str, Tensor]:
    """Return the state dict that `find_state` finds in the content of the file at `path`.

    Raises:
        UserError: there is none.
    """
    state = find_state(content)
    if state is None:
        raise UserError(f"{path}: expected a state dict (name: tensor), by itself or under 'state_dict' or 'model'")
    return state


def read_checkpoint(path: Path) -> Any:
    """Read a file of torch.save, or of safetensors, onto the CPU, if it holds tensors and plain values only.

    Raises:
        UserError: the file is missing, damaged, or would have to run code to be read.
    """
    try:
        if path.suffix == SAFETENSORS:
            return _read_safetensors(path)
        _check_bytes(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: cannot read the checkpoint ({error.strerror})") from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not a file of tensors alone, and nothing else is read (it could run code); "
            "save its weights with torch.save({'model': model.state_dict()}, path)"
        ) from error
    except Exception as error:  # of the many kinds that other bytes than a checkpoint's bring up in torch
        raise UserError(f"{path}: damaged or not a checkpoint ({_first_line(error)})") from None


def tensor_file(state: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """The bytes of a .safetensors file: a state dict, and as metadata `about`, JSON by name, for read_checkpoint."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    return safetensors.torch.save(tensors, {"format": "pt", **about, _CRC: json.dumps(checksum(tensors))})


def _read_safetensors(path: Path) -> dict[str, Any]:
    """The weights under "model", and beside them the metadata that tensor_file() wrote, if any."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {name: text for name, text in (file.metadata() or {}).items() if name != "format"}
    if _CRC not in metadata:  # others' files, of whose metadata nothing is known
        return {"model": tensors}
    about = {name: json.loads(text) for name, text in metadata.items()}
    if about.pop(_CRC) != checksum(tensors):
        raise ValueError("its tensors are not as they were saved")
    return {**about, "model": tensors}


def checksum(state: Mapping[str, Tensor]) -> int:
    """Return the CRC-32C of all tensors' bytes, in the order of their names."""
    crc = 0
    for name in sorted(state):
        crc = crc32c(state[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


def _check_bytes(path: Path) -> None:
    """ValueError where a byte is not the one that was saved: torch.load does not look at the CRCs of torch.save."""
    if zipfile.is_zipfile(path):  # the format before 1.6 has none
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            folders = [member.filename for member in archive.infolist() if member.external_attr & _DOS_FOLDER]
        if damaged or folders:  # torch.load gives what is marked as a folder no bytes at all
            raise ValueError(f"{damaged or folders[0]} is not as it was saved")


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict whose names and shapes are those of `module`.

    Raises:
        UserError: they are not; the message names `source` and some of the differences.
    """
    own, fit = module.state_dict(), compare(module, state)
    missing = [name for name in fit.missing if not name.endswith("num_batches_tracked")]
    others = [f"{name} {list(state[name].shape)}, expected {list(own[name].shape)}" for name in fit.reshaped]
    differences = {"missing": missing, "unknown": fit.unknown, "of another shape": others}
    found = [f"{kind}: {listed(names, LISTED)}" for kind, names in differences.items() if names]
    if found:
        raise UserError(f"{source}: does not fit this model: {'; '.join(found)}")
    module.load_state_dict(state, strict=False)  # files older than num_batches_tracked lack it
    trust_statistics(module)


class Comparison(NamedTuple):
    """Names of a module's state and of another one, by whether the other one's can be loaded."""

    fitting: list[str]
    reshaped: list[str]  # of another shape
    missing: list[str]  # in the module's alone
    unknown: list[str]  # in the other alone


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> Comparison:
    """Hold `state` to what `module` has."""
    own = module.state_dict()
    both = [name for name in own if name in state]
    fitting = [name for name in both if state[name].shape == own[name].shape]
    return Comparison(
        fitting,
        reshaped=[name for name in both if state[name].shape != own[name].shape],
        missing=[name for name in own if name not in state],
        unknown=[name for name in state if name not in own],
    )


def load_fitting(model: FusionModel, state: Mapping[str, Tensor], leave: Collection[str] = ()) -> Comparison:
    """Load all of `state` that fits by name and shape, but for names in `leave` and what a method finds out in a run.

    Returns what there was; `reshaped` has the names in `leave`, too.
    """
    found = compare(model, state)
    notes = model.unpublished & {name for name, _ in model.named_buffers()}
    left = [name for name in found.fitting if name in leave]
    taken = [name for name in found.fitting if name not in leave and name not in notes]
    model.load_state_dict({name: state[name] for name in taken}, strict=False)
    for name in taken:
        if name.endswith(".running_mean"):
            trust_statistics(model.get_submodule(name.rpartition(".")[0]))
    return found._replace(fitting=taken, reshaped=found.reshaped + left)


def class_layers(model: FusionModel) -> set[str]:
    """Names of the state whose shapes follow from the number of classes: a model of more classes has others."""
    counts = model.options.num_classes
    more = (
        ClassCounts.of({name: number + 1 for name, number in counts.by_target.items()})
        if isinstance(counts, ClassCounts)
        else counts + 1
    )
    with torch.device("meta"):
        larger = type(model)(model.options.model_copy(update={"num_classes": more, "pretrained": Pretrained()}))
    return set(compare(model, larger.state_dict()).reshaped)


def collapse(names: Collection[str], known: Collection[str]) -> list[str]:
    """The shortest prefixes that stand for `names` and for nothing else in `known`."""
    others = set(known) - set(names)
    outside = {name[:end] for name in others for end in _ends(name)}
    prefixes = ([name[:end] for end in _ends(name)] for name in names)
    return list(dict.fromkeys(next(prefix for prefix in each if prefix not in outside) for each in prefixes))


def _ends(name: str) -> list[int]:
    """Where the parts of a dotted name end."""
    return [*(match.start() for match in re.finditer(r"\.", name)), len(name)]


def _is_state(content: Any) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
