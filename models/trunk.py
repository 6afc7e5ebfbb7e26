"""One stream's trunk, as the options describe it."""

from collections.abc import Collection

from configs.methods import CommonOptions
from models.checkpoint import load_pretrained
from models.i3d import I3D

CHANNELS = {"rgb": 3, "flow": 2}  # flow: u and v


def build_trunk(stream: str, options: CommonOptions, signed_after: Collection[str] = ()) -> I3D:
    """Build the trunk of `stream` (rgb or flow), load its weights and freeze it where the options say so.

    `signed_after` names the stages whose output the method changes, so that it may be negative.
    """
    trunk = I3D(
        CHANNELS[stream],
        options.hidden_size,
        options.dropout,
        options.width,
        options.batchnorm_momentum,
        signed_after,
    )
    path = getattr(options.pretrained, stream)
    if path is not None:
        load_pretrained(trunk, path)
    if options.freeze_trunk:
        trunk.freeze()
    return trunk
