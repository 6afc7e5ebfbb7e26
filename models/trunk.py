"""One stream's trunk, as the options describe it."""

from collections.abc import Collection

from configs.methods import CommonOptions
from models.checkpoint import load_pretrained
from models.fusion import CHANNELS
from models.i3d import I3D
from models.stages import Trunk
from models.torchvision_trunk import NETWORKS


def build_trunk(
    stream: str, options: CommonOptions, signed_after: Collection[str] = (), *, embeds: bool = True
) -> Trunk:
    """Build the trunk of `stream` (rgb or flow), load its weights and freeze it where the options say so.

    `signed_after` names the stages whose output the method changes, so that it may be negative. Without `embeds`, the
    method takes the last stage's features, and there is no map to an embedding to be trained.
    """
    embedding_size = options.hidden_size if embeds else None
    sizes = (CHANNELS[stream], embedding_size, options.dropout)
    trunk: Trunk
    if options.trunk == "i3d":
        trunk = I3D(*sizes, options.width, options.batchnorm_momentum, signed_after)
    else:
        trunk = NETWORKS[options.trunk](*sizes, options.batchnorm_momentum)
    path = getattr(options.pretrained, stream)
    if path is not None:
        load_pretrained(trunk, path, stream)
    if options.freeze_trunk:
        trunk.freeze()
    return trunk
