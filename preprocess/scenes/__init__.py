"""What synthetic videos show: one file per family of tasks, behind the interface of task.py."""

from preprocess.scenes.discs import ADDITIVE
from preprocess.scenes.objects import BINDING, XOR
from preprocess.scenes.task import Task

TASKS: dict[str, Task] = {"additive": ADDITIVE, "xor": XOR, "binding": BINDING}
