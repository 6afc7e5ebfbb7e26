"""Synthetic tasks: one file per family, all with the interface of task.py."""

from preprocess.scenes.discs import ADDITIVE
from preprocess.scenes.objects import BINDING, XOR
from preprocess.scenes.task import Task

TASKS: dict[str, Task] = {"additive": ADDITIVE, "xor": XOR, "binding": BINDING}
